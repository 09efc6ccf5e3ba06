"""Request bodies: which media types each method takes, what is refused with which code, what is forwarded."""

import base64
import gzip
import json
from contextlib import suppress
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.body import (
    APPLY_PATCH,
    JSON,
    JSON_PATCH,
    MAX_BYTES,
    MAX_OPERATIONS,
    MERGE_PATCH,
    OBJECTS,
    OPERATIONS,
    PATCHES,
    PROTOBUF,
    STRATEGIC_PATCH,
    STREAMS,
    YAML,
    BadBody,
    Body,
    dry_run,
    parse_body,
)
from interlock.kube.target import RequestInfo, parse_target

PODS = "/api/v1/namespaces/shop/pods"


def info(target: str = PODS, method: str = "POST") -> RequestInfo:
    return parse_target(method, target).info


def read(
    raw: bytes,
    content_type: str | None = JSON,
    method: str = "POST",
    target: str = PODS,
    encoding: str | None = None,
) -> Body:
    body = parse_body(info(target, method), method, content_type, encoding, raw)
    assert body is not None
    return body


def refused(*args: Any, **kwargs: Any) -> BadBody:
    with pytest.raises(BadBody) as caught:
        read(*args, **kwargs)
    assert "\n" not in caught.value.reason
    assert str(caught.value) == caught.value.reason
    return caught.value


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, version.encode()) + field(2, kind.encode())) + field(2, raw)


# ---- media types -----------------------------------------------------------------------------------------


def test_an_object_is_taken_as_json_yaml_or_protobuf_and_forwarded_as_json() -> None:
    want = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "c"}}
    config_map = envelope(
        "v1", "ConfigMap", field(1, field(1, b"a")) + field(2, field(1, b"b") + field(2, b"c"))
    )
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  b: c\n"
    for sent_as, raw in ((JSON, json.dumps(want).encode()), (YAML, yaml), (PROTOBUF, config_map)):
        body = read(raw, sent_as)
        assert body.sent_as == sent_as
        assert body.media_type == JSON
        assert body.object == json.loads(body.canonical)
        assert {k: v for k, v in body.object["metadata"].items() if v} == {"name": "a"}
        assert {**body.object, "metadata": want["metadata"]} == want


@pytest.mark.parametrize("content_type", [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH])
def test_a_patch_keeps_its_type_which_is_its_meaning(content_type: str) -> None:
    raw = b'[{"op":"remove","path":"/spec"}]' if content_type == JSON_PATCH else b'{ "spec": {} }'
    body = read(raw, content_type, "PATCH", f"{PODS}/a")
    assert body.media_type == body.sent_as == content_type
    assert body.canonical == raw.replace(b" ", b"")


def test_an_apply_patch_in_yaml_is_forwarded_as_the_json_that_yaml_readers_read() -> None:
    body = read('data: {a: "é\\u2028", b: 1.0}\n'.encode(), APPLY_PATCH, "PATCH", f"{PODS}/a")
    assert body.canonical == '{"data":{"a":"é\\u2028","b":1}}'.encode()


@pytest.mark.parametrize(
    ("content_type", "sent_as"),
    [
        (None, JSON),
        ("", JSON),
        ("application/json", JSON),
        ("Application/JSON", JSON),
        (" application/json ; charset=utf-8", JSON),
        ('application/json;charset="UTF-8"', JSON),
        ("application/yaml; charset=utf-8", YAML),
    ],
)
def test_row_9_content_types_of_objects_are_read_as_the_api_server_reads_them(
    content_type: str | None, sent_as: str
) -> None:
    assert read(b'{"kind":"Pod"}', content_type).sent_as == sent_as


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cbor",
        "application/cbor-seq",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/yaml",
        "application/x-yaml",
        "application/json-patch+json",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json;",
        "application/json, application/yaml",
        "application/json application/yaml",
        "application/jsonx",
        "*/*",
    ],
)
def test_row_10_any_other_content_type_of_an_object_is_refused(content_type: str) -> None:
    error = refused(b"{}", content_type)
    assert error.code == 415
    assert all(name in error.reason for name in OBJECTS)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/apply-patch+cbor",
        "Application/Merge-Patch+JSON",
        " application/merge-patch+json",
        "application/merge-patch+json ",
        "application/merge-patch+json ; charset=utf-8",
        "application/merge-patch+json; charset=utf-16",
        ";application/merge-patch+json",
        "application/merge-patch+yaml",
    ],
)
def test_row_9_patch_types_are_exact_to_the_letter(content_type: str | None) -> None:
    error = refused(b"{}", content_type, "PATCH", f"{PODS}/a")
    assert error.code == 415
    assert all(name in error.reason for name in PATCHES)


