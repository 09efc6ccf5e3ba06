"""Every fault breaks what it says it breaks."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock.demo.faults import FAULTS, SECRET, Fault, leaks_into
from interlock.demo.wire import Answer, Raw, Reply, Request, Upgrade

BODY = b'{"kind":"Secret","data":{"a":"YQ=="}}'
HEADERS = (("Content-Type", "application/json"), ("Audit-Id", "x"))
REQUEST = Request("GET", "/api/v1/secrets?x=1", (), b"", {})


async def _taken(reply: Reply, wait: float = 0.05) -> tuple[int, dict[str, str], bytes, bool]:
    """Code, headers, body and whether the reply hangs."""
    if isinstance(reply, Answer) and isinstance(reply.body, bytes):
        return reply.code, dict(reply.headers), reply.body, False
    assert isinstance(reply, Answer | Raw)
    pieces = reply.pieces if isinstance(reply, Raw) else reply.body
    assert not isinstance(pieces, bytes)
    collected = bytearray()
    hangs = False
    try:
        async with asyncio.timeout(wait):
            async for piece in pieces:
                collected += piece
    except TimeoutError:
        hangs = True
    await pieces.aclose()
    return (reply.code if isinstance(reply, Answer) else 0), {}, bytes(collected), hangs


async def _broken(mode: str) -> tuple[int, dict[str, str], bytes, bool]:
    return await _taken(await Fault(mode).apply(Answer(200, HEADERS, BODY)))


@pytest.mark.parametrize("mode", sorted(FAULTS))
async def test_no_fault_gives_the_right_answer(mode: str) -> None:
    code, headers, body, _ = await _broken(mode)
    assert (code, headers, body) != (200, dict(HEADERS), BODY)


@pytest.mark.parametrize("mode", sorted(FAULTS))
async def test_every_fault_works_on_streams_and_upgrades_too(mode: str) -> None:
    closed: list[bool] = []

    async def stream() -> AsyncIterator[bytes]:
        try:
            yield BODY
            yield b"more"
        finally:
            closed.append(True)

    async def nothing(socket: object) -> None:
        raise AssertionError("an upgrade under a fault is never run")

    streamed: Any = stream()
    await _taken(await Fault(mode).apply(Answer(200, HEADERS, streamed)))
    assert closed == [True]
    await _taken(await Fault(mode).apply(Upgrade((), "v5.channel.k8s.io", nothing)))


@pytest.mark.parametrize(
    ("mode", "name", "value"),
    [
        ("protobuf", "Content-Type", "application/vnd.kubernetes.protobuf"),
        ("cbor", "Content-Type", "application/cbor"),
        ("html", "Content-Type", "text/html"),
        ("gzip", "Content-Encoding", "gzip"),
        ("set-cookie", "Set-Cookie", f"session={SECRET}; Path=/"),
        ("redirect", "Location", "https://elsewhere.example/steal"),
        ("secret-in-header", "X-Debug", f"password={SECRET}"),
    ],
)
async def test_headers_are_as_said(mode: str, name: str, value: str) -> None:
    assert (await _broken(mode))[1][name] == value


async def test_representations_are_as_said() -> None:
    assert gzip.decompress((await _broken("gzip"))[2]) == BODY
    assert gzip.decompress((await _broken("gzip-unsaid"))[2]) == BODY
    assert (await _broken("utf-16"))[2].decode("utf-16") == BODY.decode()
    assert "Content-Type" not in (await _broken("no-content-type"))[1]
    assert len((await _broken("huge-header"))[1]["X-Huge"]) == 1 << 20


@pytest.mark.parametrize("mode", ["invalid-json", "not-utf8", "empty", "gzip-unsaid"])
async def test_a_body_that_should_not_parse_does_not(mode: str) -> None:
    with pytest.raises(ValueError):
        json.loads((await _broken(mode))[2].decode())


@pytest.mark.parametrize(
    ("mode", "starts", "ends", "hangs"),
    [
        ("truncated", b"HTTP/1.1 200 Demo\r\n", BODY[: len(BODY) // 2], False),
        ("truncated-chunks", b"HTTP/1.1 200 Demo\r\n", BODY + b"\r\n", False),
        ("short-length", b"HTTP/1.1 200 Demo\r\n", BODY, False),
        ("long-length", b"HTTP/1.1 200 Demo\r\n", BODY, True),
        ("two-lengths", b"HTTP/1.1 200 Demo\r\n", BODY, False),
        ("length-and-chunks", b"HTTP/1.1 200 Demo\r\n", b"0\r\n\r\n", False),
        ("trailers", b"HTTP/1.1 200 Demo\r\n", f"X-Debug: password={SECRET}\r\n\r\n".encode(), False),
        ("bad-status-line", b"HTTP/1.1 abc", b"\r\n\r\n", False),
        ("not-http", b"SSH-2.0", b"\r\n", False),
        ("early-hints", b"HTTP/1.1 103", BODY, False),
        ("close", b"", b"", False),
        ("hang", b"", b"", True),
        ("hang-in-body", b"HTTP/1.1 200 Demo\r\n", BODY[: len(BODY) // 2], True),
        ("upgrade", b"HTTP/1.1 101 Demo\r\n", f"{SECRET}\n".encode(), True),
        ("spdy", b"HTTP/1.1 101 Demo\r\n", f"{SECRET}\n".encode(), True),
        ("watch-no-newline", b'{"type":"ADDED"', b"}", True),
    ],
)
async def test_bytes_are_as_said(mode: str, starts: bytes, ends: bytes, hangs: bool) -> None:
    _, _, body, hung = await _broken(mode)
    assert body.startswith(starts)
    assert body.endswith(ends)
    assert hung is hangs


LEAKING = [
    "protobuf",
    "cbor",
    "yaml",
    "html",
    "text",
    "duplicate-keys",
    "unknown-kind",
    "trailers",
    "early-hints",
    "upgrade",
    "spdy",
    "set-cookie",
    "secret-in-header",
    "secret-in-error",
    "secret-in-500",
    "plain-watch",
    "watch-garbage",
]


@pytest.mark.parametrize("mode", LEAKING)
async def test_a_fault_that_leaks_has_the_secret_in_it(mode: str) -> None:
    _, headers, body, _ = await _broken(mode)
    assert leaks_into(body) or leaks_into(repr(headers).encode())


def test_what_does_not_leak_is_seen_so() -> None:
    assert not leaks_into(BODY)


async def test_an_endless_line_is_long() -> None:
    assert len((await _broken("watch-endless-line"))[2]) > 8 << 20
    assert b"\n" not in (await _broken("log-endless-line"))[2]


def test_a_fault_takes_what_it_matches_as_often_as_it_says() -> None:
    fault = Fault("gzip", match=r"GET /api/v1/secrets", times=2)
    assert [fault.takes(REQUEST) for _ in range(3)] == [True, True, False]
    assert not Fault("gzip", match="^POST").takes(REQUEST)
    every = Fault("gzip")
    assert all(every.takes(REQUEST) for _ in range(5))


def test_an_unknown_fault_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown fault 'zip'; one of bad-status-line, "):
        Fault("zip")
