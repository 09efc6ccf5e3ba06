import base64
import gzip
import json
import textwrap

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.masking.fields import Walk
from interlock.masking.tokens import minter
from interlock.masking.write_back import BUDGET, LAYERS, HoldsMask, check

MINT = minter(bytes(32))
T = MINT("hunter2")


def b64(value):
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def helm(release):
    return b64(b64(gzip.compress(orjson.dumps(release))))


HELD = {
    "a string": {"a": T},
    "in a string": {"a": f"postgres://u:{T}@db"},
    "a key": {"a": {T: 1}},
    "in a list": {"a": [1, [{"b": T}]]},
    "a bare string": T,
    "a bare list": [T],
    "Secret data": {"kind": "Secret", "data": {"x": b64(T)}},
    "Secret data with a newline": {"data": {"x": b64(T + "\n")}},
    "Secret data among other text": {"data": {"x": b64(f"user=bob\npassword={T}\n")}},
    "Secret data, url-safe": {"data": {"x": base64.urlsafe_b64encode(f"\xff\xfe~~{T}".encode()).decode()}},
    "Secret data without padding": {"data": {"x": b64(T + "x").rstrip("=")}},
    "stringData": {"stringData": {"x": T}},
    "base64 twice": {"data": {"x": b64(b64(T))}},
    "base64 three times": {"data": {"x": b64(b64(b64(T)))}},
    "base64 in stringData": {"stringData": {"x": f"a: {b64(T)}\n"}},
    "base64 in lines": {"a": "\n".join(textwrap.wrap(b64("x" * 100 + T + "y" * 100), 64))},
    "base64 in lines, in JSON": {"a": json.dumps({"b": "\n".join(textwrap.wrap(b64("x" * 100 + T), 64))})},
    "base64 behind other characters, phase 0": {"a": "/abc" + b64(T)},
    "base64 behind other characters, phase 1": {"a": "abc" + b64(T)},
    "base64 behind other characters, phase 2": {"a": "ab" + b64(T)},
    "base64 of text, phase 1": {"a": b64("x" + T)},
    "base64 of text, phase 2": {"a": b64("xy" + T)},
    "JSON in a string": {"a": json.dumps({"b": json.dumps({"c": T})})},
    "last-applied": {"metadata": {"annotations": {"x": json.dumps({"data": {"y": b64(T)}})}}},
    "YAML in a string": {"a": f"kind: Secret\ndata:\n  x: {b64(T)}\n"},
    "a JSON patch": [{"op": "replace", "path": "/data/x", "value": b64(T)}],
    "a JSON patch's test": [{"op": "test", "path": "/spec/env/0/value", "value": T}],
    "a Helm release": {"data": {"release": helm({"config": {"password": T}})}},
    "a Helm release's manifest": {
        "data": {"release": helm({"manifest": f"kind: Secret\ndata:\n  x: {b64(T)}\n"})}
    },
    "a Helm release's file": {"data": {"release": helm({"chart": {"files": [{"data": b64(T)}]}})}},
    "a Helm release in a ConfigMap": {"data": {"release": b64(gzip.compress(T.encode()))}},
    "binaryData": {"binaryData": {"x": b64(b"\xff\xfe" + T.encode())}},
    "another session's": {"a": minter(bytes(range(32)))("other")},
    "another type's": {"a": MINT("a@example.com", "email")},
}


@pytest.mark.parametrize("what", HELD)
def test_a_write_that_holds_a_mask_is_refused(what):
    with pytest.raises(HoldsMask):
        check(HELD[what], ())


PATHS = [
    ({"data": {"password": b64(T)}}, "data.password"),
    ({"spec": {"containers": [{}, {"env": [{"value": T}]}]}}, "spec.containers[1].env[0].value"),
    ([{"op": "add", "value": {"x": T}}], "[0].value.x"),
]


@pytest.mark.parametrize(("thing", "path"), PATHS)
def test_the_refusal_names_the_path_and_what_to_do(thing, path):
    with pytest.raises(HoldsMask) as raised:
        check(thing, ())
    assert raised.value.path == path
    assert raised.value.reason == str(raised.value)
    assert raised.value.reason.startswith(f"{path} holds a masked value")
    assert "leave the field out" in raised.value.reason
    assert "\n" not in raised.value.reason
    assert T not in raised.value.reason


