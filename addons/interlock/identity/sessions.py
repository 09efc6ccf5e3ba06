"""Sessions: what an agent holds instead of a cluster credential. Their states are one table.

    requested ──open──▶ active ──expire──▶ expired
                          │ ────revoke──▶ revoked
                          └─────end─────▶ ended        (requested may go to each of these too)

In: values and a clock's reading. Out: values, or `NoSession`. Nothing here reads a clock, a file or a
socket, and nothing but `TRANSITIONS` says which state may follow which.

The rule: there is no way back from `expired`, `revoked` or `ended`, and only `active` is let through.

A session is one principal's access to one cluster. It ends when it was not used for `idle`, in any case at
`ends_at`, or when somebody ends it. Its tokens live shorter and are replaced; streams live with the
session, not with the token. All times are Unix seconds.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from interlock.identity.principal import Principal

CONSOLE: Final = "console"
"""The audience of tokens for the console's API; no cluster may have this name."""


class SessionState(StrEnum):
    REQUESTED = "requested"
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ENDED = "ended"


class SessionEvent(StrEnum):
    OPEN = "open"
    USE = "use"
    RENEW = "renew"
    EXPIRE = "expire"
    REVOKE = "revoke"
    END = "end"


TRANSITIONS: Final[dict[tuple[SessionState, SessionEvent], SessionState]] = {
    (SessionState.REQUESTED, SessionEvent.OPEN): SessionState.ACTIVE,
    (SessionState.REQUESTED, SessionEvent.EXPIRE): SessionState.EXPIRED,
    (SessionState.REQUESTED, SessionEvent.REVOKE): SessionState.REVOKED,
    (SessionState.REQUESTED, SessionEvent.END): SessionState.ENDED,
    (SessionState.ACTIVE, SessionEvent.USE): SessionState.ACTIVE,
    (SessionState.ACTIVE, SessionEvent.RENEW): SessionState.ACTIVE,
    (SessionState.ACTIVE, SessionEvent.EXPIRE): SessionState.EXPIRED,
    (SessionState.ACTIVE, SessionEvent.REVOKE): SessionState.REVOKED,
    (SessionState.ACTIVE, SessionEvent.END): SessionState.ENDED,
}

FINAL: Final = frozenset(SessionState) - {state for state, _ in TRANSITIONS}

END_REASONS: Final[dict[SessionState, tuple[str, ...]]] = {
    SessionState.EXPIRED: ("idle", "max"),
    SessionState.REVOKED: ("revoked",),
    SessionState.ENDED: ("logout", "closed"),
}
"""Why a session is over, by the state that it is in then. The first word is what is assumed if none is said."""


def after(state: SessionState, event: SessionEvent) -> SessionState | None:
    """The state that `event` leads to from `state`; None if it leads nowhere."""
    return TRANSITIONS.get((state, event))


def sources(event: SessionEvent) -> tuple[SessionState, ...]:
    """The states in which `event` is possible."""
    return tuple(state for state, possible in TRANSITIONS if possible is event)


