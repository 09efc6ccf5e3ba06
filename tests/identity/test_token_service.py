"""The front door: no session without its record, no reason for who had no token, nothing revived."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from identity.provider import AUDIENCE, Provider
from interlock.identity.fetching import fetch
from interlock.identity.oidc import LEEWAY, Issuer, Verifier
from interlock.identity.sessions import (
    Held,
    Limits,
    NoSession,
    ProviderAway,
    RecordAway,
    Session,
    SessionEvent,
    SessionState,
    StateAway,
    is_token,
    token_hash,
)
from interlock.identity.token_service import Refused, TokenService
from interlock.state import State

IP = "10.0.0.1"


class House:
    """A provider, a state database, an evidence that a test can break, and the service between them."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.provider = Provider(algorithm="ES256")
        self.now = time.time()
        self.file = folder / "state.db"
        self.state = State(f"sqlite:///{self.file}")
        self.events: list[Mapping[str, Any]] = []
        self.broken: Exception | None = None
        self.threads = ThreadPoolExecutor(4)
        self.service = self.make(**more)

    def make(self, **more: Any) -> TokenService:
        issuer = Issuer(self.provider.issuer, AUDIENCE, username_claim="email", agent_claim="azp")
        verifier = Verifier([issuer], fetch=fetch, clock=lambda: self.now, monotonic=lambda: self.now)
        return TokenService(
            **{
                "verifier": verifier,
                "state": self.state,
                "record": self.record,
                "clusters": ["dev", "prod"],
                "limits": Limits(ttl=900, idle=600, max=3600),
                "clock": lambda: self.now,
                "random": os.urandom,
                "threads": self.threads,
                **more,
            }
        )

    async def record(self, event: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise self.broken
        self.events.append(event)

    def told(self) -> list[str]:
        return [event["type"] for event in self.events]

    def token(self, *arguments: Any, **claims: Any) -> str:
        now = int(self.now)
        return self.provider.token(*arguments, **{"iat": now, "exp": now + 300, **claims})

    def close(self) -> None:
        self.provider.stop()
        self.threads.shutdown()
        self.state.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


# ---------------------------------------------------------------------------------------------- opening


async def test_an_identity_opens_a_session_that_its_token_stands_for(house: House) -> None:
    issued = await house.service.open(house.token("ada", ["agents"], azp="claude"), "dev", IP)
    assert is_token(issued.token)
    assert issued.expires_in == 900
    assert issued.token not in repr(issued)
    held = house.state.session_by_token_hash(token_hash(issued.token))
    assert held == Held(issued.session, house.now + 900)
    one = issued.session
    assert (one.state, one.cluster, one.opened_from, one.addresses) == (SessionState.ACTIVE, "dev", IP, ())
    assert (one.principal.user, one.principal.groups, one.principal.agent) == ("ada", ("agents",), "claude")


async def test_the_opening_is_recorded_with_all_but_secrets_and_claims(house: House) -> None:
    identity = house.token("ada", ["agents"], azp="claude", repo="shop-claim")
    issued = await house.service.open(identity, "dev", IP)
    one = issued.session
    assert house.events == [
        {
            "type": "session_opened",
            "session_id": one.id,
            "user": "ada",
            "groups": ["agents"],
            "issuer": house.provider.issuer,
            "subject": "id-of-ada",
            "agent": "claude",
            "owner": None,
            "cluster": "dev",
            "addresses": [],
            "opened_at": house.now,
            "idle_seconds": 600,
            "expires_at": house.now + 3600,
            "ended_at": None,
            "how": "oidc",
            "client_ip": IP,
            "token_expires_at": house.now + 900,
        }
    ]
    text = repr(house.events)
    for secret in (issued.token, identity, "shop-claim", one.mask_key.hex(), repr(one.mask_key)):
        assert secret not in text


async def test_every_exchange_opens_a_session_of_its_own(house: House) -> None:
    identity = house.token()
    opened = [
        await house.service.open(identity, audience, IP) for audience in ("dev", "dev", "prod", "console")
    ]
    assert len({issued.session.id for issued in opened}) == 4
    assert len({issued.session.mask_key for issued in opened}) == 4
    assert [issued.session.cluster for issued in opened] == ["dev", "dev", "prod", "console"]


async def test_an_identity_without_groups_gets_a_session(house: House) -> None:
    assert (await house.service.open(house.token(groups=None), "dev", IP)).session.principal.groups == ()


async def test_who_had_no_token_hears_the_same_words(house: House) -> None:
    heard = set()
    forged = house.token().rpartition(".")[0] + ".AAAA"
    for token in ("", "x", "a.b.c", forged, house.token(iss="https://evil.example")):
        with pytest.raises(Refused) as refused:
            await house.service.open(token, "dev", IP)
        heard.add(refused.value.reason.replace(refused.value.id, "ID"))
    assert heard == {"the token was not accepted; `interlock doctor --id ID` tells the operator why"}
    reasons = [event["reason"] for event in house.events]
    assert len(set(reasons)) == 4
    assert "'https://evil.example', which is not configured" in reasons[-1]


async def test_who_had_a_real_token_hears_which_check_failed(house: House) -> None:
    with pytest.raises(Refused, match="has audience 'other', expected 'interlock'") as refused:
        await house.service.open(house.token(aud="other"), "dev", IP)
    (event,) = house.events
    assert event == {
        "type": "session_refused",
        "id": refused.value.id,
        "reason": refused.value.reason,
        "verified": True,
        "cluster": "dev",
        "client_ip": IP,
        "at": house.now,
    }


async def test_nobody_opens_from_outside_the_networks(tmp_path: Path) -> None:
    house = House(tmp_path, address=["10.0.0.0/8"])
    issued = await house.service.open(house.token(), "dev", IP)
    assert issued.session.addresses == ("10.0.0.0/8",)
    with pytest.raises(Refused, match="clientAddress"):
        await house.service.open(house.token(), "dev", "11.0.0.1")
    with pytest.raises(NoSession, match="clientAddress"):
        await house.service.open_for(house.token(), "dev", "11.0.0.1")
    assert house.told() == ["session_opened", "session_refused"]
    house.close()


async def test_a_provider_that_is_away_is_no_refusal_but_is_recorded(house: House) -> None:
    token = house.token()
    house.provider.stop()
    for call in (house.service.open, house.service.open_for):
        with pytest.raises(ProviderAway, match="cannot be reached"):
            await call(token, "dev", IP)
    assert house.told() == ["session_refused"] * 2
    house.provider = Provider(algorithm="ES256")


@pytest.mark.parametrize("broken", [OSError(28, "No space left"), RecordAway("gone"), ValueError("secret")])
async def test_what_cannot_be_recorded_does_not_happen(house: House, broken: Exception) -> None:
    issued = await house.service.open(house.token(), "dev", IP)
    house.broken = broken
    for call in (
        house.service.open(house.token(), "dev", IP),
        house.service.open("x", "dev", IP),
        house.service.renew(issued.token, "dev", IP),
        house.service.renew("ilk_x", "dev", IP),
        house.service.open_for(house.token(), "dev", IP),
    ):
        with pytest.raises(RecordAway) as away:
            await call
        assert "secret" not in away.value.reason
    assert [one.id for one in house.state.sessions()] == [issued.session.id]


async def test_a_state_database_that_is_away_opens_nothing_and_the_record_says_so(house: House) -> None:
    issued = await house.service.open(house.token(), "dev", IP)
    aside = house.file.rename(house.file.with_name("aside"))
    for call in (
        house.service.open(house.token(), "dev", IP),
        house.service.renew(issued.token, "dev", IP),
        house.service.open_for(house.token(), "dev", IP),
    ):
        with pytest.raises(StateAway):
            await call
    aside.rename(house.file)
    assert len(house.state.sessions()) == 1
    assert house.told() == ["session_opened", "session_opened", "session_ended"]
    assert house.events[2]["session_id"] == house.events[1]["session_id"]
    assert "never stored" in house.events[2]["reason"]


async def test_a_repeated_random_token_opens_nothing(house: House) -> None:
    service = house.make(random=lambda n: b"\1" * n)
    await service.open(house.token(), "dev", IP)
    service = house.make(random=lambda n: (b"\2" if n == 16 else b"\1") * n)
    with pytest.raises(StateAway, match="another session under a fresh random token"):
        await service.open(house.token(), "dev", IP)
    assert len(house.state.sessions()) == 1


# --------------------------------------------------------------------------------------------- renewing


async def test_a_renewal_is_the_same_session_with_a_new_token(house: House) -> None:
    first = await house.service.open(house.token(), "dev", IP)
    house.now += 300
    second = await house.service.renew(first.token, "dev", IP)
    assert (second.session.id, second.session.mask_key) == (first.session.id, first.session.mask_key)
    assert second.session.ends_at == first.session.ends_at
    assert second.token != first.token
    assert second.expires_in == 900
    assert house.told() == ["session_opened", "session_renewed"]
    assert house.events[1]["token_expires_at"] == house.now + 900
    third = await house.service.renew(first.token, None, IP)
    assert third.session.cluster == "dev"


async def test_no_renewal_goes_past_the_sessions_end(house: House) -> None:
    issued = await house.service.open(house.token(), "dev", IP)
    end = issued.session.ends_at
    lives = []
    while house.now + 500 < end:
        house.now += 500
        issued = await house.service.renew(issued.token, "dev", IP)
        lives.append(house.now + issued.expires_in)
    assert max(lives) == pytest.approx(end, abs=1)
    house.now = end
    with pytest.raises(Refused, match=r"expired \(max\)"):
        await house.service.renew(issued.token, "dev", IP)


async def test_what_is_over_is_not_renewed_and_its_holder_hears_why(house: House) -> None:
    issued = await house.service.open(house.token(), "dev", IP)
    for audience, ip, why in (("prod", IP, "not for prod"), ("console", IP, "not for console")):
        with pytest.raises(Refused, match=why):
            await house.service.renew(issued.token, audience, ip)
    house.state.end(issued.session.id, house.now, event=SessionEvent.REVOKE, reason="left")
    with pytest.raises(Refused, match=r"was revoked \(left\)"):
        await house.service.renew(issued.token, "dev", IP)
    refusal = house.events[-1]
    assert (refusal["type"], refusal["session_id"], refusal["user"]) == (
        "session_refused",
        issued.session.id,
        "ada",
    )


async def test_an_unknown_session_token_hears_the_same_words_as_any_other(house: House) -> None:
    with pytest.raises(Refused, match="the token was not accepted"):
        await house.service.renew("ilk_" + "0" * 39, "dev", IP)
    assert house.events[0]["reason"] == "a session token that is not known here"
    assert house.events[0]["verified"] is False


async def test_a_revocation_during_a_renewal_wins(house: House) -> None:
    issued = await house.service.open(house.token(), "dev", IP)

    async def revoke_then_record(event: Mapping[str, Any]) -> None:
        house.state.end(issued.session.id, house.now, event=SessionEvent.REVOKE)
        await house.record(event)

    with pytest.raises(Refused, match="ended meanwhile"):
        await house.make(record=revoke_then_record).renew(issued.token, "dev", IP)
    assert house.told() == ["session_opened", "session_renewed", "session_refused"]


async def test_a_renewal_that_is_not_stored_is_recorded_as_refused(house: House) -> None:
    issued = await house.service.open(house.token(), "dev", IP)

    async def away_then_record(event: Mapping[str, Any]) -> None:
        if house.file.exists():
            house.file.rename(house.file.with_name("aside"))
        await house.record(event)

    with pytest.raises(StateAway):
        await house.make(record=away_then_record).renew(issued.token, "dev", IP)
    assert house.told() == ["session_opened", "session_renewed", "session_refused"]


# ------------------------------------------------------------------------- identity tokens as bearers


async def test_an_identity_token_as_bearer_has_one_session_for_each_cluster(house: House) -> None:
    identity = house.token()
    first = await house.service.open_for(identity, "dev", IP)
    assert first.token_expires_at == int(house.now) + 300 + LEEWAY
    assert await house.service.open_for(identity, "dev", IP) == first
    assert (await house.service.open_for(identity, "prod", IP)).session.cluster == "prod"
    assert house.told() == ["session_opened"] * 2
    assert house.events[0]["how"] == "oidc-bearer"


async def test_many_at_once_open_one(house: House) -> None:
    identity = house.token()
    held = await asyncio.gather(*(house.service.open_for(identity, "dev", IP) for _ in range(8)))
    assert len({one.session.id for one in held}) == 1
    active = [one for one in house.state.sessions() if one.state is SessionState.ACTIVE]
    assert len(active) == 1
    opened = {event["session_id"] for event in house.events if event["type"] == "session_opened"}
    ended = {event["session_id"] for event in house.events if event["type"] == "session_ended"}
    assert opened - ended == {active[0].id}


async def test_a_bearer_that_is_refused_is_no_session(house: House) -> None:
    with pytest.raises(NoSession, match="expected 'interlock'"):
        await house.service.open_for(house.token(aud="other"), "dev", IP)
    with pytest.raises(NoSession, match="the token was not accepted; `interlock doctor --id"):
        await house.service.open_for("a.b.c", "dev", IP)
    assert house.told() == ["session_refused"] * 2


async def test_the_clock_lets_it_begin_anew_and_nothing_else_does(house: House) -> None:
    identity = house.token(exp=int(house.now) + 10_000)
    first = await house.service.open_for(identity, "dev", IP)
    house.now += 700
    second = await house.service.open_for(identity, "dev", IP)
    assert second.session.id != first.session.id
    assert house.told() == ["session_opened", "session_ended", "session_opened"]
    assert (house.events[1]["session_id"], house.events[1]["reason"]) == (first.session.id, "idle")
    house.state.end(second.session.id, house.now, event=SessionEvent.REVOKE)
    third = await house.service.open_for(identity, "dev", IP)
    assert (third.session.id, third.session.state) == (second.session.id, SessionState.REVOKED)


async def test_a_session_that_vanishes_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = house.token()

    def taken(*_: object, **__: object) -> bool:
        return False

    monkeypatch.setattr(house.state, "open_session", taken)
    with pytest.raises(StateAway, match="lost a session"):
        await house.service.open_for(identity, "dev", IP)
    monkeypatch.undo()
    held = await house.service.open_for(identity, "dev", IP)

    def gone(_: str) -> Session | None:
        return None

    monkeypatch.setattr(house.state, "session", gone)
    assert await house.service.open_for(identity, "dev", IP) == held


# --------------------------------------------------------------------------------------------- expiring


async def test_what_the_clock_ends_is_recorded_once(house: House) -> None:
    issued = await house.service.open(house.token(), "dev", IP)
    await house.service.expire()
    house.now += 600
    await house.service.expire()
    await house.service.expire()
    assert house.told() == ["session_opened", "session_ended"]
    assert house.events[1]["session_id"] == issued.session.id
    assert (house.events[1]["reason"], house.events[1]["ended_at"]) == ("idle", house.now)


async def test_ends_that_could_not_be_recorded_are_recorded_later(house: House) -> None:
    for _ in range(3):
        await house.service.open(house.token(), "dev", IP)
    house.now += 600
    house.broken = OSError("full")
    with pytest.raises(RecordAway):
        await house.service.expire()
    house.broken = None
    await asyncio.gather(house.service.expire(), house.service.expire())
    ended = [event["session_id"] for event in house.events if event["type"] == "session_ended"]
    assert sorted(ended) == sorted(one.id for one in house.state.sessions())


def test_no_cluster_takes_the_consoles_name(house: House) -> None:
    with pytest.raises(ValueError, match="cannot be named console"):
        house.make(clusters=["console"])
    assert house.service.audiences == {"dev", "prod", "console"}
