"""The switch to the tree, the way back, and the end."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from psycopg import sql

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.online import state
from lifecycle.stores.postgres.online.build import parked_name, tree_name
from lifecycle.stores.postgres.online.copying import Pages
from lifecycle.stores.postgres.online.facts import GUARD, Name, TableFacts
from lifecycle.stores.postgres.online.filling import before_switch, compare
from lifecycle.stores.postgres.online.handover import ForeignKey, Handover, Side, validate_keys
from lifecycle.stores.postgres.online.locks import patiently
from lifecycle.stores.postgres.online.mirror import NOTHING
from lifecycle.stores.postgres.online.read import oid_of, read_facts
from lifecycle.stores.postgres.online.refusals import CannotPartitionError, extended_key, refusals, rekeyed
from lifecycle.stores.postgres.online.state import Partitioning, Phase
from lifecycle.stores.postgres.online.text import Statement, idents, stmt
from lifecycle.stores.postgres.online.work import Work, checked_facts, mirror_of, run_all

log = logging.getLogger(__name__)
_DROP_AT_ONCE = 25


def foreign_keys_after(facts: TableFacts, partitioning: Partitioning) -> tuple[ForeignKey, ...]:
    return tuple(
        ForeignKey(key.table, key.name, key.definition, rekeyed(key, facts, partitioning.layout))
        for key in facts.inbound
    )


def sides(partitioning: Partitioning, old: TableFacts, tree: TableFacts) -> tuple[Side, Side]:
    layout, count = partitioning.layout, len(partitioning.indexes)
    parked = tuple(parked_name(layout, n) for n in range(count))
    building = tuple(tree_name(layout, n) for n in range(count))
    return Side(old, layout.parked, parked), Side(tree, layout.root, building)


def forward(partitioning: Partitioning, old: TableFacts, tree: TableFacts) -> Handover:
    source, target = sides(partitioning, old, tree)
    keys = foreign_keys_after(old, partitioning)
    return Handover(partitioning.layout.table, source, target, partitioning.indexes, keys)


def backward(partitioning: Partitioning, tree: TableFacts, old: TableFacts) -> Handover:
    target, source = sides(partitioning, old, tree)
    keys = tuple(ForeignKey(key.table, key.name, key.after, key.before) for key in partitioning.foreign_keys)
    return Handover(partitioning.layout.table, source, target, partitioning.indexes, keys)


def switch(work: Work, partitioning: Partitioning) -> None:
    """One transaction in which the tree takes the table's name and everything that hangs on it."""
    before_switch(work, partitioning)
    layout, conn = partitioning.layout, work.conn
    _refuse_unmatched(conn, partitioning, read_facts(conn, layout.table))
    seconds = 0.0

    def act() -> None:
        nonlocal seconds
        looked = forward(partitioning, read_facts(conn, layout.table), read_facts(conn, layout.root))
        run_all(conn, looked.locks())
        began = time.monotonic()
        old = checked_facts(work, partitioning)
        # the names of its partitions are in the way of nobody else
        reasons = refusals(_without_own_names(old), layout, partitioning.accepted)
        if reasons:
            raise CannotPartitionError(str(layout.table), reasons)
        handover = forward(partitioning, old, read_facts(conn, layout.root))
        mirror = mirror_of(partitioning, old)
        run_all(conn, mirror.drop_triggers(layout.table))
        run_all(conn, handover.statements())
        conn.execute(mirror.function(conn, mirror.back, mirror.back_body()))
        state.note(
            conn,
            partitioning,
            phase=Phase.SWITCHED.value,
            structure=read_facts(conn, layout.table).structure(),
            foreign_keys=state.keys_as_json(handover.keys),
            switched_at=work.now,
        )
        seconds = time.monotonic() - began

    patiently(conn, work.patience, f"{layout.table} and what refers to it", act)
    log.info("%s is partitioned; its locks were held for %.0f ms", layout.table, seconds * 1000)
    work.report("switched", 1)


def _refuse_unmatched(conn: Connection, partitioning: Partitioning, facts: TableFacts) -> None:
    """A key that is to be extended must hold with the new columns too, or it could not be checked afterwards.

    Raises:
        PreconditionError: the number of rows whose clock or tier is not that of the row they refer to.
    """
    for key in facts.inbound:
        if rekeyed(key, facts, partitioning.layout) in (None, key.definition):
            continue
        more = tuple(name for name in extended_key(facts, partitioning.layout) if name not in key.referenced)
        query = stmt(
            "SELECT count(*) FROM {} c JOIN ONLY {} t ON ({}) = ({}) WHERE ({}) IS DISTINCT FROM ({})",
            key.table.identifier,
            facts.name.identifier,
            idents(key.columns, "c"),
            idents(key.referenced, "t"),
            idents(more, "c"),
            idents(more, "t"),
        )
        if unmatched := one(conn, query):
            raise PreconditionError(
                f"{unmatched:,} row(s) of {key.table} have another {' or '.join(more)} than the row of {facts.name} "
                f"that foreign key {key.name} refers to; fill them from it, then --resume"
            )


def _without_own_names(facts: TableFacts) -> TableFacts:
    return replace(facts, taken=frozenset())


def validate(work: Work, partitioning: Partitioning) -> None:
    """Check the foreign keys of other tables against what they hold; repeated on every resume, it costs one look."""
    run_all(work.conn, validate_keys(partitioning.foreign_keys))
    if read_facts(work.conn, partitioning.layout.table).statistics:
        work.conn.execute(stmt("ANALYZE {}", partitioning.layout.table.identifier))
    work.report("keys checked", len(partitioning.foreign_keys))


