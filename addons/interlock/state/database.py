"""The state database: every read and write of it, for any number of processes and threads at once.

In: a URL (`sqlite:////path/state.db` or `postgresql+psycopg://…`) and values of the identity room. Out: such
values, or `StateAway`. Every call blocks (a read: a fraction of a millisecond; a write: one fsync), so an
event loop calls from a thread.

The rules: what cannot be read is `StateAway`, never "no such session" and never a session. A change of a
session's state is one statement that names the states it may come from, taken from the one table of
transitions, so that no race between processes leads out of a final state. What was answered is on disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    bindparam,
    case,
    create_engine,
    delete,
    event,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from interlock.identity.principal import BadPrincipal, Principal
from interlock.identity.sessions import (
    END_REASONS,
    Held,
    Session,
    SessionEvent,
    SessionState,
    StateAway,
    after,
    sources,
)
from interlock.state.schema import VERSION, metadata, schema_version, sessions, tokens

READ_SECONDS: Final = 0.9
"""How long a read may wait for another process's lock: unreadable for 1 s is away."""
WRITE_SECONDS: Final = 5.0
READERS: Final = 8
PRAGMAS: Final = (
    "journal_mode=WAL",  # readers never wait for a writer
    "synchronous=FULL",  # what was answered is on disk
    "foreign_keys=ON",
    "secure_delete=ON",  # an erased mask key is overwritten
    "trusted_schema=OFF",
)
_KEEP_EXPIRED_TOKENS: Final = 24 * 3600.0  # so that a late caller hears "expired" and not "unknown"


def _may(event: SessionEvent) -> ColumnElement[bool]:
    """That a session is in a state in which `event` is possible."""
    return or_(*(sessions.c.state == state.value for state in sources(event)))


# Statements are built once: SQLAlchemy then finds them compiled.
_BY_HASH = (
    select(sessions, tokens.c.expires_at.label("token_expires_at"))
    .join_from(tokens, sessions)
    .where(tokens.c.hash == bindparam("hash"))
)
_BY_ID = select(sessions).where(sessions.c.id == bindparam("id"))
_VERSION = select(schema_version.c.version)
_TIMED_OUT = or_(
    sessions.c.ends_at <= bindparam("now"),
    sessions.c.last_used_at + sessions.c.idle_seconds <= bindparam("now"),
)
_TOUCH = (
    update(sessions)
    .where(
        sessions.c.id == bindparam("used_id"),
        _may(SessionEvent.USE),
        sessions.c.last_used_at < bindparam("used_at"),
        sessions.c.last_used_at + sessions.c.idle_seconds > bindparam("used_at"),
    )
    .values(last_used_at=bindparam("used_at"))
)


