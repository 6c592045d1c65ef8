"""The choke point: every destructive act happens inside `open_gate` (hard cases 4 and 27).

While the gate is open, holds and exceptions are locked against change, and the unit's fence has been checked: whoever
committed a hold first has won, and whoever comes later waits until the gate closes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import sql

from lifecycle.catalog.exclusions import bound_tables
from lifecycle.catalog.models import Catalog
from lifecycle.errors import ApprovalError, FencedOutError, PreconditionError
from lifecycle.stores.postgres.connect import LOCK_TIMEOUT_MS, Connection
from lifecycle.stores.postgres.fates import ERASURES, HOLDS, table
from lifecycle.stores.postgres.holding import TablesBusyError, holders_of

log = logging.getLogger(__name__)
Result = TypeVar("Result")
LOCK_BUDGET_SECONDS = 120.0
# Our own gates queue here, in order, instead of racing for the application's tables.
_QUEUE_LOCK = 0x67617465
_OWN_TABLES = ("lifecycle.legal_holds", "lifecycle.erasure_requests")


@dataclass(frozen=True)
class UnitLease:
    """The right of one try to work on one unit of a run; a newer try takes it over by a higher token."""

    run_id: int
    unit: str
    token: int


def take_lease(conn: Connection, run_id: int, unit: str) -> UnitLease:
    """Take a unit over from whoever had it. The former holder's next destructive act is refused.

    Raises:
        ApprovalError: the unit waits for somebody to say yes.
    """
    row = conn.execute(
        "UPDATE lifecycle.plan_units SET fence = fence + 1,"
        " status = CASE status WHEN 'done' THEN 'done' ELSE 'running' END,"
        " started_at = coalesce(started_at, clock_timestamp()) WHERE run_id = %s AND unit = %s AND status <> 'awaiting'"
        " RETURNING fence",
        (run_id, unit),
    ).fetchone()
    if row is None:
        _refuse_waiting(conn, run_id, unit)
        raise PreconditionError(f"unit {unit!r} is not part of the plan of run {run_id}")
    return UnitLease(run_id, unit, row[0])


def _refuse_waiting(conn: Connection, run_id: int, unit: str) -> None:
    waits = conn.execute(
        "SELECT 1 FROM lifecycle.plan_units WHERE run_id = %s AND unit = %s AND status = 'awaiting'", (run_id, unit)
    ).fetchone()
    if waits is not None:
        raise ApprovalError(f"unit {unit!r} of run {run_id} waits for an approval: `lifecycle policy status`")


class Gate:
    """An open gate. Also the Permit that the S3 engine asks before each request."""

    def __init__(self, conn: Connection, lease: UnitLease) -> None:
        self.conn = conn
        self._lease = lease
        self._open = True

    def check(self) -> None:
        """Raise unless the gate is open and the connection that holds its locks still answers."""
        if not self._open or self.conn.closed:
            raise FencedOutError(self._lease.unit, self._lease.token)
        self.conn.execute("SELECT 1")

    def close(self) -> None:
        self._open = False


def _lock_exceptions(conn: Connection, catalog: Catalog, reads_only: bool) -> None:
    """Holds and requests are only read here; the application's exception tables may also lose rows to us."""
    ours = [sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.SQL(", ").join([HOLDS, ERASURES]))]
    # Self-conflicting: two gates that both hold SHARE and then delete from these tables would deadlock.
    theirs = sql.SQL("LOCK TABLE {} IN {} MODE")
    if names := sorted(catalog.exceptions.tables):
        mode = sql.SQL("SHARE" if reads_only else "SHARE ROW EXCLUSIVE")
        ours.append(theirs.format(sql.SQL(", ").join(table(name) for name in names), mode))
    for statement in ours:
        conn.execute(statement)


@contextmanager
def in_turn(conn: Connection) -> Iterator[None]:
    """One transaction that changes partitions and destroys nothing: it queues with the gates, and needs no unit."""
    with conn.transaction():
        _queue(conn)
        yield


def _queue(conn: Connection, *, beside: bool = False) -> None:
    """Wait for our turn; ``beside``: for those only who need it to themselves. Whoever waits is not overtaken."""
    function = sql.SQL("pg_advisory_xact_lock_shared" if beside else "pg_advisory_xact_lock")
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_BUDGET_SECONDS:.0f}s",))
    conn.execute(sql.SQL("SELECT {}(%s)").format(function), (_QUEUE_LOCK,))
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_TIMEOUT_MS}ms",))


@contextmanager
def open_gate(conn: Connection, catalog: Catalog, lease: UnitLease, *, reads_only: bool = False) -> Iterator[Gate]:
    """One transaction in which something may be destroyed. Commits when the block ends, rolls back on an error.

    Args:
        reads_only: nothing will be written to the tables of exceptions. Such gates are open beside each other; holds
            and exceptions stand still all the same.

    Raises:
        FencedOutError: a newer try has taken the unit over.
        psycopg.errors.LockNotAvailable: the locks were not to be had at once; see `through_gate`.
    """
    with conn.transaction():
        _queue(conn, beside=reads_only)
        row = conn.execute(
            "SELECT fence FROM lifecycle.plan_units WHERE run_id = %s AND unit = %s FOR UPDATE",
            (lease.run_id, lease.unit),
        ).fetchone()
        if row is None or row[0] != lease.token:
            raise FencedOutError(lease.unit, lease.token)
        _lock_exceptions(conn, catalog, reads_only)
        gate = Gate(conn, lease)
        try:
            yield gate
        finally:
            gate.close()


def through_gate(
    conn: Connection,
    catalog: Catalog,
    lease: UnitLease,
    act: Callable[[Gate], Result],
    *,
    reads_only: bool = False,
) -> Result:
    """Run ``act`` inside the gate, trying again while locks are busy, within a budget of two minutes.

    ``act`` must be safe to repeat: its database changes roll back, and its S3 deletions are idempotent.
    For ``reads_only`` see `open_gate`.

    Raises:
        TablesBusyError: the budget is used up; names who holds the tables.
    """
    give_up = time.monotonic() + LOCK_BUDGET_SECONDS
    pause = 0.05
    while True:
        try:
            with open_gate(conn, catalog, lease, reads_only=reads_only) as gate:
                return act(gate)
        except (
            psycopg.errors.LockNotAvailable,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
        ) as error:
            if time.monotonic() > give_up:
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    raise _busy(conn, catalog, lease.unit) from None
                raise
            log.info("locks for %s are busy, trying again in %.2f s", lease.unit, pause)
            time.sleep(pause)
            pause = min(pause * 2, 2.0)


def _busy(conn: Connection, catalog: Catalog, unit: str) -> TablesBusyError:
    found = TablesBusyError(unit, LOCK_BUDGET_SECONDS, holders_of(conn, [*_OWN_TABLES, *bound_tables(catalog)]))
    log.warning("%s", found)
    return found
