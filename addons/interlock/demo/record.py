"""What the demo's API server was asked: the list that a test reads to see that nothing came through.

In: each request as it arrives and how it ended. Out: `Received` values, and one JSON line for each
arrival and each end when a file is given. A credential is never recorded.
"""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import orjson

from interlock.demo.wire import Request

KEPT = 20_000  # requests in memory; the oldest go first
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(slots=True)
class Received:
    """One request. `code` and `sent` (body bytes) are set once it has ended; `ended` says whether it has."""

    number: int
    at: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    audit_id: str
    user: str = ""
    impersonated_user: str = ""
    impersonated_groups: tuple[str, ...] = ()
    code: int = 0
    sent: int = 0
    ended: bool = False


@dataclass(slots=True)
class Record:
    """All requests in order of arrival. Safe for several threads."""

    path: Path | None = None
    _received: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _file: FileIO | None = None

    def __post_init__(self) -> None:
        if self.path is not None:
            self._file = FileIO(self.path, "ab")

    def arrive(self, request: Request, at: str, audit_id: str) -> Received:
        """Notes a request before anything is done with it."""
        headers = tuple((name, "…" if name in _CREDENTIALS else value) for name, value in request.headers)
        with self._lock:
            self._count += 1
            received = Received(
                self._count,
                at,
                request.method,
                request.target,
                _without_bearer(headers),
                request.body,
                audit_id,
            )
            self._received.append(received)
        self._write(
            {
                "event": "arrived",
                "number": received.number,
                "at": at,
                "method": received.method,
                "target": received.target,
                "headers": received.headers,
                "body": received.body.decode("utf-8", "backslashreplace"),
                "auditID": audit_id,
            }
        )
        return received

    def end(self, received: Received, code: int, sent: int) -> None:
        """Notes how it ended, whether answered whole or broken off."""
        received.code, received.sent, received.ended = code, sent, True
        self._write(
            {
                "event": "ended",
                "number": received.number,
                "auditID": received.audit_id,
                "user": received.user,
                "impersonatedUser": received.impersonated_user,
                "impersonatedGroups": received.impersonated_groups,
                "code": code,
                "sent": sent,
            }
        )

    def all(self) -> list[Received]:
        with self._lock:
            return list(self._received)

    def clear(self) -> None:
        """Forgets what is in memory; the file stays."""
        with self._lock:
            self._received.clear()

    def close(self) -> None:
        """Closes the file; what comes later is kept in memory only."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, line: dict[str, object]) -> None:
        with self._lock:
            if self._file is not None:
                self._file.write(orjson.dumps(line) + b"\n")


def _without_bearer(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Row 18 of the bypasses: a WebSocket subprotocol may carry the token."""
    return tuple(
        (name, "…" if name == "sec-websocket-protocol" and "bearer" in value else value)
        for name, value in headers
    )
