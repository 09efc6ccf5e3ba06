"""Strict JSON: text in, Python values out, and back to the one canonical form that is forwarded.

In: bytes of one JSON value. Out: dict, list, str, int, float, bool, None; `emit` gives compact UTF-8 JSON with
the same key order.
Rule: a text that two readers could take for two values (duplicate keys, numbers that lose digits, lone
surrogates, other encodings) is refused, never repaired; what `emit` writes means the same to a JSON reader
and to the YAML reader that the API server uses for apply patches.
"""

import json
import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

# Levels of objects and arrays in one body. The API server's bound is 10,000, which no recursive reader of the
# rules, the masks and the evidence should have to walk; the deepest published CRDs have about 40.
MAX_DEPTH = 128

INT64 = range(-(2**63), 2**63)

# Characters that JSON allows raw inside strings and that YAML 1.1 refuses or folds like a line break
# (go-yaml's reader; YAML 1.1 §5.1 and §5.4).
YAML_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in map(chr, range(0x10000)) if YAML_UNSAFE.match(c)}


class BadJson(ValueError):
    """A text that is refused; the message is one line, says why, and never quotes the text's values."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise BadJson(f"the key {_quoted(twice)} occurs twice in one object")
    return found


def _integer(digits: str) -> int:
    # 19 digits and a sign hold every int64; int() of a million digits takes seconds.
    if len(digits) > 20 or (number := int(digits)) not in INT64:
        raise BadJson("an integer outside 64 bits: the API server would round it")
    return number


def _float(digits: str) -> float:
    """A number with a fraction or an exponent: accepted only when the shortest form of its 64-bit float is the
    same decimal number (the API server reads Quantities from the digits, not from the float)."""
    number = float(digits)
    # 15 significant digits always survive (IEEE 754 binary64), and one character is a point or an e.
    if len(digits) <= 16 and 1e-290 < abs(number) < 1e290:
        return number
    if number in (float("inf"), float("-inf")):
        raise BadJson("a number outside the range of a 64-bit float")
    try:
        exact = len(digits) <= 40 and Decimal(digits) == Decimal(repr(number))
    except InvalidOperation:  # an exponent of more digits than Decimal takes
        exact = False
    if not exact:
        raise BadJson("a number with more digits than a 64-bit float keeps: write it shorter, or as a string")
    return number


def _constant(name: str) -> None:
    raise BadJson(f"{name} is not JSON")


# An integer of 19 digits or more may be outside int64, which orjson reads.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")

_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def parse(raw: bytes) -> Any:
    """Reads one JSON value (RFC 8259, UTF-8 without BOM, unique keys, int64 and float64 numbers).

    Raises BadJson. The bound on depth is held by `emit`, through which every value goes that is forwarded.
    """
    # What is written again to the very same bytes held no key twice, no odd number, nothing behind the value:
    # Go's clients send that form (with a line end), and it is read in a fraction of the time.
    if not _LONG_NUMBER.search(raw):
        try:
            value = orjson.loads(raw)
            if orjson.dumps(value) == raw.removesuffix(b"\n"):
                return value
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            return _parse(raw)  # says what is wrong with it
    return _parse(raw)


def _parse(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
        value, end = _decoder.raw_decode(text, _skip(text, 0))
    except BadJson:
        raise
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels") from None
    if _skip(text, end) != len(text):
        raise BadJson("more follows after the JSON value")
    return value


def emit(value: Any) -> bytes:
    """Writes a value of `parse`'s kinds as compact UTF-8 JSON, keys in their order.

    Raises BadJson for what has no such form: deeper than MAX_DEPTH, lone surrogates, other types.
    """
    try:
        raw = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        reason = str(error).partition(":")[0]
        if "ecursion" in reason:
            reason = f"nested deeper than {MAX_DEPTH} levels"
        elif "UTF-8" in reason:
            reason = "a string holds half of a surrogate pair"
        raise BadJson(reason) from None
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels")
    if raw.isascii() and b"\x7f" not in raw:
        return raw
    text = raw.decode()
    return text.translate(_ESCAPES).encode() if YAML_UNSAFE.search(text) else raw


def _skip(text: str, at: int) -> int:
    """The place of the first character from `at` on that is not JSON white space (RFC 8259 §2)."""
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


def _depth(value: Any) -> int:
    level, values = 0, [value]
    while values := [v for v in values if isinstance(v, dict | list)]:
        level += 1
        values = [inner for v in values for inner in (v.values() if isinstance(v, dict) else v)]
    return level


def _quoted(name: str) -> str:
    """A key as it may stand in a message: escaped, and cut, since it is the sender's text."""
    return json.dumps(name if len(name) <= 60 else name[:60] + "…")
