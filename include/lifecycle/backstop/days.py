"""How S3 counts days, and how many of them never fall short of a period. Pure.

S3 adds whole days to the instant at which a version was written (or became noncurrent, or an upload began) and rounds
up to the next midnight UTC; it acts some time after. So with at least the period's days nothing goes before the period,
counted from a record's own clock, has ended: an object is never older than the record that it belongs to.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from lifecycle.policy.periods import Period

_DAY = timedelta(days=1)
# One leap cycle of start days; years without a leap day, as 2100, only make spans shorter.
_FIRST, _STARTS = datetime(2000, 1, 1, tzinfo=UTC), 4 * 365 + 1


@cache
def whole_days(period: Period) -> int:
    """The fewest whole days that are never shorter than a period, whichever day it starts on and however it rounds."""
    months = Period(months=period.months)
    spans = (months.end(start, round_up=True) - start for start in (_FIRST + _DAY * n for n in range(_STARTS)))
    longest = max(spans) if period.months else timedelta(0)
    exact = longest + timedelta(days=period.days, seconds=period.seconds)
    # S3 knows no rule of less than a day.
    return max(1, -(-exact // _DAY))


def strikes(since: datetime, days: int) -> datetime:
    """The earliest instant at which S3 acts on a rule of so many days."""
    due = since.astimezone(UTC) + timedelta(days=days)
    midnight = due.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight == due else midnight + _DAY
