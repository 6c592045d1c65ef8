"""What others do at every step of a swap: holds, flags, requests, writes, DDL, cancelled backends, a killed server.

``LIFECYCLE_RACE_REPEATS=300`` strikes at three hundred moments a test instead of a few.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from lifecycle.demo.postgres import start_postgres, stop_postgres
from lifecycle.demo.server_process import ServerError
from lifecycle.demo.servers import Postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire import expire
from reference_store.create import create_schemas
from support.catalogue import scratch_database
from support.races import Stepping, Strike, moments, repeats, stepping
from support.servers import scratch, with_database
from support.units import AS_OF, DAY, TIER, Bench

pytestmark = pytest.mark.timeout(600 if "LIFECYCLE_RACE_REPEATS" in os.environ else 120)
ROWS, SURVIVORS = 12, 3
AGES = count(100)
FEW = 4


@dataclass
class Day:
    """A due day: most of it goes, what an account under hold has stays."""

    bench: Bench
    age: int
    account: UUID
    going: list[UUID]
    staying: list[UUID]
    context: RunContext
    unit: str

    @property
    def leaf(self) -> str:
        return self.bench.leaf(self.age)

    def left(self) -> set[UUID]:
        return self.bench.records(self.age)

    def again(self) -> None:
        """The next try, on a connection of its own."""
        with self.bench.connect() as conn:
            context = RunContext(conn, self.context.s3, self.context.policy, self.context.catalog, self.context.run)
            expire(context, self.unit)

    def judge(self, written: int = ROWS + SURVIVORS) -> None:
        """Nothing half done, and the ledger says exactly what is gone."""
        bench = self.bench
        left = self.left()
        assert set(self.staying) <= left, "a record under hold is gone"
        assert bench.ledger(self.unit) == written - len(left)
        assert (
            bench.value("SELECT count(*) FROM lifecycle.plan_units WHERE unit = %s AND status = 'done'", self.unit) == 1
        )
        scraps = bench.value(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'lifecycle'::regnamespace AND relname LIKE 'messages%%'"
        )
        assert scraps == 0
        bound = bench.value(f"SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = '{self.leaf}'::regclass")
        assert f"{AS_OF - self.age * DAY:%Y-%m-%d}" in bound


@pytest.fixture(scope="module")
def bench(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        made = Bench(conninfo)
        yield made
        made.close()


@pytest.fixture(scope="module")
def steps(bench: Bench) -> int:
    """How many statements a swap takes."""
    with stepping(bench.conninfo) as conn:
        day = a_day(bench, conn)
        conn.steps = 0
        expire(day.context, day.unit)
        day.judge()
        return conn.steps


def a_day(bench: Bench, conn: Stepping) -> Day:
    age, account = next(AGES), uuid4()
    bench.day(age)
    bench.sql("DELETE FROM lifecycle.legal_holds")
    bench.hold("account", account)
    going, staying = bench.write(age, ROWS), bench.write(age, SURVIVORS, account=account)
    context, (unit,) = bench.plan(conn, age)
    return Day(bench, age, account, going, staying, context, unit)


def struck(
    bench: Bench, steps: int, act: Callable[[Day, psycopg.Connection[tuple[object, ...]]], None]
) -> Iterator[Day]:
    """One swap per moment, with an act of another session begun right before that statement; whether it was done."""
    for moment in moments(steps, repeats(FEW)):
        with stepping(bench.conninfo) as conn, psycopg.connect(bench.conninfo, autocommit=True) as other:
            day = a_day(bench, conn)

            def strike(day: Day = day, other: psycopg.Connection[tuple[object, ...]] = other) -> None:
                act(day, other)

            other.execute("SET lock_timeout = '20s'")
            conn.steps, conn.before = 0, Strike(moment, strike)
            expire(day.context, day.unit)
            conn.before.settle()
            yield day


def test_a_hold_that_committed_first_wins_at_every_step(bench: Bench, steps: int) -> None:
    """Case 4: whoever saw the record after the hold had committed sees it for good."""
    seen: list[bool] = []

    def hold(day: Day, other: psycopg.Connection[tuple[object, ...]]) -> None:
        other.execute(
            "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES ('message', %s, 'r', 'p')",
            (str(day.going[0]),),
        )
        seen.append(day.going[0] in _records(other, day))

    for day in struck(bench, steps, hold):
        assert (day.going[0] in day.left()) == seen[-1]
        day.judge()
    assert len(set(seen)) == 2 or len(seen) < 3, "no moment was before, or none after the swap"


def test_a_flag_that_committed_first_keeps_its_message_at_every_step(bench: Bench, steps: int) -> None:
    seen: list[bool] = []

    def flag(day: Day, other: psycopg.Connection[tuple[object, ...]]) -> None:
        other.execute(
            "INSERT INTO app.safety_flags (message_id, account_id, flagged_at) VALUES (%s, %s, now())",
            (day.going[0], uuid4()),
        )
        seen.append(day.going[0] in _records(other, day))

    for day in struck(bench, steps, flag):
        assert (day.going[0] in day.left()) == seen[-1]
        day.judge()
        bench.sql("DELETE FROM app.safety_flags")


def test_an_erasure_request_changes_nothing_half_way(bench: Bench, steps: int) -> None:
    """It asks for a record that a hold keeps, and for one that goes anyhow."""

    def ask(day: Day, other: psycopg.Connection[tuple[object, ...]]) -> None:
        for record in (day.going[0], day.staying[0]):
            other.execute(
                "INSERT INTO lifecycle.erasure_requests (scope, target) VALUES ('message', %s)", (str(record),)
            )

    for day in struck(bench, steps, ask):
        assert day.left() == set(day.staying)
        day.judge()


def test_a_row_written_into_the_due_day_is_there_or_in_the_ledger(bench: Bench, steps: int) -> None:
    """Case 12: a committed insert is never lost between the old partition and the new one."""
    for day in struck(bench, steps, lambda day, other: _write(bench, day)):
        day.judge(ROWS + SURVIVORS + 1)


def test_an_update_of_a_survivor_is_never_lost(bench: Bench, steps: int) -> None:
    def edit(day: Day, other: psycopg.Connection[tuple[object, ...]]) -> None:
        changed = other.execute(
            "UPDATE app.messages SET body = 'edited' WHERE message_id = %s AND tier = %s", (day.staying[0], TIER.value)
        )
        assert changed.rowcount == 1

    for day in struck(bench, steps, edit):
        assert bench.value("SELECT body FROM app.messages WHERE message_id = %s", day.staying[0]) == "edited"
        day.judge()


def test_an_index_that_somebody_makes_meanwhile_is_there_afterwards(bench: Bench, steps: int) -> None:
    def index(day: Day, other: psycopg.Connection[tuple[object, ...]]) -> None:
        other.execute(f"CREATE INDEX made_meanwhile ON {day.leaf} (model)".encode())

    for day in struck(bench, steps, index):
        table = bench.value(
            "SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = 'app.made_meanwhile'::regclass"
        )
        assert table == day.leaf
        bench.sql("DROP INDEX app.made_meanwhile")
        day.judge()


def test_a_column_that_somebody_adds_meanwhile_is_there_afterwards(bench: Bench, steps: int) -> None:
    """DDL on the parent comes down to the partition; neither side is left waiting for the other."""

    def column(day: Day, other: psycopg.Connection[tuple[object, ...]]) -> None:
        other.execute("ALTER TABLE app.messages ADD COLUMN meanwhile text DEFAULT 'x'")

    for day in struck(bench, steps, column):
        assert bench.sql("SELECT DISTINCT meanwhile FROM app.messages WHERE message_id = ANY(%s)", day.staying) == [
            ("x",)
        ]
        bench.sql("ALTER TABLE app.messages DROP COLUMN meanwhile")
        day.judge()


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_swap_that_is_cancelled_is_whole_or_has_not_begun(bench: Bench, steps: int, way: str) -> None:
    """Between two statements, so that the next one meets it; the next try ends what this one began."""
    for moment in moments(steps, repeats(FEW)):
        with stepping(bench.conninfo) as conn:
            day = a_day(bench, conn)
            before = day.left()
            pid = conn.info.backend_pid

            def strike(pid: int = pid) -> None:
                bench.sql(f"SELECT {way}({pid})")

            conn.steps, conn.before = 0, Strike(moment, strike)
            try:
                expire(day.context, day.unit)
            except psycopg.Error as error:
                assert isinstance(error, psycopg.OperationalError), error
                assert day.left() in (before, set(day.staying))
                assert bench.ledger(day.unit) == len(before) - len(day.left())
        day.again()
        assert day.left() == set(day.staying)
        day.judge()


def test_a_server_that_is_killed_during_a_swap_comes_back_with_all_or_nothing(steps: int) -> None:
    """SIGKILL of PostgreSQL itself, with fsync on; after its recovery the next try ends what this one began."""
    with scratch("killed-pg") as folder:
        server = start_postgres(folder, tie_to_parent=True)
        try:
            create_schemas(server.conninfo())
            for moment in moments(steps, repeats(2)):
                server = _kill_at(folder, server, moment)
        finally:
            stop_postgres(folder)


def _kill_at(folder: Path, server: Postgres, moment: int) -> Postgres:
    bench = Bench(with_database(server, "postgres"))
    conn = stepping(bench.conninfo)
    day = a_day(bench, conn)
    before = day.left()
    conn.steps, conn.before = 0, Strike(moment, lambda: os.kill(server.pid, signal.SIGKILL))
    try:
        expire(day.context, day.unit)
    except psycopg.OperationalError:
        pass
    finally:
        conn.close()
        bench.close()
    with suppress(ChildProcessError):
        os.waitpid(server.pid, 0)  # a zombie still has the number that is in postmaster.pid
    server = _come_back(folder)
    day.bench = Bench(with_database(server, "postgres"))
    assert day.left() in (before, set(day.staying))
    assert day.bench.ledger(day.unit) == len(before) - len(day.left())
    day.again()
    assert day.left() == set(day.staying)
    day.judge()
    day.bench.close()
    return server


def _come_back(folder: Path) -> Postgres:
    """Start the server again; the processes of the old one may still be on their way out."""
    for _ in range(20):
        try:
            return start_postgres(folder, tie_to_parent=True)
        except ServerError as error:
            last = error
    raise last


def _write(bench: Bench, day: Day) -> None:
    with bench.connect() as conn:
        bench.write(day.age, conn=conn)


def _records(conn: psycopg.Connection[tuple[object, ...]], day: Day) -> set[object]:
    return {
        record
        for (record,) in conn.execute("SELECT message_id FROM app.messages WHERE message_id = ANY(%s)", (day.going,))
    }
