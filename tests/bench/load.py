"""The client of the benchmark: blocking sockets, so that what it measures is the other side.

In: where to connect, which authority to trust, the bytes of a request. Out: seconds for each answer. An
answer that is not a 200 of the expected length is `WrongAnswer`: a refusal must not pass for a fast answer.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class WrongAnswer(Exception):
    """Not what was asked for; the text is the answer's beginning."""


@dataclass(frozen=True)
class Place:
    """A server on loopback. token: sent as the bearer, if there is one."""

    port: int
    ca: Path
    token: str = ""

    def request(self, path: str) -> bytes:
        bearer = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        return (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUser-Agent: kubectl/v1.37.0 (linux/amd64)\r\n"
            f"Accept: application/json\r\n{bearer}\r\n"
        ).encode()


class Connection:
    """One TLS connection, HTTP/1.1, kept."""

    def __init__(self, place: Place, timeout: float = 300.0) -> None:
        context = ssl.create_default_context(cafile=place.ca)
        context.set_alpn_protocols(["http/1.1"])
        raw = socket.create_connection(("127.0.0.1", place.port), timeout=timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_hostname="127.0.0.1")

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def head(self) -> tuple[bytes, bytes]:
        """The answer's head, and what of the body came with it."""
        held = b""
        while (end := held.find(b"\r\n\r\n")) < 0:
            data = self._socket.recv(65536)
            if not data:
                raise WrongAnswer(held[:300].decode("latin-1") or "connection closed")
            held += data
        if not held.startswith(b"HTTP/1.1 200 "):
            raise WrongAnswer(held[:600].decode("latin-1"))
        return held[: end + 4], held[end + 4 :]

    def receive(self) -> int:
        """Read one answer to its end; its body's length in bytes."""
        head, body = self.head()
        length = LENGTH.search(head)
        if length is None:
            return self._chunked(body)
        wanted, got = int(length[1]), len(body)
        while got < wanted:
            data = self._socket.recv(1 << 20)
            if not data:
                raise WrongAnswer(f"the answer ended after {got} of {wanted} bytes")
            got += len(data)
        return wanted

    def _chunked(self, held: bytes) -> int:
        """The length of a body sent in chunks (RFC 9112, section 7.1), without trailers."""
        total = 0
        while True:
            while (end := held.find(b"\r\n")) < 0:
                held += self._more(total)
            size = int(held[:end], 16)
            held, missing = held[end + 2 :], size + 2
            while missing > len(held):
                missing -= len(held)
                held = self._more(total)
            held = held[missing:]
            total += size
            if size == 0:
                return total

    def _more(self, total: int) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise WrongAnswer(f"the answer ended after {total} bytes, without its end")
        return data

    def close(self) -> None:
        self._socket.close()


def one_by_one(place: Place, path: str, count: int) -> list[float]:
    """Seconds for each of `count` requests, one at a time on one connection."""
    connection, request = Connection(place), place.request(path)
    times = []
    try:
        for _ in range(count):
            began = time.perf_counter()
            connection.send(request)
            connection.receive()
            times.append(time.perf_counter() - began)
    finally:
        connection.close()
    return times


def in_waves(connections: Sequence[Connection], request: bytes, waves: int) -> None:
    """`waves` times one request on every connection, all under way at once."""
    for _ in range(waves):
        for connection in connections:
            connection.send(request)
        for connection in connections:
            connection.receive()


def afresh(place: Place, path: str, count: int) -> None:
    """`count` requests, each on a connection of its own."""
    request = place.request(path)
    for _ in range(count):
        connection = Connection(place)
        connection.send(request)
        connection.receive()
        connection.close()
