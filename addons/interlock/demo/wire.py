"""HTTP/1.1 and WebSocket on one TLS connection, with nothing hidden from the API above.

In: bytes of a connection. Out: `Request` values to a handler, and what it answers as bytes: an
`Answer` (whole or streamed), an `Upgrade` (RFC 6455), or `Raw` bytes for answers that break HTTP on
purpose. h11 keeps the protocol; the request target and the headers are handed up exactly as sent.
"""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import h11
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError

READ = 65536
HEADERS = 1 << 20  # Go's http.DefaultMaxHeaderBytes
BODY = 3 * (1 << 20)  # apiserver's MaxRequestBodyBytes
CLOSING = 2.0  # seconds that a client may take to answer a close
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_GONE = (ConnectionError, ssl.SSLError, TimeoutError, BrokenPipeError)


type Pieces = AsyncGenerator[bytes, None]
"""A body as it comes; empty pieces send what is pending (at first the headers) and nothing else."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case; `certificate` is the client's, as ssl gives it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    certificate: dict[str, Any]
    too_large: bool = False

    def header(self, name: str) -> str | None:
        """The first header of that name, or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def wants_websocket(self) -> bool:
        return (self.header("upgrade") or "").lower() == "websocket" and self.header(
            "sec-websocket-key"
        ) is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; a streamed body is sent in chunks, one for each piece."""

    code: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | Pieces


@dataclass(frozen=True, slots=True)
class Upgrade:
    """101 to WebSocket with `protocol` ("" for none), then `run` until it returns."""

    headers: tuple[tuple[str, str], ...]
    protocol: str
    run: "Callable[[Socket], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes to write as they are; the connection closes after the last."""

    pieces: Pieces


type Reply = Answer | Upgrade | Raw
type Handler = Callable[[Request], Awaitable[tuple[Reply, Callable[[int], None]]]]
"""Gives the reply and what to call with the number of body bytes sent once it is over."""


