"""Table locks that the application waits for no longer than it must (hard case 19).

A lock request that waits makes everybody wait who comes after it. So a set of strong locks is asked for within one
budget, all of them together; and who waits for us is looked at before we try again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg
from psycopg import sql

from lifecycle.stores.postgres.connect import LOCK_TIMEOUT_MS, Connection, one

log = logging.getLogger(__name__)
Result = TypeVar("Result")
EXCLUSIVE = "ACCESS EXCLUSIVE"
QUIET = "SHARE ROW EXCLUSIVE"
SHARED = "ACCESS SHARE"
PATIENCE_SECONDS = 30.0
# While others may wait for what we hold already, we hardly wait for them at all: PostgreSQL resolves a deadlock by
# ending a session that has waited for a second, and that must never be one of the application's.
BRIEF_MS = 100
_AT_ONCE_MS = 5


def limit_waits(conn: Connection, milliseconds: int) -> None:
    """Give up after so long a wait for a lock, until the end of the transaction."""
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, milliseconds)}ms",))


def lock_tables(
    conn: Connection, tables: Sequence[tuple[sql.Composable, str]], budget_ms: int = LOCK_TIMEOUT_MS
) -> None:
    """Lock tables one after another, waiting no longer than the budget for all of them together.

    Raises:
        psycopg.errors.LockNotAvailable: the budget is used up.
    """
    ends = time.monotonic() + budget_ms / 1000
    for name, mode in tables:
        limit_waits(conn, round((ends - time.monotonic()) * 1000))
        conn.execute(sql.SQL("LOCK TABLE ONLY {} IN {} MODE").format(name, sql.SQL(mode)))
    limit_waits(conn, BRIEF_MS)


def somebody_waits(conn: Connection) -> bool:
    """Whether anybody but our own gates, which queue on purpose, waits for a lock that this session holds."""
    return bool(
        one(
            conn,
            "SELECT EXISTS (SELECT FROM pg_locks w WHERE NOT w.granted AND w.locktype <> 'advisory'"
            " AND w.pid <> pg_backend_pid() AND pg_backend_pid() = ANY(pg_blocking_pids(w.pid)))",
        )
    )


def at_a_free_moment(
    conn: Connection,
    tables: Sequence[tuple[sql.Composable, str]],
    act: Callable[[], Result],
    *,
    patience: float = PATIENCE_SECONDS,
) -> Result:
    """Act under strong locks as soon as all of them are free at once, keeping what the transaction did before.

    Between tries nothing strong is held. Whoever waits for what we hold already may hold what we ask for: then that has
    to be free at once, or the whole transaction gives way.

    Raises:
        psycopg.errors.LockNotAvailable: there was no free moment, or somebody waits for us.
    """
    ends, pause = time.monotonic() + patience, 0.05
    while True:
        try:
            with conn.transaction():
                lock_tables(conn, tables, _AT_ONCE_MS if somebody_waits(conn) else LOCK_TIMEOUT_MS)
                return act()
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > ends or somebody_waits(conn):
                raise
            log.info("a table is in use, trying again in %.2f s", pause)
            time.sleep(pause)
            pause = min(pause * 2, 1.0)
