import base64
import json
import pathlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.target import parse_target
from interlock.masking import answers
from interlock.masking.listing import LIMIT, Listing
from interlock.masking.masked import Unmaskable
from interlock.masking.tokens import minter

MINT = minter(bytes(32))
S = "hunter2/x9+Zq"
SECRETS = parse_target("GET", "/api/v1/secrets").info
PODS = parse_target("GET", "/api/v1/pods").info


def run(raw, sizes=(), info=PODS):
    listing, at, out, findings = Listing(MINT, info), 0, [], []
    for size in (*sizes, len(raw)):
        masked = listing.feed(raw[at : at + size])
        at += size
        out.append(masked.data)
        findings += masked.findings
    masked = listing.end()
    return b"".join((*out, masked.data)), [finding.path for finding in (*findings, *masked.findings)]


def b64(value):
    return base64.b64encode(value.encode()).decode()


SECRET = {"metadata": {"name": "a"}, "data": {"x": b64(S)}}
LISTS = {
    "secrets": {
        "kind": "SecretList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "1"},
        "items": [SECRET] * 3,
    },
    "pods": {
        "kind": "PodList",
        "metadata": {},
        "items": [
            {"spec": {"env": [{"name": "TOKEN", "value": S}], "a": ["}", "]", '"', "\\", "{[", "é"]}},
            {},
            {"a": []},
        ],
    },
    "a List": {"kind": "List", "items": [{"kind": "Secret", **SECRET}, {"kind": "Pod", "password": S}]},
    "an empty list": {"kind": "PodList", "metadata": {}, "items": []},
    "a table": {
        "kind": "Table",
        "metadata": {"continue": "x"},
        "columnDefinitions": [{"name": "Name", "description": "the secret: its key"}, {"name": "Token"}],
        "rows": [
            {"cells": ["a", S], "object": {"kind": "Secret", **SECRET}},
            {"cells": ["b", S], "object": None},
        ],
    },
    "fields after the items": {
        "kind": "PodList",
        "items": [{"a": 1}],
        "metadata": {"continue": "a"},
        "password": S,
    },
    "plain fields after the items": {"kind": "PodList", "items": [{"a": 1}], "metadata": {"continue": "a"}},
    "fields before them": {
        "kind": "PodList",
        "password": S,
        "nested": {"items": [{"rows": []}]},
        "items": [{}],
    },
    "no list": {"kind": "Pod", "spec": {"password": S, "items": [{"a": 1}]}},
    "no items": {"kind": "PodList", "items": None, "password": S},
}


