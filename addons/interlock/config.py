"""The gateway's configuration: `kind: Gateway` YAML in, one frozen value or every problem with its line out.

`load` reads the file and everything that it names and that must be there before the first request: the
clusters' authorities, their credentials, the identity providers' authorities and key sets. Paths are relative
to the file. The rules that must not be broken: what is not known or not built yet is refused, never ignored;
an address, a key or a token can be meant in one way only; no secret is shown in a problem or a `repr`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NoReturn
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from interlock.credential import (
    ClientCertificate,
    ClientIdentity,
    TokenFile,
    UpstreamCredential,
    from_kubeconfig,
)
from interlock.documents import DocumentError, Fault, Loc, Plain, Strict, dotted, read, read_bytes
from interlock.identity.oidc import Issuer, parse_keys
from interlock.identity.sessions import ANY, CONSOLE, SAME

# Words of the field types below: each turns the text of the file into a value, or says what was expected.


def _text(value: object, expected: str) -> str:
    if type(value) is not str or not value or not value.isprintable():
        raise ValueError(f"expected {expected}")
    return value


def _path(value: object, info: ValidationInfo) -> Path:
    directory: Path = (info.context or {})["directory"]
    return Path(
        os.path.normpath(directory / Path(_text(value, "a path, relative to this file")).expanduser())
    )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(
            f"{path} does not exist; create it, or correct the path (it is relative to this file)"
        )
    return path


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


FilePath = Annotated[Path, BeforeValidator(_path)]
ExistingPath = Annotated[Path, BeforeValidator(_path), AfterValidator(_existing)]

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|[hms]))+")
_DURATION_PART = re.compile(r"([\d.]+)(ms|[hms])")


def duration(value: object) -> timedelta:
    """`15m`, `1h30m`, `90s`: Go's time.ParseDuration, as Kubernetes writes durations; more than zero."""
    if type(value) is not str or not _DURATION.fullmatch(value):
        raise ValueError("expected a duration such as 15m, 8h or 1h30m (units: h, m, s, ms)")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(value))
    if not 0 < seconds <= 366 * 86400:
        raise ValueError("a duration must be more than 0 and at most a year")
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(duration)]

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")


def _host(text: str) -> str:
    """A host name or IP address in its one canonical form: lower case, without brackets."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address("" if "%" in text else text[1:-1]))
        except ValueError:
            raise ValueError("not an IPv6 address, without zone, between the brackets") from None
    lower = text.lower()
    if not _HOST_NAME.fullmatch(lower):
        raise ValueError("not a host name or IP address (write an IPv6 address in brackets)")
    if lower.rpartition(".")[2].isdigit() or lower.rpartition(".")[2].startswith("0x"):
        # inet_aton would read 127.1 or 0x7f.1 as an address, others as a name: RFC 6943 §3.1.1
        try:
            return str(ipaddress.IPv4Address(lower))
        except ValueError:
            raise ValueError("a host whose last part is a number must be an IPv4 address") from None
    return lower


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway listens. Port 0 lets the system choose; the ready file then has the real one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_ADDRESS = "an address with a port, such as 127.0.0.1:8080"


def _address(value: object) -> Address:
    host, colon, port = _text(value, _ADDRESS).rpartition(":")
    if not colon or not host or not re.fullmatch(r"0|[1-9]\d{0,4}", port) or int(port) > 65535:
        raise ValueError(f"expected {_ADDRESS}")
    return Address(_host(host), int(port))


ListenAddress = Annotated[Address, BeforeValidator(_address)]


@dataclass(frozen=True, slots=True)
class Server:
    """The one upstream address of a cluster: https, a host in canonical form, a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"https://{self.authority}"

    @property
    def authority(self) -> str:
        """The Host header's value (RFC 9110 §7.2): without the port if it is 443."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def _server(value: object) -> Server:
    expected = "an https URL without user, path or query, such as https://api.example:6443"
    text = _text(value, expected)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"expected {expected}") from None
    if parts.scheme != "https":
        raise ValueError("must be https: the API server is reached over TLS only")
    if (
        "@" in text
        or parts.path not in ("", "/")
        or "?" in text
        or "#" in text
        or "\\" in text
        or " " in text
    ):
        raise ValueError(f"expected {expected}")
    host = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
    if port == 0 or host.endswith(":"):
        raise ValueError(f"expected {expected}")
    return Server(_host(host), port or 443)


UpstreamServer = Annotated[Server, BeforeValidator(_server)]


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificates that a connection's peer must chain to, and where they came from."""

    source: str
    pem: bytes = field(repr=False)
    certificates: tuple[x509.Certificate, ...]


