"""Expiring one partition of messages: objects first, rows last; survivors carried over, the rest dropped whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TypeVar
from uuid import UUID

import psycopg
from psycopg import sql

from lifecycle.dispositions.batching import disposed, note_left
from lifecycle.dispositions.bodies import body_chars
from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.exchange import Exchange
from lifecycle.dispositions.gate import Gate, UnitLease, take_lease, through_gate
from lifecycle.dispositions.native import left_to_s3
from lifecycle.dispositions.pacer import Pacer, Taken
from lifecycle.dispositions.plan_store import (
    LOCKED_FATE,
    close_unit,
    has_disposed,
    load_unit,
    mark,
    record_progress,
    write_intents,
)
from lifecycle.dispositions.rests import Shut, rest
from lifecycle.errors import DispositionError
from lifecycle.planning.pacing import Aim, next_size
from lifecycle.planning.spans import span_of
from lifecycle.planning.units import Method, Progress
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import messages as rows
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.clone import CloneError
from lifecycle.stores.postgres.locks import QUIET
from lifecycle.stores.postgres.reclaim import note_deleted, reclaim
from lifecycle.stores.postgres.references import ReferencedError, refuse_references, violated
from lifecycle.stores.postgres.suppressed import DeletionSuppressedError
from lifecycle.stores.postgres.swap import (
    NotSwappableError,
    lock_from_above,
)
from lifecycle.stores.postgres.tree import Partition, partitions_of, unclassified_label, unclassified_partitions

log = logging.getLogger(__name__)
Result = TypeVar("Result")
# How long a gate stays open for objects: flags and holds wait for as long. How many go in that time is for S3 to say.
OBJECTS = Aim(seconds=0.8, smallest=100, largest=5_000, first=500)
READERS = 8


def expire(context: RunContext, unit: str) -> dict[str, dict[str, int]]:
    """Carry out one unit of the plan; safe to kill and to repeat at any point.

    Raises:
        DispositionError: some objects could not be destroyed; everything else was done.
        ReferencedError: a foreign key that nobody configured would act; nothing was destroyed.
        DeletionSuppressedError: a trigger or rule keeps rows that are deleted; of that batch nothing is recorded.
    """
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    leaf = _leaf(context, row)
    if leaf is None:
        _close(context, lease, unit)
        return load_unit(context.conn, context.run.run_id, unit).progress
    if left_to_s3(context, lease, row, leaf):
        return load_unit(context.conn, context.run.run_id, unit).progress
    work = _Work(context, lease, row, leaf)
    try:
        work.refuse_references()
        if any(counts.get("objects") for counts in row.planned.values()):
            write_intents(context, row)
        failed = work.carry_out()
    except (ReferencedError, DeletionSuppressedError):
        mark(context.conn, context.run.run_id, unit, "failed")
        raise
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"objects failed": failed})
    return load_unit(context.conn, context.run.run_id, unit).progress


def _close(context: RunContext, lease: UnitLease, unit: str) -> None:
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))


def _leaf(context: RunContext, row: UnitRow) -> Partition | None:
    """The partition of a unit, or None when it is gone already."""
    conn, dataset = context.conn, context.messages
    if row.tier is None:
        named = {f"{dataset.id}/{unclassified_label(leaf)}": leaf for leaf in unclassified_partitions(conn, dataset)}
    else:
        leaves = partitions_of(conn, dataset, Tier(row.tier), within=span_of(row.unit.rsplit("/", 1)[1]))
        named = {f"{dataset.id}/{row.tier}/{leaf.label}": leaf for leaf in leaves}
    return named.get(row.unit) or _larger(row, named.values())


def _larger(row: UnitRow, leaves: Iterable[Partition]) -> Partition | None:
    """The partition that a unit's partition was merged into since it was planned."""
    span = span_of(row.unit.rsplit("/", 1)[1])
    if span is None:
        return None
    within = (leaf for leaf in leaves if leaf.bounded and _contains(leaf, span))
    return next(within, None)


def _contains(leaf: Partition, span: tuple[datetime, datetime]) -> bool:
    return leaf.lower is not None and leaf.upper is not None and leaf.lower <= span[0] and span[1] <= leaf.upper


@dataclass(frozen=True)
class _Batch:
    """How many objects of a batch failed, and how long the gate was open for it."""

    failed: int
    seconds: float


