"""What travels: one request of an agent's and all that was decided about it.

An `Exchange` begins as an `Arrival`, the request as it came off the wire, and is filled part by part by
the stages, each its own part: the guard puts there what a stage's hook returned, after it has checked its
type. The types of the parts are the promises: only `kube` makes a target, only `policy` a decision, only
`masking` a masked body. A stage reads the parts before its own and writes none.

A stage that will not let the request go on raises `Refusal`; anything else that it raises is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from interlock.kube.body import Body
from interlock.kube.target import Target

if TYPE_CHECKING:
    from interlock.config import Cluster
    from interlock.identity.sessions import Session
    from interlock.masking.masker import Channels, Masked, Stream
    from interlock.policy.engine import Decision

Header = tuple[bytes, bytes]
Form = Literal["body", "watch", "log", "frames", "opaque"]


class Refusal(Exception):
    """A stage's word that the request ends here.

    code: the HTTP status for the agent. message: one line for the agent: what was refused, by which rule,
    what to do next. reason: one line for the evidence where more may be said than to the agent.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        effect: str = "deny",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or message
        self.effect = effect
        self.retry_after = retry_after
        self.stage = ""
        self.decision: Decision | None = None


class Answer(Exception):
    """A stage's own answer in place of the cluster's (a self-review that policy already decides)."""

    def __init__(self, code: int, body: bytes, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.body = body
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it came off the wire; nothing in it is trusted."""

    method: str
    target: bytes
    headers: tuple[Header, ...]
    body: bytes
    client_ip: str
    listener: Literal["proxy", "reverse"] | None
    cluster: str | None  # where the connection was admitted to: by CONNECT, or by the reverse listener
    scheme: str
    absolute: str  # the authority of an absolute-form target, else ""
    host: str  # the Host header or :authority
    sni: str | None
    tls_version: str | None = None
    tls_cipher: str | None = None
    trailers: bool = False
    oversized: bool = False

    def values(self, name: bytes) -> list[str]:
        """All values of header `name` (lower case), in the order sent."""
        return [v.decode("latin-1") for n, v in self.headers if n.lower() == name]


@dataclass(frozen=True, slots=True)
class Admission:
    """The perimeter's part: the request as Kubernetes will read it."""

    cluster: Cluster
    target: Target
    body: Body | None
    classes: frozenset[str]
    dry_run: bool
    headers: tuple[Header, ...]  # of the agent's, those that go on
    protocols: tuple[str, ...]  # websocket subprotocols offered; empty: no upgrade
    unreadable: str  # why the upgrade asked for cannot be masked; empty: it can, or none was asked for
    bearer: str
    impersonates: bool
    impersonation: tuple[Header, ...]
    user_agent: str
    kubectl_command: str
    kubectl_session: str


@dataclass(frozen=True, slots=True)
class Outbound:
    """The credential stage's part: every header that goes upstream."""

    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """Masking's part before the request is forwarded: the request as the evidence may hold it."""

    uri: str
    body: bytes
    command: tuple[str, ...]
    findings: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Masking's part when the response's headers are here: in what form the body is read."""

    form: Form
    stream: Stream | Channels | None
    headers: tuple[Header, ...] = ()  # of the answer's, those that go to the agent


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recording's part: this much of the exchange is on disk (or, for a stream's piece, on its way there)."""

    what: str


@dataclass(slots=True)
class Reply:
    """An upstream response's head, and its body while it is in quarantine."""

    code: int
    headers: tuple[Header, ...]
    body: bytes = b""

    def value(self, name: bytes) -> str:
        """The first value of header `name` (lower case), or ""."""
        for n, v in self.headers:
            if n.lower() == name:
                return v.decode("latin-1")
        return ""


@dataclass(slots=True)
class Exchange:
    """One request and its answer. `id` is its Audit-ID upstream and its id in the evidence."""

    id: str
    arrival: Arrival
    began_ns: int  # monotonic
    admission: Admission | None = None
    session: Session | None = None
    decision: Decision | None = None
    outbound: Outbound | None = None
    shown: Shown | None = None
    recorded: Recorded | None = None
    refusal: Refusal | None = None
    answer: Answer | None = None
    reply: Reply | None = None
    reading: Reading | None = None
    masked: Masked | None = None
    delivered: Recorded | None = None
    tape: Any = None  # recording's own: a stream's pieces so far
    signed: dict[str, list[str]] = field(default_factory=dict)
    cleared: bool = False  # every stage signed the request: it may go upstream
    broken: str = ""  # a stream that a fault ended, with the reason
    bytes_out: int = 0
    ended: str = ""
