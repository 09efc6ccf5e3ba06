"""The store: journal files into tables, each once, and the file that analysts open.

In: journal files that nobody writes any more. Out: `private/store.duckdb`, which one process opens and closes,
and its copy `evidence.duckdb`, published by an atomic rename. The rules: a journal file and the note that it
is sealed enter in one transaction, so a crash at any point seals it once; the store is closed while it is
copied, and a published file is never opened by the process that published it (closing any descriptor of a file
drops a process's POSIX locks on it).

The copy's `live` schema is `main` and the journal's tail. Which files are the tail is written into the copy as
constants: a reader then opens those files alone, so that deleting a sealed one disturbs nobody, and what is
in `main` is not in the tail, whichever moment the copy is from.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import duckdb

from interlock.evidence import events, lines

PUBLISHED = "evidence.duckdb"
# The oldest DuckDB that analysts may have reads this; 2.0 writes it without upgrading it.
STORAGE_VERSION = "v1.4.0"

SCHEMA = files(__package__).joinpath("schema.sql").read_text("utf-8")
VIEWS = files(__package__).joinpath("views.sql").read_text("utf-8")

# What `schema.sql` derives from the log: the table of each macro over leaves.
PROJECTED = (
    "session_events",
    "requests",
    "decisions",
    "responses",
    "stream_chunks",
    "findings",
    "policies",
    "health_events",
    "approval_events",
    "reviews",
)

# A journal file's name as its log and number (lines.py).
_NUMBERS = r"""regexp_extract({filename}, '([^/]+)-[0-9]+[.]jsonl$', 1) AS gateway_id,
         TRY_CAST(regexp_extract({filename}, '-([0-9]+)[.]jsonl$', 1) AS BIGINT) AS number"""

# A line of a journal as a row for the macros of `schema.sql`; {path} is the text of a glob or a file.
_LINES = """
  SELECT parse_filename(filename) AS file,
         {numbers},
         first_seq, seq, TRY_CAST(ts AS TIMESTAMP) AS ts, type, TRY_CAST(request_id AS UUID) AS request_id,
         CASE WHEN json_valid(leaf) THEN leaf END AS leaf, sha256, text, base64
  FROM read_json({path}, format = 'newline_delimited', ignore_errors = true, filename = true,
                 maximum_object_size = {largest}, columns = {{first_seq: 'BIGINT', seq: 'UBIGINT', ts: 'VARCHAR',
                 type: 'VARCHAR', request_id: 'VARCHAR', leaf: 'VARCHAR', sha256: 'VARCHAR', text: 'VARCHAR',
                 base64: 'VARCHAR'}})
"""
_UNPARSED = "coalesce(leaf, sha256) IS NULL AND first_seq IS NULL"
# What stands beside a leaf in its line must be what the leaf says.
_STRANGE = """
  seq IS DISTINCT FROM TRY_CAST((leaf->>'$.seq') AS UBIGINT)
  OR gateway_id IS DISTINCT FROM (leaf->>'$.gateway')
  OR type IS DISTINCT FROM (leaf->>'$.type')
  OR ts IS DISTINCT FROM TRY_CAST((leaf->>'$.ts') AS TIMESTAMP)
  OR request_id IS DISTINCT FROM TRY_CAST(
       coalesce((leaf->>'$.request_id'), CASE WHEN type = 'request' THEN (leaf->>'$.id') END) AS UUID)
