"""The perimeter alone: where connections may lead, and what an arrival must say of itself."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from OpenSSL import SSL

from interlock.config import Address, Server, load
from interlock.demo.kubernetes import Kubernetes, Options
from interlock.exchange import Arrival, Exchange, Refusal
from interlock.stages.perimeter import Perimeter, websocket_headers

HOST, PORT = "api.example", 6443


def cluster(name: str = "dev", host: str = HOST, port: int = PORT) -> Any:
    server = Server(host, port)
    return SimpleNamespace(
        name=name,
        server=server,
        address=(host, port),
        host_header=server.authority,
        reverse=Address("127.0.0.1", 8443),
    )


@pytest.fixture
def perimeter() -> Perimeter:
    return Perimeter(SimpleNamespace(clusters=(cluster(), cluster("six", "fd00::1", 443))))  # type: ignore[arg-type]


def arrival(target: str = "/api/v1/pods", **changed: Any) -> Arrival:
    headers: list[tuple[bytes, bytes]] = changed.pop("headers", [])
    given: dict[str, Any] = {
        "method": "GET",
        "target": target.encode(),
        "headers": (
            (b"Host", changed.pop("host", f"{HOST}:{PORT}").encode()),
            (b"Authorization", b"Bearer ilk_x"),
            *headers,
        ),
        "body": b"",
        "client_ip": "127.0.0.1",
        "listener": "proxy",
        "cluster": "dev",
        "scheme": "https",
        "absolute": "",
        "host": "",
        "sni": HOST,
    }
    given.update(changed)
    return Arrival(**given)


def admit(perimeter: Perimeter, a: Arrival) -> Any:
    return perimeter.request(Exchange(id="x", arrival=a, began_ns=0))


def refusal(perimeter: Perimeter, a: Arrival) -> Refusal:
    with pytest.raises(Refusal) as caught:
        admit(perimeter, a)
    assert "\n" not in caught.value.message
    return caught.value


def test_connect_leads_to_a_clusters_own_address_alone(perimeter: Perimeter) -> None:
    assert perimeter.connect(HOST, PORT) == "dev"
    assert perimeter.connect(HOST.upper(), PORT) == "dev"
    assert perimeter.connect("fd00::1", 443) == "six"
    for host, port in ((HOST, 443), ("127.0.0.1", PORT), (f"{HOST}.evil", PORT), ("", 0)):
        with pytest.raises(Refusal) as caught:
            perimeter.connect(host, port)
        assert caught.value.code == 403


def test_a_listener_is_known_by_its_upstream(perimeter: Perimeter) -> None:
    assert perimeter.listener((HOST, PORT)) == "dev"
    assert perimeter.listener(("elsewhere", 1)) is None


def test_a_plain_request_is_admitted(perimeter: Perimeter) -> None:
    admitted = admit(perimeter, arrival())
    assert admitted.cluster.name == "dev"
    assert admitted.target.info.resource == "pods"
    assert admitted.bearer == "ilk_x"
    assert admitted.body is None
    assert admitted.protocols == ()
    names = [name.lower() for name, _ in admitted.headers]
    assert b"authorization" not in names
    assert b"host" not in names


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"scheme": "http"}, 403),
        ({"cluster": None}, 403),
        ({"host": "elsewhere:6443"}, 421),
        ({"host": HOST}, 421),
        ({"absolute": "elsewhere:6443"}, 421),
        ({"sni": "elsewhere"}, 421),
        ({"headers": [(b"Host", f"{HOST}:{PORT}".encode())]}, 421),
        ({"oversized": True}, 413),
        ({"trailers": True}, 400),
        ({"headers": [(b"Authorization", b"Bearer other")]}, 401),
        ({"headers": [(b"Content-Type", b"a/b"), (b"content-type", b"a/b")]}, 400),
        ({"headers": [(b"Content-Encoding", b"gzip")], "method": "POST", "body": b"{}"}, 415),
        ({"target": "/api/v1/namespaces//pods"}, 400),
        ({"method": "BREW"}, 405),
        ({"headers": [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]}, 403),
        ({"headers": [(b"Connection", b"keep-alive, Upgrade")]}, 403),
        ({"listener": "reverse", "absolute": f"{HOST}:{PORT}"}, 400),
        ({"listener": "reverse", "sni": "elsewhere"}, 421),
    ],
)
def test_what_does_not_agree_or_parse_is_refused(
    perimeter: Perimeter, changed: dict[str, Any], code: int
) -> None:
    assert refusal(perimeter, arrival(**changed)).code == code


def test_a_reverse_listener_takes_any_host_that_agrees_with_tls(perimeter: Perimeter) -> None:
    for host, sni in (("127.0.0.1:8443", None), ("gw.example:8443", "gw.example"), ("[::1]:8443", None)):
        assert admit(perimeter, arrival(host=host, sni=sni, listener="reverse")).cluster.name == "dev"


def test_the_default_port_may_be_left_out_of_host() -> None:
    one = Perimeter(SimpleNamespace(clusters=(cluster("https", HOST, 443),)))  # type: ignore[arg-type]
    for host in (HOST, f"{HOST}:443"):
        assert admit(one, arrival(host=host, cluster="https")).cluster.name == "https"
    six = Perimeter(SimpleNamespace(clusters=(cluster("six", "fd00::1", 443),)))  # type: ignore[arg-type]
    for host in ("[fd00::1]", "[fd00::1]:443"):
        assert admit(six, arrival(host=host, cluster="six", sni=None)).cluster.name == "six"


@pytest.mark.parametrize(
    "value", ["", "Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "Bearer " + "x" * 20000]
)
def test_only_one_bearer_counts_as_identity(perimeter: Perimeter, value: str) -> None:
    headers = ((b"Host", f"{HOST}:{PORT}".encode()), (b"Authorization", value.encode()))
    assert refusal(perimeter, _with(headers)).code == 401


def _with(headers: Any) -> Arrival:
    return replace(arrival(), headers=headers)


def test_no_bearer_says_how_to_get_one(perimeter: Perimeter) -> None:
    assert "ilk_" in refusal(perimeter, _with(((b"Host", f"{HOST}:{PORT}".encode()),))).message


EXEC = "/api/v1/namespaces/shop/pods/p/exec?command=id&stdout=true"
HANDSHAKE = [
    (b"Connection", b"Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]
CHANNELS = (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9r")


def test_a_websocket_offers_only_what_can_be_masked(perimeter: Perimeter) -> None:
    a = arrival(EXEC, headers=[*HANDSHAKE, CHANNELS])
    admitted = admit(perimeter, a)
    assert admitted.protocols == ("v5.channel.k8s.io",)
    sent = dict(websocket_headers(a, admitted.protocols))
    assert sent[b"Sec-WebSocket-Protocol"] == b"v5.channel.k8s.io"
    assert b"Sec-WebSocket-Extensions" not in sent


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], 400),
        (HANDSHAKE, 400),
        ([*HANDSHAKE, (b"Sec-WebSocket-Protocol", b"channel.k8s.io")], 400),
    ],
)
def test_a_connection_that_cannot_be_masked_is_refused(perimeter: Perimeter, headers: Any, code: int) -> None:
    assert refusal(perimeter, arrival(EXEC, headers=headers)).code == code


def test_a_websocket_is_opened_by_get(perimeter: Perimeter) -> None:
    assert refusal(perimeter, arrival(EXEC, method="POST", headers=[*HANDSHAKE, CHANNELS])).code == 400


def test_spdy_is_left_to_masking_so_that_policy_speaks_first(perimeter: Perimeter) -> None:
    admitted = admit(
        perimeter,
        arrival(EXEC, method="POST", headers=[(b"Connection", b"Upgrade"), (b"Upgrade", b"SPDY/3.1")]),
    )
    assert admitted.protocols == ()
    assert "SPDY/3.1" in admitted.unreadable


def test_a_handshake_without_its_key_is_refused() -> None:
    with pytest.raises(Refusal):
        websocket_headers(arrival(EXEC, headers=[CHANNELS]), ("v5.channel.k8s.io",))


def test_what_an_agent_says_of_itself_is_kept_short_and_printable(perimeter: Perimeter) -> None:
    claim = b"kubectl \x1b[31m" + b"x" * 500
    admitted = admit(perimeter, arrival(headers=[(b"Kubectl-Command", claim)]))
    assert len(admitted.kubectl_command) == 256
    assert admitted.kubectl_command.isprintable()


def test_bodies_are_parsed_and_classified(perimeter: Perimeter) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}).encode()
    admitted = admit(
        perimeter,
        arrival(
            "/api/v1/namespaces/shop/configmaps?dryRun=All",
            method="POST",
            body=body,
            headers=[(b"Content-Type", b"application/json")],
        ),
    )
    assert admitted.body.object["kind"] == "ConfigMap"
    assert admitted.dry_run
    assert admit(
        perimeter, arrival("/api/v1/namespaces/shop/pods/p/exec?command=id", headers=[*HANDSHAKE, CHANNELS])
    ).classes


@pytest.mark.processes
def test_tls_trusts_the_clusters_own_authority_and_name(tmp_path: Path) -> None:
    with Kubernetes.start(Options(directory=tmp_path / "c")) as running:
        (tmp_path / "policy.yaml").write_text(
            "apiVersion: interlock/v1\nkind: Policy\nmetadata: {name: p}\nspec: {subjects: [{group: g}], "
            "rules: [{name: r, effect: deny, match: {verbs: ['*']}}]}\n"
        )
        (tmp_path / "idp.json").write_text('{"keys": []}')

        def gateway(server: str) -> Any:
            (tmp_path / "gateway.yaml").write_text(
                "apiVersion: interlock/v1\nkind: Gateway\n"
                f"clusters: [{{name: c, server: {server}, certificateAuthority: c/ca.pem, "
                "credential: {clientCertificate: c/client.pem, clientKey: c/client.key}}]\n"
                "identity: {oidc: [{issuer: 'https://i.example', audience: a}]}\npolicies: [policy.yaml]\n"
            )
            return load(tmp_path / "gateway.yaml")

        good = gateway(running.server)
        name = f"https://unknown.example:{running.port}"
        for loaded, works in ((good, True), (gateway(name), False)):
            one = Perimeter(loaded)
            connection = one.tls(loaded.clusters[0])
            again = one.tls(loaded.clusters[0])
            assert connection.get_context() is again.get_context()
            with socket.create_connection(("127.0.0.1", running.port)) as plain:
                ok = _handshake(connection, plain)
            assert ok is works


def _handshake(connection: Any, plain: Any) -> bool:
    """Drive a memory-BIO connection over a socket."""
    for _ in range(20):
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            plain.sendall(connection.bio_read(65536))
            connection.bio_write(plain.recv(65536))
        except SSL.Error:
            return False
        else:
            return True
    return False
