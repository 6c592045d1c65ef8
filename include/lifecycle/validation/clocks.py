"""The auditor's own reading of a dataset's clock. Nothing of the deleting code's is used: bounds are converted here by
Python and its zones, identifiers are read from their bytes, and not letter by letter as there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, EpochUnit, TimestampClock, UlidClock, Uuid7Clock, column_of

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Offsets of a zone differ by a day at most; the reading itself takes out what this lets through too much.
MARGIN: Final = timedelta(days=2)
END_OF_EPOCHS: Final = datetime(2200, 1, 1, tzinfo=UTC)


def reading(clock: Clock, alias: str) -> sql.Composable:
    """The instant that a row's clock stands for; null where it stands for none."""
    column = sql.Identifier(alias, column_of(clock))
    match clock:
        case TimestampClock(zone=zone):
            # Of the two instants of an hour that comes twice, the later one: no record is called overdue before it is.
            return sql.SQL("timezone({}::text, {})").format(sql.Literal(zone), column)
        case EpochClock(unit=EpochUnit.NANOSECONDS as unit):
            # The first microsecond that is not before it: no record is called overdue before it is.
            return sql.SQL(
                "to_timestamp(CASE WHEN {c} BETWEEN 1 AND {last} THEN ceil({c}::numeric / 1000) / 1000000 END)"
            ).format(c=column, last=sql.Literal(_units(END_OF_EPOCHS, unit.per_second) - 1))
        case EpochClock(unit=unit):
            return sql.SQL("to_timestamp(CASE WHEN {c} BETWEEN 1 AND {last} THEN {c}::numeric / {per} END)").format(
                c=column, last=sql.Literal(_units(END_OF_EPOCHS, unit.per_second) - 1), per=sql.Literal(unit.per_second)
            )
        case UlidClock():
            return sql.SQL(
                "(SELECT to_timestamp(sum((strpos({letters}, l.c) - 1) * 32::numeric ^ (10 - l.n)) / 1000)"
                " FROM unnest(regexp_split_to_array(left({c}, 10), '')) WITH ORDINALITY l(c, n)"
                " WHERE length({c}) = 26 AND left({c}, 1) < '8' AND translate({c}, {letters}, '') = '')"
            ).format(letters=sql.Literal(LETTERS), c=column)
        case Uuid7Clock():
            return sql.SQL(
                "(SELECT to_timestamp(sum(get_byte(uuid_send({c}), b) * 256::numeric ^ (5 - b)) / 1000)"
                " FROM generate_series(0, 5) b WHERE get_byte(uuid_send({c}), 6) >> 4 = 7)"
            ).format(c=column)
        case _:
            return column


def day_of(clock: Clock, alias: str) -> sql.Composable:
    """The day by which a unit of the plan names its records: of wall-clock time the wall clock's own, else UTC's."""
    if isinstance(clock, TimestampClock):
        return sql.SQL("{}::date").format(sql.Identifier(alias, clock.column))
    return sql.SQL("({} AT TIME ZONE 'UTC')::date").format(reading(clock, alias))


def perhaps_before(clock: Clock, alias: str, bound: datetime) -> sql.Composable:
    """What every row satisfies that is read as before a bound, by the column alone, so that an index is used."""
    column = sql.Identifier(alias, column_of(clock))
    return sql.SQL("{} < {}").format(column, sql.Literal(_converted(clock, bound)))


def _converted(clock: Clock, bound: datetime) -> datetime | int | str:
    match clock:
        case TimestampClock(zone=zone):
            return bound.astimezone(ZoneInfo(zone)).replace(tzinfo=None) + MARGIN
        case EpochClock(unit=unit):
            return _units(bound, unit.per_second)
        case UlidClock():
            since = _units(bound, 1000)
            return "".join(LETTERS[since >> 5 * place & 31] for place in reversed(range(10)))
        case Uuid7Clock():
            return f"{_units(bound, 1000):012x}".ljust(32, "0")
        case _:
            return bound


def _units(instant: datetime, per_second: int) -> int:
    """Whole units from 1970 to an instant, rounded up; of nanoseconds the first that is read as this instant."""
    microseconds = (instant - EPOCH) // timedelta(microseconds=1)
    if per_second > 1_000_000:
        return max(0, (microseconds - 1) * (per_second // 1_000_000) + 1)
    return max(0, -(-microseconds * per_second // 1_000_000))
