import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import shutil
import threading
import time
from pathlib import Path

import pytest

from evidence import samples
from interlock.evidence import journal as module
from interlock.evidence import lines, locks
from interlock.evidence.journal import Journal, JournalUnwritable, Receipt


@pytest.fixture
def open_journal(tmp_path):
    journals = []

    def opened(directory=tmp_path, name="gateway", **options):
        journals.append(Journal(directory, name, **{"retry_seconds": 0.01} | options))
        return journals[-1]

    yield opened
    for journal in journals:
        journal.close()


def stored(directory: Path, gateway_id: str | None = None) -> list[dict]:
    """The events on disk, as a reader that knows only the format finds them."""
    found = [
        file for file in lines.journal_files(directory / "journal") if gateway_id in (None, file.gateway_id)
    ]
    rows = (row for file in found for row in file.path.read_bytes().split(b"\n"))
    return [event for event in map(lines.parse_leaf, rows) if event is not None]


def seqs(directory: Path, gateway_id: str | None = None) -> list[int]:
    return [event["seq"] for event in stored(directory, gateway_id)]


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def newest(journal: Journal) -> Path:
    return [
        f.path
        for f in lines.journal_files(journal.directory / "journal")
        if f.gateway_id == journal.gateway_id
    ][-1]


@contextlib.contextmanager
def failing(monkeypatch, name, error):
    """The system call `os.NAME` fails from now on, until the block ends."""
    with monkeypatch.context() as patch:

        def call(*_args, **_options):
            raise OSError(error, os.strerror(error))

        patch.setattr(os, name, call)
        yield


# What a receipt means ------------------------------------------------------------------------------------------


async def test_an_event_is_on_disk_when_its_receipt_is_given(tmp_path, open_journal):
    journal = open_journal()
    sent = samples.request()
    assert await journal.append(sent) == Receipt(journal.gateway_id, 1)
    assert await journal.append(samples.response(sent)) == Receipt(journal.gateway_id, 2)
    assert [(e["seq"], e["type"], e["gateway"]) for e in stored(tmp_path)] == [
        (1, "request", journal.gateway_id),
        (2, "response", journal.gateway_id),
    ]


async def test_the_sync_comes_before_the_receipt(open_journal, monkeypatch):
    journal = open_journal()
    may_sync = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (may_sync.wait(10), sync(descriptor)))
    waiting = asyncio.ensure_future(journal.append(samples.request()))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    may_sync.set()
    assert (await waiting).seq == 1


