"""What others do at every step of a unit of rows: holds, updates, cancelled backends, a killed server.

As in test_swap_races, ``LIFECYCLE_RACE_REPEATS=300`` strikes at three hundred moments a test instead of a few.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest

from lifecycle.demo.postgres import start_postgres, stop_postgres
from lifecycle.demo.server_process import ServerError
from lifecycle.demo.servers import Postgres
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.records import expire_records
from lifecycle.ledger import runs
from lifecycle.planning.units import Method, Tally, Unit
from lifecycle.stores.postgres.references import ReferencedError
from reference_store.create import create_schemas
from support.catalogue import scratch_database
from support.races import Stepping, Strike, moments, repeats, stepping
from support.servers import scratch, with_database
from support.units import AS_OF, CONFIG, Bench

pytestmark = pytest.mark.timeout(900 if "LIFECYCLE_RACE_REPEATS" in os.environ else 120)
UNIT = "safety_scores"
# The first batch looks at 100 rows, the second one at twice as many.
ROWS, SURVIVORS, ACCOUNTS = 230, 3, 10
FEW = 4
Other = psycopg.Connection[tuple[object, ...]]


@dataclass
class Scores:
    """Due rows of some accounts, in turn; what one account under hold has stays."""

    bench: Bench
    accounts: list[UUID]
    held: UUID
    context: RunContext

    def left(self, account: UUID | None = None) -> int:
        query = "SELECT count(*) FROM app.safety_scores WHERE %s::uuid IS NULL OR account_id = %s"
        return int(self.bench.value(query, account, account))

    def progress(self) -> int:
        """How many records the unit says are gone."""
        query = (
            "SELECT coalesce(sum((c.value ->> 'records')::int), 0) FROM lifecycle.plan_units u,"
            " jsonb_each(u.progress) c WHERE u.run_id = %s AND c.key LIKE 'delete:%%'"
        )
        return int(self.bench.value(query, self.context.run.run_id))

    def again(self) -> None:
        """The next try, on a connection of its own."""
        with self.bench.connect() as conn:
            context = self.context
            expire_records(RunContext(conn, context.s3, context.policy, context.catalog, context.run), UNIT)

    def judge(self) -> None:
        """The ledger says exactly what is gone, once, and what was under hold is there."""
        assert self.left(self.held) == SURVIVORS, "a record under hold is gone"
        gone = ROWS + SURVIVORS - self.left()
        ledger = self.bench.value(
            "SELECT coalesce(sum((counts->>'records')::int), 0) FROM lifecycle.ledger WHERE entry = 'outcome'"
            " AND disposition = 'delete' AND run_id = %s",
            self.context.run.run_id,
        )
        assert (self.progress(), int(ledger)) == (gone, gone)
        status = self.bench.value("SELECT status FROM lifecycle.plan_units WHERE run_id = %s", self.context.run.run_id)
        assert status == "done"


def some_scores(bench: Bench, conn: Stepping) -> Scores:
    accounts, held = [uuid4() for _ in range(ACCOUNTS)], uuid4()
    bench.sql("DELETE FROM lifecycle.legal_holds")
    bench.sql("TRUNCATE app.safety_scores")
    bench.hold("account", held)
    insert = (
        "INSERT INTO app.safety_scores SELECT gen_random_uuid(), gen_random_uuid(), (%s::uuid[])[1 + n %% %s],"
        " 'consumer', 'c', 0.5, timestamptz '2019-01-01Z' + n * interval '1 minute' FROM generate_series(1, %s) n"
    )
    bench.sql(insert, accounts, ACCOUNTS, ROWS)
    bench.sql(insert, [held], 1, SURVIVORS)
    hashes = (CONFIG.policy_hash, CONFIG.catalog_hash)
    run = runs.begin(
        conn, scope=RECORDS_SCOPE, as_of=AS_OF, run_key=f"test/{uuid4()}", hashes=hashes, dry_run=False, owner=None
    )
    freeze(conn, run.run_id, [Unit(UNIT, UNIT, Method.RECORDS, (Tally(f"delete:{UNIT}", ROWS),))])
    runs.finish(conn, run.run_id, "succeeded")  # so that the next one may begin
    # No row here has an object, so nothing asks for the store of objects.
    return Scores(bench, accounts, held, RunContext(conn, cast(Any, None), CONFIG.policy, CONFIG.catalog, run))


@pytest.fixture(scope="module")
def bench(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        made = Bench(conninfo)
        yield made
        made.close()


@pytest.fixture(scope="module")
def steps(bench: Bench) -> int:
    """How many statements the unit takes."""
    with stepping(bench.conninfo) as conn:
        scores = some_scores(bench, conn)
        conn.steps = 0
        expire_records(scores.context, UNIT)
        scores.judge()
        assert scores.left() == SURVIVORS
        return conn.steps


def struck(bench: Bench, steps: int, act: Callable[[Scores, Other], None]) -> Iterator[Scores]:
    """One unit per moment, with an act of another session begun right before that statement; it was done."""
    for moment in moments(steps, repeats(FEW)):
        with stepping(bench.conninfo) as conn, psycopg.connect(bench.conninfo, autocommit=True) as other:
            scores = some_scores(bench, conn)

            def strike(scores: Scores = scores, other: Other = other) -> None:
                act(scores, other)

            other.execute("SET lock_timeout = '20s'")
            conn.steps, conn.before = 0, Strike(moment, strike)
            expire_records(scores.context, UNIT)
            conn.before.at_last()
            conn.before.settle()
            yield scores


def test_a_hold_that_committed_first_wins_between_any_two_statements(bench: Bench, steps: int) -> None:
    """Case 4: what was there when the hold had committed stays, also when half of the account had gone before."""
    seen: list[int] = []

    def hold(scores: Scores, other: Other) -> None:
        other.execute(
            "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES ('account', %s, 'r', 'p')",
            (str(scores.accounts[0]),),
        )
        row = other.execute(
            "SELECT count(*) FROM app.safety_scores WHERE account_id = %s", (scores.accounts[0],)
        ).fetchone()
        assert row is not None
        seen.append(cast(int, row[0]))

    for scores in struck(bench, steps, hold):
        assert scores.left(scores.accounts[0]) == seen[-1]
        scores.judge()
    assert seen[0] == ROWS // ACCOUNTS and seen[-1] == 0, "no moment was before, or none after the batches"


def test_rows_that_somebody_updates_are_judged_as_they_are_then(bench: Bench, steps: int) -> None:
    """Never early, and nobody's statement ends in a deadlock: what could be updated is there, with its new clock."""
    updated: list[int] = []

    def refresh(scores: Scores, other: Other) -> None:
        done = other.execute(
            "UPDATE app.safety_scores SET scored_at = %s WHERE account_id = %s",
            (AS_OF - timedelta(days=1), scores.accounts[0]),
        )
        updated.append(done.rowcount)

    for scores in struck(bench, steps, refresh):
        young = bench.value("SELECT count(*) FROM app.safety_scores WHERE scored_at = %s", AS_OF - timedelta(days=1))
        assert young == updated[-1] == scores.left(scores.accounts[0])
        scores.judge()
    assert updated[0] == ROWS // ACCOUNTS