"""


class Store:
    """The private store of one evidence directory. `now` gives microseconds since the epoch, UTC.

    One process at a time: the recorder's lock sees to it. duckdb.Error or OSError if the disk fails; then nothing
    of the file that was being sealed is in the store, and it can be sealed again.
    """

    def __init__(self, directory: Path, now: Callable[[], events.Time]) -> None:
        self.directory = directory.resolve()
        if "?" in str(self.directory):
            raise OSError(
                errno.EINVAL, "DuckDB cannot write a path that holds a question mark", str(self.directory)
            )
        self.journal = self.directory / "journal"
        self.private = self.directory / "private"
        self._now = now
        self.journal.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)

    def prepare(self) -> None:
        """Brings the store to this version's schema; what is derived from the log is derived again if it differs."""
        version = hashlib.sha256(f"{SCHEMA}{VIEWS}{_LINES}".encode()).hexdigest()
        with self._open() as store:
            store.execute("BEGIN")
            store.execute("CREATE TABLE IF NOT EXISTS main.meta (key VARCHAR, value VARCHAR)")
            if _meta(store, "version") != version:
                store.execute(SCHEMA)
                _derive(store)
                _make_views(store, self.journal)
                _set_meta(store, "version", version)
            if _meta(store, "recorder") is None:
                _set_meta(store, "recorder", f"recorder-{secrets.token_hex(4)}")
            store.execute("COMMIT")

    def sealed(self) -> set[tuple[str, int]]:
        """The journal files that are sealed, by log and number."""
        with self._open() as store:
            return {
                (log, int(number))
                for log, number in store.execute(
                    "SELECT gateway_id, number FROM main.journal_files"
                ).fetchall()
            }

    def seal(self, batch: Mapping[lines.JournalFile, bool]) -> Iterator[lines.JournalFile]:
        """Takes in journal files in order, each in a transaction of its own, and yields each when it is in.

        A file's value says whether its log ended with it: its gateway no longer runs.
        """
        with self._open() as store:
            for file, ended in batch.items():
                store.execute("BEGIN")
                sealed = "SELECT count(*) FROM main.journal_files WHERE gateway_id = $1 AND number = $2"
                if not _number(store, sealed, file.gateway_id, file.number):
                    self._seal(store, file, ended)
                store.execute("COMMIT")
                yield file

    def publish(self) -> None:
        """Copies the store to `evidence.duckdb` in one step, with a `live` schema that fits the copy."""
        with self._open() as store:
            sealed = store.execute(
                "SELECT gateway_id, max(number), max(last_seq) FROM main.journal_files GROUP BY gateway_id ORDER BY ALL"
            ).fetchall()
            _make_tail(
                store, self.journal, {log: n for log, n, _ in sealed}, {log: s for log, _, s in sealed}
            )
            store.execute("CHECKPOINT")
        copy = self.private / "published.tmp"
        copy.unlink(missing_ok=True)
        shutil.copyfile(self.private / "store.duckdb", copy)
        with open(copy, "rb") as content:
            os.fsync(content.fileno())
        copy.chmod(0o444)
        os.replace(copy, self.directory / PUBLISHED)
        for directory in (self.private, self.directory):
            lines.sync_directory(directory)

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
        try:
            path = _text(str(self.private / "store.duckdb"))
            connection.execute(f"ATTACH {path} AS store (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE store; PRAGMA force_compression = 'zstd'")
            yield connection
        finally:
            connection.close()

    def _seal(self, store: duckdb.DuckDBPyConnection, file: lines.JournalFile, ended: bool) -> None:
        log = file.gateway_id
        store.execute(f"CREATE OR REPLACE TEMP TABLE lines AS {_lines(_text(_glob(file.path)))}")
        store.execute("CREATE OR REPLACE TEMP TABLE leaves AS FROM main.leaves_in('lines')")
        store.execute("CREATE OR REPLACE TEMP TABLE found AS FROM main.bodies_in('lines')")
        last = _number(store, "SELECT coalesce(max(seq), 0) FROM main.log WHERE gateway_id = $1", log)
        notes = [
            *self._faults(store, log, file),
            *self._repeats(store, log, last),
            *self._holes(store, log, last),
        ]
        _insert(store, "leaves")
        store.execute(
            "INSERT INTO main.bodies BY NAME FROM found WHERE sha256 NOT IN (SELECT sha256 FROM main.bodies)"
        )
        if ended:
            notes += self._death(store, log)
        self._note(store, notes)
        store.execute(
            f"""
            INSERT INTO main.journal_files
            SELECT $1, $2, coalesce(min(seq), $3 + 1), coalesce(max(seq), $3), count(*),
                   (SELECT count(*) FROM found), $4, (SELECT count(*) FROM lines WHERE {_UNPARSED}),
                   make_timestamp($5)
            FROM leaves
            """,
            [log, file.number, last, file.path.stat().st_size, self._now()],
        )

    def _faults(
        self, store: duckdb.DuckDBPyConnection, log: str, file: lines.JournalFile
    ) -> Iterator[events.Health]:
        unparsed = _number(store, f"SELECT count(*) FROM lines WHERE {_UNPARSED}")
        strange = _take_out(store, "leaves", _STRANGE)
        wrong = _take_out(store, "found", "sha256 IS DISTINCT FROM sha256(coalesce(encode(text), data))")
        for kind, count, what in (
            ("journal_unparsed", unparsed, "lines that are cut off or damaged"),
            ("journal_strange", strange, "events that are not what their lines say"),
            ("body_mismatch", wrong, "bodies that do not have the SHA-256 that names them"),
        ):
            if count:
                yield self._health(kind, log, f"{file.path.name} holds {count} {what}", count=count)

    def _repeats(self, store: duckdb.DuckDBPyConnection, log: str, last: int) -> Iterator[events.Health]:
        """Takes events out of `leaves` that the log has already; the first to be sealed stays."""
        sealed = "EXISTS (FROM main.log AS l WHERE l.gateway_id = leaves.gateway_id AND l.seq = leaves.seq AND l.leaf {} leaves.leaf)"
        different = 0
        if _number(store, "SELECT count(*) FROM leaves WHERE seq <= $1", last):
            _take_out(store, "leaves", sealed.format("="))
            different = _take_out(store, "leaves", sealed.format("<>"))
        different += _take_out(store, "leaves", "rowid NOT IN (SELECT min(rowid) FROM leaves GROUP BY seq)")
        if different:
            yield self._health(
                "journal_conflict",
                log,
                f"{different} events differ from the ones sealed before them",
                count=different,
            )

    def _holes(self, store: duckdb.DuckDBPyConnection, log: str, last: int) -> Iterator[events.Health]:
        holes = store.execute(
            """
            SELECT before + 1, seq - 1 FROM (
              SELECT seq::BIGINT AS seq, coalesce(lag(seq::BIGINT) OVER (ORDER BY seq), $1) AS before FROM leaves WHERE seq > $1
            ) WHERE seq > before + 1 ORDER BY seq
            """,
            [last],
        ).fetchall()
        for first, until in holes:
            yield self._health(
                "journal_gap",
                log,
                f"events {first} to {until} are missing from the journal",
                about_seq=first,
                count=until - first + 1,
            )

    def _death(self, store: duckdb.DuckDBPyConnection, log: str) -> Iterator[events.Health]:
        """A note if the log ends with something else than its gateway's stop."""
        last = _number(store, "SELECT coalesce(max(seq), 0) FROM main.log WHERE gateway_id = $1", log)
        ended = _number(
            store,
            """
            SELECT coalesce(max(if(kind = 'gateway_died', about_seq, seq)), 0) FROM main.health_events
            WHERE (gateway_id = $1 AND kind = 'gateway_stopped') OR (about_gateway = $1 AND kind = 'gateway_died')
            """,
            log,
        )
        if last > ended:
            yield self._health(
                "gateway_died", log, "the gateway's process ended without stopping", about_seq=last
            )

    def _health(
        self, kind: str, log: str, detail: str, about_seq: int | None = None, count: int | None = None
    ) -> events.Health:
        return events.Health(
            ts=self._now(),
            kind=kind,
            component="recorder",
            detail=detail,
            about_gateway=log,
            about_seq=about_seq,
            count=count,
        )

    def _note(self, store: duckdb.DuckDBPyConnection, notes: list[events.Health]) -> None:
        """The recorder's own events: a log that has no journal, since the store is where they are made."""
        if not notes:
            return
        recorder = _meta(store, "recorder") or ""
        seq = _number(store, "SELECT coalesce(max(seq), 0) FROM main.log WHERE gateway_id = $1", recorder)
        store.execute(
            "CREATE OR REPLACE TEMP TABLE own_lines"
            " (gateway_id VARCHAR, seq UBIGINT, ts TIMESTAMP, type VARCHAR, request_id UUID, leaf VARCHAR)"
        )
        for number, note in enumerate(notes, seq + 1):
            store.execute(
                "INSERT INTO own_lines VALUES ($1, $2, make_timestamp($3), $4, NULL, $5)",
                [recorder, number, note.ts, note.type, events.leaf(note, recorder, number).decode()],
            )
        store.execute("CREATE OR REPLACE TEMP TABLE own AS FROM main.leaves_in('own_lines')")
        _insert(store, "own")


