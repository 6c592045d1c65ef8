"""Between two batches: how large the next one is, whether to wait first, and whether the run's budget is spent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Messages, Records
from lifecycle.catalog.pace import Pace
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, UnitLease, through_gate
from lifecycle.errors import StatementTooSlowError
from lifecycle.planning.pacing import (
    TRICKLE,
    Aim,
    Budget,
    Limits,
    Pressure,
    Reading,
    after_timeout,
    base_of,
    next_size,
    pressure,
)
from lifecycle.stores.postgres.indexes import has_clock_index
from lifecycle.stores.postgres.pressure import baseline, canary_of, read

log = logging.getLogger(__name__)
_LONGEST_NAP = 5.0


@dataclass(frozen=True)
class Taken:
    """What one batch looked at and took out, in rows."""

    examined: int
    gone: int


def limits_of(pace: Pace) -> Limits:
    return Limits(
        replication_lag=pace.replication_lag.total_seconds(),
        wal_per_second=pace.wal_mb_per_second * 1_000_000,
        checkpoint_rest=pace.checkpoint_rest.total_seconds(),
        canary_factor=pace.canary_factor,
    )


class Pacer:
    """The pace of one unit of a run: grows and shrinks its batches, waits when the server asks for it, and stops in
    time. Waits are bounded by the pace's patience and logged with their numbers."""

    def __init__(
        self,
        context: RunContext,
        unit: str,
        dataset: Messages | Records | Accounts,
        relation: sql.Composable,
        gone: int,
    ) -> None:
        """``gone``: rows of the unit that earlier tries of this run took out; they count against its budget."""
        pace = dataset.pace
        self._context, self._unit, self._pace = context, unit, pace
        self._aim = Aim(pace.transaction.total_seconds())
        self._budget = Budget(pace.budget.total_seconds(), pace.rows)
        self._limits, self._patience = limits_of(pace), pace.patience.total_seconds()
        indexed = has_clock_index(context.conn, dataset.table, column_of(dataset.clock))
        self._canary = canary_of(relation, column_of(dataset.clock), indexed=indexed)
        self._usual = baseline(context.conn, self._canary)
        self._before = read(context.conn, self._canary)
        self._began, self._size, self._gone, self._worked = time.monotonic(), self._aim.first, gone, 0
        self.waited = 0.0

    def next_size(self) -> int:
        """How many rows the next batch may look at; 0 when the budget of the run is spent. Waits under pressure.

        Not before a few rows: whatever presses then is none of our doing, and a unit of few rows is done at once.
        """
        eased = self._worked < TRICKLE or self._wait_out()
        left = self._budget.allows(time.monotonic() - self._began, self._gone)
        return min(self._size if eased else min(self._size, TRICKLE), left)

    def batch(self, lease: UnitLease, size: int, act: Callable[[int, Gate], Taken]) -> Taken | None:
        """One batch behind the gate; None when it ran into its statement_timeout and is to be tried smaller.

        Raises:
            StatementTooSlowError: there is no smaller batch.
        """
        try:
            began, taken = through_gate(
                self._context.conn, self._context.catalog, lease, partial(self._timed, size, act)
            )
        except psycopg.errors.QueryCanceled:
            smaller = after_timeout(self._aim, size)
            if smaller is None:
                raise StatementTooSlowError(self._unit, size, self._pace.statement_timeout.total_seconds()) from None
            log.warning("%s: a batch of %d rows was cancelled, trying %d", self._unit, size, smaller)
            self._size = smaller
            return None
        if taken.examined == size:
            self._size = next_size(self._aim, self._size, taken.examined, time.monotonic() - began)
        self._gone += taken.gone
        self._worked += taken.examined
        return taken

    def _timed(self, size: int, act: Callable[[int, Gate], Taken], gate: Gate) -> tuple[float, Taken]:
        milliseconds = f"{self._pace.statement_timeout.total_seconds() * 1000:.0f}ms"
        gate.conn.execute("SELECT set_config('statement_timeout', %s, true)", (milliseconds,))
        return time.monotonic(), act(size, gate)

    def _wait_out(self) -> bool:
        """Wait until nothing speaks against another batch. False when patience ran out before that."""
        waited, nap = 0.0, 0.25
        now = self._look()
        while (found := self._judge(now)) is not None:
            if waited >= self._patience:
                log.warning("%s: waited %.1f s, still %s: a small batch goes all the same", self._unit, waited, found)
                self._before = now
                return False
            pause = min(max(nap, found.seconds), _LONGEST_NAP, self._patience - waited)
            log.info("%s: waiting %.2f s, %s", self._unit, pause, found)
            time.sleep(pause)
            waited, nap = waited + pause, min(nap * 2, _LONGEST_NAP)
            self.waited += pause
            self._before, now = now, self._look()
        self._before = base_of(self._before, now)
        return True

    def _look(self) -> Reading:
        return read(self._context.conn, self._canary)

    def _judge(self, now: Reading) -> Pressure | None:
        return pressure(self._limits, self._usual, self._before, now)
