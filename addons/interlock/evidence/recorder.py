"""The recorder: the process that turns journals into `evidence.duckdb`, one for each evidence directory.

    python -m interlock.evidence.recorder --directory D

In: journal files that no gateway writes any more (turned over, or left by a gateway that ended). Out: the store
and its published copy. The rules: it holds `recorder.lock` for as long as it runs, so a second one ends at once;
it may be killed at any moment and started again; what it cannot do now (a full disk) it tries again, while the
gateways' journals keep everything. It ends by itself after the last gateway, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from interlock.evidence import lines, locks
from interlock.evidence.store import PUBLISHED, Store

POLL_SECONDS = 0.25
# How long a recorder waits for its first gateway.
GRACE_SECONDS = 15.0
# A publication costs a copy of the store: at most this share of the time goes into it, but it is not put off for
# longer than this. Readers miss nothing meanwhile: what is sealed and not published is still in the journal.
PUBLISH_SHARE = 0.2
PUBLISH_SECONDS = 30.0
# Sealed journal files stay for readers of older copies, and as a second truth, but not without bound.
RETAIN_SECONDS = 24 * 3600.0
RETAIN_BYTES = 1 << 30
READY = b"ready\n"


@dataclass(slots=True)
class Recorder:
    """One round after another over one directory; holds no lock and starts nothing."""

    directory: Path
    now: Callable[[], int] = lambda: time.time_ns() // 1000
    retain_seconds: float = RETAIN_SECONDS
    retain_bytes: int = RETAIN_BYTES
    store: Store = field(init=False)
    sealed: set[tuple[str, int]] = field(init=False, default_factory=set)
    unpublished: bool = field(init=False, default=False)
    served: bool = field(init=False, default=False)
    """Whether it has seen a gateway's journal in use."""

    def __post_init__(self) -> None:
        self.store = Store(self.directory, self.now)

    def start(self) -> None:
        """Everything that is there already is sealed, and `evidence.duckdb` exists and is of this version."""
        self.store.prepare()
        self.sealed = self.store.sealed()
        self.seal()
        self.publish()

    def seal(self) -> int:
        """Seals what can be; how many files that was. duckdb.Error or OSError: some are left for the next round."""
        batch = self.sealable()
        if batch:
            self.unpublished = True
            for file in self.store.seal(batch):
                self.sealed.add((file.gateway_id, file.number))
        return len(batch)

    def sealable(self) -> dict[lines.JournalFile, bool]:
        """Files whose writer has let go of them, in order; True for the last file of a log that nobody writes."""
        waiting = [
            f for f in lines.journal_files(self.store.journal) if (f.gateway_id, f.number) not in self.sealed
        ]
        batch: dict[lines.JournalFile, bool] = {}
        held: set[str] = set()
        for file in waiting:
            if file.gateway_id not in held and locks.is_held(file.path):
                held.add(file.gateway_id)
            if file.gateway_id not in held:
                batch[file] = False
        self.served = self.served or bool(held)
        last = {file.gateway_id: file for file in batch}
        batch.update((file, True) for log, file in last.items() if log not in held)
        return batch

    def is_done(self) -> bool:
        """Whether all that can be sealed is in the published copy."""
        return not self.unpublished and not self.sealable()

    def publish(self) -> None:
        self.store.publish()
        self.unpublished = False
        self.expire()

    def expire(self) -> None:
        """Deletes sealed files that are old or too many; never the newest of a log, which says where it stands.

        And what a gateway that was killed while it made its next file has left of that.
        """
        files = lines.journal_files(self.store.journal)
        newest = {file.gateway_id: file for file in files}
        left = self.retain_bytes
        for file in sorted(files, key=lambda f: f.path.stat().st_mtime, reverse=True):
            if file == newest[file.gateway_id] or (file.gateway_id, file.number) not in self.sealed:
                continue
            status = file.path.stat()
            left -= status.st_size
            if left < 0 or self.now() / 1e6 - status.st_mtime > self.retain_seconds:
                file.path.unlink()
        for unborn in self.store.journal.glob("*.new"):
            with contextlib.suppress(FileNotFoundError):
                if self.now() / 1e6 - unborn.stat().st_mtime > self.retain_seconds:
                    unborn.unlink()


def run(directory: Path, stop: threading.Event, *, grace: float = GRACE_SECONDS) -> bool:
    """Records until `stop` is set or the last gateway has ended. False at once if another recorder does already.

    duckdb.Error or OSError if it cannot start; later ones are printed once and tried again.
    """
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = locks.open_lock(directory / locks.RECORDER)
    gateways = locks.open_lock(directory / locks.GATEWAYS)
    try:
        if not locks.try_lock(lock, fcntl.LOCK_EX, patience=0.05):
            return False
        os.ftruncate(lock, 0)
        recorder = Recorder(directory)
        recorder.start()
        os.pwrite(lock, READY, 0)
        _record(recorder, lock, gateways, stop, time.monotonic() + grace)
    finally:
        # In this order: a gateway that waits for `gateways.lock` must find `recorder.lock` free.
        os.close(lock)
        os.close(gateways)
    return True


def _record(recorder: Recorder, lock: int, gateways: int, stop: threading.Event, grace_ends: float) -> None:
    failure = ""
    may_publish = 0.0
    while True:
        stopping = stop.wait(POLL_SECONDS)
        alone = (recorder.served or time.monotonic() > grace_ends) and locks.try_lock(gateways, fcntl.LOCK_EX)
        if not _is_ours(lock, recorder.directory / locks.RECORDER):
            return  # the directory was taken away; another recorder may serve what is there now
        try:
            if alone and (failure or recorder.is_done()):
                return
            fcntl.flock(gateways, fcntl.LOCK_UN)  # a gateway that starts now need not wait for the last round
            recorder.seal()
            missing = not (recorder.directory / PUBLISHED).exists()
            if missing or (recorder.unpublished and (alone or stopping or time.monotonic() > may_publish)):
                began = time.monotonic()
                recorder.publish()
                may_publish = time.monotonic() + min(
                    (time.monotonic() - began) / PUBLISH_SHARE, PUBLISH_SECONDS
                )
            failure = ""
        except (duckdb.Error, OSError) as error:
            message = f"evidence cannot be sealed and stays in the journal: {_first_line(error)}"
            if message != failure:
                print(message, file=sys.stderr, flush=True)
            failure = message
        if stopping:
            return


def _is_ours(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def main(arguments: list[str] | None = None) -> int:
    """The process: 0 when it ended in order or another one records, 1 with one line if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m interlock.evidence.recorder", description="seals evidence"
    )
    parser.add_argument("--directory", type=Path, required=True, help="the evidence directory")
    parser.add_argument(
        "--grace", type=float, default=GRACE_SECONDS, help="seconds to wait for a first gateway"
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    directory = options.directory.absolute()
    try:
        run(directory, stop, grace=options.grace)
    except (duckdb.Error, OSError) as error:
        print(f"the recorder of {directory} cannot start: {_first_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main())
