"""The phases before the switch: the empty tree, the mirror, the copy, the comparison."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import psycopg
from psycopg import sql

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import one
from lifecycle.stores.postgres.online import build, state
from lifecycle.stores.postgres.online.copying import Pages, copy_key, next_page
from lifecycle.stores.postgres.online.days import create_leaves, days_of, refuse_too_many
from lifecycle.stores.postgres.online.facts import GUARD, TableFacts
from lifecycle.stores.postgres.online.layout import Layout
from lifecycle.stores.postgres.online.locks import await_snapshots, open_snapshots, patiently
from lifecycle.stores.postgres.online.mirror import NOTHING
from lifecycle.stores.postgres.online.read import read_facts
from lifecycle.stores.postgres.online.refusals import Accepted, CannotPartitionError, extended_key, refusals
from lifecycle.stores.postgres.online.state import Partitioning, Phase
from lifecycle.stores.postgres.online.text import stmt
from lifecycle.stores.postgres.online.work import Work, checked_facts, mirror_of, run_all

log = logging.getLogger(__name__)
_FIRST_PAGE = 500
_PAGE_TO_COMPARE = 20_000


def start(work: Work, layout: Layout, *, ahead: timedelta, accepted: Accepted) -> Partitioning:
    """Refuse what cannot be done; else make the empty tree and the record of the partitioning, in one transaction.

    Raises:
        CannotPartitionError: every reason, each with its remedy.
    """
    facts = read_facts(work.conn, layout.table)
    reasons = refusals(facts, layout, accepted)
    if reasons:
        raise CannotPartitionError(str(layout.table), reasons)

    def act() -> Partitioning:
        made = state.begin(
            work.conn,
            layout,
            ahead=ahead,
            accepted=accepted,
            structure=facts.structure(),
            key=copy_key(facts, layout),
            indexes=[index.name for index in facts.indexes],
        )
        mirror = mirror_of(made, facts)
        run_all(work.conn, build.create_tree(facts, layout))
        run_all(
            work.conn, [mirror.function(work.conn, mirror.back, NOTHING), *mirror.triggers(layout.root, mirror.back)]
        )
        return made

    made = patiently(work.conn, work.patience, "the empty tree", act)
    work.report("tree", 1)
    return made


def _leaves(work: Work, partitioning: Partitioning, facts: TableFacts) -> None:
    layout = partitioning.layout
    days = [*days_of(work.conn, facts, layout.clock), *layout.ahead(work.now, partitioning.ahead)]
    refuse_too_many(layout, len(list(layout.leaves(days))))
    create_leaves(work.conn, facts, layout, days, work.patience, lambda n: work.report("partitions", n))


def build_tree(work: Work, partitioning: Partitioning) -> None:
    """NULLs excluded, partitions made, foreign keys added."""
    layout, conn = partitioning.layout, work.conn
    facts = checked_facts(work, partitioning)
    _guard(work, layout, facts)
    _leaves(work, partitioning, facts)
    have = {found.name for found in read_facts(conn, layout.root).constraints}
    for name, statement in build.foreign_keys(facts, layout):
        if name not in have:
            patiently(conn, work.patience, "the tables it refers to", lambda s=statement: conn.execute(s))  # type: ignore[misc]
            work.report("foreign keys", 1)
    with conn.transaction():
        for statement in build.column_statistics(facts, layout):
            conn.execute(statement)
        state.note(conn, partitioning, phase=Phase.BUILT.value)
    work.report("built", 1)


def _guard(work: Work, layout: Layout, facts: TableFacts) -> None:
    """A row without a clock or a tier has no place in the new key. NOT VALID first: checking keeps no writer out."""
    have = {found.name: found.validated for found in facts.constraints}
    table = layout.table.identifier
    for column in layout.key_columns:
        if facts.column(column).not_null:
            continue
        name = sql.Identifier(GUARD + column)
        if GUARD + column not in have:
            add = stmt(
                "ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID", table, name, sql.Identifier(column)
            )
            patiently(work.conn, work.patience, str(layout.table), lambda s=add: work.conn.execute(s))  # type: ignore[misc]
        try:
            work.conn.execute(stmt("ALTER TABLE {} VALIDATE CONSTRAINT {}", table, name))
        except psycopg.errors.CheckViolation:
            count = one(
                work.conn,
                stmt("SELECT count(*) FROM ONLY {} WHERE {} IS NULL", table, sql.Identifier(column)),
            )
            raise PreconditionError(
                f"{count:,} row(s) of {layout.table} have no {column}, and a row of a partitioned table needs one in "
                f"its key; fill them, then --resume (or --revert)"
            ) from None
        work.report("no NULLs", 1)


def install_mirror(work: Work, partitioning: Partitioning) -> None:
    """From here on every change reaches the tree too. Waits for the writers of the moment, briefly."""
    layout, conn = partitioning.layout, work.conn

    def act() -> None:
        conn.execute(stmt("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", layout.table.identifier))
        facts = checked_facts(work, partitioning)
        mirror = mirror_of(partitioning, facts)
        conn.execute(mirror.function(conn, mirror.forward, mirror.forward_body()))
        for statement in mirror.triggers(layout.table, mirror.forward):
            conn.execute(statement)
        state.note(conn, partitioning, phase=Phase.MIRRORED.value)

    patiently(conn, work.patience, str(layout.table), act)
    work.report("mirrored", 1)


def _pages(partitioning: Partitioning, facts: TableFacts) -> Pages:
    return Pages.of(facts, partitioning.layout.root, partitioning.key, extended_key(facts, partitioning.layout))


def copy_rows(work: Work, partitioning: Partitioning) -> None:
    facts = checked_facts(work, partitioning)
    _leaves(work, partitioning, facts)
    pages, conn = _pages(partitioning, facts), work.conn
    after, rows, last = partitioning.position, _FIRST_PAGE, False
    while not last:
        began = time.monotonic()

        def act(after: tuple[str, ...] | None = after, rows: int = rows) -> tuple[tuple[str, ...] | None, int]:
            upto = pages.end_of_page(conn, after, rows)
            copied = pages.copy(conn, after, upto)
            conn.execute(
                "UPDATE lifecycle.partitionings SET position = coalesce(%s, position), copied = copied + %s,"
                " changed_at = clock_timestamp() WHERE partitioning_id = %s",
                (list(upto) if upto is not None else None, copied, partitioning.id),
            )
            return upto, copied

        upto, copied = patiently(conn, work.patience, "a page of rows", act)
        work.report("copied", copied)
        rows = next_page(rows, time.monotonic() - began, work.batch_target)
        after, last = upto or after, upto is None
    # In a transaction of its own after the last page: whatever begins later sees the whole copy.
    with conn.transaction():
        state.note(conn, partitioning, phase=Phase.COPIED.value, snapshots=open_snapshots(conn), position=None)
    work.report("copy complete", 1)


def compare(work: Work, partitioning: Partitioning, pages: Pages, *, resume: bool) -> None:
    """Compare both sides page by page, from where it was left."""
    conn, layout = work.conn, partitioning.layout
    left, right = pages.table, pages.tree
    after, last = (partitioning.position if resume else None), False
    while not last:
        upto = pages.end_of_page(conn, after, _PAGE_TO_COMPARE)
        checked = pages.compare(conn, left, right, after, upto)
        if resume and upto is not None:
            state.note(conn, partitioning, position=list(upto))
        work.report("compared", checked)
        after, last = upto, upto is None
    log.info("%s: both sides are equal", layout.table)


def verify(work: Work, partitioning: Partitioning) -> None:
    facts = checked_facts(work, partitioning)
    compare(work, partitioning, _pages(partitioning, facts), resume=True)
    work.conn.execute(stmt("ANALYZE {}", partitioning.layout.root.identifier))
    state.note(work.conn, partitioning, phase=Phase.VERIFIED.value, position=None)
    work.report("verified", 1)


def before_switch(work: Work, partitioning: Partitioning) -> None:
    """Days have passed since the tree was built, and nobody may look at the table as it was before the copy."""
    _leaves(work, partitioning, checked_facts(work, partitioning))
    await_snapshots(work.conn, partitioning.snapshots, work.patience)