def test_a_patch_type_may_name_its_charset() -> None:
    assert read(b"{}", f"{MERGE_PATCH}; charset=UTF-8", "PATCH", f"{PODS}/a").media_type == MERGE_PATCH


# ---- whether there is a body -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", PODS),
        ("HEAD", PODS),
        ("DELETE", f"{PODS}/a"),
        ("GET", "/version"),
        ("POST", "/version"),
        ("POST", f"{PODS}/a/exec?command=ls"),
        ("POST", f"{PODS}/a/attach"),
        ("POST", f"{PODS}/a/portforward"),
        ("POST", f"{PODS}/a/proxy/x"),
    ],
)
def test_a_request_that_needs_no_body_has_none(method: str, target: str) -> None:
    assert parse_body(info(target, method), method, JSON, None, b"") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_write_without_a_body_is_refused(method: str) -> None:
    error = refused(b"", MERGE_PATCH if method == "PATCH" else JSON, method, f"{PODS}/a")
    assert (error.code, error.reason) == (400, f"{method} without a body: send the object")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_with_a_body_is_refused(method: str) -> None:
    assert refused(b"{}", JSON, method).code == 400


@pytest.mark.parametrize(("resource", "subresource"), sorted(STREAMS))
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_is_no_kubernetes_object_is_refused(method: str, resource: str, subresource: str) -> None:
    path = f"/api/v1/namespaces/shop/{resource}/a/{subresource}"
    error = refused(
        b"{}", JSON, method, path.replace("/namespaces/shop", "") if resource == "nodes" else path
    )
    assert error.code == 415
    assert refused(b"{}", JSON, method, "/healthz").code == 415


def test_a_resource_of_another_group_with_the_name_of_a_stream_is_a_resource() -> None:
    target = "/apis/example.com/v1/namespaces/shop/pods/a/exec"
    assert read(b"{}", JSON, "POST", target).object == {}
    assert refused(b"", JSON, "POST", target).code == 400


# ---- encodings and sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "GZIP", "x", ","])
@pytest.mark.parametrize("raw", [b"{}", b"", gzip.compress(b"{}")])
def test_row_11_a_content_encoding_is_refused(encoding: str, raw: bytes) -> None:
    assert refused(raw, JSON, "DELETE", f"{PODS}/a", encoding=encoding).code == 415


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_the_encoding_identity_is_none(encoding: str | None) -> None:
    assert read(b"{}", encoding=encoding).object == {}


def test_row_12_a_body_above_3_mib_is_refused() -> None:
    def sized(size: int) -> bytes:
        return b'{"a":"' + b"x" * (size - 8) + b'"}'

    assert len(read(sized(MAX_BYTES)).canonical) == MAX_BYTES == 3 * 1024 * 1024
    assert refused(sized(MAX_BYTES + 1)).code == 413


def test_a_body_that_grows_above_3_mib_as_json_is_refused() -> None:
    raw = envelope("v1", "Secret", field(2, field(1, b"a") + field(2, b"x" * (MAX_BYTES - 200))))
    error = refused(raw, PROTOBUF)
    assert (error.code, error.reason.startswith("as JSON")) == (413, True)


@pytest.mark.parametrize("content_type", [JSON, YAML])
def test_depth_is_bounded_in_every_format(content_type: str) -> None:
    assert read(b'{"a":' + b"[" * 127 + b"]" * 127 + b"}", content_type).object
    for depth in (128, 500, 50_000):
        error = refused(b'{"a":' + b"[" * depth + b"]" * depth + b"}", content_type)
        assert (error.code, "nested deeper than 128 levels" in error.reason) == (400, True)


def test_depth_is_bounded_in_protobuf() -> None:
    def schema(depth: int) -> bytes:
        raw = b""
        for _ in range(depth):
            raw = field(28, raw)  # JSONSchemaProps.not: each is an object in an object
        spec = field(7, field(1, b"v1") + field(4, field(1, raw)))
        return envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, spec))

    assert read(schema(30), PROTOBUF).object
    assert refused(schema(101), PROTOBUF).code == 415


