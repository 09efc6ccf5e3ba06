"""A small OpenID provider on loopback: discovery, a key set, and tokens as a test wants them.

    with Provider() as provider:                      # http://127.0.0.1:PORT
        token = provider.token("ada", ["agents"], repo="shop")

`Provider(tls=True)` serves https with a CA of its own (`provider.ca`, PEM). `answers[path] = (code, headers,
body)` makes it misbehave; `asked` lists the paths that were asked for.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

AUDIENCE = "interlock"
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


def private_key(algorithm: str) -> Any:
    """A fresh private key for an algorithm."""
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Any, algorithm: str, kid: str | None, **more: Any) -> dict[str, Any]:
    """The JWK of a private key's public half."""
    jwk = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, "use": "sig", "alg": algorithm, **({} if kid is None else {"kid": kid}), **more}


def encode(part: Any) -> str:
    """One part of a JWT: JSON (or bytes as they are) in base64url."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: Any, payload: Any, key: Any) -> str:
    """A JWT with this very header and payload (objects, or bytes), signed as the header says."""
    message = f"{encode(header)}.{encode(payload)}"
    algorithm = header["alg"] if isinstance(header, dict) else "RS256"
    return f"{message}.{encode(get_default_algorithms()[algorithm].sign(message.encode(), key))}"


class Provider:
    def __init__(self, *, path: str = "", tls: bool = False, algorithm: str = "RS256") -> None:
        self.algorithm = algorithm
        self.kid = "key-1"
        self.key = private_key(algorithm)
        self.keys = [public_jwk(self.key, algorithm, self.kid)]
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.delay = 0.0
        self.ca: bytes | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            context, self.ca = _tls()
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.path = path
        self.issuer = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Provider:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is no longer published."""
        self.kid = f"key-{int(self.kid.removeprefix('key-')) + 1}"
        self.key = private_key(self.algorithm)
        self.keys = [public_jwk(self.key, self.algorithm, self.kid)]

    def claims(self, user: str = "ada", groups: Any = ("agents",), **claims: Any) -> dict[str, Any]:
        """The claims of a good token; a claim given as None is left out."""
        now = int(time.time())
        good = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": f"id-of-{user}",
            "iat": now,
            "exp": now + 300,
            "email": user,
            "groups": list(groups) if isinstance(groups, tuple) else groups,
        }
        return {name: value for name, value in {**good, **claims}.items() if value is not None}

    def token(self, user: str = "ada", groups: Any = ("agents",), **claims: Any) -> str:
        """A signed identity token. `email` is the user's name, `sub` is `id-of-` and the name."""
        header = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid}
        return sign(header, self.claims(user, groups, **claims), self.key)

    def _handler(provider) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.asked.append(self.path)
                time.sleep(provider.delay)
                code, headers, body = provider.answers.get(self.path) or provider._answer(self.path)
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path == self.path + DISCOVERY:
            found: Any = {"issuer": self.issuer, "jwks_uri": self.issuer + KEYS}
        elif path == self.path + KEYS:
            found = {"keys": self.keys}
        else:
            return 404, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


def certificate() -> bytes:
    """A certificate for 127.0.0.1 that is its own CA, and its private key: PEM, in this order."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider of the tests")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _tls() -> tuple[ssl.SSLContext, bytes]:
    pem = certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        both.write_bytes(pem)
        context.load_cert_chain(both)
    return context, pem[: pem.index(b"-----BEGIN PRIVATE KEY")]