class NoSession(Exception):
    """The bearer has no session to act in: 401.

    reason: one line for the agent, with what to do next; holds no token. session_id: whose session it was,
    if the token was one of ours (then the reason may be told: its holder had the real token).
    """

    def __init__(self, reason: str, *, session_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.session_id = session_id


class Away(Exception):
    """Something that an answer needs cannot be reached: 503, whatever was asked. `reason` is one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StateAway(Away):
    """The state database cannot be read or written."""


class ProviderAway(Away):
    """The identity provider cannot be reached, or what it publishes cannot be used."""


class RecordAway(Away):
    """The evidence cannot be written, so nothing may happen that it would have to tell."""


# ---------------------------------------------------------------------------------------------- tokens

PREFIX: Final = "ilk_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES: Final = 24
_RANDOM_CHARS: Final = 33  # 62**33 > 2**192
_CHECK_CHARS: Final = 6  # 62**6 > 2**32
TOKEN_LENGTH: Final = len(PREFIX) + _RANDOM_CHARS + _CHECK_CHARS

Random = Callable[[int], bytes]
"""`os.urandom`, or what a test puts in its place: n -> n bytes."""


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def new_token(random: Random) -> str:
    """A fresh session token: `ilk_`, 192 random bits in base62, and a CRC-32 of what stands before it.

    The prefix and the checksum let secret scanners find one, and let a mistyped one be told from a wrong one.
    """
    body = PREFIX + _base62(int.from_bytes(random(_RANDOM_BYTES)), _RANDOM_CHARS)
    return body + _check(body)


def is_token(text: str) -> bool:
    """Whether `text` has the form of a session token; says nothing of whether one was ever given out."""
    return (
        len(text) == TOKEN_LENGTH
        and text.startswith(PREFIX)
        and text.isascii()
        and text[len(PREFIX) :].isalnum()
        and _check(text[:-_CHECK_CHARS]) == text[-_CHECK_CHARS:]
    )


def token_hash(token: str) -> bytes:
    """What is stored of a session token: SHA-256 (32 bytes). 192 random bits need no slower hash."""
    return hashlib.sha256(token.encode()).digest()


def identity_hash(token: str, cluster: str) -> bytes:
    """What is stored of an identity token that is itself the bearer for `cluster` (32 bytes).

    One identity token may open a session on each of several clusters, so the cluster is part of it.
    """
    return hashlib.sha256(f"{cluster}\n{token}".encode()).digest()


# ------------------------------------------------------------------------------------ client addresses

ANY: Final = "any"
SAME: Final = "same"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; an IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.

    Raises ValueError.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def address_rule(rule: str | Sequence[str], opened_from: str) -> tuple[str, ...]:
    """The networks that a session opened from `opened_from` may be used from; empty: any.

    rule: `any`, `same` (only the address that opened it), or a list of networks in CIDR form.
    Raises `NoSession` if the session may not even be opened from there, ValueError for a rule that is none
    of these.
    """
    if rule == ANY:
        return ()
    if rule == SAME:
        return (str(ipaddress.ip_network(parse_address(opened_from))),)
    if isinstance(rule, str) or not rule:
        raise ValueError("clientAddress is `any`, `same` or a list of networks such as 10.0.0.0/8")
    networks = tuple(str(ipaddress.ip_network(network)) for network in rule)
    if not in_networks(networks, opened_from):
        raise NoSession("this address may not open a session; ask the operator about `clientAddress`")
    return networks


@functools.lru_cache(maxsize=1024)
def in_networks(networks: tuple[str, ...], address: str) -> bool:
    """Whether `address` lies in one of `networks`; what cannot be parsed lies in none."""
    try:
        client = parse_address(address)
    except ValueError:
        return False
    return any(client in ipaddress.ip_network(network) for network in networks)


# -------------------------------------------------------------------------------------------- sessions

MASK_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Session:
    """One principal's access to one cluster.

    addresses: networks that it may be used from, empty for any. last_used_at: may lag by a tenth of
    `idle_seconds`, since use is not written for every request. ends_at: never later, whatever is renewed.
    mask_key: 32 random bytes that key this session's masks; they lie in the state database as they are,
    since every gateway process needs them (SQLite's file is 0600), and are erased there when the session
    ends.
    """

    id: str
    state: SessionState
    principal: Principal
    cluster: str
    addresses: tuple[str, ...]
    opened_from: str
    opened_at: float
    last_used_at: float
    idle_seconds: float
    ends_at: float
    mask_key: bytes = field(repr=False)
    ended_at: float | None = None
    end_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A token's session and the end of that token, which may come before the session's."""

    session: Session
    token_expires_at: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things live, in seconds: a token, a session that is not used, a session at all."""

    ttl: float = 15 * 60
    idle: float = 10 * 60
    max: float = 8 * 3600

    def __post_init__(self) -> None:
        if not (1 <= self.ttl <= self.max and 1 <= self.idle <= self.max):
            raise ValueError("sessions: ttl and idle must be at least 1s and not longer than max")


def new_session(
    principal: Principal,
    cluster: str,
    *,
    limits: Limits,
    addresses: tuple[str, ...],
    opened_from: str,
    now: float,
    random: Random,
) -> Session:
    """A session in state `active` that begins now, with an id and a mask key of its own."""
    return Session(
        id=str(uuid.UUID(bytes=random(16), version=4)),
        state=SessionState.ACTIVE,
        principal=principal,
        cluster=cluster,
        addresses=addresses,
        opened_from=opened_from,
        opened_at=now,
        last_used_at=now,
        idle_seconds=limits.idle,
        ends_at=now + limits.max,
        mask_key=random(MASK_KEY_BYTES),
    )


def token_expiry(session: Session, ttl: float, now: float) -> float:
    """When a token that is given out now ends: after `ttl`, and never after its session."""
    return min(now + ttl, session.ends_at)


def expiry(session: Session, now: float) -> str | None:
    """Why the clock alone ends this session ("idle" or "max"); None while it does not.

    A clock that was set back to before the session began says nothing for it: that counts as its end.
    """
    if now >= session.ends_at or now < session.opened_at - CLOCK_BACK:
        return "max"
    if now - session.last_used_at >= session.idle_seconds:
        return "idle"
    return None


CLOCK_BACK: Final = 60.0
"""How far (seconds) two hosts' clocks, or one clock before and after it was set, may differ."""

_OVER: Final[dict[SessionState, str]] = {
    SessionState.REQUESTED: "this session is not open yet; wait until it is granted",
    SessionState.EXPIRED: "this session has expired ({reason}); run `interlock login` for a new one",
    SessionState.REVOKED: "this session was revoked ({reason}); ask the operator",
    SessionState.ENDED: "this session has ended ({reason}); run `interlock login` for a new one",
}


def check_open(session: Session, now: float) -> None:
    """Raise `NoSession` unless the session is active and the clock has not ended it."""
    if session.state is not SessionState.ACTIVE:
        why = _OVER[session.state].format(reason=session.end_reason or "no reason given")
        raise NoSession(why, session_id=session.id)
    if reason := expiry(session, now):
        raise NoSession(_OVER[SessionState.EXPIRED].format(reason=reason), session_id=session.id)


def admit(held: Held, cluster: str, client_ip: str, now: float) -> Session:
    """The session that a token stands for, if it may be used here: `NoSession` in every other case.

    cluster: the audience that is asked for; client_ip: where the request comes from; now: Unix seconds.
    """
    session = held.session
    check_open(session, now)
    if now >= held.token_expires_at:
        raise NoSession(
            "this session token has expired; run `interlock login`, or exchange an identity token again",
            session_id=session.id,
        )
    if session.cluster != cluster:
        raise NoSession(
            f"this session token is not for {cluster}; exchange an identity token with audience={cluster}",
            session_id=session.id,
        )
    if session.addresses and not in_networks(session.addresses, client_ip):
        raise NoSession(
            "this session may not be used from this address; log in again from here", session_id=session.id
        )
    return session


class SessionStore(Protocol):
    """What this room needs of the state database; every call may block and may raise `StateAway`."""

    def open_session(
        self, session: Session, hash: bytes, expires_at: float, *, replaces: str | None = None
    ) -> bool: ...

    def renew(self, session_id: str, hash: bytes, expires_at: float, now: float) -> Session | None: ...

    def session_by_token_hash(self, hash: bytes) -> Held | None: ...

    def session(self, session_id: str) -> Session | None: ...

    def expire(self, now: float, session_id: str | None = None) -> list[Session]: ...

    def touch(self, used: dict[str, float]) -> None: ...
