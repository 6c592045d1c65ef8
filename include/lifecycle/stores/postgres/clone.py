"""A faithful copy of a table, made beside it and put in its place (hard case 12).

Everything that costs time (rows, indexes, checks) is done while the source can still be read; what needs the source out
of the way is a handful of catalogue changes. The clone is made in the project's own schema under the source's own name,
so that no index, constraint or statistics object needs to be renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lifecycle.errors import LifecycleError
from lifecycle.stores.postgres import clone_sql
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.published import everything_is_published

WORKSHOP = "lifecycle"
# From here on identity columns of partitions are those of the parent, and ATTACH refuses any other.
_SHARED_IDENTITY = 170000


class CloneError(LifecycleError):
    """A table has something that cannot be reproduced; it was left as it is. Names the table and what it is."""

    def __init__(self, table: str, what: str) -> None:
        self.table, self.what = table, what
        super().__init__(f"{table}: {what}; the partition was left as it is")


@dataclass(frozen=True)
class Clone:
    """A table and its copy in the making. ``oid``: of the source."""

    schema: str
    name: str
    oid: int

    @property
    def source(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def made(self) -> sql.Identifier:
        return sql.Identifier(WORKSHOP, self.name)


def begin_clone(conn: Connection, schema: str, name: str) -> Clone:
    """Make an empty table like another one, without indexes and constraints, inside the caller's transaction.

    Raises:
        CloneError: there is no room for it.
    """
    oid = one(conn, "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))::oid", (schema, name))
    clone = Clone(schema, name, oid)
    if one(conn, "SELECT to_regclass(%s) IS NOT NULL", (clone.made.as_string(conn),)):
        raise CloneError(f"{schema}.{name}", f"schema {WORKSHOP}, in which it would be copied, has a table of its name")
    persistence, method, space = conn.execute(
        "SELECT c.relpersistence::text, a.amname, coalesce(s.spcname, '') FROM pg_class c LEFT JOIN pg_am a ON a.oid ="
        " c.relam LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = %s",
        (oid,),
    ).fetchone() or ("p", None, "")
    _use_tablespace(conn, space)
    unlogged = persistence == "u" or everything_is_published(conn)
    statement = sql.SQL("CREATE {kind} TABLE {made} (LIKE {source} {parts}) USING {method}").format(
        kind=sql.SQL("UNLOGGED" if unlogged else ""),
        made=clone.made,
        source=clone.source,
        parts=sql.SQL(_parts(conn)),
        method=sql.Identifier(method or "heap"),
    )
    with _reproducing(clone):
        conn.execute(statement)
    _apply(conn, clone, clone_sql.EMPTY_TABLE, clone.made)
    if not _identity_is_shared(conn):
        _copy_positions(conn, clone)
    return clone


def _parts(conn: Connection) -> str:
    shared = "INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION"
    return shared if _identity_is_shared(conn) else f"{shared} INCLUDING IDENTITY"


def _identity_is_shared(conn: Connection) -> bool:
    return conn.info.server_version >= _SHARED_IDENTITY


def _copy_positions(conn: Connection, clone: Clone) -> None:
    """Let the clone's own identity columns go on where the source's are."""
    columns = conn.execute(
        "SELECT a.attname, pg_get_serial_sequence(%s, a.attname) FROM pg_attribute a"
        " WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity <> ''",
        (clone.source.as_string(conn), clone.oid),
    ).fetchall()
    for column, sequence in columns:
        conn.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence(%s, %s), last_value, is_called) FROM {}").format(
                sql.SQL(sequence)
            ),
            (clone.made.as_string(conn), column),
        )


def discard(conn: Connection, clone: Clone) -> None:
    """Drop a clone that is not needed."""
    conn.execute(sql.SQL("DROP TABLE {}").format(clone.made))


def columns_of(conn: Connection, oid: int) -> sql.Composed:
    """The columns of a table that can be written, in order: generated ones are left out."""
    rows = conn.execute(
        "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped"
        " AND a.attgenerated = '' ORDER BY a.attnum",
        (oid,),
    ).fetchall()
    return sql.SQL(", ").join(sql.Identifier(name) for (name,) in rows)


def copy_rows(
    conn: Connection,
    clone: Clone,
    source: sql.Composable,
    where: sql.Composable,
    params: dict[str, object] | None = None,
) -> int:
    """Copy rows of a table (alias ``m``) into the clone, column by column by name. Returns how many.

    Args:
        source: the clone's own source, or another table of the same columns.
    """
    columns = columns_of(conn, clone.oid)
    return conn.execute(
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM ONLY {} m WHERE {}").format(
            clone.made, columns, columns, source, where
        ),
        params,
    ).rowcount


def finish_clone(conn: Connection, clone: Clone, *, bounds: bool = False) -> None:
    """Give the filled clone the source's indexes, constraints and statistics, and let the planner know it.

    Args:
        bounds: it will be attached with the source's bounds; then its rows are held against them now.
    """
    _apply(conn, clone, [clone_sql.LOGGED], clone.made)
    for query in clone_sql.INDEXES:
        for space, statement in _rows(conn, clone, query, clone.made):
            _use_tablespace(conn, space)
            _execute(conn, clone, statement)
    _use_tablespace(conn, "")
    _apply(conn, clone, clone_sql.FILLED_TABLE, clone.made)
    if bounds:
        _apply(conn, clone, [clone_sql.BOUNDS], clone.made)
    conn.execute(sql.SQL("ANALYZE {}").format(clone.made))


@dataclass(frozen=True)
class Remainder:
    """What is left to do to a clone in its source's place, written down while the source still exists."""

    release: tuple[str, ...]
    in_place: tuple[str, ...]
    owner: tuple[str, ...]
    grants: tuple[str, ...]
    attached: tuple[str, ...]


