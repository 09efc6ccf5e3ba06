"""Perimeter: where connections may lead, and the request as Kubernetes will read it.

In: an Arrival. Out: an Admission, or a refusal. Only configured clusters are reached, each at its one
address, with its own trust anchor and client certificate; what CONNECT, the TLS server name, the Host
header and the request line say must agree; the target and the body are parsed strictly, and only what was
parsed goes on. Nothing of the agent's headers passes that `kube.negotiation` does not name.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from OpenSSL import SSL
from OpenSSL.crypto import X509

from interlock.exchange import Admission, Arrival, Exchange, Header, Refusal
from interlock.kube.body import BadBody, dry_run, parse_body
from interlock.kube.frames import accepted_protocols
from interlock.kube.hazards import classify
from interlock.kube.negotiation import request_headers
from interlock.kube.target import BadTarget, Target, parse_target

if TYPE_CHECKING:
    from interlock.config import Cluster, Gateway

BEARER = "send the session token as `Authorization: Bearer ilk_...` (`interlock kubeconfig` sets it up)"
_BREAKS = re.compile(rb"[\x00\r\n]")  # RFC 9110, section 5.5: dangerous, as some take them for a line's end
UPGRADABLE = frozenset({"exec", "attach", "portforward"})


class Perimeter:
    name = "perimeter"
    deadline = 2.0
    fills = {"request": ("admission", Admission)}

    def __init__(self, gateway: Gateway) -> None:
        self._clusters = {cluster.name: cluster for cluster in gateway.clusters}
        self._by_address = {cluster.address: cluster.name for cluster in gateway.clusters}
        self._contexts: dict[str, tuple[object, SSL.Context]] = {}

    # Connections

    def connect(self, host: str, port: int) -> str:
        """The cluster that CONNECT host:port leads to. Raises Refusal for any other destination."""
        name = self._by_address.get((host.lower().rstrip("."), port))
        if name is None:
            raise Refusal(
                403, f"this gateway leads to its configured clusters only, not to {host[:255]!r}:{port}"
            )
        return name

    def listener(self, address: tuple[str, int]) -> str | None:
        """The cluster of a reverse listener, by the upstream address that it was started with."""
        return self._by_address.get(address)

    def tls(self, cluster: Cluster) -> SSL.Connection:
        """A TLS client connection that trusts this cluster's authority alone and checks its name."""
        material = cluster.tls_material()
        known = self._contexts.get(cluster.name)
        if known is None or known[0] != material.fingerprint:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_min_proto_version(SSL.TLS1_2_VERSION)
            context.set_verify(SSL.VERIFY_PEER)
            store = context.get_cert_store()
            assert store is not None
            for authority in material.authorities:
                store.add_cert(X509.from_cryptography(authority))
            if material.client is not None:
                chain, key = material.client
                context.use_certificate(chain[0])
                for extra in chain[1:]:
                    context.add_extra_chain_cert(extra)
                context.use_privatekey(key)
                context.check_privatekey()
            known = self._contexts[cluster.name] = (material.fingerprint, context)
        connection = SSL.Connection(known[1])
        host = cluster.address[0]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            connection.set_tlsext_host_name(host.encode("idna"))
        connection.set_verify(SSL.VERIFY_PEER)
        _verify_name(connection, host)
        connection.set_alpn_protos([b"http/1.1"])
        connection.set_connect_state()
        return connection

    # Requests

    def request(self, x: Exchange) -> Admission:
        a = x.arrival
        cluster = self._cluster(a)
        if a.oversized:
            raise Refusal(413, "the request body is larger than 3 MiB, the API server's own limit")
        if a.trailers:
            raise Refusal(400, "the request has trailers, which Kubernetes does not use")
        if any(_BREAKS.search(value) for _, value in a.headers):
            raise Refusal(400, "a header holds a line break or NUL (RFC 9110, section 5.5)")
        bearer = _bearer(a)
        try:
            target = parse_target(a.method, a.target)
        except BadTarget as bad:
            raise Refusal(bad.code, bad.reason) from None
        protocols, unreadable = _upgrade(a, target)
        try:
            body = parse_body(
                target.info, a.method, _one(a, b"content-type"), _one(a, b"content-encoding"), a.body
            )
        except BadBody as bad:
            raise Refusal(bad.code, bad.reason) from None
        thing = body.object if body is not None else None
        impersonation = tuple((n, v) for n, v in a.headers if n.lower().startswith(b"impersonate-"))
        return Admission(
            cluster=cluster,
            target=target,
            body=body,
            classes=classify(target.info, thing),
            dry_run=dry_run(a.method, target.query, body),
            headers=request_headers(a.headers, target.info, body.media_type if body is not None else None),
            protocols=protocols,
            unreadable=unreadable,
            bearer=bearer,
            impersonates=bool(impersonation),
            impersonation=impersonation,
            user_agent=_claim(a, b"user-agent"),
            kubectl_command=_claim(a, b"kubectl-command"),
            kubectl_session=_claim(a, b"kubectl-session"),
        )

    def _cluster(self, a: Arrival) -> Cluster:
        if a.cluster is None or a.scheme != "https":
            raise Refusal(
                403,
                "only HTTPS to a configured cluster passes here, through CONNECT or a cluster's own listener",
            )
        cluster = self._clusters[a.cluster]
        host, port = cluster.address
        if a.listener == "proxy":
            named = {f"{host}:{port}"} | ({host} if port == 443 else set())
            if ":" in host:
                named = {f"[{host}]:{port}"} | ({f"[{host}]"} if port == 443 else set())
            said = [v.lower() for v in a.values(b"host")] + ([a.absolute.lower()] if a.absolute else [])
            if not said or any(v not in named for v in said) or len(a.values(b"host")) > 1:
                raise Refusal(421, "the Host header or request line names another server than CONNECT did")
            if a.sni is not None and a.sni.lower() != host:
                raise Refusal(421, "the TLS server name is another than CONNECT named")
        elif a.absolute or len(a.values(b"host")) != 1:
            raise Refusal(400, "a request to this listener has one Host header and a plain path")
        elif a.sni is not None and _hostname(a.values(b"host")[0]) != a.sni.lower():
            raise Refusal(421, "the Host header names another server than the TLS server name")
        return cluster


