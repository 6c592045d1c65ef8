"""About how many rows tables have: the planner's figure, which costs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from lifecycle.catalog.models import Catalog, Logs
from lifecycle.stores.postgres.connect import Connection


def total_records(conn: Connection, catalog: Catalog) -> int:
    """About how many records there are: the planner's figure, and a count where it has none."""
    names = [item.table for item in catalog.datasets if not isinstance(item, Logs)]
    return sum(sum(estimates(conn, name).values()) for name in dict.fromkeys([*names, "lifecycle.quarantine"]))


def estimates(conn: Connection, name: str) -> Mapping[str, int]:
    """Rows of each leaf of a table, about, by bare name; counted where the table was never analysed."""
    rows = conn.execute(
        "SELECT n.nspname, c.relname, c.reltuples FROM pg_partition_tree(to_regclass(%(name)s)) p"
        " JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.isleaf"
        " UNION ALL SELECT n.nspname, c.relname, c.reltuples FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%(name)s) AND c.relkind = 'r' AND NOT c.relispartition",
        {"name": sql.Identifier(*name.split(".", 1)).as_string(conn)},
    ).fetchall()
    found: dict[str, int] = {}
    for schema, leaf, about in rows:
        if about < 0:
            counted = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, leaf))).fetchone()
            about = counted[0] if counted else 0
        found[leaf] = int(about)
    return found
