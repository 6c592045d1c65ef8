"""Content that PostgreSQL copied into its column statistics (``pg_stats``: commonest values, bounds of histograms).

It outlasts the rows until the next ANALYZE, is read by whoever may read the column, and three times no ANALYZE comes by
itself or none helps (seen on PostgreSQL 18): autovacuum analyses no partitioned table, so what a dropped partition gave
to its parent's statistics stays; an ANALYZE of an empty table changes nothing; and a small deletion triggers none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg
from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.grants import vacuumed_tables

log = logging.getLogger(__name__)
# ANALYZE ONLY, and functions that take statistics away.
_FIRST_WITH_ONLY = 180_000
_SHOWS_CONTENT = (
    "SELECT EXISTS (SELECT FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename"
    " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname"
    " WHERE c.oid = to_regclass(%(relation)s)"
    " AND (s.most_common_vals IS NOT NULL OR s.histogram_bounds IS NOT NULL))"
)
_CLEAR = (
    "SELECT pg_clear_attribute_stats(s.schemaname::text, s.tablename::text, s.attname::text, s.inherited)"
    " FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename"
    " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname"
    " WHERE c.oid = to_regclass(%(relation)s)"
)
# Statistics with content, taken before the last deletion: of tables that rows were taken out of, and, over all of their
# partitions, of partitioned tables of which something was. Those of a table that was replaced (filenode 0) went with
# it. Of an empty table they are older than they are said to be. The view is asked last, and for one table at a time: it
# looks at the rights on every column that it goes through.
_STALE = """
WITH gone AS MATERIALIZED (
    SELECT relation, max(deleted_at) AS last, max(deleted_at) FILTER (WHERE filenode IS DISTINCT FROM 0) AS at
    FROM lifecycle.physical_erasure GROUP BY 1
), looked AS (
    SELECT to_regclass(relation)::oid AS oid, at, false AS inherited FROM gone WHERE at IS NOT NULL
    UNION
    SELECT t.relid::oid, (SELECT max(last) FROM gone), true FROM unnest(%(roots)s::text[]) r
    CROSS JOIN LATERAL pg_partition_tree(to_regclass(r)) t WHERE NOT t.isleaf
)
SELECT n.nspname::text, c.relname::text, l.inherited
FROM (SELECT oid, inherited, max(at) AS at FROM looked GROUP BY 1, 2) l
JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE CASE WHEN c.reltuples = 0 OR l.at > coalesce(
        greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)), '-infinity')
    THEN EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname
        AND s.inherited = l.inherited AND (s.most_common_vals IS NOT NULL OR s.histogram_bounds IS NOT NULL))
    END
ORDER BY 1, 2
"""


def roots_of(conn: Connection, catalog: Catalog) -> list[str]:
    """The tables that a configuration disposes of, quoted; those of them that are partitioned have statistics above."""
    names = [catalog.messages.table] if catalog.has_messages else []
    return [table(name).as_string(conn) for name in (*names, *vacuumed_tables(catalog))]


def renew(conn: Connection, relation: sql.Identifier) -> None:
    """Take statistics with content again, of a table that rows or content were taken out of. Otherwise does nothing.

    Where our role may not, or the table is locked for longer than the role waits, they stay; `stale` names them.
    """
    named = {"relation": relation.as_string(conn)}
    if not one(conn, _SHOWS_CONTENT, named):
        return
    try:
        conn.execute(sql.SQL("ANALYZE {}").format(relation))
    except psycopg.errors.LockNotAvailable:
        log.warning("%s: its column statistics are from before the deletion: it was locked", named["relation"])
        return
    empty = one(conn, sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(relation))
    if empty and conn.info.server_version >= _FIRST_WITH_ONLY:
        try:
            conn.execute(_CLEAR, named)
        except psycopg.errors.InsufficientPrivilege:
            log.warning(
                "%s is empty, and its column statistics show what was deleted: we may not clear them", named["relation"]
            )


def renew_above(conn: Connection, roots: Sequence[str]) -> int:
    """Take again what partitioned tables remember of partitions that went. Returns how many tables that were.

    Before PostgreSQL 18 such an ANALYZE goes through every partition as well: that is left to the operator.
    """
    if conn.info.server_version < _FIRST_WITH_ONLY:
        return 0
    above = [name for name, inherited in stale(conn, roots) if inherited]
    for name in above:
        try:
            conn.execute(sql.SQL("ANALYZE ONLY {}").format(name))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.OutOfMemory) as error:
            log.warning("%s: its statistics are from before the last deletion: %s", name.as_string(conn), error)
    return len(above)


def stale(conn: Connection, roots: Sequence[str]) -> list[tuple[sql.Identifier, bool]]:
    """Tables whose statistics can show what was deleted, and whether those are over all of their partitions.

    Only columns that our role may read are seen.
    """
    rows = conn.execute(_STALE, {"roots": list(roots)}).fetchall()
    return [(sql.Identifier(schema, name), inherited) for schema, name, inherited in rows]
