"""Kill -9 under load, before a real API server: nothing that moved is missing in the evidence, or there twice.

Clients write, read and watch through one gateway at fixed ports. Round after round the gateway (by turns of each
kind), its recorder or its console is killed at a random moment, and what was killed comes back. Beside it a
reader opens the evidence again and again. At the end three accounts are compared: what the clients were answered,
what the API server's audit log says, and the evidence. `INTERLOCK_SEED` chooses another order of things.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cluster.conftest import ControlPlane
from gateways import MODES, Running, Upstream

pytestmark = [pytest.mark.cluster, pytest.mark.processes]

SEED = int(os.environ.get("INTERLOCK_SEED", "20260"))
CLIENTS = 4
RECORDER, CONSOLE = "interlock.evidence.recorder", "interlock.console"
# What ten rounds kill, in an order that the seed makes; "start" is a gateway that does not serve yet.
DECK = (*(("gateway",),) * 5, ("gateway", "start"), *((RECORDER,),) * 2, (CONSOLE,), ("gateway", RECORDER))
STARTING = 3.0  # seconds that a start takes, about
HEALED_WITHIN = 60.0  # seconds, on a machine that has much else to do

READER = """
import sys, time, duckdb
reads, most = 0, 0
while True:
    with duckdb.connect(sys.argv[1], read_only=True) as evidence:
        rows, different = evidence.execute("SELECT count(*), count(DISTINCT id) FROM live.requests").fetchone()
        sealed, = evidence.execute("SELECT count(*) FROM main.requests").fetchone()
    assert rows == different, f"{rows} requests, {different} of them different"
    assert most <= rows and sealed <= rows, f"{most} requests before, {rows} now, {sealed} sealed"
    reads, most = reads + 1, rows
    print(reads, flush=True)
    time.sleep(0.2)
