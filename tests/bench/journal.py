"""Events a second, acknowledged with fdatasync, at the journal's own interface; and CPU for each event.

    .venv/bin/python tests/bench/journal.py [--directory D] [--events N]

`callers` tasks each append one event at a time, as many requests do; latency is what one append waits.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from interlock.evidence import events
from interlock.evidence.journal import Journal


def request(body: bytes) -> tuple[events.Request, dict[str, bytes]]:
    digest = hashlib.sha256(body).hexdigest() if body else None
    event = events.Request(
        id=str(uuid.uuid4()), ts=time.time_ns() // 1000, session_id="5d0c9e5e-7f0b-4a53-9d0e-3d8f6b7f1a11", cluster="dev",
        listener="proxy", method="GET", uri="/api/v1/namespaces/shop-a/pods?limit=500", verb="list", is_resource=True,
        api_group="", version="v1", resource="pods", subresource="", namespace="shop-a", name="", classes=frozenset(),
        user_name="dana@example.test", groups=("developers", "team-shop"), agent="codex", owner="dana@example.test",
        issuer="https://idp.example.test/realms/main", client_ip="127.0.0.1", client_port=51234, http_version="HTTP/2.0",
        tls_version="TLSv1.3", tls_cipher="TLS_AES_128_GCM_SHA256", user_agent="kubectl/v1.37.0 (linux/amd64)",
        kubectl_command="kubectl get", kubectl_session=str(uuid.uuid4()), body_sha256=digest, body_bytes=len(body),
        decision=events.Decision(
            effect="allow", stage="authorization", rule="developers-read", policy="shop", policy_digest="9f" * 32,
            reason="allowed by rule developers-read", matched=("developers-read",), latency_us=21,
        ),
    )  # fmt: skip
    return event, {digest: body} if digest else {}


type Prepared = tuple[events.Request, dict[str, bytes]]


async def caller(journal: Journal, prepared: list[Prepared], waits: list[float]) -> None:
    for event, bodies in prepared:
        began = time.perf_counter()
        await journal.append(event, bodies)
        waits.append(time.perf_counter() - began)


@dataclass(frozen=True)
class Written:
    """What `callers` tasks saw: events a second, and for each event seconds of processor time and of waiting."""

    callers: int
    body_bytes: int
    rate: float
    cpu: float
    p50: float
    p99: float


async def measure(directory: Path, callers: int, count: int, body_bytes: int) -> Written:
    journal = Journal(directory, "bench")
    count = max(count, callers)
    prepared = [request((uuid.uuid4().hex * (body_bytes // 32)).encode()) for _ in range(count)]
    waits: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller(journal, prepared[n::callers], waits) for n in range(callers)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    journal.close()
    waits.sort()
    return Written(
        callers=callers,
        body_bytes=body_bytes,
        rate=len(waits) / wall,
        cpu=cpu / len(waits),
        p50=waits[len(waits) // 2],
        p99=waits[len(waits) * 99 // 100],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    event, _ = request(b"")
    began = time.perf_counter()
    for number in range(20_000):
        events.leaf(event, "bench-00000000", number)
    print(
        f"leaf: {(time.perf_counter() - began) / 20_000 * 1e6:.1f} µs, {len(events.leaf(event, 'b', 1))} bytes"
    )
    print("callers  body B   events/s  CPU µs/ev   p50 ms   p99 ms")
    for callers, body_bytes in ((1, 0), (64, 0), (512, 0), (2048, 0), (64, 5120)):
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            count = options.events if callers > 1 else options.events // 10
            written = asyncio.run(measure(Path(directory), callers, count, body_bytes))
        print(
            f"{written.callers:>7} {written.body_bytes:>6} {written.rate:>10,.0f} {written.cpu * 1e6:>9.1f} "
            f"{written.p50 * 1e3:>8.2f} {written.p99 * 1e3:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
