"""A session's life as the evidence is told of it."""

from __future__ import annotations

import json

import pytest

from interlock.evidence import events
from interlock.front_door import session_event

OPENED = {
    "type": "session_opened",
    "session_id": "s",
    "user": "ada@example.com",
    "groups": ["agents"],
    "issuer": "https://idp.example",
    "subject": "ada",
    "agent": None,
    "owner": None,
    "cluster": "dev",
    "client_ip": "192.0.2.7",
    "opened_at": 1000.5,
    "expires_at": 1900.5,
    "how": "exchange",
}


def leaf(said: dict[str, object]) -> dict[str, object]:
    written: dict[str, object] = json.loads(events.leaf(session_event(said), "console-1", 1))
    return written


def test_an_opening_names_who_where_from_and_how_long() -> None:
    written = leaf(OPENED)
    assert written["type"] == "session_opened"
    assert written["user_name"] == "ada@example.com"
    assert written["client_ip"] == "192.0.2.7"
    assert written["auth_method"] == "exchange"
    assert written["ts"] == "1970-01-01T00:16:40.500000Z"
    assert written["expires_at"] == "1970-01-01T00:31:40.500000Z"
    assert written["renewed"] is False


def test_a_renewal_is_an_opening_of_the_same_session() -> None:
    written = leaf({**OPENED, "type": "session_renewed", "expires_at": None})
    assert written["renewed"] is True
    assert "expires_at" not in written


def test_a_refusal_keeps_its_id_and_whole_reason() -> None:
    refused = {
        "type": "session_refused",
        "id": "r-1",
        "session_id": None,
        "reason": "audience b, expected a",
        "cluster": "dev",
        "client_ip": "192.0.2.7",
        "at": 5.0,
    }
    written = leaf(refused)
    assert (written["type"], written["refusal_id"]) == ("session_refused", "r-1")
    assert written["reason"] == "audience b, expected a"


@pytest.mark.parametrize(("reason", "shown"), [("idle", "idle"), (None, "ended")])
def test_an_end_says_why(reason: str | None, shown: str) -> None:
    written = leaf({**OPENED, "type": "session_ended", "ended_at": 2000.0, "reason": reason})
    assert (written["type"], written["reason"]) == ("session_ended", shown)
    assert leaf({**OPENED, "type": "session_ended", "ended_at": None, "reason": reason})["ts"]


def test_an_event_that_is_not_known_is_not_recorded_as_another() -> None:
    with pytest.raises(ValueError, match="session_eaten"):
        session_event({**OPENED, "type": "session_eaten"})
