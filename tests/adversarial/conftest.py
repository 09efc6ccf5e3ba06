"""An agent that wants around the gateway: what it holds, and where it stands.

`seat` is a gateway in front of the demo's cluster, whose policy opens all but `connect` and `escalation`. The agent
has a session token, the gateway's addresses and its authority, and nothing else.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateways import Running, Upstream
from interlock.demo import seed
from interlock.demo.kubernetes import Kubernetes, Options

POLICY = """
apiVersion: interlock/v1
kind: Policy
metadata: {name: most}
spec:
  subjects: [{group: agents}]
  rules:
  - name: plain
    effect: allow
    match: {namespaces: ["*"], apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
  - name: most
    effect: allow
    match:
      namespaces: ["*"]
      apiGroups: ["*"]
      resources: ["*"]
      verbs: ["*"]
      classes: [destructive, secret-read]
  - name: paths
    effect: allow
    match: {nonResourceURLs: ["*"], verbs: ["*"]}
"""
SHOP = "/api/v1/namespaces/shop"
MEDIA = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass
class Seat:
    """The agent's place. `client` speaks HTTP as it should, `raw` says any bytes."""

    gateway: Running
    cluster: Kubernetes
    token: str

    def client(self, **options: Any) -> httpx.Client:
        return self.gateway.client("demo", self.token, **options)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request; `body` as JSON unless it is bytes or text."""
        content = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        with self.client() as client:
            return client.request(method, path, content=content, headers=sent)

    def patch(self, kind: str, path: str, body: Any) -> httpx.Response:
        return self.ask("PATCH", path, body, Content_Type=MEDIA[kind])

    def raw(self, data: bytes, seconds: float = 10, *, until: bytes = b"\r\n\r\n") -> bytes:
        """What comes back for these bytes inside CONNECT and TLS, until `until` has come, the end or the time."""
        proxy, server = urlsplit(self.gateway.ready["proxy"]), urlsplit(self.cluster.server)
        with socket.create_connection((proxy.hostname, proxy.port), seconds) as plain:
            plain.sendall(f"CONNECT {server.netloc} HTTP/1.1\r\nHost: {server.netloc}\r\n\r\n".encode())
            answer = plain.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            trust = ssl.create_default_context(cafile=self.gateway.ready["ca"])
            with trust.wrap_socket(plain, server_hostname=server.hostname) as tls:
                tls.settimeout(seconds)
                words = data.replace(b"@HOST", server.netloc.encode()).replace(b"@TOKEN", self.token.encode())
                got = b""
                try:
                    tls.sendall(words)
                    while until not in got and (piece := tls.recv(65536)):
                        got += piece
                except (TimeoutError, OSError):
                    pass
                return got

    def arrived(self, sign: str) -> list[str]:
        """The targets with `sign` in them that reached the API server."""
        return [f"{r.method} {r.target}" for r in self.cluster.requests if sign in r.target]

    def recorded(self, sql: str, wanted: int, seconds: float = 20) -> list[tuple[Any, ...]]:
        """Rows of the evidence, once there are `wanted`."""
        end = time.monotonic() + seconds
        while len(rows := self.gateway.evidence(sql)) < wanted and time.monotonic() < end:
            time.sleep(0.2)
        return rows


def shown(answer: httpx.Response) -> list[str]:
    """The secrets of the demo that stand in an answer, plain or in base64."""
    words = answer.content + str(answer.headers).encode()
    return [
        value
        for value in (seed.PASSWORD, seed.API_KEY)
        if value.encode() in words or base64.b64encode(value.encode()).rstrip(b"=") in words
    ]


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    directory = tmp_path_factory.mktemp("adversary")
    (directory / "cluster").mkdir()
    cluster = Kubernetes.start(Options(directory=directory / "cluster"))
    try:
        credential = f"{{tokenFile: {directory / 'cluster' / 'token'}}}"
        upstream = Upstream("demo", cluster.server, cluster.ca, credential)
        with Running(directory / "gateway", [upstream], policy=POLICY) as gateway:
            yield Seat(gateway, cluster, gateway.session("demo"))
    finally:
        cluster.stop()
