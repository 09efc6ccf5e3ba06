"""The known ways around a gateway, each tried through ours and straight at the real API server.

One test for each row of the table that this gateway answers so far, by its number. Each shows that the trick works
directly (or what the API server makes of it), that through the gateway it does not, and by the API server's audit
log that nothing of a refused request was forwarded. Each row is tried through a gateway of either mode.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.conftest import ControlPlane
from cluster.passage import GATEWAY_USER, Answer, Door, Passage, direct, gateways
from gateways import ALLOW_ALL, Mode, Way
from interlock.masking.tokens import is_token

pytestmark = [pytest.mark.cluster, pytest.mark.processes]

NS = "rows"
PLANTED = "Rw4-planted-9pLm1"
ENCODED = base64.b64encode(PLANTED.encode()).decode()
JSON = ("Content-Type", "application/json")
SECRETS = f"/api/v1/namespaces/{NS}/secrets"
CONFIGMAPS = f"/api/v1/namespaces/{NS}/configmaps"
POD = f"/api/v1/namespaces/{NS}/pods/one"
UPGRADE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
SEATS: tuple[tuple[Mode, Way], ...] = (("up", "proxy"), ("mitmdump", "reverse"))

# Every named path and resource, but no class that an agent is not given by `*`: what the rows must not get past.
POLICY = ALLOW_ALL.split("  - name: dangerous")[0] + "  - name: paths" + ALLOW_ALL.split("  - name: paths")[1]


@pytest.fixture(scope="module")
def passages(
    tmp_path_factory: pytest.TempPathFactory, control_plane: ControlPlane
) -> Iterator[dict[Mode, Passage]]:
    plane = control_plane
    plane.kubectl("create", "namespace", NS, check=False)
    plane.kubectl("-n", NS, "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    plane.kubectl("-n", NS, "create", "secret", "generic", "keys", f"--from-literal=password={PLANTED}")
    plane.kubectl("-n", NS, "run", "one", "--image=none")
    plane.kubectl("-n", NS, "wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
    with gateways(tmp_path_factory.mktemp("rows"), plane) as running:
        yield running
    plane.kubectl("delete", "namespace", NS, "--wait=false")


class Row:
    """One row's requests through one seat, by a name of their own in the audit log."""

    def __init__(self, passage: Passage, way: Way) -> None:
        self.passage, self.way = passage, way
        self.sign = f"row-{uuid.uuid4()}"
        self.plain = direct(passage.plane)

    def door(self, token: str | None = None) -> Door:
        return self.passage.door(self.way, token=token)

    def send(
        self, method: str, target: str, body: Any = b"", *headers: tuple[str, str], **options: Any
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.lower() for name, _ in headers}
        if raw and not isinstance(body, bytes) and "content-type" not in named:
            headers = (*headers, JSON)
        return self.door().send(method, target, raw, ("User-Agent", self.sign), *headers, **options)

    def directly(
        self, method: str, target: str, body: Any = b"", *headers: tuple[str, str], **options: Any
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.lower() for name, _ in headers}
        if raw and not isinstance(body, bytes) and "content-type" not in named:
            headers = (*headers, JSON)
        return self.plain.send(method, target, raw, *headers, **options)

    def nothing_forwarded(self) -> None:
        assert self.passage.forwarded(self.way, self.sign) == []

    def new(self, name: str | None = None, data: Any = None) -> dict[str, Any]:
        """A ConfigMap to try things on."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name or f"cm-{uuid.uuid4().hex[:8]}"},
            "data": data or {"a": "b"},
        }

    def stored(self, name: str) -> bool:
        return self.directly("GET", f"{CONFIGMAPS}/{name}").code == 200


@pytest.fixture(params=SEATS, ids=lambda seat: "-".join(seat))
def row(request: pytest.FixtureRequest, passages: dict[Mode, Passage]) -> Row:
    mode, way = request.param
    return Row(passages[mode], way)


def refused(answer: Answer, *codes: int) -> None:
    """A refusal of ours: a Status with one line that says what and what to do."""
    assert answer.code in codes, (answer.code, answer.body[:300])
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["kind"] == "Status"
    assert answer.json["code"] == answer.code
    assert "interlock" in answer.message or answer.code == 403, answer.message
    assert "\n" not in answer.message


# 1 to 5: targets ------------------------------------------------------------------------------------------


def test_row_01_encoded_segments(row: Row) -> None:
    assert row.directly("GET", f"/api/v1/namespaces/{NS}%2fsecrets%2fkeys").code == 200
    for target in (
        f"/api/v1/namespaces/{NS}%2fsecrets%2fkeys",
        f"/api%2fv1%2fnamespaces%2f{NS}%2fsecrets",
        f"/api/v1/namespaces/{NS}%5csecrets",
        f"/api/v1/namespaces/{NS}/secrets/keys%00",
        f"/api/v1/namespaces/{NS}/secrets/%0akeys",
        f"/api/v1/namespaces/{NS}/secrets/%2e%2e/configmaps",
        f"/api/v1/namespaces/{NS}/secrets/../configmaps",
        f"/api/v1/namespaces/{NS}/./secrets",
        f"/api/v1/namespaces/{NS}/secrets/%256beys",
        f"/api/v1/namespaces/{NS}/secrets;x=1/keys",
        f"/api/v1/namespaces/{NS}/secrets/%ff",
    ):
        refused(row.send("GET", target), 400)
    row.nothing_forwarded()
    # What is only spelled oddly is read, masked and forwarded in its one plain spelling.
    answer = row.send("GET", f"/%61pi/v1/namespaces/{NS}/%73ecrets/k%65ys")
    assert answer.code == 200
    assert is_token(base64.b64decode(answer.json["data"]["password"]).decode())
    assert row.passage.forwarded(row.way, row.sign) == [f"get {SECRETS}/keys"]


def test_row_02_an_empty_namespace(row: Row) -> None:
    everywhere = row.directly("GET", "/api/v1/namespaces//secrets")
    assert everywhere.code == 200
    assert ENCODED.encode() in everywhere.body
    for target in ("/api/v1/namespaces//secrets", "//api/v1/secrets", "/api//v1/secrets", f"{SECRETS}//keys"):
        refused(row.send("GET", target), 400)
    row.nothing_forwarded()


def test_row_03_the_watch_prefix(row: Row) -> None:
    target = f"/api/v1/watch/namespaces/{NS}/secrets/keys"
    assert ENCODED.encode() in row.directly("GET", target, stream=65536).body
    answer = row.send("GET", target, stream=65536)
    assert answer.code == 200
    event = json.loads(answer.body.splitlines()[0])
    assert event["type"] == "ADDED"
    assert is_token(base64.b64decode(event["object"]["data"]["password"]).decode())
    assert row.passage.recorded(
        "SELECT DISTINCT verb FROM live.requests WHERE user_agent = ?", [row.sign]
    ) == [("watch",)]
    refused(row.send("DELETE", target), 400, 405)
    refused(row.send("GET", "/api/v1/watch"), 400, 403)
    refused(row.send("GET", f"/api/v1/proxy/namespaces/{NS}/pods/one"), 404)


@pytest.mark.parametrize("query", ["watch", "watch=", "watch=no", "watch=TRUE", "watch=1"])
def test_row_04_what_counts_as_watch(row: Row, query: str) -> None:
    target = f"{SECRETS}?{query}&fieldSelector=metadata.name%3Dkeys"
    assert b'"ADDED"' in row.directly("GET", target, stream=65536).body
    answer = row.send("GET", target, stream=65536)
    assert answer.code == 200
    event = json.loads(answer.body.splitlines()[0])
    assert event["type"] == "ADDED"
    assert is_token(base64.b64decode(event["object"]["data"]["password"]).decode())


@pytest.mark.parametrize("query", ["watch=0", "watch=false", "watch=False"])
def test_row_04_what_does_not(row: Row, query: str) -> None:
    assert row.send("GET", f"{SECRETS}?{query}").json["kind"] == "SecretList"


@pytest.mark.parametrize(
    "query", ["dryRun=All;x", "dryRun=All;x=1", "dryrun=All", "DryRun=All", "dryRun=%zz", "dryRun=Al"]
)
def test_row_05_parameters_that_go_drops(row: Row, query: str) -> None:
    thing = row.new()
    really = row.directly("POST", f"{CONFIGMAPS}?{query}", thing)
    assert row.stored(thing["metadata"]["name"]) == (query != "dryRun=Al")
    assert really.code in (201, 400, 422)
    thing = row.new()
    refused(row.send("POST", f"{CONFIGMAPS}?{query}", thing), 400)
    assert not row.stored(thing["metadata"]["name"])
    row.nothing_forwarded()


@pytest.mark.parametrize(
    "query",
    ["limit=1&limit=2", "watch=0&watch=1", "watch=1;x=2", "Watch=1", "labelSelector=%zz", "unknown=1"],
)
def test_row_05_parameters_with_two_readings(row: Row, query: str) -> None:
    assert row.directly("GET", f"{CONFIGMAPS}?{query}", stream=100).code == 200
    refused(row.send("GET", f"{CONFIGMAPS}?{query}"), 400)
    row.nothing_forwarded()


# 6 to 13: bodies ------------------------------------------------------------------------------------------


def test_row_06_a_dry_run_that_deletes(row: Row) -> None:
    name = row.new()["metadata"]["name"]
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    row.directly("POST", CONFIGMAPS, row.new(name))
    assert row.directly("DELETE", f"{CONFIGMAPS}/{name}?dryRun=All", options).code == 200
    assert not row.stored(name)  # it says dry run and is none

    for query, body, dry in (
        ("", b"", False),
        ("?dryRun=All", b"", True),
        ("?dryRun=All", options, False),
        ("", {**options, "dryRun": ["All"]}, True),
    ):
        row.directly("POST", CONFIGMAPS, row.new(name))
        answer = row.send("DELETE", f"{CONFIGMAPS}/{name}{query}", body)
        if answer.code == 200:
            assert row.stored(name) == dry
            recorded = row.passage.recorded(
                "SELECT dry_run FROM live.requests WHERE id = ?", [answer.headers["audit-id"]]
            )
            assert recorded == [(dry,)]
        else:
            refused(answer, 400, 422)
            assert row.stored(name)
        row.directly("DELETE", f"{CONFIGMAPS}/{name}")


def test_row_07_duplicate_keys(row: Row) -> None:
    name = row.new()["metadata"]["name"]
    body = (
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s"},"data":{"a":"1"},"data":{"b":"2"}}'
    )
    assert row.directly("POST", CONFIGMAPS, body % name.encode(), JSON).code == 201  # two are merged
    stored = row.directly("GET", f"{CONFIGMAPS}/{name}").json["data"]
    assert stored == {"a": "1", "b": "2"}
    other = row.new()["metadata"]["name"]
    refused(row.send("POST", CONFIGMAPS, body % other.encode(), JSON), 400)
    patch = b'{"data":{"a":"1"},"data":{"a":"2"}}'
    merge = ("Content-Type", "application/merge-patch+json")
    refused(row.send("PATCH", f"{CONFIGMAPS}/{name}", patch, merge), 400)
    delete = b'{"apiVersion":"v1","kind":"DeleteOptions","dryRun":["All"],"dryRun":[]}'
    refused(row.send("DELETE", f"{CONFIGMAPS}/{name}", delete, JSON), 400)
    assert not row.stored(other)
    assert row.directly("GET", f"{CONFIGMAPS}/{name}").json["data"] == stored
    row.nothing_forwarded()


def test_row_08_yaml(row: Row) -> None:
    yaml = ("Content-Type", "application/yaml")
    name = row.new()["metadata"]["name"]
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n"
    second = text.replace(name, f"{name}-second")
    assert row.directly("POST", CONFIGMAPS, f"{text}---\n{second}".encode(), yaml).code == 201
    assert not row.stored(f"{name}-second")  # the rest is ignored
    for bad in (
        f"{text}---\n{second}",
        text.replace("{a: b}", "&x {a: b}\nbinaryData: *x"),
        text.replace("{a: b}", "{<<: {a: b}}"),
        text.replace("{a: b}", "{a: b, a: c}"),
        text.replace("{a: b}", "{a: !!binary Yg==}"),
        text.replace("{a: b}", "{a: " + "[" * 2000 + "]" * 2000 + "}"),
    ):
        refused(row.send("POST", CONFIGMAPS, bad.replace(name, f"{name}-bad").encode(), yaml), 400)
    assert not row.stored(f"{name}-bad")
    row.nothing_forwarded()
    good = text.replace(name, f"{name}-good")
    assert row.send("POST", CONFIGMAPS, good.encode(), yaml).code == 201
    assert row.stored(f"{name}-good")


def test_row_09_media_types(row: Row) -> None:
    name = row.new()["metadata"]["name"]
    assert row.send("POST", CONFIGMAPS, json.dumps(row.new(name)).encode()).code == 201  # none: JSON
    sign = row.sign
    row.sign = f"{sign}-refused"
    patch = b'{"data":{"a":"changed"}}'
    for media in (
        "application/json",
        "application/Merge-Patch+json",
        "text/plain",
        "application/merge-patch+json, application/json",
        "",
    ):
        refused(row.send("PATCH", f"{CONFIGMAPS}/{name}", patch, ("Content-Type", media)), 415, 400)
    refused(row.send("POST", CONFIGMAPS, row.new(), ("Content-Type", "text/plain")), 415)
    refused(row.send("POST", CONFIGMAPS, row.new(), ("Content-Type", "application/merge-patch+json")), 415)
    twice = (("Content-Type", "application/json"), ("Content-Type", "application/yaml"))
    refused(row.send("POST", CONFIGMAPS, row.new(), *twice), 400)
    row.nothing_forwarded()
    assert row.directly("GET", f"{CONFIGMAPS}/{name}").json["data"] == {"a": "b"}


def test_row_10_protobuf_and_cbor(row: Row) -> None:
    protobuf = ("Content-Type", "application/vnd.kubernetes.protobuf")
    unknown = b"k8s\0\x0a\x10\x0a\x02v1\x12\x0aUnheard-of\x12\x02\x08\x01"
    refused(row.send("POST", CONFIGMAPS, unknown, protobuf), 400, 415, 422)
    refused(row.send("POST", CONFIGMAPS, b"k8s\0" + b"\xff" * 20, protobuf), 400, 415)
    refused(row.send("POST", CONFIGMAPS, b"\x00\x01\x02", protobuf), 400, 415)
    refused(row.send("POST", CONFIGMAPS, b"\xd9\xd9\xf7\xa0", ("Content-Type", "application/cbor")), 415)
    row.nothing_forwarded()
    answer = row.send("GET", f"{SECRETS}/keys", b"", ("Accept", protobuf[1]))
    assert answer.headers["content-type"] == "application/json"
    assert is_token(base64.b64decode(answer.json["data"]["password"]).decode())


def test_row_11_an_encoded_body(row: Row) -> None:
    thing = row.new()
    raw = json.dumps(thing).encode()
    gzipped = ("Content-Encoding", "gzip")
    assert row.directly("POST", CONFIGMAPS, raw, JSON, gzipped).code == 201  # it ignores the header
    row.directly("DELETE", f"{CONFIGMAPS}/{thing['metadata']['name']}")
    refused(row.send("POST", CONFIGMAPS, raw, JSON, gzipped), 415)
    refused(row.send("POST", CONFIGMAPS, gzip.compress(raw), JSON, gzipped), 415)
    refused(row.send("POST", CONFIGMAPS, raw, JSON, ("Content-Encoding", "identity, br")), 415)
    assert not row.stored(thing["metadata"]["name"])
    row.nothing_forwarded()


def test_row_12_a_body_that_is_too_large(row: Row) -> None:
    thing = row.new(data={"a": "x" * (3 * 1024 * 1024)})
    assert row.directly("POST", CONFIGMAPS, thing).code == 413
    refused(row.send("POST", CONFIGMAPS, thing), 413)
    row.nothing_forwarded()


def test_row_13_methods(row: Row) -> None:
    name = row.new()["metadata"]["name"]
    row.directly("POST", CONFIGMAPS, row.new(name))
    for method in ("OPTIONS", "TRACE", "FOO", "get", "Delete"):
        refused(row.send(method, f"{CONFIGMAPS}/{name}"), 400, 405)
    row.nothing_forwarded()
    override = ("X-HTTP-Method-Override", "DELETE")
    assert row.send("GET", f"{CONFIGMAPS}/{name}", b"", override).code == 200
    assert row.stored(name)
    assert row.passage.forwarded(row.way, row.sign) == [f"get {CONFIGMAPS}/{name}"]


# 14 and 15: connections -----------------------------------------------------------------------------------


def spoken(row: Row, data: bytes, *, sni: str | None = None, seconds: float = 10) -> bytes:
    """What comes back for these bytes, sent within TLS to the cluster through the seat's way in."""
    door = row.door()
    to, through = urlsplit(door.server), urlsplit(door.proxy or door.server)
    plain = socket.create_connection((through.hostname, through.port), timeout=seconds)
    if door.proxy:
        address = f"{to.hostname}:{to.port}"
        plain.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += plain.recv(1)
        assert b" 200 " in head.split(b"\r\n")[0]
    context = ssl.create_default_context(cafile=str(door.ca))
    context.check_hostname = sni is None
    with context.wrap_socket(plain, server_hostname=sni or to.hostname) as tls:
        tls.sendall(data)
        got = b""
        try:
            while more := tls.recv(65536):
                got += more
        except (TimeoutError, ssl.SSLError, ConnectionError):
            got += b""  # it stays open: what came is what there is
        return got


