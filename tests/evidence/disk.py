"""Run in a mount namespace: a journal on a file system that is filled up or made read-only, and then well again."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from evidence import samples
from interlock.evidence import lines
from interlock.evidence.journal import Journal, JournalUnwritable

disk, fault = Path(sys.argv[1]) / "disk", sys.argv[2]
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
journal = Journal(disk / "evidence", retry_seconds=0.02)
acknowledged = []


def attempt() -> bool:
    try:
        acknowledged.append(journal.commit(samples.request(user_agent="x" * 2000)).seq)
    except JournalUnwritable as error:
        print(error)
        return False
    return True


for _ in range(5):
    assert attempt()
if fault == "full":
    with (disk / "filler").open("wb") as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
            filler.flush()
    (disk / "filler").write_bytes(bytes((disk / "filler").stat().st_size - 40_000))
    while attempt():
        pass
else:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
    # A file that is open for writing keeps tmpfs from that; a bind mount of the folder does not.
    if not os.statvfs(disk).f_flag & os.ST_RDONLY:
        subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)
assert not attempt()
assert not journal.writable
time.sleep(0.1)
assert not journal.writable
if fault == "full":
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
else:
    subprocess.run(["umount", str(disk)], check=True)
deadline = time.monotonic() + 10
while not journal.writable and time.monotonic() < deadline:
    time.sleep(0.01)
assert attempt()
journal.close()
events = [
    event
    for file in lines.journal_files(disk / "evidence" / "journal")
    for event in map(lines.parse_leaf, file.path.read_bytes().split(b"\n"))
    if event
]
assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), [
    event["seq"] for event in events
]
assert {event["seq"] for event in events if event["type"] == "request"} == set(acknowledged)
assert sum(event["type"] == "health" for event in events) == 1
print("ok")
