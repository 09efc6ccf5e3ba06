"""Reading the evidence, also while it is written.

In: an evidence directory, or a copy of an `evidence.duckdb`. Out: a read-only DuckDB connection, rows, or events
as they happen. The rule: reading never waits for a writer, and never makes one wait.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import orjson

from interlock.evidence import events, lines

POLL_SECONDS = 0.1


class EvidenceUnreadable(Exception):
    """There is no evidence to read, or the question is not one that it can answer: one line that says which."""


class Result(NamedTuple):
    """The answer to a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def open_evidence(path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection. In a directory, names are those of schema `live`; in a file (a copy), of `main`.

    Raises EvidenceUnreadable.
    """
    file = path / "evidence.duckdb" if path.is_dir() else path
    if not file.is_file():
        raise EvidenceUnreadable(
            f"{file} is not there: give an evidence directory, or a copy of its evidence.duckdb"
        )
    try:
        connection = duckdb.connect(str(file), read_only=True)
    except duckdb.Error as error:
        raise EvidenceUnreadable(f"{file} cannot be opened: {_first_line(error)}") from None
    try:
        connection.execute(f"SET search_path = '{'live,main' if path.is_dir() else 'main'}'")
        connection.execute("SELECT count(*) FROM main.journal_files")
    except duckdb.Error:
        connection.close()
        raise EvidenceUnreadable(f"{file} is a DuckDB file, but holds no evidence") from None
    return connection


def query(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()) -> Result:
    """Runs one statement. EvidenceUnreadable with DuckDB's own words if it cannot be answered."""
    try:
        connection.execute(sql, list(parameters))
        columns = tuple(column[0] for column in connection.description or ())
        return Result(columns, connection.fetchall() if columns else [])
    except duckdb.Error as error:
        raise EvidenceUnreadable(_first_line(error)) from None


def tail(
    directory: Path, since: events.Time | None = None, *, poll: float = POLL_SECONDS
) -> Iterator[dict[str, Any] | None]:
    """Events as dictionaries (their leaves), by time, for as long as the caller asks; None when there is none now.

    From `since` (microseconds since the epoch) on, or only what comes after the call. After a None it looks again
    in `poll` seconds. Each event comes once. EvidenceUnreadable if the directory holds no evidence.
    """
    journal = directory / "journal"
    with open_evidence(directory) as connection:
        # Looked up before the query: what comes after it is in these files or in later ones.
        newest = {file.gateway_id: file.number for file in _files(journal)}
        logs = query(
            connection,
            "SELECT gateway_id, max(seq), list((ts, seq, leaf)) FILTER (ts >= make_timestamp($1)) FROM log GROUP BY gateway_id",
            [since if since is not None else _NEVER],
        ).rows
    seen = {log: int(seq) for log, seq, _ in logs}
    before = [
        orjson.loads(leaf) for _, _, leaf in sorted(event for _, _, known in logs for event in known or ())
    ]
    return _follow(before, _Follower(journal, newest, seen), poll)


def _follow(found: list[dict[str, Any]], follower: _Follower, poll: float) -> Iterator[dict[str, Any] | None]:
    while True:
        yield from found
        found = follower.read()
        if not found:
            yield None
            time.sleep(poll)


# The last microsecond that DuckDB can tell.
_NEVER = 9223372036854775806


class _Follower:
    """The journal's new lines; `newest` and `seen` are a file number and a seq for each log."""

    def __init__(self, journal: Path, newest: dict[str, int], seen: dict[str, int]) -> None:
        self.journal = journal
        self.newest = newest
        self.seen = seen
        self.offsets: dict[Path, int] = {}

    def read(self) -> list[dict[str, Any]]:
        """What was added since the last call, by time."""
        added: list[dict[str, Any]] = []
        for file in _files(self.journal):
            if file.number >= self.newest.get(file.gateway_id, 0):
                with contextlib.suppress(FileNotFoundError):
                    added += self._read_file(file)
        return sorted(added, key=lambda event: str(event.get("ts")))

    def _read_file(self, file: lines.JournalFile) -> Iterator[dict[str, Any]]:
        offset = self.offsets.get(file.path, 0)
        size = file.path.stat().st_size
        if size == offset:
            return
        content = file.path.read_bytes()
        if size < offset:  # the journal took back what it could not make durable
            offset = 0
            self.seen[file.gateway_id] = lines.last_seq(content) or 0
        whole = content.rfind(b"\n") + 1
        for line in content[offset:whole].split(b"\n"):
            event = lines.parse_leaf(line)
            if event is not None and event["seq"] > self.seen.get(file.gateway_id, 0):
                self.seen[file.gateway_id] = event["seq"]
                yield event
        self.offsets[file.path] = whole


def _files(journal: Path) -> list[lines.JournalFile]:
    try:
        return lines.journal_files(journal)
    except FileNotFoundError:
        raise EvidenceUnreadable(
            f"{journal} is not there: events can be followed only where they are written"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
