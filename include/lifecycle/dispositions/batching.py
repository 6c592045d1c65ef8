"""Taking due rows out of a live table: keyset batches behind the gate, paced, with nothing left unsaid.

Rows that somebody has locked are passed over and waited for at the end; what the run's budget does not reach is shown
as kept by ``run_budget``, and is due again in the next run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

import psycopg
from psycopg import sql

from lifecycle.catalog.models import Accounts, Records
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, UnitLease, through_gate
from lifecycle.dispositions.pacer import Pacer, Taken
from lifecycle.dispositions.plan_store import load_unit, mark, record_progress
from lifecycle.errors import DispositionError
from lifecycle.planning.units import DISPOSING, Progress
from lifecycle.stores.postgres.batches import Span, Step, Walk, left_due, take_batch
from lifecycle.stores.postgres.references import ReferencedError, refuse_acting, violated
from lifecycle.stores.postgres.suppressed import DeletionSuppressedError

log = logging.getLogger(__name__)
# What the run's budget of time or rows did not reach: shown as kept, and left to the validation to object to.
BUDGET_FATE = "keep:run_budget"
_MOST_SPANS = 64


def disposed(progress: Progress) -> int:
    """Records that are disposed of, or planned to be."""
    return sum(n.get("records", 0) for fate, n in progress.items() if fate.split(":", 1)[0] in DISPOSING)


def short_of_plan(context: RunContext, unit: str) -> int:
    row = load_unit(context.conn, context.run.run_id, unit)
    return max(disposed(row.planned) - disposed(row.progress), 0)


def note_left(context: RunContext, lease: UnitLease) -> None:
    """Say in a unit's progress what the run's budget did not reach."""
    left = short_of_plan(context, lease.unit)
    if not left:
        return
    log.warning("%s: the run's budget is spent, %d record(s) are left to the next run", lease.unit, left)
    note = {BUDGET_FATE: {"records": left}}
    through_gate(
        context.conn,
        context.catalog,
        lease,
        lambda gate: record_progress(gate.conn, context.run.run_id, lease.unit, note),
    )


class RowWork:
    """One unit's rows on their way out of one table."""

    def __init__(
        self,
        context: RunContext,
        lease: UnitLease,
        dataset: Records | Accounts,
        relation: sql.Composable,
        name_of: Callable[[str], str] = str,
    ) -> None:
        """``name_of``: the fate under which the records of a fate are counted."""
        self._context, self._lease, self._unit, self._dataset = context, lease, lease.unit, dataset
        self._relation, self._begun = relation, False
        self._name_of = name_of
        gone = disposed(load_unit(context.conn, context.run.run_id, lease.unit).progress)
        self._pacer = Pacer(context, lease.unit, dataset, relation, gone)
        self._passed_over: list[tuple[Walk, Span]] = []
        self._spent = False

    def take_out(self, walks: Iterable[Walk]) -> None:
        """Go through some walks, then once more to the rows that were locked, and wait for them.

        Raises:
            DispositionError: rows stayed locked for longer than the gate waits; everything else was done.
        """
        for walk in walks:
            self._through(walk, Span(), wait=False)
        waiting, self._passed_over = self._passed_over, []
        for walk, span in waiting:
            try:
                self._through(walk, span, wait=True)
            except psycopg.errors.LockNotAvailable:
                self._give_up(walk, span)

    @property
    def short_of_plan(self) -> int:
        """Records that the plan has and that are not gone: held since, changed since, or beyond the budget."""
        return short_of_plan(self._context, self._unit)

    @property
    def spent(self) -> bool:
        """Whether the run's budget for this dataset ran out."""
        return self._spent

    def note_left(self) -> None:
        if self._spent:
            note_left(self._context, self._lease)

    def _through(self, walk: Walk, span: Span, *, wait: bool) -> None:
        while not self._spent:
            size = self._pacer.next_size()
            if size == 0:
                self._spent = True
                return
            steps: list[Step] = []
            try:
                taken = self._pacer.batch(self._lease, size, partial(self._act, walk, span, wait, steps))
            except psycopg.errors.ForeignKeyViolation as error:
                mark(self._context.conn, self._context.run.run_id, self._unit, "failed")
                raise violated(self._unit, error, batch=True) from None
            except (DeletionSuppressedError, ReferencedError):
                mark(self._context.conn, self._context.run.run_id, self._unit, "failed")
                raise
            if taken is None:
                continue
            step, self._begun = steps[-1], True
            if step.locked:
                self._pass_over(walk, Span(span.after, step.last))
            if step.examined < size:
                return
            span = Span(step.last, span.until)

    def _act(self, walk: Walk, span: Span, wait: bool, steps: list[Step], size: int, gate: Gate) -> Taken:
        if walk.change is None:
            # From here on nobody adds a foreign key.
            gate.conn.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(self._relation))
            as_of = self._context.run.as_of
            refuse_acting(gate.conn, self._context.catalog, self._dataset, self._unit, as_of, begun=self._begun)
        step = take_batch(gate.conn, walk, span, size, wait=wait)
        if step.gone:
            counts = {self._name_of(fate): {"records": n, **step.beside[fate]} for fate, n in step.gone.items()}
            record_progress(gate.conn, self._context.run.run_id, self._unit, counts)
        steps.append(step)
        return Taken(step.examined, step.total)

    def _pass_over(self, walk: Walk, span: Span) -> None:
        """Remember a stretch with locked rows; of very many, the stretch that holds them all."""
        self._passed_over.append((walk, span))
        if len(self._passed_over) > _MOST_SPANS:
            (first_walk, first), (last_walk, last) = self._passed_over[-2:]
            if first_walk is last_walk:
                self._passed_over[-2:] = [(last_walk, Span(first.after, last.until))]

    def _give_up(self, walk: Walk, span: Span) -> None:
        locked = left_due(self._context.conn, walk, span)
        mark(self._context.conn, self._context.run.run_id, self._unit, "failed")
        raise DispositionError(self._unit, locked, {"rows locked by other sessions": locked})
