"""What processes cost: processor time and memory, from Linux's /proc.

A contender's processes carry a mark in their environment, so that those which it started are found too, also
when they have sessions of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

MARK = "INTERLOCK_BENCH"
TICK = os.sysconf("SC_CLK_TCK")
KIB = 1024


def marked(value: str) -> list[int]:
    """The processes whose environment has MARK=value."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue  # ended meanwhile, or another user's
            if wanted in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


def cpu(pids: list[int]) -> float:
    """Seconds of processor time so far, user and system, all threads; with children that have ended."""
    total = 0.0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(") ")[2].split()
        total += sum(int(field) for field in fields[11:15]) / TICK
    return total


def memory(pid: int) -> int:
    """Resident bytes now."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """The most resident bytes since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """proc_pid_clear_refs(5): writing 5 resets the peak to what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * KIB
    raise ValueError(f"/proc/{pid}/status has no {key}")
