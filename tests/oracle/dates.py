"""The oracle's own calendar, written from RULES.md ("Two kinds of period"); it shares nothing with lifecycle.policy."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

from .facts import Retain

# The cut-off of a maximum runs ahead of its deadline by the lead of the shipped policy (1 day between runs, 12 hours of
# run, 1 failed day, 12 hours until the store has really forgotten).
LEAD = timedelta(days=3)
TICK = timedelta(microseconds=1)


def utc(
    year: int,
    month: int,
    day: int,
    hour: int = 0,
    minute: int = 0,
    second: int = 0,
    micro: int = 0,
) -> datetime:
    return datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)


def add_months(start: datetime, months: int, *, up: bool) -> datetime:
    """The same day some months on; a month without that day gives its last day (down) or the first of the next (up)."""
    year, month0 = divmod(start.year * 12 + start.month - 1 + months, 12)
    last = calendar.monthrange(year, month0 + 1)[1]
    if start.day <= last:
        return start.replace(year=year, month=month0 + 1)
    clamped = start.replace(year=year, month=month0 + 1, day=last)
    return clamped + timedelta(days=1) if up else clamped


def years_later(start: datetime, years: int, *, up: bool) -> datetime:
    return add_months(start, years * 12, up=up)


def agreed_end(start: datetime, retain: Retain) -> datetime:
    """The end of an agreed maximum: months first, rounded down, then days."""
    return add_months(start, retain.months, up=False) + timedelta(days=retain.days)


def minimum_over(end: datetime, as_of: datetime) -> bool:
    """A minimum, and a period that is both, is over only once its end has passed."""
    return end < as_of


def default_boundary(as_of: datetime, days: int) -> datetime:
    """The receipt instant at which a maximum of so many days is exactly not yet due."""
    return as_of + LEAD - timedelta(days=days)


def months_before(at: datetime, months: int) -> datetime:
    """A start whose period of so many months, rounded down, ends at ``at``, or as close before as the calendar has."""
    year, month0 = divmod(at.year * 12 + at.month - 1 - months, 12)
    last = calendar.monthrange(year, month0 + 1)[1]
    return at.replace(year=year, month=month0 + 1, day=min(at.day, last))
