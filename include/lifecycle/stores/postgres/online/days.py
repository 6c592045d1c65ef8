"""The days that a table has rows of, and the partitions for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date

from psycopg import sql

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.build import bounds, create_leaf
from lifecycle.stores.postgres.online.copying import clock_index
from lifecycle.stores.postgres.online.facts import TableFacts
from lifecycle.stores.postgres.online.layout import Interval, Layout, Leaf
from lifecycle.stores.postgres.online.locks import Patience, patiently
from lifecycle.stores.postgres.online.text import raw, stmt

# One transaction locks them all at the switch; the server's lock table has room for some thousands.
MOST_LEAVES = 2_000
_AT_ONCE = 25


def days_of(conn: Connection, facts: TableFacts, clock: str) -> list[date]:
    """Every UTC day with a row: by one probe a day where an index has the clock, else by reading the table once."""
    indexed = clock_index(facts, clock) is not None
    query = _PROBES if indexed else _SCAN
    kind = facts.column(clock).type
    rows = conn.execute(
        stmt(query, clock=sql.Identifier(clock), table=facts.name.identifier, kind=raw(kind))
    ).fetchall()
    return [row[0] for row in rows]


_PROBES = """
    WITH RECURSIVE days(day) AS (
        (SELECT {clock}::date FROM ONLY {table} WHERE {clock} > '-infinity' AND {clock} < 'infinity'
         ORDER BY {clock} LIMIT 1)
        UNION ALL
        SELECT (SELECT {clock}::date FROM ONLY {table} WHERE {clock} >= (day + 1)::{kind} AND {clock} < 'infinity'
                ORDER BY {clock} LIMIT 1)
        FROM days WHERE day IS NOT NULL)
    SELECT day FROM days WHERE day IS NOT NULL ORDER BY day"""
_SCAN = "SELECT DISTINCT {clock}::date FROM ONLY {table} WHERE isfinite({clock}) ORDER BY 1"


def refuse_too_many(layout: Layout, leaves: int) -> None:
    if leaves > MOST_LEAVES:
        other = "--interval month" if layout.interval is Interval.DAY else "deleting what is long past its deadline"
        raise PreconditionError(
            f"{layout.table} would have {leaves:,} partitions, more than {MOST_LEAVES:,}; try {other}"
        )


def missing_leaves(conn: Connection, layout: Layout, days: Iterable[date]) -> list[Leaf]:
    wanted = list(layout.leaves(days))
    have = {
        row[0]
        for row in conn.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = ANY(%s)",
            (layout.table.schema, [leaf.name for leaf in wanted]),
        )
    }
    return [leaf for leaf in wanted if leaf.name not in have]


def _chunks(leaves: list[Leaf]) -> Iterator[list[Leaf]]:
    for start in range(0, len(leaves), _AT_ONCE):
        yield leaves[start : start + _AT_ONCE]


def create_leaves(
    conn: Connection,
    facts: TableFacts,
    layout: Layout,
    days: Iterable[date],
    patience: Patience,
    done: Callable[[int], None],
) -> int:
    """Make the partitions that are missing, a few in each transaction; `done` hears how many. Safe to repeat."""
    missing = missing_leaves(conn, layout, days)
    for chunk in _chunks(missing):

        def act(chunk: list[Leaf] = chunk) -> None:
            for leaf in chunk:
                _create(conn, facts, layout, leaf)

        patiently(conn, patience, "new partitions", act)
        done(len(chunk))
    return len(missing)


def _create(conn: Connection, facts: TableFacts, layout: Layout, leaf: Leaf) -> None:
    """A partition, with what the default partition holds of it: mirrored writes may have come before it was there."""
    default = layout.table.sibling(layout.default_of(leaf.parent)).identifier
    lower, upper = bounds(leaf)
    within = stmt(
        "{clock} >= {lower} AND {clock} < {upper}", clock=sql.Identifier(layout.clock), lower=lower, upper=upper
    )
    conn.execute(stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", default))
    strays = conn.execute(stmt("SELECT count(*) FROM {} WHERE {}", default, within)).fetchone()
    if strays is None or strays[0] == 0:
        for statement in create_leaf(facts, layout, leaf):
            conn.execute(statement)
        return
    columns = sql.SQL(", ").join(map(sql.Identifier, facts.writable))
    conn.execute(
        stmt(
            "CREATE TEMP TABLE lifecycle_strays ON COMMIT DROP AS SELECT {} FROM {} WHERE {}", columns, default, within
        )
    )
    conn.execute(stmt("DELETE FROM {} WHERE {}", default, within))
    for statement in create_leaf(facts, layout, leaf):
        conn.execute(statement)
    table = layout.table.sibling(leaf.name).identifier
    conn.execute(stmt("INSERT INTO {0} ({1}) SELECT {1} FROM lifecycle_strays", table, columns))
    conn.execute("DROP TABLE lifecycle_strays")
