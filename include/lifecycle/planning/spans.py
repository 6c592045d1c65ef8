"""What a partition is called in a unit's name: by the span of time that it covers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

DEFAULT, WHOLE = "default", "all"
_DAY = timedelta(days=1)


def start_of(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def next_month(instant: datetime) -> datetime:
    """The first instant of the month after."""
    year, month = divmod(instant.year * 12 + instant.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


def next_year(instant: datetime) -> datetime:
    return datetime(instant.year + 1, 1, 1, tzinfo=UTC)


def free_spans(
    lower: datetime, upper: datetime, taken: Iterable[tuple[datetime | None, datetime | None]]
) -> list[tuple[datetime, datetime]]:
    """What of a span no other span covers, in order. None is no end. The spans do not overlap each other."""
    free, start = [], lower
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for begins, ends in sorted((begin or first, end or last) for begin, end in taken):
        if ends <= start:
            continue
        if begins >= upper:
            break
        if begins > start:
            free.append((start, begins))
        start = max(start, ends)
    if start < upper:
        free.append((start, upper))
    return free


def span_label(lower: datetime | None, upper: datetime | None, *, default: bool = False) -> str:
    """The last part of a unit's name; different for every leaf of a tier, whose spans do not overlap.

    ``2026-08-01`` (a UTC day), ``2026-08``, ``2026``, any other span as ``<from>..<to>``, ``default`` for a default
    partition, and ``<span>-default`` for one below a partition that has a span itself; ``all`` for a leaf without.
    """
    if lower is None and upper is None:
        return DEFAULT if default else WHOLE
    label = _calendar(lower, upper) or f"{_instant(lower)}..{_instant(upper)}"
    return f"{label}-{DEFAULT}" if default else label


def span_of(label: str) -> tuple[datetime, datetime] | None:
    """The span that a label names; None for a default partition and for a span without an end."""
    try:
        if ".." in label:
            first, last = (datetime.fromisoformat(end) for end in label.split(".."))
            return first.replace(tzinfo=UTC), last.replace(tzinfo=UTC)
        if len(label) == len("2026-08-01"):
            lower = start_of(date.fromisoformat(label))
            return lower, lower + _DAY
        if len(label) == len("2026-08"):
            lower = start_of(date.fromisoformat(f"{label}-01"))
            return lower, next_month(lower)
        lower = start_of(date.fromisoformat(f"{label}-01-01"))
    except ValueError:
        return None
    return lower, next_year(lower)


def _calendar(lower: datetime | None, upper: datetime | None) -> str | None:
    """The name of the UTC day, month or year that a span is, if it is one."""
    if lower is None or upper is None or lower != start_of(lower.date()):
        return None
    if upper == lower + _DAY:
        return lower.date().isoformat()
    if lower.day == 1 and upper == next_month(lower):
        return f"{lower:%Y-%m}"
    if lower.day == lower.month == 1 and upper == next_year(lower):
        return f"{lower:%Y}"
    return None


def _instant(bound: datetime | None) -> str:
    if bound is None:
        return ""
    if bound == start_of(bound.date()):
        return bound.date().isoformat()
    return bound.isoformat().replace("+00:00", "Z")