class State:
    """The state database behind `url`; tables are made in an empty one.

    Raises ValueError for a URL that cannot be a state database, `StateAway` if it cannot be opened or is of
    another version. SQLite's file is made 0600 and is not made again while this object lives: a file that
    was deleted or replaced under it is `StateAway`, since others may by then read another one.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ValueError("state: not a database URL; expected such as sqlite:///state.db") from None
        self._file: Path | None = None
        if parsed.drivername == "sqlite":
            self._file = _sqlite_path(parsed)
            self._inode = _private_file(self._file)
            self._reader = _sqlite(self._file, READ_SECONDS, write=False)
            self._writer = _sqlite(self._file, WRITE_SECONDS, write=True)
        elif parsed.drivername == "postgresql+psycopg":
            self._reader = _postgres(parsed, READ_SECONDS, isolation_level="AUTOCOMMIT")
            self._writer = _postgres(parsed, WRITE_SECONDS)
        else:
            raise ValueError(f"state: {parsed.drivername} is not supported; use sqlite or postgresql+psycopg")
        try:
            self._create()
        except StateAway:
            self.close()
            raise

    def close(self) -> None:
        """Give the connections back; the object is of no use after it."""
        self._reader.dispose()
        self._writer.dispose()

    # ------------------------------------------------------------------------------------ sessions

    def open_session(
        self, session: Session, hash: bytes, expires_at: float, *, replaces: str | None = None
    ) -> bool:
        """Store a new session with the hash of its first token (32 bytes, valid until `expires_at`).

        replaces: the id of an expired session that this hash stood for (an identity token that is a bearer
        itself). False, and nothing is stored, if the hash is taken by another session.
        """
        row = _row(session)
        with self._writing() as connection:
            try:
                connection.execute(insert(sessions), row)
                if replaces is None:
                    token = {
                        "hash": hash,
                        "session_id": session.id,
                        "issued_at": session.opened_at,
                        "expires_at": expires_at,
                    }
                    connection.execute(insert(tokens), token)
                    return True
                expired = select(sessions.c.id).where(
                    sessions.c.id == replaces, sessions.c.state == SessionState.EXPIRED.value
                )
                moved = connection.execute(
                    update(tokens)
                    .where(tokens.c.hash == hash, tokens.c.session_id.in_(expired))
                    .values(session_id=session.id, issued_at=session.opened_at, expires_at=expires_at)
                )
            except IntegrityError:
                connection.rollback()
                return False
            if moved.rowcount == 1:
                return True
            connection.rollback()
            return False

    def renew(self, session_id: str, hash: bytes, expires_at: float, now: float) -> Session | None:
        """Give an active session one more token. None, and nothing is stored, if it is not active any more."""
        with self._writing() as connection:
            row = connection.execute(
                update(sessions)
                .where(
                    sessions.c.id == session_id,
                    _may(SessionEvent.RENEW),
                    sessions.c.ends_at > now,
                    sessions.c.last_used_at + sessions.c.idle_seconds > now,
                )
                .values(
                    last_used_at=case((sessions.c.last_used_at < now, now), else_=sessions.c.last_used_at)
                )
                .returning(sessions)
            ).one_or_none()
            if row is None:
                return None
            connection.execute(delete(tokens).where(tokens.c.expires_at < now - _KEEP_EXPIRED_TOKENS))
            connection.execute(
                insert(tokens),
                {"hash": hash, "session_id": session_id, "issued_at": now, "expires_at": expires_at},
            )
            return _session(row._mapping)

    def session_by_token_hash(self, hash: bytes) -> Held | None:
        """The session that a token (by its hash, 32 bytes) stands for, whatever its state; None if unknown."""
        with self._reading() as connection:
            row = connection.execute(_BY_HASH, {"hash": hash}).one_or_none()
            return None if row is None else Held(_session(row._mapping), row.token_expires_at)

    def session(self, session_id: str) -> Session | None:
        """The session of this id, whatever its state; None if there is none."""
        with self._reading() as connection:
            row = connection.execute(_BY_ID, {"id": session_id}).one_or_none()
            return None if row is None else _session(row._mapping)

    def sessions(
        self,
        *,
        user: str | None = None,
        issuer: str | None = None,
        state: SessionState | None = None,
        limit: int = 1000,
    ) -> list[Session]:
        """At most `limit` sessions, the newest first, of this user and issuer and in this state where given."""
        query = select(sessions).order_by(sessions.c.opened_at.desc(), sessions.c.id).limit(limit)
        for column, value in (
            (sessions.c.user_name, user),
            (sessions.c.issuer, issuer),
            (sessions.c.state, state),
        ):
            if value is not None:
                query = query.where(column == str(value))
        with self._reading() as connection:
            return [_session(row._mapping) for row in connection.execute(query)]

    def touch(self, used: dict[str, float]) -> None:
        """Note when sessions (by id) were last used (Unix seconds). Wakes none that has ended or timed out."""
        if used:
            with self._writing() as connection:
                connection.execute(
                    _TOUCH, [{"used_id": id, "used_at": at} for id, at in sorted(used.items())]
                )

    def end(
        self, session_id: str, now: float, *, event: SessionEvent = SessionEvent.END, reason: str = ""
    ) -> Session | None:
        """End one session (`END`, or `REVOKE`). The session as it is now; None if it had ended before."""
        ended = self._finish(event, reason, now, sessions.c.id == session_id)
        return ended[0] if ended else None

    def expire(self, now: float, session_id: str | None = None) -> list[Session]:
        """End every session (or only this one) that the clock has ended. Each is returned once, to one process."""
        idle_or_max = case((sessions.c.ends_at <= bindparam("now"), "max"), else_="idle")
        which = _TIMED_OUT if session_id is None else and_(_TIMED_OUT, sessions.c.id == session_id)
        return self._finish(SessionEvent.EXPIRE, idle_or_max, now, which)

    def _finish(self, event: SessionEvent, reason: Any, now: float, which: Any) -> list[Session]:
        (target,) = {after(state, event) for state in sources(event)}
        if target not in END_REASONS:
            raise ValueError(f"{event.value} does not end a session")
        if isinstance(reason, str):
            reason = reason or END_REASONS[target][0]
        statement = (
            update(sessions)
            .where(and_(which, _may(event)))
            .values(state=target.value, ended_at=now, end_reason=reason, mask_key=None)
            .returning(sessions)
        )
        with self._writing() as connection:
            return [_session(row._mapping) for row in connection.execute(statement, {"now": now})]

    # ------------------------------------------------------------------------------------- reaching

    def ping(self) -> None:
        """Return if the database can be read; `StateAway` if not."""
        with self._reading() as connection:
            _check_version(connection)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._reaching(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._reaching(), self._writer.connect() as connection, connection.begin() as transaction:
            yield connection
            if transaction.is_active:
                # A file that went away meanwhile would take what is committed now with it.
                self._check_file()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            self._check_file()
            yield
        except DBAPIError as error:
            raise StateAway(f"the state database cannot be used: {_first_line(error.orig)}") from None
        except PoolTimeout:
            raise StateAway("the state database cannot be used: every connection is busy") from None
        except OSError as error:
            raise StateAway(f"the state database cannot be used: {error.strerror}") from None

    def _check_file(self) -> None:
        if self._file is not None:
            found = os.stat(self._file)
            if (found.st_dev, found.st_ino) != self._inode:
                raise StateAway(
                    f"{self._file} was replaced by another file; restart Interlock to use that one"
                )

    def _create(self) -> None:
        with self._writing() as connection:
            if connection.dialect.name == "postgresql":
                # Two processes that start at once: CREATE TABLE IF NOT EXISTS alone may collide.
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7307217)")
            schema_version.create(connection, checkfirst=True)
            if connection.execute(_VERSION).first() is None:
                metadata.create_all(connection)
                connection.execute(insert(schema_version), {"version": VERSION})
            _check_version(connection)


def _check_version(connection: Connection) -> None:
    found = connection.execute(_VERSION).scalars().all()
    if found != [VERSION]:
        raise StateAway(
            f"the state database has schema version {', '.join(map(str, found)) or 'none'}, this Interlock "
            f"works with {VERSION}; use the version that made it, or another `state`"
        )


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# -------------------------------------------------------------------------------------------- engines


def _sqlite_path(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.query or url.host:
        raise ValueError("state: sqlite needs a file and nothing else, such as sqlite:///state.db")
    return Path(url.database).absolute()


def _private_file(path: Path) -> tuple[int, int]:
    """Make `path` if it is not there, see that only its owner can read it, return its device and inode.

    A file that is there is never opened here: closing it would drop the locks that SQLite holds on it for
    this process (fcntl(2)).
    """
    try:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
        found = path.stat()
    except OSError as error:
        raise StateAway(f"the state database {path} cannot be used: {error.strerror}") from None
    if not path.is_file():
        raise StateAway(f"the state database {path} cannot be used: not a regular file")
    return found.st_dev, found.st_ino


def _sqlite(path: Path, patience: float, *, write: bool) -> Engine:
    uri = f"file:{quote(str(path))}?mode=rw"  # rw: a missing file is an error, not an empty database

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver begins nothing by itself.
        connection = sqlite3.connect(
            uri, uri=True, timeout=patience, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in PRAGMAS if write else (*PRAGMAS, "query_only=ON"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        # One writer in a process: its threads wait for each other in turn, instead of racing for SQLite's
        # lock, whose losers sleep and may lose for seconds.
        pool_size=1 if write else READERS,
        max_overflow=0,
        pool_timeout=patience,
        hide_parameters=True,
    )
    if write:
        # IMMEDIATE: a transaction that finds out late that it may not write cannot wait any more.
        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgres(url: URL, patience: float, **options: Any) -> Engine:
    arguments = {
        "connect_timeout": 2,
        "options": f"-c statement_timeout={int(patience * 1000)} -c synchronous_commit=on -c timezone=UTC",
    }
    try:
        return create_engine(
            url,
            connect_args=arguments,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=patience,
            **options,
        )
    except ModuleNotFoundError:
        raise ValueError("state: Postgres needs the package psycopg; install `psycopg[binary]`") from None


# ---------------------------------------------------------------------------------------------- rows


def _row(session: Session) -> dict[str, object]:
    principal = session.principal
    return {
        "id": session.id,
        "state": session.state.value,
        "user_name": principal.user,
        "groups": orjson.dumps(principal.groups).decode(),
        "issuer": principal.issuer,
        "subject": principal.subject,
        "agent": principal.agent,
        "owner": principal.owner,
        "claims": orjson.dumps(dict(principal.claims)).decode(),
        "cluster": session.cluster,
        "addresses": orjson.dumps(session.addresses).decode(),
        "opened_from": session.opened_from,
        "opened_at": session.opened_at,
        "last_used_at": session.last_used_at,
        "idle_seconds": session.idle_seconds,
        "ends_at": session.ends_at,
        "ended_at": session.ended_at,
        "end_reason": session.end_reason,
        "mask_key": session.mask_key or None,
    }


def _session(row: Any) -> Session:
    try:
        return Session(
            id=row["id"],
            state=SessionState(row["state"]),
            principal=Principal(
                user=row["user_name"],
                groups=_strings(row["groups"]),
                issuer=row["issuer"],
                subject=row["subject"],
                agent=row["agent"],
                owner=row["owner"],
                claims=orjson.loads(row["claims"]),
            ),
            cluster=row["cluster"],
            addresses=_strings(row["addresses"]),
            opened_from=row["opened_from"],
            opened_at=row["opened_at"],
            last_used_at=row["last_used_at"],
            idle_seconds=row["idle_seconds"],
            ends_at=row["ends_at"],
            mask_key=bytes(row["mask_key"] or b""),
            ended_at=row["ended_at"],
            end_reason=row["end_reason"],
        )
    except (BadPrincipal, ValueError, TypeError):
        raise StateAway(
            "the state database holds a session that cannot be read; restore it from a backup"
        ) from None


def _strings(text: str) -> tuple[str, ...]:
    values = orjson.loads(text)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return tuple(values)
