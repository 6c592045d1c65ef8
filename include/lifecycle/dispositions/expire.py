"""Expiring one partition of messages: objects first, rows last; survivors carried over, the rest dropped whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TypeVar
from uuid import UUID

from psycopg import sql

from lifecycle.dispositions.batching import disposed, note_left
from lifecycle.dispositions.bodies import body_chars
from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.gate import Gate, UnitLease, take_lease, through_gate
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
from lifecycle.errors import DispositionError
from lifecycle.planning.units import Method, Progress
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import messages as rows
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.partitions import (
    Partition,
    lock_for_swap,
    partitions_of,
    swap_in,
    unknown_tier_partition,
)
from lifecycle.stores.postgres.reclaim import note_deleted, reclaim

log = logging.getLogger(__name__)
Result = TypeVar("Result")
OBJECT_BATCH = 500
READERS = 8


def expire(context: RunContext, unit: str) -> dict[str, dict[str, int]]:
    """Carry out one unit of the plan; safe to kill and to repeat at any point.

    Raises:
        DispositionError: some objects could not be destroyed; everything else was done.
    """
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    leaf = _leaf(context, row)
    if leaf is None:
        _close(context, lease, unit)
        return load_unit(context.conn, context.run.run_id, unit).progress
    if any(counts.get("objects") for counts in row.planned.values()):
        write_intents(context, row)
    work = _Work(context, lease, row, leaf)
    failed = work.destroy_objects()
    if row.method == Method.SWAP:
        work.swap(finish=not failed)
    else:
        work.take_rows_out(finish=not failed)
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"objects failed": failed})
    return load_unit(context.conn, context.run.run_id, unit).progress


def _close(context: RunContext, lease: UnitLease, unit: str) -> None:
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))


def _leaf(context: RunContext, row: UnitRow) -> Partition | None:
    """The partition of a unit, or None when it is gone already."""
    if row.tier is None:
        return unknown_tier_partition(context.messages)
    for leaf in partitions_of(context.conn, context.messages, Tier(row.tier)):
        if (leaf.lower.date() if leaf.lower else None) == row.day:
            return leaf
    return None


class _Work:
    """The steps on one partition, sharing what they all need."""

    def __init__(self, context: RunContext, lease: UnitLease, row: UnitRow, leaf: Partition) -> None:
        self.context, self.lease, self.row, self.leaf = context, lease, row, leaf
        self.dataset = context.messages
        self.fate = context.fate(Tier(row.tier) if row.tier else None)
        self.going = sql.SQL("({} AND m.{} IS NULL AND m.{} < %(as_of)s)").format(
            rows.is_due(self.fate), sql.Identifier(self.dataset.objects.column), sql.Identifier(self.dataset.clock)
        )

    # -- objects first ------------------------------------------------------------------------------------------

    def destroy_objects(self) -> int:
        """Destroy the objects of due records, then their rows, batch by batch. Returns how many objects failed."""
        failed, after = 0, None
        while True:
            batch = self._due(after, OBJECT_BATCH, objects_only=True)
            if not batch:
                return failed
            after = batch[-1].record
            self._stage_lengths(batch)
            failed += self._through(partial(self._destroy_batch, batch[0].record, after))

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
            only=self.context.narrowed(self.fate),
        )

    def _through(self, act: Callable[[Gate], Result]) -> Result:
        return through_gate(self.context.conn, self.context.catalog, self.lease, act)

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

    def _destroy_batch(self, start: UUID, end: UUID, gate: Gate) -> int:
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
                limit=OBJECT_BATCH,
                objects_only=True,
                only=sql.SQL("m.{c} BETWEEN {a} AND {b} AND {n}").format(
                    c=sql.Identifier(self.dataset.record),
                    a=sql.Literal(start),
                    b=sql.Literal(end),
                    n=self.context.narrowed(self.fate),
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
            rows.delete_rows(conn, self.dataset, self.leaf.identifier, ids)
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
        self._through(partial(self._swap_inside, finish))
        if has_disposed(self.context, self.row.unit):
            name = self.leaf.identifier.as_string(self.context.conn)
            note_deleted(self.context.conn, self.context.run.run_id, self.row.unit, name, dropped=True)

    def _swap_inside(self, finish: bool, gate: Gate) -> None:
        """One short transaction: count, carry survivors over, drop the rest, write the ledger."""
        conn, params, leaf = gate.conn, self.context.params, self.leaf
        lock_for_swap(conn, leaf)
        counted = rows.tallies(conn, self.dataset, leaf.identifier, self.fate, self.going, params).get(leaf.name, [])
        done = {tally.fate: {"records": tally.records} for tally in counted}
        if done:
            self._publish_whole(conn, done)
            gone = rows.delete_children_of_dropped(conn, self.context.catalog, leaf.identifier, self.going, params)
            next(iter(done.values()))["children"] = gone
            survivors = sql.SQL("SELECT m.* FROM {} m WHERE NOT {}").format(leaf.identifier, self.going)
            kept = swap_in(conn, leaf, survivors, params)
            log.info("%s: %d kept, the rest dropped with the old partition", self.row.unit, kept)
            record_progress(conn, self.context.run.run_id, self.row.unit, done)
        elif rows.is_empty(conn, leaf.identifier):
            conn.execute(sql.SQL("DROP TABLE {}").format(leaf.identifier))
        if finish:
            close_unit(self.context, self.row.unit)

    def _publish_whole(self, conn: Connection, done: dict[str, dict[str, int]]) -> None:
        for fate in done:
            if fate.startswith("deidentify:"):
                these = sql.SQL("({} AND {} = {})").format(self.going, self.fate, sql.Literal(fate))
                done[fate]["published"] = rows.publish_deidentified(
                    conn, self.dataset, self.leaf.identifier, these, self.context.params
                )
