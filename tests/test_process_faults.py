"""Faults of real processes: one that is gone in the middle of a walk, or whose disk is.

In front of the demo's API server, which remembers all that it was asked. Whatever ends, wherever: nothing is
forwarded that was not signed, no raw secret byte comes out, and what came upstream is in the evidence.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import faulty
from gateways import MODES, ROOT, START, Mode, Running, Upstream
from interlock import lifecycle, stack
from interlock.demo import seed
from interlock.demo.kubernetes import Kubernetes, Options
from interlock.demo.resources import RESOURCES

pytestmark = pytest.mark.processes

MASKED = (b"masked-", b"bWFza2Vk")  # a mask, and one in base64
RAW = [text.encode() for text in (seed.PASSWORD, seed.API_KEY)]
PODS = next(resource for resource in RESOURCES if resource.qualified == "pods")
PATIENCE = 30.0  # seconds for what takes one on a machine with nothing else to do
AT_ONCE = 4  # gateways that start beside each other

# Traffic that delivers a secret, and the hooks that it goes through in the order of the walk.
STREAM = ("request", "responseheaders", "stream", "alive", "streamed")
WALKED = {
    "plain": ("request", "responseheaders", "response"),
    "watch": STREAM,
    "log": STREAM,
    "exec": ("request", "responseheaders", "websocket_message", "alive", "websocket_end"),
}
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)


@dataclass(frozen=True)
class Row:
    """One cell of the matrix: the process ends at the `calls`-th call of this stage's hook. No stage: it does not."""

    mode: Mode
    kind: str
    stage: str = ""
    hook: str = ""
    calls: int = 1

    def __str__(self) -> str:
        return f"{self.mode} {self.kind} {self.stage}.{self.hook}"


def rows(mode: Mode, kind: str) -> list[Row]:
    """Every hook of every stage that this traffic goes through, made from the stack itself."""
    life: Any = SimpleNamespace(
        gateway=SimpleNamespace(clusters=()), bearers=None, policies=None, journal=None
    )
    found = [Row(mode, kind)]
    for stage in stack.stages(life):
        # A followed log's first lines pass, and the process ends when some more have come one by one.
        found += [
            Row(mode, kind, stage.name, hook, 12 if (kind, hook) == ("log", "stream") else 1)
            for hook in WALKED[kind]
            if hook in stage.fills
        ]
    return found


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that stays: its console, recorder and sessions serve those that end beside it."""
    directory = tmp_path_factory.mktemp("keeper")
    with (
        Kubernetes.start(Options(directory=directory / "cluster")) as cluster,
        Running(directory / "gateway", [upstream(cluster)]) as running,
    ):
        yield running


def upstream(cluster: Kubernetes) -> Upstream:
    return Upstream("demo", cluster.server, cluster.ca, f"{{tokenFile: {cluster.options.directory}/token}}")


@pytest.mark.parametrize(
    ("mode", "kind"), [*(("up", kind) for kind in WALKED), ("mitmdump", "plain")], ids=lambda value: value
)
def test_a_process_that_ends_anywhere_lets_nothing_through(
    keeper: Running, tmp_path: Path, mode: Mode, kind: str
) -> None:
    token = keeper.session("demo")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        walks = list(
            threads.map(
                lambda numbered: walked(keeper, token, tmp_path / str(numbered[0]), numbered[1]),
                enumerate(rows(mode, kind)),
            )
        )
    wrong = [f"{walk.row}: {problem}" for walk in walks for problem in problems(walk)]
    assert not wrong, "\n".join(wrong)
    recorded = {str(row[0]) for row in keeper.evidence("SELECT id FROM live.requests")}
    sent = {audit_id for walk in walks for audit_id in walk.forwarded}
    assert sent
    assert sent <= recorded, "the cluster was asked what the evidence does not know"
    assert keeper.evidence("SELECT * FROM live.promise_3_violations") == []


@dataclass(frozen=True)
class Walk:
    """What a row came to: the bytes that the agent got, the Audit-IDs that the cluster saw, and the exit status."""

    row: Row
    heard: bytes
    forwarded: list[str]
    status: int | None
    log: str


def problems(walk: Walk) -> Iterator[str]:
    """What this row should not have come to."""
    row, heard = walk.row, walk.heard
    masked = any(mask in heard for mask in MASKED)
    if any(raw in heard for raw in RAW):
        yield "a raw secret was delivered"
    if "Traceback" in walk.log:
        yield f"a traceback was printed: {walk.log[-2000:]}"
    if not row.stage:
        if walk.status is not None or not masked or len(walk.forwarded) != 1:
            yield f"without a fault it does not work: {walk}"
        return
    if walk.status != faulty.STATUS:
        yield f"the process did not end there but with {walk.status}: {heard[-500:]!r} {walk.log[-2000:]}"
    if row.hook == "request":
        if walk.forwarded:
            yield "a request was forwarded that was not signed"
    elif len(walk.forwarded) != 1:
        yield f"the fault came before the request went on: {walk.forwarded}"
    if row.hook in ("request", "responseheaders", "response") and heard:
        yield f"something was delivered that was not signed: {heard[:300]!r}"
    if row.hook in ("stream", "websocket_message") and row.calls == 1 and masked:
        yield f"a piece was delivered that was not signed: {heard[:300]!r}"
    if row.hook == "stream" and row.calls > 1 and not masked:
        yield "the pieces before the fault were not delivered"
    if row.hook in STREAM and heard.endswith(b"\r\n0\r\n\r\n"):
        yield "a broken stream ended as if it were whole"


def walked(keeper: Running, token: str, directory: Path, row: Row) -> Walk:
    """A gateway of its own before a cluster of its own, one request, and what came of it."""
    with Kubernetes.start(Options(directory=directory / "cluster", heartbeat=0.2)) as cluster:
        pod = cluster.api.store.objects(PODS, "shop")[1][0]["metadata"]["name"]
        process, ready = started(keeper, cluster, directory, row)
        try:
            heard = converse(
                ready["proxy"], cluster.server, Path(ready["ca"]), request(row, pod, cluster.server, token)
            )
            if row.stage:
                process.join(PATIENCE)
            status = process.exitcode
        finally:
            process.terminate()
            process.join(PATIENCE)
            process.kill()
        forwarded = [received.audit_id for received in cluster.requests]
    return Walk(row, heard, forwarded, status, (directory / "gateway.log").read_text())


def started(keeper: Running, cluster: Kubernetes, directory: Path, row: Row) -> tuple[BaseProcess, Any]:
    """A gateway beside the keeper, of the same evidence, state, authority and console, once it serves."""
    ready = directory / "ready.json"
    config = keeper.directory / f"gateway-{directory.parent.name}-{directory.name}.yaml"
    kept, own = keeper.upstreams[0], upstream(cluster)
    text = (keeper.directory / "gateway.yaml").read_text()
    for before, after in (
        (kept.server, own.server),
        (str(kept.ca), str(own.ca)),
        (kept.credential, own.credential),
        ("console: 127.0.0.1:0", f"console: {keeper.ready['console'].removeprefix('http://')}"),
        ("  reverse: 127.0.0.1:0\n", ""),
        ("readyFile: ready.json", f"readyFile: {ready}"),
    ):
        assert before in text, before
        text = text.replace(before, after)
    config.write_text(text)
    arguments = {
        "up": ["--config", str(config)],
        "mitmdump": ["-q", "-s", str(ROOT / "addons" / "gateway.py"), "--set", f"interlock_config={config}"],
    }[row.mode]
    fault = f"{row.stage}.{row.hook}.{row.calls}" if row.stage else ""
    process = faulty.start(row.mode, arguments, fault, directory)
    end = time.monotonic() + START
    while not ready.exists():
        if not process.is_alive() or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"{row}: it did not start:\n{(directory / 'gateway.log').read_text()}")
        time.sleep(0.05)
    return process, json.loads(ready.read_text())


def request(row: Row, pod: str, server: str, token: str) -> bytes:
    """The row's request as it goes over the wire. A stream ends by itself, but not before the fault can come."""
    follow = "false" if row.hook == "streamed" or not row.stage else "true"
    command = "sh&command=-c&command=env;sleep+3" if row.hook == "alive" else "env"
    path = {
        "plain": "secrets/payments",
        "watch": "secrets?watch=true&timeoutSeconds=2",
        "log": f"pods/{pod}/log?follow={follow}",
        "exec": f"pods/{pod}/exec?command={command.replace(';', '%3B')}&stdout=true",
    }[row.kind]
    head = UPGRADE if row.kind == "exec" else ""
    host = server.removeprefix("https://")
    return (
        f"GET /api/v1/namespaces/shop/{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{head}\r\n"
    ).encode()


