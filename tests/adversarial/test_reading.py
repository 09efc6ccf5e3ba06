"""The agent sends what the gateway and the API server might read in two ways, or asks where it must not."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest

from adversarial.conftest import SHOP, Seat, shown
from interlock.demo import seed

pytestmark = pytest.mark.processes

HEAD = b"Host: @HOST\r\nAuthorization: Bearer @TOKEN\r\n"
DELETE = b"DELETE /api/v1/namespaces/shop/configmaps/victim HTTP/1.1\r\n" + HEAD + b"\r\n"
OBJECT = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"smuggled"}}'
POST = b"POST /api/v1/namespaces/shop/configmaps HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(OBJECT), OBJECT)


@pytest.mark.parametrize(
    "words",
    [
        b"GET /version HTTP/1.1\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(DELETE) + DELETE,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKED,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
        POST + b"Content-Length: %d\r\nContent-Length: 3\r\n\r\n" % len(OBJECT) + OBJECT,
        POST + b"Content-Length: +%d\r\n\r\n" % len(OBJECT) + OBJECT,
        POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(OBJECT) + OBJECT,
    ],
)
def test_nothing_is_smuggled_in_a_body(seat: Seat, words: bytes) -> None:
    answer = seat.raw(words)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert seat.arrived("victim") == []
    assert seat.ask("GET", f"{SHOP}/configmaps/smuggled").status_code == 404


@pytest.mark.parametrize(
    "words",
    [
        b"GET https://elsewhere.example/version HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /version HTTP/1.1\r\nHost: elsewhere.example\r\nAuthorization: Bearer @TOKEN\r\n\r\n",
        b"GET /version HTTP/1.1\r\n" + HEAD + b"Host: @HOST\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /version HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_within_the_tunnel_nothing_leads_elsewhere(seat: Seat, words: bytes) -> None:
    before = len(seat.cluster.requests)
    answer = seat.raw(words)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert len(seat.cluster.requests) == before


@pytest.mark.parametrize("where", ["console", "proxy", "neighbour"])
def test_the_proxy_leads_to_the_cluster_alone(seat: Seat, where: str) -> None:
    port = urlsplit(seat.cluster.server).port or 0
    place = {
        "console": urlsplit(seat.gateway.ready["console"]).netloc,
        "proxy": urlsplit(seat.gateway.ready["proxy"]).netloc,
        "neighbour": f"localhost:{port}",  # the same socket by another name
    }[where]
    with httpx.Client(proxy=seat.gateway.ready["proxy"], verify=False, trust_env=False) as client:
        with pytest.raises(httpx.ProxyError, match="403"):
            client.get(f"https://{place}/healthz")
        assert client.get(f"http://{place}/healthz").status_code == 403


@pytest.mark.parametrize(
    "accept",
    [
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/cbor",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        'application/json;as="Table";v=v1;g=meta.k8s.io, application/yaml',
        "text/plain",
        "Application/YAML;q=1",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        f"{SHOP}/secrets/payments",
        f"{SHOP}/secrets?includeObject=Object",
        f"{SHOP}/secrets?watch=true&timeoutSeconds=1&includeObject=Object",
        "/api/v1/watch/namespaces/shop/secrets?timeoutSeconds=1",
    ],
)
def test_no_form_shows_a_secret(seat: Seat, accept: str, path: str) -> None:
    answer = seat.ask("GET", path, Accept=accept, Accept_Encoding="gzip, br", Range="bytes=0-4000")
    assert answer.status_code in (200, 404, 406), answer.text
    assert shown(answer) == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("strategic", {"data": {"password": ["x"]}}),
        ("merge", {"data": {"password": {"a": 1}}}),
        ("merge", {"metadata": {"name": "other"}}),
        ("merge", {}),
        ("json", [{"op": "test", "path": "/data/password", "value": "eA=="}]),
    ],
)
def test_no_patch_of_a_secret_shows_it(seat: Seat, kind: str, body: object) -> None:
    answer = seat.patch(kind, f"{SHOP}/secrets/payments?dryRun=All", body)
    assert seat.arrived("secrets/payments?dryRun=All")
    assert shown(answer) == []


def test_no_token_is_issued_and_no_command_runs(seat: Seat) -> None:
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"{SHOP}/serviceaccounts/default/token"
    for query in ("", "?dryRun=All"):
        assert seat.ask("POST", path + query, token).status_code == 403
    pod = seat.ask("GET", f"{SHOP}/pods").json()["items"][0]["metadata"]["name"]
    for method in ("GET", "POST"):
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        asked = f"{method} {SHOP}/pods/{pod}/exec?command=env HTTP/1.1\r\n".encode()
        key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        answer = seat.raw(asked + HEAD + upgrade + key)
        assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert seat.arrived("/token") == []
    assert seat.arrived("/exec") == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate-User": "system:admin"},
        {"X-Remote-User": "system:admin"},
        {"X-HTTP-Method-Override": "DELETE"},
    ],
)
def test_no_header_gives_other_rights(seat: Seat, headers: dict[str, str]) -> None:
    with seat.client() as client:
        answer = client.get(f"{SHOP}/configmaps/shop-config?pretty={next(iter(headers))}", headers=headers)
    assert answer.status_code in (200, 403)
    assert seed.PASSWORD not in answer.text
    for arrived in seat.cluster.requests:
        if next(iter(headers)) in arrived.target:
            assert arrived.method == "GET"
            assert not {name.lower() for name, _ in arrived.headers} & {name.lower() for name in headers}
            assert arrived.user == "interlock-gateway"
