"""The gateway's own credential for a cluster: what the agent's token is exchanged for, and never sees.

In: a kubeconfig and a context, a token file, or a client certificate and its key. Out: a value whose
`bearer()` is the token to send, or whose `certificate()` is what TLS presents. The rule that must not be
broken: a credential's `repr` and every message here show where it came from, never what it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pydantic import ConfigDict, Field

from interlock.documents import DocumentError, Strict, read, read_bytes

TOKEN_LIMIT = 64 << 10
"""Bytes of a token; real ones are under 4 KiB."""

CERTIFICATE_LIMIT = 1 << 20
"""Bytes of a PEM file."""

# RFC 6750 §2.1, b64token, and what else a static token file of Kubernetes may hold, short of a space.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class CredentialError(ValueError):
    """A credential that cannot be used. One line: where it came from, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A certificate chain, leaf first, and the leaf's private key. `digest` changes when either does."""

    chain: tuple[x509.Certificate, ...]
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)
    digest: str


class StaticToken:
    """A bearer token that stands in a kubeconfig."""

    __slots__ = ("_token", "source")

    def __init__(self, token: str, source: str) -> None:
        self.source = source
        self._token = _usable_token(token, source)

    def __repr__(self) -> str:
        return f"StaticToken(from {self.source})"

    def bearer(self) -> str | None:
        """The token to send upstream."""
        return self._token

    def certificate(self) -> ClientIdentity | None:
        """None: a token presents nothing in TLS."""
        return None


class TokenFile:
    """A bearer token in a file that somebody else rotates (a projected service account token).

    It is read again as soon as the file is another one, has another time or another size.
    """

    __slots__ = ("_seen", "_token", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._token = ""
        self.bearer()

    def __repr__(self) -> str:
        return f"TokenFile({self.path})"

    def bearer(self) -> str | None:
        """The token that is in the file now. Raises CredentialError if there is none that can be sent."""
        seen = _stamp(self.path)
        if seen != self._seen:
            text = _content(self.path, TOKEN_LIMIT).decode("latin-1").strip()
            self._token = _usable_token(text, str(self.path))
            self._seen = seen
        return self._token

    def certificate(self) -> ClientIdentity | None:
        """None: a token presents nothing in TLS."""
        return None


class ClientCertificate:
    """A client certificate and key, each in a file (read again when it changes) or given as PEM."""

    __slots__ = ("_certificate", "_identity", "_key", "_seen", "source")

    def __init__(self, certificate: Path | bytes, key: Path | bytes, source: str) -> None:
        self.source = source
        self._certificate = certificate
        self._key = key
        self._seen: tuple[int, ...] = ()
        self._identity: ClientIdentity | None = None
        self.certificate()

    def __repr__(self) -> str:
        return f"ClientCertificate(from {self.source})"

    def bearer(self) -> str | None:
        """None: nothing goes into a header."""
        return None

    def certificate(self) -> ClientIdentity | None:
        """The chain and key as they are now. Raises CredentialError if they cannot be used together."""
        files = [p for p in (self._certificate, self._key) if isinstance(p, Path)]
        seen = tuple(number for path in files for number in _stamp(path))
        if self._identity is None or seen != self._seen:
            self._identity = self._load()
            self._seen = seen
        return self._identity

    def _load(self) -> ClientIdentity:
        certificate, key = (_pem(part) for part in (self._certificate, self._key))
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificate))
        except ValueError:
            raise CredentialError(
                f"{self.source}: the client certificate is not PEM; expected BEGIN CERTIFICATE"
            ) from None
        try:
            private: Any = load_pem_private_key(key, password=None)
        except TypeError:
            message = "the client key is encrypted; give one without a passphrase, in a file that only the gateway reads"
            raise CredentialError(f"{self.source}: {message}") from None
        except ValueError:
            raise CredentialError(
                f"{self.source}: the client key is not PEM; expected BEGIN PRIVATE KEY"
            ) from None
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if chain[0].public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
            raise CredentialError(
                f"{self.source}: the client key does not belong to the certificate; give the pair"
            )
        digest = hashlib.sha256(certificate + b"\0" + key).hexdigest()
        return ClientIdentity(chain, private, digest)


UpstreamCredential = StaticToken | TokenFile | ClientCertificate


