"""Who is alive, by `flock`: the kernel drops a lock with its holder, however that ends.

A gateway holds its newest journal file exclusively and `gateways.lock` shared; the recorder holds
`recorder.lock` exclusively, and ends when it can have `gateways.lock` exclusively.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

GATEWAYS = "gateways.lock"
RECORDER = "recorder.lock"


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, which is made if it is not there. OSError if it cannot be."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def try_lock(descriptor: int, operation: int, patience: float = 0.0) -> bool:
    """Takes `fcntl.LOCK_SH` or `LOCK_EX` if it is free; False if somebody holds it against us.

    `patience` in seconds outlasts one who only looks (`is_held`), which takes microseconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        else:
            return True


def is_held(path: Path) -> bool:
    """Whether somebody holds `path` exclusively. False if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
