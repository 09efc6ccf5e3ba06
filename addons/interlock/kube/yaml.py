"""Strict YAML: one request body in YAML in, the JSON values that it means to the API server out.

In: bytes of one YAML document. Out: the values of `interlock.kube.json`.
Rule: where YAML readers differ (the API server's go-yaml v2, PyYAML, YAML 1.2), or where a text says one thing
and means another (anchors, merge keys, tags, several documents), it is refused with what to write instead;
what is accepted is what sigs.k8s.io/yaml makes of it.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml

from interlock.kube import json
from interlock.kube.json import INT64, MAX_DEPTH, YAML_UNSAFE

# A scalar costs about 4 µs on the thread that serves all requests, far more than in JSON. A longer body can be
# sent as JSON, as kubectl and helm do by themselves.
MAX_BYTES = 256 << 10


class BadYaml(ValueError):
    """A text that is refused; the message is one line with the place, and never quotes the text's values."""


# Plain scalars: the first pattern that matches whole decides. What begins like a number and is none of the
# forms that every reader takes for the same number is refused, unless its letters make it a string for all.
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# true and false to go-yaml v2, strings to YAML 1.2; <<, = have a meaning of their own in YAML 1.1
_AMBIGUOUS = frozenset(
    variant for word in ("y", "n", "yes", "no", "on", "off") for variant in (word, word.title(), word.upper())
) | {"<<", "="}
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
# Looks like a number or a time to some YAML, once its underscores are gone.
_NUMBERISH = re.compile(
    r"""[-+]?\.?[0-9][0-9,.]*(?:[eE][-+]?[0-9.]*)?  # other decimal forms: 007, 1., 1e3, 1_000
      | [-+]?0[xXoObB][0-9A-Fa-f]*                  # hexadecimal, octal, binary
      | [-+]?[0-9]+(?::[0-9]+)+(?:\.[0-9]*)?        # base 60: 12:30:45, 8080:80
      | [-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)
    """,
    re.VERBOSE,
)
# 1.2.3, 10.0.0.1: two points are a number nowhere.
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+){2,}")


def parse(raw: bytes) -> Any:
    """Reads one YAML document of mappings, sequences and scalars. Raises BadYaml."""
    # Clients send JSON under YAML's name (apply patches), and it is read 50 times faster.
    value = _json(raw) if raw.startswith(b"{") else None
    if value is not None:
        return value
    if len(raw) > MAX_BYTES:
        raise BadYaml(f"YAML above {MAX_BYTES >> 10} KiB: send it as JSON")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadYaml(f"not UTF-8 at byte {error.start}") from None
    if found := YAML_UNSAFE.search(text):
        # Line breaks to some readers, forbidden to others.
        raise BadYaml(
            f"it holds the character U+{ord(found[0]):04X}: remove it, or write it as \\u{ord(found[0]):04x}"
        )
    loader = yaml.CSafeLoader(text)  # libyaml, of which go-yaml is a port; every wheel of PyYAML has it
    try:
        return _document(loader.get_event)
    except yaml.MarkedYAMLError as error:
        raise _at(error.problem_mark, f"not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise BadYaml("not YAML: it holds characters that YAML forbids") from None
    finally:
        loader.dispose()


def _json(raw: bytes) -> Any:
    """The value of a text that is JSON and means the same as YAML; None for any other text."""
    try:
        value = json.parse(raw)
    except json.BadJson:
        return None
    return None if YAML_UNSAFE.search(raw.decode()) else value  # YAML folds some of them


def _document(get: Callable[[], Any]) -> Any:
    get()  # stream start
    event = get()
    if isinstance(event, yaml.StreamEndEvent):
        raise BadYaml("an empty YAML document")
    if event.version or event.tags:
        raise _at(event.start_mark, "YAML directives are not accepted: remove the % line")
    value = _value(get, get(), 1)
    get()  # document end
    event = get()
    if not isinstance(event, yaml.StreamEndEvent):
        raise _at(event.start_mark, "more than one YAML document: send one request for each")
    return value


def _value(get: Callable[[], Any], event: Any, depth: int) -> Any:
    if isinstance(event, yaml.AliasEvent):
        raise _at(event.start_mark, "YAML aliases are not accepted: write the value out")
    if event.anchor is not None:
        raise _at(event.start_mark, "YAML anchors are not accepted: write the value out where it is used")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    if event.tag is not None:
        raise _at(event.start_mark, "YAML tags are not accepted: remove it")
    if depth > MAX_DEPTH:
        raise _at(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := get(), yaml.SequenceEndEvent):
            items.append(_value(get, event, depth + 1))
        return items
    found: dict[str, Any] = {}
    while not isinstance(event := get(), yaml.MappingEndEvent):
        key = _value(get, event, depth + 1)
        if not isinstance(key, str):
            raise _at(event.start_mark, "a key that is not a string: quote it")
        if key in found:
            raise _at(event.start_mark, "the same key twice in one mapping")
        found[key] = _value(get, get(), depth + 1)
    return found


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag is not None and event.tag != "tag:yaml.org,2002:str":
        raise _at(event.start_mark, "YAML tags other than !!str are not accepted: remove it")
    if not event.implicit[0]:  # quoted, a block, or !!str
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text in _AMBIGUOUS:
        raise _at(
            event.start_mark,
            "a word that YAML readers take for different things: quote it, or write true or false",
        )
    if _INTEGER.fullmatch(text):
        if len(text) > 20 or (number := int(text)) not in INT64:
            raise _at(event.start_mark, "an integer outside 64 bits: quote it")
        return number
    if _FRACTION.fullmatch(text) and len(text) <= 17:
        fraction = float(text)
        # The API server's YAML reader hands 1.0 on as 1.
        return int(fraction) if fraction.is_integer() else fraction
    if _NUMBERISH.fullmatch(text.replace("_", "")) and not _DOTTED.fullmatch(text):
        raise _at(
            event.start_mark, "YAML readers take this for different things: quote it, or write a plain number"
        )
    return text


def _at(mark: Any, problem: str) -> BadYaml:
    return BadYaml(f"{problem} (line {mark.line + 1}, column {mark.column + 1})")
