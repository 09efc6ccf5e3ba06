"""What can be recorded: one dataclass for each event, and the bytes that stand for it for ever.

In: values that were masked before. Out: a leaf, one RFC 8785 (JCS) canonical JSON object in UTF-8. The rule:
the same event gives the same bytes on any machine, so a leaf can be hashed, signed and checked years later.
Column names of `schema.sql` are the field names here; times are microseconds since the Unix epoch, UTC, and
become RFC 3339 text in the leaf. A field that is None is left out.

`orjson` sorts keys by UTF-8 bytes and writes strings as RFC 8785 asks; it differs for floats, for integers
from 2**53 and for keys outside the BMP. None of these can enter a leaf: keys are field names, floats and large
integers are refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, ClassVar, Literal, get_origin, get_type_hints

import orjson

type Time = int
"""Microseconds since the Unix epoch, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One value that was masked, without the value. `path` is where (a JSON path, a line, a channel)."""

    path: str
    detector: str
    category: str
    action: str = "masked"
    token: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about a request, by which stage, and why. `code` is the refusal's HTTP code."""

    effect: str
    stage: str
    rule: str | None = None
    policy: str | None = None
    policy_digest: str | None = None
    reason: str | None = None
    code: int | None = None
    matched: Iterable[str] = ()
    unmasked: bool = False
    impersonation: bool = False
    approval_id: str | None = None
    latency_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A file that was loaded: its path as configured and the SHA-256 (hex) of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStarted:
    """A gateway process is ready to take requests."""

    type: ClassVar[str] = "gateway_started"
    ts: Time
    version: str
    pid: int
    config_digest: str | None = None
    policy_digest: str | None = None
    clusters: Iterable[str] = ()
    listeners: Iterable[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStopped:
    """A gateway process ends in order; exchanges still open end with it."""

    type: ClassVar[str] = "gateway_stopped"
    ts: Time
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Something about the gateway or the evidence itself that a reader must know.

    `about_gateway` and `about_seq` name the log and the last position that it is about, `since` the time at
    which it began, `count` how many (events lost, requests refused, lines unparsed).
    """

    type: ClassVar[str] = "health"
    ts: Time
    kind: str
    component: str
    detail: str
    request_id: str | None = None
    about_gateway: str | None = None
    about_seq: int | None = None
    since: Time | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoaded:
    """A set of policies (or masking rules, or configuration) was swapped in, or refused with its reason."""

    type: ClassVar[str] = "policy_loaded"
    ts: Time
    kind: Literal["policy", "masking", "config"] = "policy"
    digest: str
    outcome: Literal["loaded", "refused"] = "loaded"
    files: Iterable[PolicyFile] = ()
    rules: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """An identity was exchanged for a session token; `renewed` if the session existed already."""

    type: ClassVar[str] = "session_opened"
    ts: Time
    session_id: str
    user_name: str
    groups: Iterable[str] = ()
    issuer: str | None = None
    subject: str | None = None
    agent: str | None = None
    owner: str | None = None
    auth_method: str | None = None
    cluster: str | None = None
    client_ip: str | None = None
    user_agent: str | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None
    credential_fingerprint: str | None = None
    expires_at: Time | None = None
    renewed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefused:
    """An exchange of identity for a session that was refused. `refusal_id` is the id in the answer."""

    type: ClassVar[str] = "session_refused"
    ts: Time
    reason: str
    refusal_id: str | None = None
    code: int | None = None
    session_id: str | None = None
    user_name: str | None = None
    issuer: str | None = None
    subject: str | None = None
    agent: str | None = None
    auth_method: str | None = None
    cluster: str | None = None
    client_ip: str | None = None
    user_agent: str | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """A session's end: expired, logged out, revoked, killed."""

    type: ClassVar[str] = "session_ended"
    ts: Time
    session_id: str
    reason: str
    ended_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request and the decision about it: one event, so that both are durable with one sync.

    `id` is the UUID that is also the `Audit-ID` upstream. `uri` and the body are masked. `parent_id` names
    the exchange that a request of the gateway's own serves. What the client says of itself (`user_agent`,
    `kubectl_command`, `kubectl_session`) is a claim and is never trusted. `raw_hmac` is keyed: a plain hash
    of a secret could be guessed. `holds_mask`: the body, as sent, held a mask token.
    """

    type: ClassVar[str] = "request"
    id: str
    ts: Time
    decision: Decision
    origin: Literal["agent", "gateway"] = "agent"
    parent_id: str | None = None
    session_id: str | None = None
    cluster: str | None = None
    listener: str | None = None
    method: str | None = None
    uri: str | None = None
    verb: str | None = None
    is_resource: bool | None = None
    api_group: str | None = None
    version: str | None = None
    resource: str | None = None
    subresource: str | None = None
    namespace: str | None = None
    name: str | None = None
    classes: Iterable[str] = ()
    dry_run: bool = False
    streams: bool = False
    user_name: str | None = None
    groups: Iterable[str] = ()
    agent: str | None = None
    owner: str | None = None
    issuer: str | None = None
    impersonates: str | None = None
    client_ip: str | None = None
    client_port: int | None = None
    http_version: str | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None
    user_agent: str | None = None
    kubectl_command: str | None = None
    kubectl_session: str | None = None
    content_type: str | None = None
    body_sha256: str | None = None
    body_bytes: int | None = None
    body_truncated: bool = False
    raw_hmac: str | None = None
    request_digest: str | None = None
    holds_mask: bool = False
    clock_error_us: int | None = None
    findings: Iterable[Finding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An exchange's end: what the agent was given, from whom, and whether it was all of it.

    `code` is what the agent saw, `upstream_code` what the API server said; `bytes` counts what was delivered.
    `ended` is `complete`, or how it broke off (`client_gone`, `upstream_gone`, `fault`, `truncated`,
    `expired`, `revoked`, …), and then `reason` says it in one line.
    """

    type: ClassVar[str] = "response"
    request_id: str
    ts: Time
    origin: Literal["gateway", "upstream"]
    code: int | None = None
    upstream_code: int | None = None
    ended: str = "complete"
    reason: str | None = None
    content_type: str | None = None
    bytes: int | None = None
    body_sha256: str | None = None
    body_truncated: bool = False
    raw_hmac: str | None = None
    masked: int = 0
    unmasked: bool = False
    chunks: int | None = None
    duration_us: int | None = None
    upstream_us: int | None = None
    findings: Iterable[Finding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChunk:
    """A piece of a stream in the order of `chunk` (from 0): a watch event, log lines, a channel's output.

    `offset_us` is the time since the stream began, for replay. `bytes` counts what was delivered.
    """

    type: ClassVar[str] = "stream_chunk"
    request_id: str
    ts: Time
    chunk: int
    channel: str
    direction: Literal["in", "out"]
    bytes: int
    offset_us: int
    body_sha256: str | None = None
    raw_hmac: str | None = None
    masked: int = 0
    unmasked: bool = False
    findings: Iterable[Finding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalChanged:
    """A step in an approval's life; the last one is its state."""

    type: ClassVar[str] = "approval"
    id: str
    ts: Time
    state: str
    request_id: str | None = None
    session_id: str | None = None
    requester: str | None = None
    agent: str | None = None
    owner: str | None = None
    approver: str | None = None
    approver_auth: str | None = None
    channel: str | None = None
    cluster: str | None = None
    verb: str | None = None
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    rule: str | None = None
    request_digest: str | None = None
    max_uses: int | None = None
    expires_at: Time | None = None
    decided_at: Time | None = None
    consumed_at: Time | None = None
    consumed_by: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """A person looked at the evidence (AU-6): which range, by which query, with which result."""

    type: ClassVar[str] = "review"
    ts: Time
    reviewer: str
    from_ts: Time
    to_ts: Time
    query: str | None = None
    query_sha256: str | None = None
    result_sha256: str | None = None
    comment: str | None = None


type Event = (
    GatewayStarted
    | GatewayStopped
    | Health
    | PolicyLoaded
    | SessionOpened
    | SessionRefused
    | SessionEnded
    | Request
    | Response
    | StreamChunk
    | ApprovalChanged
    | Reviewed
)

RECORDS: tuple[type, ...] = (
    GatewayStarted,
    GatewayStopped,
    Health,
    PolicyLoaded,
    SessionOpened,
    SessionRefused,
    SessionEnded,
    Request,
    Response,
    StreamChunk,
    ApprovalChanged,
    Reviewed,
)


def leaf(event: Event, gateway_id: str, seq: int) -> bytes:
    """The canonical bytes of `event` as number `seq` (from 1) of the log `gateway_id`.

    TypeError or ValueError if a value is outside what a leaf may hold (a float, an integer from 2**53, a type
    that is not the field's). Text that is not Unicode (lone surrogates, from bytes of the network) is written
    with backslashes: a request that was refused for it must still be recorded.
    """
    record = _plain(event)
    record["gateway"] = gateway_id
    record["seq"] = seq
    record["type"] = event.type
    try:
        return orjson.dumps(record, option=_CANONICAL)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error):
            raise
        return orjson.dumps(_unicode(record), option=_CANONICAL)


def exchange_of(event: Event) -> str | None:
    """The id of the exchange that the event belongs to: the request's `id`, `request_id` of all others."""
    return event.id if isinstance(event, Request) else getattr(event, "request_id", None)


def rfc3339(micros: Time) -> str:
    """`2026-01-31T23:59:59.000001Z`."""
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@dataclass(frozen=True, slots=True)
class _Shape:
    """A record's fields, and how those that are not text, truth or number become so."""

    names: tuple[str, ...]
    values: Callable[[object], tuple[Any, ...]]
    converted: tuple[tuple[str, Callable[[Any], Any]], ...]


def _shape(record: type) -> _Shape:
    hints = get_type_hints(record)
    names = tuple(field.name for field in fields(record))
    plain = (str, str | None, int, int | None, bool, bool | None)
    convert = {Time: rfc3339, Time | None: rfc3339, Decision: _plain}
    converted = tuple(
        (name, convert.get(hints[name], _list))
        for name in names
        if hints[name] not in plain and get_origin(hints[name]) is not Literal
    )
    return _Shape(names, attrgetter(*names), converted)


def _plain(record: object) -> dict[str, Any]:
    shape = _SHAPES.get(type(record))
    if shape is None:
        raise TypeError(f"{type(record).__name__} cannot be in a leaf")
    plain = {
        name: value
        for name, value in zip(shape.names, shape.values(record), strict=True)
        if value is not None
    }
    for name, convert in shape.converted:
        if name in plain:
            plain[name] = convert(plain[name])
    if not _KINDS.issuperset(map(type, plain.values())):
        for name, value in plain.items():
            plain[name] = _scalar(value, f"{type(record).__name__}.{name}")
    return plain


def _list(items: Iterable[Any]) -> list[Any]:
    if not items:
        return []
    if isinstance(items, str):
        raise TypeError("a text where a list is expected")
    ordered = sorted(items) if isinstance(items, frozenset | set) else items
    return [str.__str__(item) if isinstance(item, str) else _plain(item) for item in ordered]


def _scalar(value: Any, where: str) -> Any:
    if type(value) in _KINDS:
        return value
    if isinstance(value, str):  # an enumeration's member
        return str.__str__(value)
    raise TypeError(f"{where}: {type(value).__name__} cannot be in a leaf")


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _unicode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unicode(item) for item in value]
    return value


_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_KINDS = frozenset((str, bool, int, list, dict))
_SHAPES: dict[type, _Shape] = {kind: _shape(kind) for kind in (*RECORDS, Decision, Finding, PolicyFile)}