def request_bytes(row: Row, head: str, *lines: str, host: str | None = None, body: bytes = b"") -> bytes:
    server = urlsplit(row.door().server).netloc
    return (
        "\r\n".join(
            [
                head,
                f"Host: {server if host is None else host}",
                f"Authorization: Bearer {row.passage.token()}",
                f"User-Agent: {row.sign}",
                *lines,
                "",
                "",
            ]
        ).encode()
        + body
    )


def test_row_14_destinations_that_disagree(row: Row) -> None:
    # The API server itself serves whatever Host it is told.
    assert row.directly("GET", "/version", b"", ("Host", "elsewhere.example")).code == 200
    get = f"GET {SECRETS} HTTP/1.1"
    for data in (
        request_bytes(row, get, "Connection: close", "Host: elsewhere.example"),
        request_bytes(row, f"GET https://elsewhere.example{SECRETS} HTTP/1.1", "Connection: close"),
        request_bytes(row, f"GET http://127.0.0.1:1{SECRETS} HTTP/1.1", "Connection: close"),
    ):
        answer = spoken(row, data)
        assert answer.split(b" ")[1] in (b"400", b"403", b"421"), (data, answer)
    if row.way == "proxy":
        answer = spoken(row, request_bytes(row, get, "Connection: close", host="elsewhere.example"))
        assert answer.split(b" ")[1] == b"421"
    row.nothing_forwarded()


