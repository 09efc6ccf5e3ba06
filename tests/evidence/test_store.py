import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

import duckdb
import pytest

from evidence import samples
from interlock.evidence import events, lines, store
from interlock.evidence.journal import Journal
from interlock.evidence.store import Store

DOCS = Path(__file__).parents[2] / "docs" / "evidence.md"
LOG = "gateway-0123abcd"


@pytest.fixture
def evidence(directory):
    made = Store(directory, samples.now)
    made.publish()
    return Evidence(made)


class Evidence:
    """A store, journal files written line by line, and what a reader sees."""

    def __init__(self, made: Store):
        self.store = made
        self.directory = made.directory

    def write(self, number: int, first: int, *recorded, log=LOG, extra=b"", seqs=None) -> lines.JournalFile:
        path = self.directory / "journal" / lines.journal_name(log, number)
        rows = [
            lines.leaf_line(event, log, seq)
            for seq, event in zip(seqs or range(first, first + 999), recorded, strict=False)
        ]
        path.write_bytes(lines.header_line(first) + b"".join(rows) + extra)
        return lines.JournalFile(log, number, path)

    def seal(self, *files, ended=False):
        assert list(self.store.seal(dict.fromkeys(files, ended))) == list(files)

    def rows(self, sql):
        with duckdb.connect(str(self.directory / "evidence.duckdb"), read_only=True) as reader:
            return reader.execute(sql).fetchall()

    def faults(self):
        return self.rows(
            "SELECT kind, about_gateway, about_seq, count FROM main.health_events WHERE component = 'recorder' ORDER BY seq"
        )


def seqs(evidence, schema):
    return [
        seq
        for (seq,) in evidence.rows(f"SELECT seq FROM {schema}.log WHERE gateway_id = '{LOG}' ORDER BY seq")
    ]


# Sealed once, seen once ------------------------------------------------------------------------------------------


def test_an_event_is_in_live_at_once_and_in_main_when_it_is_sealed(evidence):
    first = evidence.write(1, 1, samples.started(), *samples.exchanges(2))
    assert (seqs(evidence, "main"), seqs(evidence, "live")) == ([], [1, 2, 3, 4, 5])
    evidence.seal(first)
    assert seqs(evidence, "live") == [
        1,
        2,
        3,
        4,
        5,
    ]  # the file that is open to readers is still the older copy
    evidence.write(2, 6, *samples.exchanges(1))
    assert seqs(evidence, "live") == [1, 2, 3, 4, 5, 6, 7]
    evidence.store.publish()
    assert (seqs(evidence, "main"), seqs(evidence, "live")) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7])
    assert evidence.rows("SELECT count(*), count(DISTINCT id) FROM live.requests") == [(3, 3)]
    first.path.unlink()
    assert seqs(evidence, "live") == [1, 2, 3, 4, 5, 6, 7]


def test_what_live_shows_and_what_main_keeps_are_the_same(evidence):
    digest, _ = samples.body(b'{"kind":"Pod"}')
    binary, _ = samples.body(b"\xff\x00")
    sent, stream = samples.request(body_sha256=digest), samples.request(streams=True)
    bodies = lines.body_line(digest, b'{"kind":"Pod"}') + lines.body_line(binary, b"\xff\x00")
    file = evidence.write(
        1, 1, samples.started(), samples.policy(), samples.session(), sent, samples.response(sent, findings=(samples.finding(),)),
        stream, samples.chunk(stream, 0, body_sha256=binary), samples.response(stream, ended="client_gone", reason="closed"),
        events.SessionEnded(ts=samples.now(), session_id="session-1", reason="expired"),
        events.ApprovalChanged(ts=samples.now(), id="a", state="pending"),
        events.Reviewed(ts=samples.now(), reviewer="olu", from_ts=0, to_ts=1),
        extra=bodies,
    )  # fmt: skip
    names = (
        "log",
        "bodies",
        *store.PROJECTED,
        "sessions",
        "approvals",
        "exchanges",
        "timeline",
        "masked",
        "incomplete",
        "gateways",
    )
    live = {name: evidence.rows(f"FROM live.{name} ORDER BY ALL") for name in names}
    assert all(live[name] for name in names if name != "incomplete")
    evidence.seal(file)
    evidence.store.publish()
    assert {name: evidence.rows(f"FROM main.{name} ORDER BY ALL") for name in names} == live
    assert {name: evidence.rows(f"FROM live.{name} ORDER BY ALL") for name in names} == live
    assert live["bodies"] == sorted([(digest, 14, '{"kind":"Pod"}', None), (binary, 2, None, b"\xff\x00")])


