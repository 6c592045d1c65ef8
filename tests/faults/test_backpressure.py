"""What makes a unit of rows wait, with the real thing: a replica that does not replay, a checkpoint, the log (case 19).

How it is judged and for how long it waits is told in planning/test_pacing.py; here the readings are the server's own.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo import postgres as demo
from lifecycle.demo.postgres import start_postgres, stop_postgres
from lifecycle.demo.servers import Postgres
from lifecycle.dispositions import pacer
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.records import expire_records
from lifecycle.ledger import runs
from lifecycle.planning.pacing import SHORTEST_SPAN, TRICKLE, Limits, Reading
from lifecycle.planning.physical import outlook
from lifecycle.planning.units import Method, Tally, Unit
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres import pressure
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.physical import facts, last_deletion
from lifecycle.stores.postgres.reclaim import reclaim, reclaim_pending
from reference_store.create import create_schemas
from support.servers import scratch
from support.units import AS_OF, CONFIG, Bench

pytestmark = pytest.mark.timeout(180)
UNIT = "safety_scores"
# More than go before anything is asked about the server; the rest is one batch.
ROWS = TRICKLE + 50
LAG_SECONDS = 0.5
CALM = Limits(replication_lag=1e9, wal_per_second=1e12, checkpoint_rest=0, canary_factor=1e9)


@dataclass
class Naps:
    """The pacer's waits, and what is done when the first one begins."""

    taken: list[float] = field(default_factory=list)
    first: Callable[[], object] = lambda: None
    really: bool = True

    def __call__(self, seconds: float) -> None:
        if not self.taken:
            self.first()
        self.taken.append(seconds)
        if self.really:
            time.sleep(seconds)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Naps:
    made = Naps()
    monkeypatch.setattr(pacer, "time", SimpleNamespace(monotonic=time.monotonic, sleep=made))
    monkeypatch.setattr(pacer, "read", pressure.read)  # of a server of our own, which no neighbour disturbs
    return made


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let one thing press, and nothing else."""

    def only(**changed: float) -> None:
        monkeypatch.setattr(pacer, "limits_of", lambda pace: replace(CALM, **changed))

    return only


@pytest.fixture
def after_a_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen between the first batch and the question how the server is."""

    def arrange(act: Callable[[], object]) -> None:
        # The first reading is taken before the first batch.
        acts = iter([lambda: None, act])

        def read(conn: Connection, canary: sql.Composed) -> Reading:
            next(acts, lambda: None)()
            return pressure.read(conn, canary)

        monkeypatch.setattr(pacer, "read", read)

    return arrange


@contextmanager
def replica_of(primary: Postgres, folder: Path) -> Iterator[Postgres]:
    """A hot standby that streams from a server."""
    folder.mkdir()
    home = demo._home(folder)
    demo._hand_over(home)
    copy = [str(demo._binaries() / "pg_basebackup"), "-d", primary.conninfo(), "-D", str(home / "data"), "-R"]
    subprocess.run([*copy, "-c", "fast"], check=True, cwd="/", capture_output=True, **demo._service_account())
    (folder / "postgres.password").write_text(primary.password + "\n", encoding="utf-8")
    try:
        yield start_postgres(folder, tie_to_parent=True)
    finally:
        stop_postgres(folder)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with scratch("backpressure") as made:
        yield made


@pytest.fixture(scope="module")
def primary(folder: Path) -> Iterator[Postgres]:
    server = start_postgres(folder / "primary", tie_to_parent=True)
    create_schemas(server.conninfo())
    yield server
    stop_postgres(folder / "primary")


@pytest.fixture
def bench(primary: Postgres) -> Iterator[Bench]:
    made = Bench(primary.conninfo())
    yield made
    made.close()


def expire_scores(bench: Bench) -> None:
    """A unit of some due rows; all of them are gone when it ends."""
    bench.sql("TRUNCATE app.safety_scores")
    bench.sql(
        "INSERT INTO app.safety_scores SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'consumer', 'c',"
        " 0.5, timestamptz '2019-01-01Z' + n * interval '1 minute' FROM generate_series(1, %s) n",
        ROWS,
    )
    hashes = (CONFIG.policy_hash, CONFIG.catalog_hash)
    with bench.connect() as conn:
        run = runs.begin(
            conn, scope=RECORDS_SCOPE, as_of=AS_OF, run_key=f"test/{uuid4()}", hashes=hashes, dry_run=False, owner=None
        )
        freeze(conn, run.run_id, [Unit(UNIT, UNIT, Method.RECORDS, (Tally(f"delete:{UNIT}", ROWS),))])
        runs.finish(conn, run.run_id, "succeeded")  # so that the next one may begin
        expire_records(RunContext(conn, cast(Any, None), CONFIG.policy, CONFIG.catalog, run), UNIT)
    assert bench.value("SELECT count(*) FROM app.safety_scores") == 0


