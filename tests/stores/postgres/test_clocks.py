"""Clocks that are no timestamptz: read as the instants they stand for, compared by their index, exact to one unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, EpochUnit, TimestampClock, UlidClock, Uuid7Clock, column_of
from lifecycle.catalog.models import Catalog, Records
from lifecycle.config import load_configuration
from lifecycle.demo.servers import Postgres
from lifecycle.policy.decide import decide
from lifecycle.policy.models import Category, Policy
from lifecycle.stores.postgres.clocks import ClockSql, ordered_like_bytes
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import fate_parameters, record_fate, table
from lifecycle.validation.clocks import perhaps_before, reading
from support.servers import fresh_database, with_database

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MILLISECOND, MICROSECOND = timedelta(milliseconds=1), timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
# Clocks are put forward and back: by an hour, and by half an hour on Lord Howe.
CHANGES = {
    "Europe/Berlin": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 10, 3, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)),
}
OVERLAPS = {"Europe/Berlin": timedelta(hours=1), "Australia/Lord_Howe": timedelta(minutes=30)}


def later_of(local: datetime, zone: str) -> datetime:
    """Of the instants that a wall-clock time may stand for, the later one."""
    return max(local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))


def ulid(instant: datetime, rest: str = "ZZZZZZZZZZZZZZZZ") -> str:
    number = (instant - EPOCH) // MILLISECOND
    return "".join(LETTERS[(number >> 5 * place) & 31] for place in range(9, -1, -1)) + rest


def uuid7(instant: datetime, rest: str = "7fff-bfff-ffffffffffff") -> str:
    digits = f"{(instant - EPOCH) // MILLISECOND:012x}"
    return f"{digits[:8]}-{digits[8:]}-{rest}"


@dataclass(frozen=True)
class Kind:
    """A clock, its column's type, rows with the instant that each stands for (None: no time), and its unit."""

    name: str
    clock: Clock
    type: str
    rows: tuple[tuple[Any, datetime | None], ...]
    unit: timedelta = MILLISECOND


def around(*instants: datetime) -> list[datetime]:
    """Every ten minutes of some hours, and a millisecond to both sides of what matters."""
    found = [at + timedelta(minutes=10 * n) for at in instants for n in range(-15, 16)]
    return sorted({*found, *(at + MILLISECOND for at in found), *(at - MILLISECOND for at in found)})


def local_kind(zone: str) -> Kind:
    # Also the wall-clock times that never were: clocks are put forward over them.
    times = {at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in around(*CHANGES[zone])}
    times |= {at + OVERLAPS[zone] / 2 for at in times}
    rows = tuple((local, later_of(local, zone)) for local in sorted(times))
    return Kind(zone, TimestampClock(column="c", is_="timestamp", zone=zone), "timestamp(3)", rows)