def test_a_file_is_sealed_once_however_often_it_is_tried(evidence):
    file = evidence.write(1, 1, *samples.exchanges(2))
    evidence.seal(file)
    evidence.store.prepare()  # as by a recorder that starts again
    evidence.seal(file)
    evidence.store.publish()
    assert seqs(evidence, "main") == [1, 2, 3, 4]
    assert evidence.store.sealed() == {(LOG, 1)}
    assert evidence.rows(
        "SELECT number, first_seq, last_seq, events, bodies, unparsed FROM journal_files"
    ) == [(1, 1, 4, 4, 0, 0)]
    assert evidence.faults() == []


def test_what_fails_half_way_leaves_nothing(evidence, monkeypatch):
    file = evidence.write(1, 1, *samples.exchanges(2))
    true_insert = store._insert

    def insert_and_fail(connection, leaves):
        true_insert(connection, leaves)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_insert", insert_and_fail)
        with pytest.raises(OSError, match="no space"):
            list(evidence.store.seal({file: False}))
    assert evidence.store.sealed() == set()
    evidence.seal(file)
    evidence.store.publish()
    assert seqs(evidence, "main") == [1, 2, 3, 4]


def test_a_file_without_events_is_sealed_too(evidence):
    evidence.seal(
        evidence.write(1, 1, *samples.exchanges(1)),
        evidence.write(2, 3),
        evidence.write(3, 3, samples.started()),
    )
    evidence.store.publish()
    assert evidence.rows("SELECT number, first_seq, last_seq FROM journal_files ORDER BY number") == [
        (1, 1, 2),
        (2, 3, 2),
        (3, 3, 3),
    ]
    assert evidence.faults() == []


def test_a_body_is_kept_once(evidence):
    digest, _ = samples.body(b"same")
    for number in (1, 2):
        evidence.seal(
            evidence.write(
                number, number, samples.request(body_sha256=digest), extra=lines.body_line(digest, b"same")
            )
        )
    evidence.write(3, 3, samples.request(body_sha256=digest), extra=lines.body_line(digest, b"same"))
    evidence.store.publish()
    assert evidence.rows("SELECT sha256, text FROM live.bodies") == [(digest, "same")]


def test_logs_are_apart(evidence):
    one, other = (
        evidence.write(1, 1, samples.started()),
        evidence.write(1, 1, samples.started(), log="gateway-11111111"),
    )
    evidence.seal(one)
    evidence.store.publish()
    assert evidence.rows("SELECT gateway_id, seq FROM live.log ORDER BY ALL") == [
        (LOG, 1),
        ("gateway-11111111", 1),
    ]
    evidence.seal(other)
    evidence.store.publish()
    assert evidence.rows("SELECT gateway_id, seq FROM live.log ORDER BY ALL") == [
        (LOG, 1),
        ("gateway-11111111", 1),
    ]


# What is damaged is said -----------------------------------------------------------------------------------------


def test_a_hole_is_recorded(evidence):
    evidence.seal(
        evidence.write(1, 1, *samples.exchanges(2), seqs=[1, 2, 5, 6]),
        evidence.write(2, 9, samples.started()),
    )
    evidence.store.publish()
    assert evidence.faults() == [("journal_gap", LOG, 3, 2), ("journal_gap", LOG, 7, 2)]
    assert evidence.rows("SELECT from_seq, to_seq FROM seq_gaps ORDER BY ALL") == [(3, 4), (7, 8)]
    assert evidence.rows("FROM promise_10_violations") == []
    assert evidence.rows("SELECT seq FROM log WHERE starts_with(gateway_id, 'recorder-') ORDER BY seq") == [
        (1,),
        (2,),
    ]


def test_a_torn_line_is_recorded_and_nothing_of_it_is_kept(evidence):
    torn = lines.leaf_line(samples.request(user_agent="é"), LOG, 3)
    evidence.seal(
        evidence.write(
            1,
            1,
            *samples.exchanges(1),
            extra=torn[:200] + b"\n\0\0\0\0\n" + torn[: torn.index("é".encode()) + 1],
        )
    )
    evidence.store.publish()
    assert evidence.faults() == [("journal_unparsed", LOG, None, 3)]
    assert seqs(evidence, "main") == [1, 2]
    assert evidence.rows("SELECT unparsed FROM journal_files") == [(3,)]


