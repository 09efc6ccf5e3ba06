"""Real processes, killed at any point, and a reader who looks all the while: nothing acknowledged is lost, nothing doubled.

The soak runs a hundred rounds, other runs a tenth of it; `INTERLOCK_CRASH_SEED` says which.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from interlock.evidence import lines, starting
from interlock.evidence.recorder import Recorder

pytestmark = pytest.mark.processes

SEED = int(os.environ.get("INTERLOCK_CRASH_SEED", "1"))
HERE = Path(__file__).parent
PATHS = os.pathsep.join([str(HERE.parent), str(Path(starting.__file__).parents[2])])


class Processes:
    """Gateways and recorders of one directory, and what the gateways said was acknowledged."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.acknowledged: set[tuple[str, int]] = set()
        self.running: dict[subprocess.Popen, threading.Thread | None] = {}

    def gateway(self, name="gateway", rate=0):
        command = [sys.executable, str(HERE / "crash.py"), str(self.directory), name, str(rate)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": PATHS}
        )
        reader = threading.Thread(target=self.listen, args=[process])
        reader.start()
        self.running[process] = reader
        return process

    def recorder(self):
        command = [
            sys.executable,
            "-m",
            "interlock.evidence.recorder",
            "--directory",
            str(self.directory),
            "--grace",
            "600",
        ]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PATHS})
        self.running[process] = None
        return process

    def listen(self, process):
        for line in process.stdout:
            fields = line.split()
            if line.endswith("\n") and len(fields) == 3:
                self.acknowledged.add((fields[0], int(fields[1])))

    def kill(self, process, number=signal.SIGKILL):
        process.send_signal(number)
        process.wait()
        reader = self.running.pop(process)
        if reader is not None:
            reader.join()
            process.stdout.close()

    def end(self):
        for process in tuple(self.running):
            self.kill(process)


@pytest.fixture
def processes(directory):
    made = Processes(directory)
    yield made
    made.end()


def rows(directory, sql):
    with duckdb.connect(str(directory / "evidence.duckdb"), read_only=True) as reader:
        return reader.execute(sql).fetchall()


def until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Reader(threading.Thread):
    """Opens the evidence anew, again and again, and remembers what should not have been."""

    SQL = """
        SELECT count(*), count(DISTINCT (gateway_id, seq)), count(DISTINCT request_id) FILTER (type = 'request'),
               count(*) FILTER (type = 'request'), (SELECT count(*) FROM live.promise_3_violations)
        FROM live.log WHERE NOT starts_with(gateway_id, 'recorder-')
    """

    def __init__(self, directory, acknowledged):
        super().__init__()
        self.directory = directory
        self.acknowledged = acknowledged
        self.wrong = []
        self.looks = 0
        self.done = threading.Event()

    def run(self):
        seen = 0
        while not self.done.is_set():
            durable = len(self.acknowledged)
            try:
                count, different, requests, request_rows, violations = rows(self.directory, self.SQL)[0]
            except duckdb.Error as error:
                self.wrong.append(str(error))
                continue
            if (
                count != different
                or requests != request_rows
                or violations
                or count < durable
                or count < seen
            ):
                self.wrong.append(
                    f"{count=} {different=} {requests=} {request_rows=} {violations=} {durable=} {seen=}"
                )
            seen = count
            self.looks += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.soak)])
def test_killed_at_any_point_nothing_acknowledged_is_lost_and_nothing_is_there_twice(processes, rounds):
    chance = random.Random(SEED)
    recorder = processes.recorder()
    until((processes.directory / "evidence.duckdb").exists)
    with Reader(processes.directory, processes.acknowledged) as reader:
        for _ in range(rounds):
            gateways = [processes.gateway(), processes.gateway()]
            before = len(processes.acknowledged)
            for _ in range(2):
                time.sleep(chance.uniform(0.05, 1.2))
                processes.kill(recorder)
                recorder = processes.recorder()
            until(lambda before=before: len(processes.acknowledged) > before)
            for gateway in gateways:
                time.sleep(chance.uniform(0.0, 0.3))
                processes.kill(gateway)
    processes.kill(recorder)
    Recorder(processes.directory).start()  # seals what is left

    assert reader.wrong == []
    assert reader.looks > 0
    sealed = rows(
        processes.directory,
        "SELECT gateway_id, seq FROM main.log WHERE NOT starts_with(gateway_id, 'recorder-')",
    )
    assert len(sealed) == len(set(sealed))
    assert processes.acknowledged <= set(sealed)
    assert rows(processes.directory, "FROM main.seq_gaps") == []
    assert (
        rows(
            processes.directory,
            "SELECT DISTINCT kind FROM main.health_events WHERE kind NOT IN ('gateway_died', 'journal_unparsed')",
        )
        == []
    )
    assert (
        rows(processes.directory, "SELECT count(*), count(DISTINCT sha256) FROM main.bodies")[0]
        == (*rows(processes.directory, "SELECT count(*) FROM main.responses")[0],) * 2
    )
    assert rows(processes.directory, "FROM live.open_exchanges") == []
    open_requests = rows(
        processes.directory,
        "SELECT count(*) FROM main.requests AS q WHERE NOT EXISTS (FROM main.responses AS r WHERE r.request_id = q.id)",
    )
    assert rows(processes.directory, "SELECT count(*) FROM main.incomplete") == open_requests
    print(
        f"seed {SEED}: {rounds} rounds, {len(processes.acknowledged)} acknowledged, {len(sealed)} sealed, {reader.looks} looks"
    )


def test_a_reader_meets_no_error_while_a_thousand_events_a_second_are_written(processes):
    processes.recorder()
    until((processes.directory / "evidence.duckdb").exists)
    gateway = processes.gateway(rate=1000)
    until(lambda: processes.acknowledged)
    with Reader(processes.directory, processes.acknowledged) as reader:
        time.sleep(4)
    processes.kill(gateway)
    assert reader.wrong == []
    assert reader.looks > 2
    print(f"{reader.looks} looks, {len(processes.acknowledged)} events")


def test_the_recorder_seals_and_ends_when_it_is_asked_to(processes):
    recorder = processes.recorder()
    until((processes.directory / "evidence.duckdb").exists)
    gateway = processes.gateway(rate=100)
    until(lambda: len(processes.acknowledged) > 20)
    processes.kill(gateway)
    processes.kill(recorder, signal.SIGTERM)
    assert recorder.returncode == 0
    sealed = {tuple(row) for row in rows(processes.directory, "SELECT gateway_id, seq FROM main.log")}
    assert processes.acknowledged <= sealed


@pytest.mark.soak
@pytest.mark.parametrize("call", ["full", "read-only"])
def test_a_real_disk_that_fails(tmp_path, call):
    """A file system of its own, in a mount namespace: full, or made read-only, and then well again."""
    script = HERE / "disk.py"
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, str(script), str(tmp_path), call],
        env={**os.environ, "PYTHONPATH": PATHS}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("ok")


def test_files_are_named_as_the_store_reads_them(processes):
    gateway = processes.gateway(rate=50)
    until(lambda: processes.acknowledged)
    processes.kill(gateway)
    with contextlib.suppress(FileNotFoundError):
        (processes.directory / "journal" / "empty.jsonl").unlink()
    (file,) = lines.journal_files(processes.directory / "journal")
    assert file.number == 1
    Recorder(processes.directory).start()
    assert len(rows(processes.directory, "FROM main.journal_files")) == 1
