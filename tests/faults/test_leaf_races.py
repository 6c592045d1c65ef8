"""What others do at every step of the exchange of a partition of an ordinary table, with children that refer to it.

``LIFECYCLE_RACE_REPEATS=300`` strikes at three hundred moments a test instead of a few.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from uuid import UUID, uuid4

import psycopg
import pytest

from lifecycle.demo.servers import Postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire_leaf import expire_leaf
from lifecycle.dispositions.records import expire_records
from support.catalogue import scratch_database
from support.leaves import DAY, FIRST, Table, catalog_with
from support.races import Strike, moments, repeats, stepping
from support.units import Bench

pytestmark = pytest.mark.timeout(600 if "LIFECYCLE_RACE_REPEATS" in os.environ else 120)
ROWS, SURVIVORS, FEW = 8, 3, 4
DAYS = count()
Other = psycopg.Connection[tuple[object, ...]]


@dataclass
class Due:
    """A due day, most of which goes; what an account under hold has stays."""

    table: Table
    going: list[UUID]
    staying: list[UUID]
    context: RunContext
    unit: str

    def judge(self, written: int = ROWS + SURVIVORS) -> None:
        """Nothing half done, the ledger says exactly what is gone, and each row that is left has its child."""
        left = self.table.left()
        assert set(self.staying) <= left, "a row under hold is gone"
        told = self.table.ledger([self.unit]).get("delete:business_default", {})
        assert told.get("records", 0) == written - len(left)
        parts = {log for (log,) in self.table.sql("SELECT log FROM app.parts")}
        assert parts == left & {*self.going, *self.staying}
        if len(left) < written:
            owed = (
                "SELECT count(*) FROM lifecycle.physical_erasure WHERE unit = %s AND run_id = %s AND relation ~ 'parts'"
            )
            assert self.table.sql(owed, self.unit, self.context.run.run_id) == [(1,)], "no vacuum is owed"
        done = "SELECT count(*) FROM lifecycle.plan_units WHERE unit = %s AND status = 'done' AND run_id = %s"
        assert self.table.sql(done, self.unit, self.context.run.run_id) == [(1,)]
        scraps = "SELECT count(*) FROM pg_class WHERE relnamespace = 'lifecycle'::regnamespace AND relname ~ '^spend'"
        assert self.table.sql(scraps) == [(0,)]


@pytest.fixture(scope="module")
def table(postgres_server: Postgres) -> Iterator[Table]:
    with scratch_database(postgres_server) as conninfo:
        bench = Bench(conninfo)
        # Whoever strikes waits for us; how long the table is left alone for that is another test's matter.
        pace = {"locked_share": 1.0}
        made = Table(bench, catalog_with(children=[{"table": "app.parts", "key": "log"}], pace=pace))
        made.make()
        made.sql("CREATE TABLE app.parts (log uuid, at timestamptz, FOREIGN KEY (log, at) REFERENCES app.spend_logs)")
        yield made
        bench.close()


def a_day(table: Table, conn: psycopg.Connection) -> Due:
    day, account = FIRST - next(DAYS) * DAY, uuid4()
    table.sql("DELETE FROM lifecycle.legal_holds")
    table.sql("TRUNCATE app.spend_logs CASCADE")
    table.day(day)
    table.bench.hold("account", account)
    going, staying = table.write(day, ROWS), table.write(day, SURVIVORS, who=account)
    table.sql("INSERT INTO app.parts SELECT id, created_at FROM app.spend_logs")
    context, (unit,) = table.plan(conn)
    return Due(table, going, staying, context, unit.unit)


@pytest.fixture(scope="module")
def steps(table: Table) -> int:
    """How many statements an exchange takes."""
    with stepping(table.bench.conninfo) as conn:
        due = a_day(table, conn)
        conn.steps = 0
        expire_leaf(due.context, due.unit)
        due.judge()
        assert due.table.left() == set(due.staying)
        return conn.steps


def struck(table: Table, steps: int, act: Callable[[Due, Other], None]) -> Iterator[Due]:
    """One exchange per moment, with an act of another session begun right before that statement."""
    for moment in moments(steps, repeats(FEW)):
        with stepping(table.bench.conninfo) as conn, psycopg.connect(table.bench.conninfo, autocommit=True) as other:
            due = a_day(table, conn)
            other.execute("SET lock_timeout = '20s'")

            def strike(due: Due = due, other: Other = other) -> None:
                act(due, other)

            conn.steps, conn.before = 0, Strike(moment, strike)
            expire_leaf(due.context, due.unit)
            conn.before.at_last()
            conn.before.settle()
            yield due


def test_a_hold_that_committed_first_wins_at_every_step(table: Table, steps: int) -> None:
    """Case 4: whoever saw the row after the hold had committed sees it for good, and its child."""
    seen: list[bool] = []

    def hold(due: Due, other: Other) -> None:
        other.execute(
            "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES ('message', %s, 'r', 'p')",
            (str(due.going[0]),),
        )
        row = other.execute("SELECT count(*) FROM app.spend_logs WHERE id = %s", (due.going[0],)).fetchone()
        seen.append(row == (1,))

    for due in struck(table, steps, hold):
        assert (due.going[0] in table.left()) == seen[-1]
        due.judge()
    assert len(set(seen)) == 2 or len(seen) < 3, "no moment was before, or none after the exchange"


def test_a_row_that_is_written_into_the_due_day_is_there_or_in_the_ledger(table: Table, steps: int) -> None:
    """Case 12: a committed insert is never lost between the old partition and the new one, or the dropped one."""

    def write(due: Due, other: Other) -> None:
        day = due.unit.split("/")[1]
        other.execute("INSERT INTO app.spend_logs VALUES (%s, %s, %s, 'late')", (uuid4(), uuid4(), day))

    for due in struck(table, steps, write):
        due.judge(ROWS + SURVIVORS + 1)


def test_a_survivor_that_is_changed_meanwhile_is_as_it_was_changed(table: Table, steps: int) -> None:
    def edit(due: Due, other: Other) -> None:
        changed = other.execute("UPDATE app.spend_logs SET said = 'edited' WHERE id = %s", (due.staying[0],))
        assert changed.rowcount == 1

    for due in struck(table, steps, edit):
        assert table.sql("SELECT said FROM app.spend_logs WHERE id = %s", due.staying[0]) == [("edited",)]
        due.judge()


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_exchange_that_is_ended_is_whole_or_has_not_begun(table: Table, steps: int, way: str) -> None:
    """Promise 4: and the next try ends what this one began."""
    for moment in moments(steps, repeats(FEW)):
        with stepping(table.bench.conninfo) as conn:
            due = a_day(table, conn)
            pid = conn.info.backend_pid

            def strike(pid: int = pid) -> None:
                table.sql(f"SELECT {way}({pid})")

            conn.steps, conn.before = 0, Strike(moment, strike)
            try:
                expire_leaf(due.context, due.unit)
            except psycopg.OperationalError:
                assert table.left() in ({*due.going, *due.staying}, set(due.staying))
        with table.bench.connect() as again:
            mine = due.context
            context = RunContext(again, mine.s3, mine.policy, mine.catalog, mine.run)
            expire_leaf(context, due.unit)
        assert table.left() == set(due.staying)
        due.judge()


def test_the_rest_in_batches_and_the_partition_beside_each_other_take_each_row_once(table: Table) -> None:
    """Airflow maps over units: they run at once, whoever is first (promises 4 and 5)."""
    from concurrent.futures import ThreadPoolExecutor

    with table.bench.connect() as conn, table.bench.connect() as second:
        day = FIRST - next(DAYS) * DAY
        table.sql("TRUNCATE app.spend_logs CASCADE")
        table.day(day)
        table.sql("CREATE TABLE app.spend_logs_strays PARTITION OF app.spend_logs DEFAULT")
        table.write(day, ROWS)
        table.write(FIRST - 900 * DAY, 5)
        context, units = table.plan(conn)
        assert sorted(unit.unit for unit in units) == ["spend_logs", f"spend_logs/{day:%Y-%m-%d}"]
        beside = RunContext(second, context.s3, context.policy, context.catalog, context.run)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(expire_leaf, context, f"spend_logs/{day:%Y-%m-%d}")
            rest = pool.submit(expire_records, beside, "spend_logs")
            assert first.result()["delete:business_default"]["records"] == ROWS
            assert rest.result()["delete:business_default"]["records"] == 5
    assert not table.left()