def test_an_event_that_is_not_what_its_line_says_is_not_taken(evidence):
    honest = samples.request(user_agent="honest")
    strange = [
        lines.leaf_line(honest, "gateway-99999999", 2),
        lines.leaf_line(honest, LOG, 2).replace(b'"seq":2,', b'"seq":3,', 1),
        lines.leaf_line(honest, LOG, 4).replace(b'"type":"request"', b'"type":"response"', 1),
        lines.leaf_line(honest, LOG, 5).replace(
            honest.id.encode(), b"6b1f3b6a-5d3e-4d25-8a5b-0123456789ab", 1
        ),
        lines.leaf_line(honest, LOG, 6).replace(
            events.rfc3339(honest.ts).encode(), b"2020-01-01T00:00:00Z", 1
        ),
    ]
    evidence.seal(evidence.write(1, 1, samples.started(), extra=b"".join(strange)))
    evidence.store.publish()
    assert seqs(evidence, "main") == [1]
    assert evidence.faults() == [("journal_strange", LOG, None, 5)]


def test_a_body_that_does_not_have_its_hash_is_not_taken(evidence):
    digest, _ = samples.body(b"true")
    forged = lines.body_line(digest, b"forged") + b'{"sha256":"' + b"0" * 64 + b'","base64":"!"}\n'
    evidence.seal(evidence.write(1, 1, samples.request(body_sha256=digest), extra=forged))
    evidence.store.publish()
    assert evidence.rows("FROM main.bodies") == []
    assert evidence.faults() == [("body_mismatch", LOG, None, 2)]
    assert evidence.rows("SELECT reason FROM incomplete") == [(f"the body {digest} is not there",)]


def test_the_first_of_two_stories_stays_and_the_second_is_recorded(evidence):
    true = [samples.request(user_agent="true"), samples.started()]
    evidence.seal(evidence.write(1, 1, *true))
    evidence.seal(evidence.write(2, 1, *true, samples.policy()))  # the same, as a rescued file may hold it
    evidence.store.publish()
    assert evidence.faults() == []
    evidence.seal(
        evidence.write(
            3, 1, samples.request(user_agent="forged"), samples.session(), samples.started(), seqs=[1, 4, 4]
        )
    )
    evidence.store.publish()
    assert seqs(evidence, "main") == [1, 2, 3, 4]
    assert evidence.rows("SELECT user_agent FROM requests") == [("true",)]
    assert evidence.rows(f"SELECT type FROM log WHERE gateway_id = '{LOG}' AND seq = 4") == [
        ("session_opened",)
    ]
    assert evidence.faults() == [("journal_conflict", LOG, None, 2)]


def test_a_gateway_that_ended_without_a_word_has_died_once(evidence):
    evidence.seal(evidence.write(1, 1, samples.started(), samples.request()), ended=True)
    evidence.seal(evidence.write(2, 3), ended=True)
    evidence.store.publish()
    assert evidence.faults() == [("gateway_died", LOG, 2, None)]
    assert evidence.rows("SELECT reason FROM incomplete") == [("the gateway died before it ended",)]
    assert evidence.rows("SELECT state FROM gateways") == [("died",)]
    evidence.seal(
        evidence.write(3, 3, samples.started(), events.GatewayStopped(ts=samples.now())), ended=True
    )
    evidence.store.publish()
    assert evidence.faults() == [("gateway_died", LOG, 2, None)]
    assert evidence.rows("SELECT state FROM gateways") == [("stopped",)]


def test_the_recorders_own_words_are_a_log_like_any_other(evidence):
    evidence.seal(evidence.write(1, 5, samples.started()), ended=True)
    evidence.store.publish()
    rows = evidence.rows(
        "SELECT gateway_id, seq, type, leaf, leaf_hash FROM log WHERE starts_with(gateway_id, 'recorder-') ORDER BY seq"
    )
    assert [(seq, kind) for _, seq, kind, _, _ in rows] == [(1, "health"), (2, "health")]
    for log, seq, _, leaf, leaf_hash in rows:
        assert f'"gateway":"{log}"' in leaf
        assert f'"seq":{seq},' in leaf
        assert hashlib.sha256(b"\0" + leaf.encode()).hexdigest() == leaf_hash


