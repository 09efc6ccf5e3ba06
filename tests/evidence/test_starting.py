import fcntl
import os
import signal
import sys
import threading
import time

import pytest

from evidence import samples
from interlock.evidence import locks, starting
from interlock.evidence.journal import Journal
from interlock.evidence.reading import open_evidence, query

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def processes():
    """Ends the recorders that a test started, and reaps them."""
    yield
    for child in tuple(starting._children):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        starting._children.discard(child)


def ended(directory):
    deadline = time.monotonic() + 60
    while locks.is_held(directory / locks.RECORDER):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_recorder_is_started_once_and_ends_with_the_gateway(directory):
    journal = Journal(directory)
    child = starting.ensure_recorder(directory, timeout=60)
    assert (directory / "evidence.duckdb").exists()
    assert os.getsid(child) == child
    assert starting.ensure_recorder(directory) is None
    journal.commit(samples.started())
    with open_evidence(directory) as evidence:
        assert query(evidence, "SELECT count(*) FROM log").rows == [(1,)]
    journal.close()
    ended(directory)
    with open_evidence(directory) as evidence:
        assert query(evidence, "SELECT count(*) FROM main.log WHERE type = 'gateway_started'").rows == [(1,)]


def test_one_that_was_killed_is_replaced(directory):
    journal = Journal(directory)
    first = starting.ensure_recorder(directory, timeout=60)
    os.kill(first, signal.SIGKILL)
    ended(directory)
    second = starting.ensure_recorder(directory, timeout=60)
    assert second not in (None, first)
    assert starting._children == {second}
    journal.close()


def test_many_who_ask_at_once_get_one_recorder(directory):
    journal = Journal(directory)
    errors = []

    def ask():
        try:
            starting.ensure_recorder(directory, timeout=120)
        except OSError as error:
            errors.append(error)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert errors == []
    assert locks.is_held(directory / locks.RECORDER)
    journal.close()
    ended(directory)


def test_one_that_cannot_start_says_why(directory):
    (directory / "private" / "store.duckdb").write_bytes(b"no database")
    with pytest.raises(starting.RecorderUnavailable, match="cannot start") as caught:
        starting.ensure_recorder(directory, timeout=60)
    assert "\n" not in str(caught.value)
    assert starting._children == set()


def test_one_that_ends_without_a_word_is_told_by_its_status(directory, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(starting.RecorderUnavailable, match="ended with status"):
        starting.ensure_recorder(directory, timeout=60)


def test_one_that_finds_another_is_started_again_if_that_is_gone(directory, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(starting.RecorderUnavailable, match="not ready after"):
        starting.ensure_recorder(directory, timeout=0.3)


def test_one_that_is_about_to_end_is_waited_for(directory):
    gateways = locks.open_lock(directory / locks.GATEWAYS)
    assert locks.try_lock(gateways, fcntl.LOCK_EX)
    with pytest.raises(starting.RecorderUnavailable, match="not ready"):
        starting.ensure_recorder(directory, timeout=0.2)
    assert starting._children == set()
    os.close(gateways)


def test_one_that_is_not_ready_is_waited_for(directory):
    recorder = locks.open_lock(directory / locks.RECORDER)
    assert locks.try_lock(recorder, fcntl.LOCK_EX)
    with pytest.raises(starting.RecorderUnavailable, match="not ready"):
        starting.ensure_recorder(directory, timeout=0.2)
    os.pwrite(recorder, b"ready\n", 0)
    (directory / "evidence.duckdb").touch()
    assert starting.ensure_recorder(directory, timeout=0.2) is None
    os.close(recorder)


def test_a_module_path_that_is_set_already_stays(directory, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    journal = Journal(directory)
    assert starting.ensure_recorder(directory, timeout=60)
    journal.close()
    ended(directory)