# ---- contents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        (JSON, b'{"dryRun":["All"],"dryRun":[]}'),
        (JSON, b'{"metadata":{"name":"a"},"metadata":{"labels":{}}}'),
        (YAML, b"dryRun: [All]\ndryRun: []\n"),
        (YAML, b"dryRun: [All]\n---\ndryRun: []\n"),
        (YAML, b"a: &x {b: c}\nd: *x\n"),
        (JSON, b"{} {}"),
        (JSON, b"\xff"),
    ],
)
def test_rows_7_and_8_a_body_with_two_readings_is_refused(content_type: str, raw: bytes) -> None:
    error = refused(raw, content_type, "DELETE", f"{PODS}/a")
    assert (error.code, error.reason.startswith("the body cannot be read: ")) == (400, True)


def test_row_10_protobuf_that_is_not_known_is_refused_with_what_to_send() -> None:
    for raw in (
        b"",
        b"k8s\x00",
        b"x",
        envelope("v1", "Nonsense", b""),
        envelope("v1", "Pod", b"\xfa\x3e\x01x"),
    ):
        if raw:
            error = refused(raw, PROTOBUF)
            assert (error.code, error.reason.endswith("; send it as JSON")) == (415, True)


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"a"', b"null", b"true"])
@pytest.mark.parametrize(
    ("method", "content_type"), [("POST", JSON), ("PUT", YAML), ("DELETE", JSON), ("PATCH", MERGE_PATCH)]
)
def test_a_body_that_is_no_object_is_refused(method: str, content_type: str, raw: bytes) -> None:
    assert refused(raw, content_type, method, f"{PODS}/a").code == 422


@pytest.mark.parametrize("name", ["Kind", "KIND", "\u212aind", "apiversion", "APIVersion", "apiVer\u017fion"])
def test_names_that_only_some_of_the_api_servers_readers_take_for_the_kind_are_refused(name: str) -> None:
    for value in ({name: "Secret"}, {"kind": "Pod", name: "Secret"}):
        assert refused(json.dumps(value).encode()).code == 422
    assert read(json.dumps({"metadata": {name: "x"}}).encode()).object


@pytest.mark.parametrize("name", ["kind", "apiVersion"])
@pytest.mark.parametrize("value", [None, 1, ["Pod"], {}])
def test_kind_and_api_version_are_text(name: str, value: Any) -> None:
    assert refused(json.dumps({name: value}).encode()).code == 422


@pytest.mark.parametrize(
    "operations",
    [
        {},
        [1],
        [None],
        [[]],
        [{}],
        [{"op": "remove"}],
        [{"path": "/a"}],
        [{"op": "Remove", "path": "/a"}],
        [{"op": "replace", "path": "/a"}],
        [{"op": "add", "path": "/a", "value": 1, "extra": 1}],
        [{"op": "add", "path": "/a", "value": 1, "from": "/b"}],
        [{"op": "remove", "path": "/a", "value": 1}],
        [{"op": "copy", "path": "/a"}],
        [{"op": ["add"], "path": "/a", "value": 1}],
        [{"op": None, "path": "/a", "value": 1}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "x/spec", "value": 1}],
        [{"op": "add", "path": "/a~2", "value": 1}],
        [{"op": "add", "path": "/a~", "value": 1}],
        [{"op": "add", "path": 1, "value": 1}],
        [{"op": "add", "path": None, "value": 1}],
        [{"op": "copy", "path": "/a", "from": "b"}],
        [{"op": "move", "path": "/a", "from": None}],
        [{"op": "remove", "path": "/a"}, {"op": "remove", "path": "b"}],
    ],
)
def test_a_json_patch_is_a_list_of_rfc_6902_operations_and_nothing_else(operations: Any) -> None:
    assert refused(json.dumps(operations).encode(), JSON_PATCH, "PATCH", f"{PODS}/a").code == 422


def test_every_operation_of_rfc_6902_is_taken() -> None:
    members = {"path": "/a/0/b~0~1c//\n", "from": "", "value": None}
    operations = [
        {"op": op, **{name: members[name] for name in sorted(names - {"op"})}}
        for op, names in OPERATIONS.items()
    ]
    assert read(json.dumps(operations).encode(), JSON_PATCH, "PATCH", f"{PODS}/a").object == operations
    assert read(b"[]", JSON_PATCH, "PATCH", f"{PODS}/a").object == []


