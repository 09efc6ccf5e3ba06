"""Framing of what streams: lines (watch events, logs) and the channels of exec, attach and port-forward.

In: bytes as they come, cut anywhere. Out: whole lines, or a channel and its payload. The rule: nothing is
handed on before it is whole, and nothing is held without a bound.
"""

from __future__ import annotations

from collections.abc import Iterable

MIB = 1024 * 1024
WATCH_LINE_LIMIT = 8 * MIB  # one event; etcd's own limit on an object is 1.5 MiB

# Channel numbers of remotecommand (apimachinery, pkg/util/remotecommand/constants.go; kubelet
# pkg/apis/../remotecommand/websocket.go). The first byte of every binary message.
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
CHANNELS = {
    STDIN: "stdin",
    STDOUT: "stdout",
    STDERR: "stderr",
    ERROR: "error",
    RESIZE: "resize",
    CLOSE: "close",
}

# Websocket subprotocols that pass, by subresource, best first. Not here, so refused:
#   channel.k8s.io, v2, v3        no client that is still supported offers nothing better; their end of
#                                 stream carries free text instead of a Status
#   [v4.]base64.channel.k8s.io    the same bytes in text messages: a second form to inspect, used by browsers
#   portforward.k8s.io, SPDY/3.1  raw SPDY, which is not a websocket
#   base64url.bearer.authorization.k8s.io.TOKEN   a credential that the API server takes from here [T]
PROTOCOLS = {
    "exec": ("v5.channel.k8s.io", "v4.channel.k8s.io"),
    "attach": ("v5.channel.k8s.io", "v4.channel.k8s.io"),
    "portforward": ("SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"),
}


class Overlong(ValueError):
    """A line or message that is larger than may be held. `.reason` is one line for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Lines:
    """Cuts a byte stream into lines. `limit` bounds what is held of a line that has not ended."""

    __slots__ = ("_held", "_limit", "_size")

    def __init__(self, limit: int = WATCH_LINE_LIMIT) -> None:
        self._held: list[bytes] = []  # pieces of the line that has not ended, none with a newline in it
        self._size = 0
        self._limit = limit

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, each with its newline. Raises Overlong."""
        head, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._hold(chunk)
            return []
        whole = b"".join((*self._held, head))
        self._held, self._size = [], 0
        lines = [line + b"\n" for line in whole.split(b"\n")]
        if max(map(len, lines)) > self._limit + 1:
            raise Overlong(f"a line is longer than {self._limit} bytes")
        self._hold(rest)
        return lines

    def end(self) -> bytes:
        """What is left when the stream ends: a last line without its newline, or nothing."""
        rest = b"".join(self._held)
        self._held, self._size = [], 0
        return rest

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self._size += len(piece)
            if self._size > self._limit:
                raise Overlong(f"a line is longer than {self._limit} bytes")


def split(message: bytes) -> tuple[int, bytes]:
    """One binary websocket message as (channel, payload). Raises ValueError when it has no channel byte."""
    if not message:
        raise ValueError("a message without a channel byte (RFC 6455 binary message of v4/v5.channel.k8s.io)")
    return message[0], message[1:]


def accepted_protocols(subresource: str, offered: Iterable[str]) -> list[str]:
    """Of the subprotocols offered (Sec-WebSocket-Protocol), those that may go on, in the order offered."""
    known = PROTOCOLS.get(subresource, ())
    return [protocol for protocol in dict.fromkeys(p.strip() for p in offered) if protocol in known]