def write_down(conn: Connection, clone: Clone) -> Remainder:
    """Read the rest of the source's definition."""

    def of(*queries: str) -> tuple[str, ...]:
        return tuple(row[0] for query in queries for row in _rows(conn, clone, query, clone.source))

    return Remainder(
        release=of(*clone_sql.RELEASE),
        in_place=of(*clone_sql.in_place(conn.info.server_version)),
        owner=of(clone_sql.OWNER),
        grants=of(clone_sql.GRANTS),
        attached=of(*clone_sql.ATTACHED),
    )


def take_place(conn: Connection, clone: Clone, rest: Remainder) -> None:
    """Move the clone to where its source was. The source is gone; what was written down of it is done to the clone."""
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(clone.made, sql.Identifier(clone.schema)))
    _run(conn, clone, rest.owner)
    _run(conn, clone, rest.in_place)
    _grant(conn, clone, rest.grants)


def _grant(conn: Connection, clone: Clone, grants: Sequence[str]) -> None:
    """Exactly the source's grants, whatever default privileges gave the clone when it was made."""
    name = clone.source.as_string(conn)
    given = conn.execute(
        "SELECT DISTINCT CASE WHEN x.grantee <> 0 THEN pg_get_userbyid(x.grantee)::text END, x.grantee = c.relowner"
        " FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = to_regclass(%s)",
        (name,),
    ).fetchall()
    for grantee, owns in given:
        if not owns:
            whom = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
            conn.execute(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(clone.source, whom))
    _run(conn, clone, grants)


def attach(conn: Connection, clone: Clone, parent: sql.Identifier, bound: str) -> None:
    """Make the clone, in its source's place, a partition. ``bound``: ``FOR VALUES ...`` or ``DEFAULT``."""
    statement = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} ").format(parent, clone.source).as_bytes(conn)
    with _reproducing(clone):
        conn.execute(statement + bound.encode())


def settle_in(conn: Connection, clone: Clone, rest: Remainder) -> None:
    """The last touches, once the clone is a partition again."""
    conn.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS lifecycle_bounds").format(clone.source))
    _run(conn, clone, rest.attached)


def fingerprint(conn: Connection, schema: str, name: str) -> frozenset[str]:
    """What a table has of its own beside its rows and what its parent gives it; equal for tables that are alike."""
    oid = one(conn, "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))::oid", (schema, name))
    clone = Clone(schema, name, oid)
    found = (
        row[-1]
        for query in clone_sql.alike(conn.info.server_version)
        for row in _rows(conn, clone, query, clone.source)
    )
    return frozenset(str(statement).replace(name, "") for statement in found)


# -- statements from the catalogue ----------------------------------------------------------------------------------


def _rows(conn: Connection, clone: Clone, query: str, target: sql.Identifier) -> list[tuple[str, ...]]:
    params = {
        "source": clone.oid,
        "target": target.as_string(conn),
        "schema": sql.Identifier(WORKSHOP).as_string(conn),
    }
    return conn.execute(query.encode(), params).fetchall()


def _apply(conn: Connection, clone: Clone, queries: Iterable[str], target: sql.Identifier) -> None:
    for query in queries:
        _run(conn, clone, [row[0] for row in _rows(conn, clone, query, target)])


def _run(conn: Connection, clone: Clone, statements: Iterable[str | None]) -> None:
    for statement in statements:
        _execute(conn, clone, statement)


def _execute(conn: Connection, clone: Clone, statement: str | None) -> None:
    if statement is None:
        raise CloneError(
            f"{clone.schema}.{clone.name}",
            "a definition of it has a form that this version does not know, or a right on it was given by a role for"
            " which this one may not act",
        )
    with _reproducing(clone):
        conn.execute(statement.encode())


@contextmanager
def _reproducing(clone: Clone) -> Iterator[None]:
    """What the server will not do to another table is a reason to leave the partition where it is, not to fail.

    These errors speak of definitions and rights; those that speak of rows are of other classes.
    """
    try:
        yield
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        said = error.diag.message_primary or type(error).__name__
        raise CloneError(f"{clone.schema}.{clone.name}", f"it cannot be reproduced ({said})") from None


def _use_tablespace(conn: Connection, name: str) -> None:
    conn.execute("SELECT set_config('default_tablespace', %s, true)", (name,))
