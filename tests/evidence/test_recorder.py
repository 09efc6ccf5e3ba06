import os
import runpy
import sys
import threading
import time

import duckdb
import pytest

from evidence import samples
from interlock.evidence import lines, locks, recorder
from interlock.evidence.journal import Journal
from interlock.evidence.recorder import Recorder


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(directory, sql):
    with duckdb.connect(str(directory / "evidence.duckdb"), read_only=True) as reader:
        return reader.execute(sql).fetchall()


def logged(directory):
    return [
        seq
        for (seq,) in rows(
            directory, "SELECT seq FROM main.log WHERE starts_with(gateway_id, 'gateway-') ORDER BY seq"
        )
    ]


@pytest.fixture
def running(directory):
    """Recorders in threads, ended with the test."""
    stops, threads, results = [], [], []

    def start(directory=directory, grace=60.0):
        stop = threading.Event()
        thread = threading.Thread(target=lambda: results.append(recorder.run(directory, stop, grace=grace)))
        thread.start()
        stops.append(stop)
        threads.append(thread)
        return stop, thread

    start.results = results
    yield start
    for stop in stops:
        stop.set()
    for thread in threads:
        thread.join()


def is_ready(directory):
    return (directory / locks.RECORDER).exists() and (
        directory / locks.RECORDER
    ).read_bytes() == recorder.READY


def test_the_evidence_is_there_when_the_recorder_is_ready(directory, running):
    running()
    until(lambda: is_ready(directory))
    assert rows(directory, "SELECT count(*) FROM live.timeline") == [(0,)]
    assert locks.is_held(directory / locks.RECORDER)


def test_a_second_recorder_ends_at_once(directory, running):
    running()
    until(lambda: is_ready(directory))
    assert recorder.run(directory, threading.Event()) is False
    assert is_ready(directory)


def test_what_a_gateway_has_left_behind_is_sealed_and_what_it_writes_is_not(directory, running):
    journal = Journal(directory, rotate_bytes=2000)
    for event in samples.exchanges(3):
        journal.commit(event)
    running()
    until(lambda: is_ready(directory))
    journal.commit(samples.started())
    until(lambda: logged(directory))
    assert logged(directory) == list(range(1, 1 + len(logged(directory))))
    assert len(logged(directory)) < 7
    assert rows(directory, "SELECT count(*) FROM live.log") == [(7,)]
    journal.close()
    until(lambda: logged(directory) == [1, 2, 3, 4, 5, 6, 7])
    assert rows(directory, "SELECT count(*) FROM live.log WHERE starts_with(gateway_id, 'gateway-')") == [
        (7,)
    ]


def test_it_ends_after_its_last_gateway(directory, running):
    journal = Journal(directory)
    other = Journal(directory)
    _, thread = running(grace=0.0)
    until(lambda: is_ready(directory))
    journal.commit(samples.started())
    journal.close()
    time.sleep(3 * recorder.POLL_SECONDS)
    assert thread.is_alive()
    other.close()
    thread.join(60)
    assert not thread.is_alive()
    assert running.results == [True]
    assert logged(directory) == [1]
    assert not locks.is_held(directory / locks.RECORDER)


def test_it_waits_for_its_first_gateway_and_not_for_ever(directory, running):
    _, thread = running(grace=1.5)
    until(lambda: is_ready(directory))
    journal = Journal(directory)
    time.sleep(2)
    assert thread.is_alive()
    journal.close()
    thread.join(60)
    _, thread = running(grace=0.0)
    thread.join(60)
    assert not thread.is_alive()


def test_when_it_is_told_to_end_it_seals_first(directory, running, monkeypatch):
    monkeypatch.setattr(recorder, "POLL_SECONDS", 30.0)
    stop, thread = running()
    until(lambda: is_ready(directory))
    journal = Journal(directory)
    journal.commit(samples.started())
    journal.close()
    stop.set()
    thread.join(60)
    assert logged(directory) == [1]


def test_a_deleted_copy_is_published_again(directory, running):
    running()
    until(lambda: is_ready(directory))
    (directory / "evidence.duckdb").unlink()
    until((directory / "evidence.duckdb").exists)
    assert logged(directory) == []


def test_a_directory_that_is_taken_away_is_left_to_its_next_recorder(directory, running):
    _, thread = running()
    until(lambda: is_ready(directory))
    directory.rename(directory.parent / "away")
    thread.join(60)
    assert not thread.is_alive()
    assert not directory.exists()


def test_a_journal_that_is_taken_away_does_not_hold_it(directory, running, capfd):
    journal = Journal(directory)
    _, thread = running()
    until(lambda: is_ready(directory))
    (directory / "journal").rename(directory / "away")
    journal.close()
    thread.join(60)
    assert not thread.is_alive()
    assert "No such file" in capfd.readouterr().err


def test_a_lock_that_was_replaced_is_no_longer_its_own(directory, running):
    _, thread = running()
    until(lambda: is_ready(directory))
    (directory / locks.RECORDER).unlink()
    (directory / locks.RECORDER).touch()
    thread.join(60)
    assert not thread.is_alive()