async def test_what_gathers_while_the_disk_works_shares_the_next_sync(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    may_sync, syncs = threading.Event(), []
    sync = os.fdatasync
    monkeypatch.setattr(
        os, "fdatasync", lambda descriptor: (syncs.append(1), may_sync.wait(10), sync(descriptor))
    )
    first = journal.put(samples.started())
    until(lambda: syncs)
    others = [journal.put(event) for event in samples.exchanges(50)]
    may_sync.set()
    assert [receipt.seq for receipt in await asyncio.gather(first, *others)] == list(range(1, 102))
    assert len(syncs) == 2
    assert seqs(tmp_path) == list(range(1, 102))


async def test_a_group_has_a_bound(tmp_path, open_journal, monkeypatch):
    monkeypatch.setattr(module, "GROUP_EVENTS", 3)
    journal = open_journal()
    await asyncio.gather(*(journal.append(event) for event in samples.exchanges(10)))
    assert seqs(tmp_path) == list(range(1, 21))


def test_threads_may_wait_without_a_loop(tmp_path, open_journal):
    journal = open_journal()
    assert journal.commit(samples.started()).seq == 1
    assert journal.commit(samples.policy()).seq == 2
    assert seqs(tmp_path) == [1, 2]


async def test_bodies_come_before_the_event_that_names_them_and_once_in_a_file(tmp_path, open_journal):
    journal = open_journal()
    digest, bodies = samples.body(b'{"kind":"Pod"}')
    for _ in range(3):
        await journal.append(samples.request(body_sha256=digest), bodies)
    both = [journal.put(samples.request(), samples.body(b"twice")[1]) for _ in range(2)]
    await asyncio.gather(*both)
    rows = [lines.parse_line(row) for row in newest(journal).read_bytes().splitlines()]
    assert [row.get("sha256") or row.get("seq") for row in rows[1:]] == [
        digest,
        1,
        2,
        3,
        samples.body(b"twice")[0],
        4,
        5,
    ]


async def test_a_value_without_a_canonical_form_fails_alone(tmp_path, open_journal):
    journal = open_journal()
    large = {"0" * 64: bytes(lines.LARGEST_BODY + 1)}
    outcomes = await asyncio.gather(
        journal.append(samples.request()),
        journal.append(samples.request(body_bytes=2**53)),
        journal.append(samples.request(), large),
        journal.append(samples.request(), {"short": b""}),
        journal.append({"type": "request"}),
        journal.append(samples.request()),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes[1:5]] != [Receipt] * 4
    assert all(isinstance(outcome, (TypeError, ValueError)) for outcome in outcomes[1:5])
    assert (outcomes[0].seq, outcomes[5].seq) == (1, 2)
    assert seqs(tmp_path) == [1, 2]
    assert journal.writable


async def test_a_caller_that_went_away_disturbs_nobody(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    may_sync = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (may_sync.wait(10), sync(descriptor)))
    gone, here = journal.put(samples.request()), journal.put(samples.request())
    gone.cancel()
    may_sync.set()
    assert (await here).seq == 2


def test_a_loop_that_is_closed_disturbs_nobody(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    may_sync = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (may_sync.wait(10), sync(descriptor)))

    async def leave():
        return journal.put(samples.request())

    waiter = asyncio.run(leave())
    may_sync.set()
    assert journal.commit(samples.started()).seq == 2
    assert not waiter.done()


# Logs and files --------------------------------------------------------------------------------------------------


def test_a_log_goes_on_where_its_gateway_ended(tmp_path, open_journal):
    first = open_journal()
    first.commit(samples.started())
    first.commit(samples.policy())
    first.close()
    second = open_journal()
    assert second.gateway_id == first.gateway_id
    assert second.commit(samples.started()).seq == 3
    assert [f.number for f in lines.journal_files(tmp_path / "journal")] == [1, 2]
    second.close()
    open_journal().close()
    fourth = open_journal()  # the third wrote nothing
    assert fourth.commit(samples.started()).seq == 4


def test_two_gateways_of_one_name_have_two_logs(tmp_path, open_journal):
    first, second, other = open_journal(), open_journal(), open_journal(name="console")
    for journal in (first, second, other):
        assert journal.commit(samples.started()).seq == 1
    assert len({first.gateway_id, second.gateway_id, other.gateway_id}) == 3
    assert other.gateway_id.startswith("console-")
    second.close()
    assert open_journal().gateway_id == second.gateway_id


def test_a_log_of_a_longer_name_is_not_taken(open_journal):
    longer = open_journal(name="gateway-0123abcd")
    longer.close()
    assert open_journal(name="gateway").gateway_id != longer.gateway_id


def test_a_torn_last_line_is_not_counted(tmp_path, open_journal):
    first = open_journal()
    first.commit(samples.started())
    first.close()
    path = newest(first)
    path.write_bytes(path.read_bytes() + lines.leaf_line(samples.started(), first.gateway_id, 2)[:-7])
    second = open_journal()
    assert second.commit(samples.started()).seq == 2
    assert seqs(tmp_path) == [1, 2]


def test_a_log_whose_end_cannot_be_told_is_left_alone(open_journal):
    first = open_journal()
    first.close()
    newest(first).write_bytes(b"\0" * 40)
    assert open_journal().gateway_id != first.gateway_id


def test_a_log_that_moved_on_between_look_and_lock_is_left_alone(tmp_path, open_journal, monkeypatch):
    first = open_journal()
    first.close()
    true_list = lines.journal_files
    calls = []

    def list_then_move_on(directory):
        calls.append(1)
        if len(calls) == 2:
            (directory / lines.journal_name(first.gateway_id, 2)).write_bytes(lines.header_line(1))
        return true_list(directory)

    monkeypatch.setattr(lines, "journal_files", list_then_move_on)
    assert open_journal().gateway_id != first.gateway_id


def test_a_full_file_is_followed_by_the_next(tmp_path, open_journal):
    journal = open_journal(rotate_bytes=3000)
    for _ in range(9):
        journal.commit(samples.request())
    files = lines.journal_files(tmp_path / "journal")
    assert len(files) >= 3
    firsts = [lines.parse_line(f.path.read_bytes().splitlines()[0])["first_seq"] for f in files]
    assert firsts == [1, *(lines.last_seq(f.path.read_bytes()) + 1 for f in files[:-1])]
    assert seqs(tmp_path) == list(range(1, 10))
    assert [locks.is_held(f.path) for f in files] == [False] * (len(files) - 1) + [True]


def test_an_old_file_is_followed_by_the_next_even_when_nothing_happens(tmp_path, open_journal):
    journal = open_journal(rotate_seconds=0.05)
    journal.commit(samples.started())
    until(lambda: len(lines.journal_files(tmp_path / "journal")) == 2)
    time.sleep(0.15)
    assert len(lines.journal_files(tmp_path / "journal")) == 2  # the new one is empty and may stay
    assert journal.commit(samples.started()).seq == 2


def test_the_numbers_go_on_after_a_foreign_file(tmp_path, open_journal):
    journal = open_journal(rotate_bytes=1)
    (tmp_path / "journal" / lines.journal_name(journal.gateway_id, 7)).write_bytes(lines.header_line(1))
    journal.commit(samples.started())
    journal.commit(samples.started())
    assert newest(journal).name.endswith("-00000008.jsonl")


@pytest.mark.parametrize("name", ["", "../x", "Gateway", "a b"])
def test_a_name_that_is_not_one_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a journal"):
        Journal(tmp_path, name)


def test_a_gateway_shows_that_it_is_there(tmp_path, open_journal):
    journal = open_journal()
    lock = locks.open_lock(tmp_path / locks.GATEWAYS)
    assert not locks.try_lock(lock, fcntl.LOCK_EX)
    journal.close()
    assert locks.try_lock(lock, fcntl.LOCK_EX)
    os.close(lock)


async def test_after_the_end_everything_is_refused(tmp_path, open_journal):
    journal = open_journal()
    put = journal.put(samples.request())
    journal.close()
    journal.close()
    assert (await put).seq == 1
    assert not journal.writable
    with pytest.raises(JournalUnwritable, match="closed"):
        await journal.append(samples.request())


# Faults ----------------------------------------------------------------------------------------------------------


def refuses(journal: Journal) -> str:
    with pytest.raises(JournalUnwritable) as caught:
        journal.commit(samples.request(user_agent="must not be kept"))
    return str(caught.value)


def recovered(journal: Journal) -> int:
    """Commits as soon as the journal can be written again: the seq that it got."""
    until(lambda: journal.writable)
    return journal.commit(samples.request(user_agent="kept")).seq


def health(directory: Path) -> list[dict]:
    return [event for event in stored(directory) if event["type"] == "health"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("write", errno.ENOSPC),
        ("write", errno.EIO),
        ("fdatasync", errno.EIO),
        ("fdatasync", errno.ENOSPC),
        ("write", errno.EROFS),
    ],
)
def test_a_fault_of_the_disk_refuses_and_leaves_nothing_behind(
    tmp_path, open_journal, monkeypatch, call, error
):
    journal = open_journal()
    journal.commit(samples.request())
    with failing(monkeypatch, call, error):
        message = refuses(journal)
        assert os.strerror(error).lower() in message
        assert "\n" not in message
        assert not journal.writable
        for _ in range(3):
            refuses(journal)
    assert recovered(journal) == 3
    kept = stored(tmp_path)
    assert [event["seq"] for event in kept] == [1, 2, 3]
    assert b"must not be kept" not in newest(journal).read_bytes()
    fault = kept[1]
    assert (fault["type"], fault["kind"], fault["count"]) == ("health", "journal_unwritable", 3)
    assert fault["detail"] == os.strerror(error).lower()
    assert fault["since"] <= fault["ts"]