def test_row_14_it_is_no_open_proxy(row: Row, passages: dict[Mode, Passage]) -> None:
    with socket.socket() as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.listen()
        elsewhere.settimeout(0.5)
        through = urlsplit(row.passage.gateway.ready["proxy"])
        host = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        for head in (f"CONNECT {host} HTTP/1.1", f"GET http://{host}/ HTTP/1.1"):
            with socket.create_connection((through.hostname, through.port), timeout=10) as plain:
                plain.sendall(f"{head}\r\nHost: {host}\r\n\r\n".encode())
                assert plain.recv(65536).split(b" ")[1] == b"403"
        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Content-Length: 4", "Content-Length: 0"),
        ("Content-Length: +4",),
        ("Transfer-Encoding : chunked",),
    ],
    ids=lambda lines: "+".join(lines).replace(" ", ""),
)
def test_row_15_a_request_within_a_request(row: Row, lines: tuple[str, ...]) -> None:
    hidden = request_bytes(row, f"DELETE {CONFIGMAPS}/victim HTTP/1.1")
    row.directly("POST", CONFIGMAPS, row.new("victim"))
    body = b"0\r\n\r\n" + hidden
    spoken(row, request_bytes(row, f"GET {CONFIGMAPS} HTTP/1.1", *lines, body=body), seconds=2)
    # Read as a request of its own or not at all: never as the body of one that passed, and never unrecorded.
    reached = row.passage.forwarded(row.way, row.sign)
    assert all("configmaps/victim" not in line for line in reached), reached
    assert row.stored("victim")