def _authority(pem: bytes, source: str) -> Authority:
    try:
        return Authority(source, pem, tuple(x509.load_pem_x509_certificates(pem)))
    except ValueError:
        raise ValueError(f"{source} holds no certificate in PEM (BEGIN CERTIFICATE)") from None


def _authority_file(value: object, info: ValidationInfo) -> Authority:
    path = _path(value, info)
    return _authority(_content(path), str(path))


def _authority_data(value: object) -> Authority:
    try:
        pem = base64.b64decode(_text(value, "base64 of PEM, as in a kubeconfig"), validate=True)
    except binascii.Error:
        raise ValueError("expected base64 of PEM, as in a kubeconfig") from None
    return _authority(pem, "the decoded data")


AuthorityFile = Annotated[Authority, BeforeValidator(_authority_file)]
AuthorityData = Annotated[Authority, BeforeValidator(_authority_data)]


def _key_set(value: object, info: ValidationInfo) -> bytes:
    path = _path(value, info)
    content = _content(path)
    try:
        parse_keys(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected a JWK set (RFC 7517)") from None
    return content


def _refuse_unbuilt(_: object) -> NoReturn:
    raise ValueError("is not built yet; this version cannot do it, so it refuses it: remove the key")


NotBuilt = Annotated[None, BeforeValidator(_refuse_unbuilt)]


def _built_act(value: object) -> object:
    if value == "serviceAccount":
        raise ValueError("serviceAccount is not built yet; use impersonate or none")
    return value


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


def _cluster_name(value: object) -> str:
    name = _text(value, "a name in lower-case letters, digits, - and .")
    if not _NAME.fullmatch(name):
        raise ValueError("expected a name in lower-case letters, digits, - and ., at most 63 characters")
    if name == CONSOLE:
        raise ValueError(f"{CONSOLE!r} is the audience of console tokens; choose another name")
    return name


Name = Annotated[str, BeforeValidator(_cluster_name)]


def _non_empty(value: object) -> str:
    return _text(value, "text, not empty")


Text = Annotated[str, BeforeValidator(_non_empty)]


class Listen(Strict):
    """Where agents come in, and where people and token exchanges do."""

    proxy: ListenAddress = Address("127.0.0.1", 8080)
    console: ListenAddress = Address("127.0.0.1", 8090)


class Credential(Strict):
    """The gateway's own credential for a cluster, from exactly one place."""

    kubeconfig: FilePath | None = None
    context: Text | None = None
    token_file: FilePath | None = None
    client_certificate: FilePath | None = None
    client_key: FilePath | None = None

    _upstream: UpstreamCredential = PrivateAttr()

    @model_validator(mode="after")
    def _resolve(self) -> Credential:
        ways = [self.kubeconfig, self.token_file, self.client_certificate or self.client_key]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("expected one of: kubeconfig, tokenFile, or clientCertificate with clientKey")
        if self.context is not None and self.kubeconfig is None:
            raise Fault("belongs to kubeconfig; remove it", "context")
        if self.kubeconfig is not None:
            upstream = from_kubeconfig(self.kubeconfig, self.context)
        elif self.token_file is not None:
            upstream = TokenFile(self.token_file)
        elif self.client_certificate is None or self.client_key is None:
            raise ValueError("clientCertificate and clientKey go together; give both")
        else:
            upstream = ClientCertificate(
                self.client_certificate, self.client_key, str(self.client_certificate)
            )
        self._upstream = upstream
        return self

    @property
    def upstream(self) -> UpstreamCredential:
        """The credential itself."""
        return self._upstream

    def bearer(self) -> str | None:
        """The token to send, or None. Raises CredentialError when its file can no longer be used."""
        return self._upstream.bearer()

    def certificate(self) -> ClientIdentity | None:
        """What TLS presents, or None. Raises CredentialError when its files can no longer be used."""
        return self._upstream.certificate()


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """For one upstream connection: whom to trust, and what to present. `fingerprint` changes when either does."""

    fingerprint: str
    authorities: tuple[x509.Certificate, ...]
    client: tuple[tuple[x509.Certificate, ...], Any] | None


class Cluster(Strict):
    """One Kubernetes cluster: its only address, whom to trust there, and who the gateway is there."""

    name: Name
    server: UpstreamServer
    certificate_authority: AuthorityFile | None = None
    certificate_authority_data: AuthorityData | None = None
    reverse: ListenAddress | None = None
    credential: Credential
    act_as: Annotated[Literal["impersonate", "none"], BeforeValidator(_built_act)] = "impersonate"

    @model_validator(mode="after")
    def _one_authority(self) -> Cluster:
        if (self.certificate_authority is None) == (self.certificate_authority_data is None):
            raise Fault(
                "expected one of: certificateAuthority, certificateAuthorityData", "certificateAuthority"
            )
        return self

    @property
    def authority(self) -> Authority:
        """What the API server's certificate must chain to."""
        authority = self.certificate_authority or self.certificate_authority_data
        assert authority is not None
        return authority

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API server: what agents CONNECT to, and the only place that is connected to."""
        return self.server.host, self.server.port

    @property
    def host_header(self) -> str:
        """The Host header for requests to it."""
        return self.server.authority

    def tls_material(self) -> TlsMaterial:
        """Trust and client certificate for one connection. Raises CredentialError if a file went bad."""
        identity = self.credential.certificate()
        digest = hashlib.sha256(self.authority.pem).hexdigest()
        if identity is None:
            return TlsMaterial(digest, self.authority.certificates, None)
        return TlsMaterial(
            f"{digest}+{identity.digest}", self.authority.certificates, (identity.chain, identity.key)
        )


class OpenIdProvider(Strict):
    """An OpenID provider whose identity tokens open sessions."""

    issuer: Text
    audience: Text
    username_claim: Text = "sub"
    groups_claim: Text = "groups"
    username_prefix: Text | None = None
    groups_prefix: Text | None = None
    agent_claim: Text | None = None
    owner_claim: Text | None = None
    authorized_parties: tuple[Text, ...] = ()
    required_claims: dict[Text, Plain] = Field(default_factory=dict)
    certificate_authority: AuthorityFile | None = None
    jwks: Annotated[bytes, BeforeValidator(_key_set)] | None = Field(None, repr=False)

    _accepted: Issuer = PrivateAttr()

    @model_validator(mode="after")
    def _accept(self) -> OpenIdProvider:
        try:
            self._accepted = Issuer(
                issuer=self.issuer,
                audience=self.audience,
                username_claim=self.username_claim,
                groups_claim=self.groups_claim,
                username_prefix=self.username_prefix or "",
                groups_prefix=self.groups_prefix or "",
                agent_claim=self.agent_claim,
                owner_claim=self.owner_claim,
                authorized_parties=self.authorized_parties,
                required_claims=MappingProxyType(dict(self.required_claims)),
                certificate_authority=self.certificate_authority.pem if self.certificate_authority else None,
                jwks=self.jwks,
            )
        except ValueError as error:
            raise Fault(str(error), "issuer") from None
        return self

    @property
    def accepted(self) -> Issuer:
        """The provider, as `identity.oidc` verifies against it."""
        return self._accepted


class Identity(Strict):
    """Who may open sessions."""

    oidc: Annotated[tuple[OpenIdProvider, ...], Field(min_length=1)]
    saml: NotBuilt = None


def _client_address(value: object) -> str | tuple[str, ...]:
    expected = "any, same, or a list of networks such as [10.0.0.0/8]"
    if type(value) is str and value in (ANY, SAME):
        return value
    if not isinstance(value, tuple) or not value:
        raise ValueError(f"expected {expected}")
    try:
        return tuple(str(ipaddress.ip_network(_text(network, expected))) for network in value)
    except ValueError:
        raise ValueError(f"expected {expected}, each without bits below its prefix") from None


class Sessions(Strict):
    """How long a session lives, and from where it may be used."""

    ttl: Duration = timedelta(minutes=15)
    idle: Duration = timedelta(minutes=10)
    max: Duration = timedelta(hours=8)
    client_address: Annotated[str | tuple[str, ...], BeforeValidator(_client_address)] = ANY
    accept_identity_tokens: bool = False

    @model_validator(mode="after")
    def _within_max(self) -> Sessions:
        for name, value in (("ttl", self.ttl), ("idle", self.idle)):
            if value > self.max:
                raise Fault(f"must not be longer than sessions.max ({self.max})", name)
        return self


class Directory(Strict):
    """A directory that the gateway keeps something in; made at start if it is not there."""

    directory: FilePath

    @model_validator(mode="after")
    def _is_directory(self) -> Directory:
        if self.directory.exists() and not self.directory.is_dir():
            raise Fault(f"{self.directory} is not a directory", "directory")
        return self


_STATE = "sqlite:///FILE or postgresql+psycopg://HOST/DATABASE"


def _state(value: object, info: ValidationInfo) -> str:
    """A database URL; SQLite's file becomes absolute. Never shown in a problem: it may hold a password."""
    url = _text(value, _STATE)
    if url.startswith("sqlite:///"):
        file = url.removeprefix("sqlite:///")
        if not file or file.startswith(":") or re.search(r"[?#%]", file):
            raise ValueError("sqlite needs a file and nothing else, such as sqlite:///state.db")
        return f"sqlite:///{_path(file, info)}"
    if url.startswith("postgresql+psycopg://") and urlsplit(url).hostname:
        return url
    raise ValueError(f"expected {_STATE}")


def _ready_file(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is not a directory; create it first")
    return path


def _beside(words: object) -> Any:
    """A default in the file's own words, so that its path too is relative to the file."""
    return Field(words, validate_default=True, repr=False)


class Gateway(Strict):
    """The whole configuration. Made by `load` alone."""

    api_version: Literal["interlock/v1"]
    kind: Literal["Gateway"]
    listen: Listen = Listen()
    clusters: Annotated[tuple[Cluster, ...], Field(min_length=1)]
    identity: Identity
    sessions: Sessions = Sessions()
    policies: Annotated[tuple[ExistingPath, ...], Field(min_length=1)]
    masking: NotBuilt = None
    evidence: Directory = _beside({"directory": "evidence"})
    state: Annotated[str, BeforeValidator(_state)] = _beside("sqlite:///state.db")
    authority: Directory = _beside({"directory": "certs"})
    ready_file: Annotated[FilePath, AfterValidator(_ready_file)] | None = None

    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self._path


def load(path: Path | str) -> Gateway:
    """The configuration in the YAML file at `path`.

    Raises DocumentError with every problem of the file: one line each, with line and column.
    """
    path = Path(path)
    documents = read(path)
    document = documents[0]
    problems = [d.problem((), "a second document; a gateway's file has one") for d in documents[1:]]
    for at, key in ((("clusters",), "name"), (("identity", "oidc"), "issuer")):
        problems.extend(document.duplicates(at, key))
    gateway, found = document.validate(Gateway, {"directory": path.absolute().parent})
    problems.extend(found)
    if gateway is not None:
        problems.extend(document.problem(at, message) for at, message in _clashes(gateway))
    if gateway is None or problems:
        raise DocumentError(problems)
    gateway._path = path
    return gateway


def _clashes(gateway: Gateway) -> Iterator[tuple[Loc, str]]:
    """What is wrong between parts of the file that are each right."""
    if not gateway.listen.console.is_loopback:
        message = "TLS on the console is not built yet, and tokens pass here; use a loopback address"
        yield ("listen", "console"), f"{message} such as 127.0.0.1:8090"
    listeners: list[tuple[Loc, Address]] = [
        (("listen", "proxy"), gateway.listen.proxy),
        (("listen", "console"), gateway.listen.console),
    ]
    listeners += [
        (("clusters", i, "reverse"), c.reverse) for i, c in enumerate(gateway.clusters) if c.reverse
    ]
    for i, (at, address) in enumerate(listeners):
        for other, earlier in listeners[:i]:
            if address.port and address.port == earlier.port and _same_host(address.host, earlier.host):
                yield at, f"the same address as {dotted(other)}; give each its own port"
    servers: dict[Server, str] = {}
    for i, cluster in enumerate(gateway.clusters):
        if servers.setdefault(cluster.server, cluster.name) != cluster.name:
            message = f"the same server as cluster {servers[cluster.server]}; each has its own"
            yield ("clusters", i, "server"), message
        for at, address in listeners:
            if address.port == cluster.server.port and _reaches(cluster.server.host, address.host):
                message = f"leads to the gateway's own listener ({dotted(at)}); name the API server"
                yield ("clusters", i, "server"), message


_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound


def _same_host(a: str, b: str) -> bool:
    if a == b or _WILDCARDS & {a, b}:
        return True
    return "localhost" in (a, b) and _is_loopback(a) and _is_loopback(b)


def _reaches(server: str, listener: str) -> bool:
    """Whether a connection to `server` ends at `listener`, as far as the names themselves tell."""
    return _same_host(server, listener) if listener not in _WILDCARDS else _is_loopback(server)
