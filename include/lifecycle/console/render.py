"""How the console writes counts, ages and instants."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_PERIOD = re.compile(r"^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?$")
_UNITS = ("year", "month", "day")


@cache
def environment() -> Environment:
    """Templates of this package, every value escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("lifecycle.console", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (number, instant, day, clock, iso, age, apart, period, took):
        found.filters[write.__name__] = write
    return found


def number(value: int | None) -> str:
    """Thousands apart by a narrow space; a dash for what is not counted."""
    return "–" if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def instant(moment: datetime | None) -> str:
    """To the minute, in UTC."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def day(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d}"


def clock(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%H:%M}"


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that tells enough."""
    if moment is None:
        return "–"
    seconds = (now - moment).total_seconds()
    if seconds < 0:
        return "in the future"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            few_days = unit == "d" and seconds < 10 * size
            return f"{seconds / size:.1f} {unit}" if few_days else f"{seconds // size:.0f} {unit}"
    return "just now"


def apart(moment: datetime, now: datetime) -> str:
    """How far away, in the largest unit that tells enough."""
    return age(min(moment, now), max(moment, now))


def took(started: datetime, finished: datetime | None) -> str:
    """How long something ran."""
    if finished is None:
        return "–"
    seconds = max(0.0, (finished - started).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def period(text: str | None) -> str:
    """An ISO 8601 period of whole years, months and days in words; any other as it is."""
    match = _PERIOD.match(text or "")
    if text is None or match is None:
        return text or "–"
    parts = [(int(n), unit) for n, unit in zip(match.groups(), _UNITS, strict=True) if n]
    return " ".join(f"{n} {unit}{'s' if n != 1 else ''}" for n, unit in parts) or "0 days"