def test_row_15_an_upgrade_to_h2c(row: Row) -> None:
    lines = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    answer = spoken(row, request_bytes(row, "GET /version HTTP/1.1", *lines), seconds=2)
    assert answer.split(b" ")[1] == b"403"
    row.nothing_forwarded()


def test_row_15_requests_in_one_go_are_each_decided(row: Row) -> None:
    data = request_bytes(row, "GET /version HTTP/1.1") + request_bytes(row, "GET /metrics HTTP/1.1")
    answer = spoken(row, data, seconds=3)
    assert row.passage.forwarded(row.way, row.sign) == ["get /version"], answer


# 16 to 20: identity, upgrades, representations ------------------------------------------------------------


MASTERS = (("Impersonate-User", "eve"), ("Impersonate-Group", "system:masters"))
WHOAMI = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def test_row_16_impersonation_where_a_rule_names_it(row: Row) -> None:
    became = row.send("POST", REVIEWS, WHOAMI, *MASTERS).json["status"]["userInfo"]
    assert (became["username"], became["groups"][0]) == ("eve", "system:masters")
    plain = row.send("POST", REVIEWS, WHOAMI).json["status"]["userInfo"]
    assert plain["username"] == GATEWAY_USER


def test_row_17_headers_that_claim_who_asks(row: Row) -> None:
    own = str(uuid.uuid4())
    answer = row.send(
        "GET",
        f"{CONFIGMAPS}",
        b"",
        ("X-Remote-User", "admin"),
        ("X-Remote-Group", "system:masters"),
        ("X-Forwarded-For", "10.9.8.7"),
        ("X-Real-Ip", "10.9.8.7"),
        ("Audit-ID", own),
        ("Cookie", "a=b"),
    )
    assert answer.code == 200
    row.passage.forwarded(row.way, row.sign)
    events = [e for e in row.passage.audited() if e.get("userAgent") == row.sign]
    assert {e["auditID"] for e in events} == {answer.headers["audit-id"]} != {own}
    assert {e["user"].get("username") for e in events} == {GATEWAY_USER}
    assert {tuple(e["sourceIPs"]) for e in events} == {("127.0.0.1",)}

    token = row.passage.token()
    for headers in (
        (("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")),
        (("Authorization", f"Bearer {token} junk"),),
        (("Authorization", f"Basic {token}"),),
        (("Authorization", f"Bearer {row.plain.token}"),),  # the cluster's own is none of ours
    ):
        row.sign = f"row-{uuid.uuid4()}"
        refused(row.send("GET", CONFIGMAPS, b"", *headers), 401)
        row.nothing_forwarded()


