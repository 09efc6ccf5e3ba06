import enum
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import samples
from interlock.evidence import events

TIMES = st.integers(0, 253402300799_999_999)
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LISTS = st.one_of(st.lists(TEXT).map(tuple), st.frozensets(TEXT), st.lists(TEXT))


def strategy(record: type) -> st.SearchStrategy:
    """Any record of this class with any value in each of its fields."""
    return st.builds(record, **{field.name: any_value(str(field.type)) for field in fields(record)})


def any_value(annotation: str) -> st.SearchStrategy:
    optional = annotation.endswith(" | None")
    values = {
        "str": TEXT,
        "int": INTEGERS,
        "bool": st.booleans(),
        "Time": TIMES,
        "Decision": st.deferred(lambda: strategy(events.Decision)),
        "Iterable[str]": LISTS,
        "Iterable[Finding]": st.lists(st.deferred(lambda: strategy(events.Finding)), max_size=2),
        "Iterable[PolicyFile]": st.lists(st.deferred(lambda: strategy(events.PolicyFile)), max_size=2),
    }.get(annotation.removesuffix(" | None"), TEXT)
    return st.none() | values if optional else values


@settings(max_examples=12, deadline=None, derandomize=True)
@pytest.mark.parametrize("record", events.RECORDS, ids=lambda record: record.__name__)
@given(data=st.data())
def test_a_leaf_is_what_rfc_8785_says(record, data):
    event = data.draw(strategy(record))
    seq = data.draw(st.integers(1, 2**53 - 1))
    leaf = events.leaf(event, "gateway-0123abcd", seq)
    assert leaf == rfc8785.dumps(json.loads(leaf))
    value = json.loads(leaf)
    assert (value["gateway"], value["seq"], value["type"]) == ("gateway-0123abcd", seq, record.type)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(TEXT)
def test_text_is_written_as_rfc_8785_writes_it(text):
    leaf = events.leaf(samples.request(user_agent=text), "g", 1)
    assert rfc8785.dumps({"user_agent": text})[1:-1] in leaf
    assert json.loads(leaf)["user_agent"] == text


def test_field_names_are_ascii_so_both_orders_of_keys_are_one():
    assert all(
        field.name.isascii()
        for record in (*events.RECORDS, events.Decision, events.Finding)
        for field in fields(record)
    )


def test_a_field_that_is_none_is_left_out_and_others_keep_their_values():
    sent = samples.request(
        session_id=None, dry_run=True, classes=frozenset({"secret-read", "connect"}), body_bytes=0
    )
    leaf = json.loads(events.leaf(sent, "g", 7))
    assert "session_id" not in leaf
    assert (leaf["dry_run"], leaf["classes"], leaf["body_bytes"]) == (True, ["connect", "secret-read"], 0)
    assert leaf["decision"]["rule"] == "developers-read"
    assert "code" not in leaf["decision"]


def test_records_inside_records_are_written_in_their_order():
    found = (samples.finding(path="$.b"), samples.finding(path="$.a", count=2))
    leaf = json.loads(events.leaf(samples.request(findings=found), "g", 1))
    assert [(f["path"], f["count"]) for f in leaf["findings"]] == [("$.b", 1), ("$.a", 2)]


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (1_769_903_999_000_001, "2026-01-31T23:59:59.000001Z"),
        (1_769_903_999_999_999, "2026-01-31T23:59:59.999999Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_microseconds(micros, text):
    assert events.rfc3339(micros) == text


def test_an_enumerations_member_is_its_text():
    class Effect(enum.StrEnum):
        DENY = "deny"

    class Hazard(str, enum.Enum):  # noqa: UP042 - the older form must do as well
        CONNECT = "connect"

    leaf = json.loads(
        events.leaf(
            samples.request(decision=samples.decision(effect=Effect.DENY), classes={Hazard.CONNECT}), "g", 1
        )
    )
    assert leaf["decision"]["effect"] == "deny"
    assert leaf["classes"] == ["connect"]


@pytest.mark.parametrize(
    "event",
    [
        samples.request(body_bytes=2**53),
        samples.request(body_bytes=-(2**53)),
        samples.request(body_bytes=1.5),
        samples.request(user_name=b"dana"),
        samples.request(groups="developers"),
        samples.request(groups=(1,)),
        samples.request(decision={"effect": "allow"}),
        samples.request(uri=object()),
        samples.started(ts=1.5),
        {"type": "request"},
        "request",
    ],
    ids=lambda event: repr(event)[:40],
)
def test_what_has_no_canonical_form_is_refused(event):
    with pytest.raises((TypeError, ValueError)):
        events.leaf(event, "g", 1)


@pytest.mark.parametrize("text", ["\udc80", "a\ud800b", "\udcff\udcfe"])
def test_bytes_that_are_no_text_are_shown_with_backslashes(text):
    sent = samples.request(user_agent=text, groups=(text,), findings=(samples.finding(path=text),))
    leaf = json.loads(events.leaf(sent, "g", 1))
    assert leaf["user_agent"] == text.encode("utf-8", "backslashreplace").decode()
    assert leaf["groups"] == [leaf["user_agent"]]
    assert leaf["findings"][0]["path"] == leaf["user_agent"]


def test_an_exchange_is_named_by_its_request():
    sent = samples.request()
    assert events.exchange_of(sent) == sent.id
    assert events.exchange_of(samples.response(sent)) == sent.id
    assert events.exchange_of(samples.chunk(sent, 0)) == sent.id
    assert events.exchange_of(samples.started()) is None


def test_the_gateways_part_of_the_room_knows_no_duckdb():
    code = (
        "import sys, interlock.evidence.journal, interlock.evidence.events, interlock.evidence.starting\n"
        "print([name for name in sys.modules if 'duckdb' in name])"
    )
    addons = str(Path(events.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": addons}
    )
    assert done.stdout.strip() == "[]"
