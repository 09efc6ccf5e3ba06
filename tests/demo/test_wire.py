"""One connection: requests handed up as sent, answers, streams and WebSockets sent down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from interlock.demo import wire
from interlock.demo.wire import Answer, Raw, Reply, Request, Socket, Upgrade

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Served:
    """A plain server on loopback whose replies the test gives."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.sent: list[int] = []
        self.reply: Callable[[Request], Reply] = lambda request: Answer(200, (), b"ok")
        self.port = 0
        self.clients: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        return reader, writer

    async def handle(self, request: Request) -> tuple[Reply, Callable[[int], None]]:
        self.seen.append(request)
        return self.reply(request), self.sent.append

    async def ask(self, raw: bytes) -> bytes:
        """Sends bytes, half-closes nothing, and reads to the end of the connection."""
        reader, writer = await self.open()
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 5)

    async def until_sent(self) -> int:
        async with asyncio.timeout(5):
            while not self.sent:
                await asyncio.sleep(0.001)
        return self.sent[-1]


@asynccontextmanager
async def _serving() -> AsyncIterator[Served]:
    served = Served()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        served.tasks.add(task)
        await wire.serve(reader, writer, served.handle)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for writer in served.clients:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        for task in served.tasks:
            task.cancel()
        ended = await asyncio.gather(*served.tasks, return_exceptions=True)
        faults = [e for e in ended if isinstance(e, Exception)]
        assert faults == []


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with _serving() as running:
        yield running


def _get(target: str = "/", *headers: str, close: bool = True) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: x", *headers, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_target_and_headers_are_handed_up_as_sent(served: Served) -> None:
    await served.ask(_get("/a%2Fb//c?x=%zz;y", "X-Two: 1", "X-Two: 2"))
    request = served.seen[0]
    assert (request.method, request.target) == ("GET", "/a%2Fb//c?x=%zz;y")
    assert [value for name, value in request.headers if name == "x-two"] == ["1", "2"]
    assert request.header("x-two") == "1"
    assert request.header("absent") is None
    assert request.certificate == {}


async def test_a_connection_is_used_again(served: Served) -> None:
    answer = await served.ask(_get("/1", close=False) + _get("/2"))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert [request.target for request in served.seen] == ["/1", "/2"]
    assert served.sent == [2, 2]


async def test_a_body_is_whole_however_it_is_cut(served: Served) -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    await served.ask(body)
    assert served.seen[0].body == b"abcde"


