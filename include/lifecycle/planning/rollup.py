"""How many partitions a tier needs once only survivors are left in the old ones. Pure.

A tier's past would otherwise be one partition a day for as long as its longest-lived survivor. Past days become months
and past months years, so that ten years of daily operation leave some 150 partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lifecycle.planning.spans import next_month, next_year

Bounds = tuple[datetime | None, datetime | None]
# One transaction locks all parts with their indexes; a year that still has its days is merged by months first.
MOST_PARTS = 40


@dataclass(frozen=True)
class Merge:
    """Partitions, by their place in what was given, that become one of a whole month or year."""

    lower: datetime
    upper: datetime
    parts: tuple[int, ...]


def months_to_merge(spans: Sequence[Bounds], before: datetime) -> list[Merge]:
    """Whole months that ended by ``before`` and are divided into several partitions."""
    return _merges(spans, before, lambda at: datetime(at.year, at.month, 1, tzinfo=UTC), next_month)


def years_to_merge(spans: Sequence[Bounds], before: datetime) -> list[Merge]:
    """The same of years."""
    return _merges(spans, before, lambda at: datetime(at.year, 1, 1, tzinfo=UTC), next_year)


def _merges(
    spans: Sequence[Bounds],
    before: datetime,
    start_of: Callable[[datetime], datetime],
    end_of: Callable[[datetime], datetime],
) -> list[Merge]:
    inside: dict[datetime, list[int]] = {}
    for place, (lower, upper) in enumerate(spans):
        if lower is not None and upper is not None and upper <= end_of(start_of(lower)):
            inside.setdefault(start_of(lower), []).append(place)
    found = []
    for start, parts in sorted(inside.items()):
        end = end_of(start)
        within = set(parts)
        others = (spans[place] for place in range(len(spans)) if place not in within)
        if end <= before and 2 <= len(parts) <= MOST_PARTS and not _any_overlaps(others, start, end):
            found.append(Merge(start, end, tuple(parts)))
    return found


def _any_overlaps(spans: Iterable[Bounds], start: datetime, end: datetime) -> bool:
    """A partition that crosses an end of the month stays, and so does the month."""
    return any((lower is None or lower < end) and (upper is None or upper > start) for lower, upper in spans)