def revert(work: Work, partitioning: Partitioning) -> None:
    """Back to the one ordinary table with all its rows, from any phase before `--finish`. Safe to repeat."""
    if partitioning.phase is Phase.FINISHING:
        raise PreconditionError(
            f"{partitioning.layout.table} is being finished, and the ordinary table is no longer kept up; "
            "go on with --finish"
        )
    if partitioning.phase is Phase.SWITCHED:
        _switch_back(work, partitioning)
    elif partitioning.phase is not Phase.REVERTING:
        _stop_mirror(work, partitioning)
    partitioning = state.reload(work.conn, partitioning)
    run_all(work.conn, validate_keys(ForeignKey(k.table, k.name, k.after, k.before) for k in partitioning.foreign_keys))
    _drop_tree(work, partitioning)


def _switch_back(work: Work, partitioning: Partitioning) -> None:
    layout, conn = partitioning.layout, work.conn
    parked = read_facts(conn, layout.parked)
    pages = Pages.of(parked, layout.table, partitioning.key, extended_key(parked, layout))
    compare(work, partitioning, pages, resume=False)

    def act() -> None:
        looked = backward(partitioning, read_facts(conn, layout.table), read_facts(conn, layout.parked))
        run_all(conn, looked.locks())
        tree = checked_facts(work, partitioning)
        old = read_facts(conn, layout.parked)
        mirror = mirror_of(partitioning, old)
        conn.execute(mirror.function(conn, mirror.back, NOTHING))
        run_all(conn, backward(partitioning, tree, old).statements())
        state.note(conn, partitioning, phase=Phase.REVERTING.value)

    patiently(conn, work.patience, f"{layout.table} and what refers to it", act)
    work.report("switched back", 1)


def _stop_mirror(work: Work, partitioning: Partitioning) -> None:
    layout, conn = partitioning.layout, work.conn

    def act() -> None:
        # As DROP TRIGGER will, and before it looks.
        conn.execute(stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", layout.table.identifier))
        run_all(conn, mirror_of(partitioning, read_facts(conn, layout.table)).drop_triggers(layout.table))
        state.note(conn, partitioning, phase=Phase.REVERTING.value)

    patiently(conn, work.patience, str(layout.table), act)
    work.report("mirror stopped", 1)


def _drop_tree(work: Work, partitioning: Partitioning) -> None:
    """Leaf by leaf, so that no transaction needs many locks; nobody looks at the tree any more."""
    layout, conn = partitioning.layout, work.conn
    facts = read_facts(conn, layout.table)
    for leaves in _in_parts(_leaves_of(conn, layout.root)):
        patiently(conn, work.patience, "the tree", lambda: run_all(conn, [_drop(leaf) for leaf in leaves]))  # noqa: B023  # called at once
        work.report("partitions dropped", len(leaves))

    def act() -> None:
        conn.execute(stmt("DROP TABLE IF EXISTS {}", layout.root.identifier))
        guards = [found.name for found in facts.constraints if found.name.startswith(GUARD)]
        run_all(conn, [_drop_constraint(layout.table, name) for name in guards])
        run_all(conn, mirror_of(partitioning, facts).drop_functions())
        conn.execute(
            "UPDATE lifecycle.partitionings SET phase = 'reverted', finished_at = %s, position = NULL"
            " WHERE partitioning_id = %s",
            (work.now, partitioning.id),
        )

    patiently(conn, work.patience, f"the tree and {layout.table}", act)
    work.report("reverted", 1)


def finish(work: Work, partitioning: Partitioning) -> None:
    """Stop keeping the ordinary table up, and drop it. There is no way back from here."""
    layout, conn = partitioning.layout, work.conn
    if partitioning.phase not in (Phase.SWITCHED, Phase.FINISHING):
        raise PreconditionError(
            f"{layout.table} has not switched yet (it is {partitioning.phase}); go on with --resume first"
        )
    old = read_facts(conn, layout.parked) if oid_of(conn, layout.parked) is not None else None
    mirror = mirror_of(partitioning, old or read_facts(conn, layout.table))
    if partitioning.phase is Phase.SWITCHED:
        validate(work, partitioning)

        def stop() -> None:
            conn.execute(mirror.function(conn, mirror.back, NOTHING))
            state.note(conn, partitioning, phase=Phase.FINISHING.value)

        patiently(conn, work.patience, str(layout.table), stop)
        work.report("mirror stopped", 1)

    def drop() -> None:
        conn.execute(stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", layout.table.identifier))
        run_all(conn, mirror.drop_triggers(layout.table))
        conn.execute(_drop(layout.parked))
        run_all(conn, mirror.drop_functions())
        state.note(conn, partitioning, phase=Phase.FINISHED.value, finished_at=work.now)

    patiently(conn, work.patience, f"{layout.table} and the tables it refers to", drop)
    work.report("finished", 1)


def _drop(name: Name) -> Statement:
    return stmt("DROP TABLE IF EXISTS {}", name.identifier)


def _drop_constraint(table: Name, name: str) -> Statement:
    return stmt("ALTER TABLE {} DROP CONSTRAINT {}", table.identifier, sql.Identifier(name))


def _leaves_of(conn: Connection, root: Name) -> list[Name]:
    oid = oid_of(conn, root)
    if oid is None:
        return []
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.isleaf ORDER BY 2",
        (oid,),
    ).fetchall()
    return [Name(schema, name) for schema, name in rows]


def _in_parts(leaves: list[Name]) -> list[list[Name]]:
    return [leaves[n : n + _DROP_AT_ONCE] for n in range(0, len(leaves), _DROP_AT_ONCE)]
