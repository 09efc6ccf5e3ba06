"""A small Kubernetes API server of our own: in this process, or as a program.

In: where to listen and what to hold. Out: a TLS address, an authority, credentials, and the record of
every request. It needs no network, no cluster and no rights, runs nothing on this host, and forgets
everything when it stops. It is for the demo and for tests, never for data that matters.

    with Kubernetes.start(Options(directory=path)) as cluster:
        cluster.server, cluster.ca, cluster.token, cluster.requests

    python -m interlock.demo.kubernetes --directory D      # prints one JSON line, serves until SIGTERM
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import ssl
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import orjson

from interlock.demo import certificates, seed, wire
from interlock.demo.api import Api, User
from interlock.demo.bulk import Bulk
from interlock.demo.controllers import Controllers
from interlock.demo.faults import Fault
from interlock.demo.printing import at
from interlock.demo.record import Received, Record
from interlock.demo.resources import RESOURCES
from interlock.demo.store import Store
from interlock.demo.workloads import Logs

NAMES = ("localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "api.interlock.test")
ADMIN = User("interlock-gateway", ("system:masters", "system:authenticated"))
HANDSHAKE, SHUTDOWN = 5.0, 1.0  # seconds that TLS may take to begin and to end
START = 10.0  # seconds that a thread may take to listen


@dataclass(frozen=True, slots=True)
class Options:
    """`directory` gets ca.pem, token, client.pem, client.key, kubeconfig, requests.jsonl; faults.json is read there.

    `pods` more pods of `pod_size` bytes in namespace `bulk`; `impostor` serves a certificate that
    `ca.pem` did not sign; `heartbeat` seconds between log lines of every running pod (0: none).
    """

    directory: Path
    host: str = "127.0.0.1"
    port: int = 0
    pods: int = 0
    pod_size: int = 3000
    impostor: bool = False
    heartbeat: float = 0.0
    names: tuple[str, ...] = NAMES
    faults: tuple[Fault, ...] = ()


@dataclass(slots=True)
class Kubernetes:
    """A server that runs. Made by `start` (in a thread) or `open` (on the running loop)."""

    options: Options
    api: Api
    token: str
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)
    _beat: asyncio.Task[None] | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _file_faults: tuple[int, list[Fault]] = (0, [])
    _faults_path: str = field(init=False)

    def __post_init__(self) -> None:
        self._faults_path = str(self.options.directory / "faults.json")

    # In a thread of this process

    @classmethod
    def start(cls, options: Options) -> "Kubernetes":
        """Starts a server in a thread with its own loop, and returns once it listens."""
        cluster = cls._made(options)
        cluster._loop = loop = asyncio.new_event_loop()
        cluster._thread = threading.Thread(target=loop.run_forever, name="demo-kubernetes", daemon=True)
        cluster._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(cluster._listen(), loop).result(START)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        """Ends every connection and the thread. May be called twice."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(self.close(), loop).result(START)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START)
        loop.close()

    def __enter__(self) -> "Kubernetes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # On a loop

    @classmethod
    async def open(cls, options: Options) -> "Kubernetes":
        """Starts a server on the running loop; `close` ends it."""
        cluster = cls._made(options)
        try:
            await cluster._listen()
        except BaseException:
            await cluster.close()
            raise
        return cluster

    async def close(self) -> None:
        """Stops listening and ends every connection, streams too."""
        tasks = [*self._connections, *([self._beat] if self._beat else [])]
        if self._server is not None:
            self._server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        self.api.record.close()

    # What it is

    @property
    def server(self) -> str:
        return f"https://{self.options.host}:{self.port}"

    @property
    def ca(self) -> Path:
        return self.options.directory / "ca.pem"

    @property
    def kubeconfig(self) -> Path:
        """An administrator's, straight to this server."""
        return self.options.directory / "kubeconfig"

    @property
    def client_certificate(self) -> tuple[Path, Path]:
        """Certificate and key of the same administrator."""
        return self.options.directory / "client.pem", self.options.directory / "client.key"

    @property
    def requests(self) -> list[Received]:
        """Every request so far, in order of arrival."""
        return self.api.record.all()

    def description(self) -> dict[str, object]:
        """What the program prints: paths, never a secret itself."""
        certificate, key = self.client_certificate
        return {
            "server": self.server,
            "ca": str(self.ca),
            "kubeconfig": str(self.kubeconfig),
            "tokenFile": str(self.options.directory / "token"),
            "clientCertificate": str(certificate),
            "clientKey": str(key),
            "requests": str(self.options.directory / "requests.jsonl"),
            "faults": str(self.options.directory / "faults.json"),
        }

    # How it comes to be

    @classmethod
    def _made(cls, options: Options) -> "Kubernetes":
        options.directory.mkdir(parents=True, exist_ok=True)
        store = Store(lambda: datetime.now(UTC), lambda: str(uuid.uuid4()))
        logs = Logs(store.stamp)
        resources = {row.qualified: row for row in RESOURCES}
        Controllers(store, logs, resources)
        seed.fill(store, logs, resources)
        token = secrets.token_urlsafe(32)
        bulk = Bulk(options.pods, options.pod_size) if options.pods else None
        record = Record(options.directory / "requests.jsonl")
        cluster = cls(options, Api(store, logs, record, RESOURCES, {token: ADMIN}, bulk), token)
        cluster.faults += options.faults
        cluster.api.faults = cluster._all_faults
        return cluster

    async def _listen(self) -> None:
        options, now = self.options, datetime.now(UTC)
        authority = certificates.authority("interlock demo cluster", now)
        signer = certificates.authority("interlock demo cluster", now) if options.impostor else authority
        serving = certificates.server_certificate(signer, options.names, now)
        client = certificates.client_certificate(authority, ADMIN.name, ("system:masters",), now)
        directory = options.directory
        for name, content in (
            ("ca.pem", authority.certificate),
            ("token", self.token.encode()),
            ("client.pem", client.certificate),
            ("client.key", client.key),
            ("server.pem", serving.certificate + serving.key),
        ):
            _write_private(directory / name, content)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(directory / "server.pem")
        context.load_verify_locations(cadata=authority.certificate.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        self._server = await asyncio.start_server(
            self._connected,
            options.host,
            options.port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=SHUTDOWN,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        _write_private(self.kubeconfig, json.dumps(self._kubeconfig(), indent=1).encode())
        if options.heartbeat:
            self._beat = asyncio.create_task(self._heartbeat(options.heartbeat))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await wire.serve(reader, writer, self.api.handle)
        finally:
            self._connections.discard(task)

    async def _heartbeat(self, seconds: float) -> None:
        """One more line in the log of every running container, for what follows logs for long."""
        pods = next(row for row in RESOURCES if row.qualified == "pods")
        beat = 0
        while True:
            await asyncio.sleep(seconds)
            beat += 1
            for pod in self.api.store.objects(pods)[1]:
                if at(pod, "status.phase") == "Running":
                    metadata = pod["metadata"]
                    for container in at(pod, "spec.containers", ()):
                        stream = (metadata["namespace"], metadata["name"], container["name"])
                        self.api.logs.append(stream, f"heartbeat {beat} password={seed.PASSWORD}")

    def _all_faults(self) -> list[Fault]:
        """Those set in this process, and those in faults.json: `[{"mode", "match", "times"}]`, read again when it changes."""
        path = self._faults_path
        try:
            changed = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            return self.faults
        if changed != self._file_faults[0]:
            self._file_faults = (changed, [Fault(**entry) for entry in orjson.loads(Path(path).read_bytes())])
        return [*self.faults, *self._file_faults[1]]

    def _kubeconfig(self) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "demo",
                    "cluster": {"server": self.server, "certificate-authority": str(self.ca.resolve())},
                }
            ],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [
                {"name": "demo", "context": {"cluster": "demo", "user": "admin", "namespace": "shop"}}
            ],
            "current-context": "demo",
        }


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


