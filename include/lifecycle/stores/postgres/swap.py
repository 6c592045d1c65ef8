"""A partition replaced by its survivors: copied while it can still be read, swapped in one short locked moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lifecycle.errors import VerificationError
from lifecycle.stores.postgres.clone import (
    Clone,
    attach,
    begin_clone,
    copy_rows,
    discard,
    finish_clone,
    settle_in,
    take_place,
    write_down,
)
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.locks import EXCLUSIVE, QUIET, SHARED, at_a_free_moment, lock_tables
from lifecycle.stores.postgres.references import (
    can_be_carried,
    carry_away,
    carry_back,
    dependents,
    incoming,
    partners,
)
from lifecycle.stores.postgres.refused import NotSwappableError as NotSwappableError
from lifecycle.stores.postgres.refused import unless_forbidden
from lifecycle.stores.postgres.tree import Partition


def keep_still(conn: Connection, *leaves: Partition) -> None:
    """Let nobody write to partitions of one parent until the transaction ends; they can be read, others be written.

    What a policy of the table would hide from this role is an error from here on, never a row overlooked.
    """
    conn.execute("SELECT set_config('row_security', 'off', true)")
    lock_from_above(conn, leaves, QUIET)


def lock_from_above(conn: Connection, leaves: Sequence[Partition], mode: str) -> None:
    """Lock partitions as everybody does who comes through the tables above them: those first, then the partitions.

    Who changes the definition of a table above then waits there, holding nothing, and not below, holding it.
    """
    above = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_ancestors(to_regclass(%(leaf)s)) WITH ORDINALITY p(relid, place)"
        " JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE p.relid <> to_regclass(%(leaf)s) ORDER BY p.place DESC",
        {"leaf": leaves[0].identifier.as_string(conn)},
    ).fetchall()
    own = ((leaf.identifier, mode) for leaf in leaves)
    lock_tables(conn, [*((sql.Identifier(*name), SHARED) for name in above), *own])


@dataclass(frozen=True)
class Survivors:
    """What is left of a partition, copied beside it. ``clone``: None where nothing is, and the partition may go."""

    leaf: Partition
    clone: Clone | None
    rows: int

    def lack(self, *keys: str) -> sql.Composable:
        """A condition on a row of the partition, alias ``m``: that it is not among them."""
        if self.clone is None:
            return sql.SQL("true")
        same = (sql.SQL("s.{key} = m.{key}").format(key=sql.Identifier(key)) for key in keys)
        return sql.SQL("NOT EXISTS (SELECT FROM {} s WHERE {})").format(self.clone.made, sql.SQL(" AND ").join(same))


def copy_survivors(conn: Connection, leaf: Partition, copy: Callable[[Clone], int]) -> Survivors:
    """Copy what stays of a partition into a faithful clone, indexes and all, beside everybody who reads.

    Args:
        copy: fills the empty clone, and returns with how many rows.

    Raises:
        NotSwappableError: something depends on the partition; nothing was changed.
    """
    refuse_dependents(conn, leaf)
    with unless_forbidden(conn, _shown(leaf)):
        clone = begin_clone(conn, leaf.schema, leaf.name)
    kept = copy(clone)
    if kept == 0 and leaf.bounded:
        with unless_forbidden(conn, _shown(leaf)):
            discard(conn, clone)
        return Survivors(leaf, None, 0)
    refuse_uncarriable(conn, leaf)
    with unless_forbidden(conn, _shown(leaf)):
        finish_clone(conn, clone, bounds=True)
    if one(conn, sql.SQL("SELECT count(*) FROM {}").format(clone.made)) != kept:
        raise VerificationError(f"{leaf.schema}.{leaf.name}: the copy does not hold the {kept} rows that were copied")
    return Survivors(leaf, clone, kept)


def put_in_place(conn: Connection, survivors: Survivors) -> float:
    """Let the survivors be the partition: parent and partition are locked for as long as the catalogue takes to change.

    A bounded partition without survivors is dropped and not replaced. Returns since when they are locked, in seconds of
    the monotonic clock; they are until the transaction ends.

    Raises:
        psycopg.errors.LockNotAvailable: there was no free moment; the transaction has to be tried again.
    """
    leaf, clone = survivors.leaf, survivors.clone
    if clone is None:
        return drop_partition(conn, leaf)
    bound = bound_of(conn, leaf)

    def swap() -> float:
        since = time.monotonic()
        with unless_forbidden(conn, _shown(leaf)):
            exchange(conn, [leaf], clone, bound)
        return since

    return at_a_free_moment(conn, tables_to_lock(conn, [leaf]), swap)


def swap_in(conn: Connection, leaf: Partition, keep: sql.Composable, params: dict[str, object]) -> int:
    """Replace a partition by a fresh one that holds only its survivors, inside the caller's transaction.

    Everything else about the partition stays as it was (see `clone`). Returns the number of rows carried over; see
    `copy_survivors` and `put_in_place`.
    """
    survivors = copy_survivors(conn, leaf, lambda clone: copy_rows(conn, clone, leaf.identifier, keep, params))
    put_in_place(conn, survivors)
    return survivors.rows


def drop_partition(conn: Connection, leaf: Partition) -> float:
    """Drop a partition in which nothing survives, at a free moment. Returns since when the tables are locked."""
    refuse_dependents(conn, leaf)

    def drop() -> float:
        since = time.monotonic()
        with unless_forbidden(conn, _shown(leaf)):
            _remove(conn, leaf)
        return since

    return at_a_free_moment(conn, tables_to_lock(conn, [leaf]), drop)


def _shown(leaf: Partition) -> str:
    return f"{leaf.schema}.{leaf.name}"


def refuse_dependents(conn: Connection, leaf: Partition) -> None:
    """Find out what a DROP would be refused for, before anything is copied.

    Raises:
        NotSwappableError: views, functions or columns are made from the partition itself.
    """
    holders = dependents(conn, leaf)
    if holders:
        raise NotSwappableError(f"{leaf.schema}.{leaf.name}", holders)


def refuse_uncarriable(conn: Connection, leaf: Partition) -> None:
    """Rows of children that refer to survivors are set aside for a moment; nothing may notice.

    Raises:
        NotSwappableError: a child has triggers, rules, or foreign keys to itself, which would act.
    """
    holders = [str(each) for each in incoming(conn, leaf.schema, leaf.name) if not can_be_carried(conn, each)]
    if holders:
        raise NotSwappableError(f"{leaf.schema}.{leaf.name}", holders)


def tables_to_lock(conn: Connection, leaves: Sequence[Partition]) -> list[tuple[sql.Composable, str]]:
    """What an exchange needs for itself, in the order in which the application locks: from the parent down."""
    first = leaves[0]
    defaults = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partdefid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.partrelid = to_regclass(%s)",
        (first.parent_identifier.as_string(conn),),
    ).fetchall()
    own = {(leaf.schema, leaf.name) for leaf in leaves}
    referring, referred = partners(conn, first)
    return [
        (first.parent_identifier, EXCLUSIVE),
        *((leaf.identifier, EXCLUSIVE) for leaf in leaves),
        *((sql.Identifier(*name), EXCLUSIVE) for name in defaults if tuple(name) not in own),
        *((name, EXCLUSIVE) for name in referring),
        *((name, QUIET) for name in referred),
    ]


def bound_of(conn: Connection, leaf: Partition) -> str:
    """The bounds of a partition as PostgreSQL writes them, to attach another one with."""
    found: str = one(
        conn,
        "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.oid = to_regclass(%s)",
        (leaf.identifier.as_string(conn),),
    )
    return found


def exchange(
    conn: Connection,
    leaves: Sequence[Partition],
    clone: Clone,
    bound: str,
    *,
    name: str | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Drop partitions of one parent and attach the finished clone in their place. All tables involved are locked.

    Args:
        bound: ``FOR VALUES ...`` or ``DEFAULT``.
        name: what it is called from now on, if not like its source.
        meanwhile: done once nothing refers to the rows of the clone where they were.
    """
    rest, first = write_down(conn, clone), leaves[0]
    references = [each for each in incoming(conn, first.schema, first.name) if not each.direct]
    carried = carry_away(conn, references, clone.made)
    if meanwhile is not None:
        meanwhile()
    for statement in rest.release:
        conn.execute(statement.encode())
    for leaf in leaves:
        _remove(conn, leaf, detach=bool(references))
    take_place(conn, clone, rest)
    attach(conn, clone, first.parent_identifier, bound)
    settle_in(conn, clone, rest)
    if name is not None and name != clone.name:
        rename(conn, clone, name)
    carry_back(conn, carried)


def _remove(conn: Connection, leaf: Partition, *, detach: bool | None = None) -> None:
    if detach is None:
        detach = bool(incoming(conn, leaf.schema, leaf.name))
    if detach:
        # What refers to it still is found by this, and refused; a DROP would ask for CASCADE instead.
        conn.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(leaf.parent_identifier, leaf.identifier))
    try:
        conn.execute(sql.SQL("DROP TABLE {}").format(leaf.identifier))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise NotSwappableError(f"{leaf.schema}.{leaf.name}", [error.diag.message_detail or "another object"]) from None


def rename(conn: Connection, clone: Clone, name: str) -> None:
    """Give a table, and what is named after it, another name."""
    parts = conn.execute(
        "SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = to_regclass(%s)"
        " AND starts_with(x.relname, %s)",
        (clone.source.as_string(conn), clone.name),
    ).fetchall()
    for (part,) in parts:
        conn.execute(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                sql.Identifier(clone.schema, part), sql.Identifier((name + part[len(clone.name) :])[:63])
            )
        )
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(clone.source, sql.Identifier(name)))
