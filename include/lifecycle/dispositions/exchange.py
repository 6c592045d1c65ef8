"""A partition replaced by what stays of it, in one transaction: judged and copied beside readers, then exchanged."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.dispositions.census import exceptions_of
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate
from lifecycle.dispositions.plan_store import record_progress
from lifecycle.errors import VerificationError
from lifecycle.planning.units import Tally
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import messages as rows
from lifecycle.stores.postgres.candidates import Source
from lifecycle.stores.postgres.clone import Clone, columns_of, copy_rows, discard
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.exceptional import carry_over
from lifecycle.stores.postgres.swap import Survivors, copy_survivors, drop_partition, keep_still, put_in_place
from lifecycle.stores.postgres.tree import Partition

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """One partition of messages that is about to be replaced.

    Args:
        tier: None where rows have none; then each is judged.
        ready: a condition on a row, that its object is gone.
        fate: an expression of a row.
    """

    context: RunContext
    unit: str
    tier: Tier | None
    leaf: Partition
    ready: sql.Composable
    fate: sql.Composable

    def carry_out(self, gate: Gate) -> float | None:
        """Inside the gate: carry survivors over, drop the rest and write the ledger.

        Returns since when the partition is locked, in seconds of the monotonic clock; None where nobody is locked out.
        """
        conn, leaf = gate.conn, self.leaf
        keep_still(conn, leaf)
        counted, survivors = self._carried()
        done = {tally.fate: {"records": tally.records} for tally in counted if tally.disposition in rows.GOING}
        if survivors is not None and done:
            return self._replace(gate, survivors, done)
        if survivors is not None and survivors.clone is not None:
            discard(conn, survivors.clone)
        if leaf.bounded and rows.is_empty(conn, leaf.identifier):
            return drop_partition(conn, leaf)
        return None

    def _replace(self, gate: Gate, survivors: Survivors, done: dict[str, dict[str, int]]) -> float:
        conn, dataset, leaf, context = gate.conn, self.context.messages, self.leaf, self.context
        self._publish(conn, done)
        # Not by their fate: that was judged, and the survivors are few.
        rest = survivors.lack(dataset.record, column_of(dataset.clock))
        gone = rows.delete_children_of_dropped(conn, context.catalog, leaf.identifier, rest, context.params)
        next(iter(done.values()))["children"] = gone
        since = put_in_place(conn, survivors)
        log.info("%s: %d kept, the rest dropped with the old partition", self.unit, survivors.rows)
        record_progress(conn, context.run.run_id, self.unit, done)
        return since

    def _carried(self) -> tuple[list[Tally], Survivors | None]:
        """Counts by fate of the rows whose object is gone, and the copy of what stays; None where nothing goes.

        Of a large partition only rows are judged that exceptions name, and each of them once.
        """
        conn, leaf, dataset = self.context.conn, self.leaf, self.context.messages
        known = exceptions_of(self.context, self.tier, leaf) if self.tier is not None else None
        if known is not None and known[1].split(":", 1)[0] in rows.GOING:
            return self._carried_by_exceptions(*known)
        params = self.context.params
        counted = rows.tallies(conn, dataset, leaf.identifier, self.fate, self.ready, params).get(leaf.name, [])
        if not any(tally.disposition in rows.GOING for tally in counted):
            return counted, None
        keep = sql.SQL("{} IS NOT TRUE").format(self._going)
        return counted, copy_survivors(conn, leaf, lambda clone: copy_rows(conn, clone, leaf.identifier, keep, params))

    def _carried_by_exceptions(self, source: Source, ordinary: str) -> tuple[list[Tally], Survivors]:
        conn, counted = self.context.conn, list[Tally]()

        def copy(clone: Clone) -> int:
            columns = columns_of(conn, clone.oid)
            found, copied = carry_over(conn, source, ordinary, self.context.params, clone.made, columns)
            staying = sum(tally.records for tally in found if tally.disposition not in rows.GOING)
            if copied != staying:
                raise VerificationError(f"{self.unit}: {staying} row(s) stay, and {copied} were copied")
            counted.extend(found)
            return copied

        return counted, copy_survivors(conn, self.leaf, copy)

    @property
    def _going(self) -> sql.Composable:
        return sql.SQL("({} AND {})").format(self.ready, rows.is_due(self.fate))

    def _publish(self, conn: Connection, done: dict[str, dict[str, int]]) -> None:
        for fate in done:
            if fate.startswith("deidentify:"):
                these = sql.SQL("({} AND {} = {})").format(self._going, self.fate, sql.Literal(fate))
                published = rows.publish_deidentified(
                    conn, self.context.messages, self.leaf.identifier, these, self.context.params
                )
                if published != done[fate]["records"]:
                    raise VerificationError(
                        f"{self.unit}: {done[fate]['records']} row(s) go, and {published} were de-identified"
                    )
                done[fate]["published"] = published