# Readers ---------------------------------------------------------------------------------------------------------


def test_a_reader_is_never_given_half_a_line(evidence):
    """A file may end anywhere: a crash leaves it so, and a reader can be faster than the writer."""
    whole = lines.leaf_line(samples.started(), LOG, 1)
    line = lines.leaf_line(
        samples.request(id="6b1f3b6a-5d3e-4d25-8a5b-0123456789ab", ts=0, user_agent='é 😀 "\\'), LOG, 2
    )
    body = lines.body_line("0" * 64, "é😀".encode())
    cuts = [line[:cut] for cut in range(0, len(line) - 1, 5)] + [body[:cut] for cut in range(len(body) - 1)]
    for number, cut in enumerate(cuts, 1):
        log = f"gateway-{number:08x}"
        path = evidence.directory / "journal" / lines.journal_name(log, 1)
        path.write_bytes(lines.header_line(1) + whole.replace(LOG.encode(), log.encode()) + cut)
    assert evidence.rows("SELECT count(*), min(seq), max(seq), min(type), max(type) FROM live.log") == [
        (len(cuts), 1, 1, "gateway_started", "gateway_started")
    ]
    assert evidence.rows("SELECT count(*) FROM live.bodies") == [(0,)]


def test_a_sealed_file_is_not_opened_by_readers(evidence):
    file = evidence.write(1, 1, samples.started())
    evidence.seal(file)
    evidence.store.publish()
    file.path.unlink()
    file.path.symlink_to("/nowhere")  # opening it would be an error
    evidence.write(2, 2, samples.policy())
    assert seqs(evidence, "live") == [1, 2]
    assert evidence.rows("SELECT count(*) FROM live.timeline") == [(2,)]


def test_a_published_copy_can_take_the_stores_place(evidence):
    evidence.seal(evidence.write(1, 1, *samples.exchanges(1)))
    evidence.store.publish()
    second = evidence.write(2, 3, samples.started())
    evidence.seal(second)
    kept = evidence.directory / "private" / "store.duckdb"
    kept.write_bytes((evidence.directory / "evidence.duckdb").read_bytes())
    assert evidence.store.sealed() == {(LOG, 1)}
    evidence.store.prepare()
    evidence.seal(second)
    evidence.store.publish()
    assert seqs(evidence, "main") == [1, 2, 3]


def test_a_copy_that_is_too_old_to_be_completed_says_so(evidence):
    evidence.seal(evidence.write(1, 1, samples.started()))
    evidence.store.publish()
    evidence.write(3, 4)  # what comes after 1 was sealed into a later copy, and deleted
    with pytest.raises(duckdb.Error, match="stale snapshot"):
        evidence.rows("SELECT count(*) FROM live.requests")
    assert seqs(evidence, "main") == [1]


def test_a_copy_taken_elsewhere_has_main_alone(evidence, tmp_path):
    evidence.seal(evidence.write(1, 1, *samples.exchanges(1)))
    evidence.store.publish()
    copy = tmp_path / "copy of evidence.duckdb"
    shutil.copyfile(evidence.directory / "evidence.duckdb", copy)
    shutil.rmtree(evidence.directory)
    with duckdb.connect(str(copy), read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM requests").fetchone() == (1,)
        assert reader.execute("SELECT count(*) FROM timeline").fetchone() == (2,)
        with pytest.raises(duckdb.Error, match="journal"):
            reader.execute("FROM live.requests")
    with duckdb.connect() as reader:
        reader.execute(f"ATTACH '{copy}' AS anything (READ_ONLY)")
        assert reader.execute("SELECT count(*) FROM anything.who_did_what").fetchone() == (1,)


def test_an_attached_file_has_its_live_schema_under_any_name(evidence):
    evidence.write(1, 1, *samples.exchanges(1))
    with duckdb.connect() as reader:
        reader.execute(f"ATTACH '{evidence.directory / 'evidence.duckdb'}' AS ev (READ_ONLY)")
        assert reader.execute("SELECT count(*) FROM ev.live.exchanges WHERE state = 'ended'").fetchone() == (
            1,
        )


@pytest.mark.parametrize("name", ["it's [a] *", "ünï çøde", "{braces}"])
def test_any_path_will_do(tmp_path, name):
    directory = tmp_path / name
    made = Store(directory, samples.now)
    made.prepare()
    made.publish()
    evidence = Evidence(made)
    file = evidence.write(1, 1, samples.started())
    assert seqs(evidence, "live") == [1]
    evidence.seal(file)
    made.publish()
    assert seqs(evidence, "main") == [1]


def test_a_path_that_duckdb_cannot_write_is_refused_at_once(tmp_path):
    with pytest.raises(OSError, match="question mark"):
        Store(tmp_path / "what?", samples.now)


def test_a_copy_is_published_whole_and_read_only(evidence):
    path = evidence.directory / "evidence.duckdb"
    before = path.stat()
    with duckdb.connect(str(path), read_only=True) as reader:
        evidence.seal(evidence.write(1, 1, samples.started()))
        evidence.store.publish()
        assert reader.execute("SELECT count(*) FROM main.log").fetchone() == (
            0,
        )  # its own copy is still there
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o444
    assert stat.S_IMODE((evidence.directory / "private").stat().st_mode) == 0o700
    assert sorted(p.name for p in evidence.directory.iterdir()) == ["evidence.duckdb", "journal", "private"]
    assert [p.name for p in (evidence.directory / "private").iterdir()] == ["store.duckdb"]


def test_the_process_that_publishes_holds_and_opens_nothing_afterwards(evidence):
    """Closing any descriptor of a DuckDB file drops the process's locks on it."""
    evidence.seal(evidence.write(1, 1, samples.started()))
    evidence.store.publish()
    held = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    ]
    assert not [path for path in held if "duckdb" in path]