def bearer_protocol(token: str) -> str:
    return "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(
        token.encode()
    ).decode().rstrip("=")


def test_row_18_a_token_in_the_websocket_protocol(row: Row) -> None:
    target = f"{POD}/exec?command=true&stdout=true"
    smuggled = bearer_protocol(row.plain.token)
    nobody = ("Authorization", "Bearer nobody")
    protocols = ("Sec-WebSocket-Protocol", f"v4.channel.k8s.io, {smuggled}")
    assert row.directly("GET", target, b"", *UPGRADE, nobody, protocols).code == 101  # it counts, directly
    refused(row.send("GET", target, b"", *UPGRADE, nobody, protocols), 401)
    row.nothing_forwarded()
    alone = ("Sec-WebSocket-Protocol", smuggled)
    refused(row.send("GET", target, b"", *UPGRADE, alone), 400)
    row.nothing_forwarded()
    answer = row.send("GET", target, b"", *UPGRADE, protocols)
    assert (answer.code, answer.headers["sec-websocket-protocol"]) == (101, "v4.channel.k8s.io")
    row.passage.forwarded(row.way, row.sign)
    users = {e["user"].get("username") for e in row.passage.audited() if e.get("userAgent") == row.sign}
    assert users == {GATEWAY_USER}  # and not admin