"""


class Fixed(Running):
    """A gateway that comes back at the ports that it had."""

    def write(self) -> None:
        super().write()
        config = self.directory / "gateway.yaml"
        free = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        text = config.read_text()
        for listening in free:
            text = text.replace("127.0.0.1:0", f"127.0.0.1:{listening.getsockname()[1]}", 1)
            listening.close()
        assert "127.0.0.1:0" not in text
        config.write_text(text)


@dataclass
class Load:
    """What clients do, and what they were answered: `acknowledged` has an Audit-ID's status code."""

    proxy: str
    server: str
    ca: Path
    token: str
    namespace: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    codes: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, rng: random.Random) -> Iterator[Load]:
        work = [threading.Thread(target=self.client, args=(rng.random(),)) for _ in range(CLIENTS)]
        work.append(threading.Thread(target=self.watcher))
        for thread in work:
            thread.start()
        try:
            yield self
        finally:
            self.over.set()
            for thread in work:
                thread.join(30)

    def client(self, seed: float) -> None:
        """Small requests on a connection that is kept, in a random order; the names are of this client alone."""
        rng, made = random.Random(seed), 0
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"

        def asks() -> Iterator[tuple[str, str, bytes]]:
            nonlocal made
            while True:
                made += 1
                name = f"c{int(seed * 1e9)}-{made}"
                body = {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": name},
                    "data": {"n": name},
                }
                yield "POST", path, json.dumps(body).encode()
                for _ in range(rng.randrange(3)):
                    yield rng.choice([("GET", f"{path}/{name}", b""), ("GET", f"{path}?limit=3", b"")])
                yield "DELETE", f"{path}/{name}", b""

        self._talk(asks())

    def watcher(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/configmaps?watch=true&timeoutSeconds=1"
        self._talk(itertools.repeat(("GET", path, b"")))

    def _talk(self, asks: Iterator[tuple[str, str, bytes]]) -> None:
        """Ask one thing after the other. Only an answer that came to its end counts as one."""
        trust = ssl.create_default_context(cafile=str(self.ca))
        through, to = urlsplit(self.proxy), urlsplit(self.server)
        while not self.over.is_set():
            connection = http.client.HTTPSConnection(
                through.hostname or "", through.port, context=trust, timeout=30
            )
            connection.set_tunnel(to.hostname or "", to.port)
            try:
                while not self.over.is_set():
                    method, path, body = next(asks)
                    headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
                    connection.request(method, path, body or None, headers)
                    answer = connection.getresponse()
                    answer.read()
                    self.codes[answer.status] += 1
                    if audit_id := answer.headers.get("Audit-Id"):
                        self.acknowledged[audit_id] = answer.status
            except (OSError, http.client.HTTPException):
                self.broken += 1
                self.over.wait(0.1)
            finally:
                connection.close()


@contextmanager
def reading(evidence: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads the evidence in a loop, and ends at its first error."""
    with log.open("wb") as out:
        reader = subprocess.Popen([sys.executable, "-c", READER, str(evidence)], stdout=out, stderr=out)
    try:
        yield reader
    finally:
        reader.kill()
        reader.wait()


def processes(directory: Path, module: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if module.encode() in command and any(str(directory).encode() in word for word in command):
            found.append(int(entry.parent.name))
    return found


def kill(gateway: Running, victims: tuple[str, ...], rng: random.Random) -> Counter[str]:
    """Kill -9; what of it was there to be killed."""
    killed: Counter[str] = Counter()
    for victim in victims:
        if victim == "gateway":
            gateway.stop(signal.SIGKILL)
            killed[f"gateway ({gateway.mode})"] += 1
            continue
        if victim == "start":
            with (gateway.directory / "gateway.log").open("ab") as log:
                command = gateway.command()
                home = {**os.environ, "HOME": str(gateway.directory)}
                starting = subprocess.Popen(command, stdout=log, stderr=log, cwd=gateway.directory, env=home)
            time.sleep(rng.uniform(0, STARTING))
            starting.kill()
            starting.wait()
            killed["start"] += 1
            continue
        for number in processes(gateway.directory, victim):
            os.kill(number, signal.SIGKILL)
            killed[victim.rpartition(".")[2]] += 1
    return killed


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    name = f"durability-{random.Random(os.urandom(8)).randrange(1 << 32):08x}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.soak)])
def test_nothing_is_lost_or_doubled_by_kill_9(
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    rounds: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(SEED)
    plan = [victims for _ in range(rounds // len(DECK)) for victims in rng.sample(DECK, len(DECK))]
    modes = itertools.cycle(MODES)
    upstream = Upstream(
        "dev", control_plane.server, control_plane.ca, f"{{tokenFile: {control_plane.gateway_token_file}}}"
    )
    gateway = Fixed(
        tmp_path / "gateway",
        [upstream],
        mode=next(modes),
        extra="sessions: {ttl: 2h, idle: 2h, max: 8h}\n",
    )
    killed: Counter[str] = Counter()
    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(gateway)
        load = Load(
            gateway.ready["proxy"],
            control_plane.server,
            Path(gateway.ready["ca"]),
            gateway.session("dev"),
            namespace,
        )
        evidence, said = Path(gateway.ready["evidence"]) / "evidence.duckdb", tmp_path / "reader.log"
        reader = stack.enter_context(reading(evidence, said))
        stack.enter_context(load.running(rng))
        for victims in plan:
            time.sleep(rng.uniform(0.2, 1.2))
            killed += kill(gateway, victims, rng)
            if "gateway" in victims:
                gateway.mode = next(modes)
                gateway.start()
            assert reader.poll() is None, f"a reader met an error: {said.read_text()[-2000:]}"
        # At rest all is there again, and answers.
        end = time.monotonic() + HEALED_WITHIN
        while not (processes(gateway.directory, RECORDER) and processes(gateway.directory, CONSOLE)):
            assert time.monotonic() < end, "recorder or console did not come back"
            time.sleep(0.1)
        load.over.set()
    assert reader.returncode == -signal.SIGKILL, f"a reader met an error: {said.read_text()[-2000:]}"
    reads = int((said.read_text().split() or ["0"])[-1])

    audited = audit_ids(control_plane, namespace)
    requests = {str(row[0]) for row in gateway.evidence("SELECT id FROM live.requests")}
    responses = {
        str(row[0]): row[1] for row in gateway.evidence("SELECT request_id, code FROM live.responses")
    }
    with capsys.disabled():
        print(
            f"\ndurability: seed {SEED}, {rounds} rounds in {time.monotonic() - began:.0f} s, killed {dict(killed)}; "
            f"{len(load.acknowledged)} exchanges acknowledged {dict(load.codes)}, {load.broken} connections broken; "
            f"{len(audited)} audited, {len(requests)} in the evidence, {reads} reads of it"
        )
    assert reads > rounds, "the reader read too little to say anything"
    assert len(audited) > 10 * rounds, "the load was too small to say anything"
    assert audited.keys() - requests == set(), "the API server was asked what the evidence does not know"
    lost = {audit_id: code for audit_id, code in load.acknowledged.items() if responses.get(audit_id) != code}
    assert lost == {}, "clients were answered what the evidence does not know"
    assert [audit_id for audit_id, times in audited.items() if times > 1] == [], "a request was sent twice"
    for table, key in {
        "log": "gateway_id, seq",
        "requests": "id",
        "decisions": "request_id",
        "responses": "request_id",
        "stream_chunks": "request_id, chunk",
    }.items():
        doubled = f"SELECT {key} FROM live.{table} GROUP BY ALL HAVING count(*) > 1"
        assert gateway.evidence(doubled) == [], f"duplicates in {table}"
        ((live, main),) = gateway.evidence(
            f"SELECT (SELECT count(*) FROM live.{table}), (SELECT count(*) FROM main.{table})"
        )
        assert live == main, f"the last seal left something of {table} out"
    assert gateway.evidence("SELECT * FROM main.seq_gaps") == []
    assert gateway.evidence("SELECT * FROM main.promise_3_violations") == []
    assert gateway.evidence("SELECT * FROM main.open_exchanges") == [], "what was cut is not shown as cut"
    assert "Traceback" not in gateway.log()


def audit_ids(control_plane: ControlPlane, namespace: str) -> Counter[str]:
    """How often each Audit-ID came to its end, of what the gateway's credential asked about this namespace."""
    user = "interlock-gateway"
    where = f"/api/v1/namespaces/{namespace}/configmaps"
    return Counter(
        event["auditID"]
        for event in control_plane.audit_events()
        if event["user"].get("username") == user
        and event["requestURI"].startswith(where)
        and event["stage"] == "ResponseComplete"
    )
