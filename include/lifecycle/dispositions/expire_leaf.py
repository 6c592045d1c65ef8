"""Expiring one partition of an ordinary table: its survivors take its place, and what belongs to the rest goes too."""

from __future__ import annotations

import logging
from functools import partial

import psycopg
from psycopg import sql

from lifecycle.catalog.models import Records
from lifecycle.dispositions.batching import RowWork
from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.gate import Gate, UnitLease, take_lease, through_gate
from lifecycle.dispositions.leaves import asked, exceptions_of
from lifecycle.dispositions.plan_store import close_unit, has_disposed, load_unit, mark, record_progress
from lifecycle.dispositions.rests import Shut, rest
from lifecycle.dispositions.walks import walks_of
from lifecycle.errors import DispositionError, VerificationError
from lifecycle.planning.spans import span_of
from lifecycle.planning.units import Progress, Tally
from lifecycle.stores.postgres.belongings import belongings_of, remove, touched
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.candidates import Source
from lifecycle.stores.postgres.clone import Clone, CloneError, columns_of, copy_rows, discard
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.exceptional import carry_over
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.messages import GOING, is_due, is_empty
from lifecycle.stores.postgres.reclaim import note_deleted, reclaim
from lifecycle.stores.postgres.references import ReferencedError, refuse_acting, strangers_to_leaf, violated
from lifecycle.stores.postgres.swap import (
    NotSwappableError,
    Survivors,
    copy_survivors,
    drop_partition,
    keep_still,
    put_in_place,
)
from lifecycle.stores.postgres.tree import Partition, time_tree

log = logging.getLogger(__name__)


def expire_leaf(context: RunContext, unit: str) -> Progress:
    """Carry out the unit of one partition; safe to kill and to repeat at any point.

    Raises:
        DispositionError: rows stayed locked by somebody else, where they had to go one by one.
        ReferencedError: a foreign key that nobody configured would act; nothing was destroyed.
    """
    dataset = next(each for each in context.catalog.tables if each.id == unit.split("/", 1)[0])
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    leaf = _leaf(context.conn, dataset, row)
    if leaf is not None:
        _LeafWork(context, lease, dataset, leaf).carry_out()
    _note_belongings(context, dataset, unit)
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _note_belongings(context: RunContext, dataset: Records, unit: str) -> None:
    """Say what a vacuum has still to remove of other tables, also after a try that died; `settle` does it."""
    conn, run_id = context.conn, context.run.run_id
    for name in touched(dataset, load_unit(conn, run_id, unit).progress):
        note_deleted(conn, run_id, unit, name.as_string(conn))


def _leaf(conn: Connection, dataset: Records, row: UnitRow) -> Partition | None:
    """The partition of a unit, or None when it is gone already."""
    label = row.unit.split("/", 1)[1]
    tree = time_tree(conn, dataset, within=span_of(label))
    return next((leaf for leaf in tree.leaves() if leaf.label == label), None) if tree is not None else None


