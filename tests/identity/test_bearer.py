"""The bearer of every request: quick, never older than a second, and away when the database is."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.identity import bearer
from interlock.identity.bearer import CACHE_SECONDS, READ_SECONDS, Bearers
from interlock.identity.principal import Principal
from interlock.identity.sessions import (
    Held,
    Limits,
    NoSession,
    Session,
    SessionEvent,
    StateAway,
    identity_hash,
    new_session,
    new_token,
    token_hash,
)
from interlock.state import State

NOW = 1_000_000.0
IP = "10.0.0.1"


class Clock:
    """Both clocks of a `Bearers`, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Store:
    """A state database that counts, and that a test can hold up or break."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.calls: list[str] = []
        self.broken = False
        self.writes_broken = False
        self.go = threading.Event()
        self.go.set()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            assert self.go.wait(20)
            if self.broken or (self.writes_broken and name == "touch"):
                raise StateAway("gone")
            return getattr(self.state, name)(*arguments)

        return call


class House:
    """A store, a clock, a `Bearers` and a session with its token."""

    def __init__(self, folder: Path, open_for: Any = None) -> None:
        self.state = State(f"sqlite:///{folder / 'state.db'}")
        self.store = Store(self.state)
        self.clock = Clock()
        self.bearers = Bearers(self.store, clock=self.clock, monotonic=self.clock, open_for=open_for)
        self.session, self.token = self.open()

    def open(self, **changes: Any) -> tuple[Session, str]:
        made = new_session(
            Principal("ada", (), "https://idp", "1"),
            "dev",
            limits=Limits(ttl=900, idle=600, max=3600),
            addresses=(),
            opened_from=IP,
            now=self.clock.now,
            random=os.urandom,
        )
        one, token = dataclasses.replace(made, **changes), new_token(os.urandom)
        assert self.state.open_session(one, token_hash(token), self.clock.now + 900)
        return one, token

    async def check(self, token: str | None = None, cluster: str = "dev", ip: str = IP) -> Session:
        return await self.bearers.check(self.token if token is None else token, cluster, ip)

    async def written(self) -> None:
        while self.bearers._writing is not None:
            await asyncio.sleep(0.001)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    house.store.go.set()
    await house.bearers.close()
    house.bearers._threads.shutdown(wait=True)
    house.state.close()


# --------------------------------------------------------------------------------------------- checking


async def test_a_token_gives_its_session(house: House) -> None:
    assert await house.check() == house.session


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "Bearer x", "ilk_", "é", "ilk_" + "0" * 39])
async def test_what_is_no_token_is_refused_without_asking(house: House, token: str) -> None:
    with pytest.raises(NoSession, match="no valid session token"):
        await house.check(token)
    assert house.store.calls == []


async def test_an_unknown_token_is_refused_and_is_asked_for_once(house: House) -> None:
    token = new_token(os.urandom)
    for _ in range(3):
        with pytest.raises(NoSession, match="no valid session token") as refused:
            await house.check(token)
        assert refused.value.session_id is None
    assert house.store.calls == ["session_by_token_hash"]


@pytest.mark.parametrize(
    ("cluster", "ip", "later", "why"),
    [("prod", IP, 0, "is not for prod"), ("dev", IP, 600, "expired"), ("dev", IP, 900, "expired")],
)
async def test_a_session_is_for_its_cluster_and_its_time(
    house: House, cluster: str, ip: str, later: float, why: str
) -> None:
    house.clock.now += later
    with pytest.raises(NoSession, match=why):
        await house.check(cluster=cluster, ip=ip)


async def test_a_session_is_for_its_addresses(house: House) -> None:
    _, token = house.open(addresses=("10.0.0.0/8",))
    await house.check(token)
    with pytest.raises(NoSession, match="from this address"):
        await house.check(token, ip="11.0.0.1")


# ------------------------------------------------------------------------------------------- freshness


async def test_the_answer_is_remembered_for_half_a_second_and_no_longer(house: House) -> None:
    for _ in range(100):
        await house.check()
    assert house.store.calls == ["session_by_token_hash"]
    house.clock.now += CACHE_SECONDS - 0.01
    await house.check()
    assert len(house.store.calls) == 1
    house.clock.now += 0.01
    await house.check()
    assert len(house.store.calls) == 2


async def test_the_half_second_begins_before_the_read(house: House) -> None:
    house.store.go.clear()
    checking = asyncio.create_task(house.check())
    while not house.store.calls:
        await asyncio.sleep(0.001)
    house.clock.now += CACHE_SECONDS
    house.store.go.set()
    await checking
    await house.check()
    assert house.store.calls == ["session_by_token_hash"] * 2


async def test_a_clock_that_is_set_back_makes_nothing_fresher(house: House) -> None:
    await house.check()
    house.clock.now -= 30
    await house.check()
    assert len(house.store.calls) == 2


@pytest.mark.parametrize("event", [SessionEvent.REVOKE, SessionEvent.END])
async def test_an_end_is_felt_within_the_half_second(house: House, event: SessionEvent) -> None:
    await house.check()
    house.state.end(house.session.id, NOW, event=event)
    house.clock.now += CACHE_SECONDS
    with pytest.raises(NoSession, match=r"was revoked|has ended"):
        await house.check()
    with pytest.raises(NoSession, match=r"was revoked|has ended"):
        await house.bearers.still(house.session)


async def test_many_at_once_share_one_read(house: House) -> None:
    house.store.go.clear()
    checks = [asyncio.create_task(house.check()) for _ in range(50)]
    await asyncio.sleep(0.01)
    house.store.go.set()
    assert set(await asyncio.gather(*checks)) == {house.session}
    assert house.store.calls == ["session_by_token_hash"]


async def test_one_that_goes_away_does_not_take_the_answer_from_the_others(house: House) -> None:
    house.store.go.clear()
    first, second = (asyncio.create_task(house.check()) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    house.store.go.set()
    assert await second == house.session
    assert first.cancelled()


async def test_what_is_remembered_has_a_bound(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bearer, "REMEMBERED", 10)
    await house.check()
    for _ in range(30):
        with pytest.raises(NoSession):
            await house.check(new_token(os.urandom))
        assert len(house.bearers._held._known) <= 10
    assert await house.check() == house.session
    assert house.store.calls == ["session_by_token_hash"] * 32


# ------------------------------------------------------------------------------------------------ away


async def test_a_database_that_is_away_is_no_refusal_and_no_session_outlives_it(house: House) -> None:
    await house.check()
    house.store.broken = True
    house.clock.now += CACHE_SECONDS - 0.01
    assert await house.check() == house.session
    house.clock.now += 0.01
    for _ in range(2):
        with pytest.raises(StateAway, match="gone"):
            await house.check()
        with pytest.raises(StateAway, match="gone"):
            await house.bearers.still(house.session)
    house.store.broken = False
    assert await house.check() == house.session


async def test_a_database_that_hangs_is_away_after_a_second(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bearer, "READ_SECONDS", 0.1)
    house.store.go.clear()
    # More at once than there are threads: none waits longer for it.
    tokens = [house.token, *(new_token(os.urandom) for _ in range(9))]
    answers = await asyncio.gather(*(house.check(token) for token in tokens), return_exceptions=True)
    assert {str(answer) for answer in answers} == {"the state database did not answer within 0.1 s"}
    house.store.go.set()
    monkeypatch.setattr(bearer, "READ_SECONDS", READ_SECONDS)
    house.clock.now += CACHE_SECONDS
    assert await house.check() == house.session


async def test_the_deleted_file_is_felt(house: House, tmp_path: Path) -> None:
    await house.check()
    (tmp_path / "state.db").unlink()
    house.clock.now += CACHE_SECONDS
    with pytest.raises(StateAway, match="No such file"):
        await house.check()


async def test_a_failure_that_nobody_waits_for_any_more_is_no_noise(house: House) -> None:
    house.store.go.clear()
    alone = asyncio.create_task(house.check())
    await asyncio.sleep(0.01)
    alone.cancel()
    house.store.broken = True
    house.store.go.set()
    while house.bearers._held._reading:
        await asyncio.sleep(0.001)
    assert alone.cancelled()


async def test_a_check_that_ends_with_the_loop_is_no_noise(house: House) -> None:
    house.store.go.clear()
    alone = asyncio.create_task(house.check())
    await asyncio.sleep(0.01)
    (reading,) = house.bearers._held._reading.values()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone


# ---------------------------------------------------------------------------------------------- use


async def test_use_is_written_once_in_a_twentieth_of_the_idle_time(house: House) -> None:
    for _ in range(60):
        house.clock.now += 1
        await house.check()
        await house.written()
    assert house.store.calls.count("touch") == 1
    found = house.state.session(house.session.id)
    assert found is not None
    assert NOW + 30 < found.last_used_at <= NOW + 32


async def test_a_session_in_use_does_not_become_idle(house: House) -> None:
    for _ in range(80):
        house.clock.now += 10
        await house.check()
        await house.written()
    house.clock.now += 599
    found = house.state.session(house.session.id)
    assert found is not None
    assert house.state.expire(NOW + 800 + 560) == []
    assert [one.id for one in house.state.expire(NOW + 800 + 600)] == [house.session.id]


async def test_use_that_cannot_be_written_is_written_later(house: House) -> None:
    house.store.writes_broken = True
    house.clock.now += 31
    await house.check()
    await house.written()
    house.store.writes_broken = False
    assert house.state.session(house.session.id) == house.session
    await house.check()
    await house.written()
    found = house.state.session(house.session.id)
    assert found is not None
    assert found.last_used_at == NOW + 31


async def test_use_during_a_write_is_written_after_it(house: House) -> None:
    other, token = house.open()
    await house.check()
    await house.check(token)
    house.bearers._held._known = {
        key: (NOW + 31, held) for key, (_, held) in house.bearers._held._known.items()
    }
    house.clock.now += 31
    house.store.go.clear()
    await house.check()
    await asyncio.sleep(0.01)
    await house.check(token)
    house.store.go.set()
    await house.written()
    used = {one.id: one.last_used_at for one in house.state.sessions()}
    assert used == {house.session.id: NOW + 31, other.id: NOW + 31}


async def test_what_is_noted_of_use_has_a_bound(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bearer, "REMEMBERED", 3)
    tokens = [house.open()[1] for _ in range(6)]
    house.clock.now += 31
    for token in tokens:
        await house.check(token)
        assert len(house.bearers._noted) <= 3
    await house.written()
    assert sum(one.last_used_at == NOW + 31 for one in house.state.sessions()) == 6


async def test_closing_writes_what_was_noted(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.check()
    house.clock.now += 31
    await house.check()
    await house.bearers.close()
    found = house.state.session(house.session.id)
    assert found is not None
    assert found.last_used_at == NOW + 31
    house.state.close()


# -------------------------------------------------------------------------------------------- streams


async def test_a_stream_lives_with_the_session_and_not_with_the_token(house: House) -> None:
    house.state.renew(house.session.id, b"h" * 32, NOW + 3000, NOW)
    for _ in range(4):
        house.clock.now += 300
        await house.bearers.still(house.session)
        await house.written()
    with pytest.raises(NoSession, match="token has expired"):
        await house.check()
    assert (await house.bearers.still(house.session)).id == house.session.id
    house.clock.now += 3000
    with pytest.raises(NoSession, match="expired"):
        await house.bearers.still(house.session)


async def test_a_session_that_is_not_there_any_more_is_over(house: House) -> None:
    with pytest.raises(NoSession) as gone:
        await house.bearers.still(dataclasses.replace(house.session, id="none"))
    assert gone.value.session_id == "none"


async def test_streams_of_one_session_share_the_look(house: House) -> None:
    await asyncio.gather(*(house.bearers.still(house.session) for _ in range(50)))
    assert house.store.calls == ["session"]


async def test_a_revocation_ends_the_streams_in_well_under_a_second(tmp_path: Path) -> None:
    state = State(f"sqlite:///{tmp_path / 'state.db'}")
    bearers = Bearers(state, clock=time.time, monotonic=time.monotonic)
    house = House.__new__(House)
    house.state, house.clock = state, Clock()
    house.clock.now = time.time()
    one, _ = house.open()
    streams = [asyncio.create_task(bearers.over(one)) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert not any(stream.done() for stream in streams)
    state.end(one.id, time.time(), event=SessionEvent.REVOKE, reason="user left")
    assert set(await asyncio.gather(*streams)) == {"this session was revoked (user left); ask the operator"}
    await bearers.close()
    state.close()


async def test_a_stream_ends_when_the_database_is_away(house: House) -> None:
    house.store.broken = True
    with pytest.raises(StateAway):
        await house.bearers.over(house.session)


# --------------------------------------------------------------------------- identity tokens as bearers


class Opener:
    def __init__(self) -> None:
        self.house: House
        self.opened: list[tuple[str, str, str]] = []
        self.refuses: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, token: str, cluster: str, ip: str) -> Held:
        self.opened.append((token, cluster, ip))
        await self.go.wait()
        if self.refuses:
            raise self.refuses
        one, _ = self.house.open(cluster=cluster)
        return Held(one, self.house.clock.now + 900)


@pytest.fixture
async def opening(tmp_path: Path) -> AsyncIterator[tuple[House, Opener]]:
    opener = Opener()
    house = House(tmp_path, opener)
    opener.house = house
    yield house, opener
    await house.bearers.close()
    house.state.close()


async def test_an_identity_token_opens_its_session_once(opening: tuple[House, Opener]) -> None:
    house, opener = opening
    opener.go.clear()
    checks = [asyncio.create_task(house.check("a.b.c")) for _ in range(20)]
    await asyncio.sleep(0.05)
    opener.go.set()
    assert len({one.id for one in await asyncio.gather(*checks)}) == 1
    await house.check("a.b.c")
    assert opener.opened == [("a.b.c", "dev", IP)]
    await house.check("a.b.c", "prod")
    assert opener.opened == [("a.b.c", "dev", IP), ("a.b.c", "prod", IP)]


async def test_a_session_token_is_still_one(opening: tuple[House, Opener]) -> None:
    house, opener = opening
    assert await house.check() == house.session
    for token in ("", "a.b", "a.b.c.d", "ilk_x", "a.b.\ud800"):
        with pytest.raises(NoSession):
            await house.check(token)
    assert opener.opened == []


async def test_a_refused_identity_is_refused_and_remembered_for_nothing(
    opening: tuple[House, Opener],
) -> None:
    house, opener = opening
    opener.refuses = NoSession("no")
    for _ in range(2):
        with pytest.raises(NoSession, match="no"):
            await house.check("a.b.c")
    opener.refuses = None
    await house.check("a.b.c")
    assert len(opener.opened) == 3


async def test_an_opening_that_nobody_waits_for_is_no_noise(opening: tuple[House, Opener]) -> None:
    house, opener = opening
    opener.go.clear()
    alone = asyncio.create_task(house.check("a.b.c"))
    while not opener.opened:
        await asyncio.sleep(0.001)
    alone.cancel()
    opener.refuses = NoSession("no")
    opener.go.set()
    while house.bearers._openings:
        await asyncio.sleep(0.001)
    (task,) = [asyncio.create_task(house.check("a.b.c"))]
    with pytest.raises(NoSession):
        await task


@pytest.mark.parametrize(
    ("how", "again"), [("idle", True), ("swept", True), ("revoked", False), ("ended", False)]
)
async def test_only_the_clock_lets_the_same_identity_begin_anew(
    opening: tuple[House, Opener], how: str, again: bool
) -> None:
    house, opener = opening
    one, _ = house.open()
    house.state.open_session(dataclasses.replace(one, id="bearer"), identity_hash("a.b.c", "dev"), NOW + 3000)
    assert (await house.check("a.b.c")).id == "bearer"
    if how in ("idle", "swept"):
        house.clock.now += 700
    if how == "swept":
        house.state.expire(house.clock.now)
    if how in ("revoked", "ended"):
        event = SessionEvent.REVOKE if how == "revoked" else SessionEvent.END
        house.state.end("bearer", house.clock.now, event=event)
        house.clock.now += 1
    if again:
        assert (await house.check("a.b.c")).id != "bearer"
    else:
        with pytest.raises(NoSession):
            await house.check("a.b.c")
    assert len(opener.opened) == again
