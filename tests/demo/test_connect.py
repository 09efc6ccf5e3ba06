"""exec and port-forward speak the channel protocol."""

import asyncio
import json

from interlock.demo.connect import ending, execute, forward
from interlock.demo.shell import Shell


class Socket:
    """A WebSocket in memory: what the client sends, then what it does afterwards."""

    def __init__(self, *frames: bytes, leaves: bool = False) -> None:
        self.frames = list(frames)
        self.leaves = leaves
        self.sent: list[bytes] = []

    async def receive(self) -> bytes | None:
        if self.frames:
            return self.frames.pop(0)
        if not self.leaves:
            await asyncio.Event().wait()
        return None

    async def send(self, payload: bytes, *, text: bool = False) -> None:
        self.sent.append(payload)


def _shell() -> Shell:
    return Shell({}, {"/f": b"content"}, asyncio.sleep)


async def test_output_comes_on_its_channel_and_the_status_last() -> None:
    socket = Socket()
    await execute(socket, _shell(), ("sh", "-c", "echo a; nothing"), stdin=False)  # type: ignore[arg-type]
    assert socket.sent[:2] == [b"\x01a\n", b"\x02sh: nothing: not found\n"]
    assert socket.sent[2][:1] == b"\x03"
    status = json.loads(socket.sent[2][1:])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "127"}]


async def test_standard_input_reaches_the_command_until_it_is_closed() -> None:
    socket = Socket(b"\x00abc", b"\x04{}", b"\x00", b"\x00def", b"\xff\x00")
    await execute(socket, _shell(), ("cat",), stdin=True)  # type: ignore[arg-type]
    assert socket.sent == [b"\x01abc", b"\x01def", b'\x03{"metadata":{},"status":"Success"}']


async def test_a_command_without_standard_input_does_not_wait_for_it() -> None:
    socket = Socket(b"\x00abc")
    await execute(socket, _shell(), ("cat",), stdin=False)  # type: ignore[arg-type]
    assert socket.sent == [b'\x03{"metadata":{},"status":"Success"}']


async def test_a_client_that_goes_ends_the_command() -> None:
    socket = Socket(leaves=True)
    await asyncio.wait_for(execute(socket, _shell(), ("sleep", "3600"), stdin=False), 5)  # type: ignore[arg-type]
    assert socket.sent == []


def test_an_ending_names_the_exit_code() -> None:
    assert ending(("true",), 0) == {"metadata": {}, "status": "Success"}
    assert "exit code 3" in ending(("x",), 3)["message"]


async def test_ports_are_opened_and_answer() -> None:
    socket = Socket(b"\x00GET / HTTP/1.1\r\n\r\n", b"\x00", b"\x01x", b"\x08x", leaves=True)
    await forward(socket, [80, 8080])  # type: ignore[arg-type]
    assert socket.sent[:4] == [b"\x00P\x00", b"\x01P\x00", b"\x02\x90\x1f", b"\x03\x90\x1f"]
    assert len(socket.sent) == 5
    assert socket.sent[4].startswith(b"\x00HTTP/1.1 200 OK\r\n")
    assert socket.sent[4].endswith(b"port 80 of the demo\n")
