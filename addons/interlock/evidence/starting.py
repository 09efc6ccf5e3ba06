"""Sees to it that a directory has its recorder: called by a gateway at its start, and every few seconds after.

In: the evidence directory. Out: a running recorder and an `evidence.duckdb`, or `RecorderUnavailable`. The
recorder is a process of its own session: it outlives the gateway's end by its last seal, and a gateway's crash.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

import interlock
from interlock.evidence import locks

WAIT_SECONDS = 20.0


class RecorderUnavailable(OSError):
    """The recorder did not start. The journal still keeps everything that gateways record."""


def ensure_recorder(directory: Path, *, timeout: float = WAIT_SECONDS) -> int | None:
    """Starts the recorder if none runs, and returns when `evidence.duckdb` is published: its process id, or None.

    Blocking: some milliseconds if one runs, about a second if not. Reaps recorders that it started before.
    """
    directory = directory.absolute()
    (directory / "private").mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    started: int | None = None
    gateways = locks.open_lock(directory / locks.GATEWAYS)
    try:
        while time.monotonic() < deadline:
            # A recorder that is about to end holds this until it has let go of its own lock.
            if locks.try_lock(gateways, fcntl.LOCK_SH):
                if locks.is_held(directory / locks.RECORDER):
                    if _is_ready(directory):
                        return started
                elif started is None or _ended(started, directory):
                    started = _start(directory)
            time.sleep(0.02)
    finally:
        os.close(gateways)
    raise RecorderUnavailable(
        f"the recorder of {directory} was not ready after {timeout:g} s; see {_log(directory)}"
    )


_children: set[int] = set()


def _start(directory: Path) -> int:
    _reap()
    package = str(Path(interlock.__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    log = str(_log(directory))
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "interlock.evidence.recorder", "--directory", str(directory)],
        {**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640),
        ],
        setsid=True,
    )
    _children.add(child)
    return child


def _ended(child: int, directory: Path) -> bool:
    """Whether it ended in order (another recorder was faster); RecorderUnavailable if it failed."""
    done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        return False
    _children.discard(child)
    if status:
        said = _log(directory).read_text("utf-8", "replace").strip().splitlines()
        raise RecorderUnavailable(
            said[-1] if said else f"the recorder of {directory} ended with status {status}"
        )
    return True


def _reap() -> None:
    for child in tuple(_children):
        if os.waitpid(child, os.WNOHANG)[0]:
            _children.discard(child)


def _is_ready(directory: Path) -> bool:
    return (directory / locks.RECORDER).stat().st_size > 0 and (directory / "evidence.duckdb").exists()


def _log(directory: Path) -> Path:
    return directory / "private" / "recorder.log"