def test_a_mask_in_the_query_is_refused():
    with pytest.raises(HoldsMask) as raised:
        check(None, [("command", "mysql"), ("command", f"-p{T}")])
    assert raised.value.path == "?command"
    with pytest.raises(HoldsMask):
        check({}, [("labelSelector", f"a={T}")])


OPEN = [
    None,
    {},
    [],
    5,
    "",
    {"a": "masked-secret-", "b": "masked", "c": T[:-1], "d": T.upper()},
    {"data": {"x": b64("hunter2"), "y": b64(b64("masked")), "z": ""}},
    {"a": "x" * 10_000, "b": b64(bytes(range(256)) * 40)},
    {"data": {"release": helm({"manifest": "kind: Service\n", "config": {"a": "b"}})}},
    {"data": {"x": b64(b"\x1f\x8b is no gzip, although it begins like one")}},
    {"data": {"x": b64(gzip.compress(b"a") + b"trailing")}},
    {"image": "registry.example/app@sha256:" + "0123456789abcdef" * 4},
    {"a": "é" * 100, "b": "\ud83d half a pair"},
]


@pytest.mark.parametrize("thing", OPEN)
def test_other_writes_pass(thing):
    check(thing, [("fieldManager", "kubectl"), ("command", "sh")])


def test_what_is_packed_too_well_is_refused():
    bomb = gzip.compress(b"!" * (BUDGET + 1))
    with pytest.raises(HoldsMask, match="a is packed so that it cannot be looked through"):
        check({"a": b64(bomb)}, ())


def test_the_bytes_of_one_request_are_counted_together():
    half = b64(gzip.compress(b"!" * (BUDGET * 3 // 5)))
    check({"a": half}, ())
    for thing in ({"a": f"{half} {half}"}, {"a": half, "b": half}, [half, half]):
        with pytest.raises(HoldsMask, match="cannot be looked through"):
            check(thing, ())
    mib = "! " * 512 * 1024
    with pytest.raises(HoldsMask, match="cannot be looked through"):
        check([mib] * 25, ())


def test_encodings_are_followed_so_far_and_no_further():
    text = T
    for _ in range(LAYERS):
        text = b64(text)
    with pytest.raises(HoldsMask):
        check({"a": text}, ())
    check({"a": b64(text)}, ())


def test_deep_bodies_are_walked_without_recursion():
    node = {"a": T}
    for _ in range(5000):
        node = {"a": [node]}
    with pytest.raises(HoldsMask):
        check(node, ())


text = st.text(max_size=30)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    before=text,
    after=text,
    value=st.text(min_size=1),
    codings=st.lists(
        st.sampled_from(
            [
                b64,
                lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
                lambda v: b64(gzip.compress(v.encode(), mtime=0)),
                lambda v: json.dumps({"a": v}, ensure_ascii=False),
                lambda v: f"kind: X\ndata:\n  a: {v}\n",
            ]
        ),
        max_size=3,
    ),
)
def test_a_token_is_found_whatever_is_around_it_and_however_it_is_packed(before, after, value, codings):
    packed = f"{before}{MINT(value)}{after}".encode("utf-8", "replace").decode()
    for coding in codings:
        packed = coding(packed)
    with pytest.raises(HoldsMask):
        check({"a": packed}, ())


def test_what_masking_writes_is_what_is_refused():
    """Whatever the walk masked cannot be written back."""
    for node in (
        {"kind": "Secret", "data": {"x": b64("hunter2")}},
        {
            "kind": "Secret",
            "type": "helm.sh/release.v1",
            "data": {"release": helm({"config": {"token": "x9"}})},
        },
        {"kind": "ConfigMap", "binaryData": {"password": b64("hunter2")}},
        {"env": [{"name": "TOKEN", "value": "hunter2"}]},
        {"metadata": {"managedFields": [{"fieldsV1": {"f:tokens": {'v:"hunter2"': {}}}}]}},
    ):
        check(node, ())
        Walk(MINT).document(node)
        with pytest.raises(HoldsMask):
            check(node, ())
