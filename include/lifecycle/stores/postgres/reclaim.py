"""From "deleted" to "erased" in the table's own files: vacuum, and a record written only when it is so (case 18).

A vacuum can leave dead rows: an old snapshot, a prepared transaction or a replica may still see them, a page may be in
use, the right to vacuum may be missing (PostgreSQL then only warns). What is left is counted, TOAST included.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg
from psycopg import sql

from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.partitions import vacuum

log = logging.getLogger(__name__)
_FIRST_WITH_FLUSH = 150_000
# Both the table and its TOAST table have been vacuumed, at or after an instant, and nothing dead was left in either.
_CLEAN = (
    "SELECT coalesce(bool_and(s.last_vacuum >= %(since)s AND s.n_dead_tup = 0), false), coalesce(sum(s.n_dead_tup), 0)"
    " FROM pg_class c JOIN pg_stat_all_tables s ON s.relid IN (c.oid, c.reltoastrelid)"
    " WHERE c.oid = to_regclass(%(relation)s)"
)


def reclaim(
    conn: Connection, run_id: int, unit: str, relations: Sequence[sql.Identifier], *, deleted: bool = True
) -> bool:
    """Vacuum tables, and record whether anything was left of what a unit deleted. True when nothing was.

    Args:
        deleted: whether the unit deleted anything at all; otherwise there is nothing to record.
    """
    clean = True
    for relation in relations:
        name = relation.as_string(conn)
        if deleted:
            note_deleted(conn, run_id, unit, name)
        clean = _vacuum(conn, relation, name) and clean
    return clean


def note_deleted(conn: Connection, run_id: int, unit: str, relation: str, *, dropped: bool = False) -> None:
    """Record that rows went from a table, or the table with them: then its files went when the transaction ended."""
    conn.execute(
        "INSERT INTO lifecycle.physical_erasure (run_id, unit, relation, deleted_at, lsn, reclaimed_at)"
        " VALUES (%s, %s, %s, clock_timestamp(), %s, CASE WHEN %s THEN clock_timestamp() END)"
        " ON CONFLICT (run_id, unit, relation) DO UPDATE SET deleted_at = excluded.deleted_at, lsn = excluded.lsn,"
        " reclaimed_at = excluded.reclaimed_at",
        (run_id, unit, relation, _position(conn), dropped),
    )


def reclaim_pending(conn: Connection) -> int:
    """Try again where an earlier vacuum left something. Returns how many tables still have dead rows."""
    names = conn.execute(
        "SELECT DISTINCT p.relation, n.nspname::text, c.relname::text FROM lifecycle.physical_erasure p"
        " LEFT JOIN pg_class c ON c.oid = to_regclass(p.relation) LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE p.reclaimed_at IS NULL ORDER BY 1"
    ).fetchall()
    left = 0
    for name, schema, bare in names:
        if bare is None:
            _note_clean(conn, name)
        else:
            left += not _vacuum(conn, sql.Identifier(schema, bare), name)
    return left


def _vacuum(conn: Connection, relation: sql.Identifier, name: str) -> bool:
    since = one(conn, "SELECT clock_timestamp()")
    if conn.info.server_version >= _FIRST_WITH_FLUSH:
        # Otherwise our own deletions may be added to the statistics after the vacuum has set them.
        conn.execute("SELECT pg_stat_force_next_flush()")
    vacuum(conn, [relation])
    clean, dead = conn.execute(_CLEAN, {"since": since, "relation": name}).fetchone() or (False, 0)
    if clean:
        _note_clean(conn, name)
    else:
        log.warning("%s: a vacuum left %d dead row version(s); they are not recorded as erased", name, dead)
    return bool(clean)


def _note_clean(conn: Connection, name: str) -> None:
    """Whatever was deleted from the table before is gone with the rest."""
    conn.execute(
        "UPDATE lifecycle.physical_erasure SET reclaimed_at = clock_timestamp()"
        " WHERE relation = %s AND reclaimed_at IS NULL",
        (name,),
    )


def _position(conn: Connection) -> str | None:
    try:
        return str(one(conn, "SELECT pg_current_wal_insert_lsn()::text"))
    except psycopg.errors.InsufficientPrivilege:
        return None
