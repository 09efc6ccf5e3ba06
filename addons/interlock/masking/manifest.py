"""Manifests: YAML of Kubernetes objects inside a string (Helm's releases, ConfigMaps, annotations).

In: the text, a walk over one parsed document and a rewriting of plain text. Out: the text, with each document
that the walk changed written anew and every other one as it was. The rule: a Secret is masked in a document
that does not parse too (a template), line by line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from interlock.masking.names import blank

LOOKS = re.compile(r"^(?:- )?[ \t]*[\"']?kind[\"']?:[ \t]+[\"']?[A-Z]", re.MULTILINE)  # it may be a manifest
DEPTH = (
    128  # libyaml's composer recurses on the C stack: what is deeper would end the process, not the request
)
EVENTS = 60_000  # of one document that is parsed; a custom resource definition of half a megabyte has as many

Walk = Callable[[Any], bool]
Rewrite = Callable[[str], str]

_MARK = re.compile(r"^---(?:[ \t][^\n]*)?\r?(?:\n|\Z)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
_HEAD = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*")
_SECRET = re.compile(r"^(?:- )?[ \t]*[\"']?kind[\"']?:[ \t]+[\"']?Secret\b", re.MULTILINE)
_FIELD = re.compile(r"^(?P<indent>[ \t]*(?:- )?)(?P<key>[^\s:{][^\n:]*):(?:[ \t]+(?P<value>[^\n]*))?$")


class _Loader(yaml.CSafeLoader):
    """YAML's JSON-like core: no dates, no binary, no sets, no merge keys (a small text, a huge tree)."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merge keys are not read")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.CSafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}


def masked(text: str, walk: Walk, rewrite: Rewrite) -> str:
    """`text` masked document by document.

    walk: masks a parsed document in place and says whether it changed it. rewrite: masks plain text.
    """
    pieces: list[str] = []
    at = 0
    for mark in (*_MARK.finditer(text), None):
        pieces.append(_document(text[at : mark.start() if mark else len(text)], walk, rewrite))
        if mark:
            pieces.append(rewrite(mark[0]))
            at = mark.end()
    return "".join(pieces)


def _document(text: str, walk: Walk, rewrite: Rewrite) -> str:
    if not text.strip():
        return text
    try:
        node = parsed(text)
    except ValueError:
        return rewrite(_secret_lines(text, rewrite) if _SECRET.search(text) else text)
    if not isinstance(node, (dict, list)):
        return rewrite(text)
    if not walk(node):
        return _COMMENT.sub(lambda comment: rewrite(comment[0]), text)
    head = _HEAD.match(text)
    written = yaml.dump(node, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**20)
    return rewrite(head[0] if head else "") + (written if text.endswith("\n") else written.rstrip("\n"))


def parsed(text: str) -> Any:
    """One YAML document as JSON would hold it. Raises ValueError when it does not parse, or is no such tree."""
    try:
        _measured(text)
        return _plain(yaml.load(text, _Loader))
    except yaml.YAMLError as error:
        raise ValueError("not YAML that can be read") from error


def _measured(text: str) -> None:
    """Raises ValueError for a document with aliases, too deep or too large. One pass, without recursion."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, yaml.CSafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH or count > EVENTS or isinstance(event, yaml.AliasEvent):
            raise ValueError("a YAML document with aliases, too deep or too large")


def _plain(node: Any) -> Any:
    """The tree as JSON holds it: keys are strings, as sigs.k8s.io/yaml makes them, integers have 64 bits."""
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, dict):
        return {key if isinstance(key, str) else str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, int) and not -(2**63) <= node < 2**64:
        raise ValueError("an integer of more than 64 bits")
    return node


def _secret_lines(text: str, mask: Rewrite) -> str:
    """A Secret that is no YAML, as Helm's templates are: what stands under data and stringData, by line."""
    lines = text.split("\n")
    section: int | None = None
    for i, line in enumerate(lines):
        stripped = line.strip()
        if not stripped or stripped.startswith(("{{", "#")):
            continue
        indent = len(line) - len(line.lstrip())
        if section is not None and indent <= section:
            section = None
        field = _FIELD.match(line)
        if section is None:
            if field and field["key"].strip("\"'") in ("data", "stringData"):
                section = indent
            continue
        value = (field["value"] or "").strip() if field else stripped
        if not value or blank(value) or value in ("|", ">", "|-", ">-", "|+", ">+"):
            continue
        start = line.rindex(value)
        lines[i] = (
            line[:start] + mask("secret: " + value).removeprefix("secret: ") + line[start + len(value) :]
        )
    return "\n".join(lines)