def _hostname(value: str) -> str:
    return value.lower().rsplit(":", 1)[0] if not value.endswith("]") else value.lower()


def _one(a: Arrival, name: bytes) -> str | None:
    values = a.values(name)
    if len(values) > 1:
        raise Refusal(400, f"the header {name.decode()} is there more than once")
    return values[0] if values else None


def _claim(a: Arrival, name: bytes) -> str:
    """A header that is recorded as what the agent says of itself, never trusted; 256 printable characters."""
    value = a.values(name)[:1]
    return (
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[0][:256])
        if value
        else ""
    )


def _bearer(a: Arrival) -> str:
    """The one bearer token (RFC 6750, section 2.1). Nothing else counts, wherever else a token stands."""
    values = a.values(b"authorization")
    if len(values) != 1:
        raise Refusal(
            401, f"interlock: no session; {BEARER}" if not values else "more than one Authorization header"
        )
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or " " in token or len(token) > 16384:
        raise Refusal(401, f"the Authorization header holds no bearer token; {BEARER}")
    return token


def _upgrade(a: Arrival, target: Target) -> tuple[tuple[str, ...], str]:
    """The websocket subprotocols to offer upstream, and why none will do.

    Neither, where the request asks for no upgrade. A protocol that cannot be masked is refused by masking, after
    authorization: kubectl tries SPDY when its websocket was refused, and shows the second answer alone, so that
    one has to give policy's reason too.
    """
    upgrade = _one(a, b"upgrade")
    wants = any("upgrade" in v.lower() for v in a.values(b"connection"))
    info = target.info
    connects = info.is_resource and info.subresource in UPGRADABLE
    if upgrade is None and not wants:
        if connects:
            raise Refusal(
                400, f"{info.resource}/{info.subresource} is reached by websocket; this request asks for none"
            )
        return (), ""
    if not connects:
        raise Refusal(403, "an upgrade passes to exec, attach and portforward only, as websocket")
    if upgrade is None or upgrade.strip().lower() != "websocket":
        return (), (
            f"an upgrade to {(upgrade or '')[:40]!r} cannot be masked and is refused; use a client that speaks "
            "websocket (kubectl 1.30 or newer, or KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true)"
        )
    if a.method != "GET":
        raise Refusal(400, "a websocket is opened by GET (RFC 6455, section 4.1)")
    offered = [p.strip() for v in a.values(b"sec-websocket-protocol") for p in v.split(",")]
    protocols = accepted_protocols(info.subresource, offered)
    if not protocols:
        known = "v5.channel.k8s.io, v4.channel.k8s.io"
        raise Refusal(400, f"no websocket protocol was offered that can be masked ({known})")
    return tuple(protocols), ""


def websocket_headers(a: Arrival, protocols: tuple[str, ...]) -> tuple[Header, ...]:
    """The handshake that goes upstream (RFC 6455, section 4.1), without extensions."""
    key = _one(a, b"sec-websocket-key") or ""
    if _one(a, b"sec-websocket-version") != "13" or not key:
        raise Refusal(400, "the websocket handshake lacks its key or is not version 13 (RFC 6455)")
    return (
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", key.encode("latin-1")),
        (b"Sec-WebSocket-Protocol", ", ".join(protocols).encode("ascii")),
    )


def _verify_name(connection: SSL.Connection, host: str) -> None:
    """RFC 9525: the certificate's subjectAltName names the configured host or address; CN does not count."""
    param = SSL._lib.SSL_get0_param(connection._ssl)  # type: ignore[attr-defined]
    lib = SSL._lib  # type: ignore[attr-defined]
    lib.X509_VERIFY_PARAM_set_hostflags(
        param, lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | lib.X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
    )
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.encode("idna")
        ok = lib.X509_VERIFY_PARAM_set1_host(param, name, len(name))
    else:
        ok = lib.X509_VERIFY_PARAM_set1_ip(param, packed, len(packed))
    if ok != 1:
        raise ValueError("OpenSSL took no name to verify")
