"""Tables of a partition tree as the catalogue has them, one by one; `tree` puts them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from lifecycle.stores.postgres.connect import Connection

# Bounds hold no columns. With the partition's oid, PostgreSQL would open every partition: lock it, and remember it.
_NODE = sql.SQL(
    "n.nspname, c.relname, c.relkind::text, pg_get_expr(c.relpartbound, 0), p.partstrat::text,"
    " ARRAY(SELECT a.attname::text FROM unnest(p.partattrs::int2[]) WITH ORDINALITY k(attnum, place)"
    " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum ORDER BY k.place)"
)
_KIN = sql.SQL("JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid")
_ROOT = sql.SQL(
    "SELECT c.oid, 0::oid, {node} FROM pg_class c {kin}"
    " WHERE c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))"
).format(node=_NODE, kin=_KIN)
_CHILDREN = sql.SQL(
    "SELECT c.oid, i.inhparent, {node} FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid {kin}"
    " WHERE i.inhparent = %(parent)s AND NOT i.inhdetachpending"
).format(node=_NODE, kin=_KIN)
_BELOW = sql.SQL(
    "WITH RECURSIVE t AS (SELECT i.inhrelid, i.inhparent FROM pg_inherits i WHERE i.inhparent = %(parent)s"
    " AND NOT i.inhdetachpending UNION ALL SELECT i.inhrelid, i.inhparent FROM t"
    " JOIN pg_inherits i ON i.inhparent = t.inhrelid AND NOT i.inhdetachpending)"
    " SELECT c.oid, t.inhparent, {node} FROM t JOIN pg_class c ON c.oid = t.inhrelid {kin}"
).format(node=_NODE, kin=_KIN)


@dataclass(frozen=True)
class Node:
    """One row of the catalogue. ``strategy``: l, r or h of a partitioned table; ``keys``: None for an expression."""

    oid: int
    parent: int
    schema: str
    name: str
    kind: str
    bound: str | None
    strategy: str | None
    keys: Sequence[str | None]

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


def root_of(conn: Connection, schema: str, name: str) -> Node | None:
    """A table by its name; None where there is none."""
    found = _read(conn, _ROOT, {"schema": schema, "name": name})
    return found[0] if found else None


def children_of(conn: Connection, node: Node) -> list[Node]:
    """The partitions directly below a table; none that is being detached."""
    return _read(conn, _CHILDREN, {"parent": node.oid})


def all_below(conn: Connection, node: Node) -> list[Node]:
    """The same at any depth."""
    return _read(conn, _BELOW, {"parent": node.oid})


def _read(conn: Connection, query: sql.Composed, params: dict[str, object]) -> list[Node]:
    return [Node(*row) for row in conn.execute(query, params).fetchall()]