@pytest.mark.parametrize("what", LISTS)
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_list_in_pieces_is_masked_like_a_whole_one(what, end):
    raw = orjson.dumps(LISTS[what]) + end
    whole = answers.masked(MINT, raw, PODS)
    for size in (1, 2, 7, 64, len(raw)):
        data, paths = run(raw, [size] * (len(raw) // size + 1))
        assert data == whole.data
        assert sorted(paths) == sorted(finding.path for finding in whole.findings)
    assert S.encode() not in whole.data


def test_items_come_out_as_they_are_whole():
    listing = Listing(MINT, PODS)
    assert listing.feed(b'{"kind":"PodList","items"').data == b""
    assert listing.feed(b":[").data == b'{"kind":"PodList","items":['
    assert listing.feed(b'{"a":{"b":"}"').data == b""
    assert listing.feed(b"}}").data == b'{"a":{"b":"}"}}'
    assert listing.feed(b",").data == b""
    assert listing.feed(b'{"password":"x1"},{}').data == f',{{"password":"{MINT("x1")}"}},{{}}'.encode()
    assert listing.feed(b"]}").data == b"]"
    assert listing.end().data == b"}"
    assert listing.end().data == b""


def test_blanks_between_items_stay():
    raw = b'{\n  "kind": "PodList",\n  "items": [\n    {"a":1} ,\n    {"b":2}\n  ]\n}\n'
    assert run(raw)[0] == raw
    raw = b'{\n  "kind": "PodList",\n  "items": [ ]\n}\n'
    assert run(raw)[0] == raw


def test_an_item_with_two_readings_is_delivered_as_it_was_read():
    raw = b'{"kind":"PodList","x":1,"x":2,"items":[{"a":"x","a":"y"}],"b":1,"b":2}'
    assert run(raw)[0] == b'{"kind":"PodList","x":2,"items":[{"a":"y"}],"b":2}'


def test_real_answers():
    for line in (pathlib.Path(__file__).parent / "data" / "answers.jsonl").read_text().splitlines():
        answer = json.loads(line)
        if answer["name"] in ("list", "table", "table-object", "metadata"):
            raw = answer["body"].encode()
            whole = answers.masked(MINT, raw, SECRETS).data
            assert run(raw, [100] * 50, SECRETS)[0] == whole
            assert b"hunter2" not in whole


@pytest.mark.parametrize(
    "raw",
    [
        b'{"kind":"PodList","items":[{"a":1}',
        b'{"kind":"PodList","items":[{"a":1',
        b'{"kind":"PodList","items":[',
        b'{"kind":"PodList","items":[{"a":1},]}',
        b'{"kind":"PodList","items":[,{"a":1}]}',
        b'{"kind":"PodList","items":[{"a":1}{"b":2}]}',
        b'{"kind":"PodList","items":[{"a":1},,{"b":2}]}',
        b'{"kind":"PodList","items":["hunter2"]}',
        b'{"kind":"PodList","items":[null]}',
        b'{"kind":"PodList","items":[{"a":1]}]}',
        b'{"kind":"PodList","items":[{"a" 1}]}',
        b'{"kind":"PodList","items":[]',
        b'{"kind":"PodList","items":[]]',
        b'{"kind":"PodList","items":[]}}',
        b'{"kind":"PodList","items":[]}{}',
        b'{"kind":"PodList","items":[],}',
        b'{"kind":"PodList","items":[],"kind":"SecretList"}',
        b'{"kind":"PodList","items":[],"items":[{}]}',
        b'{"kind":"PodList","items":[],"rows":[]}',
        b'{"kind":"PodList","items":1,"x":1,"items":[]}',
        b'{"items":[{"data":{"x":"aHVudGVyMg=="}}],"kind":"SecretList"}',
        b'{"kind":5,"items":[]}',
        b'{"kind":"Pod","items":[]}',
        b'{"kind":"Table","items":[]}',
        b'{"kind":"PodList","rows":[]}',
        b'{"kind":"Table","rows":[{"cells":5}]}',
        b'{"kind":"PodList",}"items":[]}',
        b"{",
        b"}",
        b"]]",
    ],
)
def test_what_is_no_whole_list_is_withheld(raw):
    for sizes in ((), [1] * len(raw)):
        with pytest.raises(Unmaskable) as raised:
            run(raw, sizes)
        assert "hunter2" not in raised.value.reason


@pytest.mark.parametrize(
    "start", [b'{"kind":"', b'{"kind":"PodList","items":[{"a":"', b'{"kind":"PodList","items":[]']
)
def test_no_more_is_held_than_may_be(start):
    listing = Listing(MINT, PODS)
    listing.feed(start)
    listing.feed(b"x" * (LIMIT - len(start)))
    with pytest.raises(Unmaskable, match=f"larger than {LIMIT} bytes in one piece"):
        listing.feed(b"x" * len(start) + b"x")


def test_a_list_far_larger_than_what_is_held():
    listing, size = Listing(MINT, PODS), 0
    item = b'{"a":"' + b"x" * 100_000 + b'","password":"hunter2"}'
    size += len(listing.feed(b'{"kind":"PodList","items":[' + item).data)
    for _ in range(200):
        masked = listing.feed(b"," + item)
        size += len(masked.data)
        assert b"hunter2" not in masked.data
    assert size > 2 * LIMIT
    assert (listing.feed(b"]").data, listing.feed(b"}\n").data, listing.end().data) == (b"]", b"", b"}\n")


strings = st.sampled_from(
    [S, "}", "]", '"', "\\", '\\"', "{", "é", "\\u007d", ',{"', "a\nb", f"x password={S}", ""]
)
values = st.recursive(
    strings | st.none() | st.integers(0, 5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(strings | st.just("token"), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    items=st.lists(st.dictionaries(strings, values, max_size=3), max_size=5),
    sizes=st.lists(st.integers(1, 40), max_size=30),
    kind=st.sampled_from(["PodList", "SecretList", "List"]),
)
def test_any_list_cut_anywhere_is_masked_like_a_whole_one(items, sizes, kind):
    raw = orjson.dumps({"kind": kind, "metadata": {"a": "]}"}, "items": items})
    assert run(raw, sizes)[0] == answers.masked(MINT, raw, PODS).data
