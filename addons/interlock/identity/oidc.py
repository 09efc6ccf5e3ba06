"""OpenID Connect identity tokens: from the token's text to a `Principal`, or the check that it failed.

In: a JWT, the configured issuers, a clock, and an async `fetch` for what issuers publish. Out: `Verified`;
or `TokenRefused`, naming the check; or `ProviderAway`, if the keys cannot be had.

The rules. Nothing in a token chooses where a key comes from: `jku`, `x5u`, `jwk` and `x5c` in its header are
not read, its `iss` only selects among the configured issuers, and only that issuer's own discovery or key
file is asked. Nothing in it chooses how it is checked: the algorithm must be one of `ALGORITHMS`, each bound
to one kind of key. No claim is believed before the signature is.

Sources: OpenID Connect Core 1.0 §3.1.3.7, Discovery 1.0 §4, RFC 7515, 7517, 7519, 8725 (best practices).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import jwt
import orjson
from jwt.algorithms import Algorithm, get_default_algorithms

from interlock.identity.principal import MISSING, BadPrincipal, Principal, claim
from interlock.identity.sessions import ProviderAway

LEEWAY: Final = 30.0
"""How far (seconds) the provider's clock and ours may differ."""
MAX_TOKEN: Final = 16 * 1024
KEYS_SECONDS: Final = 300.0
"""For how long an issuer's keys are believed without asking again: a withdrawn key is felt after this."""
REFETCHES: Final = 5
REFETCH_WINDOW: Final = 60.0
"""How often unknown keys make us ask an issuer again: `REFETCHES` times in `REFETCH_WINDOW` seconds."""
RETRY_SECONDS: Final = 1.0
"""How long an issuer that failed is left alone."""
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048


class KeyKind(NamedTuple):
    kty: str
    crv: str | None


# RFC 7518 §3.1 and RFC 8037; what is not in this table (none, HS*, ES256K, Ed448) is refused.
ALGORITHMS: Final[dict[str, KeyKind]] = {
    "RS256": KeyKind("RSA", None),
    "RS384": KeyKind("RSA", None),
    "RS512": KeyKind("RSA", None),
    "PS256": KeyKind("RSA", None),
    "PS384": KeyKind("RSA", None),
    "PS512": KeyKind("RSA", None),
    "ES256": KeyKind("EC", "P-256"),
    "ES384": KeyKind("EC", "P-384"),
    "ES512": KeyKind("EC", "P-521"),
    "EdDSA": KeyKind("OKP", "Ed25519"),
}
_IMPLEMENTED: Final[dict[str, Algorithm]] = {name: get_default_algorithms()[name] for name in ALGORITHMS}

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Fetch = Callable[[str, bytes | None], Awaitable[bytes]]
"""GET of a URL, trusting only the given CA certificates (PEM; None: the system's). Raises `ProviderAway`."""


