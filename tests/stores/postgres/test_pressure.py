"""What makes batches wait is measured on the server itself: its log, its checkpoints, and a query in somebody's way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.pressure import canary_of, read
from support.catalogue import scratch_database


@pytest.fixture(scope="module")
def conninfo(postgres_server: Postgres) -> Iterator[str]:
    with scratch_database(postgres_server) as name:
        yield name


def test_log_forced_checkpoints_and_a_query_that_waits_are_seen(conninfo: str) -> None:
    """Issue 4, point 2. The shared server may do more of each at the same time, never less."""
    canary = canary_of(sql.Identifier("app", "feedback"), "submitted_at", indexed=True)
    with psycopg.connect(conninfo, autocommit=True) as conn, psycopg.connect(conninfo) as other:
        conn.execute("CREATE TABLE app.noise (words text)")
        before = read(conn, canary)
        conn.execute("INSERT INTO app.noise SELECT repeat('x', 100) FROM generate_series(1, 20000)")
        conn.execute("CHECKPOINT")
        conn.execute("SELECT pg_stat_clear_snapshot()")
        other.execute("LOCK TABLE app.feedback IN ACCESS EXCLUSIVE MODE")
        released = threading.Timer(0.3, other.rollback)
        released.start()
        after = read(conn, canary)
        released.join()
    assert before.wal is not None and after.wal is not None and after.wal - before.wal > 2_000_000
    assert before.checkpoints is not None and after.checkpoints is not None and after.checkpoints > before.checkpoints
    assert after.canary > 0.2, "the canary did not wait for who was in its way"
    assert after.replication_lag is None, "there is no replica"
