"""The journal: makes events durable inside the gateway, many callers with one sync.

In: events and masked bodies, from any thread. Out: a receipt once they are on disk (`write` and `fdatasync`
returned, and the file's path still leads to the file), or `JournalUnwritable`. The rule: no receipt for what
could be lost, and nothing on disk stays acknowledged that its caller was told had failed.

One writer thread takes what has gathered, writes it with one `write()` and syncs it with one `fdatasync()`;
while it syncs, the next group gathers. A file is followed by the next after 4 MB or 60 s, for the recorder
to seal. On any fault (disk full, read-only, an I/O error, a file or folder that was deleted or replaced) the
group's callers get the error, the file is cut back to its last acknowledged byte, and every caller is refused
until the journal has been written again, beginning with a record of what happened.

A log (`gateway_id`) is a sequence of files with one continuous `seq`. Its newest file is locked by the
process that writes it; a gateway that starts continues a log of its name that nobody holds, or begins one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from interlock.evidence import events, lines, locks

ROTATE_BYTES = 4_000_000
ROTATE_SECONDS = 60.0
RETRY_SECONDS = 0.25
STALL_SECONDS = 5.0
GROUP_EVENTS = 2_000
GROUP_BYTES = 4_000_000
# A disk that was full must have room for more than the next record before it counts as well again.
ROOM_BYTES = 1_000_000
# What may wait for the disk before callers are refused: events count as 2 KB beside their bodies.
PENDING_BYTES = 64_000_000
EVENT_BYTES = 2_000

NO_BODIES: Mapping[str, bytes] = {}


class JournalUnwritable(OSError):
    """Evidence cannot be made durable, so nothing may be done that it would have to show."""

    def __init__(self, directory: Path, cause: str) -> None:
        super().__init__(
            f"the evidence journal in {directory} cannot be written: {cause}; requests are refused until it can be"
        )
        self.cause = cause


class Receipt(NamedTuple):
    """Where a durable event is: number `seq` of the log `gateway_id`."""

    gateway_id: str
    seq: int


@dataclass(slots=True)
class _Item:
    event: events.Event
    bodies: Mapping[str, bytes]
    size: int
    waiter: asyncio.Future[Receipt] | Future[Receipt]


@dataclass(slots=True)
class _Fault:
    cause: str
    since: int  # µs since the epoch
    refused: int = 0


class _File:
    """One journal file under our lock. `length` is what is acknowledged; beyond it lies nothing that counts."""

    def __init__(self, path: Path, first_seq: int, content: bytes = b"") -> None:
        self.path = path
        self.first_seq = first_seq
        self.opened = time.monotonic()
        self.bodies: set[str] = set()
        header = lines.header_line(first_seq)
        self.header = len(header)
        # Under a name that no reader looks at until it is locked and holds its header.
        hidden = path.with_suffix(f".{secrets.token_hex(4)}.new")
        self.descriptor = os.open(
            hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640
        )
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(self.descriptor, header + content)
            os.fsync(self.descriptor)
            os.link(hidden, path)
            try:
                lines.sync_directory(path.parent)
            except OSError:
                os.unlink(path)
                raise
        except OSError:
            os.close(self.descriptor)
            raise
        finally:
            os.unlink(hidden)
        self.length = self.header + len(content)
        status = os.fstat(self.descriptor)
        self.identity = (status.st_dev, status.st_ino)

    def commit(self, data: bytes) -> None:
        """Durable when it returns. OSError: none of `data` counts, `rewind` must succeed before the next."""
        self.check(self.length)
        _write(self.descriptor, data)
        os.fdatasync(self.descriptor)
        self.check(self.length + len(data))
        self.length += len(data)

    def check(self, length: int) -> None:
        """OSError if the path does not lead to this file at this length, or its folder takes no further files."""
        status = os.stat(self.path, follow_symlinks=False)
        if (status.st_dev, status.st_ino) != self.identity:
            raise OSError(errno.ESTALE, "the journal file was replaced")
        if status.st_size != length:
            raise OSError(errno.EIO, "the journal file was changed by others")
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EROFS, "the journal's folder is read-only")

    def rewind(self) -> None:
        os.ftruncate(self.descriptor, self.length)
        os.fdatasync(self.descriptor)

    def is_cut(self) -> bool:
        """Whether others have taken acknowledged bytes away."""
        return os.fstat(self.descriptor).st_size < self.length

    def content(self) -> bytes:
        """The acknowledged lines, read through the descriptor: they are there even if the path is not."""
        parts = []
        position = self.header
        while position < self.length:
            part = os.pread(self.descriptor, self.length - position, position)
            if not part:
                raise OSError(errno.EIO, "the journal file was cut")
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def close(self) -> None:
        os.close(self.descriptor)


class Journal:
    """The gateway's evidence, made durable. `gateway_id` and `writable` are for reading.

    `directory` is the evidence directory (its `journal/` is made if needed), `name` the gateway's: lower case
    letters, digits, dots and hyphens. Raises `JournalUnwritable` if it cannot be written now, ValueError for a
    bad name. Make it in the process that uses it (a lock does not survive `fork` as one's own).
    """

    def __init__(
        self,
        directory: Path,
        name: str = "gateway",
        *,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_seconds: float = ROTATE_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        pending_bytes: int = PENDING_BYTES,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if not lines.is_log_name(name):
            raise ValueError(
                f"{name!r} cannot name a journal: lower case letters, digits, '.' and '-' between them"
            )
        self.directory = directory.absolute()
        self._journal = self.directory / "journal"
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._retry_seconds = retry_seconds
        self._pending_limit = pending_bytes
        self._now = now
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._fault: _Fault | None = None
        self._committing: float | None = None
        self._closed = False
        try:
            self._journal.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._device = os.stat(self._journal).st_dev
            self._presence = locks.open_lock(self.directory / locks.GATEWAYS)
            try:
                fcntl.flock(self._presence, fcntl.LOCK_SH)
                self.gateway_id, self._number, self._seq, self._file = _open_log(self._journal, name)
            except OSError:
                os.close(self._presence)
                raise
        except OSError as error:
            raise JournalUnwritable(self.directory, _cause(error)) from error
        self._thread = threading.Thread(target=self._run, name="interlock-journal", daemon=True)
        self._thread.start()

    @property
    def writable(self) -> bool:
        """Whether an append can succeed now: no fault is known, and the disk has answered in the last 5 s."""
        began = self._committing
        return (
            not self._closed
            and self._fault is None
            and (began is None or time.monotonic() - began < STALL_SECONDS)
        )

    async def append(self, event: events.Event, bodies: Mapping[str, bytes] = NO_BODIES) -> Receipt:
        """Returns when `event` and `bodies` (by their SHA-256, hexadecimal; masked) are on disk.

        JournalUnwritable if they are not; TypeError or ValueError if the event has no canonical form or a body
        is above 8 MiB. A caller that is cancelled while waiting cannot know which it was.
        """
        return await self.put(event, bodies)

    def put(self, event: events.Event, bodies: Mapping[str, bytes] = NO_BODIES) -> asyncio.Future[Receipt]:
        """Like `append` without waiting: for streams, whose chunks are put in order and awaited together.

        Needs a running loop. Events put by one caller have rising `seq` in the order of the calls, and when one
        cannot be written, those put after it and before that was known fail with it: the last one tells for all.
        """
        waiter: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._enqueue(event, bodies, waiter)
        return waiter

    def commit(self, event: events.Event, bodies: Mapping[str, bytes] = NO_BODIES) -> Receipt:
        """Like `append`, blocking: for start, stop and threads, never on an event loop."""
        waiter: Future[Receipt] = Future()
        self._enqueue(event, bodies, waiter)
        return waiter.result()

    def close(self) -> None:
        """Writes what was put, closes the file (so that it can be sealed) and lets go of the log. May be repeated.

        Returns after 5 s at the latest: a disk that does not answer must not keep a process from ending.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join(STALL_SECONDS)

    def _enqueue(
        self,
        event: events.Event,
        bodies: Mapping[str, bytes],
        waiter: asyncio.Future[Receipt] | Future[Receipt],
    ) -> None:
        size = EVENT_BYTES + sum(map(len, bodies.values()))
        with self._lock:
            if self._closed:
                raise JournalUnwritable(self.directory, "it is closed")
            if self._fault is not None:
                self._fault.refused += 1
                raise JournalUnwritable(self.directory, self._fault.cause)
            if self._pending + size > self._pending_limit and self._pending:
                raise JournalUnwritable(self.directory, "the disk does not keep up")
            self._pending += size
            self._queue.put(_Item(event, bodies, size, waiter))

    # What follows runs in the writer thread, which alone touches `_file`, `_number` and `_seq`.

    def _run(self) -> None:
        group: list[_Item] = []
        try:
            closing = False
            while not closing:
                group, closing = self._gather()
                self._committing = time.monotonic()
                self._settle(self._outcomes(group))
                self._committing = None
                group = []
            self._finish()
        finally:
            # Reached with something in hand only by a fault of our own; no caller may wait for ever.
            with self._lock:
                self._closed = True
            group += self._rest()
            self._settle(
                [(item, JournalUnwritable(self.directory, "its writer has ended")) for item in group]
            )
            self._file.close()
            os.close(self._presence)

    def _gather(self) -> tuple[list[_Item], bool]:
        """What waits, at once if anything does; nothing when the file is to be looked after. True: the last."""
        group: list[_Item] = []
        size = 0
        try:
            item = self._queue.get(timeout=self._patience())
            while item is not None:
                group.append(item)
                size += item.size
                if len(group) >= GROUP_EVENTS or size >= GROUP_BYTES:
                    return group, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _patience(self) -> float | None:
        """Seconds until the file wants looking after without any event; None: never."""
        if self._fault is not None:
            return self._retry_seconds
        if self._file.length == self._file.header:
            return None
        return max(0.0, self._file.opened + self._rotate_seconds - time.monotonic())

    def _outcomes(self, group: list[_Item]) -> list[tuple[_Item, Receipt | Exception]]:
        try:
            if self._fault is not None:
                self._mend(self._fault)
            self._turn_page()
            return self._write_group(group)
        except OSError as error:
            cause = self._break(error)
            # What was put behind it must not outlive it: a stream would have a hole and go on.
            return [(item, JournalUnwritable(self.directory, cause)) for item in (*group, *self._rest())]

    def _rest(self) -> list[_Item]:
        """Empties the queue, into which nothing comes any more: there is a fault, or it is closed."""
        waiting: list[_Item] = []
        closing = False
        while not self._queue.empty():
            item = self._queue.get()
            if item is None:
                closing = True
            else:
                waiting.append(item)
        if closing:
            self._queue.put(None)
        return waiting

    def _write_group(self, group: list[_Item]) -> list[tuple[_Item, Receipt | Exception]]:
        """OSError: nothing of the group counts. An event without a canonical form fails alone."""
        outcomes: list[tuple[_Item, Receipt | Exception]] = []
        parts: list[bytes] = []
        bodies: set[str] = set()
        seq = self._seq
        for item in group:
            try:
                lines_of_item = self._encode(item, seq + 1, bodies)
            except Exception as error:  # noqa: BLE001 - a caller's bad value is its own error, never the writer's
                outcomes.append((item, error))
                continue
            seq += 1
            parts += lines_of_item
            bodies.update(item.bodies)
            outcomes.append((item, Receipt(self.gateway_id, seq)))
        if parts:
            self._file.commit(b"".join(parts))
            self._file.bodies |= bodies
            self._seq = seq
        return outcomes

    def _encode(self, item: _Item, seq: int, written: set[str]) -> list[bytes]:
        parts = [
            lines.body_line(sha256, body)
            for sha256, body in item.bodies.items()
            if sha256 not in written and sha256 not in self._file.bodies
        ]
        parts.append(lines.leaf_line(item.event, self.gateway_id, seq))
        return parts

    def _turn_page(self) -> None:
        """Begins the next file when this one is full or old; it is checked first, or its events could be lost."""
        file = self._file
        if file.length == file.header:
            return
        if file.length < self._rotate_bytes and time.monotonic() < file.opened + self._rotate_seconds:
            return
        file.check(file.length)
        self._begin(self._seq + 1)

    def _begin(self, first_seq: int) -> None:
        """The next file of the log. A file of others that has its name already is passed over."""
        taken = (f.number for f in lines.journal_files(self._journal) if f.gateway_id == self.gateway_id)
        self._go_on_in(1 + max(self._number, *taken, 0), first_seq, b"")

    def _go_on_in(self, number: int, first_seq: int, content: bytes) -> None:
        successor = _File(self._journal / lines.journal_name(self.gateway_id, number), first_seq, content)
        self._file.close()
        self._file, self._number = successor, number

    def _break(self, error: OSError) -> str:
        cause = _cause(error)
        with self._lock:
            if self._fault is None:
                self._fault = _Fault(cause, self._now())
            self._fault.cause = cause
        # Cut back at once if that can be done, so that no reader sees what failed; `_mend` insists on it.
        with contextlib.suppress(OSError):
            if not self._file.is_cut():
                self._file.rewind()
        return cause

    def _mend(self, fault: _Fault) -> None:
        """The journal can be written again, and says what happened, or OSError."""
        if self._file.is_cut():
            # What was in it is lost, and the next file's first seq shows it.
            self._begin(self._seq + 1)
        self._file.rewind()
        try:
            self._file.check(self._file.length)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            self._salvage()
        room = os.fstatvfs(self._file.descriptor)
        if room.f_bavail * room.f_frsize < ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        record = events.Health(
            ts=self._now(),
            kind="journal_unwritable",
            component="journal",
            detail=fault.cause,
            since=fault.since,
            count=fault.refused,
        )
        self._file.commit(lines.leaf_line(record, self.gateway_id, self._seq + 1))
        self._seq += 1
        with self._lock:
            self._fault = None

    def _salvage(self) -> None:
        """The path is lost but the file is still open: its acknowledged lines get a file of that name again."""
        if os.stat(self._journal).st_dev != self._device:
            raise OSError(errno.EXDEV, "the journal's folder is on another device than at the start")
        content = self._file.content()
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._file.path, self._file.path.with_suffix(f".{secrets.token_hex(4)}.foreign"))
        self._go_on_in(self._number, self._file.first_seq, content)

    def _finish(self) -> None:
        try:
            self._file.check(self._file.length)
        except OSError as error:
            self._break(error)
            self._outcomes([])

    def _settle(self, outcomes: list[tuple[_Item, Receipt | Exception]]) -> None:
        with self._lock:
            self._pending -= sum(item.size for item, _ in outcomes)
        loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Receipt], Receipt | Exception]]] = {}
        for item, outcome in outcomes:
            waiter = item.waiter
            if isinstance(waiter, asyncio.Future):
                loops.setdefault(waiter.get_loop(), []).append((waiter, outcome))
            elif isinstance(outcome, Exception):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)
        for loop, waiters in loops.items():
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, waiters)