async def test_a_client_that_waits_is_told_to_go_on(served: Served) -> None:
    reader, writer = await served.open()
    writer.write(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
    writer.write(b"abc")
    assert b" 200 " in await reader.read()
    writer.close()
    assert served.seen[0].body == b"abc"


async def test_a_body_that_is_too_large_is_not_kept(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY", 10)
    served.reply = lambda request: Answer(413 if request.too_large else 200, (), b"")
    answer = await served.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + b"x" * 20)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert served.seen[0].body == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: z\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_400(served: Served, raw: bytes) -> None:
    assert (await served.ask(raw)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert served.seen == []


@pytest.mark.parametrize("raw", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_leaves_early_is_no_error(served: Served, raw: bytes) -> None:
    _, writer = await served.open()
    writer.write(raw)
    writer.close()
    await writer.wait_closed()
    assert served.seen == []
    assert (await served.ask(_get())).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("method", "code"), [(b"HEAD", 200), (b"GET", 304)])
async def test_answers_without_a_body_have_none(served: Served, method: bytes, code: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"streamed"

    for body in (b"whole", pieces()):
        served.reply = lambda request, body=body: Answer(code, (), body)  # type: ignore[misc]
        answer = await served.ask(_get().replace(b"GET", method))
        assert answer.partition(b"\r\n\r\n")[2] == b""
    assert served.sent == [0, 0]


async def test_a_stream_goes_out_piece_by_piece_and_headers_first(served: Served) -> None:
    step = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b""
        await step.wait()
        yield b"one\n"
        yield b"two\n"

    served.reply = lambda request: Answer(200, (("X", "y"),), pieces())  # type: ignore[arg-type]
    reader, writer = await served.open()
    writer.write(_get())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert b"transfer-encoding: chunked" in head.lower()
    step.set()
    assert await reader.read() == b"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"
    writer.close()
    assert served.sent == [8]


async def test_a_stream_ends_when_its_client_goes_while_nothing_comes(served: Served) -> None:
    ended = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    served.reply = lambda request: Answer(200, (), pieces())  # type: ignore[arg-type]
    reader, writer = await served.open()
    writer.write(_get())
    await reader.readuntil(b"first")
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)
    assert await served.until_sent() == 5


async def test_a_request_sent_during_a_stream_is_served_after_it(served: Served) -> None:
    step = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await step.wait()

    served.reply = lambda request: (
        Answer(200, (), pieces()) if request.target == "/stream" else Answer(200, (), b"after")  # type: ignore[arg-type]
    )
    reader, writer = await served.open()
    writer.write(_get("/stream", close=False))
    await reader.readuntil(b"first")
    writer.write(_get("/after"))
    await asyncio.sleep(0.05)
    step.set()
    assert (await reader.read()).endswith(b"after")
    writer.close()


async def test_a_connection_that_is_cancelled_is_cut_off(served: Served) -> None:
    reader, writer = await served.open()
    writer.write(_get(close=False))
    await reader.readuntil(b"ok")
    for task in served.tasks:
        task.cancel()
    assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_raw_bytes_go_out_as_they_are_and_end_the_connection(served: Served) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"anything "
        yield b"at all"

    served.reply = lambda request: Raw(pieces())  # type: ignore[arg-type]
    assert await served.ask(_get(close=False)) == b"anything at all"
    assert served.sent == [15]


class Client:
    """The other end of a WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames = Frames(ConnectionType.CLIENT)

    @classmethod
    async def connect(cls, served: Served, *early: Any) -> "tuple[Client, bytes]":
        reader, writer = await served.open()
        client = cls(reader, writer)
        upgrade = _get(
            "/", "Connection: Upgrade", "Upgrade: WebSocket", f"Sec-WebSocket-Key: {KEY}", close=False
        )
        writer.write(upgrade + b"".join(client.frames.send(event) for event in early))
        return client, await reader.readuntil(b"\r\n\r\n")

    def send(self, event: Any) -> None:
        self.writer.write(self.frames.send(event))

    async def events(self) -> list[Any]:
        """All events until the server closes."""
        found: list[Any] = []
        while data := await asyncio.wait_for(self.reader.read(65536), 5):
            self.frames.receive_data(data)
            for event in self.frames.events():
                found.append(event)
                if isinstance(event, CloseConnection) and self.frames.state is ConnectionState.REMOTE_CLOSING:
                    self.writer.write(self.frames.send(event.response()))
        self.writer.close()
        return found


async def _echo(socket: Socket) -> None:
    while (message := await socket.receive()) is not None:
        if message == b"done":
            return
        await socket.send(message)


async def test_a_websocket_is_opened_and_messages_come_whole(served: Served) -> None:
    served.reply = lambda request: Upgrade((("X", "y"),), "v5.channel.k8s.io", _echo)
    client, head = await Client.connect(served, BytesMessage(b"early"))
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower(), "the example of RFC 6455"
    assert b"sec-websocket-protocol: v5.channel.k8s.io" in head.lower()
    assert served.seen[0].wants_websocket
    client.send(BytesMessage(b"in ", message_finished=False))
    client.send(BytesMessage(b"parts"))
    client.send(TextMessage("text"))
    client.send(Ping(b"p"))
    client.send(Pong(b"unasked"))
    client.send(BytesMessage(b"done"))
    events = await client.events()
    assert [bytes(e.data) for e in events if isinstance(e, BytesMessage)] == [b"early", b"in parts", b"text"]
    assert [bytes(e.payload) for e in events if isinstance(e, Pong)] == [b"p"]
    assert isinstance(events[-1], CloseConnection)
    assert served.sent == [5 + 8 + 4]


async def test_a_websocket_that_the_client_closes_is_closed(served: Served) -> None:
    served.reply = lambda request: Upgrade((), "", _echo)
    client, head = await Client.connect(served)
    assert b"sec-websocket-protocol" not in head.lower()
    client.send(CloseConnection(1000))
    assert [type(event) for event in await client.events()] == [CloseConnection]


@pytest.mark.parametrize("leave", ["eof", "abort"])
async def test_a_websocket_whose_client_vanishes_ends(served: Served, leave: str) -> None:
    ended = asyncio.Event()

    async def run(socket: Socket) -> None:
        assert await socket.receive() is None
        ended.set()

    served.reply = lambda request: Upgrade((), "", run)
    client, _ = await Client.connect(served)
    if leave == "eof":
        client.writer.write_eof()
        await asyncio.wait_for(ended.wait(), 10)
    client.writer.transport.abort()
    await served.until_sent()


async def test_a_client_that_does_not_answer_a_close_is_left(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(socket: Socket) -> None:
        return None

    monkeypatch.setattr(wire, "CLOSING", 0.01)
    served.reply = lambda request: Upgrade((), "", run)
    client, _ = await Client.connect(served)
    client.send(BytesMessage(b"still talking"))
    await asyncio.wait_for(client.reader.read(), 5)
    assert served.sent == [0]


async def test_frames_that_break_the_protocol_end_the_websocket(served: Served) -> None:
    served.reply = lambda request: Upgrade((), "", _echo)
    client, _ = await Client.connect(served)
    client.writer.write(b"\xff\xff\xff\xff")
    await asyncio.wait_for(client.reader.read(), 5)
    assert served.sent == [0]


async def test_text_messages_are_text(served: Served) -> None:
    async def run(socket: Socket) -> None:
        await socket.send(b"hello", text=True)

    served.reply = lambda request: Upgrade((), "", run)
    client, _ = await Client.connect(served)
    assert [event.data for event in await client.events() if isinstance(event, TextMessage)] == ["hello"]


async def test_a_request_that_wants_an_upgrade_may_be_answered_plainly(served: Served) -> None:
    upgrade = _get("/", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", close=False)
    answer = await served.ask(upgrade + _get())
    assert answer.count(b" 200 ") == 2


def test_an_upgrade_needs_its_key() -> None:
    assert not Request("GET", "/", (("upgrade", "websocket"),), b"", {}).wants_websocket
    assert not Request(
        "GET", "/", (("upgrade", "SPDY/3.1"), ("sec-websocket-key", KEY)), b"", {}
    ).wants_websocket