class TokenRefused(Exception):
    """An identity token was not accepted.

    reason: one line for the operator, with what was expected; never the token. verified: whether the
    signature was good; only then may the caller hear the reason.
    """

    def __init__(self, reason: str, *, verified: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.verified = verified


@dataclass(frozen=True, slots=True)
class Issuer:
    """An OpenID provider whose tokens are accepted, and how its claims are read.

    issuer: the exact `iss`; https, or http on loopback. audience: our client id there. Claims are names or
    dotted paths (`realm_access.roles`; a claim whose own name has dots is found too). prefixes are put before
    the names, so that two providers, or a provider and Kubernetes, cannot give out the same one.
    authorized_parties: clients whose tokens are accepted although they are meant for several audiences (`azp`).
    required_claims: path to the exact value it must have. certificate_authority: PEM. jwks: a key set (JSON)
    to be used in place of the provider's, which then is never asked.

    Raises ValueError for a URL that cannot be an issuer.
    """

    issuer: str
    audience: str
    username_claim: str = "sub"
    groups_claim: str | None = "groups"
    username_prefix: str = ""
    groups_prefix: str = ""
    agent_claim: str | None = None
    owner_claim: str | None = None
    authorized_parties: tuple[str, ...] = ()
    required_claims: Mapping[str, str | bool | int] = field(default_factory=dict)
    certificate_authority: bytes | None = None
    jwks: bytes | None = None

    def __post_init__(self) -> None:
        check_url("issuer", self.issuer)
        if not self.audience:
            raise ValueError("audience is empty; expected the client id that tokens are issued for")


def check_url(what: str, url: str, *, loopback_http: bool = True) -> None:
    """Raise ValueError unless `url` is https (or http on loopback) without user, query or fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError(f"{what} is not a URL") from None
    if (
        not host
        or "@" in parts.netloc
        or "?" in url
        or "#" in url
        or not url.isascii()
        or not url.isprintable()
    ):
        raise ValueError(f"{what} must be a plain https URL without user, query or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback_http and host in LOOPBACK):
        raise ValueError(f"{what} must be https; http is accepted on loopback only")


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that holds. until: for how long (Unix seconds): its own end and the leeway."""

    principal: Principal
    until: float


# ------------------------------------------------------------------------------------------ the token


class _Repeated(ValueError):
    pass


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated
    return found


def _no_constant(_: str) -> None:
    raise ValueError


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError
    return number


def _json_object(what: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_float=_finite
        )
        # What is kept of it is written again: no half characters, no endless numbers, no bottomless nesting.
        orjson.dumps(value)
    except _Repeated:
        raise TokenRefused(f"the token's {what} has a repeated key") from None
    except (ValueError, TypeError, RecursionError):
        raise TokenRefused(f"the token's {what} is not JSON of plain values") from None
    if not isinstance(value, dict):
        raise TokenRefused(f"the token's {what} is not a JSON object")
    return value


def _base64url(what: str, text: str) -> bytes:
    # The one canonical spelling: no padding, no other alphabet, no stray bits at the end.
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenRefused(f"the token's {what} is not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise TokenRefused(f"the token's {what} is not canonical base64url")
    return raw


@dataclass(frozen=True, slots=True)
class _Unverified:
    algorithm: str
    kid: str | None
    issuer: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def _read(token: str) -> _Unverified:
    """Take a token apart. Of what is returned, nothing is believed yet."""
    if len(token) > MAX_TOKEN:
        raise TokenRefused(f"the token has {len(token)} characters, at most {MAX_TOKEN} are read")
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise TokenRefused("the token is not a signed JWT (three parts, separated by dots)")
    header = _json_object("header", _base64url("header", parts[0]))
    claims = _json_object("payload", _base64url("payload", parts[1]))
    signature = _base64url("signature", parts[2])
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused(
            f"algorithm {_show(algorithm)} is not accepted; expected one of {', '.join(ALGORITHMS)}"
        )
    for name in ("crit", "b64", "zip", "enc"):
        if name in header:
            raise TokenRefused(f"the token's header has {name!r}, which changes how it would have to be read")
    typ = header.get("typ")
    if typ is not None and (not isinstance(typ, str) or typ.upper() != "JWT"):
        # RFC 8725 §3.11: an access token (at+jwt), logout token or the like is not an identity token.
        raise TokenRefused(f"the token is of type {_show(typ)}, expected JWT")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise TokenRefused("the token's key id is not a string")
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise TokenRefused("the token names no issuer")
    return _Unverified(algorithm, kid, issuer, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def _show(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


# ------------------------------------------------------------------------------------------- the keys


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of an issuer, for the algorithms of its kind (or only `algorithm`)."""

    kid: str | None
    kind: KeyKind
    algorithm: str | None
    public: Any

    def fits(self, algorithm: str) -> bool:
        return self.kind == ALGORITHMS[algorithm] and self.algorithm in (None, algorithm)


def parse_keys(raw: bytes) -> tuple[Key, ...]:
    """The signature keys of a JWK set (RFC 7517). Keys of other kinds and uses are left out.

    Raises ValueError, in one line, if the set cannot be read, is empty of usable keys, or shows a private key.
    """
    try:
        document = json.loads(raw, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError):
        raise ValueError("the key set is not JSON, or has repeated keys") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(f"the key set needs a list `keys` of at most {MAX_KEYS} keys")
    keys = tuple(key for entry in entries if (key := _key(entry)) is not None)
    if not keys:
        raise ValueError("the key set has no key that could verify a signature")
    return keys


def _key(entry: object) -> Key | None:
    if not isinstance(entry, dict):
        return None
    kty, crv, kid, algorithm = (entry.get(name) for name in ("kty", "crv", "kid", "alg"))
    kind = KeyKind(kty, crv if kty != "RSA" else None) if isinstance(kty, str) else None
    usable = [name for name, needed in ALGORITHMS.items() if needed == kind and algorithm in (None, name)]
    if kind is None or not usable or (kid is not None and not isinstance(kid, str)):
        return None
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if "d" in entry:
        raise ValueError("the key set shows a private key; anybody could sign with it")
    try:
        public = _IMPLEMENTED[usable[0]].from_jwk(entry)
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if kind.kty == "RSA" and public.key_size < MIN_RSA_BITS:
        return None
    return Key(kid, kind, algorithm, public)


def verify_signature(
    keys: Sequence[Key], algorithm: str, kid: str | None, signed: bytes, signature: bytes
) -> bool:
    """Whether one of the keys that may (by id, kind and algorithm) made `signature` over `signed`."""
    return any(
        _IMPLEMENTED[algorithm].verify(signed, key.public, signature)
        for key in keys
        if key.fits(algorithm) and (kid is None or key.kid == kid)
    )


class Keys:
    """One issuer's keys: from its key file, or by discovery, remembered for `KEYS_SECONDS`."""

    def __init__(self, issuer: Issuer, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._monotonic = monotonic
        self._asked: deque[float] = deque(maxlen=REFETCHES)
        self._lock = asyncio.Lock()
        self._keys: tuple[Key, ...] = ()
        self._until = -math.inf
        self._retry_at = -math.inf
        self._failure = ""
        if issuer.jwks is not None:
            self._keys = parse_keys(issuer.jwks)
            self._until = math.inf

    async def candidates(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """Keys that may have signed; empty if the issuer has none such. An unknown `kid` is asked for again.

        Raises `ProviderAway` if they had to be asked for and could not be had.
        """
        if self._monotonic() < self._until and (found := self._matching(algorithm, kid)):
            return found
        if self._until == math.inf:
            return ()
        async with self._lock:
            # Somebody else may have asked while this one waited.
            if self._monotonic() < self._until and (found := self._matching(algorithm, kid)):
                return found
            now = self._monotonic()
            if now < self._until:
                if len(self._asked) == REFETCHES and now - self._asked[0] < REFETCH_WINDOW:
                    return ()
                self._asked.append(now)
            elif now < self._retry_at:
                raise ProviderAway(self._failure)
            try:
                self._keys = await self._ask()
            except ProviderAway as away:
                self._retry_at, self._failure = now + RETRY_SECONDS, away.reason
                raise
            self._until = now + KEYS_SECONDS
            return self._matching(algorithm, kid)

    def _matching(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        return tuple(key for key in self._keys if key.fits(algorithm) and (kid is None or key.kid == kid))

    async def _ask(self) -> tuple[Key, ...]:
        issuer = self._issuer
        where = issuer.issuer.removesuffix("/") + "/.well-known/openid-configuration"
        raw = await self._fetch(where, issuer.certificate_authority)
        try:
            found = json.loads(raw, object_pairs_hook=_no_repeats)
        except (ValueError, RecursionError):
            raise ProviderAway(f"{where} is not JSON") from None
        if not isinstance(found, dict) or found.get("issuer") != issuer.issuer:
            # Discovery 1.0 §4.3: must be identical.
            named = _show(found.get("issuer")) if isinstance(found, dict) else "nothing"
            raise ProviderAway(f"{where} names the issuer {named}, expected {issuer.issuer!r}")
        url = found.get("jwks_uri")
        try:
            if not isinstance(url, str):
                raise ValueError("jwks_uri is missing")
            check_url("jwks_uri", url.partition("?")[0], loopback_http=issuer.issuer.startswith("http:"))
            return parse_keys(await self._fetch(url, issuer.certificate_authority))
        except ValueError as error:
            raise ProviderAway(f"{issuer.issuer}: {error}") from None


# ----------------------------------------------------------------------------------------- the claims


def check_claims(issuer: Issuer, claims: Mapping[str, Any], now: float) -> Verified:
    """The principal that a token with a good signature speaks for. Raises `TokenRefused` (verified)."""
    try:
        until = _check_times(claims, now)
        _check_audience(issuer, claims)
        if "events" in claims:
            # RFC 8417, and OpenID Connect Back-Channel Logout §2.4: such a token is nobody's identity.
            raise TokenRefused("the token reports an event (a logout token?), expected an identity token")
        for path, expected in issuer.required_claims.items():
            found = claim(claims, path)
            if type(found) is not type(expected) or found != expected:
                shown = "missing" if found is MISSING else _show(found)
                raise TokenRefused(f"claim {path} is {shown}, expected {_show(expected)}")
        return Verified(_principal(issuer, claims), until)
    except BadPrincipal as bad:
        raise TokenRefused(f"{bad.reason} (usernamePrefix, groupsPrefix)", verified=True) from None
    except TokenRefused as refused:
        raise TokenRefused(refused.reason, verified=True) from None


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise TokenRefused(f"claim {name} is {_show(value)}, expected seconds since 1970")
    return float(value)


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    expires, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None or issued is None:
        raise TokenRefused(f"the token has no {'exp' if expires is None else 'iat'} claim")
    if now >= expires + LEEWAY:
        raise TokenRefused(f"the token expired {now - expires:.0f} s ago; get a fresh one")
    if begins is not None and now < begins - LEEWAY:
        raise TokenRefused(f"the token is not valid for another {begins - now:.0f} s; check the clocks")
    if now < issued - LEEWAY:
        raise TokenRefused(f"the token was issued {issued - now:.0f} s in the future; check the clocks")
    return expires + LEEWAY


def _check_audience(issuer: Issuer, claims: Mapping[str, Any]) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        raise TokenRefused(f"claim aud is {_show(audience)}, expected a string or a list of strings")
    if issuer.audience not in audiences:
        raise TokenRefused(
            f"token from issuer {issuer.issuer} has audience {_show(audience)}, expected {issuer.audience!r}"
        )
    party = claims.get("azp")
    if len(audiences) > 1 and party not in (issuer.audience, *issuer.authorized_parties):
        raise TokenRefused(
            f"the token is for several audiences and its azp is {_show(party)}, expected {issuer.audience!r}"
        )


def _principal(issuer: Issuer, claims: Mapping[str, Any]) -> Principal:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 256:
        raise TokenRefused("claim sub is missing, or not a string of 1 to 256 characters")
    return Principal(
        user=issuer.username_prefix + _user(issuer, claims),
        groups=tuple(issuer.groups_prefix + group for group in _groups(issuer, claims)),
        issuer=issuer.issuer,
        subject=subject,
        agent=_optional(claims, issuer.agent_claim),
        owner=_optional(claims, issuer.owner_claim),
        claims=claims,
    )


def _user(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    user = claim(claims, issuer.username_claim)
    if not isinstance(user, str) or not user:
        raise TokenRefused(f"claim {issuer.username_claim} (the user name) is missing or not a string")
    if issuer.username_claim == "email" and claims.get("email_verified", True) is not True:
        # As kube-apiserver does: anybody may claim an address that was not verified.
        raise TokenRefused("the email address is the user name, and email_verified is not true")
    return user


def _groups(issuer: Issuer, claims: Mapping[str, Any]) -> list[str]:
    path = issuer.groups_claim
    if path is None:
        return []
    found = claim(claims, path)
    elsewhere = claims.get("_claim_names", {})
    pointed = isinstance(elsewhere, dict) and not elsewhere.keys().isdisjoint((path, path.partition(".")[0]))
    if pointed or (claims.get("hasgroups", False) is not False and found is MISSING):
        raise TokenRefused(
            f"the token has too many groups to list them and points elsewhere for claim {path} "
            "(groups overage); let the provider send only the groups that are assigned to this application"
        )
    if found is MISSING:
        return []
    groups = [found] if isinstance(found, str) else found
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise TokenRefused(f"claim {path} (the groups) is {_show(found)}, expected a string or strings")
    return groups


def _optional(claims: Mapping[str, Any], path: str | None) -> str | None:
    found = MISSING if path is None else claim(claims, path)
    if found is MISSING:
        return None
    if not isinstance(found, str):
        raise TokenRefused(f"claim {path} is {_show(found)}, expected a string")
    return found


# --------------------------------------------------------------------------------------- the verifier


class Verifier:
    """Checks identity tokens of the configured issuers.

    clock: Unix seconds; monotonic: seconds. Raises ValueError if two issuers are the same, or a key file
    cannot be used.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        fetch: Fetch,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        if len(self._issuers) != len(issuers):
            raise ValueError("an issuer is configured twice")
        self._keys = {issuer.issuer: Keys(issuer, fetch, monotonic) for issuer in issuers}

    async def verify(self, token: str) -> Verified:
        """Who `token` speaks for. Raises `TokenRefused`, or `ProviderAway` if its issuer's keys cannot be had."""
        read = _read(token)
        issuer = self._issuers.get(read.issuer)
        if issuer is None:
            raise TokenRefused(f"token from issuer {_show(read.issuer)}, which is not configured")
        keys = await self._keys[issuer.issuer].candidates(read.algorithm, read.kid)
        if not keys:
            raise TokenRefused(
                f"issuer {issuer.issuer} has no {read.algorithm} key"
                + (f" with id {_show(read.kid)}" if read.kid is not None else "")
            )
        if not verify_signature(keys, read.algorithm, read.kid, read.signed, read.signature):
            raise TokenRefused(f"the signature does not verify with the keys of {issuer.issuer}")
        return check_claims(issuer, read.claims, self._clock())
