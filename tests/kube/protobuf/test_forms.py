"""The JSON forms that are not their fields; what Go prints is written beside each."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.json import BadJson
from interlock.kube.protobuf import forms
from interlock.kube.protobuf.table import load

FIRST, LAST = -62_135_596_800, 253_402_300_799


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ({}, None),
        ({"seconds": 0, "nanos": 0}, "1970-01-01T00:00:00Z"),
        ({"nanos": 0}, "1970-01-01T00:00:00Z"),
        ({"seconds": 1_700_000_000}, "2023-11-14T22:13:20Z"),
        ({"seconds": -1}, "1969-12-31T23:59:59Z"),
        ({"seconds": FIRST}, None),
        ({"seconds": FIRST + 1}, "0001-01-01T00:00:01Z"),
        ({"seconds": LAST}, "9999-12-31T23:59:59Z"),
    ],
)
def test_time(seen: dict[str, int], text: str | None) -> None:
    assert forms.time(seen) == text


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ({}, None),
        ({"seconds": 1_700_000_000}, "2023-11-14T22:13:20.000000Z"),
        ({"seconds": 1_700_000_000, "nanos": 123_456_789}, "2023-11-14T22:13:20.123456Z"),
        ({"seconds": -1, "nanos": 999_999_999}, "1969-12-31T23:59:59.999999Z"),
        ({"seconds": FIRST}, None),
        ({"seconds": FIRST, "nanos": 999}, None),
        ({"seconds": FIRST, "nanos": 1000}, "0001-01-01T00:00:00.000001Z"),
    ],
)
def test_micro_time(seen: dict[str, int], text: str | None) -> None:
    assert forms.micro_time(seen) == text


@pytest.mark.parametrize("form", [forms.time, forms.micro_time])
@pytest.mark.parametrize(
    "seen",
    [
        {"seconds": FIRST - 1},
        {"seconds": LAST + 1},
        {"seconds": -(2**63)},
        {"nanos": -1},
        {"nanos": 1_000_000_000},
    ],
)
def test_a_time_outside_rfc_3339_is_refused(form: Any, seen: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        form(seen)


def test_a_time_of_whole_seconds_has_no_fraction() -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        forms.time({"seconds": 1, "nanos": 1})


# Printed by Go's time.Duration.String.
DURATIONS = [
    (0, "0s"),
    (1, "1ns"),
    (-1, "-1ns"),
    (999, "999ns"),
    (1_000, "1µs"),
    (1_100, "1.1µs"),
    (999_999, "999.999µs"),
    (2_200_000, "2.2ms"),
    (999_999_999, "999.999999ms"),
    (1_000_000_000, "1s"),
    (3_300_000_000, "3.3s"),
    (59_999_999_999, "59.999999999s"),
    (60_000_000_000, "1m0s"),
    (245_000_000_000, "4m5s"),
    (245_001_000_000, "4m5.001s"),
    (3_600_000_000_000, "1h0m0s"),
    (18_367_001_000_000, "5h6m7.001s"),
    (480_000_000_001, "8m0.000000001s"),
    (2**63 - 1, "2562047h47m16.854775807s"),
    (-(2**63), "-2562047h47m16.854775808s"),
]


@pytest.mark.parametrize(("nanos", "text"), DURATIONS)
def test_duration(nanos: int, text: str) -> None:
    assert forms.duration({"duration": nanos}) == text


def test_no_duration_is_zero() -> None:
    assert forms.duration({}) == "0s"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_duration_says_all_of_its_nanoseconds(nanos: int) -> None:
    units = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "µs": 10**3, "ns": 1}
    text, total, number = forms.duration({"duration": nanos}), 0, ""
    rest = text.removeprefix("-")
    while rest:
        number = rest[: next(i for i, c in enumerate(rest) if c not in "0123456789.")]
        rest = rest[len(number) :]
        unit = next(u for u in ("ns", "µs", "ms", "s", "m", "h") if rest.startswith(u))
        rest = rest[len(unit) :]
        whole, _, fraction = number.partition(".")
        total += int(whole) * units[unit] + int(fraction or 0) * units[unit] // 10 ** len(fraction)
    assert (-total if text.startswith("-") else total) == nanos


@pytest.mark.parametrize(
    "text", ["0", "1", "-1", "+1", "1.5", ".5", "1.", "100m", "2Gi", "1e3", "1E-3", "5n", "7u", "9k", "3E"]
)
def test_quantity_is_its_text(text: str) -> None:
    assert forms.quantity({"string": text}) == text


def test_no_quantity_is_zero() -> None:
    assert forms.quantity({}) == "0"


@pytest.mark.parametrize(
    "text", ["", "x", "1 ", "1x", "Gi", "1ki", "1K", "--1", "1e", "1e3m", "0x1", "1_0", "\u0661", "1\n"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        forms.quantity({"string": text})


def test_int_or_string() -> None:
    assert forms.int_or_string({}) == 0
    assert forms.int_or_string({"type": 0, "intVal": 8080, "strVal": ""}) == 8080
    assert forms.int_or_string({"type": 1, "intVal": 0, "strVal": "http"}) == "http"
    assert forms.int_or_string({"type": 1}) == ""
    with pytest.raises(ValueError, match="neither"):
        forms.int_or_string({"type": 2})


@pytest.mark.parametrize("name", ["FieldsV1", "JSON", "RawExtension"])
def test_raw_json_is_json_and_read_strictly(name: str) -> None:
    form, field = forms.FORMS[name], "Raw" if name == "FieldsV1" else "raw"
    assert form({}) is None
    assert form({field: b'{"a":[1,2.5]}'}) == {"a": [1, 2.5]}
    for raw in (b"", b"k8s\x00\x0a\x00", b'{"a":1,"a":2}', b"{} {}", b"NaN"):
        with pytest.raises(BadJson):
            form({field: raw})


def test_schemas_that_are_one_of_two_things() -> None:
    assert forms.schema_or_array({}) is None
    assert forms.schema_or_array({"schema": {"type": "a"}}) == {"type": "a"}
    assert forms.schema_or_array({"schema": {}, "jSONSchemas": [{}]}) == [{}]
    assert forms.schema_or_bool({}) is False
    assert forms.schema_or_bool({"allows": True}) is True
    assert forms.schema_or_bool({"allows": True, "schema": {}}) == {}
    assert forms.schema_or_strings({}) is None
    assert forms.schema_or_strings({"schema": {}}) == {}
    assert forms.schema_or_strings({"schema": {}, "property": ["a"]}) == ["a"]


def test_the_forms_are_those_of_the_table() -> None:
    used = {m.name.rpartition(".")[2]: {f.name for f in m.fields} for m in load().messages.values() if m.form}
    assert used.keys() == forms.FORMS.keys()
    assert used["IntOrString"] == {"type", "intVal", "strVal"}
    assert used["Time"] == used["MicroTime"] == {"seconds", "nanos"}
    assert used["FieldsV1"] == {"Raw"}
    assert used["RawExtension"] == used["JSON"] == {"raw"}
    assert used["Quantity"] == {"string"}
    assert used["Duration"] == {"duration"}
    assert used["JSONSchemaPropsOrArray"] == {"schema", "jSONSchemas"}
    assert used["JSONSchemaPropsOrBool"] == {"schema", "allows"}
    assert used["JSONSchemaPropsOrStringArray"] == {"schema", "property"}
