"""The state database: what is kept, that nothing comes back to life, and that away is never "no"."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from interlock.identity.principal import Principal
from interlock.identity.sessions import (
    Held,
    Limits,
    NoSession,
    Session,
    SessionEvent,
    SessionState,
    admit,
    new_session,
    new_token,
    token_hash,
)
from interlock.state import State, StateAway, database

NOW = 1_000_000.0
LIMITS = Limits(ttl=900, idle=600, max=3600)
ADA = Principal(
    "ada",
    ("agents", "dév"),
    "https://idp",
    "id-of-ada",
    "claude",
    "ada",
    {"repo": "shop", "n": [1, {"x": None}]},
)


def session(principal: Principal = ADA, *, now: float = NOW, **changes: Any) -> Session:
    made = new_session(
        principal,
        "dev",
        limits=LIMITS,
        addresses=("10.0.0.0/8",),
        opened_from="10.0.0.1",
        now=now,
        random=os.urandom,
    )
    return dataclasses.replace(made, **changes)


def stored(state: State, **changes: Any) -> tuple[Session, bytes]:
    one, hash = session(**changes), token_hash(new_token(os.urandom))
    assert state.open_session(one, hash, one.opened_at + 900)
    return one, hash


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def state(file: Path) -> Iterator[State]:
    state = State(f"sqlite:///{file}")
    yield state
    state.close()


# ------------------------------------------------------------------------------------------- operations


def test_a_session_is_found_by_its_tokens_hash_and_by_its_id_exactly_as_it_was(state: State) -> None:
    one, hash = stored(state)
    assert state.session_by_token_hash(hash) == Held(one, NOW + 900)
    assert state.session(one.id) == one
    assert state.session_by_token_hash(b"x" * 32) is None
    assert state.session("none") is None


def test_it_is_found_after_a_restart(file: Path) -> None:
    first = State(f"sqlite:///{file}")
    one, hash = stored(first)
    first.close()
    second = State(f"sqlite:///{file}")
    assert second.session_by_token_hash(hash) == Held(one, NOW + 900)
    second.close()


def test_a_hash_is_given_out_once(state: State) -> None:
    one, hash = stored(state)
    two = session()
    assert not state.open_session(two, hash, NOW + 900)
    assert state.session(two.id) is None
    assert state.session_by_token_hash(hash) == Held(one, NOW + 900)


def test_a_renewed_session_has_one_more_token_and_is_the_same(state: State) -> None:
    one, first = stored(state)
    second = token_hash("second")
    renewed = state.renew(one.id, second, NOW + 1000, NOW + 100)
    assert renewed == dataclasses.replace(one, last_used_at=NOW + 100)
    assert state.session_by_token_hash(first) == Held(renewed, NOW + 900)
    assert state.session_by_token_hash(second) == Held(renewed, NOW + 1000)
    earlier = state.renew(one.id, token_hash("third"), NOW + 1000, NOW + 50)
    assert earlier is not None
    assert earlier.last_used_at == NOW + 100


def test_what_is_over_is_not_renewed(state: State) -> None:
    idle, _ = stored(state)
    assert state.renew(idle.id, b"1", NOW + 9000, NOW + 600) is None
    old, _ = stored(state)
    state.touch({old.id: NOW + 590})
    for later in range(1000, 3500, 500):
        state.touch({old.id: NOW + later})
    assert state.renew(old.id, b"2", NOW + 9000, NOW + 3600) is None
    ended, _ = stored(state)
    state.end(ended.id, NOW + 1)
    assert state.renew(ended.id, b"3", NOW + 9000, NOW + 2) is None
    assert state.renew("none", b"4", NOW + 9000, NOW) is None
    assert [state.session_by_token_hash(hash) for hash in (b"1", b"2", b"3", b"4")] == [None] * 4


def test_tokens_that_are_long_expired_are_dropped(state: State) -> None:
    one, first = stored(state, ends_at=NOW + 1e6, idle_seconds=1e6)
    state.renew(one.id, token_hash("second"), NOW + 90_000, NOW + 80_000)
    assert state.session_by_token_hash(first) is not None
    state.renew(one.id, token_hash("third"), NOW + 99_000, NOW + 90_000)
    assert state.session_by_token_hash(first) is None


def test_use_moves_forward_only_and_wakes_nothing(state: State) -> None:
    one, _ = stored(state)
    idle, _ = stored(state)
    ended, _ = stored(state)
    state.end(ended.id, NOW)
    state.touch({one.id: NOW + 100, idle.id: NOW + 600, ended.id: NOW + 100, "none": NOW})
    state.touch({one.id: NOW + 50})
    state.touch({})
    used = [state.session(found.id).last_used_at for found in (one, idle, ended)]  # type: ignore[union-attr]
    assert used == [NOW + 100, NOW, NOW]


@pytest.mark.parametrize(
    ("event", "reason", "into", "because"),
    [
        (SessionEvent.END, "", SessionState.ENDED, "logout"),
        (SessionEvent.END, "drop", SessionState.ENDED, "drop"),
        (SessionEvent.REVOKE, "", SessionState.REVOKED, "revoked"),
        (SessionEvent.REVOKE, "user left", SessionState.REVOKED, "user left"),
    ],
)
def test_a_session_ends_once_and_loses_its_mask_key(
    state: State, event: SessionEvent, reason: str, into: SessionState, because: str
) -> None:
    one, hash = stored(state)
    gone = state.end(one.id, NOW + 5, event=event, reason=reason)
    assert gone == dataclasses.replace(one, state=into, mask_key=b"", ended_at=NOW + 5, end_reason=because)
    held = state.session_by_token_hash(hash)
    assert held is not None
    assert held.session == gone
    for again in (SessionEvent.END, SessionEvent.REVOKE):
        assert state.end(one.id, NOW + 6, event=again) is None
    assert state.session(one.id) == gone


def test_the_erased_mask_key_is_not_left_in_the_file(state: State, file: Path) -> None:
    one, _ = stored(state)
    state.end(one.id, NOW + 5)
    state.close()
    left = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert one.mask_key not in left


@pytest.mark.parametrize("event", [SessionEvent.OPEN, SessionEvent.USE, SessionEvent.RENEW])
def test_only_what_ends_a_session_ends_it(state: State, event: SessionEvent) -> None:
    one, _ = stored(state)
    with pytest.raises(ValueError, match="does not end a session"):
        state.end(one.id, NOW, event=event)


def test_the_clock_ends_sessions_and_each_is_told_once(state: State) -> None:
    idle, _ = stored(state)
    used, _ = stored(state)
    old, _ = stored(state, ends_at=NOW + 500)
    state.touch({used.id: NOW + 300})
    assert state.expire(NOW + 400) == []
    assert state.expire(NOW + 500, "none") == []
    assert state.expire(NOW + 500, idle.id) == []
    told = {one.id: one.end_reason for one in state.expire(NOW + 600)}
    assert told == {idle.id: "idle", old.id: "max"}
    assert state.expire(NOW + 600) == []
    assert [one.id for one in state.expire(NOW + 900, used.id)] == [used.id]
    assert {one.state for one in state.sessions()} == {SessionState.EXPIRED}


def test_an_expired_session_makes_room_for_one_of_the_same_identity_token(state: State) -> None:
    one, hash = stored(state)
    two = session(now=NOW + 700)
    assert not state.open_session(two, hash, NOW + 900, replaces=one.id)
    state.expire(NOW + 700)
    assert not state.open_session(two, b"other", NOW + 900, replaces=one.id)
    assert state.open_session(two, hash, NOW + 900, replaces=one.id)
    assert state.session_by_token_hash(hash) == Held(two, NOW + 900)
    assert not state.open_session(session(), hash, NOW + 900, replaces=one.id)


@pytest.mark.parametrize("event", [SessionEvent.REVOKE, SessionEvent.END])
def test_a_session_that_was_ended_makes_no_room(state: State, event: SessionEvent) -> None:
    one, hash = stored(state)
    state.end(one.id, NOW, event=event)
    assert not state.open_session(session(), hash, NOW + 900, replaces=one.id)
    assert [found.id for found in state.sessions()] == [one.id]


def test_sessions_are_listed_newest_first_and_by_what_is_asked(state: State) -> None:
    eve = Principal("eve", (), "https://idp", "2")
    other = Principal("ada", (), "https://other", "3")
    ids = [stored(state, principal=who, now=NOW + n)[0].id for n, who in enumerate((ADA, eve, other, ADA))]
    state.end(ids[3], NOW + 9)

    def listed(**asked: Any) -> list[int]:
        return [ids.index(one.id) for one in state.sessions(**asked)]

    assert listed() == [3, 2, 1, 0]
    assert listed(user="ada") == [3, 2, 0]
    assert listed(user="ada", issuer="https://idp") == [3, 0]
    assert listed(state=SessionState.ACTIVE) == [2, 1, 0]
    assert listed(state=SessionState.REVOKED) == []
    assert listed(limit=2) == [3, 2]
    assert listed(user="' OR 1=1 --") == []


# ------------------------------------------------------------------------------------------------ away


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///state.db?mode=ro",
        "sqlite://host/state.db",
        "sqlite+aiosqlite:///state.db",
        "mysql://h/d",
        "postgresql://h/d",
        "postgresql+psycopg2://h/d",
    ],
)
def test_a_url_that_cannot_be_the_state_says_what_can(url: str) -> None:
    with pytest.raises(ValueError, match="state: "):
        State(url)


def test_postgres_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match="psycopg"):
        State("postgresql+psycopg://u:secret@127.0.0.1:1/d")


def test_the_file_is_for_its_owner_alone(state: State, file: Path) -> None:
    stored(state)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_a_file_that_others_could_read_is_closed_to_them(file: Path) -> None:
    file.touch(0o644)
    State(f"sqlite:///{file}").close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def every_call(state: State, id: str = "x") -> list[Any]:
    return [
        lambda: state.ping(),
        lambda: state.session(id),
        lambda: state.session_by_token_hash(b"h"),
        lambda: state.sessions(),
        lambda: state.open_session(session(), os.urandom(32), NOW),
        lambda: state.renew(id, os.urandom(32), NOW, NOW),
        lambda: state.touch({id: NOW}),
        lambda: state.end(id, NOW),
        lambda: state.expire(NOW),
    ]


def all_away(state: State, words: str) -> None:
    for call in every_call(state):
        with pytest.raises(StateAway, match=words) as away:
            call()
        assert away.value.reason.isprintable()


def all_there(state: State) -> None:
    for call in every_call(state):
        call()


def test_a_deleted_file_is_away_and_is_not_made_again(state: State, file: Path) -> None:
    all_there(state)
    file.unlink()
    all_away(state, "No such file")
    assert not file.exists()


def test_a_file_that_comes_back_is_there_again(state: State, file: Path) -> None:
    one, hash = stored(state)
    aside = file.rename(file.with_name("aside"))
    all_away(state, "No such file")
    aside.rename(file)
    assert state.session_by_token_hash(hash) == Held(one, NOW + 900)


def test_another_file_in_its_place_is_away(state: State, file: Path, tmp_path: Path) -> None:
    stored(state)
    other = State(f"sqlite:///{tmp_path / 'other.db'}")
    stored(other)
    other.close()
    (tmp_path / "other.db").rename(file)
    all_away(state, "was replaced by another file; restart")


def test_a_file_that_goes_away_during_a_write_is_no_success(
    state: State, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = database._row

    def row_and_gone(one: Session) -> dict[str, object]:
        made = row(one)
        file.rename(file.with_name("aside"))
        return made

    # The row is made before the transaction begins: the check at its end must see it.
    check = state._check_file
    calls = iter([None, check])
    monkeypatch.setattr(database, "_row", row_and_gone)
    monkeypatch.setattr(state, "_check_file", lambda: (next(calls) or (lambda: None))())
    with pytest.raises(StateAway, match="No such file"):
        state.open_session(session(), b"h" * 32, NOW)
    file.with_name("aside").rename(file)
    monkeypatch.undo()
    assert state.sessions() == []


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_away(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(StateAway, match="cannot be used"):
        State(f"sqlite:///{file}")
    assert file.read_bytes() == content


def test_a_database_that_is_overwritten_is_away(state: State, file: Path) -> None:
    for _ in range(20):
        stored(state)
    with sqlite3.connect(file) as direct:
        direct.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    direct.close()
    with file.open("r+b") as raw:
        raw.seek(0)
        raw.write(b"\xff" * file.stat().st_size)
    state._reader.dispose()
    state._writer.dispose()
    all_away(state, "cannot be used")


def test_a_locked_database_is_away_for_writers_and_there_for_readers(
    state: State, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WRITE_SECONDS", 0.2)
    impatient = State(f"sqlite:///{file}")
    one, hash = stored(impatient)
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert impatient.session_by_token_hash(hash) == Held(one, NOW + 900)
        with pytest.raises(StateAway, match="locked"):
            impatient.touch({one.id: NOW + 1})
        other.execute("ROLLBACK")
    other.close()
    impatient.touch({one.id: NOW + 1})
    impatient.close()


def test_a_database_that_is_locked_for_everybody_is_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    State(f"sqlite:///{file}").close()
    monkeypatch.setattr(database, "WRITE_SECONDS", 0.1)
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateAway, match="locked"):
            State(f"sqlite:///{file}")
    other.close()


def test_a_folder_or_nothing_at_its_place_is_away(tmp_path: Path) -> None:
    with pytest.raises(StateAway, match="not a regular file"):
        State(f"sqlite:///{tmp_path}")
    with pytest.raises(StateAway, match="No such file"):
        State(f"sqlite:///{tmp_path / 'missing' / 'state.db'}")


@pytest.mark.parametrize("versions", [[], [0], [2], [1, 2]])
def test_another_version_is_not_touched(file: Path, versions: list[int]) -> None:
    state = State(f"sqlite:///{file}")
    with sqlite3.connect(file) as direct:
        direct.execute("DELETE FROM schema_version")
        direct.executemany("INSERT INTO schema_version VALUES (?)", [(version,) for version in versions])
    direct.close()
    with pytest.raises(StateAway, match="schema version"):
        state.ping()
    state.close()
    if versions:
        with pytest.raises(StateAway, match="works with 1"):
            State(f"sqlite:///{file}")


BROKEN = {
    "state": "UPDATE sessions SET groups = '7'",
    "groups that are no names": "UPDATE sessions SET groups = '[7]'",
    "groups that are no JSON": "UPDATE sessions SET groups = 'x'",
    "a group of the cluster's": """UPDATE sessions SET groups = '["system:masters"]'""",
    "a user of the cluster's": "UPDATE sessions SET user_name = 'system:admin'",
    "claims that are no object": "UPDATE sessions SET claims = '7'",
    "addresses": "UPDATE sessions SET addresses = '{}'",
}


@pytest.mark.parametrize("statement", BROKEN.values(), ids=BROKEN)
def test_a_session_that_cannot_be_read_is_away_and_not_let_through(
    state: State, file: Path, statement: str
) -> None:
    one, hash = stored(state)
    with sqlite3.connect(file) as direct:
        direct.execute(statement)
    direct.close()
    for call in (lambda: state.session(one.id), lambda: state.session_by_token_hash(hash), state.sessions):
        with pytest.raises(StateAway, match="cannot be read; restore"):
            call()


def test_no_connection_left_is_away(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state._reader.pool, "_timeout", 0.05)
    held = [state._reader.connect() for _ in range(database.READERS)]
    with pytest.raises(StateAway, match="every connection is busy"):
        state.ping()
    for connection in held:
        connection.close()
    state.ping()


# ------------------------------------------------------------------------------- many at the same time


def test_many_processes_start_write_and_lose_nothing(file: Path) -> None:
    # All start on a file that is not there yet, and write at once; then all end everything at once.
    written = together("write", file, 3)
    state = State(f"sqlite:///{file}")
    assert len(written) == 45
    assert sorted(written) == sorted(one.id for one in state.sessions())
    ended = together("expire", file, 3)
    assert sorted(ended) == sorted(written)
    assert {one.state for one in state.sessions()} == {SessionState.EXPIRED}
    state.close()


def together(what: str, file: Path, count: int) -> list[str]:
    """The lines that `count` processes of writers.py print, started on one signal."""
    command = [sys.executable, str(Path(__file__).with_name("writers.py")), what, str(file)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    lines = []
    for process in processes:
        with process:
            assert process.stdout is not None
            lines += process.stdout.read().splitlines()
        assert process.returncode == 0
    return lines


def test_one_of_many_ends_a_session_and_none_renews_it_after(state: State) -> None:
    for _ in range(5):
        one, _ = stored(state)
        together = threading.Barrier(8)

        def end(id: str = one.id, together: threading.Barrier = together) -> bool:
            together.wait()
            return state.end(id, NOW + 1, event=SessionEvent.REVOKE) is not None

        def renew(id: str = one.id, together: threading.Barrier = together) -> bool:
            together.wait()
            for _ in range(500):
                if state.renew(id, os.urandom(32), NOW + 900, NOW + 1) is None:
                    break
            found = state.session(id)
            return found is not None and found.state is SessionState.REVOKED

        with ThreadPoolExecutor(8) as threads:
            ends = [threads.submit(end) for _ in range(4)]
            renewals = [threads.submit(renew) for _ in range(4)]
            assert sorted(done.result() for done in ends) == [False, False, False, True]
            assert all(done.result() for done in renewals)


# ------------------------------------------------------------- no sequence of events revives a session


class Sessions(RuleBasedStateMachine):
    """Any sequence of what can happen to sessions. The rule: what was over once is never let through again."""

    names = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.folder = (
            Path(os.environ.get("TMPDIR", "/tmp")) / f"interlock-sessions-{os.getpid()}-{time.time_ns()}"
        )
        self.folder.mkdir()
        self.state = State(f"sqlite:///{self.folder / 'state.db'}")
        self.now = NOW
        self.sessions: list[Session] = []
        self.tokens: list[tuple[int, bytes]] = []
        self.over: set[int] = set()

    def teardown(self) -> None:
        self.state.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    @initialize()
    def begin(self) -> None:
        self._open()

    @rule()
    def open(self) -> None:
        self._open()

    def _open(self) -> None:
        one, hash = session(now=self.now), os.urandom(32)
        assert self.state.open_session(one, hash, self.now + LIMITS.ttl)
        self.tokens.append((len(self.sessions), hash))
        self.sessions.append(one)

    def pick(self, number: int) -> tuple[int, Session]:
        number %= len(self.sessions)
        return number, self.sessions[number]

    @rule(number=names, ttl=st.sampled_from([1.0, 900.0, 1e6]))
    def renew(self, number: int, ttl: float) -> None:
        number, one = self.pick(number)
        hash = os.urandom(32)
        renewed = self.state.renew(one.id, hash, self.now + ttl, self.now)
        assert renewed is None or number not in self.over
        if renewed is not None:
            self.tokens.append((number, hash))
            assert (renewed.ends_at, renewed.mask_key) == (one.ends_at, one.mask_key)

    @rule(number=names, at=st.floats(-100, 100))
    def use(self, number: int, at: float) -> None:
        self.state.touch({self.pick(number)[1].id: self.now + at})

    @rule(number=names, event=st.sampled_from([SessionEvent.END, SessionEvent.REVOKE]))
    def end(self, number: int, event: SessionEvent) -> None:
        number, one = self.pick(number)
        self.state.end(one.id, self.now, event=event)
        self.over.add(number)

    @rule()
    def sweep(self) -> None:
        ids = [one.id for one in self.sessions]
        self.over |= {ids.index(one.id) for one in self.state.expire(self.now)}

    @rule(seconds=st.sampled_from([1.0, 300.0, 700.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """An identity token that is a bearer begins a new session; the old one stays over."""
        number, hash = data.draw(st.sampled_from(self.tokens))
        one = session(now=self.now)
        if self.state.open_session(one, hash, self.now + 900, replaces=self.sessions[number].id):
            assert number in self.over
            self.tokens[self.tokens.index((number, hash))] = (len(self.sessions), hash)
            self.sessions.append(one)

    @invariant()
    def nothing_that_is_over_is_let_through(self) -> None:
        for number, hash in self.tokens:
            held = self.state.session_by_token_hash(hash)
            assert held is not None
            try:
                admit(held, "dev", "10.0.0.1", self.now)
            except NoSession:
                continue
            assert number not in self.over
            one = self.sessions[number]
            assert held.session.id == one.id
            assert one.opened_at <= self.now < one.ends_at


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=20, stateful_step_count=15, deadline=None, derandomize=True)
