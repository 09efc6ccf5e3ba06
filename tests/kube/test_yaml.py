"""Strict YAML: what is accepted is what the API server's reader makes of it; the rest is refused with a remedy."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube import json
from interlock.kube.yaml import MAX_BYTES, BadYaml, parse

# What sigs.k8s.io/yaml v1.6.0 gives for each (scripts/protobuf-oracle yaml).
SCALARS: list[tuple[str, Any]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("NULL", None),
    ("true", True),
    ("False", False),
    ("0", 0),
    ("-7", -7),
    ("9223372036854775807", 9223372036854775807),
    ("-9223372036854775808", -9223372036854775808),
    ("1.0", 1),
    ("-2.50", -2.5),
    ("0.1", 0.1),
    ("-0.0", 0),
    ("text", "text"),
    ("two words", "two words"),
    ("100m", "100m"),
    ("1Gi", "1Gi"),
    ("10.0.0.1", "10.0.0.1"),
    ("1.2.3", "1.2.3"),
    ("v1", "v1"),
    ("2024-01-01", "2024-01-01"),
    ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
    ("http://x:80/y", "http://x:80/y"),
    ("nginx:1.27", "nginx:1.27"),
    ("TRUe", "TRUe"),
    ("NaN", "NaN"),
    ("'1'", "1"),
    ('"true"', "true"),
    ("'it''s'", "it's"),
    ('"a\\n\\u0041"', "a\nA"),
    ("!!str 1", "1"),
    ("!!str", ""),
    ("|\n  a\n  b\n", "a\nb\n"),
    (">-\n  a\n  b\n", "a b"),
    ("[a, {b: 1}]", ["a", {"b": 1}]),
    ("{}", {}),
]
AMBIGUOUS = [
    "y",
    "Y",
    "yes",
    "Yes",
    "YES",
    "n",
    "N",
    "no",
    "No",
    "NO",
    "on",
    "On",
    "ON",
    "off",
    "Off",
    "OFF",
    "<<",
    "=",
    "00",
    "007",
    "08",
    "0o7",
    "0x1F",
    "0b1",
    "0X1f",
    "+1",
    "+0.5",
    ".5",
    "1.",
    "-.5",
    "1e3",
    "1.5e+3",
    "1_000",
    "-_1",
    "0_7",
    "1,000",
    "12:30",
    "12:30:45",
    "8080:80",
    "1:20.5",
    ".inf",
    "-.Inf",
    "+.INF",
    ".nan",
    ".NaN",
    "-0",
    "00.5",
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999999",
    "0.12345678901234567",
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_what_the_api_server_reads(text: str, value: Any) -> None:
    assert repr(parse(f"a: {text}".encode())) == repr({"a": value})


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_scalars_on_which_yaml_readers_differ_are_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(BadYaml, match=r"quote it.* \(line 2, column 6\)"):
        parse(f"x: 1\na:   {text}".encode())
    assert parse(f"a: '{text}'".encode()) == {"a": text}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty YAML document"),
        (b"# only a comment\n", "empty YAML document"),
        (b"a: &x 1\n", "anchors"),
        (b"a: &x [1]\n", "anchors"),
        (b"&x a: 1\n", "anchors"),
        (b"a: *x\n", "aliases"),
        (b"<<: {a: 1}\n", "quote it"),
        (b"a: !!int 1\n", "tags"),
        (b"a: !!binary aGk=\n", "tags"),
        (b"a: !x [1]\n", "tags"),
        (b"a: !!map {}\n", "tags"),
        (b"a: ! x\n", "tags"),
        (b"%YAML 1.1\n---\na: 1\n", "directives"),
        (b"%TAG ! tag:x,2000:\n---\na: 1\n", "directives"),
        (b"a: 1\n---\na: 2\n", "more than one YAML document"),
        (b"a: 1\n---\n", "more than one YAML document"),
        (b"a: 1\n...\n--- {}\n", "more than one YAML document"),
        (b"a: 1\n...\nb: 1\n", "not YAML"),
        (b"a: 1\na: 2\n", "same key twice"),
        (b"x: {a: 1, 'a': 2}\n", "same key twice"),
        (b"1: a\n", "key that is not a string: quote it"),
        (b"true: a\n", "key that is not a string"),
        (b"on: a\n", "quote it"),
        (b"~: a\n", "key that is not a string"),
        (b"? [a]\n: 1\n", "key that is not a string"),
        (b"? {a: b}\n: 1\n", "key that is not a string"),
        (b"a: b: c\n", "not YAML"),
        (b"a: [1\n", "not YAML"),
        (b"\ta: 1\n", "not YAML"),
        (b"a: 'x\n", "not YAML"),
        (b"a: \x07\n", "characters that YAML forbids"),
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        (b"\xef\xbb\xbfa: 1\n", r"U\+FEFF"),
        ("a: x\u2028y\n".encode(), r"U\+2028.*\\u2028"),
        ("a: 'x\x85y'\n".encode(), r"U\+0085"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        (b"[" * 200, "nested deeper than 128"),
        (b"- " * 200 + b"a", "nested deeper than 128"),
        (b"? " * 200 + b"a", "nested deeper than 128"),
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'{"a": 9223372036854775808}', "quote it"),
        ('{"a": "x\u2028y"}'.encode(), r"U\+2028"),
        (b"a: " + b"x" * MAX_BYTES, "send it as JSON"),
    ],
)
def test_what_says_one_thing_and_may_mean_another_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(BadYaml, match=reason):
        parse(raw)


def test_a_document_may_be_marked_and_commented() -> None:
    assert parse(b"# x\n---\na: 1 # y\nb:\n- c\n- d: e\n...\n") == {"a": 1, "b": ["c", {"d": "e"}]}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.text(st.characters(codec="utf-8"), max_size=8),
    )
)
def test_json_is_read_as_the_yaml_that_it_is(value: dict[str, Any]) -> None:
    raw = json.emit(value)
    assert parse(raw) == value
    assert parse(b"  " + raw) == value  # by way of the YAML reader


def test_large_json_may_be_longer_than_large_yaml() -> None:
    assert parse(b'{"a":"' + b"x" * MAX_BYTES + b'"}') == {"a": "x" * MAX_BYTES}


def test_a_refusal_quotes_no_value() -> None:
    for raw in (b"a: {hunter2: [hunter2", b"a: !!int hunter2", b"hunter2: 1\nhunter2: 1", b"a: 'hunter2"):
        with pytest.raises(BadYaml) as caught:
            parse(raw)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)
