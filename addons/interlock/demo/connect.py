"""exec and port-forward over WebSocket: channels in, channels out (`v5.channel.k8s.io`).

The first byte of a frame is its channel: 0 stdin, 1 stdout, 2 stderr, 3 the closing Status, 4 resize,
255 half-closes the channel named by the second byte (KEP-4006, v5 only). Port-forward here is the
older framing of the Python client: two channels for each port, data and error, each opened by the
server with the port in two bytes, little endian.
"""

import asyncio
from contextlib import suppress

import orjson

from interlock.demo.resources import Object
from interlock.demo.shell import Shell
from interlock.demo.wire import Socket

STDIN, ERROR, RESIZE, CLOSE = 0, 3, 4, 255


async def execute(socket: Socket, shell: Shell, argv: tuple[str, ...], *, stdin: bool) -> None:
    """Runs `argv` and closes with its status. The client's going away ends it."""
    typed: asyncio.Queue[bytes] = asyncio.Queue()
    listening = asyncio.ensure_future(_listen(socket, typed))

    async def read() -> bytes:
        return await typed.get() if stdin else b""

    async def run() -> None:
        async for channel, piece in shell.run(argv, read):
            await socket.send(bytes([channel]) + piece)

    running = asyncio.ensure_future(run())
    try:
        await asyncio.wait({listening, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            await socket.send(bytes([ERROR]) + orjson.dumps(ending(argv, shell.code)))
    finally:
        for task in (running, listening):
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task


async def _listen(socket: Socket, typed: asyncio.Queue[bytes]) -> None:
    """Puts standard input into `typed`, `b""` at its end; returns when the client has gone."""
    while (frame := await socket.receive()) is not None:
        if frame[:1] == bytes([STDIN]) and len(frame) > 1:
            typed.put_nowait(frame[1:])
        elif frame[:1] == bytes([CLOSE]):
            typed.put_nowait(b"")


def ending(argv: tuple[str, ...], code: int) -> Object:
    """The Status on the error channel (k8s.io/kubelet, remotecommand v4 and v5)."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: error executing command {list(argv)}, exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def forward(socket: Socket, ports: list[int]) -> None:
    """Answers every message on a port's data channel as a tiny HTTP server would."""
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send(bytes([channel]) + port.to_bytes(2, "little"))
    while (frame := await socket.receive()) is not None:
        if len(frame) > 1 and frame[0] % 2 == 0 and frame[0] // 2 < len(ports):
            body = f"port {ports[frame[0] // 2]} of the demo\n".encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            await socket.send(frame[:1] + head % len(body) + body)
