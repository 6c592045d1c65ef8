"""Calendar periods (hard case 11): rounding, leap days, bounds, and text."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.policy.periods import Period

# Two cores are shared: how long one example takes says nothing.
unhurried = settings(deadline=None)
MICROSECOND = timedelta(microseconds=1)
_SPAN = timedelta(days=71 * 365)
instants = st.timedeltas(timedelta(0), _SPAN).map(lambda offset: datetime(1990, 1, 1, tzinfo=UTC) + offset)
periods = st.builds(
    Period,
    months=st.integers(0, 240),
    days=st.integers(0, 4000),
    seconds=st.integers(0, 86_399),
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "period", "down", "up"),
    [
        ("2024-02-29", "P2Y", "2026-02-28", "2026-03-01"),
        ("2024-02-29", "P4Y", "2028-02-29", "2028-02-29"),
        ("2024-02-29T13:30:00.000001", "P1Y", "2025-02-28T13:30:00.000001", "2025-03-01T13:30:00.000001"),
        ("2096-02-29", "P4Y", "2100-02-28", "2100-03-01"),
        ("2025-01-31", "P1M", "2025-02-28", "2025-03-01"),
        ("2024-01-30", "P1M", "2024-02-29", "2024-03-01"),
        ("2025-08-31", "P1M", "2025-09-30", "2025-10-01"),
        ("2024-02-29", "P1Y1D", "2025-03-01", "2025-03-02"),
        ("2025-03-01", "P28D", "2025-03-29", "2025-03-29"),
        ("2025-12-31T23:59:59", "PT1S", "2026-01-01", "2026-01-01"),
        ("2019-06-15", "P7Y", "2026-06-15", "2026-06-15"),
    ],
)
def test_case_11_a_maximum_rounds_down_and_a_minimum_rounds_up(start: str, period: str, down: str, up: str) -> None:
    parsed = Period.parse(period)
    assert parsed.end(utc(start), round_up=False) == utc(down)
    assert parsed.end(utc(start), round_up=True) == utc(up)


@unhurried
@given(start=instants, period=periods)
def test_rounding_up_is_never_earlier_and_differs_by_at_most_one_day(start: datetime, period: Period) -> None:
    down, up = period.end(start, round_up=False), period.end(start, round_up=True)
    assert up - down in (timedelta(0), timedelta(days=1))


@unhurried
@given(start=instants, period=periods, round_up=st.booleans())
def test_an_end_lies_between_the_shortest_and_the_longest_length(
    start: datetime, period: Period, round_up: bool
) -> None:
    length = period.end(start, round_up=round_up) - start
    assert period.shortest() <= length <= period.longest()


@unhurried
@given(start=instants, later=st.timedeltas(timedelta(0), timedelta(days=70)), period=periods, round_up=st.booleans())
def test_what_arrives_later_never_ends_by_a_day_or_more_earlier(
    start: datetime, later: timedelta, period: Period, round_up: bool
) -> None:
    """Ends are monotonic by day; within the last days of a short month the time of day may decide."""
    earlier, after = period.end(start, round_up=round_up), period.end(start + later, round_up=round_up)
    assert after.date() >= earlier.date()
    if period.months == 0:
        assert after - earlier == later


@unhurried
@given(start=instants, period=periods, round_up=st.booleans(), offset=st.integers(-1, 1))
def test_the_bound_of_an_index_scan_never_cuts_off_what_has_ended(
    start: datetime, period: Period, round_up: bool, offset: int
) -> None:
    """`cutoff_bound` bounds: whatever clock has its period ended by an instant lies at or before the bound."""
    end = period.end(start, round_up=round_up)
    at = end + offset * MICROSECOND
    if end <= at:
        assert start <= period.cutoff_bound(at)


@pytest.mark.parametrize(
    ("period", "at", "bound"),
    [
        ("P5D", "2026-03-10T12:00:00", "2026-03-05T12:00:00"),
        ("PT90S", "2026-03-10", "2026-03-09T23:58:30"),
        ("P1M", "2025-02-28", "2025-02-01"),
        ("P1Y1DT1S", "2026-03-10", "2025-03-12T23:59:59"),
    ],
)
def test_the_bound_has_slack_only_where_a_month_may_lack_a_day(period: str, at: str, bound: str) -> None:
    """31 January and a month end on 28 February: a scan up to there must not stop on 28 January."""
    assert Period.parse(period).cutoff_bound(utc(at)) == utc(bound)


def test_lengths_are_bounded_by_months_of_28_to_31_days_and_years_of_365() -> None:
    period = Period(months=14, days=3, seconds=5)
    assert period.longest() == timedelta(days=14 * 31 + 3, seconds=5)
    assert period.shortest() == timedelta(days=365 + 2 * 28 + 3, seconds=5)


def test_a_sum_carries_seconds_into_days() -> None:
    assert Period(1, 2, 50_000) + Period(3, 4, 50_000) == Period(4, 7, 13_600)
    assert Period(0, 0, 43_200) + Period(0, 0, 43_200) == Period(0, 1, 0)
    assert Period(0, 0, 43_199) + Period(0, 0, 43_200) == Period(0, 0, 86_399)


@pytest.mark.parametrize(
    ("period", "text"),
    [
        (Period(months=25, days=3, seconds=3_661), "P2Y1M3DT1H1M1S"),
        (Period(months=12), "P1Y"),
        (Period(months=11), "P11M"),
        (Period(seconds=60), "PT1M"),
        (Period(seconds=3_600), "PT1H"),
        (Period(days=1), "P1D"),
        (Period(), "P0D"),
    ],
)
def test_writes_iso_8601(period: Period, text: str) -> None:
    assert str(period) == text


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("P200Y", True),
        ("P200YT1S", False),
        ("P2400M", True),
        ("P2401M", False),
        ("P73000D", True),
        ("P73001D", False),
        ("P201Y", False),
    ],
)
def test_two_hundred_years_are_the_limit(text: str, taken: bool) -> None:
    if taken:
        assert Period.parse(text) != Period()
    else:
        with pytest.raises(ValueError, match="longer than 200 years"):
            Period.parse(text)


def test_a_period_cannot_be_changed_and_has_no_order() -> None:
    """Which of a month and thirty days is longer depends on the month."""
    with pytest.raises(FrozenInstanceError):
        Period(days=1).days = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        assert Period(days=1) < Period(days=2)  # type: ignore[operator]


@unhurried
@given(at=instants, period=periods)
def test_the_bound_is_within_a_few_days_of_what_it_bounds(at: datetime, period: Period) -> None:
    bound = period.cutoff_bound(at)
    assert period.end(bound, round_up=True) - at <= timedelta(days=9)


@unhurried
@given(period=periods)
def test_text_and_back(period: Period) -> None:
    assert Period.parse(str(period)) == period


@unhurried
@given(left=periods, right=periods)
def test_a_sum_is_as_long_as_its_parts(left: Period, right: Period) -> None:
    total = left + right
    assert (total.months, total.seconds < 86_400) == (left.months + right.months, True)
    assert total.longest() == left.longest() + right.longest()
    assert total == right + left


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("P28D", Period(days=28)),
        ("P2Y", Period(months=24)),
        ("P1Y6M", Period(months=18)),
        ("P2W", Period(days=14)),
        ("P2W3D", Period(days=17)),
        ("PT4H", Period(seconds=14_400)),
        ("PT90M", Period(seconds=5_400)),
        ("P1DT12H", Period(days=1, seconds=43_200)),
        ("P0D", Period()),
        ("PT0S", Period()),
    ],
)
def test_reads_iso_8601(text: str, period: Period) -> None:
    assert Period.parse(text) == period


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "3", "28D", "P28", "p28d", "P-1D", "-P1D", "+P1D", "P1.5D", "P1D2Y", "P1DT", "28 days", "P 1D"],
)
def test_refuses_what_is_no_duration_of_this_project(text: str) -> None:
    with pytest.raises(ValueError, match=r"P28D|200 years"):
        Period.parse(text)


@pytest.mark.parametrize("text", ["P1D\n", "P٣D", "P1H", "PT1D", "P1000000D", "P201Y", "P9999Y"])
def test_refuses_what_looks_like_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"P28D|200 years"):
        Period.parse(text)