def epoch_kind(unit: EpochUnit, type_: str) -> Kind:
    width = timedelta(seconds=1) / unit.per_second
    rows: list[tuple[int, datetime | None]] = [
        ((at - EPOCH) // width, EPOCH + (at - EPOCH) // width * width)
        for at in (NOON + n * width for n in (-86_400, -2, -1, 0, 1, 2, 86_400))
    ]
    # What programs write for "no time", and what is no time in this unit.
    rows += [(0, None), (-1, None)] + ([(9_223_372_036_854_775_807, None)] if type_ == "bigint" else [])
    return Kind(f"epoch {unit}", EpochClock(column="c", is_="epoch", unit=unit), type_, tuple(rows), width)


def nanosecond_kind() -> Kind:
    """PostgreSQL's times end at microseconds: a nanosecond is read as the first microsecond that is not before it."""
    noon, last = int(NOON.timestamp()) * 10**9, int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    steps = (-86_400 * 10**9, -1001, -1000, -999, -1, 0, 1, 999, 1000, 1001, 86_400 * 10**9)
    told = [1, 1000, 1001, *(noon + step for step in steps), last - 1000]
    rows: list[tuple[int, datetime | None]] = [(n, EPOCH - (-n // 1000) * MICROSECOND) for n in told]
    rows += [(n, None) for n in (0, -1, last - 999, last, 9_223_372_036_854_775_807)]
    return Kind("epoch ns", EpochClock(column="c", is_="epoch", unit=EpochUnit.NANOSECONDS), "bigint", tuple(rows),
                MICROSECOND)  # fmt: skip


def id_rows(make: Any, lowest: str, others: tuple[str, ...]) -> tuple[tuple[str, datetime | None], ...]:
    instants = [NOON + n * MILLISECOND for n in (-100_000, -2, -1, 0, 1, 2, 100_000)]
    instants.append(datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC))
    named = [(make(at, lowest), at) for at in instants]
    return tuple(named + [(make(at), at) for at in instants] + [(other, None) for other in others])


KINDS = [
    Kind("UTC", TimestampClock(column="c", is_="timestamp", zone="UTC"), "timestamp",
         tuple((at.replace(tzinfo=None), at) for at in (NOON - MICROSECOND, NOON, NOON + MICROSECOND)), MICROSECOND),
    local_kind("Europe/Berlin"),
    local_kind("Australia/Lord_Howe"),
    epoch_kind(EpochUnit.SECONDS, "integer"),
    epoch_kind(EpochUnit.MILLISECONDS, "bigint"),
    epoch_kind(EpochUnit.MICROSECONDS, "bigint"),
    nanosecond_kind(),
    Kind("ulid", UlidClock(column="c", is_="ulid"), "text",
         id_rows(ulid, "0" * 16, ("", "no ulid", ulid(NOON).lower(), "8" + ulid(NOON)[1:], ulid(NOON)[:25] + "U"))),
    Kind("uuid7", Uuid7Clock(column="c", is_="uuid7"), "uuid",
         id_rows(uuid7, "7000-8000-000000000000", (uuid7(NOON, "4fff-bfff-ffffffffffff"),))),
]  # fmt: skip


@pytest.fixture(scope="module")
def conn(postgres_server: Postgres) -> Iterator[Connection]:
    with (
        fresh_database(postgres_server) as name,
        psycopg.connect(with_database(postgres_server, name), autocommit=True) as conn,
    ):
        # No answer may hang on where the session is.
        conn.execute("SET TimeZone = 'Pacific/Auckland'")
        for kind in KINDS:
            made = sql.SQL("CREATE TABLE {} (c {} , subject uuid, key bigint)")
            conn.execute(made.format(sql.Identifier("app", kind.name), sql.SQL(kind.type)))
            conn.execute(sql.SQL("CREATE INDEX ON {} (c, key)").format(sql.Identifier("app", kind.name)))
            with conn.cursor() as cursor:
                cursor.executemany(
                    sql.SQL("INSERT INTO {} VALUES (%s, gen_random_uuid(), %s)").format(
                        sql.Identifier("app", kind.name)
                    ),
                    [(value, number) for number, (value, _) in enumerate(kind.rows)],
                )
        yield conn


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def keys_where(conn: Connection, kind: Kind, condition: sql.Composable) -> set[int]:
    rows = conn.execute(
        sql.SQL("SELECT m.key FROM {} m WHERE {}").format(sql.Identifier("app", kind.name), condition)
    ).fetchall()
    return {key for (key,) in rows}


def bounds_of(kind: Kind) -> list[datetime]:
    instants = {at for _, at in kind.rows if at is not None}
    chosen = sorted(instants)[:: max(1, len(instants) // 60)]
    return sorted({at + n * kind.unit for at in chosen for n in (-1, 0, 1)} | {NOON, NOON + MICROSECOND})


def test_every_row_is_read_as_its_instant_by_both(conn: Connection, kind: Kind) -> None:
    """The auditor reads by code of its own; both agree with Python, and with each other on what is no time."""
    rows = conn.execute(
        sql.SQL("SELECT m.key, {}, {} FROM {} m").format(
            ClockSql.of(kind.clock, "m").instant, reading(kind.clock, "m"), sql.Identifier("app", kind.name)
        )
    ).fetchall()
    assert len(rows) == len(kind.rows)
    for key, ours, auditors in rows:
        value, expected = kind.rows[key]
        # In another zone Python calls no instant of an hour that comes twice equal.
        told = {at.astimezone(UTC) if at is not None else None for at in (ours, auditors)}
        assert told == {expected}, value


def test_conditions_on_the_bare_column_are_exact_to_a_unit(conn: Connection, kind: Kind) -> None:
    """Half-open: a row at the bound is not before it."""
    clock = ClockSql.of(kind.clock, "m")
    for bound in bounds_of(kind):
        known = {key: at for key, (_, at) in enumerate(kind.rows) if at is not None}
        before = {key for key, at in known.items() if at < bound}
        literal = sql.Literal(bound)
        assert keys_where(conn, kind, clock.before(literal)) == before, bound
        assert keys_where(conn, kind, clock.since(literal)) == known.keys() - before, bound
        assert keys_where(conn, kind, perhaps_before(kind.clock, "m", bound)) >= before, bound


@pytest.mark.parametrize(("text", "all_since"), [("-infinity", True), ("infinity", False)])
def test_a_bound_without_end_is_a_bound(conn: Connection, kind: Kind, text: str, all_since: bool) -> None:
    known = {key for key, (_, at) in enumerate(kind.rows) if at is not None}
    clock = ClockSql.of(kind.clock, "m")
    assert keys_where(conn, kind, clock.since(sql.Literal(text))) == (known if all_since else set())
    assert keys_where(conn, kind, clock.before(sql.Literal(text))) == (set() if all_since else known)


def test_an_index_on_the_column_is_used(conn: Connection, kind: Kind) -> None:
    """Promise 8: the bound is converted, not the column."""
    with conn.transaction():
        conn.execute("SET LOCAL enable_seqscan = off")
        clock = ClockSql.of(kind.clock, "m")
        for condition in (clock.before(sql.Literal(NOON)), clock.since(sql.Literal(NOON)),
                          perhaps_before(kind.clock, "m", NOON)):  # fmt: skip
            plan = conn.execute(
                sql.SQL("EXPLAIN SELECT m.key FROM {} m WHERE {}").format(sql.Identifier("app", kind.name), condition)
            ).fetchall()
            assert any("Index Cond" in line for (line,) in plan), plan


@pytest.mark.parametrize("zone", CHANGES)
def test_an_hour_that_comes_twice_never_goes_early(conn: Connection, zone: str) -> None:
    """Case 10: what was written at an instant is read as that instant or one overlap later, and never as an earlier."""
    clock = ClockSql(TimestampClock(column="c", is_="timestamp", zone=zone), sql.Placeholder("written"))
    late = set()
    for change in CHANGES[zone]:
        for minutes in range(-150, 151, 5):
            written = change + timedelta(minutes=minutes)
            local = written.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
            row = conn.execute(sql.SQL("SELECT {}").format(clock.instant), {"written": local}).fetchone()
            assert row is not None
            late.add(row[0] - written)
    assert late == {timedelta(), OVERLAPS[zone]}


def dataset_of(kind: Kind) -> Records:
    return Records(
        id="these", type="table", category=Category.SAFETY_SCORES, table=f"app.{kind.name}", key="key",
        subject="subject", clock=kind.clock,
    )  # fmt: skip


def fates(conn: Connection, policy: Policy, catalog: Catalog, dataset: Records, as_of: datetime) -> dict[int, str]:
    rows = conn.execute(
        sql.SQL("SELECT m.key, {} FROM {} m").format(record_fate(policy, catalog, dataset), table(dataset.table)),
        fate_parameters(policy, as_of),
    ).fetchall()
    return dict(rows)


def test_fates_are_those_of_the_core_to_a_unit(conn: Connection, kind: Kind) -> None:
    """Promises 1 and 2, at and beside the end of the period; a row without a time stays (and is reported)."""
    config, dataset = load_configuration(), dataset_of(kind)
    rule = next(rule for rule in config.policy.rules if Category.SAFETY_SCORES in rule.category and rule.period)
    for at in bounds_of(kind)[::23]:
        end = rule.end(at)
        assert end is not None
        for as_of in (end - kind.unit, end, end + kind.unit):
            found = fates(conn, config.policy, config.catalog, dataset, as_of)
            for key, (_, clock) in enumerate(kind.rows):
                if clock is None:
                    assert found[key].startswith("keep:")
                    continue
                decided = decide(dataset.category, "consumer", clock, (), config.policy, as_of)
                assert found[key] == f"{decided.disposition.value}:{decided.rule}", (clock, as_of)


@pytest.mark.parametrize("collation", [("pg_catalog", "C"), ("pg_catalog", "default")])
def test_ulids_are_in_the_order_of_time_where_letters_are_in_that_of_their_bytes(
    conn: Connection, collation: tuple[str, str]
) -> None:
    assert conn.execute(ordered_like_bytes(collation)).fetchone() == (True,)


def test_the_column_of_a_clock_has_one_name() -> None:
    assert [column_of(clock) for clock in ("at", UlidClock(column="id", is_="ulid"))] == ["at", "id"]
