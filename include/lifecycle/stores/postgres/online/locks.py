"""Locks on a table in use: asked for briefly, given up, asked for again; and who still has an older view of it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString, TypeVar

import psycopg

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.holding import holders_of
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.refused import refused_by

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


class TableBusyError(PreconditionError):
    """Something in the way did not end within the patience asked for. What was done is kept; `--resume` goes on."""

    def __init__(self, what: str, seconds: float, holders: Sequence[str] = ()) -> None:
        self.what, self.seconds = what, seconds
        longest = f" (holding tables for the longest: {'; '.join(holders)})" if holders else ""
        super().__init__(
            f"{what}, for {seconds:.0f} s{longest}. Nothing is lost: end what is in the way, and go on with --resume"
        )


class ForbiddenError(PreconditionError):
    """An event trigger of somebody refuses what a step does. Nothing of the step was done; `--resume` goes on."""


class AlreadyRunningError(PreconditionError):
    """Another process works on the same table."""


@dataclass(frozen=True)
class Patience:
    """``lock_ms``: how long a request may stand in the queue, and others behind it. Below deadlock_timeout (1 s)."""

    lock_ms: int = 400
    seconds: float = 600.0


def patiently(conn: Connection, patience: Patience, what: str, act: Callable[[], Result]) -> Result:
    """Run ``act`` in a transaction of its own, again and again while its locks are not to be had.

    Between two tries nobody waits behind us, and a pause is longer than most tries: the application goes first.

    Raises:
        TableBusyError: not within the patience.
        ForbiddenError: it is DDL that an event trigger refuses.
    """
    began, pause = time.monotonic(), 0.2
    while True:
        try:
            with conn.transaction():
                conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{patience.lock_ms}ms",))
                return act()
        except _BUSY:
            if time.monotonic() - began > patience.seconds:
                held = holders_of(conn, None)
                raise TableBusyError(f"the locks for {what} were not to be had", patience.seconds, held) from None
            log.info("%s: locks are busy, trying again in %.1f s", what, pause)
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, 5.0)
        except psycopg.Error as error:
            refused = refused_by(conn, error)
            if refused is None:
                raise
            raise ForbiddenError(f"{what}: {refused}. Nothing of this step was done") from None


@contextmanager
def alone(conn: Connection, table: Name) -> Iterator[None]:
    """Hold this table's partitioning for this session.

    Raises:
        AlreadyRunningError: another session holds it; that of a killed process ends with its statement.
    """
    key = f"lifecycle partitioning {table}"
    if not one(conn, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)):
        raise AlreadyRunningError(f"another process is partitioning {table}; wait until it ends")
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


# Every role sees who holds a virtual transaction id; whether it has a snapshot only those who may.
_OPEN: LiteralString = """
    SELECT l.virtualtransaction FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = current_database() AND l.pid <> pg_backend_pid()
      AND coalesce(a.backend_type, 'client backend') IN ('client backend', 'parallel worker')
      AND NOT (a.state IS NOT NULL AND a.backend_xmin IS NULL)"""


def open_snapshots(conn: Connection) -> list[str]:
    """Transactions that may have a view of the database from before now."""
    return [row[0] for row in conn.execute(_OPEN).fetchall()]


def await_snapshots(conn: Connection, snapshots: Sequence[str], patience: Patience) -> None:
    """Wait until no transaction can see the table as it was before the copy was complete.

    Raises:
        TableBusyError: not within the patience; says how many there are.
    """
    began, pause = time.monotonic(), 0.05
    while left := set(snapshots) & set(open_snapshots(conn)):
        if time.monotonic() - began > patience.seconds:
            raise TableBusyError(
                f"{len(left)} transaction(s) still see the table as it was before the copy was complete",
                patience.seconds,
            )
        time.sleep(pause)
        pause = min(pause * 2, 2.0)
