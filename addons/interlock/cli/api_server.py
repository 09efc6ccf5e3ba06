"""Questions of the operator's own to a cluster's API server: one small JSON request at a time.

In: a server, whom to trust there, the credential to ask with. Out: a `Reply`, whatever its code, or `Failed` in
one line. The rules: only this server is spoken to, over TLS verified by its own authority alone; no proxy,
password or CA is taken from the environment; nothing that was sent or answered is repeated in an error but the
first words of a `Status` message.
"""

from __future__ import annotations

import json
import ssl
import tempfile
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from cryptography.hazmat.primitives import serialization
from pydantic import TypeAdapter, ValidationError

from interlock.cli.errors import Failed
from interlock.cli.screen import visible
from interlock.config import Authority, Server, UpstreamServer
from interlock.credential import ClientIdentity, UpstreamCredential

ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
SELF_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
WHO_AM_I = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
SECONDS = 5.0
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its code, its JSON object ({} if it has none), and the server's clock (None if it says nothing)."""

    code: int
    object: dict[str, Any]
    date: datetime | None

    @property
    def message(self) -> str:
        """The `Status` message, in at most 200 characters of one line; "" if there is none."""
        text = self.object.get("message")
        return visible(" ".join(text.split()))[:200] if isinstance(text, str) else ""


class ApiServer:
    """One API server, asked as one user, who waits `seconds` for it. Raises CredentialError for bad files."""

    def __init__(
        self,
        server: Server,
        authority: Authority,
        credential: UpstreamCredential,
        *,
        seconds: float = SECONDS,
    ) -> None:
        self.server = server
        self._seconds = seconds
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.load_verify_locations(cadata=authority.pem.decode("ascii", "ignore"))
        identity = credential.certificate()
        if identity is not None:
            _present(trust, identity)
        bearer = credential.bearer()
        self._headers = {
            "Accept": "application/json, application/jwk-set+json",
            "Accept-Encoding": "identity",
        }
        if bearer is not None:
            self._headers["Authorization"] = f"Bearer {bearer}"
        self._trust = trust

    def get(self, path: str, *, audit_id: str | None = None) -> Reply:
        """GET `path`."""
        return self._ask("GET", path, None, audit_id)

    def post(self, path: str, body: object, *, audit_id: str | None = None) -> Reply:
        """POST `body` as JSON."""
        return self._ask("POST", path, json.dumps(body).encode(), audit_id)

    def _ask(self, method: str, path: str, body: bytes | None, audit_id: str | None) -> Reply:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if audit_id is not None:
            headers["Audit-ID"] = audit_id
        url = f"{self.server}{quote(path, safe='/.-')}"
        try:
            with (
                httpx.Client(
                    verify=self._trust, trust_env=False, follow_redirects=False, timeout=self._seconds
                ) as client,
                client.stream(method, url, headers=headers, content=body) as answer,
            ):
                raw = b""
                for piece in answer.iter_raw():
                    raw += piece
                    if len(raw) > LARGEST:
                        raise Failed(f"{url} answered more than {LARGEST >> 20} MiB; is this an API server?")
                return Reply(answer.status_code, _object(raw), _date(answer.headers.get("date")))
        except httpx.TimeoutException:
            raise Failed(
                f"{self.server} did not answer within {self._seconds:g} s; check the address, and firewalls on the way"
            ) from None
        except (httpx.HTTPError, OSError) as error:
            raise Failed(_unreachable(self.server, error)) from None


def _unreachable(server: Server, error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"{server} shows a certificate that its authority did not sign for this name "
                f"({cause.verify_message}); give the authority that the API server's certificate chains to"
            )
        if isinstance(cause, ssl.SSLError):
            return f"{server} does not speak TLS as expected ({cause.reason or 'broken off'}); check the port"
        if isinstance(cause, ConnectionRefusedError):
            return f"{server} refuses the connection; does the API server run, and on this port?"
        cause = cause.__cause__ or cause.__context__
    words = visible(" ".join(str(error).split()))[:120] or type(error).__name__
    return f"{server} cannot be reached: {words}; check the address and the network"


def _present(trust: ssl.SSLContext, identity: ClientIdentity) -> None:
    """Have TLS present the certificate. `ssl` reads it from a file only: a private one, gone at once."""
    with tempfile.TemporaryDirectory(prefix="interlock-") as directory:
        both = Path(directory, "client.pem")
        both.touch(mode=0o600)
        both.write_bytes(
            identity.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + b"".join(c.public_bytes(serialization.Encoding.PEM) for c in identity.chain)
        )
        trust.load_cert_chain(both)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _date(value: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def parse_server(text: object) -> Server:
    """An API server's URL as the configuration reads it. Raises ValueError with what was expected."""
    try:
        found: Server = TypeAdapter(UpstreamServer).validate_python(text)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(reason.removeprefix("Value error, ")) from None
    return found


def access_review(
    verb: str, resource: str, *, group: str = "", subresource: str = "", **subject: object
) -> dict[str, Any]:
    """May one do `verb`, in every namespace? A SelfSubjectAccessReview, or with `user`, `groups` one about them."""
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview" if subject else "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes, **subject},
    }


def allowed(reply: Reply) -> bool:
    """The answer to an access review; one that could not be answered is a no."""
    status = reply.object.get("status")
    return reply.code in (200, 201) and isinstance(status, dict) and status.get("allowed") is True