@pytest.mark.parametrize("target", [f"{SECRETS}?watch=1", SECRETS, f"{SECRETS}/keys", f"{POD}/log"])
def test_row_19_an_upgrade_where_there_is_nothing_to_connect_to(row: Row, target: str) -> None:
    if "watch" in target:
        own = ("Origin", "https://localhost")  # which the API server asks for here
        assert row.directly("GET", target, b"", *UPGRADE, own).code == 101
    refused(row.send("GET", target, b"", *UPGRADE), 403)
    row.nothing_forwarded()


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("target", "accept"),
    [
        (f"{SECRETS}/keys", "application/json"),
        (SECRETS, "application/json"),
        (SECRETS, "application/yaml"),
        (SECRETS, "application/vnd.kubernetes.protobuf"),
        (SECRETS, "application/cbor"),
        (f"{SECRETS}?includeObject=Object", TABLE),
        (f"{SECRETS}?includeObject=Metadata", TABLE),
        (SECRETS, TABLE),
        (SECRETS, METADATA),
        (f"{SECRETS}?pretty=true", "application/json"),
        (f"{SECRETS}?watch=1&includeObject=Object", TABLE),
        (f"{SECRETS}?watch=1", "application/json;stream=watch"),
        ("/api/v1/secrets?limit=500", "application/json"),
    ],
)
def test_row_20_a_secret_in_every_representation(row: Row, target: str, accept: str) -> None:
    # Applied from a manifest: the value stands in an annotation too, which the metadata alone shows.
    applied = json.dumps({"stringData": {"password": PLANTED}})
    row.directly(
        "PATCH",
        f"{SECRETS}/keys",
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}}},
        ("Content-Type", "application/merge-patch+json"),
    )
    stream = 1 << 20 if "watch" in target else 0
    plain = row.directly("GET", target, b"", ("Accept", accept), stream=stream)
    answer = row.send("GET", target, b"", ("Accept", accept), stream=stream)
    if "cbor" not in accept:
        assert plain.code == 200
        assert PLANTED.encode() in plain.body or ENCODED.encode() in plain.body or "Table" in accept
    assert answer.code == 200
    assert answer.headers["content-type"] == "application/json"
    assert PLANTED.encode() not in answer.body
    assert ENCODED.encode() not in answer.body


