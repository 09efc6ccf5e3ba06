import os
import shutil
import time

import duckdb
import pytest

from evidence import samples
from interlock.evidence import lines, reading
from interlock.evidence.journal import Journal
from interlock.evidence.reading import EvidenceUnreadable, open_evidence, query, tail
from interlock.evidence.recorder import Recorder


@pytest.fixture
def directory(directory):
    Recorder(directory).publish()
    return directory


@pytest.fixture
def journal(directory):
    journal = Journal(directory)
    yield journal
    journal.close()


def test_a_directory_answers_with_what_happens_now(directory, journal):
    sent = samples.request()
    journal.commit(sent)
    with open_evidence(directory) as evidence:
        columns, rows = query(
            evidence, "SELECT id::VARCHAR AS id, effect FROM requests JOIN decisions ON request_id = id"
        )
        assert (columns, rows) == (("id", "effect"), [(sent.id, "allow")])
        journal.commit(samples.response(sent))
        assert query(evidence, "SELECT state FROM exchanges WHERE request_id = ?", [sent.id]).rows == [
            ("ended",)
        ]


def test_a_file_answers_with_what_is_sealed(directory, journal, tmp_path):
    journal.commit(samples.started())
    shutil.copyfile(directory / "evidence.duckdb", tmp_path / "copy.duckdb")
    with open_evidence(tmp_path / "copy.duckdb") as evidence:
        assert query(evidence, "SELECT count(*) FROM log").rows == [(0,)]


def test_evidence_cannot_be_written_through_a_reader(directory):
    with open_evidence(directory) as evidence, pytest.raises(EvidenceUnreadable, match="read-only"):
        query(evidence, "DELETE FROM main.log")


@pytest.mark.parametrize("sql", ["selec", "SELECT * FROM nothing", "SELECT 1 +", ""])
def test_a_question_that_cannot_be_answered_is_told_in_one_line(directory, sql):
    with open_evidence(directory) as evidence:
        if sql:
            with pytest.raises(EvidenceUnreadable) as caught:
                query(evidence, sql)
            assert "\n" not in str(caught.value)
        else:
            assert query(evidence, sql) == ((), [])


def test_what_is_no_evidence_is_told_in_one_line(tmp_path):
    (tmp_path / "text.duckdb").write_text("no database")
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    for path, words in ((tmp_path, "is not there"), (tmp_path / "none", "is not there"), (tmp_path / "text.duckdb", "cannot be opened"),
                        (tmp_path / "other.duckdb", "holds no evidence")):  # fmt: skip
        with pytest.raises(EvidenceUnreadable, match=words) as caught:
            open_evidence(path)
        assert "\n" not in str(caught.value)


# tail ------------------------------------------------------------------------------------------------------------


def taken(events):
    """What comes until there is none for now."""
    found = []
    for event in events:
        if event is None:
            return found
        found.append(event)
    raise AssertionError("a tail does not end")


def seqs(events):
    return [event["seq"] for event in taken(events)]


def test_tail_gives_each_event_once_as_it_happens(directory, journal):
    journal.commit(samples.started())
    events = tail(directory, poll=0.001)
    assert taken(events) == []
    sent = samples.request()
    journal.commit(sent)
    journal.commit(samples.response(sent))
    assert [(e["seq"], e["type"]) for e in taken(events)] == [(2, "request"), (3, "response")]
    assert taken(events) == []
    journal.commit(samples.started())
    assert seqs(events) == [4]


def test_tail_begins_with_what_happened_since(directory, journal):
    journal.commit(samples.started(ts=1_000_000))
    journal.commit(samples.request(ts=3_000_000))
    journal.commit(samples.policy(ts=2_000_000))
    events = tail(directory, 2_000_000, poll=0.001)
    assert seqs(events) == [3, 2]
    journal.commit(samples.started(ts=1))
    assert seqs(events) == [4]


def test_tail_goes_on_from_file_to_file_and_log_to_log(directory):
    first = Journal(directory, rotate_bytes=2000)
    events = tail(directory, poll=0.001)
    for event in samples.exchanges(4):
        first.commit(event)
    assert seqs(events) == list(range(1, 9))
    assert seqs(tail(directory, poll=0.001)) == []
    other = Journal(directory, "console")
    other.commit(samples.started())
    first.commit(samples.started())
    assert sorted(seqs(events)) == [1, 9]
    for file in lines.journal_files(directory / "journal")[:2]:
        file.path.unlink()
    first.commit(samples.started())
    assert seqs(events) == [10]
    first.close()
    other.close()


def test_tail_waits_for_the_rest_of_a_line(directory):
    path = directory / "journal" / "gateway-0123abcd-00000001.jsonl"
    row = lines.leaf_line(samples.started(), "gateway-0123abcd", 1)
    path.write_bytes(lines.header_line(1) + row[:100])
    events = tail(directory, poll=0.001)
    assert taken(events) == []
    with path.open("ab") as file:
        file.write(row[100:])
    assert seqs(events) == [1]


def test_tail_follows_a_journal_that_took_something_back(directory):
    path = directory / "journal" / "gateway-0123abcd-00000001.jsonl"
    rows = [
        lines.leaf_line(samples.started(pid=pid), "gateway-0123abcd", seq)
        for seq, pid in ((1, 1), (2, 2), (3, 3), (2, 22))
    ]
    path.write_bytes(lines.header_line(1) + rows[0])
    events = tail(directory, 0, poll=0.001)
    assert seqs(events) == [1]
    with path.open("ab") as file:
        file.write(rows[1] + rows[2])
    assert seqs(events) == [2, 3]
    os.truncate(path, len(lines.header_line(1) + rows[0]))
    assert seqs(events) == []
    with path.open("ab") as file:
        file.write(rows[3])
    assert [(e["seq"], e["pid"]) for e in taken(events)] == [(2, 22)]


def test_tail_of_what_was_sealed_while_it_looks(directory, journal):
    """A file may vanish between two looks; that is no error and no event is lost that was seen before."""
    journal.commit(samples.started())
    events = tail(directory, 0, poll=0.001)
    assert seqs(events) == [1]
    follower = reading._Follower(directory / "journal", {}, {})
    (file,) = lines.journal_files(directory / "journal")
    file.path.unlink()
    file.path.symlink_to("/nowhere")
    assert follower.read() == []


def test_tail_of_no_evidence_is_refused(tmp_path):
    with pytest.raises(EvidenceUnreadable):
        tail(tmp_path)


def test_tail_where_no_journal_is_says_so(directory):
    events = tail(directory, poll=0.001)
    assert taken(events) == []
    shutil.rmtree(directory / "journal")
    with pytest.raises(EvidenceUnreadable, match="is not there"):
        next(events)
    with pytest.raises(EvidenceUnreadable, match="is not there"):
        tail(directory)


def test_tail_looks_again_after_a_while(directory, monkeypatch):
    naps = []
    monkeypatch.setattr(time, "sleep", naps.append)
    events = tail(directory, poll=0.5)
    assert [next(events), next(events)] == [None, None]
    assert naps == [0.5]