def from_kubeconfig(path: Path, context: str | None) -> UpstreamCredential:
    """The one credential of `context` (default: the current one) in the kubeconfig at `path`.

    What needs a program to be run (exec, auth-provider), a password, or acts as somebody else is refused,
    and so is a user with two credentials, because which one the server takes is not ours to guess.
    Raises CredentialError or DocumentError. Format: client-go `tools/clientcmd/api/v1/types.go`.
    """
    documents = read(path)
    config, problems = documents[0].validate(_Kubeconfig)
    problems.extend(d.problem((), "a kubeconfig is one document") for d in documents[1:])
    for name in ("contexts", "users"):
        problems.extend(documents[0].duplicates((name,), "name"))
    if config is None or problems:
        raise DocumentError(problems)
    wanted = context if context is not None else config.current_context
    if not wanted:
        raise CredentialError(f"{path}: has no current-context; name one in credential.context")
    contexts = {c.name: c.context for c in config.contexts or ()}
    chosen = contexts.get(wanted)
    if chosen is None:
        raise CredentialError(
            f"{path}: has no context {wanted!r}; its contexts are: {', '.join(contexts) or 'none'}"
        )
    user = {u.name: u.user for u in config.users or ()}.get(chosen.user)
    if user is None:
        raise CredentialError(
            f"{path}: context {wanted!r} names a user that is not in the file; correct its user"
        )
    return _credential_of(user, path, f"{path}, context {wanted}")


def _credential_of(user: _User, path: Path, source: str) -> UpstreamCredential:
    for given, name, remedy in (
        (user.exec, "an exec plugin", "the gateway runs no programs for credentials"),
        (user.auth_provider, "an auth-provider", "client-go no longer has them"),
        (
            user.username or user.password,
            "a user name and password",
            "Kubernetes has no basic authentication",
        ),
        (user.acts_as(), "impersonation (as)", "the gateway impersonates the agent"),
    ):
        if given:
            raise CredentialError(
                f"{source}: its user has {name}; {remedy}: use a token, a token file or a client certificate"
            )
    beside = path.parent

    def pem(data: str | None, file: str | None, name: str) -> Path | bytes | None:
        if data:
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error:
                raise CredentialError(f"{source}: {name}-data is not base64; copy it again") from None
        return beside / file if file else None

    certificate = pem(user.client_certificate_data, user.client_certificate, "client-certificate")
    key = pem(user.client_key_data, user.client_key, "client-key")
    token, file = user.token, user.token_file
    found: list[Callable[[], UpstreamCredential]] = []
    if token:
        found.append(lambda: StaticToken(token, source))
    if file:
        found.append(lambda: TokenFile(beside / file))
    if certificate is not None or key is not None:
        if certificate is None or key is None:
            raise CredentialError(f"{source}: its user has half of a client certificate and key; give both")
        found.append(lambda: ClientCertificate(certificate, key, source))
    if len(found) != 1:
        what = "no credential" if not found else f"{len(found)} credentials"
        raise CredentialError(
            f"{source}: its user has {what}; expected one token, tokenFile or client certificate"
        )
    return found[0]()


class _Lenient(Strict):
    """A kubeconfig is not ours: keys that do not matter here are passed over."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")
    takes_null: ClassVar[bool] = True


class _User(_Lenient):
    token: str | None = None
    token_file: str | None = Field(None, alias="tokenFile")
    client_certificate: str | None = Field(None, alias="client-certificate")
    client_certificate_data: str | None = Field(None, alias="client-certificate-data")
    client_key: str | None = Field(None, alias="client-key")
    client_key_data: str | None = Field(None, alias="client-key-data")
    username: str | None = None
    password: str | None = None
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = Field(None, alias="auth-provider")
    act_as: str | None = Field(None, alias="as")
    act_as_uid: str | None = Field(None, alias="as-uid")
    act_as_groups: tuple[str, ...] | None = Field(None, alias="as-groups")
    act_as_extra: dict[str, Any] | None = Field(None, alias="as-user-extra")

    def acts_as(self) -> bool:
        return bool(self.act_as or self.act_as_uid or self.act_as_groups or self.act_as_extra)


class _NamedUser(_Lenient):
    name: str
    user: _User


class _Context(_Lenient):
    user: str = ""


class _NamedContext(_Lenient):
    name: str
    context: _Context


class _Kubeconfig(_Lenient):
    kind: Literal["Config"] = "Config"
    current_context: str | None = Field(None, alias="current-context")
    contexts: tuple[_NamedContext, ...] | None = None
    users: tuple[_NamedUser, ...] | None = None


def _usable_token(token: str, source: str) -> str:
    if not token:
        raise CredentialError(f"{source}: the token is empty; expected the token alone")
    if not _TOKEN.fullmatch(token) or len(token) > TOKEN_LIMIT:
        raise CredentialError(
            f"{source}: the token holds spaces, line breaks or characters that no header may hold; "
            "expected the token alone, on one line"
        )
    return token


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced. Taken before reading, so a race only reads again."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise CredentialError(f"{path}: {_reason(error)}; the gateway needs it for every request") from None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _reason(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or 'unknown error').lower()}"


def _content(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit)
    except ValueError as error:
        raise CredentialError(f"{path}: {error}") from None


def _pem(part: Path | bytes) -> bytes:
    return _content(part, CERTIFICATE_LIMIT) if isinstance(part, Path) else part
