"""What makes batches wait is measured on the server itself: its log, its checkpoints, and a query in somebody's way."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres, start_postgres, stop_postgres
from lifecycle.stores.postgres.pressure import canary_of, read
from support.catalogue import programs, scratch_database
from support.servers import scratch


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
        other.execute("LOCK TABLE app.feedback IN ACCESS EXCLUSIVE MODE")
        released = threading.Timer(0.3, other.rollback)
        released.start()
        after = read(conn, canary)
        released.join()
        counted, deadline = after.checkpoints, time.monotonic() + 30
        while counted == before.checkpoints and time.monotonic() < deadline:  # the checkpointer tells of it afterwards
            time.sleep(0.05)
            counted = read(conn, canary).checkpoints
    assert before.wal is not None and after.wal is not None and after.wal - before.wal > 2_000_000
    assert before.checkpoints is not None and counted is not None and counted > before.checkpoints
    assert after.canary > 0.2, "the canary did not wait for who was in its way"
    assert after.replication_lag is None, "there is no replica"


@pytest.fixture
def replicated() -> Iterator[str]:
    """A primary whose replica applies everything a second late."""
    with scratch("primary") as first, scratch("replica") as second, ExitStack() as stack:
        primary = start_postgres(first, tie_to_parent=True)
        stack.callback(stop_postgres, first)
        data = second / "postgres" / "data"
        data.parent.mkdir(mode=0o711)
        command = [
            *(str(programs() / "pg_basebackup"), "-D", str(data), "-X", "stream", "-c", "fast", "--no-sync"),
            *("-d", primary.conninfo()),
        ]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{primary.conninfo()}'\nrecovery_min_apply_delay = '1s'\n")
        (data / "standby.signal").touch()
        owner = (first / "postgres" / "data").stat()
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        (second / "postgres.password").write_text(primary.password, encoding="utf-8")
        start_postgres(second, tie_to_parent=True)
        stack.callback(stop_postgres, second)
        yield primary.conninfo()


def test_a_replica_that_is_behind_is_seen(replicated: str) -> None:
    """Issue 4, point 2, on a real standby: what it has received and not applied counts."""
    canary = sql.Composed([sql.SQL("SELECT 1")])
    with psycopg.connect(replicated, autocommit=True) as conn:
        conn.execute("CREATE TABLE noise (words text)")
        deadline, lag = time.monotonic() + 60, None
        while (lag is None or lag < 0.5) and time.monotonic() < deadline:
            conn.execute("INSERT INTO noise VALUES ('x')")
            lag = read(conn, canary).replication_lag
            time.sleep(0.05)
    assert lag is not None and lag >= 0.5
