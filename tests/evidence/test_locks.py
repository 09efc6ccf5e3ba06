import fcntl
import os
import threading

from interlock.evidence import locks


def test_a_lock_is_held_until_its_holder_lets_go(tmp_path):
    path = tmp_path / "a.lock"
    assert not locks.is_held(path)
    holder = locks.open_lock(path)
    assert not locks.is_held(path)
    assert locks.try_lock(holder, fcntl.LOCK_EX)
    assert locks.is_held(path)
    other = locks.open_lock(path)
    assert not locks.try_lock(other, fcntl.LOCK_SH)
    os.close(holder)
    assert not locks.is_held(path)
    assert locks.try_lock(other, fcntl.LOCK_SH)
    os.close(other)


def test_sharing_is_not_holding(tmp_path):
    one, two = locks.open_lock(tmp_path / "a.lock"), locks.open_lock(tmp_path / "a.lock")
    assert locks.try_lock(one, fcntl.LOCK_SH)
    assert locks.try_lock(two, fcntl.LOCK_SH)
    assert not locks.is_held(tmp_path / "a.lock")
    assert not locks.try_lock(two, fcntl.LOCK_EX)
    os.close(one)
    assert locks.try_lock(two, fcntl.LOCK_EX)
    os.close(two)


def test_patience_outlasts_one_who_only_looks(tmp_path):
    looking, wanting = locks.open_lock(tmp_path / "a.lock"), locks.open_lock(tmp_path / "a.lock")
    assert locks.try_lock(looking, fcntl.LOCK_SH)
    threading.Timer(0.02, os.close, [looking]).start()
    assert locks.try_lock(wanting, fcntl.LOCK_EX, patience=10)
    os.close(wanting)
