"""Ends of partitions: what the catalogue writes for them, and the instants of the rows between them.

An end has a *mark*, an aware datetime: the instant at which the clock has its value. Of wall-clock time it is the wall
clock's own reading, written as if in UTC, since that is the line in which such partitions lie side by side: local days
have no gaps there, and none is of 23 or 25 hours. Spans, names and calendars of partitions go by marks; whoever
compares with a cut-off takes the instants.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, TimestampClock, UlidClock, Uuid7Clock, column_of, is_id
from lifecycle.stores.postgres.clocks import FIXED_ZONES, ClockSql
from lifecycle.stores.postgres.connect import Connection

Mark = datetime
Ends = tuple[Mark | None, Mark | None]
_ENDLESS = ("MINVALUE", "MAXVALUE", "'-infinity'", "'infinity'")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_EPOCH = datetime(2200, 1, 1, tzinfo=UTC)
_SECONDS_TO_LAST_EPOCH = int(_LAST_EPOCH.timestamp())
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_LETTERS = 10
_ULID = re.compile(f"[0-7][{_LETTERS}]{{0,25}}")
# What follows the milliseconds of the first identifier of version 7 of a millisecond, and of the first of all.
_FIRST_OF_SEVEN, _FIRST = "70008000000000000000", "0" * 20
_MICROSECOND, _MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)
# No zone is further from UTC than 14 hours, and none has ever moved its clocks by more than a day at once.
_APART = timedelta(days=2)
# Around a change of clocks the reading of wall-clock time does not grow with it: a time that never was is read as a
# later one. So the instants of the rows before an end are bounded by both offsets that hold within a day of it.
_INSTANTS = sql.SQL(
    "SELECT k.m, least(k.i, (k.m - a.off) AT TIME ZONE 'UTC'), greatest(k.i, (k.m - b.off) AT TIME ZONE 'UTC')"
    " FROM (SELECT u.m, u.m AT TIME ZONE %(zone)s AS i FROM unnest(%(marks)s::timestamp[]) u(m)) k,"
    " LATERAL (SELECT (k.i + interval '26 hours') AT TIME ZONE %(zone)s"
    " - (k.i + interval '26 hours') AT TIME ZONE 'UTC' AS off) a,"
    " LATERAL (SELECT (k.i - interval '26 hours') AT TIME ZONE %(zone)s"
    " - (k.i - interval '26 hours') AT TIME ZONE 'UTC' AS off) b"
)


@dataclass(frozen=True)
class Bounds:
    """How the ends of RANGE partitions by one kind of clock are read and written."""

    clock: Clock

    def read(self, text: str, *, upper: bool) -> Mark | None:
        """The mark of an end as ``pg_get_expr`` writes it; None where there is no end.

        An identifier that is not the first of its millisecond is read outwards: no row lies outside the marks.

        Raises:
            ValueError: it stands for no time.
        """
        if text in _ENDLESS:
            return None
        value = text.removeprefix("'").removesuffix("'")
        match self.clock:
            case EpochClock(unit=unit):
                return _of_number(int(value), unit.per_second, upper=upper)
            case UlidClock():
                return _of_ulid(value, upper=upper)
            case Uuid7Clock():
                return _of_uuid(UUID(value).hex, upper=upper)
            case _:
                found = datetime.fromisoformat(value)
                return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    def write(self, mark: Mark) -> sql.Composable:
        """The first value of the column that belongs to a mark."""
        match self.clock:
            case TimestampClock():
                return sql.Literal(mark.replace(tzinfo=None))
            case EpochClock(unit=unit):
                return sql.Literal(-(-((mark - _EPOCH) // _MICROSECOND) * unit.per_second // 1_000_000))
            case UlidClock():
                since = -(-(mark - _EPOCH) // _MILLISECOND)
                letters = (_LETTERS[since >> 5 * place & 31] for place in reversed(range(_TIME_LETTERS)))
                return sql.Literal("".join(letters))
            case Uuid7Clock():
                return sql.Literal(UUID(f"{-(-(mark - _EPOCH) // _MILLISECOND):012x}{_FIRST}"))
            case _:
                return sql.Literal(mark)

    def inside(self, lower: Mark | None, upper: Mark | None, alias: str = "m") -> sql.Composable:
        """Which rows lie between two ends. The column stays bare, so that PostgreSQL leaves other partitions out."""
        column = sql.Identifier(alias, column_of(self.clock))
        parts = []
        if lower is not None:
            parts.append(sql.SQL("{} >= {}").format(column, self.write(lower)))
        if upper is not None:
            parts.append(sql.SQL("{} < {}").format(column, self.write(upper)))
        return sql.SQL("({})").format(sql.SQL(" AND ").join(parts)) if parts else sql.SQL("true")

    def outside(self, lower: Mark, upper: Mark, alias: str = "m") -> sql.Composable:
        """The opposite of `inside`."""
        return sql.SQL("({} OR {})").format(self.inside(None, lower, alias), self.inside(upper, None, alias))

    @property
    def is_local(self) -> bool:
        """Whether marks are no instants."""
        return isinstance(self.clock, TimestampClock) and self.clock.zone not in FIXED_ZONES

    @property
    def tells_all(self) -> bool:
        """Whether no value between two ends is without a time. Not so of identifiers: one of another version, or what
        is no identifier at all, may lie between two that tell the time."""
        return not is_id(self.clock)

    def day(self, alias: str = "m") -> sql.Composable:
        """The day of a row, as partitions have it; null where it has no time."""
        if isinstance(self.clock, TimestampClock):
            return sql.SQL("{}::date").format(sql.Identifier(alias, self.clock.column))
        return sql.SQL("({} AT TIME ZONE 'UTC')::date").format(ClockSql.of(self.clock, alias).instant)

    def today(self, as_of: datetime) -> date:
        """The day on which an instant falls, as partitions have it."""
        at = as_of.astimezone(ZoneInfo(self.clock.zone)) if isinstance(self.clock, TimestampClock) else as_of
        return at.date()

    def settled(self, instant: datetime) -> Mark:
        """A mark before which no row is of an instant or later."""
        return instant - _APART if self.is_local else instant

    def around(self, lower: datetime, upper: datetime) -> tuple[Mark, Mark]:
        """Marks between which all rows lie that are of a span of instants."""
        return (lower - _APART, upper + _APART) if self.is_local else (lower, upper)

    def instants(self, conn: Connection, marks: Iterable[Mark]) -> Mapping[Mark, tuple[datetime, datetime]] | None:
        """For each mark two instants: none of a row at or past it is earlier than the one, none of a row before it is
        later than the other. By PostgreSQL's own rules of zones. None where marks are instants themselves."""
        if not self.is_local or not isinstance(self.clock, TimestampClock):
            return None
        params = {"zone": self.clock.zone, "marks": [mark.replace(tzinfo=None) for mark in set(marks)]}
        rows = conn.execute(_INSTANTS, params).fetchall()
        return {mark.replace(tzinfo=UTC): (earliest, latest) for mark, earliest, latest in rows}