def reading(bench: Bench) -> Reading:
    with bench.connect() as conn:
        return pressure.read(conn, sql.Composed([sql.SQL("SELECT 1")]))


def test_a_replica_that_does_not_replay_is_waited_for_and_no_longer_than_that(
    bench: Bench, primary: Postgres, folder: Path, naps: Naps, limits: Callable[..., None]
) -> None:
    """A replica that has caught up goes on telling its last lag for ten seconds; nobody waits for that."""
    limits(replication_lag=LAG_SECONDS)
    with (
        replica_of(primary, folder / "replica") as replica,
        psycopg.connect(replica.conninfo(), autocommit=True) as far,
    ):
        far.execute("SELECT pg_wal_replay_pause()")
        give_up = time.monotonic() + 60
        while (reading(bench).replication_lag or 0) < LAG_SECONDS * 2:
            assert time.monotonic() < give_up, "a replica that does not replay has no lag"
            bench.sql("SELECT pg_logical_emit_message(true, 'a', 'b')")
            time.sleep(0.1)

        def resume() -> None:
            time.sleep(LAG_SECONDS * 2)  # so that this is the last lag that is measured, of the last thing written
            far.execute("SELECT pg_wal_replay_resume()")

        naps.first = resume
        expire_scores(bench)
    assert naps.taken, "it did not wait"
    assert sum(naps.taken) < 8, "it waited for a replica that had caught up"


def until(met: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not met():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


def test_rows_that_a_replica_still_reads_are_not_called_reclaimed_and_the_replica_is_named(
    bench: Bench, primary: Postgres, folder: Path
) -> None:
    """hot_standby_feedback without a slot: no session of the primary's, and no slot, says who holds them (case 18)."""
    seen = "SELECT count(*) FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
    table = sql.Identifier("app", "held_by_replica")
    with (
        replica_of(primary, folder / "feedback") as replica,
        psycopg.connect(replica.conninfo(), autocommit=True) as far,
        bench.connect() as conn,
    ):
        conn.execute("CREATE TABLE app.held_by_replica (id int)")
        conn.execute("INSERT INTO app.held_by_replica VALUES (1)")
        for setting in ("hot_standby_feedback = on", "wal_receiver_status_interval = '1s'"):
            far.execute(f"ALTER SYSTEM SET {setting}".encode())
        there = "SELECT to_regclass('app.held_by_replica') IS NOT NULL"
        until(lambda: bool(one(far, there)), "it does not replay")
        with psycopg.connect(replica.conninfo()) as report:
            report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            report.execute("SELECT * FROM app.held_by_replica").fetchall()
            far.execute("SELECT pg_reload_conf()")
            until(lambda: bench.value(seen) == 1, "it feeds nothing back")
            conn.execute("DELETE FROM app.held_by_replica")
            assert not reclaim(conn, 1, "held", [table])
            deletion = last_deletion(conn)
            assert deletion is not None and deletion.tables_pending == 1
            kinds = {holder.kind: holder.why for holder in outlook(facts(conn), deletion, Period()).holders}
            assert "hot_standby_feedback" in kinds["replica feedback"]
            assert "snapshots" not in kinds
        until(lambda: reclaim_pending(conn) == 0, "the replica reads no more, and rows stay")


def test_a_checkpoint_is_given_its_rest(
    bench: Bench, naps: Naps, limits: Callable[..., None], after_a_batch: Callable[[Callable[[], object]], None]
) -> None:
    def checkpoint() -> None:
        before = reading(bench).checkpoints
        bench.sql("CHECKPOINT")
        while reading(bench).checkpoints == before:  # counted a moment after it is done
            pass

    limits(checkpoint_rest=0.3)
    after_a_batch(checkpoint)
    expire_scores(bench)
    assert naps.taken == [0.3]


def test_log_that_is_written_too_fast_is_waited_out(
    bench: Bench, naps: Naps, limits: Callable[..., None], after_a_batch: Callable[[Callable[[], object]], None]
) -> None:
    """A megabyte in a second and a bit, of which 100 kB a second are allowed."""

    def write() -> None:
        bench.sql("SELECT pg_logical_emit_message(false, 'a', repeat('x', 1000000))")
        time.sleep(SHORTEST_SPAN)

    naps.really = False
    limits(wal_per_second=100_000)
    after_a_batch(write)
    expire_scores(bench)
    assert naps.taken == [5.0], "as long as it takes to be back at the limit, five seconds at a time"