def _derive(store: duckdb.DuckDBPyConnection) -> None:
    for table in PROJECTED:
        store.execute(f"DROP TABLE IF EXISTS main.{table}")
        store.execute(
            f"CREATE TABLE main.{table} AS FROM main.{table}_in('main.log') ORDER BY gateway_id, seq"
        )


def _make_views(store: duckdb.DuckDBPyConnection, journal: Path) -> None:
    store.execute("CREATE SCHEMA IF NOT EXISTS live")
    _make_tail(store, journal, {}, {})
    for table in ("log", *PROJECTED):
        tail = "live.tail" if table == "log" else f"main.{table}_in('live.tail')"
        store.execute(
            f"CREATE OR REPLACE VIEW live.{table} AS FROM main.{table} UNION ALL BY NAME FROM {tail}"
        )
    store.execute(
        "CREATE OR REPLACE VIEW live.bodies AS FROM main.bodies UNION ALL BY NAME FROM main.bodies_in('live.lines')"
        " WHERE sha256 NOT IN (SELECT sha256 FROM main.bodies)"
    )
    for table in ("checkpoints", "journal_files"):
        store.execute(f"CREATE OR REPLACE VIEW live.{table} AS FROM main.{table}")
    for schema in ("main", "live"):
        store.execute(f"USE store.{schema}")
        store.execute(VIEWS)
    store.execute("USE store.main")


