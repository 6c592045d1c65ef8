"""How a dataset's clock is read in SQL, and how it is compared so that an index on its column is used.

Two forms: the *instant*, an expression of type timestamptz (null where the column holds no time), and conditions that
leave the column bare and convert the bound instead. A condition is exact: what a converted bound lets through too much,
the instant takes out again.

Wall-clock time of a zone with daylight saving is read twice a year as one of two instants: here always as the later one
(as PostgreSQL does), so that nothing goes early; it may be late by as much as the clocks were put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, TimestampClock, UlidClock, Uuid7Clock, column_of

# No zone has ever moved its clocks by more than a day at once.
_MOVED = sql.SQL("interval '2 days'")
FIXED_ZONES = frozenset({"UTC", "Etc/UTC", "Zulu", "Etc/Zulu", "UCT", "Etc/UCT"})
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_LETTERS = 10
_ULID = f"^[0-7][{_CROCKFORD}]{{25}}$"
# Later numbers are no times but mistakes in the unit; what 48 bits of milliseconds hold ends in the year 10889.
_LAST_EPOCH, _LAST_ID = "2200-01-01 00:00:00+00", "10889-01-01 00:00:00+00"
_SECONDS_TO_LAST_EPOCH = 7_258_118_400


@dataclass(frozen=True)
class ClockSql:
    """The clock of one dataset, its column qualified by the query's alias."""

    clock: Clock
    bare: sql.Composable

    @classmethod
    def of(cls, clock: Clock, alias: str) -> ClockSql:
        return cls(clock, sql.Identifier(alias, column_of(clock)))

    @property
    def instant(self) -> sql.Composable:
        """When the record's period began, as timestamptz; null where the column holds no time."""
        match self.clock:
            case TimestampClock(zone=zone):
                return sql.SQL("({} AT TIME ZONE {})").format(self.bare, sql.Literal(zone))
            case EpochClock():
                return sql.SQL("(CASE WHEN {column} > 0 AND {column} < {last} THEN {at} END)").format(
                    column=self.bare, last=sql.Literal(self._last), at=self._since_epoch(self.bare)
                )
            case UlidClock():
                letters = sql.SQL(" + ").join(
                    sql.SQL("((strpos({all}, substr({column}, {at}, 1)) - 1)::bigint << {bits})").format(
                        all=sql.Literal(_CROCKFORD),
                        column=self.bare,
                        at=sql.Literal(place + 1),
                        bits=sql.Literal(5 * (_TIME_LETTERS - 1 - place)),
                    )
                    for place in range(_TIME_LETTERS)
                )
                return sql.SQL("(CASE WHEN {} ~ {} THEN {} END)").format(
                    self.bare, sql.Literal(_ULID), self._since_epoch(sql.SQL("({})").format(letters))
                )
            case Uuid7Clock():
                hexed = sql.SQL("('x' || substr(translate({}::text, '-', ''), 1, 12))::bit(48)::bigint")
                return sql.SQL("(CASE WHEN substr({}::text, 15, 1) = '7' THEN {} END)").format(
                    self.bare, self._since_epoch(hexed.format(self.bare))
                )
            case _:
                return self.bare

    def before(self, bound: sql.Composable) -> sql.Composable:
        """True for instants before a bound (an expression of type timestamptz, or text of one)."""
        match self.clock:
            case TimestampClock(zone=zone) if zone in FIXED_ZONES:
                return sql.SQL("{} < {}").format(self.bare, self._local(bound, zone))
            case TimestampClock(zone=zone):
                return sql.SQL("({} < {} + {} AND {} < {})").format(
                    self.bare, self._local(bound, zone), _MOVED, self.instant, _instant(bound)
                )
            case EpochClock():
                return sql.SQL("({column} > 0 AND {column} < {at})").format(column=self.bare, at=self._units(bound))
            case UlidClock() | Uuid7Clock():
                return sql.SQL("({} < {} AND {} < {})").format(
                    self.bare, self._first_id(bound), self.instant, _instant(bound)
                )
            case _:
                return sql.SQL("{} < {}").format(self.bare, bound)

    def since(self, bound: sql.Composable) -> sql.Composable:
        """True for instants at or after a bound."""
        match self.clock:
            case TimestampClock(zone=zone) if zone in FIXED_ZONES:
                return sql.SQL("{} >= {}").format(self.bare, self._local(bound, zone))
            case TimestampClock(zone=zone):
                return sql.SQL("({} >= {} - {} AND {} >= {})").format(
                    self.bare, self._local(bound, zone), _MOVED, self.instant, _instant(bound)
                )
            case EpochClock():
                return sql.SQL("({column} > 0 AND {column} < {last} AND {column} >= {at})").format(
                    column=self.bare, last=sql.Literal(self._last), at=self._units(bound)
                )
            case UlidClock() | Uuid7Clock():
                return sql.SQL("({} >= {} AND {} >= {})").format(
                    self.bare, self._first_id(bound), self.instant, _instant(bound)
                )
            case _:
                return sql.SQL("{} >= {}").format(self.bare, bound)

    @property
    def _per_second(self) -> int:
        return self.clock.unit.per_second if isinstance(self.clock, EpochClock) else 1_000

    @property
    def _last(self) -> int:
        return _SECONDS_TO_LAST_EPOCH * self._per_second - self._finer

    @property
    def _finer(self) -> int:
        """How many units before a microsecond are still read as that microsecond.

        PostgreSQL's times end at microseconds. Nanoseconds are rounded up: so a bound, which is whole microseconds, is
        compared with them exactly, and nothing goes early.
        """
        return max(1, self._per_second // 1_000_000) - 1

    def _since_epoch(self, units: sql.Composable) -> sql.Composable:
        if self._finer:
            units = sql.SQL("(({}::bigint + {}) / {})").format(
                units, sql.Literal(self._finer), sql.Literal(self._finer + 1)
            )
        return sql.SQL("(timestamptz 'epoch' + {} * {}::interval)").format(
            units, sql.Literal(f"{max(1, 1_000_000 // self._per_second)} microseconds")
        )

    def _units(self, bound: sql.Composable) -> sql.Composable:
        """The first whole unit that is not before the bound; bounds that no number can express are drawn in."""
        last = _LAST_EPOCH if isinstance(self.clock, EpochClock) else _LAST_ID
        return sql.SQL(
            "ceil(extract(epoch FROM least(greatest({}, timestamptz 'epoch'), {}::timestamptz)) * {} - {})::bigint"
        ).format(_instant(bound), sql.Literal(last), sql.Literal(self._per_second), sql.Literal(self._finer))

    def _first_id(self, bound: sql.Composable) -> sql.Composable:
        """The smallest identifier that the bound's millisecond can begin; of a ULID only the letters that matter."""
        units = self._units(bound)
        if isinstance(self.clock, Uuid7Clock):
            return sql.SQL("(lpad(to_hex({}), 12, '0') || repeat('0', 20))::uuid").format(units)
        return sql.SQL("({})").format(
            sql.SQL(" || ").join(
                sql.SQL("substr({}, ((({} >> {}) & 31) + 1)::int, 1)").format(
                    sql.Literal(_CROCKFORD), units, sql.Literal(5 * shift)
                )
                for shift in reversed(range(_TIME_LETTERS))
            )
        )

    @staticmethod
    def _local(bound: sql.Composable, zone: str) -> sql.Composable:
        return sql.SQL("({} AT TIME ZONE {})").format(_instant(bound), sql.Literal(zone))


def _instant(bound: sql.Composable) -> sql.Composable:
    return sql.SQL("{}::timestamptz").format(bound)


def ordered_like_bytes(collation: Sequence[str]) -> sql.Composed:
    """Whether a collation sorts the letters of ULIDs, alone and in pairs, as their bytes are: else ids are no order."""
    return sql.SQL(
        "SELECT array_agg(a.c || b.c ORDER BY (a.c || b.c) COLLATE {own}) ="
        ' array_agg(a.c || b.c ORDER BY (a.c || b.c) COLLATE "C")'
        " FROM regexp_split_to_table({letters}, '') a(c), regexp_split_to_table({letters}, '') b(c)"
    ).format(own=sql.Identifier(*collation), letters=sql.Literal(_CROCKFORD))