def test_a_disk_that_was_full_must_have_room_again(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    journal.commit(samples.request())
    monkeypatch.setattr(module, "ROOM_BYTES", 1 << 80)
    with failing(monkeypatch, "write", errno.ENOSPC):
        refuses(journal)
    time.sleep(0.05)
    assert "no space left" in refuses(journal)
    monkeypatch.undo()
    assert recovered(journal) == 3


def test_a_file_that_cannot_be_cut_back_keeps_the_journal_shut(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    journal.commit(samples.request())
    with failing(monkeypatch, "ftruncate", errno.EIO):
        with failing(monkeypatch, "fdatasync", errno.EIO):
            refuses(journal)
        time.sleep(0.05)
        assert not journal.writable
    assert recovered(journal) == 3
    assert b"must not be kept" not in newest(journal).read_bytes()
    assert seqs(tmp_path) == [1, 2, 3]


def test_a_write_that_the_kernel_cuts_short_leaves_nothing_behind(tmp_path, open_journal):
    """The real thing: a file size limit takes some of the bytes and then refuses, as a full disk does."""
    journal = open_journal()
    journal.commit(samples.request())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = newest(journal).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        assert "too large" in refuses(journal)
        until(lambda: newest(journal).stat().st_size == size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert recovered(journal) == 3
    assert seqs(tmp_path) == [1, 2, 3]


async def test_all_of_a_group_are_told(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    with failing(monkeypatch, "fdatasync", errno.EIO):
        outcomes = await asyncio.gather(
            *(journal.append(e) for e in samples.exchanges(5)), return_exceptions=True
        )
    assert all(isinstance(outcome, JournalUnwritable) for outcome in outcomes)
    assert recovered(journal) == 2
    assert [event["type"] for event in stored(tmp_path)] == ["health", "request"]


@pytest.mark.parametrize("closing", [False, True])
async def test_what_was_put_behind_a_fault_fails_with_it(tmp_path, open_journal, monkeypatch, closing):
    journal = open_journal()
    in_sync, may_fail = threading.Event(), threading.Event()

    def sync(_descriptor):
        in_sync.set()
        may_fail.wait(10)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", sync)
        first = journal.put(samples.request())
        in_sync.wait(10)
        behind = [journal.put(samples.request()) for _ in range(3)]
        if closing:
            closer = threading.Thread(target=journal.close)
            closer.start()
            until(lambda: not journal.writable)
        may_fail.set()
        outcomes = await asyncio.gather(first, *behind, return_exceptions=True)
        assert all(isinstance(outcome, JournalUnwritable) for outcome in outcomes)
    if closing:
        closer.join()
        assert seqs(tmp_path) in ([], [1])
    else:
        assert recovered(journal) == 2
        assert seqs(tmp_path) == [1, 2]


def test_what_was_written_before_a_fault_is_not_written_again_after_it(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    digest, bodies = samples.body(b"body")
    with failing(monkeypatch, "fdatasync", errno.EIO), pytest.raises(JournalUnwritable):
        journal.commit(samples.request(), bodies)
    until(lambda: journal.writable)
    journal.commit(samples.request(body_sha256=digest), bodies)
    assert newest(journal).read_bytes().count(b'"text":"body"') == 1


def test_a_deleted_file_counts_as_unwritable_and_its_events_come_back(tmp_path, open_journal):
    journal = open_journal()
    digest, bodies = samples.body(b"body")
    journal.commit(samples.request(body_sha256=digest), bodies)
    newest(journal).unlink()
    refuses(journal)
    assert recovered(journal) == 3
    assert newest(journal).name.endswith("-00000001.jsonl")
    content = newest(journal).read_bytes()
    assert lines.parse_line(content.splitlines()[0])["first_seq"] == 1
    assert b'"text":"body"' in content
    assert b"must not be kept" not in content
    assert seqs(tmp_path) == [1, 2, 3]
    assert locks.is_held(newest(journal))


def test_a_replaced_file_is_put_aside(tmp_path, open_journal):
    journal = open_journal()
    journal.commit(samples.request())
    path = newest(journal)
    path.unlink()
    path.write_bytes(
        lines.header_line(1) + lines.leaf_line(samples.request(user_agent="forged"), journal.gateway_id, 1)
    )
    assert "replaced" in refuses(journal)
    assert recovered(journal) == 3
    assert seqs(tmp_path) == [1, 2, 3]
    assert not any(event.get("user_agent") == "forged" for event in stored(tmp_path))
    assert [p.read_bytes().count(b"forged") for p in (tmp_path / "journal").glob("*.foreign")] == [1]


def test_a_folder_that_is_away_refuses_until_it_is_back(tmp_path, open_journal):
    journal = open_journal()
    journal.commit(samples.request())
    (tmp_path / "journal").rename(tmp_path / "away")
    refuses(journal)
    time.sleep(0.05)
    assert not journal.writable
    (tmp_path / "away").rename(tmp_path / "journal")
    assert recovered(journal) == 3
    assert seqs(tmp_path) == [1, 2, 3]
    assert len(lines.journal_files(tmp_path / "journal")) == 1


def test_a_new_folder_gets_what_the_lost_one_held(tmp_path, open_journal):
    journal = open_journal()
    journal.commit(samples.request())
    shutil.rmtree(tmp_path / "journal")
    refuses(journal)
    (tmp_path / "journal").mkdir()
    assert recovered(journal) == 3
    assert seqs(tmp_path) == [1, 2, 3]


def test_a_folder_on_another_device_is_not_the_journals(tmp_path, open_journal):
    journal = open_journal()
    journal.commit(samples.request())
    journal._device += 1  # as when what was mounted there is gone
    newest(journal).unlink()
    refuses(journal)
    time.sleep(0.05)
    assert not journal.writable
    assert "another device" in refuses(journal)
    journal._device -= 1
    assert recovered(journal) == 3


def test_a_folder_that_takes_no_further_file_refuses(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    journal.commit(samples.request())
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert "read-only" in refuses(journal)
        time.sleep(0.05)
        assert not journal.writable
    assert recovered(journal) == 3


@pytest.mark.parametrize("call", ["link", "open", "fsync"])
def test_a_next_file_that_cannot_be_made_refuses(tmp_path, open_journal, monkeypatch, call):
    journal = open_journal(rotate_bytes=1)
    journal.commit(samples.request())
    with failing(monkeypatch, call, errno.ENOSPC):
        refuses(journal)
        refuses(journal)
    assert recovered(journal) > 1
    assert sorted(seqs(tmp_path)) == list(range(1, len(seqs(tmp_path)) + 1))
    assert not list((tmp_path / "journal").glob("*.new"))


def test_a_next_file_whose_name_may_be_lost_is_no_next_file(tmp_path, open_journal, monkeypatch):
    journal = open_journal(rotate_bytes=1)
    journal.commit(samples.request())

    def fail(_path):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(lines, "sync_directory", fail)
        refuses(journal)
        assert len(lines.journal_files(tmp_path / "journal")) == 1
    recovered(journal)
    assert seqs(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("left", [0, 30, 700])
def test_what_others_cut_away_is_a_gap_and_nothing_else(tmp_path, open_journal, left):
    journal = open_journal()
    for _ in range(3):
        journal.commit(samples.request())
    os.truncate(newest(journal), left)
    assert "changed by others" in refuses(journal)
    assert recovered(journal) == 5
    assert seqs(tmp_path) == [4, 5]
    assert b"must not be kept" not in b"".join(
        f.path.read_bytes() for f in lines.journal_files(tmp_path / "journal")
    )
    assert lines.parse_line(newest(journal).read_bytes().splitlines()[0])["first_seq"] == 4
    assert b"\0" not in newest(journal).read_bytes()


def test_what_others_append_is_noticed_and_cut_away(tmp_path, open_journal):
    journal = open_journal()
    journal.commit(samples.request())
    with newest(journal).open("ab") as file:
        file.write(lines.leaf_line(samples.request(user_agent="forged"), journal.gateway_id, 2))
    assert "changed by others" in refuses(journal)
    assert recovered(journal) == 3
    assert [event.get("user_agent") for event in stored(tmp_path)] == [None, None, "kept"]


def test_a_file_that_is_cut_while_it_is_rescued_keeps_the_journal_shut(tmp_path, open_journal, monkeypatch):
    journal = open_journal()
    journal.commit(samples.request())
    newest(journal).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: b"")
        refuses(journal)
        time.sleep(0.05)
        assert not journal.writable
        assert "was cut" in refuses(journal)
    assert recovered(journal) == 3
    assert seqs(tmp_path) == [1, 2, 3]


def test_a_file_that_vanished_is_noticed_before_the_next_begins(tmp_path, open_journal):
    journal = open_journal(rotate_seconds=0.05)
    journal.commit(samples.request())
    newest(journal).unlink()
    until(lambda: health(tmp_path))
    assert recovered(journal) == 3
    assert seqs(tmp_path) == [1, 2, 3]


def test_a_file_that_vanished_is_noticed_at_the_end(tmp_path, open_journal):
    journal = open_journal()
    journal.commit(samples.request())
    newest(journal).unlink()
    journal.close()
    assert [event["type"] for event in stored(tmp_path)] == ["request", "health"]


def test_a_disk_that_does_not_answer_makes_it_unwritable(tmp_path, open_journal, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.01)
    journal = open_journal()
    may_sync = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (may_sync.wait(10), sync(descriptor)))
    waiting = threading.Thread(target=journal.commit, args=[samples.request()])
    waiting.start()
    until(lambda: not journal.writable)
    may_sync.set()
    waiting.join()
    until(lambda: journal.writable)


async def test_callers_are_refused_before_memory_runs_out(tmp_path, open_journal, monkeypatch):
    journal = open_journal(pending_bytes=10_000)
    may_sync = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (may_sync.wait(10), sync(descriptor)))
    waiting = [journal.put(samples.request()) for _ in range(5)]
    with pytest.raises(JournalUnwritable, match="does not keep up"):
        journal.put(samples.request())
    may_sync.set()
    await asyncio.gather(*waiting)
    await journal.append(samples.request())
    assert len(stored(tmp_path)) == 6


async def test_one_event_that_is_larger_than_the_bound_still_passes(open_journal):
    journal = open_journal(pending_bytes=10)
    assert (await journal.append(samples.request())).seq == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_fault_of_the_writer_itself_leaves_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GROUP_EVENTS", 1)
    journal = Journal(tmp_path)
    may_fail = threading.Event()

    def fault(*_args):
        may_fail.wait(10)
        raise MemoryError

    monkeypatch.setattr(module._File, "commit", fault)
    waiting = [journal.put(samples.request()) for _ in range(3)]
    may_fail.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all("its writer has ended" in str(outcome) for outcome in outcomes)
    with pytest.raises(JournalUnwritable):
        await journal.append(samples.request())
    assert not journal.writable
    journal.close()


def test_a_directory_that_cannot_be_used_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnwritable) as caught:
        Journal(tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_journal_that_cannot_begin_lets_go_of_everything(tmp_path, monkeypatch):
    descriptors = len(os.listdir("/proc/self/fd"))
    with failing(monkeypatch, "link", errno.EROFS), pytest.raises(JournalUnwritable, match="read-only"):
        Journal(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert list((tmp_path / "journal").iterdir()) == []
    assert not locks.is_held(tmp_path / locks.GATEWAYS)
