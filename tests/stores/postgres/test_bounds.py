"""Ends of partitions by every kind of clock: what is read is what is written, no row lies outside (cases 10, 12)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, EpochUnit, TimestampClock, UlidClock, Uuid7Clock
from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.connect import Connection, prepared
from support.catalogue import scratch_database

MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
BERLIN = TimestampClock(column="at", is_="timestamp", zone="Europe/Berlin")
KINDS: dict[str, tuple[Clock, str, timedelta]] = {
    "timestamptz": ("at", "timestamptz", timedelta(microseconds=1)),
    "utc": (TimestampClock(column="at", is_="timestamp", zone="UTC"), "timestamp", timedelta(microseconds=1)),
    "berlin": (BERLIN, "timestamp", timedelta(microseconds=1)),
    "seconds": (EpochClock(column="at", is_="epoch", unit=EpochUnit.SECONDS), "integer", timedelta(seconds=1)),
    "milliseconds": (EpochClock(column="at", is_="epoch", unit=EpochUnit.MILLISECONDS), "bigint", MS),
    "nanoseconds": (
        EpochClock(column="at", is_="epoch", unit=EpochUnit.NANOSECONDS), "bigint", timedelta(microseconds=1)
    ),
    "ulid": (UlidClock(column="at", is_="ulid"), 'text COLLATE "C"', MS),
    "uuid7": (Uuid7Clock(column="at", is_="uuid7"), "uuid", MS),
}  # fmt: skip
# Zones whose clocks went forward at midnight, by a whole day, by half an hour; and one that never does.
CHANGES = {
    "Europe/Berlin": datetime(2026, 3, 29, tzinfo=UTC),
    "Africa/Cairo": datetime(2024, 4, 26, tzinfo=UTC),
    "America/Sao_Paulo": datetime(2018, 11, 4, tzinfo=UTC),
    "Asia/Amman": datetime(2011, 4, 1, tzinfo=UTC),
    "Pacific/Apia": datetime(2011, 12, 30, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2026, 4, 5, tzinfo=UTC),
    "America/Havana": datetime(2025, 11, 2, tzinfo=UTC),
    "Asia/Tokyo": datetime(2026, 3, 29, tzinfo=UTC),
}


@pytest.fixture(scope="module")
def conn(postgres_server: Postgres) -> Iterator[Connection]:
    with scratch_database(postgres_server) as conninfo, prepared(psycopg.connect(conninfo, autocommit=True)) as made:
        yield made


@given(kind=st.sampled_from(sorted(KINDS)), second=st.integers(1, 4_000_000_000))
def test_what_is_written_is_read_again(kind: str, second: int) -> None:
    clock, _, _ = KINDS[kind]
    mark = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    bounds = Bounds(clock)
    value = bounds.write(mark)
    assert isinstance(value, sql.Literal)
    text = str(getattr(value, "_obj"))  # noqa: B009
    assert bounds.read(f"'{text}'", upper=False) == mark == bounds.read(text, upper=True)


@pytest.mark.parametrize("kind", KINDS)
def test_postgresql_writes_ends_that_are_read_as_the_same_days(conn: Connection, kind: str) -> None:
    """By PostgreSQL's own text of them; and a row at the first and the last unit of the day is of that day."""
    clock, column, unit = KINDS[kind]
    bounds, first = Bounds(clock), datetime(2026, 3, 29, tzinfo=UTC)
    conn.execute("DROP TABLE IF EXISTS t")
    conn.execute(f"CREATE TABLE t (at {column}) PARTITION BY RANGE (at)".encode())
    conn.execute(
        sql.SQL("CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ({}) TO ({})").format(
            bounds.write(first), bounds.write(first + DAY)
        )
    )
    (text,) = conn.execute("SELECT pg_get_expr(relpartbound, 0) FROM pg_class WHERE relname = 't_1'").fetchone() or (
        "",
    )
    lower, upper = text.removeprefix("FOR VALUES FROM (").removesuffix(")").split(") TO (")
    assert (bounds.read(lower, upper=False), bounds.read(upper, upper=True)) == (first, first + DAY)
    for mark in (first, first + DAY - unit):
        conn.execute(sql.SQL("INSERT INTO t VALUES ({})").format(_whole(kind, bounds.write(mark))))
    rows = conn.execute(
        sql.SQL("SELECT {}, {} FROM t m WHERE {} AND NOT {}").format(
            bounds.day(),
            ClockSql.of(clock, "m").instant,
            bounds.inside(first, first + DAY),
            bounds.outside(first, first + DAY),
        )
    ).fetchall()
    assert [day for day, _ in rows] == [first.date()] * 2
    if not bounds.is_local:
        assert [instant for _, instant in rows] == [first, first + DAY - unit]