class _LeafWork:
    """The steps on one partition, sharing what they all need."""

    def __init__(self, context: RunContext, lease: UnitLease, dataset: Records, leaf: Partition) -> None:
        self.context, self.lease, self.dataset, self.leaf = context, lease, dataset, leaf
        self.unit = lease.unit
        self.fate = context.record_fate(dataset)

    def carry_out(self) -> None:
        conn, run_id = self.context.conn, self.context.run.run_id
        try:
            self._refuse_acting()
            shut = through_gate(conn, self.context.catalog, self.lease, self._exchange)
        except (NotSwappableError, CloneError) as error:
            log.warning("%s: %s; its rows are taken out one by one", self.unit, error)
            self._take_rows_out()
            return
        except psycopg.errors.ForeignKeyViolation as error:
            mark(conn, run_id, self.unit, "failed")
            raise violated(self.unit, error) from None
        except ReferencedError:
            mark(conn, run_id, self.unit, "failed")
            raise
        if has_disposed(self.context, self.unit):
            note_deleted(conn, run_id, self.unit, self.leaf.identifier.as_string(conn), dropped=True)
        if shut is not None:
            rest(self.unit, self.dataset.pace, shut)

    def _refuse_acting(self) -> None:
        """Whatever becomes of a leaf, foreign keys react to it as they do to rows that go one by one."""
        context = self.context
        refuse_acting(context.conn, context.catalog, self.dataset, self.unit, context.run.as_of)

    def _take_rows_out(self) -> None:
        """One by one: something holds on to the partition itself."""
        span = span_of(self.unit.split("/", 1)[1])
        if span is None:
            raise DispositionError(self.unit, 1, {"partitions without bounds": 1})
        rows = RowWork(self.context, self.lease, self.dataset, table(self.dataset.table))
        rows.take_out(walks_of(self.context, self.dataset, which=Bounds(self.dataset.clock).inside(*span)))
        rows.note_left()
        deleted = has_disposed(self.context, self.unit)
        reclaim(self.context.conn, self.context.run.run_id, self.unit, [self.leaf.identifier], deleted=deleted)

    # -- one transaction -----------------------------------------------------------------------------------------

    def _exchange(self, gate: Gate) -> Shut | None:
        """Carry survivors over, drop the rest, write down what went. None where nobody was locked out."""
        conn, leaf = gate.conn, self.leaf
        keep_still(conn, leaf)
        self._refuse_acting()
        strangers = strangers_to_leaf(conn, self.dataset, leaf)
        if strangers:
            raise NotSwappableError(f"{leaf.schema}.{leaf.name}", [str(each) for each in strangers])
        counted, survivors = self._carried(conn)
        done = {tally.fate: {"records": tally.records} for tally in counted if tally.disposition in GOING}
        if survivors is not None and done:
            return Shut.now(conn, self._replace(gate, survivors, done))
        if survivors is not None and survivors.clone is not None:
            discard(conn, survivors.clone)
        if leaf.bounded and is_empty(conn, leaf.identifier):
            return Shut.now(conn, drop_partition(conn, leaf))
        return None

    def _replace(self, gate: Gate, survivors: Survivors, done: dict[str, dict[str, int]]) -> float:
        conn, fate = gate.conn, next(iter(done))
        gone = survivors.lack(*self.dataset.key_columns)
        with_them = remove(
            conn, belongings_of(self.context.catalog, self.dataset), self.leaf, gone, self.context.params
        )
        done[fate] |= with_them
        since = put_in_place(conn, survivors)
        log.info("%s: %d kept, the rest dropped with the old partition", self.unit, survivors.rows)
        record_progress(conn, self.context.run.run_id, self.unit, done)
        return since

    def _carried(self, conn: Connection) -> tuple[list[Tally], Survivors | None]:
        """Counts by fate, and the copy of what stays; None where nothing goes."""
        leaf, known = self.leaf, exceptions_of(self.context, self.dataset, self.leaf)
        if known is not None and known[1].split(":", 1)[0] in GOING:
            return self._carried_by_exceptions(conn, *known)
        counted = asked(self.context, self.dataset, [leaf]).get(leaf, [])
        if not any(tally.disposition in GOING for tally in counted):
            return counted, None
        keep = sql.SQL("{} IS NOT TRUE").format(is_due(self.fate))
        survivors = copy_survivors(conn, leaf, partial(self._copy_those, conn, keep))
        _verify(self.unit, counted, survivors.rows)
        return counted, survivors

    def _copy_those(self, conn: Connection, keep: sql.Composable, clone: Clone) -> int:
        return copy_rows(conn, clone, self.leaf.identifier, keep, self.context.params)

    def _carried_by_exceptions(self, conn: Connection, source: Source, ordinary: str) -> tuple[list[Tally], Survivors]:
        counted = list[Tally]()

        def copy(clone: Clone) -> int:
            columns = columns_of(conn, clone.oid)
            found, copied = carry_over(conn, source, ordinary, self.context.params, clone.made, columns)
            counted.extend(found)
            _verify(self.unit, counted, copied)
            return copied

        return counted, copy_survivors(conn, self.leaf, copy)


def _verify(unit: str, counted: list[Tally], copied: int) -> None:
    """Nobody writes to the partition: what was counted as staying is what was copied."""
    staying = sum(tally.records for tally in counted if tally.disposition not in GOING)
    if copied != staying:
        raise VerificationError(f"{unit}: {staying} row(s) stay, and {copied} were copied")
