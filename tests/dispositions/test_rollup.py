"""Past days become months and years, row for row, and everything else goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.dispositions import rollup
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire import expire
from lifecycle.stores.postgres import merge
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.partitions import create_ahead, drain_default
from lifecycle.stores.postgres.tree import partitions_of
from support.catalogue import scratch_database
from support.units import AS_OF, DAY, TIER, Bench

# Three days of each of twenty months, from January 2025 on, and what is younger than the cut-off.
PAST = [(AS_OF - datetime(2025 + n // 12, 1 + n % 12, day, tzinfo=UTC)).days for n in range(20) for day in (1, 15, 28)]


@pytest.fixture
def bench(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        made = Bench(conninfo)
        yield made
        made.close()


def survivors(bench: Bench, ages: list[int]) -> UUID:
    """A message a day of an account under hold, and a run that went well."""
    account = uuid4()
    bench.hold("account", account)
    for age in ages:
        bench.day(age)
    with bench.connect() as conn, conn.transaction():
        for age in ages:
            bench.write(age, account=account, conn=conn)
    return account


def new_run(bench: Bench, conn: Connection) -> RunContext:
    """A run that has begun, after one that has gone well."""
    context, _ = bench.plan(conn, 10_000)
    return RunContext(conn, context.s3, context.policy, context.catalog, replace(context.run, planned_at=None))


def labels(bench: Bench) -> list[str]:
    with bench.connect() as conn:
        context, _ = bench.plan(conn, 10_000)
        return [leaf.label for leaf in partitions_of(conn, context.messages, TIER)]


def rows(bench: Bench) -> list[tuple[object, ...]]:
    return bench.sql("SELECT * FROM app.messages ORDER BY message_id")


def test_past_days_become_months_and_years_row_for_row(bench: Bench) -> None:
    """Late rows of merged days land where they belong; nothing is merged that the last run has not been through."""
    survivors(bench, PAST)
    bench.day(2)
    before = rows(bench)
    with bench.connect() as conn:
        context = new_run(bench, conn)
        assert rollup.roll_up(context, TIER) == {"dropped": 0, "merged": 57 + 12}
        assert rollup.roll_up(context, TIER) == {"dropped": 0, "merged": 0}
        months = [f"2026-{month:02}" for month in range(1, 8)]
        august = ["2026-08-01", "2026-08-15", "2026-08-28"]
        assert labels(bench) == ["2025", *months, *august, (AS_OF - 2 * DAY).date().isoformat(), "default"]
        assert rows(bench) == before
        bench.write((AS_OF - datetime(2025, 7, 9, tzinfo=UTC)).days)
        assert bench.value("SELECT count(*) FROM app.messages_beta_default") == 0
        assert drain_default(conn, context.messages, TIER) == 0
        assert create_ahead(conn, context.messages, TIER, datetime(2025, 7, 9, tzinfo=UTC)) == 0
    parts = bench.sql(
        "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE x.indrelid = 'app.messages_beta_2025'::regclass ORDER BY 1"
    )
    attached = bench.value(
        "SELECT count(*) FROM pg_inherits h JOIN pg_index x ON x.indexrelid = h.inhrelid"
        " WHERE x.indrelid = 'app.messages_beta_2025'::regclass"
    )
    assert len(parts) == attached == 6
    assert all(name.startswith("messages_beta_2025_") for (name,) in parts)


def test_what_becomes_due_in_a_merged_year_goes_with_its_unit(bench: Bench) -> None:
    """The unit is called by the year; its ledger says what went; the year goes when it is empty."""
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 4, 1)]
    survivors(bench, ages)
    with bench.connect() as conn:
        rollup.roll_up(new_run(bench, conn), TIER)
    late = bench.write(ages[1], 2)
    with bench.connect() as conn:
        context, units = bench.plan(conn)
        assert units == ["messages/beta/2025"]
        expire(context, units[0])
    assert bench.ledger("messages/beta/2025") == 2
    assert len(rows(bench)) == len(ages) and not set(late) & {row[0] for row in rows(bench)}
    bench.sql("UPDATE lifecycle.legal_holds SET released_at = %s", AS_OF - DAY)
    with bench.connect() as conn:
        context, units = bench.plan(conn)
        for unit in units:
            expire(context, unit)
    assert (rows(bench), labels(bench)) == ([], ["default"])


def test_a_unit_whose_partition_was_merged_since_takes_what_is_its_own(bench: Bench) -> None:
    """An hourly run planned a day that the nightly one merged: neither overlooks it, nor takes its neighbours'."""
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 2, 1)]
    survivors(bench, ages)
    due = {age: bench.write(age)[0] for age in ages}
    with bench.connect() as conn:
        context, units = bench.plan(conn, *ages)
        assert len(units) == 3
        bench.sql("UPDATE lifecycle.plan_units SET status = 'done'")
        rollup.roll_up(new_run(bench, conn), TIER)
        assert labels(bench) == ["2025-01", "default"]
        bench.sql("UPDATE lifecycle.plan_units SET status = 'planned'")
        expire(context, units[1])
    assert due[ages[1]] not in bench.records(ages[1])
    assert {due[ages[0]], due[ages[2]]} <= bench.records(ages[0]) | bench.records(ages[2])
    assert bench.ledger(units[1]) == 1


