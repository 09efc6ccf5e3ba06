"""A gateway before a real control plane, and what its API server says of the requests that came through.

    with gateways(tmp_path, control_plane) as passages:      # {"up": Passage, "mitmdump": Passage}

Each gateway leads to the one API server by two names, so that two clusters with two settings need one control
plane: `dev` (by address, actAs none) and `named` (by host name, actAs impersonate). No resolver knows the host
name, so the gateway's process gets one that does. The rule: what a test says of the API server it reads in the
API server's audit log, never in the gateway's own words.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.conftest import ControlPlane
from gateways import ALLOW_ALL, MODES, Mode, Running, Upstream, Way

GATEWAY_USER = "interlock-gateway"
RESOLVER = """
import socket

real = socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    return real("127.0.0.1" if host == {name!r} else host, *arguments, **options)


socket.getaddrinfo = getaddrinfo
"""


@dataclass(frozen=True)
class Answer:
    """What came back. headers: lower case names."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of a Status."""
        return str(self.json["message"])


@dataclass(frozen=True)
class Door:
    """One way to an API server: to send bytes as they are, with a bearer token."""

    server: str  # URL of what to connect to
    ca: Path
    token: str
    proxy: str = ""  # URL of a proxy to reach it by

    def connect(self, timeout: float = 30) -> http.client.HTTPSConnection:
        to, through = urlsplit(self.server), urlsplit(self.proxy or self.server)
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection(
            through.hostname or "", through.port, context=context, timeout=timeout
        )
        if self.proxy:
            connection.set_tunnel(to.hostname or "", to.port)
        return connection

    def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *headers: tuple[str, str],
        timeout: float = 30,
        stream: int = 0,
    ) -> Answer:
        """One request with exactly this target and these headers (and Authorization, if they have none).

        stream: of a body that does not end, read this many bytes.
        """
        connection = self.connect(timeout)
        try:
            named = {name.lower() for name, _ in headers}
            connection.putrequest(method, target, skip_host="host" in named, skip_accept_encoding=True)
            if "authorization" not in named and self.token:
                connection.putheader("Authorization", f"Bearer {self.token}")
            if body and not named & {"content-length", "transfer-encoding"}:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = b"" if response.status == 101 else response.read1(stream) if stream else response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        finally:
            connection.close()


@dataclass
class Passage:
    """A running gateway before the control plane."""

    gateway: Running
    plane: ControlPlane
    begun: int  # the audit log's size when it started
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, cluster: str = "dev") -> str:
        if cluster not in self.tokens:
            self.tokens[cluster] = self.gateway.session(cluster)
        return self.tokens[cluster]

    def door(self, way: Way, cluster: str = "dev", token: str | None = None) -> Door:
        token = self.token(cluster) if token is None else token
        ca = Path(self.gateway.ready["ca"])
        if way == "proxy":
            return Door(self.gateway.upstream(cluster).server, ca, token, self.gateway.ready["proxy"])
        return Door(self.gateway.ready["reverse"][cluster], ca, token)

    def audited(self) -> list[dict[str, Any]]:
        """The API server's audit events since the gateway started, of all users."""
        with self.plane.audit_log.open("rb") as log:
            log.seek(self.begun)
            lines = log.read().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def forwarded(self, way: Way, sign: str) -> list[str]:
        """What reached the API server from a client that called itself `sign` (User-Agent): request URIs.

        The API server writes a request's event before it answers; a request that is let through after those in
        question shows that the log is there up to now.
        """
        last = f"{sign}-last"
        assert self.door(way).send("GET", "/version", b"", ("User-Agent", last)).code == 200
        until = time.monotonic() + 20
        while time.monotonic() < until:
            events = self.audited()
            if any(e.get("userAgent") == last for e in events):
                return [f"{e['verb']} {e['requestURI']}" for e in events if e.get("userAgent") == sign]
            time.sleep(0.1)
        raise AssertionError(f"the audit log did not get {last} within 20 s")

    def recorded(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.gateway.evidence(sql, parameters)


def direct(plane: ControlPlane) -> Door:
    """Straight to the API server, as cluster-admin."""
    return Door(plane.server, plane.ca, plane.admin_token.strip())


@contextmanager
def passage(
    directory: Path, plane: ControlPlane, mode: Mode, policy: str = ALLOW_ALL, extra: str = ""
) -> Iterator[Passage]:
    directory.mkdir(parents=True, exist_ok=True)
    resolver = directory / "resolver"
    resolver.mkdir()
    (resolver / "sitecustomize.py").write_text(RESOLVER.format(name=plane.host_name))
    credential = f"{{tokenFile: {plane.gateway_token_file}}}"
    port = urlsplit(plane.server).port
    clusters = [
        Upstream("dev", plane.server, plane.ca, credential),
        Upstream("named", f"https://{plane.host_name}:{port}", plane.ca, credential, "impersonate"),
    ]
    begun = plane.audit_log.stat().st_size
    with Running(
        directory, clusters, mode, policy, extra, environment={"PYTHONPATH": str(resolver)}
    ) as gateway:
        yield Passage(gateway, plane, begun)


@contextmanager
def gateways(
    directory: Path, plane: ControlPlane, modes: Sequence[Mode] = MODES
) -> Iterator[dict[Mode, Passage]]:
    """One of each mode, started at the same time; stopped again whatever happens."""
    with ExitStack() as stack, ThreadPoolExecutor(len(modes)) as starting:
        begun = [
            (mode, starting.submit(stack.enter_context, passage(directory / mode, plane, mode)))
            for mode in modes
        ]
        yield {mode: future.result() for mode, future in begun}