class _Work:
    """The steps on one partition, sharing what they all need."""

    def __init__(self, context: RunContext, lease: UnitLease, row: UnitRow, leaf: Partition) -> None:
        self.context, self.lease, self.row, self.leaf = context, lease, row, leaf
        self.dataset = context.messages
        self.merged = row.tier is not None and row.unit.rsplit("/", 1)[1] != leaf.label
        self.fate = context.fate(Tier(row.tier) if row.tier else None)
        self.ready = sql.SQL("(m.{} IS NULL AND {})").format(
            sql.Identifier(self.dataset.objects.column),
            ClockSql.of(self.dataset.clock, "m").before(sql.SQL("%(as_of)s")),
        )

    def carry_out(self) -> int:
        """Objects, then rows. Returns how many objects failed."""
        failed = self.destroy_objects()
        if self.row.method == Method.SWAP and not self.merged:
            self.swap(finish=not failed)
        else:
            self.take_rows_out(finish=not failed)
        return failed

    def refuse_references(self) -> None:
        context = self.context
        refuse_references(context.conn, context.catalog, self.leaf, self.row.unit, context.run.as_of)

    @property
    def only(self) -> sql.Composable:
        """Narrows what is due to what this run is for, and in a partition that was merged since, to the unit's own."""
        narrowed = self.context.narrowed(self.fate)
        span = span_of(self.row.unit.rsplit("/", 1)[1]) if self.merged else None
        if span is None:
            return narrowed
        return sql.SQL("({} AND {})").format(narrowed, Bounds(self.dataset.clock).inside(*span))

    # -- objects first ------------------------------------------------------------------------------------------

    def destroy_objects(self) -> int:
        """Destroy the objects of due records, then their rows, batch by batch. Returns how many objects failed."""
        failed, after, size = 0, None, OBJECTS.first
        while rows.has_objects(self.context.conn, self.dataset, self.leaf.identifier):
            batch = self._due(after, size, objects_only=True)
            if not batch:
                return failed
            after = batch[-1].record
            self._stage_lengths(batch)
            done = self._through(partial(self._timed_batch, batch[0].record, after, size))
            failed += done.failed
            size = next_size(OBJECTS, size, len(batch), done.seconds)
        return failed

    def _due(self, after: UUID | None, limit: int, *, objects_only: bool) -> list[rows.DueRow]:
        return rows.due_rows(
            self.context.conn,
            self.dataset,
            self.leaf.identifier,
            self.fate,
            self.context.params,
            after=after,
            limit=limit,
            objects_only=objects_only,
            only=self.only,
        )

    def _through(self, act: Callable[[Gate], Result], mode: str = "ROW EXCLUSIVE") -> Result:
        """Act inside the gate, where nobody can add a foreign key to the partition any more."""

        def guarded(gate: Gate) -> Result:
            lock_from_above(gate.conn, [self.leaf], mode)
            self.refuse_references()
            return act(gate)

        try:
            return through_gate(self.context.conn, self.context.catalog, self.lease, guarded)
        except psycopg.errors.ForeignKeyViolation as error:
            raise violated(self.row.unit, error) from None

    def _stage_lengths(self, batch: Sequence[rows.DueRow]) -> None:
        """Commit the body lengths of what will be de-identified before its object goes (promise 3)."""
        wanted = [row for row in batch if row.fate.startswith("deidentify:") and row.object_key is not None]
        done = rows.staged(self.context.conn, [row.record for row in wanted])
        todo = [row for row in wanted if row.record not in done]
        if not todo:
            return
        with ThreadPoolExecutor(READERS) as pool:
            lengths = list(pool.map(self._body_chars, [row.object_key for row in todo]))
        rows.stage_body_chars(self.context.conn, [(row.record, n) for row, n in zip(todo, lengths, strict=True)])

    def _body_chars(self, key: str | None) -> int:
        from botocore.exceptions import ClientError

        try:
            body = self.context.s3.get_object(Bucket=self.dataset.objects.bucket, Key=key or "")["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return 0
            raise
        return body_chars(body)

    def _timed_batch(self, start: UUID, end: UUID, limit: int, gate: Gate) -> _Batch:
        began = time.monotonic()
        failed = self._destroy_batch(start, end, limit, gate)
        return _Batch(failed, time.monotonic() - began)

    def _destroy_batch(self, start: UUID, end: UUID, limit: int, gate: Gate) -> int:
        """Inside the gate: judge the batch once more, destroy its objects, then its rows."""
        from lifecycle.stores.s3.destroy import destroy_keys

        batch = [
            row
            for row in rows.due_rows(
                gate.conn,
                self.dataset,
                self.leaf.identifier,
                self.fate,
                self.context.params,
                after=None,
                limit=limit,
                objects_only=True,
                only=sql.SQL("m.{c} BETWEEN {a} AND {b} AND {n}").format(
                    c=sql.Identifier(self.dataset.record),
                    a=sql.Literal(start),
                    b=sql.Literal(end),
                    n=self.only,
                ),
            )
            if self._staged_or_deleted(row, gate)
        ]
        if not batch:
            return 0
        keys = {
            row.record: self.dataset.objects.keys_of(str(row.record), row.tier, row.clock.date(), row.object_key)
            for row in batch
        }
        found = destroy_keys(self.context.s3, gate, self.dataset.objects.bucket, chain.from_iterable(keys.values()))
        gone = [row for row in batch if not (found.held | found.failed).intersection(keys[row.record])]
        self._remove(gate, gone, with_objects=True)
        if found.held:
            locked = {LOCKED_FATE: {"records": sum(not found.held.isdisjoint(keys[row.record]) for row in batch)}}
            record_progress(gate.conn, self.context.run.run_id, self.row.unit, locked)
            log.warning(
                "%s: %d object(s) are under an S3 lock and stay with their rows", self.row.unit, len(found.held)
            )
        return sum(not found.failed.isdisjoint(keys[row.record]) for row in batch)

    def _staged_or_deleted(self, row: rows.DueRow, gate: Gate) -> bool:
        """A row that joined the batch after its lengths were staged waits for the next run."""
        return not row.fate.startswith("deidentify:") or bool(rows.staged(gate.conn, [row.record]))

    def _remove(self, gate: Gate, batch: Sequence[rows.DueRow], *, with_objects: bool) -> None:
        """Delete rows and their children inside the gate, publishing the de-identified form first."""
        conn = gate.conn
        done: dict[str, dict[str, int]] = {}
        for fate in sorted({row.fate for row in batch}):
            ids = [row.record for row in batch if row.fate == fate]
            counts = {"records": len(ids)}
            if with_objects:
                counts["objects"] = len(ids)
            if fate.startswith("deidentify:"):
                counts["published"] = self._publish(ids, with_objects=with_objects)
            counts["children"] = rows.delete_children(conn, self.context.catalog, ids, self.context.params)
            counts["records"] = rows.delete_rows(conn, self.dataset, self.leaf.identifier, ids)
            done[fate] = counts
        record_progress(conn, self.context.run.run_id, self.row.unit, done)

    def _publish(self, ids: Sequence[UUID], *, with_objects: bool) -> int:
        conn, leaf = self.context.conn, self.leaf.identifier
        if with_objects:
            return rows.publish_deidentified_objects(conn, self.dataset, leaf, ids)
        these = sql.SQL("m.{} = ANY(%(ids)s)").format(sql.Identifier(self.dataset.record))
        return rows.publish_deidentified(conn, self.dataset, leaf, these, {"ids": list(ids)})

    # -- then rows, one by one ----------------------------------------------------------------------------------

    def take_rows_out(self, *, finish: bool) -> None:
        """Take due rows out in paced keyset batches, then vacuum, for partitions of which most stays."""
        pacer = Pacer(self.context, self.row.unit, self.dataset, self.leaf.identifier, disposed(self._progress()))
        after: UUID | None = None
        while size := pacer.next_size():
            batch: list[rows.DueRow] = []
            taken = pacer.batch(self.lease, size, partial(self._delete_batch, after, batch))
            if taken is not None and taken.examined < size:
                break
            if taken is not None:
                after = batch[-1].record
        else:
            note_left(self.context, self.lease)
        run_id, unit = self.context.run.run_id, self.row.unit
        reclaim(self.context.conn, run_id, unit, [self.leaf.identifier], deleted=has_disposed(self.context, unit))
        if finish:
            _close(self.context, self.lease, self.row.unit)

    def _delete_batch(self, after: UUID | None, batch: list[rows.DueRow], size: int, gate: Gate) -> Taken:
        batch[:] = self._due(after, size, objects_only=False)
        if batch:
            self._remove(gate, batch, with_objects=False)
        return Taken(len(batch), len(batch))

    def _progress(self) -> Progress:
        return load_unit(self.context.conn, self.context.run.run_id, self.row.unit).progress

    # -- or the whole partition at once --------------------------------------------------------------------------

    def swap(self, *, finish: bool) -> None:
        """Replace the partition; where something holds on to the partition itself, take its rows out instead."""
        try:
            shut = self._through(partial(self._exchange, finish), QUIET)
        except (NotSwappableError, CloneError) as error:
            log.warning("%s: %s; its rows are taken out one by one", self.row.unit, error)
            self.take_rows_out(finish=finish)
            return
        if has_disposed(self.context, self.row.unit):
            name = self.leaf.identifier.as_string(self.context.conn)
            note_deleted(self.context.conn, self.context.run.run_id, self.row.unit, name, dropped=True)
        if shut is not None:
            rest(self.row.unit, self.dataset.pace, shut)

    def _exchange(self, finish: bool, gate: Gate) -> Shut | None:
        """One transaction. Returns None where nobody was locked out."""
        tier = Tier(self.row.tier) if self.row.tier else None
        since = Exchange(self.context, self.row.unit, tier, self.leaf, self.ready, self.fate).carry_out(gate)
        if finish:
            close_unit(self.context, self.row.unit)
        return None if since is None else Shut.now(gate.conn, since)