async def _serve(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = await Kubernetes.open(options)
    print(json.dumps(cluster.description()), flush=True)
    await stop.wait()
    await cluster.close()


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Exit 0 after SIGTERM or SIGINT, 1 when the address is taken, 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="interlock.demo.kubernetes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--directory", type=Path, required=True, help="gets certificates, token, kubeconfig, requests.jsonl"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--pods", type=int, default=0, metavar="N", help="N more pods in namespace bulk")
    parser.add_argument("--pod-size", type=int, default=3000, metavar="BYTES")
    parser.add_argument(
        "--impostor", action="store_true", help="serve a certificate that ca.pem did not sign"
    )
    parser.add_argument(
        "--heartbeat", type=float, default=0.0, metavar="SECONDS", help="a log line in every pod so often"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="MODE", help="answer everything wrongly"
    )
    given = parser.parse_args(argv)
    try:
        faults = tuple(Fault(mode) for mode in given.fault)
    except ValueError as problem:
        parser.error(str(problem))
    options = Options(
        given.directory,
        host=given.host,
        port=given.port,
        pods=given.pods,
        pod_size=given.pod_size,
        impostor=given.impostor,
        heartbeat=given.heartbeat,
        faults=faults,
    )
    try:
        asyncio.run(_serve(options))
    except OSError as problem:
        print(
            f"interlock.demo.kubernetes: cannot listen on {given.host}:{given.port}: {problem.strerror}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
