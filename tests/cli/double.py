"""An API server's double for the command line's tests: TLS, and the answers that a test puts in.

with ApiDouble() as api:
    api.answers["GET", "/version"] = (200, {"gitVersion": "v1.36.2"})
    api.kubeconfig(tmp_path)          # a kubeconfig of it, with a token

`asked` has every request: method, path, its headers and its JSON body.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from interlock.demo import certificates

TOKEN = "t0ken-of-the-gateway"
ISSUER = "https://kubernetes.default.svc"
RSA = {
    "kty": "RSA",
    "alg": "RS256",
    "use": "sig",
    "kid": "k1",
    "e": "AQAB",
    "n": base64.urlsafe_b64encode(b"\xc1" + b"\x5a" * 254 + b"\x01").rstrip(b"=").decode(),
}
REVIEWS = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ApiDouble:
    def __init__(self) -> None:
        now = datetime.now(UTC)
        self.authority = certificates.authority("double", now)
        serving = certificates.server_certificate(self.authority, ("127.0.0.1",), now)
        self.client = certificates.client_certificate(self.authority, "gateway", (), now)
        self.asked: list[Asked] = []
        self.may: Callable[[dict[str, Any]], bool] = lambda attributes: attributes["verb"] != "*"
        self.date_off = 0.0
        self.delay = 0.0
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", "/version"): (200, {"gitVersion": "v1.36.2"}),
            ("GET", "/.well-known/openid-configuration"): (200, {"issuer": ISSUER}),
            ("GET", "/openid/v1/jwks"): (200, {"keys": [RSA]}),
            ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"): (
                201,
                {"status": {"userInfo": {"username": "interlock-gateway"}}},
            ),
        }
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as directory:
            both, ca = Path(directory, "both.pem"), Path(directory, "ca.pem")
            both.write_bytes(serving.certificate + serving.key)
            ca.write_bytes(self.authority.certificate)
            context.load_cert_chain(both)
            context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.server = f"https://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> ApiDouble:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kubeconfig(self, directory: Path, *, cluster: dict[str, Any] | None = None, user: Any = None) -> Path:
        """A kubeconfig with one context, `dev`; `cluster` changes keys of its cluster (None takes one out)."""
        entry: dict[str, Any] = {
            "server": self.server,
            "certificate-authority-data": base64.b64encode(self.authority.certificate).decode(),
            **(cluster or {}),
        }
        path = directory / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {k: v for k, v in entry.items() if v is not None}}],
                    "users": [{"name": "u", "user": user or {"token": TOKEN}}],
                    "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "dev",
                }
            )
        )
        path.chmod(0o600)
        return path

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if (method, path) not in self.answers and path in (
            f"{REVIEWS}/selfsubjectaccessreviews",
            f"{REVIEWS}/subjectaccessreviews",
        ):
            return 201, {
                "status": {"allowed": self.may({**body["spec"]["resourceAttributes"], **body["spec"]})}
            }
        return self.answers.get((method, path), (404, {"message": "no such path"}))

    def _handler(double) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                body = json.loads(raw) if raw else None
                double.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))
                time.sleep(double.delay)
                code, answer = double._answer(self.command, self.path, body)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response_only(code)
                if double.date_off is not None:
                    self.send_header("Date", formatdate(time.time() - double.date_off, usegmt=True))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler
