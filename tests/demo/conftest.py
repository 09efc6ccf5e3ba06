"""Ways to ask the demo's API server: in memory without a socket, and over the wire with real clients."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.demo import seed
from interlock.demo.api import Api, User
from interlock.demo.controllers import Controllers
from interlock.demo.kubernetes import Kubernetes, Options
from interlock.demo.record import Record
from interlock.demo.resources import RESOURCES, Resource
from interlock.demo.store import Store
from interlock.demo.wire import Answer, Reply, Request
from interlock.demo.workloads import Logs

ROWS = {row.qualified: row for row in RESOURCES}


@dataclass
class Clock:
    """A time that moves only when told."""

    time: datetime = datetime(2026, 6, 1, 8, tzinfo=UTC)
    made: int = 0

    def __call__(self) -> datetime:
        return self.time

    def uid(self) -> str:
        self.made += 1
        return f"{self.made:05x}000-0000-4000-8000-000000000000"

    def pass_(self, **duration: float) -> None:
        self.time += timedelta(**duration)


@dataclass
class Asked:
    reply: Reply
    code: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    def header(self, name: str) -> str | None:
        assert not isinstance(self.reply, type(None))
        return next((v for k, v in self.reply.headers if k.lower() == name.lower()), None)  # type: ignore[union-attr]


@dataclass
class Asker:
    """Calls an `Api` as the wire would. `stream` gives the pieces of an answer that has no end."""

    api: Api
    clock: Clock
    sent: list[Callable[[int], None]] = field(default_factory=list)

    async def reply(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        media_type: str | None = "application/json",
        headers: dict[str, str] | None = None,
        token: str | None = "admin",
        certificate: dict[str, Any] | None = None,
        too_large: bool = False,
    ) -> Reply:
        given = [(name.lower(), value) for name, value in (headers or {}).items()]
        if token is not None:
            given.append(("authorization", f"Bearer {token}"))
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if raw and media_type:
            given.append(("content-type", media_type))
        reply, done = await self.api.handle(
            Request(method, target, tuple(given), raw, certificate or {}, too_large)
        )
        self.sent.append(done)
        return reply

    async def __call__(self, method: str, target: str, body: object = None, **how: Any) -> Asked:
        reply = await self.reply(method, target, body, **how)
        assert isinstance(reply, Answer), reply
        if isinstance(reply.body, bytes):
            raw = reply.body
        else:
            raw = b"".join([piece async for piece in reply.body])
        self.sent[-1](len(raw))
        return Asked(reply, reply.code, raw)

    async def stream(self, target: str, **how: Any) -> AsyncIterator[bytes]:
        reply = await self.reply("GET", target, **how)
        assert isinstance(reply, Answer)
        assert not isinstance(reply.body, bytes), reply
        return reply.body

    async def events(self, target: str, count: int, **how: Any) -> list[Any]:
        """The first `count` events of a watch, which is left open."""
        stream = await self.stream(target, **how)
        found: list[Any] = []
        while len(found) < count:
            piece = await anext(stream)
            if piece:
                found.append(json.loads(piece))
        await stream.aclose()  # type: ignore[attr-defined]
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rows() -> dict[str, Resource]:
    return ROWS


@pytest.fixture
def store(clock: Clock) -> Store:
    """An empty store without controllers."""
    return Store(clock, clock.uid)


@pytest.fixture
def logs(store: Store) -> Logs:
    return Logs(store.stamp)


@pytest.fixture
def ask(clock: Clock, store: Store, logs: Logs) -> Asker:
    """The seeded cluster."""
    Controllers(store, logs, ROWS)
    seed.fill(store, logs, ROWS)
    admin = User("gateway", ("system:masters", "system:authenticated"))
    plain = User("plain", ("system:authenticated",))
    return Asker(Api(store, logs, Record(), RESOURCES, {"admin": admin, "plain": plain}), clock)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A real server in a thread, shared by the tests of one file."""
    with Kubernetes.start(Options(tmp_path_factory.mktemp("cluster"))) as running:
        yield running


@pytest.fixture
def kubectl(cluster: Kubernetes, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Real kubectl, straight to the cluster."""

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        program = Path(sys.prefix) / "bin" / "kubectl"
        return subprocess.run(
            [str(program), f"--kubeconfig={cluster.kubeconfig}", f"--cache-dir={tmp_path}/cache", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        )

    return run
