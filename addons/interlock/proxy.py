"""Where mitmproxy's public interface ends: the few places of it that Interlock reaches behind.

Each exists because the public way fails open or is missing, and each has a test against the pinned version:

- `hang_up`: `flow.kill()` does nothing for a stream or websocket that has begun; this closes its sockets.
- `bounds`: mitmproxy buffers a body without limit, or streams it past every check; here a request's body
  has a bound (answered 413) and a response's body that outgrows memory is handed on piece by piece.
- `bound_heads`: mitmproxy keeps a request's head however long it grows; here it has a bound (answered 431).
- `own_errors`: mitmproxy answers its own errors in HTML; agents get a Kubernetes Status.
- `Frames`: one websocket message in, several out, in order and in one go.
- `without_default_listener`: mitmdump begins to open its default port (all addresses, 8080) before it has read a
  script, and does not take another mode from one until it runs; this stops that, and `listen` opens the right ones.
- `share_ports`: several gateways on one port (SO_REUSEPORT).
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any

from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, mode_specs
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.http import HttpStream, _http1
from mitmproxy.proxy.layers.http._events import ResponseData

from interlock.kube.status import status

OVERSIZED = "interlock_oversized"
PIECE = 64 * 1024  # bytes; as mitmproxy reads them from a socket


def hang_up(master: Any, flow: Any) -> None:
    """Close both sockets of a flow at once, whatever state it is in."""
    server = master.addons.get("proxyserver")
    handler = server.connections.get(flow.client_conn.id) if server else None
    if handler is None:
        return
    for connection in (flow.server_conn, flow.client_conn):
        if connection in handler.transports:
            writer = handler.transports[connection].writer
            if isinstance(writer, asyncio.StreamWriter):
                writer.transport.abort()  # what is still buffered is not sent
            handler.close_connection(connection)


def bounds(
    request_limit: int,
    response_limit: int,
    outgrown: Callable[[Any], Callable[[bytes], Any] | None],
) -> None:
    """Bound what is kept of a body in memory (bytes).

    A request over `request_limit` is read to its end but not kept; the flow's metadata says so, so that it
    is refused. A response over `response_limit` is given to the callable that `outgrown` returns for it,
    chunk by chunk; None ends the response.
    """

    def check_body_size(self: Any, request: bool) -> Generator[Any, Any, bool]:
        if request:
            if len(self.request_body_buf) > request_limit:
                self.request_body_buf.clear()
                self.flow.metadata[OVERSIZED] = True
            return False
        if len(self.response_body_buf) > response_limit and not self.flow.response.stream:
            stream = outgrown(self.flow)
            held = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            if stream is None:
                return False
            self.flow.response.stream = stream
            yield from self.start_response_stream()
            # In pieces: what is made of one is let go before the next.
            for begin in range(0, len(held), PIECE):
                yield from self.handle_event(ResponseData(self.stream_id, held[begin : begin + PIECE]))
        return False

    HttpStream.check_body_size = check_body_size  # type: ignore[method-assign]


def bound_heads(limit: int) -> None:
    """Bound what is kept of a request's or response's head that has not ended (bytes). Call it once."""

    def bounded(read: Callable[[Any, Any], Any], refuses: bool) -> Callable[[Any, Any], Any]:
        def read_headers(self: Any, event: Any) -> Generator[Any, Any, None]:
            yield from read(self, event)
            if self.state == self.read_headers and len(self.buf) > limit:
                if refuses:
                    yield commands.SendData(self.conn, _http1.make_error_response(431))
                self.buf = ReceiveBuffer()
                self.state = self.done
                yield commands.CloseConnection(self.conn)

        return read_headers

    for layer, refuses in ((_http1.Http1Server, True), (_http1.Http1Client, False)):
        if not hasattr(layer.read_headers, "__wrapped__"):
            wrapped = functools.wraps(layer.read_headers)(bounded(layer.read_headers, refuses))
            layer.read_headers = wrapped  # type: ignore[method-assign,assignment]


def own_errors() -> None:
    """Answer mitmproxy's own HTTP errors with a Kubernetes Status."""

    def make_error_response(status_code: int, message: str = "") -> bytes:
        words = {
            400: "interlock: the request could not be read as HTTP and was refused",
            413: "interlock: the request is too large",
            431: "interlock: the request's headers are larger than any client's of Kubernetes",
            502: "interlock: the cluster could not be reached, or ended the connection; `interlock doctor` tells more",
            504: "interlock: the cluster did not answer in time",
        }
        body = status(status_code, words.get(status_code, "interlock: the request was refused"))
        head = http.Headers(Connection="close", Content_Type="application/json")
        assembled: bytes = http1.assemble_response(http.Response.make(status_code, body, head))
        return assembled

    _http1.make_error_response = make_error_response


class Frames(bytes):
    """A websocket message's replacement by several messages, sent in this order in place of it."""

    frames: tuple[bytes, ...]

    @classmethod
    def of(cls, frames: tuple[bytes, ...]) -> Frames:
        self = cls(b"".join(frames))
        self.frames = frames
        return self


def whole_frames() -> None:
    """Send messages unfragmented, and `Frames` as the messages that it holds."""

    def fragments(self: Any, content: bytes) -> Iterator[Any]:
        if isinstance(content, Frames):
            for frame in content.frames:
                yield self.msg(frame, True)
        else:
            yield self.msg(content, True)

    websocket.Fragmentizer.__call__ = fragments  # type: ignore[method-assign]


def without_default_listener(master: Any) -> None:
    """Stop the start of listeners that is under way in mitmdump while it reads its script. Call from the script."""
    server = master.addons.get("proxyserver")
    for task in asyncio.all_tasks():
        if task.get_name().startswith("setup_servers") and not task.done():
            task.cancel()
            server.servers._instances = {}
    # It may have failed already, on a port that is nothing to us; mitmdump would exit for it.
    check = master.addons.get("errorcheck")
    if check is not None:
        check.logger.has_errored = [
            record for record in check.logger.has_errored if "failed to listen" not in record.getMessage()
        ]


async def listen(master: Any, modes: list[str]) -> bool:
    """Open these listeners, and close any other. False if one cannot be opened; mitmproxy has logged why."""
    servers = master.addons.get("proxyserver").servers
    done: bool = await servers.update([mode_specs.ProxyMode.parse(mode) for mode in modes])
    return done


def share_ports() -> None:
    """Let the listeners that are started from here on share their port with other processes."""
    start = asyncio.start_server

    async def start_server(*args: Any, **kwargs: Any) -> asyncio.Server:
        return await start(*args, reuse_port=hasattr(socket, "SO_REUSEPORT"), **kwargs)

    asyncio.start_server = start_server