# 26, 41, 45 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subresource", ["exec?command=id&stdout=true", "attach?stdout=true", "portforward"])
def test_row_26_raw_spdy(row: Row, subresource: str) -> None:
    spdy = (
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    )
    port_forward = (*spdy[:2], ("X-Stream-Protocol-Version", "portforward.k8s.io"))
    headers = port_forward if subresource == "portforward" else spdy
    assert row.directly("POST", f"{POD}/{subresource}", b"", *headers).code == 101
    refused(row.send("POST", f"{POD}/{subresource}", b"", *headers), 403)
    row.nothing_forwarded()


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/debug/pprof/", "/debug/pprof/profile?seconds=1", "/logs/", "/configz", "/flagz", "/statusz",
     "/.well-known/openid-configuration", "/openid/v1/jwks", "/metrics/slis", "/"],
)  # fmt: skip
def test_row_41_paths_that_are_not_for_everybody(row: Row, path: str) -> None:
    refused(row.send("GET", path), 400, 403, 404)
    row.nothing_forwarded()


@pytest.mark.parametrize(
    "path", ["/api", "/apis", "/openapi/v3", "/version", "/healthz", "/livez", "/readyz"]
)
def test_row_41_paths_that_are(row: Row, path: str) -> None:
    assert row.directly("GET", "/metrics").code == 200
    assert row.send("GET", path).code == 200


