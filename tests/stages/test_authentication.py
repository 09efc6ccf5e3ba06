"""Bearer in, session out; no session is 401, no answer from the state database is 503."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.exchange import Refusal
from interlock.identity.sessions import NoSession, Session, StateAway
from interlock.stages.authentication import Authentication
from stages.parts import admitted, session


class Bearers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    async def check(self, *asked: Any) -> Session:
        self.asked.append(asked)
        return self._answer()

    async def still(self, known: Session) -> Session:
        self.asked.append(known.id)
        return self._answer()

    def _answer(self) -> Session:
        if isinstance(self.answer, Exception):
            raise self.answer
        found: Session = self.answer
        return found


async def test_the_bearer_is_checked_for_its_cluster_and_address() -> None:
    bearers = Bearers(session())
    stage = Authentication(bearers)  # type: ignore[arg-type]
    assert await stage.request(admitted()) == session()
    assert bearers.asked == [("ilk_x", "dev", "192.0.2.7")]


@pytest.mark.parametrize(("answer", "code"), [(NoSession("log in"), 401), (StateAway("locked"), 503)])
async def test_no_session_and_no_answer_are_told_apart(answer: Exception, code: int) -> None:
    stage = Authentication(Bearers(answer))  # type: ignore[arg-type]
    with pytest.raises(Refusal) as caught:
        await stage.request(admitted())
    assert caught.value.code == code


async def test_a_stream_lives_with_its_session() -> None:
    bearers = Bearers(session())
    stage = Authentication(bearers)  # type: ignore[arg-type]
    assert await stage.alive(admitted()) == session()
    assert bearers.asked == [session().id]
    bearers.answer = NoSession("revoked")
    with pytest.raises(Refusal):
        await stage.alive(admitted())
    bearers.answer = StateAway("locked")
    with pytest.raises(StateAway):
        await stage.alive(admitted())
