"""The agent acts so that the evidence does not show it, or so that others have to wait."""

from __future__ import annotations

import json
import threading
import time

import pytest

from adversarial.conftest import SHOP, Seat

pytestmark = pytest.mark.processes


def config_map(data: dict[str, str]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "g"}, "data": data})


def test_a_request_with_thousands_of_findings_leaves_its_record(seat: Seat) -> None:
    many = {f"{n}.{'k' * 150}.password": f"value-{n}" for n in range(5000)}
    answer = seat.ask("POST", f"{SHOP}/configmaps?dryRun=All", config_map(many), User_Agent="many-findings")
    assert answer.status_code == 201, answer.text[:200]
    rows = seat.recorded("SELECT id FROM live.requests WHERE user_agent = 'many-findings'", 1)
    assert len(rows) == 1


def test_a_refusal_whose_words_are_the_agents_leaves_its_record(seat: Seat) -> None:
    held = config_map({"k" * 600_000: "masked-secret-" + "a" * 16})
    answer = seat.ask("POST", f"{SHOP}/configmaps", held, User_Agent="long-words")
    assert answer.status_code == 422
    sql = (
        "SELECT length(d.reason) FROM live.decisions d JOIN live.requests r ON d.request_id = r.id "
        "WHERE r.user_agent = 'long-words'"
    )
    rows = seat.recorded(sql, 1)
    assert [0 < length < 4096 for (length,) in rows] == [True]


@pytest.mark.parametrize("agent", ["x'); DROP TABLE requests; --", "a\tb", "%s%n{0}", "\u00ff\u00fe", "=1+1"])
def test_odd_words_are_recorded_as_words(seat: Seat, agent: str) -> None:
    before = len(seat.recorded("SELECT id FROM live.requests", 0))
    with seat.client() as client:
        answer = client.get(f"{SHOP}/configmaps", headers={"User-Agent": agent.encode("latin-1")})
    assert answer.status_code == 200
    rows = seat.recorded("SELECT user_agent FROM live.requests", before + 1)
    assert len(rows) == before + 1
    wanted = agent.replace("\t", "\N{REPLACEMENT CHARACTER}")
    assert (wanted,) in rows


def test_others_do_not_wait_for_one_agents_large_manifest(seat: Seat) -> None:
    """A request that takes seconds to mask: meanwhile another agent's are answered, many times over."""
    text = "apiVersion: v1\nkind: Secret\ndata:\n  a: b\n---\n" * 5000
    answered: list[int] = []
    over = threading.Event()

    def other() -> None:
        while not over.is_set():
            answered.append(seat.ask("GET", "/version").status_code)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        began = time.monotonic()
        heavy = seat.ask("POST", f"{SHOP}/configmaps?dryRun=All", config_map({"a": text}))
        took = time.monotonic() - began
    finally:
        over.set()
        thread.join()
    assert heavy.status_code == 201, heavy.text[:200]
    assert set(answered) == {200}
    assert len(answered) > min(10, took)  # one that blocks the loop lets two or three through