def test_a_json_patch_has_a_bounded_number_of_operations() -> None:
    operation = b'{"op":"remove","path":"/a"}'
    raw = b"[" + b",".join([operation] * MAX_OPERATIONS) + b"]"
    assert len(read(raw, JSON_PATCH, "PATCH", f"{PODS}/a").object) == MAX_OPERATIONS
    assert refused(raw[:-1] + b"," + operation + b"]", JSON_PATCH, "PATCH", f"{PODS}/a").code == 413


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner)
    ),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["metadata", "spec", "data", "é", "<<", ""]), JSONS),
    st.sampled_from([JSON, YAML]),
)
def test_what_is_forwarded_is_read_as_what_was_checked(value: dict[str, Any], content_type: str) -> None:
    body = read(json.dumps(value).encode(), content_type)
    again = read(body.canonical, body.media_type)
    assert again.object == body.object == value
    assert again.canonical == body.canonical


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([*OBJECTS, *PATCHES]))
def test_any_bytes_are_either_read_or_refused(raw: bytes, content_type: str) -> None:
    method = "PATCH" if content_type in PATCHES else "PUT"
    for data in (raw, b"k8s\x00" + raw):
        with suppress(BadBody):
            body = read(data, content_type, method, f"{PODS}/a")
            assert json.loads(body.canonical) == body.object


def test_a_body_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(FrozenInstanceError):
        read(b"{}").canonical = b"[]"  # type: ignore[misc]


def test_no_refusal_holds_what_was_sent() -> None:
    secret = base64.b64encode(b"hunter2").decode()
    for content_type, raw in (
        (JSON, b'{"a":"hunter2"'),
        (JSON, b'{"a":"hunter2","a":1}'),
        (YAML, b"a: {hunter2"),
        (PROTOBUF, envelope("v1", "hunter2", secret.encode())),
        ("hunter2", b"{}"),
    ):
        assert "hunter2" not in refused(raw, content_type).reason


# ---- dry run ---------------------------------------------------------------------------------------------

ALL = (("dryRun", "All"),)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_write_is_a_dry_run_by_its_query_alone(method: str) -> None:
    body = read(b"{}")
    assert dry_run(method, ALL, body)
    assert dry_run(method, (("pretty", "1"), *ALL), body)
    assert dry_run(method, (*ALL, *ALL), body)
    assert not dry_run(method, (), read(b'{"dryRun":["All"]}'))
    for other in ("", "all", "None", "true", "All;x"):
        assert not dry_run(method, (("dryRun", other),), body)
        assert not dry_run(method, (*ALL, ("dryRun", other)), body)
    assert not dry_run(method, (("dryrun", "All"),), body)


def test_row_6_a_delete_with_a_body_is_a_dry_run_by_its_body_alone() -> None:
    assert dry_run("DELETE", ALL, None)
    assert not dry_run("DELETE", (), None)
    for raw in (
        b"{}",
        b'{"propagationPolicy":"Background"}',
        b'{"dryRun":[]}',
        b'{"dryRun":null}',
        b'{"dryRun":"All"}',
    ):
        assert not dry_run("DELETE", ALL, read(raw, JSON, "DELETE", f"{PODS}/a"))
    for raw in (
        b'{"dryRun":["All","x"]}',
        b'{"dryRun":{"All":1}}',
        b'{"dryRun":[["All"]]}',
        b'{"DryRun":["All"]}',
    ):
        assert not dry_run("DELETE", ALL, read(raw, JSON, "DELETE", f"{PODS}/a"))
    assert dry_run("DELETE", (), read(b'{"dryRun":["All"]}', JSON, "DELETE", f"{PODS}/a"))
    options = envelope("apps/v1", "DeleteOptions", field(5, b"All"))
    assert dry_run("DELETE", (), read(options, PROTOBUF, "DELETE", f"{PODS}/a"))
    assert dry_run("DELETE", (), read(b"dryRun: [All]\n", YAML, "DELETE", f"{PODS}/a"))


def test_what_reads_or_connects_or_gives_a_token_is_no_dry_run() -> None:
    assert not dry_run("GET", ALL, None)
    assert not dry_run("HEAD", ALL, None)
    assert not dry_run("POST", ALL, None)
    token = read(b'{"spec":{}}', JSON, "POST", "/api/v1/namespaces/shop/serviceaccounts/robot/token")
    assert not dry_run("POST", ALL, token)
