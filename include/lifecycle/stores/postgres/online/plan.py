"""What a partitioning would do: steps, statements, locks and estimates. Reads; changes nothing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import date, timedelta

from psycopg import sql

from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.online import build
from lifecycle.stores.postgres.online.copying import Pages, copy_key
from lifecycle.stores.postgres.online.days import days_of, refuse_too_many
from lifecycle.stores.postgres.online.facts import GUARD, TableFacts
from lifecycle.stores.postgres.online.handover import Handover, validate_keys
from lifecycle.stores.postgres.online.layout import Layout
from lifecycle.stores.postgres.online.mirror import NOTHING, Mirror
from lifecycle.stores.postgres.online.read import read_facts
from lifecycle.stores.postgres.online.refusals import Accepted, Refusal, extended_key, refusals, weakened
from lifecycle.stores.postgres.online.state import Partitioning, Phase
from lifecycle.stores.postgres.online.switch import forward
from lifecycle.stores.postgres.online.text import Statement, idents, stmt
from lifecycle.stores.postgres.online.work import Work, mirror_of

_SAMPLE = 5_000
# Measured (docs/benchmarks.md): to write a row costs about this many readings, and about as many again per index.
_WRITE_IN_READS = 1.5


@dataclass(frozen=True)
class Step:
    """``blocks``: who waits for it, and for how long at most."""

    name: str
    what: str
    lock: str
    blocks: str
    sql: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """``seconds`` of copying, from the time that reading ``sample_rows`` took; ``bytes`` are needed once more."""

    rows: int
    bytes: int
    partitions: int
    sample_rows: int
    sample_seconds: float
    seconds: int | None


@dataclass(frozen=True)
class Plan:
    table: str
    primary_key: tuple[str, ...]
    no_longer_unique: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    steps: tuple[Step, ...]
    estimate: Estimate | None


def make_plan(work: Work, layout: Layout, *, ahead: timedelta, accepted: Accepted) -> Plan:
    """Everything that would be done, in order; with what stands against it, and then without steps."""
    conn = work.conn
    with conn.transaction():
        conn.execute("SET TRANSACTION READ ONLY")
        facts = read_facts(conn, layout.table)
        reasons = refusals(facts, layout, accepted)
        names = {column.name for column in facts.columns}
        if not set(layout.key_columns) <= names or facts.primary_key is None or facts.kind != "r":
            return Plan(str(layout.table), (), (), reasons, (), None)
        days = [*days_of(conn, facts, layout.clock), *layout.ahead(work.now, ahead)]
        leaves = list(layout.leaves(days))
        refuse_too_many(layout, len(leaves))
        blocked = any(found.kind == "m" for found in facts.dependants)
        steps = () if reasons or blocked else _Steps(work, layout, ahead, accepted, facts).all(days)
        return Plan(
            str(layout.table),
            extended_key(facts, layout),
            tuple(index.name for index in weakened(facts, layout)),
            reasons,
            steps,
            _estimate(conn, facts, layout, len(leaves) + len(layout.defaults)),
        )


def _estimate(conn: Connection, facts: TableFacts, layout: Layout, partitions: int) -> Estimate:
    key = copy_key(facts, layout)
    query = stmt(
        "SELECT {} FROM ONLY {} ORDER BY {} LIMIT {}",
        idents(facts.writable),
        facts.name.identifier,
        idents(key),
        sql.Literal(_SAMPLE),
    )
    began = time.monotonic()
    read = len(conn.execute(query).fetchall())
    seconds = time.monotonic() - began
    rows = facts.rows if facts.rows > read or read == _SAMPLE else read
    per_row = seconds / read if read else 0.0
    total = math.ceil(rows * per_row * (_WRITE_IN_READS + len(facts.indexes))) if read else None
    return Estimate(rows, facts.bytes, partitions, read, round(seconds, 3), total)


class _Steps:
    def __init__(self, work: Work, layout: Layout, ahead: timedelta, accepted: Accepted, facts: TableFacts) -> None:
        self.work, self.layout, self.facts, self.conn = work, layout, facts, work.conn
        self.partitioning = Partitioning(
            self._next_id(),
            layout,
            ahead,
            accepted,
            Phase.BUILDING,
            facts.structure(),
            copy_key(facts, layout),
            tuple(index.name for index in facts.indexes),
            (),
            None,
            0,
            0,
            (),
        )
        self.mirror: Mirror = mirror_of(self.partitioning, facts)
        self.patience = f"{work.patience.lock_ms} ms a try"

    def _next_id(self) -> int:
        if one(self.conn, "SELECT to_regclass('lifecycle.partitionings')") is None:
            return 1
        return int(one(self.conn, "SELECT coalesce(max(partitioning_id), 0) + 1 FROM lifecycle.partitionings"))

    def all(self, days: list[date]) -> tuple[Step, ...]:
        handover = forward(self.partitioning, self.facts, self._tree_to_be())
        steps = [
            self._tree(),
            self._guard(),
            self._partitions(days),
            self._foreign_keys(),
            self._mirror(),
            self._copy(),
            self._compare(),
            self._switch(handover),
            self._check_keys(handover),
            self._finish(),
        ]
        return tuple(step for step in steps if step.sql)

    def _tree_to_be(self) -> TableFacts:
        return replace(self.facts, grants=(), sequences=(), constraints=(), indexes=())

    def _shown(self, statements: list[Statement]) -> tuple[str, ...]:
        return tuple(statement.as_string(self.conn) for statement in statements)

    def _tree(self) -> Step:
        statements = [
            *build.create_tree(self.facts, self.layout),
            self.mirror.function(self.conn, self.mirror.back, NOTHING),
            *self.mirror.triggers(self.layout.root, self.mirror.back),
        ]
        return Step(
            "tree",
            "make the empty partitioned table beside it, under a name of its own",
            f"ACCESS SHARE on {self.layout.table}",
            "nobody",
            self._shown(statements),
        )

    def _guard(self) -> Step:
        statements: list[Statement] = []
        for column in self.layout.key_columns:
            if not self.facts.column(column).not_null:
                names = (self.layout.table.identifier, sql.Identifier(GUARD + column))
                check = stmt("CHECK ({} IS NOT NULL) NOT VALID", sql.Identifier(column))
                statements.append(stmt("ALTER TABLE {} ADD CONSTRAINT {} {}", *names, check))
                statements.append(stmt("ALTER TABLE {} VALIDATE CONSTRAINT {}", *names))
        return Step(
            "no NULLs",
            "make sure that every row has a clock and a tier; reads the table once",
            f"ACCESS EXCLUSIVE on {self.layout.table} for a moment, then SHARE UPDATE EXCLUSIVE",
            f"everybody, {self.patience}; nobody while it reads",
            self._shown(statements),
        )

    def _partitions(self, days: list[date]) -> Step:
        statements = [
            made for leaf in self.layout.leaves(days) for made in build.create_leaf(self.facts, self.layout, leaf)
        ]
        return Step(
            "partitions",
            "a partition for every tier and every day that has rows, and for the days to come",
            "on the new tables only",
            "nobody",
            self._shown([*statements, *build.column_statistics(self.facts, self.layout)]),
        )

    def _foreign_keys(self) -> Step:
        statements = [statement for _, statement in build.foreign_keys(self.facts, self.layout)]
        return Step(
            "foreign keys",
            "the keys by which it refers to other tables; the tree is empty, so nothing is checked",
            "SHARE ROW EXCLUSIVE on the tables referred to",
            f"writers of those tables, {self.patience}",
            self._shown(statements),
        )

    def _mirror(self) -> Step:
        statements = [
            stmt("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", self.layout.table.identifier),
            self.mirror.function(self.conn, self.mirror.forward, self.mirror.forward_body()),
            *self.mirror.triggers(self.layout.table, self.mirror.forward),
        ]
        return Step(
            "mirror",
            "from here on every change is made on both sides, in the writer's own transaction",
            f"SHARE ROW EXCLUSIVE on {self.layout.table}",
            f"writers, {self.patience}",
            self._shown(statements),
        )

    def _copy(self) -> Step:
        pages = Pages.of(self.facts, self.layout.root, self.partitioning.key, extended_key(self.facts, self.layout))
        where = ", ".join(pages.key)
        return Step(
            "copy",
            f"copy what was there before, in pages of about {self.work.batch_target:g} s by ({where}); "
            "each begins where the last ended",
            f"ROW SHARE on {self.layout.table}, FOR SHARE on the rows of a page",
            "writers of rows of the page, until it is in",
            self._shown([pages.copy_statement(None, None)]),
        )

    def _compare(self) -> Step:
        return Step(
            "compare",
            "count and hash both sides, page by page, each page in one snapshot; then wait for transactions that began "
            "before the copy was complete",
            f"ACCESS SHARE on {self.layout.table}",
            "nobody",
            self._shown([stmt("ANALYZE {}", self.layout.root.identifier)]),
        )

    def _switch(self, handover: Handover) -> Step:
        statements = [
            *handover.locks(),
            *self.mirror.drop_triggers(self.layout.table),
            *handover.statements(),
            self.mirror.function(self.conn, self.mirror.back, self.mirror.back_body()),
        ]
        return Step(
            "switch",
            f"one transaction: the tree becomes {self.layout.table} with all that hangs on it; "
            f"the ordinary table is kept up as {self.layout.parked}, so that --revert can go back",
            f"ACCESS EXCLUSIVE on {self.layout.table}, its views and the tables that refer to it",
            f"everybody, {self.patience} and the length of the transaction",
            self._shown(statements),
        )

    def _check_keys(self, handover: Handover) -> Step:
        return Step(
            "check keys",
            "check the foreign keys that refer to it against what their tables hold",
            "SHARE UPDATE EXCLUSIVE on those tables",
            "nobody",
            self._shown(list(validate_keys(handover.keys))),
        )

    def _finish(self) -> Step:
        statements = [
            self.mirror.function(self.conn, self.mirror.back, NOTHING),
            *self.mirror.drop_triggers(self.layout.table),
            stmt("DROP TABLE IF EXISTS {}", self.layout.parked.identifier),
            *self.mirror.drop_functions(),
        ]
        return Step(
            "finish",
            "only with --finish: stop keeping the ordinary table up, and drop it; there is no way back from here",
            f"ACCESS EXCLUSIVE on {self.layout.table} and on the tables it refers to",
            f"everybody, {self.patience} and the length of the transaction",
            self._shown(statements),
        )