def test_a_cascade_that_is_made_between_batches_takes_nothing_along(bench: Bench, steps: int) -> None:
    """Promise 1: of what was there when the foreign key was, everything stays, and the unit fails by its name."""
    table = "CREATE TABLE app.copies (score uuid REFERENCES app.safety_scores ON DELETE CASCADE)"
    for moment in moments(steps, repeats(FEW)):
        with stepping(bench.conninfo) as conn:
            scores = some_scores(bench, conn)
            made: list[int] = []

            def strike(made: list[int] = made) -> None:
                bench.sql("SET lock_timeout = '20s'")
                bench.sql(table)
                bench.sql("INSERT INTO app.copies SELECT score_id FROM app.safety_scores")
                made.append(bench.value("SELECT count(*) FROM app.copies"))

            conn.steps, conn.before = 0, Strike(moment, strike)
            with suppress(ReferencedError):
                expire_records(scores.context, UNIT)
            conn.before.at_last()
            conn.before.settle()
        assert made[0] == bench.value("SELECT count(*) FROM app.copies") == scores.left()
        bench.sql("DROP TABLE app.copies")


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_what_a_cancelled_unit_has_counted_is_what_is_gone(bench: Bench, steps: int, way: str) -> None:
    """Promise 4: each batch is there or not, with its count; the next try ends what this one began."""
    for moment in moments(steps, repeats(FEW)):
        with stepping(bench.conninfo) as conn:
            scores = some_scores(bench, conn)
            pid = conn.info.backend_pid

            def strike(pid: int = pid) -> None:
                bench.sql(f"SELECT {way}({pid})")

            conn.steps, conn.before = 0, Strike(moment, strike)
            with suppress(psycopg.OperationalError):
                expire_records(scores.context, UNIT)
            assert scores.progress() == ROWS + SURVIVORS - scores.left()
        scores.again()
        assert scores.left() == SURVIVORS
        scores.judge()


def test_a_server_that_is_killed_between_batches_comes_back_with_whole_ones(steps: int) -> None:
    """SIGKILL of PostgreSQL itself, with fsync on."""
    with scratch("killed-batches") as folder:
        server = start_postgres(folder, tie_to_parent=True)
        try:
            create_schemas(server.conninfo())
            for moment in moments(steps, repeats(2)):
                server = _kill_at(folder, server, max(moment, steps // 3))
        finally:
            stop_postgres(folder)


def _kill_at(folder: Path, server: Postgres, moment: int) -> Postgres:
    bench = Bench(with_database(server, "postgres"))
    conn = stepping(bench.conninfo)
    scores = some_scores(bench, conn)
    conn.steps, conn.before = 0, Strike(moment, lambda: os.kill(server.pid, signal.SIGKILL))
    try:
        with suppress(psycopg.OperationalError):
            expire_records(scores.context, UNIT)
        conn.before.at_last()
    finally:
        conn.close()
        bench.close()
    with suppress(ChildProcessError):
        os.waitpid(server.pid, 0)  # a zombie still has the number that is in postmaster.pid
    server = _come_back(folder)
    scores.bench = Bench(with_database(server, "postgres"))
    assert scores.progress() == ROWS + SURVIVORS - scores.left()
    scores.again()
    assert scores.left() == SURVIVORS
    scores.judge()
    scores.bench.close()
    return server


def _come_back(folder: Path) -> Postgres:
    """Start the server again; the processes of the old one may still be on their way out."""
    for _ in range(20):
        try:
            return start_postgres(folder, tie_to_parent=True)
        except ServerError as error:
            last = error
    raise last
