"""Answers that a broken or hostile upstream might give: one table, for tests of what must fail closed.

In: the answer that would have been right. Out: the reply that goes out instead. The request has been
carried out by then, as in the worst case it would have been. To add a fault, add a row to FAULTS.
"""

import asyncio
import base64
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from interlock.demo.wire import Answer, Pieces, Raw, Reply, Request

SECRET = "S3cr3t-in-an-odd-place-9f2c"
"""What the faults that leak put where it does not belong; a test looks for it."""

type Head = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Fault:
    """Applies `mode` to answers whose `METHOD target` matches the pattern, `times` times (0: always)."""

    mode: str
    match: str = ""
    times: int = 0
    used: int = field(default=0)

    def __post_init__(self) -> None:
        if self.mode not in FAULTS:
            raise ValueError(f"unknown fault {self.mode!r}; one of {', '.join(sorted(FAULTS))}")

    def takes(self, request: Request) -> bool:
        """Whether this request is to be answered wrongly; counts it if so."""
        if (self.times and self.used >= self.times) or not re.search(
            self.match, f"{request.method} {request.target}"
        ):
            return False
        self.used += 1
        return True

    async def apply(self, reply: Reply) -> Reply:
        """The wrong reply in place of the right one. Streams are cut after their first piece."""
        if isinstance(reply, Answer):
            if isinstance(reply.body, bytes):
                return FAULTS[self.mode](reply.code, reply.headers, reply.body)
            first = await anext(reply.body, b"")
            await reply.body.aclose()
            return FAULTS[self.mode](reply.code, reply.headers, first)
        return FAULTS[self.mode](101, (), b"\x01exec output that was right\n")


type Break = Callable[[int, Head, bytes], Reply]


def _with(headers: Head, *changed: tuple[str, str]) -> Head:
    """`headers` with some set; a value of "" removes."""
    names = {name.lower() for name, _ in changed}
    kept = tuple((name, value) for name, value in headers if name.lower() not in names)
    return (*kept, *((name, value) for name, value in changed if value))


async def _pieces(*pieces: bytes, then_hang: bool = False) -> Pieces:
    for piece in pieces:
        yield piece
    if then_hang:
        await asyncio.Event().wait()


def _head(code: int, headers: Head, *more: tuple[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, *more))
    return f"HTTP/1.1 {code} Demo\r\n{lines}\r\n".encode("latin-1")


def _raw(*pieces: bytes, then_hang: bool = False) -> Raw:
    return Raw(_pieces(*pieces, then_hang=then_hang))


def _length(body: bytes, off_by: int = 0) -> tuple[str, str]:
    return ("Content-Length", str(max(len(body) + off_by, 0)))


def _typed(media_type: str, body: bytes) -> Break:
    return lambda code, headers, _: Answer(code, _with(headers, ("Content-Type", media_type)), body)


def _gzip(code: int, headers: Head, body: bytes) -> Reply:
    return Answer(code, _with(headers, ("Content-Encoding", "gzip")), gzip.compress(body))


def _gzip_unsaid(code: int, headers: Head, body: bytes) -> Reply:
    return Answer(code, headers, gzip.compress(body))


def _status(code: int, message: str) -> bytes:
    return orjson.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "InternalError",
            "details": {"causes": [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]},
            "code": code,
        }
    )


