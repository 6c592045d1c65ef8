"""Which clocks are due by a rule, as intervals: a calendar period has no single cut-off near the end of a month. Pure.

One month from 28 January 13:00 ends after one month from 31 January 00:00. Within one UTC day ends keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dateutil.relativedelta import relativedelta

from lifecycle.policy.decide import horizon
from lifecycle.policy.models import Policy, Rule

BEGINNING = datetime.min.replace(tzinfo=UTC)
_DAY = timedelta(days=1)
# A month's end moves a clock by at most three days, and rounding up by one more.
_WINDOW = 5


@dataclass(frozen=True)
class Interval:
    """Clocks from ``low`` up to, and without, ``high``."""

    low: datetime
    high: datetime


def due_clocks(rule: Rule, policy: Policy, as_of: datetime) -> tuple[Interval, ...]:
    """Every clock that is due by a rule with a period at ``as_of``, in order."""
    if rule.period is None:
        raise ValueError(f"rule {rule.id} has no period of its own")
    limit = as_of if rule.round_up else horizon(policy, as_of)
    about = limit - timedelta(days=rule.period.days, seconds=rule.period.seconds)
    middle = _midnight(about - relativedelta(months=rule.period.months))
    first = middle - _DAY * _WINDOW
    found = [Interval(BEGINNING, first)]
    for n in range(2 * _WINDOW + 1):
        day = first + _DAY * n
        end = rule.end(day)
        assert end is not None
        high = min(day + _DAY, day + (limit - end))
        if high > day:
            found.append(Interval(day, high))
    return tuple(_joined(Interval(each.low, min(each.high, as_of)) for each in found))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _joined(intervals: Iterator[Interval]) -> Iterator[Interval]:
    current: Interval | None = None
    for each in intervals:
        if each.high <= each.low:
            continue
        if current is not None and each.low <= current.high:
            current = Interval(current.low, max(current.high, each.high))
        else:
            if current is not None:
                yield current
            current = each
    if current is not None:
        yield current


def in_both(one: Sequence[Interval], other: Sequence[Interval]) -> tuple[Interval, ...]:
    """Clocks in both."""
    found = (Interval(max(a.low, b.low), min(a.high, b.high)) for a in one for b in other)
    return tuple(sorted((each for each in found if each.low < each.high), key=lambda each: each.low))


def outside(one: Sequence[Interval], other: Sequence[Interval]) -> tuple[Interval, ...]:
    """Clocks in the first that are not in the second."""
    left = list(one)
    for gone in other:
        left = [
            part
            for each in left
            for part in (
                Interval(each.low, min(each.high, gone.low)),
                Interval(max(each.low, gone.high), each.high),
            )
            if part.low < part.high
        ]
    return tuple(left)
