"""What stands around the stack in one gateway process: from the configuration file to the ready file, and
to the last record at its end.

In: the path of a `kind: Gateway` file and a mitmproxy master. Out: a guard in that master, with every
mitmproxy option set from the file. The rule: an option that would weaken the guard is refused, at start and
at every change; and where no stack can be built, a guard that refuses everything stands in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from mitmproxy import exceptions
from sqlalchemy import make_url

from interlock import authority, config, front_door, proxy, stack
from interlock.documents import DocumentError
from interlock.evidence import events, locks
from interlock.evidence.journal import Journal, JournalUnwritable
from interlock.evidence.starting import ensure_recorder
from interlock.guard import Closed, Guard
from interlock.identity.sessions import StateAway
from interlock.policy.engine import PolicySet
from interlock.policy.files import load_policies
from interlock.stages.recording import now_us
from interlock.state import State

log = logging.getLogger("interlock")

RELOAD_EVERY = 1.0  # seconds between two looks at the policy files
REVIVE_EVERY = 1.0  # seconds between two looks at whether recorder and console still run
RECORDER_WITHIN = 5.0  # seconds for a recorder's new start; a longer one is looked at again
STOP_WITHIN = 8.0  # seconds for the recorder's last seal
WORKERS_WITHIN = 60.0  # seconds for all workers to serve

# mitmproxy's options as Interlock needs them (notes beside those whose reason does not show).
FIXED: dict[str, Any] = {
    "connection_strategy": "lazy",  # eager dials the cluster before any check
    "http2": False,  # kill and back-pressure are exact on HTTP/1.1 alone
    "http3": False,
    "rawtcp": False,  # true hands any other upgrade to an opaque relay
    "websocket": True,
    "keep_host_header": True,  # the perimeter compares it
    "validate_inbound_headers": True,
    "tls_version_client_min": "TLS1_2",
    "tls_version_server_min": "TLS1_2",
    "tcp_timeout": 86400,  # 600 s would cut idle watches
    "upstream_cert": False,
    "ssl_insecure": False,
    "request_client_cert": False,  # accepts any certificate: not an identity
    "add_upstream_certs_to_client_chain": False,
    "allow_hosts": [],  # passes other hosts through unseen
    "ignore_hosts": [],
    "tcp_hosts": [],
    "udp_hosts": [],
    "stream_large_bodies": None,  # streams requests past the request hook
    "store_streamed_bodies": False,
    "body_size_limit": None,  # interlock.proxy.bounds answers in Kubernetes' words instead
    "client_certs": None,  # set for each cluster by the perimeter
    "ssl_verify_upstream_trusted_ca": None,
    "ssl_verify_upstream_trusted_confdir": None,
    "certs": [],
}
# Of mitmdump's addons: those that answer, change or write flows by themselves.
ADDONS: dict[str, Any] = {
    "onboarding": False,  # serves the CA under mitm.it
    "flow_detail": 0,  # prints request lines with their query
    "save_stream_file": None,  # writes unmasked flows
    "hardump": "",
    "map_local": [],
    "map_remote": [],
    "modify_body": [],
    "modify_headers": [],
    "block_list": [],
    "server_replay": [],
    "client_replay": [],
    "rfile": None,
    "stickycookie": None,
    "stickyauth": None,
    "proxyauth": None,
    "anticache": False,
    "anticomp": False,
    "upstream_auth": None,
}
# Left to the operator, who may set nothing of these here but mitmproxy's own default.
FROM_FILE = ("mode", "listen_host", "listen_port", "confdir")


class Lifecycle:
    """Everything that the stages stand on. Raises DocumentError, AuthorityError, StateAway or OSError, each with
    one line or more for the operator, when the gateway cannot start."""

    def __init__(
        self, path: Path, *, ready_file: Path | None = None, workers: int = 1, one_of_several: bool = False
    ) -> None:
        self.path = path.absolute()
        self.gateway = config.load(self.path)
        self.policies: PolicySet = self._load_policies()
        self.ca = authority.ensure(self.gateway.authority.directory)
        self.ready_file = ready_file or self.gateway.ready_file
        self._more_workers = workers - 1
        self._workers: list[subprocess.Popen[bytes]] = []
        if workers > 1 or one_of_several:
            self._share_ports()
        _make_parent(self.gateway.state)
        self.state = State(self.gateway.state)
        self.journal = Journal(self.gateway.evidence.directory)
        ensure_recorder(self.gateway.evidence.directory)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="interlock-sessions")
        service = front_door.token_service(self.gateway, self.state, self.journal, self._threads)
        self.bearers = front_door.bearers(self.gateway, self.state, service)
        self.guard: Guard | None = None
        self.master: Any = None
        self.console: subprocess.Popen[bytes] | None = None
        self.console_url = ""
        self._tasks: list[asyncio.Task[None]] = []

    def _share_ports(self) -> None:
        addresses = [self.gateway.listen.proxy, *(c.reverse for c in self.gateway.clusters if c.reverse)]
        if any(address.port == 0 for address in addresses):
            raise OSError(
                f"{self.path}: several workers share their ports; give every listener a port, not 0"
            )
        proxy.share_ports()

    def _load_policies(self) -> PolicySet:
        return load_policies(self.gateway.policies, clusters=[c.name for c in self.gateway.clusters])

    def modes(self) -> list[str]:
        """mitmproxy's listeners: the forward proxy, and one reverse listener for each cluster that has one.

        `reverse:http` opens TCP alone; `reverse:https` would open a QUIC listener on the same port. The guard
        builds the layers itself, with TLS on both sides.
        """
        listeners = [f"regular@{_chosen(self.gateway.listen.proxy)}"]
        for cluster in self.gateway.clusters:
            if cluster.reverse is not None:
                host, port = cluster.address
                bracketed = f"[{host}]" if ":" in host else host
                listeners.append(f"reverse:http://{bracketed}:{port}@{_chosen(cluster.reverse)}")
        return listeners

    def options(self) -> dict[str, Any]:
        return {**FIXED, **ADDONS, "mode": self.modes(), "confdir": str(self.gateway.authority.directory)}

    # From here on within mitmproxy's event loop

    async def start(self) -> None:
        listeners = self._listeners()
        await self.journal.append(
            events.GatewayStarted(
                ts=now_us(),
                version=version("interlock"),
                pid=os.getpid(),
                policy_digest=self.policies.digest,
                clusters=tuple(c.name for c in self.gateway.clusters),
                listeners=(listeners["proxy"], *listeners["reverse"].values()),
            )
        )
        await self.journal.append(self._policy_event(self.policies))
        assert self.guard is not None
        self._tasks = [
            asyncio.create_task(self.guard.watch_sessions()),
            asyncio.create_task(self._watch_policies()),
        ]
        await asyncio.to_thread(self._start_console, listeners)
        if self._more_workers:
            await asyncio.to_thread(self._start_workers)
        if self.ready_file is not None:
            self._write_ready_file(listeners)
        self._tasks.append(asyncio.create_task(self._watch_processes(listeners)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            worker.terminate()
        assert self.guard is not None
        await self.guard.close()
        if self.ready_file is not None:
            self.ready_file.unlink(missing_ok=True)
        if self.console is not None:
            self.console.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.console.wait, 3)
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(worker.wait, STOP_WITHIN)
        await self.bearers.close()
        with contextlib.suppress(JournalUnwritable):
            await self.journal.append(events.GatewayStopped(ts=now_us()))
        await asyncio.to_thread(self.journal.close)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.state.close()
        # The recorder ends by itself once its last gateway is gone: wait for its last seal, not for other gateways.
        end = asyncio.get_running_loop().time() + STOP_WITHIN
        directory = self.gateway.evidence.directory
        while (  # noqa: ASYNC110 - a lock of another process has no event
            asyncio.get_running_loop().time() < end and locks.is_held(directory / locks.RECORDER)
        ):
            await asyncio.sleep(0.1)

    async def _watch_policies(self) -> None:
        seen = self._stamp()
        while True:
            await asyncio.sleep(RELOAD_EVERY)
            stamp = await asyncio.to_thread(self._stamp)
            if stamp == seen:
                continue
            seen = stamp
            try:
                policies = await asyncio.to_thread(self._load_policies)
                gone = sorted(map(str, self.policies.files.keys() - policies.files.keys()))
                if gone:
                    # It may have held a deny: a file that vanishes from a folder is no change of mind.
                    raise OSError(f"{', '.join(gone)}: gone; put it back, or restart the gateway without it")
                await self.journal.append(self._policy_event(policies))
            except (DocumentError, OSError) as error:
                log.error("the policies were not reloaded, those before stay in force: %s", error)
                refused = events.PolicyLoaded(
                    ts=now_us(), digest=self.policies.digest, outcome="refused", reason=str(error)[:2000]
                )
                with contextlib.suppress(JournalUnwritable):
                    await self.journal.append(refused)
                continue
            self.policies = policies
            log.info("policies reloaded: %s", policies.digest[:12])

    async def _watch_processes(self, listeners: dict[str, Any]) -> None:
        """Recorder and console are started again when they have ended, whatever ended them. What does not succeed
        is said once, and tried again; the journal keeps the evidence meanwhile."""
        said = ""
        while True:
            await asyncio.sleep(REVIVE_EVERY)
            try:
                await asyncio.to_thread(self._revive, listeners)
                said = ""
            except OSError as error:
                if str(error) != said:
                    log.error("%s", error)
                said = str(error)

    def _revive(self, listeners: dict[str, Any]) -> None:
        if not self._console_runs():
            self.console = None
            self._start_console(listeners)
            if self.ready_file is not None:
                self._write_ready_file(listeners)
        ensure_recorder(self.gateway.evidence.directory, timeout=RECORDER_WITHIN)

    def _console_runs(self) -> bool:
        """Our own, as a process; another gateway's, by its port."""
        if self.console is not None:
            return self.console.poll() is None
        address = self.gateway.listen.console
        with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), 1):
            return True
        return False

    def _policy_event(self, policies: PolicySet) -> events.PolicyLoaded:
        files = [
            events.PolicyFile(path=str(path), sha256=hashlib.sha256(text.encode()).hexdigest())
            for path, text in policies.files.items()
        ]
        rules = sum(len(policy.spec.rules) for policy in policies.policies)
        return events.PolicyLoaded(ts=now_us(), digest=policies.digest, files=tuple(files), rules=rules)

    def _policy_files(self) -> list[Path]:
        found: list[Path] = []
        for path in self.gateway.policies:
            found += sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        return found

    def _stamp(self) -> tuple[Any, ...]:
        """What changes when a policy file does, is replaced, or is gone."""
        try:
            stats = [(str(file), file.stat()) for file in self._policy_files()]
        except OSError as error:
            return (error.errno, error.filename)
        return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in stats)

    def _listeners(self) -> dict[str, Any]:
        """Where the gateway really listens (a port 0 has been filled in): {"proxy": URL, "reverse": {name: URL}}."""
        names = {c.address: c.name for c in self.gateway.clusters}
        listeners: dict[str, Any] = {"proxy": "", "reverse": {}}
        for server in self.master.addons.get("proxyserver").servers:
            host, port = server.listen_addrs[0][:2]
            host = f"[{host}]" if ":" in host else host
            if server.mode.type_name == "reverse":
                listeners["reverse"][names[server.mode.address]] = f"https://{host}:{port}"
            else:
                listeners["proxy"] = f"http://{host}:{port}"
        return listeners

    def _start_console(self, listeners: dict[str, Any]) -> None:
        """Start the console unless it serves already; it ends when our end of its standard input closes."""
        address = self.gateway.listen.console
        if address.port and _answers(address.host, address.port):
            self.console_url = f"http://{address}"
            return
        reading, writing = os.pipe()
        try:
            self.console = subprocess.Popen(
                [
                    *(sys.executable, "-m", "interlock.console", "--config", str(self.path)),
                    *(
                        "--listeners",
                        json.dumps(listeners),
                        "--authority",
                        str(self.ca),
                        "--ready-fd",
                        str(writing),
                    ),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        with os.fdopen(reading) as ready:
            self.console_url = ready.readline().strip()
        if not self.console_url:
            raise OSError(f"the console did not start at {address}; the lines above say why")

    def _start_workers(self) -> None:
        """Start the other gateway processes, and wait until each serves. They end when our end of their stdin does."""
        with tempfile.TemporaryDirectory(prefix="interlock-") as folder:
            files = [Path(folder) / f"{number}.json" for number in range(self._more_workers)]
            for file in files:
                self._workers.append(
                    subprocess.Popen(
                        [
                            *(sys.executable, "-m", "interlock.cli", "up", "--config", str(self.path)),
                            *("--ready-file", str(file), "--one-of-several"),
                        ],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )
            end = time.monotonic() + WORKERS_WITHIN
            while not all(file.exists() for file in files):
                if time.monotonic() > end or any(worker.poll() is not None for worker in self._workers):
                    raise OSError("a worker did not start; the lines above say why")
                time.sleep(0.05)

    def _write_ready_file(self, listeners: dict[str, Any]) -> None:
        assert self.ready_file is not None
        ready = {
            **listeners,
            "console": self.console_url,
            "ca": str(self.ca),
            "evidence": str(self.gateway.evidence.directory),
            "pid": os.getpid(),
        }
        temporary = self.ready_file.with_name(self.ready_file.name + ".new")
        temporary.write_text(json.dumps(ready) + "\n")
        temporary.replace(self.ready_file)


def _make_parent(url: str) -> None:
    """The folder of a SQLite file: a new gateway's state may lie where nothing is yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _chosen(address: config.Address) -> config.Address:
    """The address with its port 0 filled in: mitmproxy takes two listeners on port 0 for one address twice."""
    if address.port:
        return address
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address.host, 0))
        return config.Address(address.host, probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    """Whether a console serves there."""
    try:
        return httpx.get(
            f"http://{f'[{host}]' if ':' in host else host}:{port}/healthz", timeout=2
        ).is_success
    except httpx.HTTPError:
        return False


class Gateway(Guard):
    """The guard as mitmproxy's addon, with the lifecycle's hooks and the watch over mitmproxy's options."""

    name = "guard"

    def __init__(self, life: Lifecycle, master: Any) -> None:
        built = stack.stages(life)
        super().__init__(built, built[0], master=master)
        self.life = life
        self._held: dict[str, Any] = {}

    def hold(self, options: dict[str, Any]) -> None:
        """From now on no option of these may be another."""
        self._held = options

    def configure(self, updated: set[str]) -> None:
        options = self.master.options
        for name in sorted(updated & self._held.keys()):
            if not _is(options, name, self._held[name]):
                raise exceptions.OptionsError(
                    f"interlock: {name} cannot be changed while the gateway runs; it would weaken the guard"
                )

    async def running(self) -> None:
        try:
            if not await proxy.listen(self.master, list(self.master.options.mode)):
                self.master.shutdown()
                return
            await self.life.start()
        except Exception as error:
            log.error("interlock: %s", error)
            self.master.shutdown()

    async def done(self) -> None:
        await self.life.stop()


def install(master: Any, life: Lifecycle | None = None) -> None:
    """Put the guard into `master`, before every other addon; does nothing if it is there already.

    Without `life` the path comes from mitmproxy's option `interlock_config`. What cannot start is logged as
    one error a line (mitmproxy then exits with status 1), and refused in the meantime.
    """
    if master.addons.get("guard") is not None:
        return
    if "interlock_config" not in master.options:
        master.options.add_option(
            "interlock_config", str, "", "The gateway's configuration file (kind: Gateway)."
        )
        master.options.process_deferred()
    quiet_mitmproxy()
    if life is None:
        proxy.without_default_listener(master)
    try:
        options = _chosen_options(master, life)
        if life is None:
            path = master.options.interlock_config
            if not path:
                raise OSError("no configuration: add --set interlock_config=rules/gateway.yaml")
            life = Lifecycle(Path(path))
        addon: Any = Gateway(life, master)
    except (DocumentError, authority.AuthorityError, StateAway, OSError, exceptions.OptionsError) as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        addon = Closed()
        _insert(master, addon)
        return
    life.guard, life.master = addon, master
    _insert(master, addon)
    chosen = {name: value for name, value in life.options().items() if name in options}
    master.options.update(
        **{name: value for name, value in chosen.items() if not _is(master.options, name, value)}
    )
    addon.hold({**chosen, "interlock_config": master.options.interlock_config, "server": True})


def _chosen_options(master: Any, life: Lifecycle | None) -> frozenset[str]:
    """The options of FIXED, ADDONS and FROM_FILE that this master has. Raises OptionsError if one was set to
    something else than its default or the value it will get."""
    known = frozenset(name for name in (*FIXED, *ADDONS, *FROM_FILE) if name in master.options)
    if life is not None:
        return known
    for name in sorted(known):
        default = master.options.default(name)
        wanted = {**FIXED, **ADDONS}.get(name, default)
        if not _is(master.options, name, wanted) and not _is(master.options, name, default):
            where = "set it in the gateway's file" if name in FROM_FILE else "leave it out"
            raise exceptions.OptionsError(
                f"interlock: the option {name} would weaken or bypass the guard; {where}"
            )
    return known


def _is(options: Any, name: str, wanted: Any) -> bool:
    """Whether an option has this value; mitmproxy keeps sequences as lists or tuples."""
    value = getattr(options, name)
    return list(value) == list(wanted) if isinstance(wanted, list | tuple) else bool(value == wanted)


def _insert(master: Any, addon: Any) -> None:
    """First in the chain: its decisions on layers and connections come before mitmproxy's own."""
    master.addons.register(addon)
    master.addons.chain.insert(0, addon)


class _Scrub(logging.Filter):
    """mitmproxy's records lose what may quote traffic: tracebacks, and all below a warning but listeners."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("mitmproxy"):
            return True
        record.exc_info = None
        record.exc_text = None
        if record.levelno < logging.WARNING:
            return record.name in ("mitmproxy.proxy.mode_servers", "mitmproxy.addons.script")
        record.msg, record.args = (record.getMessage().splitlines() or [""])[0][:200], ()
        return "without nextlayer" not in record.msg  # the guard builds the layers itself


def quiet_mitmproxy() -> None:
    scrub = _Scrub()
    for handler in logging.getLogger().handlers:
        if not any(isinstance(f, _Scrub) for f in handler.filters):
            handler.addFilter(scrub)
