"""The tables: what they hold, and what they refuse whoever writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, insert, select
from sqlalchemy.exc import IntegrityError

from interlock.identity.sessions import FINAL, SessionState
from interlock.state.schema import metadata, sessions, tokens

GOOD = {
    "id": "s1",
    "state": "active",
    "user_name": "ada",
    "groups": "[]",
    "issuer": "https://idp",
    "subject": "1",
    "claims": "{}",
    "cluster": "dev",
    "addresses": "[]",
    "opened_from": "10.0.0.1",
    "opened_at": 1.0,
    "last_used_at": 1.0,
    "idle_seconds": 1.0,
    "ends_at": 2.0,
    "mask_key": b"k" * 32,
}


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def test_no_column_could_hold_a_token() -> None:
    assert set(tokens.c.keys()) == {"hash", "session_id", "issued_at", "expires_at"}
    assert [name for name in sessions.c.keys() if "token" in name] == []  # noqa: SIM118


@pytest.mark.parametrize("state", SessionState)
def test_a_final_state_has_an_end_and_no_mask_key(connection: Connection, state: SessionState) -> None:
    over = state in FINAL
    right = {
        **GOOD,
        "state": state.value,
        "ended_at": 2.0 if over else None,
        "mask_key": None if over else b"k",
    }
    connection.execute(insert(sessions), right)
    assert connection.execute(select(sessions.c.state)).scalar() == state.value
    for wrong in ({"ended_at": None if over else 2.0}, {"mask_key": b"k" if over else None}):
        with pytest.raises(IntegrityError, match="CHECK"):
            connection.execute(insert(sessions), {**right, "id": "s2", **wrong})


@pytest.mark.parametrize(
    "wrong", [{"state": "open"}, {"state": None}, {"user_name": None}, {"cluster": None}, {"ends_at": None}]
)
def test_a_session_is_whole(connection: Connection, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        connection.execute(insert(sessions), {**GOOD, **wrong})


def test_a_token_belongs_to_a_session(connection: Connection) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        connection.execute(
            insert(tokens), {"hash": b"h", "session_id": "none", "issued_at": 1.0, "expires_at": 2.0}
        )
