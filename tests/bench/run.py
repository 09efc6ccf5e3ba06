"""The benchmark: what a request costs behind the gateway, against mitmproxy alone, on one upstream in one run.

    scripts/bench [--quick] [--json]

Four contenders answer the same requests: the upstream itself (direct), `mitmdump -q` in reverse mode with
nothing added, `mitmdump -s addons/gateway.py`, and `interlock up`. All run for the whole time and are measured
in turn, round by round, so that a busy machine is busy for each of them; a figure is the median of the rounds.
Cost is processor time, which a busy machine changes little; waits are wall time, and it changes them a lot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rich import box
from rich.console import Console
from rich.table import Table

from bench import journal, load, processes, upstream
from gateways import MODES, Running, Upstream

IN_FLIGHT = 16
WATCHES = 50
HEAD_WITHIN = 10.0  # seconds for a watch's head
MS, MB = 1e3, 1e6


@dataclass(frozen=True)
class Counts:
    """How much is measured. `list_mb` 0: no list."""

    rounds: int = 7
    one_by_one: int = 400
    waves: int = 40
    connections: int = 40
    list_mb: int = 100
    watches: int = WATCHES
    events: int = 20_000


QUICK = Counts(rounds=3, one_by_one=150, waves=15, connections=15, list_mb=100, events=5_000)


@dataclass
class Contender:
    """One way to the upstream. gateway: the process that carries the traffic, None for the upstream itself."""

    name: str
    place: load.Place
    gateway: int | None = None
    beside: list[int] = field(default_factory=list)  # recorder and console


@dataclass
class Figures:
    """One contender's results. Times in seconds, memory in bytes; None where it does not apply."""

    name: str
    cpu_request: float | None = None  # 16 in flight
    cpu_single: float | None = None  # one in flight
    cpu_beside: float | None = None  # recorder and console, for each request of the run
    rate: float = 0.0  # requests a second, 16 in flight
    p50: float = 0.0
    p99: float = 0.0
    cpu_connection: float | None = None  # one request on a connection of its own
    list_growth: int | None = None
    list_seconds: float | None = None
    list_outcome: str = ""
    watch_growth: int | None = None
    watch_outcome: str = ""


# The contenders


@contextmanager
def contenders(directory: Path, list_mb: int) -> Iterator[list[Contender]]:
    with ExitStack() as stack:
        ca, port = stack.enter_context(_upstream(directory, list_mb))
        place = load.Place(port, ca)
        found = [Contender("direct", place), stack.enter_context(_mitmdump(directory, place))]
        for mode in sorted(MODES):
            found.append(stack.enter_context(_interlock(directory / mode, mode, place)))
        yield found