_QUOTED = (
    ' "" is invalid: patch: Invalid value: "{\\"apiVersion\\":\\"v1\\",\\"data\\":{\\"password\\":\\"'
    + base64.b64encode(SECRET.encode()).decode()
    + '\\"},\\"kind\\":\\"Secret\\"}": illegal base64 data at input byte 0; password='
    + SECRET
)
_WATCH = b'{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"1"}}}\n'
_CHUNKED = ("Transfer-Encoding", "chunked")
_UPGRADED = f"bytes after an upgrade nobody asked for: {SECRET}\n".encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FAULTS: dict[str, Break] = {
    # another representation than was asked for
    "protobuf": _typed(
        "application/vnd.kubernetes.protobuf",
        b"k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12\x20" + SECRET.encode(),
    ),
    "cbor": _typed("application/cbor", b"\xd9\xd9\xf7\xa1\x61a\x78\x1b" + SECRET.encode()),
    "yaml": _typed(
        "application/yaml", f"kind: Secret\napiVersion: v1\nstringData: {{password: {SECRET}}}\n".encode()
    ),
    "html": _typed("text/html", f"<html><body>password: {SECRET}</body></html>".encode()),
    "text": _typed("text/plain", f"password={SECRET}\n".encode()),
    "utf-16": lambda code, headers, body: Answer(
        code,
        _with(headers, ("Content-Type", "application/json; charset=utf-16")),
        body.decode("utf-8", "replace").encode("utf-16"),
    ),
    "no-content-type": lambda code, headers, body: Answer(code, _with(headers, ("Content-Type", "")), body),
    "gzip": _gzip,
    "gzip-unsaid": _gzip_unsaid,
    # bodies that do not parse, or parse in two ways
    "invalid-json": lambda code, headers, body: Answer(code, headers, body[: len(body) // 2] + b"}{"),
    "empty": lambda code, headers, body: Answer(code, headers, b""),
    "not-utf8": lambda code, headers, body: Answer(
        code, headers, b'{"kind":"Secret","data":{"p":"\xff\xfe"}}'
    ),
    "duplicate-keys": lambda code, headers, body: Answer(
        code,
        headers,
        b'{"kind":"Pod","kind":"Secret","apiVersion":"v1","data":{},"data":{"password":"%s"}}'
        % base64.b64encode(SECRET.encode()),
    ),
    "nesting": lambda code, headers, body: Answer(code, headers, b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "unknown-kind": lambda code, headers, body: Answer(
        code, headers, b'{"kind":"Surprise","apiVersion":"v9","blob":"%s"}' % SECRET.encode()
    ),
    # framing
    "truncated": lambda code, headers, body: _raw(
        _head(code, headers, _length(body)), body[: len(body) // 2]
    ),
    "truncated-chunks": lambda code, headers, body: _raw(_head(code, headers, _CHUNKED), _chunk(body)),
    "short-length": lambda code, headers, body: _raw(
        _head(code, headers, _length(body, -len(body) // 2)), body
    ),
    "long-length": lambda code, headers, body: _raw(
        _head(code, headers, _length(body, 100)), body, then_hang=True
    ),
    "two-lengths": lambda code, headers, body: _raw(
        _head(code, headers, _length(body), _length(body, 7)), body
    ),
    "length-and-chunks": lambda code, headers, body: _raw(
        _head(code, headers, _length(body), _CHUNKED), _chunk(body) + b"0\r\n\r\n"
    ),
    "trailers": lambda code, headers, body: _raw(
        _head(code, headers, _CHUNKED, ("Trailer", "X-Debug")),
        _chunk(body) + f"0\r\nX-Debug: password={SECRET}\r\n\r\n".encode(),
    ),
    "bad-status-line": lambda code, headers, body: _raw(b"HTTP/1.1 abc Demo\r\n\r\n"),
    "not-http": lambda code, headers, body: _raw(b"SSH-2.0-surprise\r\n"),
    "early-hints": lambda code, headers, body: _raw(
        _head(103, (("Link", f"</{SECRET}>; rel=preload"),)) + _head(code, headers, _length(body)) + body
    ),
    "close": lambda code, headers, body: _raw(),
    "hang": lambda code, headers, body: _raw(then_hang=True),
    "hang-in-body": lambda code, headers, body: _raw(
        _head(code, headers, _length(body)), body[: len(body) // 2], then_hang=True
    ),
    # protocol switches
    "upgrade": lambda code, headers, body: _raw(
        _head(101, (("Connection", "Upgrade"), ("Upgrade", "websocket"))), _UPGRADED, then_hang=True
    ),
    "spdy": lambda code, headers, body: _raw(
        _head(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))), _UPGRADED, then_hang=True
    ),
    # headers
    "redirect": lambda code, headers, body: Answer(
        302, (("Location", "https://elsewhere.example/steal"), ("Content-Type", "text/plain")), b"go there"
    ),
    "huge-header": lambda code, headers, body: Answer(code, (*headers, ("X-Huge", "h" * (1 << 20))), body),
    "set-cookie": lambda code, headers, body: Answer(
        code, (*headers, ("Set-Cookie", f"session={SECRET}; Path=/")), body
    ),
    "secret-in-header": lambda code, headers, body: Answer(
        code, (*headers, ("X-Debug", f"password={SECRET}"), ("Warning", f'299 - "password={SECRET}"')), body
    ),
    # errors that say too much
    "secret-in-error": lambda code, headers, body: Answer(422, _with(headers), _status(422, _QUOTED)),
    "secret-in-500": lambda code, headers, body: Answer(
        500,
        _with(headers, ("Content-Type", "text/plain")),
        f"panic: dial postgres://app:{SECRET}@db/shop".encode(),
    ),
    "unauthorized": lambda code, headers, body: Answer(401, headers, _status(401, "Unauthorized")),
    "unavailable": lambda code, headers, body: Answer(
        503, (*headers, ("Retry-After", "1")), _status(503, "apiserver is shutting down")
    ),
    # streams
    "plain-watch": lambda code, headers, body: Answer(
        200,
        headers,
        b'{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":[{"data":{"p":"%s"}}]}'
        % base64.b64encode(SECRET.encode()),
    ),
    "watch-garbage": lambda code, headers, body: Answer(
        200, headers, _pieces(_WATCH, b'{"type":"ADDED","object":' + SECRET.encode() + b"\n", _WATCH)
    ),
    "watch-no-newline": lambda code, headers, body: Answer(
        200, headers, _pieces(_WATCH[:-1], then_hang=True)
    ),
    "watch-endless-line": lambda code, headers, body: Answer(
        200, headers, _pieces(_WATCH[:40], *([b"x" * (1 << 20)] * 16), then_hang=True)
    ),
    "log-endless-line": lambda code, headers, body: Answer(
        200,
        _with(headers, ("Content-Type", "text/plain")),
        _pieces(*([b"x" * (1 << 16)] * 16), then_hang=True),
    ),
}


def leaks_into(text: bytes) -> bool:
    """Whether `SECRET` is in a text, plain or in base64."""
    return SECRET.encode() in text or base64.b64encode(SECRET.encode()) in text