def test_a_unit_of_hours_whose_partition_was_merged_since_is_not_taken_for_gone(bench: Bench) -> None:
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 2, 1)]
    start = AS_OF - ages[1] * DAY
    for name, lower in (("morning", start), ("evening", start + DAY / 2)):
        query = "CREATE TABLE {} PARTITION OF app.messages_beta FOR VALUES FROM ({}) TO ({})"
        made = sql.SQL(query).format(sql.Identifier("app", name), sql.Literal(lower), sql.Literal(lower + DAY / 2))
        bench.sql(made.as_string(None))
    survivors(bench, [ages[0], ages[2]])
    (due,) = bench.write(ages[1])
    with bench.connect() as conn:
        context, (unit,) = bench.plan(conn, ages[1])
        bench.sql("UPDATE lifecycle.plan_units SET status = 'done'")
        rollup.roll_up(new_run(bench, conn), TIER)
        assert labels(bench) == ["2025-01", "default"]
        bench.sql("UPDATE lifecycle.plan_units SET status = 'planned'")
        expire(context, unit)
    assert due not in bench.records(ages[1])
    assert bench.ledger(unit) == 1


def test_days_with_units_that_are_not_done_are_not_merged(bench: Bench) -> None:
    """What waits for an approval is approved by the name and the count that were shown."""
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 3, 1)]
    survivors(bench, ages)
    bench.write(ages[0])
    with bench.connect() as conn:
        context, _ = bench.plan(conn, ages[0])
        bench.sql("UPDATE lifecycle.plan_units SET status = 'awaiting'")
        waiting = RunContext(conn, context.s3, context.policy, context.catalog, replace(context.run, planned_at=None))
        assert rollup.roll_up(waiting, TIER)["merged"] == 3
    assert labels(bench) == ["2025-01-01", "2025-01-15", "2025-01-28", "2025-02", "default"]


def test_emptied_days_go_and_days_in_use_stay_for_the_next_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 2, 1)]
    survivors(bench, ages[:2])
    bench.day(ages[2])
    with bench.connect() as conn, psycopg.connect(bench.conninfo) as reader:
        context = new_run(bench, conn)
        reader.execute(f"SELECT count(*) FROM {bench.leaf(ages[0])}".encode())
        monkeypatch.setattr(merge, "PATIENCE_SECONDS", 0.2)
        assert rollup.roll_up(context, TIER) == {"dropped": 1, "merged": 0}
        reader.rollback()
        assert rollup.roll_up(context, TIER) == {"dropped": 0, "merged": 2}


