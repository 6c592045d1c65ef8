"""The pace of batches is a pure function of what was measured (hard case 19)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.planning.pacing import (
    CANARY_FLOOR,
    Aim,
    Budget,
    Limits,
    Reading,
    after_timeout,
    base_of,
    next_size,
    pressure,
    rest_after,
)

AIM = Aim(0.5)
LIMITS = Limits(replication_lag=30, wal_per_second=200_000_000, checkpoint_rest=5, canary_factor=5)
CALM = Reading(at=100, canary=0.001, replication_lag=0.1, wal=10**9, checkpoints=7)

sizes = st.integers(AIM.smallest, AIM.largest)
durations = st.floats(0, 3600, allow_nan=False)


@given(size=sizes, examined=st.integers(0, AIM.largest), seconds=durations)
def test_a_batch_stays_within_its_bounds_and_changes_by_steps(size: int, examined: int, seconds: float) -> None:
    after = next_size(AIM, size, min(examined, size), seconds)
    assert AIM.smallest <= after <= AIM.largest
    assert size // 4 <= after <= size * 2


@given(size=sizes, fast=durations, slow=durations)
def test_a_slower_batch_is_never_followed_by_a_larger_one(size: int, fast: float, slow: float) -> None:
    fast, slow = sorted((fast, slow))
    assert next_size(AIM, size, size, slow) <= next_size(AIM, size, size, fast)


@given(cost=st.floats(1e-5, 0.4), fixed=st.floats(0, 0.1), size=sizes)
def test_whatever_a_row_costs_the_batch_soon_takes_about_as_long_as_it_should(
    cost: float, fixed: float, size: int
) -> None:
    """From the smallest to the largest are sixteen doublings."""
    for _ in range(40):
        size = next_size(AIM, size, size, fixed + cost * size)
    taken = fixed + cost * size
    assert taken <= AIM.seconds * 1.05 or size == AIM.smallest
    assert taken + cost >= AIM.seconds * 0.5 or size == AIM.largest


@given(size=sizes)
def test_a_timeout_shrinks_the_batch_until_there_is_no_smaller_one(size: int) -> None:
    tries = 0
    current: int | None = size
    while current is not None:
        smaller = after_timeout(AIM, current)
        assert smaller is None or AIM.smallest <= smaller < current
        current, tries = smaller, tries + 1
    assert tries <= 10


@given(elapsed=st.floats(0, 100), gone=st.integers(0, 2000))
def test_a_budget_is_spent_by_time_or_by_rows_and_never_exceeded(elapsed: float, gone: int) -> None:
    allowed = Budget(seconds=50, rows=1000).allows(elapsed, gone)
    assert allowed == 0 if elapsed >= 50 or gone >= 1000 else 0 < allowed <= 1000 - gone


LATER = replace(CALM, at=102, wal=10**9 + 100_000_000)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (LATER, None),
        (replace(LATER, replication_lag=30.0), None),
        (replace(LATER, replication_lag=30.1), "replication lag"),
        (replace(LATER, wal=10**9 + 400_000_000), None),
        (replace(LATER, wal=10**9 + 400_000_001), "write-ahead log"),
        (replace(LATER, at=100.5, wal=10**9 + 400_000_001), None),
        (replace(LATER, checkpoints=8), "checkpoints"),
        (replace(LATER, canary=CANARY_FLOOR), None),
        (replace(LATER, canary=0.021), "canary"),
        (replace(LATER, replication_lag=None, wal=None, checkpoints=None), None),
    ],
)
def test_what_makes_us_wait(now: Reading, reason: str | None) -> None:
    """Exactly at a limit is not over it; what is not to be seen with our privileges says nothing."""
    found = pressure(LIMITS, 0.001, CALM, now)
    assert (found is None) if reason is None else (found is not None and reason in str(found))


def test_the_canary_is_judged_against_its_own_baseline() -> None:
    slow_anyway = replace(LATER, canary=0.4)
    assert pressure(LIMITS, 0.1, CALM, slow_anyway) is None
    assert pressure(LIMITS, 0.01, CALM, slow_anyway) is not None


@given(written=st.integers(0, 10**12), span=st.floats(1, 60))
def test_after_the_wait_the_log_is_back_at_its_limit(written: int, span: float) -> None:
    found = pressure(LIMITS, 1, CALM, replace(CALM, at=CALM.at + span, wal=10**9 + written))
    seconds = found.seconds if found else 0.0
    assert written <= LIMITS.wal_per_second * (span + seconds) * (1 + 1e-9)


def test_the_longest_wait_decides() -> None:
    both = replace(LATER, checkpoints=8, canary=9.0)
    found = pressure(LIMITS, 0.001, CALM, both)
    assert found is not None and found.seconds == LIMITS.checkpoint_rest


def test_rates_are_counted_over_at_least_a_second() -> None:
    assert base_of(CALM, replace(CALM, at=100.5)) is CALM
    assert base_of(CALM, LATER) is LATER


@given(locked=st.floats(0, 10), share=st.floats(0.0001, 1))
def test_the_share_of_the_time_that_a_table_is_locked_is_kept_to(locked: float, share: float) -> None:
    """Locked for 20 ms, left alone for 2 s: one part in a hundred."""
    rest = rest_after(locked, share, float("inf"))
    assert rest >= 0
    assert locked <= share * (locked + rest) * (1 + 1e-9)
    assert rest_after(locked, share, 1.0) == min(rest, 1.0)