def test_what_cannot_be_sealed_now_is_said_once_and_sealed_later(directory, running, monkeypatch, capfd):
    stays, ends = Journal(directory), Journal(directory)
    ends.commit(samples.started())
    monkeypatch.setattr(recorder, "POLL_SECONDS", 0.01)
    true_seal, failures = Recorder.seal, []

    def failing(self):
        if 0 < len(failures) < 20:
            failures.append(1)
            raise OSError(28, "No space left on device\nand more")
        return true_seal(self)

    monkeypatch.setattr(Recorder, "seal", failing)
    running()
    until(lambda: is_ready(directory))
    failures.append(1)
    ends.close()
    until(lambda: logged(directory) == [1])
    stays.close()
    assert len(failures) == 20
    said = capfd.readouterr().err.splitlines()
    assert said == ["evidence cannot be sealed and stays in the journal: [Errno 28] No space left on device"]


def test_an_end_that_cannot_seal_leaves_it_to_the_next_recorder(directory, running, monkeypatch, capfd):
    journal = Journal(directory)
    journal.commit(samples.started())
    true_seal = Recorder.seal

    def failing(self):
        if is_ready(directory):
            raise OSError(28, "No space left on device")
        return true_seal(self)

    monkeypatch.setattr(Recorder, "seal", failing)
    _, thread = running()
    until(lambda: is_ready(directory))
    journal.close()
    thread.join(60)
    assert "No space left" in capfd.readouterr().err
    monkeypatch.undo()
    running(grace=0.0)[1].join(60)
    assert logged(directory) == [1]


# One round after another -----------------------------------------------------------------------------------------


def write(directory, number, first, count=1, log="gateway-0123abcd"):
    path = directory / "journal" / lines.journal_name(log, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        lines.header_line(first)
        + b"".join(lines.leaf_line(samples.started(), log, first + n) for n in range(count))
    )
    return path


def test_files_are_sealed_in_order_and_not_past_one_that_is_in_use(directory):
    rounds = Recorder(directory)
    paths = [write(directory, number, number) for number in (1, 2, 3)]
    other = write(directory, 1, 1, log="gateway-11111111")
    held = locks.open_lock(paths[1])
    locks.try_lock(held, 2)
    assert [(f.path, ended) for f, ended in rounds.sealable().items()] == [(paths[0], False), (other, True)]
    assert rounds.served
    os.close(held)
    assert [(f.path, ended) for f, ended in rounds.sealable().items()] == [
        (paths[0], False), (paths[1], False), (paths[2], True), (other, True),
    ]  # fmt: skip
    rounds.sealed.add(("gateway-0123abcd", 1))
    assert [f.number for f in rounds.sealable()] == [2, 3, 1]


def test_old_and_too_many_sealed_files_are_deleted_but_never_the_newest(directory):
    rounds = Recorder(directory, retain_seconds=100.0, retain_bytes=1 << 30)
    paths = [write(directory, number, number) for number in (1, 2, 3, 4)]
    unsealed = write(directory, 1, 1, log="gateway-11111111")
    for age, path in zip((300, 200, 50, 300), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    os.utime(unsealed, (time.time() - 300,) * 2)
    rounds.sealed = {("gateway-0123abcd", number) for number in (1, 2, 3, 4)}
    rounds.expire()
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert unsealed.exists()
    rounds.retain_bytes = 0
    rounds.expire()
    assert [path.exists() for path in paths] == [False, False, False, True]


def test_a_file_that_was_never_finished_is_deleted_when_it_is_old(directory):
    rounds = Recorder(directory)
    old, young = (directory / "journal" / f"gateway-0123abcd-00000002.{name}.new" for name in ("aa", "bb"))
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 2 * recorder.RETAIN_SECONDS,) * 2)
    rounds.expire()
    assert (old.exists(), young.exists()) == (False, True)


def test_a_round_begins_where_the_last_recorder_ended(directory):
    first = Recorder(directory)
    write(directory, 1, 1)
    first.start()
    write(directory, 2, 2)
    assert first.seal() == 1
    second = Recorder(directory)  # the first was killed before it could publish
    second.start()
    assert logged(directory) == [1, 2]
    assert second.seal() == 0


# The process -----------------------------------------------------------------------------------------------------


def test_the_process_ends_quietly_if_another_records(directory, running, capfd, monkeypatch):
    monkeypatch.setattr(recorder.signal, "signal", lambda *_: None)
    running()
    until(lambda: is_ready(directory))
    assert recorder.main(["--directory", str(directory)]) == 0
    assert capfd.readouterr() == ("", "")


def test_the_process_says_in_one_line_why_it_cannot_start(directory, capfd, monkeypatch):
    monkeypatch.setattr(recorder.signal, "signal", lambda *_: None)
    (directory / "private" / "store.duckdb").write_bytes(b"no database")
    assert recorder.main(["--directory", str(directory)]) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert f"the recorder of {directory} cannot start: " in said


def test_the_process_gives_way_to_gateways(monkeypatch, capfd):
    nice = []
    monkeypatch.setattr(os, "nice", nice.append)
    monkeypatch.setattr(sys, "argv", ["recorder", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(recorder.__file__, run_name="__main__")
    assert nice == [10]
    assert "--directory" in capfd.readouterr().out


def test_the_process_ends_on_a_signal(directory, monkeypatch):
    handlers = {}
    monkeypatch.setattr(recorder.signal, "signal", handlers.__setitem__)

    def run(directory, stop, *, grace):
        assert (directory, grace) == (directory, 7.0)
        handlers[recorder.signal.SIGTERM](15, None)
        return stop.is_set()

    monkeypatch.setattr(recorder, "run", run)
    assert recorder.main(["--directory", str(directory), "--grace", "7"]) == 0
    assert set(handlers) == {recorder.signal.SIGTERM, recorder.signal.SIGINT}