@pytest.mark.parametrize(
    "own",
    [
        "GRANT SELECT ON {} TO pg_monitor",
        "ALTER TABLE {} ALTER COLUMN body SET NOT NULL",
        "ALTER TABLE {} ALTER COLUMN body SET STORAGE EXTERNAL",
        "ALTER TABLE {} ALTER COLUMN body SET COMPRESSION pglz",
        "ALTER TABLE {} ALTER COLUMN model SET DEFAULT 'old'",
        "ALTER TABLE {} ALTER COLUMN body SET STATISTICS 500",
        "ALTER TABLE {} SET UNLOGGED",
        "ALTER TABLE {} REPLICA IDENTITY FULL",
        "CREATE INDEX ON {} (model)",
    ],
)
def test_a_day_that_has_something_of_its_own_keeps_it(bench: Bench, own: str) -> None:
    """A grant, an index, a policy of one day would be lost in a month, or given to other days."""
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 2, 1)]
    survivors(bench, ages)
    bench.sql(own.format(bench.leaf(ages[0])))
    with bench.connect() as conn:
        assert rollup.roll_up(new_run(bench, conn), TIER)["merged"] == 0
    assert len(labels(bench)) == 4


def test_strays_of_a_merged_month_come_along_with_their_children(bench: Bench) -> None:
    """Case 12: a late row of a day whose partition was dropped is in the default partition when its month is merged."""
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 2, 1)]
    survivors(bench, ages[:2])
    bench.sql("ALTER TABLE app.message_tools ADD tier text, ADD received_at timestamptz")
    bench.sql(
        "ALTER TABLE app.message_tools ADD CONSTRAINT tools_message FOREIGN KEY (tier, received_at, message_id)"
        " REFERENCES app.messages (tier, received_at, message_id) ON DELETE CASCADE"
    )
    bench.write(ages[2])
    bench.sql("INSERT INTO app.message_tools SELECT message_id, 'search', tier, received_at FROM app.messages")
    before = rows(bench)
    with bench.connect() as conn:
        assert rollup.roll_up(new_run(bench, conn), TIER)["merged"] == 2
    assert rows(bench) == before
    assert bench.value("SELECT count(*) FROM app.message_tools") == 3
    assert bench.value("SELECT count(*) FROM ONLY app.messages_beta_default") == 0
    assert bench.value("SELECT count(*) FROM ONLY app.messages_beta_202501") == 3


@pytest.mark.parametrize(
    "published",
    [
        "FOR TABLE app.messages WITH (publish_via_partition_root)",
        "FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root)",
    ],
)
def test_a_month_with_strays_is_not_merged_where_their_move_would_be_told(bench: Bench, published: str) -> None:
    """A subscriber would lose them. They wait in the default partition for their deadline."""
    ages = [age for age in PAST if (AS_OF - age * DAY).date() < date(2025, 2, 1)]
    survivors(bench, ages[:2])
    bench.write(ages[2])
    bench.sql(f"CREATE PUBLICATION strays {published}")
    before = rows(bench)
    with bench.connect() as conn:
        assert rollup.roll_up(new_run(bench, conn), TIER)["merged"] == 0
    assert rows(bench) == before
    bench.sql("DELETE FROM ONLY app.messages_beta_default")
    with bench.connect() as conn:
        assert rollup.roll_up(new_run(bench, conn), TIER)["merged"] == 2


def test_strays_are_drained_with_their_children(bench: Bench) -> None:
    """A cascade of the default partition's rows must not fire while they move."""
    bench.sql("ALTER TABLE app.message_tools ADD tier text, ADD received_at timestamptz")
    bench.sql(
        "ALTER TABLE app.message_tools ADD CONSTRAINT tools_message FOREIGN KEY (tier, received_at, message_id)"
        " REFERENCES app.messages (tier, received_at, message_id) ON DELETE CASCADE"
    )
    bench.write(5, 3)
    bench.sql("INSERT INTO app.message_tools SELECT message_id, 'search', tier, received_at FROM app.messages")
    with bench.connect() as conn:
        context, _ = bench.plan(conn, 10_000)
        assert drain_default(conn, context.messages, TIER) == 3
    assert bench.value("SELECT count(*) FROM app.message_tools") == 3
    assert bench.value(f"SELECT count(*) FROM {bench.leaf(5)}") == 3
