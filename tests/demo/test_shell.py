"""The shell of the demo answers like a small container and touches nothing of this host."""

import base64
import os
import subprocess
from collections.abc import Awaitable, Callable

import pytest

from interlock.demo.shell import Shell

FILES = {"/etc/hostname": b"p\n", "/etc/payments/password": b"hunter2", "/two": b"one\ntwo\n"}
ENVIRONMENT = {"HOSTNAME": "p", "DB_PASSWORD": "hunter2", "LEVEL": "info"}


class Typed:
    """Standard input in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def __call__(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def _shell(tty: bool = False, sleep: Callable[[float], Awaitable[None]] | None = None) -> Shell:
    async def none(_: float) -> None:
        return None

    return Shell(ENVIRONMENT, FILES, sleep or none, tty)


async def _run(*argv: str, typed: tuple[bytes, ...] = (), tty: bool = False) -> tuple[bytes, bytes, int]:
    shell = _shell(tty)
    written = {1: bytearray(), 2: bytearray()}
    async for channel, piece in shell.run(argv, Typed(*typed)):
        written[channel] += piece
    return bytes(written[1]), bytes(written[2]), shell.code


@pytest.mark.parametrize(
    ("argv", "out", "code"),
    [
        (("echo", "a", "b"), b"a b\n", 0),
        (("echo", "-n", "a"), b"a", 0),
        (("/bin/cat", "/etc/payments/password"), b"hunter2", 0),
        (("cat", "etc/hostname", "/two"), b"p\none\ntwo\n", 0),
        (("env",), b"HOSTNAME=p\nDB_PASSWORD=hunter2\nLEVEL=info\n", 0),
        (("printenv",), b"HOSTNAME=p\nDB_PASSWORD=hunter2\nLEVEL=info\n", 0),
        (("printenv", "LEVEL"), b"info\n", 0),
        (("printenv", "LEVEL", "NONE"), b"info\n", 1),
        (("hostname",), b"p\n", 0),
        (("whoami",), b"app\n", 0),
        (("ls",), b"etc\ntwo\n", 0),
        (("ls", "-l", "/etc/"), b"hostname\npayments\n", 0),
        (("ls", "/two"), b"/two\n", 0),
        (("true",), b"", 0),
        (("false",), b"", 1),
        (("seq", "3"), b"1\n2\n3\n", 0),
        (("seq", "x"), b"", 0),
        (("sleep", "1s"), b"", 0),
        (("sleep",), b"", 0),
        (("sleep", "long"), b"", 0),
        (("base64", "/etc/payments/password"), base64.b64encode(b"hunter2") + b"\n", 0),
        (("grep", "two", "/two"), b"two\n", 0),
        (("grep", "-i", "TWO", "/two"), b"two\n", 0),
        (("grep", "three", "/two"), b"", 1),
        (("exit",), b"", 0),
        (("exit", "4"), b"", 4),
        (("sh", "-c", "echo $LEVEL ${LEVEL}x '$LEVEL' \"$LEVEL\""), b"info infox $LEVEL info\n", 0),
        (("sh", "-c", "false; echo $?"), b"1\n", 0),
        (("sh", "-c", "false && echo no || echo yes"), b"yes\n", 0),
        (("sh", "-c", "true || echo no; true && echo yes"), b"yes\n", 0),
        (("sh", "-c", "echo a\necho b;; echo c"), b"a\nb\nc\n", 0),
        (("sh", "-c", "env | grep DB_ | base64 | base64 -d"), b"DB_PASSWORD=hunter2\n", 0),
        (("sh", "-c", "echo abc | rev | cat"), b"cba\n", 0),
        (("sh", "-c", "exit 3; echo no"), b"", 3),
        (("sh", "-c", "echo 'a \"b\" \\c'"), b'a "b" \\c\n', 0),
        (("sh", "-c", ""), b"", 0),
    ],
)
async def test_commands_answer(argv: tuple[str, ...], out: bytes, code: int) -> None:
    assert await _run(*argv) == (out, b"", code)


@pytest.mark.parametrize(
    ("argv", "error", "code"),
    [
        (("curl", "http://x"), b"sh: curl: not found\n", 127),
        (("cat", "/etc/passwd"), b"cat: /etc/passwd: No such file or directory\n", 1),
        (("base64", "/none"), b"base64: /none: No such file or directory\n", 1),
        (("ls", "/none"), b"ls: /none: No such file or directory\n", 1),
        (("sh", "-c", "echo 'open"), b"sh: syntax error: No closing quotation\n", 2),
        (("sh", "-c", "nothing | cat"), b"sh: nothing: not found\n", 0),
    ],
)
async def test_what_does_not_work_says_why(argv: tuple[str, ...], error: bytes, code: int) -> None:
    out, err, ended = await _run(*argv)
    assert (out, err, ended) == (b"", error, code)


async def test_standard_input_is_read() -> None:
    assert (await _run("cat", typed=(b"a", b"b\n")))[0] == b"ab\n"
    assert (await _run("base64", "-d", typed=(b"aHVudGVy", b"Mg==")))[0] == b"hunter2"
    assert await _run("base64", "-d", typed=(b"a",)) == (b"", b"base64: invalid input\n", 1)
    assert (await _run("grep", "b", typed=(b"a\nb\n",)))[0] == b"b\n"
    assert (await _run("sh", "-c", "cat | rev", typed=(b"abc\n",)))[0] == b"cba\n"


async def test_a_script_on_standard_input_runs_line_by_line() -> None:
    assert await _run("sh", typed=(b"echo a; ec", b"ho b\nexit 2\necho no\n")) == (b"a\nb\n", b"", 2)
    assert await _run("sh", typed=(b"cat\necho a\n",)) == (b"a\n", b"", 0)
    assert await _run("sh", "-c", typed=(b"echo a\n",)) == (b"a\n", b"", 0)


async def test_a_terminal_has_a_prompt_and_an_echo() -> None:
    out, _, code = await _run("bash", typed=(b"echo hi\r", b"exit\r"), tty=True)
    assert out == b"$ echo hi\r\nhi\r\n$ exit\r\n"
    assert code == 0


async def test_sleeping_waits_that_long() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    shell = _shell(sleep=sleep)
    assert [piece async for piece in shell.run(("sh", "-c", "echo a; sleep 0.5; echo b"))] == [
        (1, b"a\n"),
        (1, b"b\n"),
    ]
    assert slept == [0.5]


@pytest.mark.parametrize(
    "script",
    [
        "cat /proc/self/environ",
        "cat ../../../../etc/passwd",
        "$(id)",
        "`id`",
        "python3 -c 1",
        "ls /root",
        "echo x > /tmp/y",
    ],
)
async def test_nothing_of_this_host_is_touched(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the shell started something or opened a file")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    monkeypatch.setattr("builtins.open", forbidden)
    out, err, _ = await _run("sh", "-c", script)
    assert b"root:x" not in out + err
    assert b"uid=0" not in out + err