def _insert(store: duckdb.DuckDBPyConnection, leaves: str) -> None:
    store.execute(f"INSERT INTO main.log BY NAME FROM {leaves} ORDER BY seq")
    for table in PROJECTED:
        store.execute(f"INSERT INTO main.{table} BY NAME FROM main.{table}_in('{leaves}')")


def _make_tail(
    store: duckdb.DuckDBPyConnection,
    journal: Path,
    sealed_files: Mapping[str, int],
    sealed_events: Mapping[str, int],
) -> None:
    """The views over the journal files that come after the sealed ones: all lines, and the events among them.

    Files that were sealed and deleted after this copy was made leave a hole in the numbers: then the copy is too old
    to be completed, and says so. The check is a subquery of its own, so that no filter of a query can go before it.
    """
    (journal / "empty.jsonl").touch()  # a glob that finds no file is an error
    pattern = _text(_glob(journal) + "/*.jsonl")
    numbers = _NUMBERS.format(filename="file")
    store.execute(
        f"""
        CREATE OR REPLACE VIEW live.lines AS
        SELECT * FROM ({_lines(pattern)})
        WHERE number > {_lookup(sealed_files)} AND (
          SELECT CASE WHEN count(*) > 0
                 THEN error('stale snapshot: the journal has moved on; open evidence.duckdb again') ELSE true END
          FROM (
            SELECT gateway_id FROM (SELECT {numbers} FROM glob({pattern})) WHERE number > {_lookup(sealed_files)}
            GROUP BY gateway_id HAVING min(number) > {_lookup(sealed_files)} + 1
          )
        )
        """
    )
    store.execute(
        f"CREATE OR REPLACE VIEW live.tail AS FROM main.leaves_in('live.lines') WHERE seq > {_lookup(sealed_events)}"
    )


def _lines(path: str) -> str:
    return _LINES.format(path=path, numbers=_NUMBERS.format(filename="filename"), largest=lines.LARGEST_LINE)


def _lookup(values: Mapping[str, int]) -> str:
    """SQL for the value of `gateway_id`, 0 if it has none."""
    keys = ", ".join(_text(key) for key in values)
    numbers = ", ".join(str(int(value)) for value in values.values())
    return f"coalesce(map([{keys}]::VARCHAR[], [{numbers}]::BIGINT[])[gateway_id], 0)"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _glob(path: Path) -> str:
    """The path as a pattern that matches nothing else."""
    return "".join(f"[{character}]" if character in "[*?" else character for character in str(path))


def _number(store: duckdb.DuckDBPyConnection, sql: str, *parameters: object) -> int:
    row = store.execute(sql, list(parameters)).fetchone()
    return int(row[0]) if row else 0


def _take_out(store: duckdb.DuckDBPyConnection, table: str, condition: str) -> int:
    """Deletes rows; how many."""
    return _number(store, f"DELETE FROM {table} WHERE {condition}")


def _meta(store: duckdb.DuckDBPyConnection, key: str) -> str | None:
    row = store.execute("SELECT value FROM main.meta WHERE key = $1", [key]).fetchone()
    return str(row[0]) if row else None


def _set_meta(store: duckdb.DuckDBPyConnection, key: str, value: str) -> None:
    store.execute("DELETE FROM main.meta WHERE key = $1", [key])
    store.execute("INSERT INTO main.meta VALUES ($1, $2)", [key, value])