@contextmanager
def _upstream(directory: Path, list_mb: int) -> Iterator[tuple[Path, int]]:
    command = [sys.executable, upstream.__file__, "--directory", str(directory), "--list-mb", str(list_mb)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("scripts/bench: the upstream did not start; the lines above say why")
        yield directory / "ca.pem", int(line)
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def _mitmdump(directory: Path, server: load.Place) -> Iterator[Contender]:
    home = directory / "mitmproxy"
    home.mkdir()
    port = _free_port()
    command = [
        str(Path(sys.prefix) / "bin" / "mitmdump"),
        "-q",
        *("--mode", f"reverse:https://127.0.0.1:{server.port}@127.0.0.1:{port}"),
        *("--set", f"confdir={home}"),
        *("--set", f"ssl_verify_upstream_trusted_ca={server.ca}"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "HOME": str(home)})
    try:
        ca = home / "mitmproxy-ca-cert.pem"
        _wait_for(lambda: ca.exists() and _listens(port), "mitmdump", process)
        yield Contender("mitmdump -q", load.Place(port, ca), process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _interlock(directory: Path, mode: str, server: load.Place) -> Iterator[Contender]:
    directory.mkdir()
    (directory / "token").write_text("upstream-credential")
    cluster = Upstream(
        "bench", f"https://127.0.0.1:{server.port}", server.ca, "{tokenFile: token}", "impersonate"
    )
    with Running(directory, [cluster], mode=mode, environment={processes.MARK: str(directory)}) as running:
        port = urlsplit(running.ready["reverse"]["bench"]).port
        assert port is not None
        pids = processes.marked(str(directory))
        yield Contender(
            "interlock up" if mode == "up" else "mitmdump -s gateway.py",
            load.Place(port, Path(running.ready["ca"]), running.session("bench")),
            running.process.pid,
            [pid for pid in pids if pid != running.process.pid],
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"scripts/bench: {what} did not start; the lines above say why")
        time.sleep(0.05)


# What is measured


@dataclass
class Samples:
    """One contender's rounds."""

    cpu_request: list[float] = field(default_factory=list)
    cpu_single: list[float] = field(default_factory=list)
    cpu_connection: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def measure(found: list[Contender], counts: Counts, say: Callable[[str], None]) -> list[Figures]:
    samples = [Samples() for _ in found]
    for contender in found:  # certificates, code paths and pools are warm before the first round
        load.one_by_one(contender.place, upstream.SMALL, 20)
    beside = [processes.cpu(contender.beside) for contender in found]
    for number in range(counts.rounds):
        say(f"small requests, round {number + 1} of {counts.rounds}")
        for contender, sample in zip(found, samples, strict=True):
            _round(contender, sample, counts)
    requests = counts.rounds * (counts.one_by_one + counts.waves * IN_FLIGHT + counts.connections)
    time.sleep(2)  # for what recorders do after an exchange
    figures = []
    for contender, sample, before in zip(found, samples, beside, strict=True):
        spent = contender.gateway is not None
        figures.append(
            Figures(
                name=contender.name,
                cpu_request=statistics.median(sample.cpu_request) if spent else None,
                cpu_single=statistics.median(sample.cpu_single) if spent else None,
                cpu_connection=statistics.median(sample.cpu_connection) if spent else None,
                cpu_beside=(processes.cpu(contender.beside) - before) / requests
                if contender.beside
                else None,
                rate=statistics.median(sample.rate),
                p50=statistics.median(sample.p50),
                p99=statistics.median(sample.p99),
            )
        )
    for contender, figure in zip(found, figures, strict=True):
        if contender.gateway is not None:
            say(f"memory of {contender.name}")
            _watches(contender, contender.gateway, counts.watches, figure)
            if counts.list_mb:
                _list(contender, contender.gateway, figure)
    return figures


def _round(contender: Contender, sample: Samples, counts: Counts) -> None:
    place, spent = contender.place, [contender.gateway] if contender.gateway is not None else []
    before = processes.cpu(spent)
    times = sorted(load.one_by_one(place, upstream.SMALL, counts.one_by_one))
    sample.cpu_single.append((processes.cpu(spent) - before) / counts.one_by_one)
    sample.p50.append(times[len(times) // 2])
    sample.p99.append(times[len(times) * 99 // 100])

    connections = [load.Connection(place) for _ in range(IN_FLIGHT)]
    request = place.request(upstream.SMALL)
    load.in_waves(connections, request, 1)
    before, began = processes.cpu(spent), time.perf_counter()
    load.in_waves(connections, request, counts.waves)
    count = counts.waves * IN_FLIGHT
    sample.rate.append(count / (time.perf_counter() - began))
    sample.cpu_request.append((processes.cpu(spent) - before) / count)
    for connection in connections:
        connection.close()

    before = processes.cpu(spent)
    load.afresh(place, upstream.SMALL, counts.connections)
    sample.cpu_connection.append((processes.cpu(spent) - before) / counts.connections)


def _watches(contender: Contender, gateway: int, count: int, figure: Figures) -> None:
    before = processes.memory(gateway)
    connections = [load.Connection(contender.place, timeout=HEAD_WITHIN) for _ in range(count)]
    try:
        for connection in connections:
            connection.send(contender.place.request(upstream.WATCH))
        for connection in connections:
            connection.head()
        figure.watch_outcome = "open"
    except TimeoutError:
        figure.watch_outcome = "no answer"  # mitmproxy alone waits for the end of what has none
    figure.watch_growth = processes.memory(gateway) - before
    for connection in connections:
        connection.close()


def _list(contender: Contender, gateway: int, figure: Figures) -> None:
    connection = load.Connection(contender.place)
    processes.forget_peak(gateway)
    before, began = processes.memory(gateway), time.perf_counter()
    try:
        connection.send(contender.place.request(upstream.LIST))
        figure.list_outcome = f"{connection.receive() / MB:.1f} MB"
    except (load.WrongAnswer, OSError) as error:
        figure.list_outcome = f"no answer ({str(error).splitlines()[-1][:60]})"
    figure.list_seconds = time.perf_counter() - began
    figure.list_growth = processes.peak(gateway) - before
    connection.close()


# What is shown


def table(figures: list[Figures]) -> Table:
    direct = figures[0]
    base = next(f for f in figures if f.name == "mitmdump -q")
    shown = Table(box=box.SIMPLE, title="ratios in brackets: to mitmdump -q")
    shown.add_column("")
    for figure in figures:
        shown.add_column(figure.name, justify="right", no_wrap=True)

    def row(name: str, value: Callable[[Figures], float | None], scale: float, *, ratio: bool = True) -> None:
        against = value(base)
        cells = []
        for figure in figures:
            own = value(figure)
            if own is None:
                cells.append("")
            elif ratio and against and figure is not direct:
                cells.append(f"{own * scale:,.2f} ({own / against:.2f})")
            else:
                cells.append(f"{own * scale:,.2f}")
        shown.add_row(name, *cells)

    row(f"CPU ms/request, {IN_FLIGHT} in flight", lambda f: f.cpu_request, MS)
    row("CPU ms/request, one in flight", lambda f: f.cpu_single, MS)
    row("CPU ms/request of recorder and console", lambda f: f.cpu_beside, MS, ratio=False)
    row(f"requests/s, {IN_FLIGHT} in flight", lambda f: f.rate, 1)
    row("p50 ms, one in flight", lambda f: f.p50, MS, ratio=False)
    row("p99 ms, one in flight", lambda f: f.p99, MS, ratio=False)
    row("added p50 ms", lambda f: f.p50 - direct.p50 if f is not direct else None, MS)
    row("added p99 ms", lambda f: f.p99 - direct.p99 if f is not direct else None, MS)
    row("CPU ms/new connection and request", lambda f: f.cpu_connection, MS)
    row("memory growth MB, idle watches", lambda f: f.watch_growth, 1 / MB)
    shown.add_row("idle watches", *(figure.watch_outcome for figure in figures))
    row("memory growth MB, long list", lambda f: f.list_growth, 1 / MB)
    row("long list, s", lambda f: f.list_seconds, 1)
    shown.add_row("long list, received", *(figure.list_outcome for figure in figures))
    return shown


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    load_average = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} × {model}, Linux {platform.release()}, Python {platform.python_version()}; "
        f"load average {load_average:.1f} at the start"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="What a request costs behind the gateway, against mitmproxy alone."
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about a minute, rougher figures")
    parser.add_argument("--json", action="store_true", help="the figures as JSON, in seconds and bytes")
    for name, what in (
        ("rounds", "rounds over all contenders"),
        ("one-by-one", "requests of a round, one in flight"),
        ("waves", f"waves of {IN_FLIGHT} requests of a round"),
        ("connections", "new connections of a round"),
        ("list-mb", "megabytes of the long list; 0: none"),
        ("watches", "idle watches"),
        ("events", "events written to the journal"),
    ):
        parser.add_argument(f"--{name}", type=int, help=what)
    options = parser.parse_args(arguments)
    chosen = asdict(QUICK if options.quick else Counts())
    counts = Counts(
        **{k: v if getattr(options, k) is None else getattr(options, k) for k, v in chosen.items()}
    )
    if sys.platform != "linux":
        raise SystemExit("scripts/bench: reads processor time and memory from /proc, so it needs Linux")

    def say(what: str) -> None:
        print(f"bench: {what}", file=sys.stderr, flush=True)

    on = machine()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as directory:
        say("starting the upstream and the contenders")
        with contenders(Path(directory), counts.list_mb) as found:
            figures = measure(found, counts, say)
        say("the journal")
        written = asyncio.run(journal.measure(Path(directory) / "journal", 512, counts.events, 0))
    if options.json:
        result = {"machine": on, "counts": asdict(counts), "contenders": [asdict(f) for f in figures]}
        print(json.dumps({**result, "journal": asdict(written)}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(on, highlight=False)
    console.print(
        f"medians of {counts.rounds} rounds; small request: one pod, {len(upstream.pod('small'))} bytes; "
        f"{counts.watches} watches; list of {counts.list_mb} MB",
        highlight=False,
    )
    console.print(table(figures))
    console.print(
        f"evidence journal, {written.callers} callers, each event synced: {written.rate:,.0f} events/s, "
        f"{written.cpu * 1e6:.1f} µs CPU each, p50 {written.p50 * MS:.1f} ms, p99 {written.p99 * MS:.1f} ms",
        highlight=False,
    )


if __name__ == "__main__":
    main()
