"""The wire format: what each byte may be, and that nothing that is sent goes unread."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.protobuf.wire import MAX_DEPTH, MAX_WORK, BadProtobuf, decode


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def body(version: str, kind: str, raw: bytes, *more: bytes) -> bytes:
    return b"k8s\x00" + chunk(1, chunk(1, version) + chunk(2, kind)) + chunk(2, raw) + b"".join(more)


def refusal(raw: bytes) -> str:
    with pytest.raises(BadProtobuf) as caught:
        decode(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def options(raw: bytes) -> dict[str, Any]:
    return decode(body("v1", "DeleteOptions", raw))


CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


def schema(raw: bytes) -> bytes:
    """A CRD whose schema is the given JSONSchemaProps."""
    return body(*CRD, chunk(2, chunk(7, chunk(1, "v1") + chunk(4, chunk(1, raw)))))


def schema_of(raw: bytes) -> Any:
    return decode(schema(raw))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_an_object_carries_its_kind_and_what_go_writes_for_absent_fields() -> None:
    assert options(b"") == {"apiVersion": "v1", "kind": "DeleteOptions"}
    assert decode(body("v1", "Secret", b"")) == {"apiVersion": "v1", "kind": "Secret", "metadata": {}}
    pod = decode(body("v1", "Pod", b""))
    assert pod == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {"containers": None},
        "status": {},
    }


def test_scalars() -> None:
    raw = number(1, 30) + number(3, 1) + chunk(4, "Background") + chunk(5, "All") + chunk(2, chunk(1, "u-1"))
    assert options(raw) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 30,
        "orphanDependents": True,
        "propagationPolicy": "Background",
        "dryRun": ["All"],
        "preconditions": {"uid": "u-1"},
    }
    assert options(number(1, -1))["gracePeriodSeconds"] == -1
    assert options(number(1, 0))["gracePeriodSeconds"] == 0
    assert options(number(1, 2**63 - 1))["gracePeriodSeconds"] == 2**63 - 1
    assert options(number(1, -(2**63)))["gracePeriodSeconds"] == -(2**63)
    assert options(number(3, 0))["orphanDependents"] is False


def test_bytes_are_base64_and_a_value_that_is_not_there_is_empty() -> None:
    data = chunk(2, chunk(1, "a") + chunk(2, b"\xff\x00")) + chunk(2, chunk(1, "b")) + chunk(2, b"")
    assert decode(body("v1", "Secret", data))["data"] == {"a": "/wA=", "b": "", "": ""}
    request = body("certificates.k8s.io/v1", "CertificateSigningRequest", chunk(2, chunk(1, b"")))
    assert decode(request)["spec"]["request"] == ""
    request = body("certificates.k8s.io/v1", "CertificateSigningRequest", b"")
    assert decode(request)["spec"]["request"] is None


def test_doubles() -> None:
    assert schema_of(b"\x49" + struct.pack("<d", 2.5))["maximum"] == 2.5
    for value in (float("nan"), float("inf"), float("-inf")):
        assert "no finite number" in refusal(schema(b"\x49" + struct.pack("<d", value)))
    assert "middle of field 9" in refusal(schema(b"\x49" + b"\x00" * 7))


def test_inline_messages_are_part_of_their_object() -> None:
    volume = chunk(1, "config") + chunk(2, chunk(19, chunk(1, chunk(1, "settings"))))
    pod = decode(body("v1", "Pod", chunk(2, chunk(1, volume))))
    assert pod["spec"]["volumes"] == [{"name": "config", "configMap": {"name": "settings"}}]


def test_a_list_with_a_message_of_its_own_is_a_list() -> None:
    def extra(value: bytes) -> Any:
        user = chunk(5, chunk(1, "scopes") + value)
        return decode(body("authorization.k8s.io/v1", "SubjectAccessReview", chunk(2, user)))["spec"]["extra"]

    assert extra(chunk(2, chunk(1, "a") + chunk(1, "b"))) == {"scopes": ["a", "b"]}
    assert extra(chunk(2, b"")) == extra(b"") == {"scopes": []}
    resources = decode(body("v1", "APIResourceList", chunk(2, b"") + chunk(2, chunk(4, chunk(1, "get")))))[
        "resources"
    ]
    assert [resource["verbs"] for resource in resources] == [None, ["get"]]


def test_a_time_that_is_there_and_zero_is_left_out_where_go_leaves_it_out() -> None:
    assert decode(body("v1", "Secret", chunk(1, chunk(8, b""))))["metadata"] == {}
    assert decode(body("v1", "Secret", chunk(1, chunk(9, b""))))["metadata"] == {"deletionTimestamp": None}
    assert decode(body("v1", "Secret", chunk(1, chunk(8, number(1, 1)))))["metadata"] == {
        "creationTimestamp": "1970-01-01T00:00:01Z"
    }


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "does not begin with k8s"),
        (b"{}", "does not begin with k8s"),
        (b"k8s", "does not begin with k8s"),
        (b"k8s\x00", "not among the kinds"),
        (b"K8s\x00" + body("v1", "Pod", b"")[4:], "does not begin with k8s"),
        (body("v1", "", b""), "not among the kinds"),
        (body("", "Pod", b""), "not among the kinds"),
        (body("v2", "Pod", b""), "not among the kinds"),
        (body("apps/v1", "Pod", b""), "not among the kinds"),
        (body("v1", "pod", b""), "not among the kinds"),
        (body("example.com/v1", "Widget", b""), "not among the kinds"),
        (body("v1", "Pod", b"", chunk(3, "gzip")), "content type or encoding of its own"),
        (body("v1", "Pod", b"", chunk(4, "application/json")), "content type or encoding of its own"),
        (body("v1", "Pod", b"", chunk(2, b"")), "field 2 twice"),
        (body("v1", "Pod", b"", chunk(1, b"")), "field 1 twice"),
        (body("v1", "Pod", b"", chunk(5, b"")), "no field 5 of wire type 2"),
        (body("v1", "Pod", b"", b"\x00"), "no field 0 of wire type 0"),
        (body("v1", "Pod", b"")[:-1], "middle of a number"),
    ],
)
def test_an_envelope_that_is_not_just_so_is_refused(raw: bytes, reason: str) -> None:
    assert reason in refusal(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (chunk(99, b""), "DeleteOptions has no field 99 of wire type 2"),
        (chunk(1, b"\x01"), "no field 1 of wire type 2"),  # a packed number
        (number(4, 1), "no field 4 of wire type 0"),
        (b"\x09" + b"\x00" * 8, "no field 1 of wire type 1"),
        (b"\x0d" + b"\x00" * 4, "no field 1 of wire type 5"),
        (b"\x0b\x0c", "no field 1 of wire type 3"),
        (b"\x0c", "no field 1 of wire type 4"),
        (b"\x0e", "no field 1 of wire type 6"),
        (number(2**29 + 1, 0), "no field 536870913 of wire type 0"),
        (number(1, 1) + number(1, 1), "field 1 twice"),
        (chunk(4, "Orphan") + chunk(4, "Orphan"), "field 4 twice"),
        (chunk(2, b"") + chunk(2, b""), "field 2 twice"),
        (number(3, 2), "holds 2 where field 3 is true or false"),
        (number(3, -1), "where field 3 is true or false"),
        (b"\x08", "middle of a number"),
        (b"\x08\x80", "middle of a number"),
        (b"\x88", "middle of a number"),
        (b"\x22", "middle of a number"),
        (b"\x08" + b"\x80" * 9 + b"\x02", "more than 64 bits"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 64 bits"),
        (b"\x22\x05Orph", "middle of field 4"),
        (b"\x22" + varint(2**63) + b"Orphan", "middle of field 4"),
        (chunk(4, b"\xff"), "not UTF-8 in field 4"),
        (chunk(4, b"\xed\xa0\x80"), "not UTF-8 in field 4"),
        (chunk(5, b"\xc0\x80"), "not UTF-8 in field 5"),
    ],
)
def test_a_message_that_is_not_just_so_is_refused(raw: bytes, reason: str) -> None:
    assert reason in refusal(body("v1", "DeleteOptions", raw))


def test_numbers_that_do_not_fit_are_refused_and_not_cut() -> None:
    def replicas(value: int) -> bytes:
        return body("apps/v1", "Deployment", chunk(2, number(1, value)))

    for value in (2**31 - 1, -(2**31), 0):
        assert decode(replicas(value))["spec"]["replicas"] == value
    for value in (2**31, -(2**31) - 1, 2**32, 2**63, 2**32 + 3):
        assert "more than 32 bits in field 1" in refusal(replicas(value))


def test_a_key_of_a_map_twice_is_refused() -> None:
    entry = chunk(2, chunk(1, "a") + chunk(2, b"x"))
    assert "a key of data twice" in refusal(body("v1", "Secret", entry + entry))
    assert "Secret.data holds field 1 twice" in refusal(
        body("v1", "Secret", chunk(2, chunk(1, "a") + chunk(1, "b")))
    )
    assert "Secret.data has no field 3" in refusal(body("v1", "Secret", chunk(2, chunk(3, "a"))))


def test_what_a_form_refuses_is_refused_with_its_place() -> None:
    claim = chunk(2, chunk(2, chunk(2, chunk(1, "storage") + chunk(2, chunk(1, "much")))))
    assert "Quantity holds a quantity that is not" in refusal(body("v1", "PersistentVolumeClaim", claim))
    revision = body("apps/v1", "ControllerRevision", chunk(2, chunk(1, b'{"a":1,"a":2}')))
    assert "RawExtension holds the key" in refusal(revision)
    nested = body("apps/v1", "ControllerRevision", chunk(2, chunk(1, body("v1", "Pod", b""))))
    assert "RawExtension holds not JSON" in refusal(nested)


def test_messages_nest_to_a_bound() -> None:
    def nested(depth: int) -> bytes:
        raw = b""
        for _ in range(depth):
            raw = chunk(28, raw)
        return schema(raw)

    assert decode(nested(MAX_DEPTH - 5))
    for depth in (MAX_DEPTH - 4, 10_000):
        assert f"nested deeper than {MAX_DEPTH}" in refusal(nested(depth))


@pytest.mark.parametrize(("kind", "unit"), [("DeleteOptions", chunk(5, b"")), ("PodList", chunk(2, b""))])
def test_the_work_for_one_body_is_bounded(kind: str, unit: bytes) -> None:
    assert decode(body("v1", kind, unit * 1000))
    assert f"more than {MAX_WORK} fields" in refusal(body("v1", kind, unit * (MAX_WORK + 1)))


def test_a_refusal_quotes_nothing_that_was_sent() -> None:
    for raw in (chunk(4, b"hunter2\xff"), chunk(99, "hunter2"), chunk(4, "hunter2") * 2, b"\x22\x20hunter2"):
        assert "hunter2" not in refusal(body("v1", "DeleteOptions", raw))
    assert "hunter2" not in refusal(body("hunter2", "hunter2", b""))


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.data())
def test_no_byte_goes_unread(data: st.DataObject) -> None:
    """A body with one byte more, less or other is refused or means something else: none is skipped."""
    good = body(
        "v1",
        "Secret",
        chunk(1, chunk(1, "a")) + chunk(2, chunk(1, "k") + chunk(2, b"v")) + chunk(3, "Opaque"),
    )
    want = decode(good)
    at = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != good[at]))
    for other in (
        good[:at] + good[at + 1 :],
        good[:at] + bytes([byte]) + good[at + 1 :],
        good + bytes([byte]),
    ):
        try:
            assert decode(other) != want
        except BadProtobuf:
            continue


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([("v1", "Pod"), ("v1", "Secret"), ("v1", "DeleteOptions"), CRD])
)
def test_any_bytes_give_an_object_or_a_refusal(raw: bytes, kind: tuple[str, str]) -> None:
    for other in (raw, b"k8s\x00" + raw, body(*kind, raw)):
        try:
            assert isinstance(decode(other), dict)
        except BadProtobuf:
            continue
