"""A gateway to be killed: writes exchanges as fast as it can and says on stdout what was acknowledged, after it was.

    python crash.py DIRECTORY NAME [RATE]

Each line is `gateway_id seq id`. With a rate (events a second) it keeps to it.
"""

import asyncio
import sys
import time
from pathlib import Path

from evidence import samples
from interlock.evidence.journal import Journal


async def write(journal: Journal, rate: float, began: float, count: list[int]) -> None:
    while True:
        sent = samples.request()
        digest, bodies = samples.body(sent.id.encode())
        for event, with_bodies in ((sent, {}), (samples.response(sent, body_sha256=digest), bodies)):
            receipt = await journal.append(event, with_bodies)
            sys.stdout.write(f"{receipt.gateway_id} {receipt.seq} {sent.id}\n")
            count[0] += 1
        sys.stdout.flush()
        if rate:
            await asyncio.sleep(max(0.0, began + count[0] / rate - time.monotonic()))


async def main() -> None:
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    journal = Journal(Path(sys.argv[1]), sys.argv[2], rotate_bytes=60_000, rotate_seconds=1.0)
    count = [0]
    await asyncio.gather(*(write(journal, rate, time.monotonic(), count) for _ in range(8)))


asyncio.run(main())