class Socket:
    """A WebSocket whose handshake is done: whole messages in and out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes) -> None:
        self._reader, self._writer = reader, writer
        self._frames = Frames(ConnectionType.SERVER)
        if early:
            self._frames.receive_data(early)
        self.sent = 0

    async def receive(self) -> bytes | None:
        """The next message, or None when the client has closed or gone."""
        message = bytearray()
        while True:
            for event in self._frames.events():
                if isinstance(event, Ping):
                    await self._write(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    if self._frames.state is ConnectionState.REMOTE_CLOSING:
                        await self._write(self._frames.send(event.response()))
                    return None
                elif isinstance(event, Message):
                    message += (
                        event.data if isinstance(event.data, bytes | bytearray) else event.data.encode()
                    )
                    if event.message_finished:
                        return bytes(message)
            data = await self._reader.read(READ)
            if not data:
                return None
            self._frames.receive_data(data)

    async def send(self, payload: bytes, *, text: bool = False) -> None:
        """Sends one binary (or text) message."""
        event = TextMessage(payload.decode()) if text else BytesMessage(payload)
        await self._write(self._frames.send(event))
        self.sent += len(payload)

    async def close(self, code: int = 1000) -> None:
        """Closes unless the client already did, and waits a moment for its answer."""
        with suppress(LocalProtocolError, TimeoutError):
            await self._write(self._frames.send(CloseConnection(code)))
            async with asyncio.timeout(CLOSING):
                while await self.receive() is not None:
                    continue

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    """Serves one connection to its end. A client that goes away is no error; a cancelled one is cut off."""
    try:
        with suppress(*_GONE):
            await _Connection(reader, writer, handle).run()
        writer.close()
        with suppress(*_GONE):
            await writer.wait_closed()
    except asyncio.CancelledError:
        writer.transport.abort()
        raise


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
        self._reader, self._writer, self._handle = reader, writer, handle
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS)
        self._sent = 0
        transport = writer.get_extra_info("ssl_object")
        self._certificate: dict[str, Any] = (transport.getpeercert() if transport else None) or {}

    async def run(self) -> None:
        while True:
            try:
                request = await self._request()
            except h11.RemoteProtocolError as problem:
                await self._write(_bad_request(problem))
                return
            if request is None:
                return
            reply, done = await self._handle(request)
            self._sent = 0
            try:
                if isinstance(reply, Answer):
                    await self._answer(reply, request)
                elif isinstance(reply, Upgrade):
                    await self._upgrade(reply, request)
                    return
                else:
                    async with aclosing(self._watched(reply.pieces)) as pieces:
                        async for piece in pieces:
                            await self._write(piece)
                            self._sent += len(piece)
                    return
            finally:
                done(self._sent)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> Request | None:
        """The next request with its whole body; None when the client is done."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(
                        self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                    )
                self._http.receive_data(await self._reader.read(READ))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY and head is not None:
                    return self._seen(head, b"", too_large=True)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._seen(head, bytes(body))
            else:  # ConnectionClosed, or a client that pauses after an upgrade that was refused
                return None

    def _seen(self, head: h11.Request, body: bytes, *, too_large: bool = False) -> Request:
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
        return Request(
            head.method.decode("latin-1"),
            head.target.decode("latin-1"),
            headers,
            body,
            self._certificate,
            too_large,
        )

    async def _answer(self, answer: Answer, request: Request) -> None:
        headers = list(answer.headers)
        if isinstance(answer.body, bytes):
            headers.append(("Content-Length", str(len(answer.body))))
        if request.too_large:
            headers.append(("Connection", "close"))
        await self._send(h11.Response(status_code=answer.code, headers=headers))
        silent = request.method == "HEAD" or answer.code == 304
        if isinstance(answer.body, bytes):
            await self._body(b"" if silent else answer.body)
        else:
            async with aclosing(self._watched(answer.body)) as pieces:
                async for piece in pieces:
                    await self._body(b"" if silent else piece)
        await self._send(h11.EndOfMessage())

    async def _body(self, piece: bytes) -> None:
        if piece:
            await self._send(h11.Data(data=piece))
            self._sent += len(piece)

    async def _watched(self, pieces: Pieces) -> Pieces:
        """The pieces, ended by a ConnectionError as soon as the client is gone, even while none come."""
        gone = asyncio.ensure_future(self._reader.read(READ))
        following = asyncio.ensure_future(anext(pieces, None))
        try:
            while True:
                await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    data = gone.result()
                    if not data:
                        raise ConnectionError("the client has gone")
                    self._http.receive_data(data)  # the next request, pipelined
                    gone = asyncio.ensure_future(self._reader.read(READ))
                piece = await following
                if piece is None:
                    return
                yield piece
                following = asyncio.ensure_future(anext(pieces, None))
        finally:
            for task in (gone, following):
                task.cancel()
            await asyncio.gather(gone, following, return_exceptions=True)
            await pieces.aclose()

    async def _upgrade(self, upgrade: Upgrade, request: Request) -> None:
        key = (request.header("sec-websocket-key") or "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()  # RFC 6455 §4.2.2
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept),
            *([("Sec-WebSocket-Protocol", upgrade.protocol)] if upgrade.protocol else []),
            *upgrade.headers,
        ]
        await self._send(h11.InformationalResponse(status_code=101, headers=headers))
        socket = Socket(self._reader, self._writer, self._http.trailing_data[0])
        try:
            await upgrade.run(socket)
            await socket.close()
        finally:
            self._sent = socket.sent

    async def _send(self, event: h11.Event) -> None:
        await self._write(self._http.send(event) or b"")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


def _bad_request(problem: h11.RemoteProtocolError) -> bytes:
    text = f"{problem.error_status_hint} Bad Request\n".encode()
    return (
        b"HTTP/1.1 %d Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
        % (
            problem.error_status_hint,
            len(text),
            text,
        )
    )