def _whole(kind: str, end: sql.Composable) -> sql.Composable:
    """An identifier of an end's millisecond; the end itself is none, but comes before all of them."""
    match kind:
        case "ulid":
            return sql.SQL("{} || repeat('Z', 16)").format(end)
        case "uuid7":
            return sql.SQL("overlay({}::text PLACING '7' FROM 15)::uuid").format(end)
        case _:
            return end


@pytest.mark.parametrize(("zone", "change"), CHANGES.items(), ids=list(CHANGES))
def test_no_row_of_a_local_day_is_outside_the_instants_of_its_partition(
    conn: Connection, zone: str, change: datetime
) -> None:
    """Case 10: a wall-clock time that never was is read as a later one; every quarter of an hour of three days."""
    bounds = Bounds(TimestampClock(column="at", is_="timestamp", zone=zone))
    marks = [change - DAY + quarter * timedelta(minutes=15) for quarter in range(3 * 96 + 1)]
    rows = conn.execute(
        "SELECT u.m, u.m AT TIME ZONE %s FROM unnest(%s::timestamp[]) u(m)",
        (zone, [mark.replace(tzinfo=None) for mark in marks]),
    ).fetchall()
    read = [instant for _, instant in rows]
    known = bounds.instants(conn, marks)
    assert known is not None
    for place, mark in enumerate(marks):
        earliest, latest = known[mark]
        assert earliest <= min(read[place:])
        assert place == 0 or max(read[:place]) < latest
        # Nor is it far from there: a partition falls due a change of clocks late at most.
        assert latest - read[place] <= DAY and read[place] - earliest <= DAY
    calm = known[marks[0]]
    if zone == "Asia/Tokyo":
        assert calm == (read[0], read[0])


@pytest.mark.parametrize(
    ("kind", "text", "lower", "upper"),
    [
        ("seconds", "-5", None, datetime(1970, 1, 1, tzinfo=UTC)),
        ("seconds", "MINVALUE", None, None),
        ("milliseconds", "9223372036854775807", datetime(2200, 1, 1, tzinfo=UTC), None),
        (
            "nanoseconds",
            "'1774742400000000001'",
            datetime(2026, 3, 29, tzinfo=UTC),
            datetime(2026, 3, 29, 0, 0, 0, 1, tzinfo=UTC),
        ),
        ("ulid", "'01KMVR'", datetime(2026, 3, 29, 2, 50, 28, 736000, tzinfo=UTC), None),
        ("uuid7", "'019d3728-1c00-7000-8000-000000000001'", None, None),
    ],
)
def test_ends_between_or_beyond_times_are_read_outwards(
    kind: str, text: str, lower: datetime | None, upper: datetime | None
) -> None:
    """No row may lie outside the marks of its partition."""
    bounds = Bounds(KINDS[kind][0])
    if kind == "uuid7":
        low, high = bounds.read(text, upper=False), bounds.read(text, upper=True)
        assert low is not None and high is not None and high - low == MS
        assert bounds.read(text[:-2] + "0'", upper=True) == low, "the first identifier of version 7 of its millisecond"
        return
    assert bounds.read(text, upper=False) == lower
    if kind != "ulid":
        assert bounds.read(text, upper=True) == upper


@pytest.mark.parametrize(
    ("kind", "text"), [("ulid", "'hello'"), ("uuid7", "'x'"), ("timestamptz", "'tuesday'"), ("seconds", "now")]
)
def test_what_is_no_time_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueError):
        Bounds(KINDS[kind][0]).read(text, upper=True)