def test_row_45_past_the_gateway_the_agent_has_nothing(row: Row) -> None:
    """Its session token opens nothing at the cluster, and none of its files hold anything that does."""
    token = row.passage.token()
    past = Door(row.plain.server, row.plain.ca, token)
    assert past.send("GET", SECRETS).code == 401
    cluster_tokens = {row.plain.token, row.passage.plane.gateway_token_file.read_text().strip()}
    kubeconfig = Path(row.passage.gateway.kubeconfig("dev", token, row.way)).read_text()
    assert not any(secret in kubeconfig for secret in cluster_tokens)
    # Nor does an answer bring one: a service account's token is masked.
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = row.send("POST", f"/api/v1/namespaces/{NS}/serviceaccounts/default/token", review)
    assert answer.code in (201, 403)
    assert b"eyJ" not in answer.body


# 16 and 24: with rules that name no class -----------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_agent(passages: dict[Mode, Passage]) -> None:
    """The gateways get a rule set without the classes that `*` leaves out."""
    for passage in passages.values():
        (passage.gateway.directory / "policy.yaml").write_text(POLICY)
    for passage in passages.values():
        end = time.monotonic() + 30
        door = passage.door("proxy")
        while door.send("GET", "/api/v1/nodes/node-0/proxy/healthz").code != 403:
            assert time.monotonic() < end, "the policy was not reloaded"
            time.sleep(0.3)


@pytest.mark.usefixtures("plain_agent")
def test_row_24_proxy_subresources_are_never_under_a_star(row: Row) -> None:
    # The API server would connect, were the test's node not on loopback.
    assert row.directly("GET", "/api/v1/nodes/node-0/proxy/healthz").message == "address not allowed"
    for method, target in (
        ("GET", "/api/v1/nodes/node-0/proxy/healthz"),
        ("GET", f"/api/v1/nodes/node-0/proxy/exec/{NS}/one/main?command=id&stdout=1"),
        ("GET", f"{POD}/proxy/"),
        ("GET", f"/api/v1/namespaces/{NS}/services/kubernetes/proxy/"),
        ("POST", f"{POD}/proxy/path"),
        ("GET", f"{POD}/proxy/a/../../../secrets"),
        ("GET", f"{POD}/proxy/%2e%2e/x"),
    ):
        refused(row.send(method, target), 400, 403)
    row.nothing_forwarded()


@pytest.mark.usefixtures("plain_agent")
@pytest.mark.parametrize("subresource", ["exec?command=id&stdout=true", "attach?stdout=true", "portforward"])
def test_row_24_connections_are_never_under_a_star(row: Row, subresource: str) -> None:
    protocol = ("Sec-WebSocket-Protocol", "v5.channel.k8s.io, SPDY/3.1+portforward.k8s.io, v4.channel.k8s.io")
    refused(row.send("GET", f"{POD}/{subresource}", b"", *UPGRADE, protocol), 403)
    row.nothing_forwarded()


@pytest.mark.usefixtures("plain_agent")
@pytest.mark.parametrize(
    "headers",
    [
        MASTERS,
        MASTERS[1:],
        (("impersonate-uid", "1"),),
        (("Impersonate-Extra-Scopes", "a"),),
        (("IMPERSONATE-USER", "system:admin"),),
        (("Impersonate-Anything", "a"),),
    ],
    ids=lambda headers: headers[0][0],
)
def test_row_16_impersonation_without_a_rule(row: Row, headers: tuple[tuple[str, str], ...]) -> None:
    became = row.directly("POST", REVIEWS, WHOAMI, *MASTERS).json["status"]["userInfo"]
    assert became["username"] == "eve"
    refused(row.send("POST", REVIEWS, WHOAMI, *headers), 403)
    refused(row.send("GET", CONFIGMAPS, b"", *headers), 403)
    row.nothing_forwarded()
