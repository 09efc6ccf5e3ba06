"""Rate limits by address."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.console import limits
from interlock.console.limits import Rate


def test_a_minutes_worth_may_come_at_once_and_then_it_refills() -> None:
    rate = Rate(60)
    for _ in range(60):
        assert rate.wait("10.0.0.1", 0.0) == 0
        rate.count("10.0.0.1", 0.0)
    assert rate.wait("10.0.0.1", 0.0) == 1
    assert rate.wait("10.0.0.1", 0.5) == 1
    assert rate.wait("10.0.0.1", 1.0) == 0
    rate.count("10.0.0.1", 1.0)
    assert rate.wait("10.0.0.1", 1.0) == 1
    assert rate.wait("10.0.0.1", 100.0) == 0


def test_the_wait_is_told_in_whole_seconds() -> None:
    rate = Rate(6)
    for _ in range(6):
        rate.count("a", 0.0)
    assert rate.wait("a", 0.0) == 10
    assert rate.wait("a", 9.5) == 1


def test_counting_more_than_there_is_makes_no_debt() -> None:
    rate = Rate(60)
    for _ in range(1000):
        rate.count("a", 0.0)
    assert rate.wait("a", 1.0) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rate = Rate(1)
    rate.count("a", 100.0)
    assert rate.wait("a", 0.0) == 60


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fd00::1", "fd00::ffff", True),
        ("fd00::1", "fd00:0:0:1::1", False),
        ("", "", True),
        ("unix", "other", False),
    ],
)
def test_whose_address_it_is(one: str, other: str, same: bool) -> None:
    rate = Rate(1)
    rate.count(one, 0.0)
    assert (rate.wait(other, 0.0) > 0) is same


def test_there_is_a_bound_on_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ADDRESSES", 3)
    rate = Rate(1)
    for n in range(5):
        rate.count(f"10.0.0.{n}", 0.0)
    rate.count("10.0.0.3", 0.0)
    assert len(rate._buckets) == 3
    assert [rate.wait(f"10.0.0.{n}", 0.0) for n in range(5)] == [0, 0, 60, 60, 60]


@settings(derandomize=True)
@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 30))
def test_in_no_time_pass_more_than_the_burst_and_the_refill(pauses: list[float], per_minute: int) -> None:
    rate, now, passed = Rate(per_minute), 0.0, 0
    for pause in pauses:
        now += pause
        if rate.wait("a", now) == 0:
            rate.count("a", now)
            passed += 1
    assert passed <= per_minute + now * per_minute / 60 + 1
