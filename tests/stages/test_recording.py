"""What recording puts into the journal, and that it waits for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.evidence import events
from interlock.exchange import Answer, Reading, Recorded, Refusal, Reply, Shown
from interlock.masking.masker import Masker
from interlock.stages.recording import KNOWN_BODIES, LARGEST_BODY, Recording
from stages.parts import admitted

MASKER = Masker(b"k" * 32)


class Journal:
    def __init__(self) -> None:
        self.leaves: list[dict[str, Any]] = []
        self.bodies: list[dict[str, bytes]] = []
        self.writable = True
        self.held: asyncio.Event | None = None

    def put(self, event: Any, bodies: Any = None) -> asyncio.Future[Any]:
        self.leaves.append(json.loads(events.leaf(event, "gateway-1", len(self.leaves) + 1)))
        self.bodies.append(dict(bodies or {}))
        return asyncio.ensure_future(self._write())

    async def append(self, event: Any, bodies: Any = None) -> Any:
        return await self.put(event, bodies)

    async def _write(self) -> None:
        if self.held is not None:
            await self.held.wait()
        if not self.writable:
            raise OSError("unwritable")


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def stage(journal: Journal) -> Recording:
    return Recording(journal)  # type: ignore[arg-type]


def decided(x: Any) -> Any:
    x.decision = SimpleNamespace(
        effect="allow",
        rule="r",
        policy="p",
        digest="d" * 64,
        reason="rule r of policy p allows it",
        matched=(("p", "r", "allow"),),
        unmasked=False,
        impersonation=False,
    )
    x.shown = Shown("/api/v1/namespaces/shop/pods", b"", ())
    return x


def masked(data: bytes) -> Any:
    return MASKER.body(admitted().admission.target.info, 200, "application/json", data)  # type: ignore[union-attr]


async def test_a_request_is_recorded_with_its_decision(stage: Recording, journal: Journal) -> None:
    x = decided(admitted())
    x.shown = Shown("/shown", b'{"a":1}', ())
    assert (await stage.request(x)).what == "request"
    (leaf,) = journal.leaves
    assert leaf["type"] == "request"
    assert leaf["id"] == x.id
    assert leaf["uri"] == "/shown"
    assert leaf["user_name"] == "ada@example.com"
    assert leaf["client_ip"] == "192.0.2.7"
    assert (leaf["verb"], leaf["resource"], leaf["namespace"]) == ("list", "pods", "shop")
    assert leaf["decision"]["effect"] == "allow"
    assert leaf["decision"]["rule"] == "r"
    digest = hashlib.sha256(b'{"a":1}').hexdigest()
    assert leaf["body_sha256"] == digest
    assert journal.bodies == [{digest: b'{"a":1}'}]


async def test_it_waits_for_the_disk(stage: Recording, journal: Journal) -> None:
    journal.held = asyncio.Event()
    task = asyncio.ensure_future(stage.request(decided(admitted())))
    await asyncio.sleep(0.01)
    assert not task.done()
    journal.held.set()
    await task


async def test_what_cannot_be_written_raises(stage: Recording, journal: Journal) -> None:
    journal.writable = False
    with pytest.raises(OSError, match="unwritable"):
        await stage.request(decided(admitted()))
    with pytest.raises(OSError, match="journal"):
        stage.responseheaders(admitted())


async def test_a_refusal_is_request_decision_and_answer(stage: Recording, journal: Journal) -> None:
    x = admitted()
    x.refusal = Refusal(403, "told", reason="the whole reason")
    x.refusal.stage = "authorization"
    await stage.refused(x)
    asked, ended = journal.leaves
    assert asked["decision"]["stage"] == "authorization"
    assert asked["decision"]["reason"] == "the whole reason"
    assert asked["decision"]["effect"] == "deny"
    assert (ended["code"], ended["origin"], ended["ended"]) == (403, "gateway", "complete")


async def test_a_request_that_was_not_parsed_is_recorded_all_the_same(
    stage: Recording, journal: Journal
) -> None:
    x = admitted()
    x.admission = x.session = None
    x.refusal = Refusal(400, "told")
    await stage.refused(x)
    assert journal.leaves[0]["cluster"] == "dev"
    assert "verb" not in journal.leaves[0]


async def test_after_the_request_was_recorded_a_refusal_adds_the_answer_alone(
    stage: Recording, journal: Journal
) -> None:
    x = decided(admitted())
    x.recorded = await stage.request(x)
    x.refusal = Refusal(503, "told", effect="fault")
    await stage.refused(x)
    assert [leaf["type"] for leaf in journal.leaves] == ["request", "response"]
    assert journal.leaves[1]["ended"] == "fault"


async def test_an_answer_of_our_own_is_no_refusal(stage: Recording, journal: Journal) -> None:
    x = decided(admitted())
    x.answer = Answer(201, b"{}", "answered by policy")
    await stage.refused(x)
    assert journal.leaves[0]["decision"]["effect"] == "answer"
    assert journal.leaves[1]["code"] == 201


async def test_a_response_is_recorded_with_its_masked_body(stage: Recording, journal: Journal) -> None:
    x = decided(admitted())
    x.reply = Reply(200, ((b"Content-Type", b"application/json"),))
    x.masked = masked(b'{"kind":"PodList","items":[]}')
    await stage.response(x)
    (leaf,) = journal.leaves
    assert (leaf["code"], leaf["bytes"], leaf["masked"]) == (200, 29, 0)
    assert list(journal.bodies[0].values()) == [b'{"kind":"PodList","items":[]}']


async def test_a_body_is_written_once(stage: Recording, journal: Journal) -> None:
    x = decided(admitted())
    x.reply = Reply(200, ())
    x.masked = masked(b"{}")
    await stage.response(x)
    await stage.response(x)
    assert [len(bodies) for bodies in journal.bodies] == [1, 0]
    for n in range(KNOWN_BODIES + 3):
        stage._wrote({str(n): b""})
    assert len(stage._known) == KNOWN_BODIES


async def test_a_body_above_the_bound_is_kept_in_part_and_marked(stage: Recording, journal: Journal) -> None:
    x = decided(admitted())
    x.reply = Reply(200, ())
    x.masked = masked(json.dumps({"kind": "X", "pad": "a " * LARGEST_BODY}).encode())
    await stage.response(x)
    assert journal.leaves[0]["body_truncated"] is True
    assert len(next(iter(journal.bodies[0].values()))) == LARGEST_BODY


async def test_a_streams_pieces_are_numbered_and_its_end_waits_for_them(
    stage: Recording, journal: Journal
) -> None:
    x = decided(admitted(target="/api/v1/namespaces/shop/pods/p/log"))
    x.reply = Reply(200, ())
    x.reading = Reading("log", None)
    log = MASKER.log()
    for line in (b"one\n", b"password=x1y2z3\n"):
        x.masked = log.feed(line)
        stage.stream(x, line)
    x.masked = log.feed(b"held")
    stage.stream(x, b"held")
    x.ended = "complete"
    journal.held = asyncio.Event()
    task = asyncio.ensure_future(stage.streamed(x))
    await asyncio.sleep(0.01)
    assert not task.done()
    journal.held.set()
    await task
    one, two, end = journal.leaves
    assert (one["chunk"], two["chunk"]) == (0, 1)
    assert two["masked"] == 1
    assert (end["chunks"], end["ended"], end["masked"]) == (2, "complete", 1)


async def test_a_piece_that_was_not_written_fails_the_next(stage: Recording, journal: Journal) -> None:
    x = decided(admitted(target="/api/v1/namespaces/shop/pods/p/log"))
    x.reading = Reading("log", None)
    x.masked = MASKER.log().feed(b"one\n")
    stage.stream(x, b"one\n")
    journal.writable = False
    await asyncio.sleep(0.01)
    journal.writable = True
    with pytest.raises(OSError, match="unwritable"):
        stage.stream(x, b"two\n")


async def test_messages_are_recorded_by_channel_and_direction(stage: Recording, journal: Journal) -> None:
    x = decided(admitted(target="/api/v1/namespaces/shop/pods/p/exec?command=id"))
    channels = MASKER.channels()
    x.reading = Reading("frames", channels)
    for content, from_client in ((b"\x01out\n", False), (b"\x00typed\n", True)):
        x.masked = channels.frame(content, from_client)
        await stage.websocket_message(x, content, from_client)
    assert [(leaf["channel"], leaf["direction"]) for leaf in journal.leaves] == [
        ("stdout", "out"),
        ("stdin", "in"),
    ]
    x.reply = Reply(101, ())
    x.ended = "complete"
    await stage.websocket_end(x)
    assert journal.leaves[-1]["code"] == 101


async def test_bytes_that_are_not_read_are_counted_and_hashed_with_a_key(
    stage: Recording, journal: Journal
) -> None:
    x = decided(admitted(target="/api/v1/namespaces/shop/pods/p/portforward"))
    x.reading = Reading("opaque", None)
    x.masked = MASKER.unread(b"opaque bytes")
    await stage.websocket_message(x, b"opaque bytes", True)
    (leaf,) = journal.leaves
    assert (leaf["bytes"], leaf["unmasked"]) == (12, True)
    assert leaf["raw_hmac"] != hashlib.blake2b(b"opaque bytes", digest_size=32).hexdigest()
    assert journal.bodies == [{}]
    x.recorded = Recorded("request")
    await stage.error(x)
    assert journal.leaves[-1]["unmasked"] is True


async def test_an_exchange_that_failed_before_its_record_is_recorded_as_refused(
    stage: Recording, journal: Journal
) -> None:
    x = admitted()
    await stage.error(x)
    assert [leaf["type"] for leaf in journal.leaves] == ["request", "response"]
    y = decided(admitted())
    y.recorded = await stage.request(y)
    y.ended = "upstream_failed"
    await stage.error(y)
    assert journal.leaves[-1]["ended"] == "upstream_failed"


async def test_of_a_long_list_no_more_is_kept_than_of_a_short_one(stage: Recording, journal: Journal) -> None:
    x = decided(admitted(target="/api/v1/pods"))
    x.reply = Reply(200, ())
    x.reading = Reading("body", None)
    x.masked = masked(json.dumps({"kind": "X", "pad": "a " * LARGEST_BODY}).encode())
    for _ in range(3):
        stage.stream(x, x.masked.data)
    x.ended = "complete"
    await stage.streamed(x)
    *pieces, end = journal.leaves
    assert [len(body) for kept in journal.bodies for body in kept.values()] == [LARGEST_BODY]
    assert [piece["bytes"] for piece in pieces] == [len(x.masked.data)] * 3
    assert (end["bytes"], end["body_truncated"], end["chunks"]) == (3 * len(x.masked.data), True, 3)