def _of_number(number: int, per_second: int, *, upper: bool) -> Mark | None:
    """Numbers that are no time, from 0 downwards and past the year 2199, lie beyond every end."""
    if number <= 0:
        return _EPOCH if upper else None
    if number >= _SECONDS_TO_LAST_EPOCH * per_second:
        return None if upper else _LAST_EPOCH
    microseconds, rest = divmod(number * 1_000_000, per_second)
    return _EPOCH + (microseconds + bool(upper and rest)) * _MICROSECOND


def _of_ulid(text: str, *, upper: bool) -> Mark:
    if _ULID.fullmatch(text) is None:
        raise ValueError("no ULID")
    since = 0
    for letter in text[:_TIME_LETTERS].ljust(_TIME_LETTERS, "0"):
        since = since << 5 | _LETTERS.index(letter)
    return _of_millisecond(since, whole=not text[_TIME_LETTERS:].strip("0"), upper=upper)


def _of_uuid(digits: str, *, upper: bool) -> Mark:
    return _of_millisecond(int(digits[:12], 16), whole=digits[12:] in (_FIRST, _FIRST_OF_SEVEN), upper=upper)


def _of_millisecond(since: int, *, whole: bool, upper: bool) -> Mark:
    try:
        return _EPOCH + (since + (upper and not whole)) * _MILLISECOND
    except OverflowError:
        raise ValueError("past the calendar") from None
