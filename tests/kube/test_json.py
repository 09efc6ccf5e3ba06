"""Strict JSON: one text has one value, and what is forwarded has it too, read as JSON or as YAML."""

import json as stdlib
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.json import MAX_DEPTH, BadJson, emit, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
bounded = settings(derandomize=True, max_examples=300, deadline=None)


def same(a: Any, b: Any) -> bool:
    """Equal in value, in type (1 is not 1.0, -0.0 is not 0.0) and in key order."""
    return repr(a) == repr(b)


@bounded
@given(VALUES)
def test_what_is_written_is_read_again_as_the_same_value(value: Any) -> None:
    raw = emit(value)
    assert same(parse(raw), value)
    assert emit(parse(raw)) == raw


@bounded
@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_way_of_writing_a_value_is_read_as_that_value(
    value: Any, indent: Any, ascii_only: bool
) -> None:
    raw = stdlib.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert same(parse(b" \n" + raw + b"\r\n\t"), value)


@bounded
@given(st.dictionaries(TEXT, SCALARS, min_size=1, max_size=4), SCALARS, st.data())
def test_a_key_twice_is_refused_wherever_it_is_and_however_it_is_written(
    members: dict[str, Any], other: Any, data: st.DataObject
) -> None:
    again = data.draw(st.sampled_from(sorted(members)))
    pairs = [(stdlib.dumps(name), value) for name, value in members.items()]
    pairs.append(("".join(f"\\u{unit:04x}" for unit in _utf16(again)).join('""'), other))
    text = "{" + ",".join(f"{name}:{stdlib.dumps(value)}" for name, value in pairs) + "}"
    for place in ("%s", "[1,%s]", '{"a":{"b":%s}}'):
        with pytest.raises(BadJson, match="occurs twice"):
            parse((place % text).encode())


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2)]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"  ", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"{a:1}", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":1}{"a":2}', "more follows"),
        (b'{"a":1} x', "more follows"),
        (b'{"a":1}\x00', "more follows"),
        (b'{"a":1} // comment', "more follows"),
        (b'{"a":1}\xc2\xa0', "more follows"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":Infinity}', "Infinity is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":+1}', "not JSON"),
        (b'{"a":.5}', "not JSON"),
        (b'{"a":1.}', "not JSON"),
        (b'{"a":0x10}', "not JSON"),
        (b'{"a":\xd9\xa1}', "not JSON"),  # an Arabic digit one
        (b'{"a":9223372036854775808}', "64 bits"),
        (b'{"a":-9223372036854775809}', "64 bits"),
        (b'{"a":18446744073709551615}', "64 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a":1e400}', "range"),
        (b'{"a":-1e400}', "range"),
        (b'{"a":0.1000000000000000055511151231257827}', "more digits"),
        (b'{"a":9007199254740993.0}', "more digits"),
        (b'{"a":1e-400}', "more digits"),
        (b'{"a":123456789012345.678}', "more digits"),
        (b'{"a":0e99999999999999999999}', "more digits"),
        (b'{"a":1e-99999999999999999999}', "more digits"),
        (b'{"a":0.' + b"0" * 100 + b"}", "more digits"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udc00":1}', "surrogate"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":"\xc0\x80"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
        (b'{"a":"\\x41"}', "not JSON"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * 1000 + b"]" * 1000, "nested deeper"),
        (b"[" * 300 + b"]" * 300, "nested deeper"),
    ],
)
def test_what_is_not_one_value_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(BadJson, match=reason):
        emit(parse(raw))


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b'{"a":1}\n', b'{"a":1}'),
        (b' { "b" : 1 , "a" : [ ] } ', b'{"b":1,"a":[]}'),
        (b"1.0", b"1.0"),
        (b"1.50", b"1.5"),
        (b"1e3", b"1000.0"),
        (b"1E+2", b"100.0"),
        (b"-0", b"0"),
        (b"-0.0", b"-0.0"),
        (b"0e5", b"0.0"),
        (b"1.0E7", b"10000000.0"),
        (b"12345678901234.5e-300", b"1.23456789012345e-287"),
        (b"1.2345678901234567", b"1.2345678901234567"),
        (b"5e-324", b"5e-324"),
        (b"1.7976931348623157E+308", b"1.7976931348623157e+308"),
        (b"9223372036854775807", b"9223372036854775807"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b'"12345678901234567890123"', b'"12345678901234567890123"'),
        (b'"\\u0041\\/\\u003c\\ud83d\\ude00"', '"A/<😀"'.encode()),
    ],
)
def test_the_canonical_form_is_compact_and_keeps_order_and_kinds_of_numbers(
    raw: bytes, canonical: bytes
) -> None:
    assert emit(parse(raw)) == canonical


@bounded
@given(st.dictionaries(TEXT, TEXT | st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=4))
def test_yaml_readers_find_the_same_value_in_the_canonical_form(value: dict[str, Any]) -> None:
    assert yaml.safe_load(emit(value)) == value


def test_characters_that_yaml_folds_or_forbids_are_escaped() -> None:
    text = "\x7f\x80\x85\x9f\u2028\u2029\ufeff\ufffe\uffffé😀"
    assert emit(text) == ('"\\u007f\\u0080\\u0085\\u009f\\u2028\\u2029\\ufeff\\ufffe\\uffffé😀"'.encode())


def test_depth_is_bounded_and_width_is_not() -> None:
    deepest: Any = 1
    for level in range(MAX_DEPTH):
        deepest = [deepest] if level % 2 else {"a": deepest}
    assert parse(emit(deepest)) == deepest
    with pytest.raises(BadJson, match="nested deeper than 128 levels"):
        emit([deepest])
    assert len(emit([{} for _ in range(10_000)])) == 30_001


def test_what_has_no_json_form_is_not_written() -> None:
    with pytest.raises(BadJson, match="not JSON serializable"):
        emit({"a": b"bytes"})


def test_a_refusal_quotes_no_value_and_cuts_a_long_key() -> None:
    with pytest.raises(BadJson) as caught:
        parse(b'{"' + b"k" * 500 + b'":"hunter2","' + b"k" * 500 + b'":"hunter2"}')
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 130
    assert "\n" not in str(caught.value)


@bounded
@given(st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-10, 10, places=4))
def test_a_number_stays_the_same_decimal_number_or_is_refused(number: Decimal) -> None:
    with suppress(BadJson):
        assert Decimal(emit(parse(str(number).encode())).decode()) == number


def test_one_key_twice_is_found_among_many() -> None:
    keys = b",".join(b'"%d":1' % n for n in range(50_000))
    with pytest.raises(BadJson, match='the key "7" occurs twice'):
        parse(b"{" + keys + b',"7":1}')