def whole(heard: bytes) -> bool:
    """Whether an answer has come to its end: of its length, its last chunk, or its closing frame (RFC 6455, 5.5.1)."""
    head, _, body = heard.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101 "):
        return b"\x88\x02\x03\xe8" in body
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return len(body) >= int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n")


def converse(proxy: str, server: str, ca: Path, data: bytes, seconds: float = PATIENCE) -> bytes:
    """CONNECT, TLS, `data`; what is answered until it is whole or the connection ends."""
    host, port = proxy.removeprefix("http://").rsplit(":", 1)
    address = server.removeprefix("https://")
    trust = ssl.create_default_context(cafile=str(ca))
    heard = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as plain:
        plain.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert plain.recv(4096).startswith(b"HTTP/1.1 200 ")
        with trust.wrap_socket(plain, server_hostname=address.rsplit(":", 1)[0]) as secure:
            secure.sendall(data)
            try:
                while not whole(heard) and (part := secure.recv(65536)):
                    heard += part
            except (ConnectionResetError, ssl.SSLEOFError):  # how a process that is gone closes
                return heard
    return heard


# What the gateway needs beside itself -------------------------------------------------------------------


def process_ids(directory: Path, module: str) -> list[int]:
    """Processes that run `python -m MODULE` for what lies in this directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if module.encode() in command and any(str(directory).encode() in word for word in command):
            found.append(int(entry.parent.name))
    return found


def eventually(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true value of `what`, asked again and again; fails the test after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := what():
            return value
        time.sleep(0.1)
    return pytest.fail(f"not within {seconds} s")


def ready_now(running: Running) -> Any:
    """The ready file as it is now: a console that was started again may have another port."""
    return json.loads((running.directory / "ready.json").read_text())


def serves(running: Running) -> bool:
    try:
        return httpx.get(ready_now(running)["console"] + "/healthz", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_a_console_and_a_recorder_that_were_killed_are_started_again(keeper: Running) -> None:
    token = keeper.session("demo")
    for module in ("interlock.evidence.recorder", "interlock.console"):
        (before,) = process_ids(keeper.directory, module)
        os.kill(before, signal.SIGKILL)
        with keeper.client("demo", token) as client:
            assert client.get("/version").status_code == 200, "the gateway did not do without"
        eventually(lambda: [p for p in process_ids(keeper.directory, module) if p != before])
    keeper.ready = eventually(lambda: serves(keeper) and ready_now(keeper))
    assert keeper.session("demo") != token
    sealed = "SELECT count(*) FROM main.journal_files"
    ((count,),) = keeper.evidence(sealed)
    os.kill(process_ids(keeper.directory, "interlock.console")[0], signal.SIGKILL)
    # The dead console's journal is let go of, so that the new recorder has something to seal.
    eventually(lambda: keeper.evidence(sealed)[0][0] > count)
    keeper.ready = eventually(lambda: serves(keeper) and ready_now(keeper))


async def test_what_cannot_be_started_again_is_said_once_and_tried_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = object.__new__(lifecycle.Lifecycle)
    outcomes = iter([OSError("no memory"), OSError("no memory"), None, OSError("no memory")])
    tried: list[dict[str, Any]] = []

    def revive(listeners: dict[str, Any]) -> None:
        tried.append(listeners)
        if (outcome := next(outcomes)) is not None:
            raise outcome

    monkeypatch.setattr(lifecycle, "REVIVE_EVERY", 0)
    monkeypatch.setattr(life, "_revive", revive)
    with pytest.raises(RuntimeError):  # when no outcome is left
        await life._watch_processes({"proxy": "p"})
    assert tried == [{"proxy": "p"}] * 5
    assert caplog.messages == ["no memory"] * 2


# The disk -----------------------------------------------------------------------------------------------


def followed_log(cluster: Kubernetes) -> str:
    """The path of a log with a secret in it, that goes on."""
    pod = cluster.api.store.objects(PODS, "shop")[1][0]["metadata"]["name"]
    return f"/api/v1/namespaces/shop/pods/{pod}/log?follow=true"


def journal_of(directory: Path, log: str = "gateway") -> Path:
    """The file that the gateway writes now."""
    return max(
        (directory / "evidence" / "journal").glob(f"{log}-*"), key=lambda path: path.stat().st_mtime_ns
    )


@dataclass(frozen=True)
class Full:
    """No file of the gateway's process may grow: as on a full disk, and for this process alone."""

    pid: int
    directory: Path

    def begin(self) -> None:
        largest = max(path.stat().st_size for path in self.directory.glob("state.db*"))
        assert largest < journal_of(self.directory).stat().st_size, "the state would be in the way first"
        self._limit(journal_of(self.directory).stat().st_size + 100)

    def end(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@dataclass(frozen=True)
class ReadOnly:
    """The journal's folder takes no further files."""

    pid: int
    directory: Path

    def begin(self) -> None:
        (self.directory / "evidence" / "journal").chmod(0o550)

    def end(self) -> None:
        (self.directory / "evidence" / "journal").chmod(0o750)


class Unprivileged(Running):
    """A gateway that file permissions hold for, even if the tests are run by root."""

    def command(self) -> list[str]:
        drop = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        return [*(drop if os.geteuid() == 0 else []), *super().command()]


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_takes_nothing_refuses_and_recovers(tmp_path: Path, mode: Mode) -> None:
    with (
        Kubernetes.start(Options(directory=tmp_path / "cluster", pods=400, heartbeat=0.2)) as cluster,
        Unprivileged(tmp_path / "gateway", [upstream(cluster)], mode=mode) as gateway,
    ):
        token = gateway.session("demo")
        with gateway.client("demo", token) as client:
            for limit in range(397, 400):  # some megabytes of evidence
                assert client.get(f"/api/v1/namespaces/bulk/pods?limit={limit}").status_code == 200
            for fault in (Full, ReadOnly):
                disk = fault(ready_now(gateway)["pid"], gateway.directory)
                with (
                    gateway.client("demo", token) as other,
                    other.stream("GET", followed_log(cluster)) as log,
                ):
                    pieces = log.iter_raw()
                    assert next(pieces)
                    disk.begin()
                    with pytest.raises(httpx.TransportError):
                        eventually(lambda: not next(pieces))
                before = len(cluster.requests)
                for method, path in (
                    ("GET", "/version"),
                    ("GET", "/api/v1/namespaces/shop/secrets/payments"),
                    ("GET", "/api/v1/namespaces/shop/secrets?watch=true&timeoutSeconds=1"),
                    ("DELETE", "/api/v1/namespaces/shop/secrets/payments"),
                ):
                    answer = client.request(method, path)
                    assert answer.status_code == 503, (method, path, answer.text)
                    assert answer.json()["kind"] == "Status"
                    assert "\n" not in answer.json()["message"]
                assert len(cluster.requests) == before, "a request went on that is in no evidence"
                if fault is ReadOnly:
                    identity = gateway.provider.token("ada@example.com", ["agents"])
                    answer = gateway.exchange(identity, "demo")
                    assert answer.status_code == 503, f"a session was opened off the record: {answer.text}"
                disk.end()
                eventually(lambda: client.get("/version").status_code == 200)
                assert client.get("/api/v1/namespaces/shop/secrets/payments").status_code == 200
        sent = {received.audit_id for received in cluster.requests}
        recorded = {str(row[0]) for row in gateway.evidence("SELECT id FROM live.requests")}
        assert sent <= recorded
        said = gateway.evidence("SELECT gateway_id FROM live.health_events WHERE kind = 'journal_unwritable'")
        logs = sorted(row[0].partition("-")[0] for row in said)
        assert logs == ["console", "gateway", "gateway"], "a gap is not in the evidence"
        assert gateway.evidence("SELECT * FROM live.promise_3_violations") == []
        assert "Traceback" not in gateway.log()