def test_the_store_keeps_the_older_storage_version(evidence):
    with duckdb.connect(str(evidence.directory / "evidence.duckdb"), read_only=True) as reader:
        (tags,) = reader.execute(
            "SELECT tags FROM duckdb_databases() WHERE database_name = 'evidence'"
        ).fetchone()
    assert tags["storage_version"].startswith("v1.4")


# Schema ----------------------------------------------------------------------------------------------------------


def test_a_new_version_derives_its_tables_again(evidence, monkeypatch):
    evidence.seal(
        evidence.write(1, 1, samples.started(), samples.policy(), *samples.exchanges(3)), ended=True
    )
    evidence.store.publish()
    before = {name: evidence.rows(f"FROM main.{name} ORDER BY ALL") for name in store.PROJECTED}
    newer = store.SCHEMA.replace('"method": "VARCHAR",', '"method": "VARCHAR", "colour": "VARCHAR",')
    assert newer != store.SCHEMA
    monkeypatch.setattr(store, "SCHEMA", newer)
    evidence.store.prepare()
    evidence.store.publish()
    assert evidence.rows("SELECT DISTINCT colour FROM live.requests") == [(None,)]
    monkeypatch.undo()
    evidence.store.prepare()
    evidence.store.publish()
    assert {name: evidence.rows(f"FROM main.{name} ORDER BY ALL") for name in store.PROJECTED} == before
    assert evidence.store.sealed() == {(LOG, 1)}


def test_both_schemas_have_the_same_names_and_columns(evidence):
    columns = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = '{}' AND NOT internal"
    main, live = (set(evidence.rows(columns.format(schema))) for schema in ("main", "live"))
    assert {row for row in live if row[0] not in ("lines", "tail")} == {
        row for row in main if row[0] != "meta"
    }


def test_each_table_view_and_column_is_documented(evidence):
    sections = dict(
        re.findall(r"^### `(\w+)`\n(.*?)(?=^#|\Z)", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    there = {}
    for table, column in evidence.rows(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
    ):
        there.setdefault(table, []).append(column)
    assert {name: re.findall(r"^\| `(\w+)`", text, re.MULTILINE) for name, text in sections.items()} == there


def test_a_journal_as_a_gateway_writes_it_is_sealed_whole(evidence):
    journal = Journal(evidence.directory, "gateway", rotate_bytes=20_000)
    for event in samples.exchanges(40):
        journal.commit(event)
    journal.close()
    files = lines.journal_files(evidence.directory / "journal")
    assert len(files) > 2
    evidence.seal(*files)
    evidence.store.publish()
    assert evidence.rows("SELECT count(*), min(seq), max(seq), count(DISTINCT seq) FROM main.log") == [
        (80, 1, 80, 80)
    ]
    assert evidence.rows("SELECT count(*) FROM main.exchanges WHERE state = 'ended'") == [(40,)]
    assert evidence.faults() == []