def _wake(waiters: list[tuple[asyncio.Future[Receipt], Receipt | Exception]]) -> None:
    for waiter, outcome in waiters:
        if waiter.done():
            continue
        if isinstance(outcome, Exception):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)


def _open_log(journal: Path, name: str) -> tuple[str, int, int, _File]:
    """A log of `name` that nobody writes, continued in a new file, or a new log: (id, number, last seq, file)."""
    newest = {file.gateway_id: file for file in lines.journal_files(journal)}
    for file in newest.values():
        if re.fullmatch(re.escape(name) + "-[0-9a-f]{8}", file.gateway_id) is None:
            continue
        with open(file.path, "rb") as held:
            if not locks.try_lock(held.fileno(), fcntl.LOCK_EX, patience=0.05):
                continue
            # Its owner may have gone on to the next file between our look and our lock.
            if any(
                f.gateway_id == file.gateway_id and f.number > file.number
                for f in lines.journal_files(journal)
            ):
                continue
            seq = lines.last_seq(held.read())
            if seq is None:
                continue
            number = file.number + 1
            return (
                file.gateway_id,
                number,
                seq,
                _File(journal / lines.journal_name(file.gateway_id, number), seq + 1),
            )
    gateway_id = f"{name}-{secrets.token_hex(4)}"
    return gateway_id, 1, 0, _File(journal / lines.journal_name(gateway_id, 1), 1)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cause(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).rstrip(".").lower()
