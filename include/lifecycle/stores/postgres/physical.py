"""What the server says about where deleted rows can still be. Reads views only; what a role may not see is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from lifecycle.planning.physical import Deletion, Facts, Slot
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.samples import stale

_NOW = "SELECT clock_timestamp(), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
# Segment names sort by timeline first; the position of a segment is its name without the timeline.
_OLDEST = (
    "SELECT min((('x' || lpad(substr(name, 9, 8), 16, '0'))::bit(64)::bigint << 32)"
    " + ('x' || lpad(substr(name, 17, 8), 16, '0'))::bit(64)::bigint * (SELECT setting::bigint FROM pg_settings"
    " WHERE name = 'wal_segment_size')) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
)
_ARCHIVED = (
    "SELECT (('x' || lpad(substr(last_archived_wal, 9, 8), 16, '0'))::bit(64)::bigint << 32)"
    " + (('x' || lpad(substr(last_archived_wal, 17, 8), 16, '0'))::bit(64)::bigint + 1) * (SELECT setting::bigint"
    " FROM pg_settings WHERE name = 'wal_segment_size')"
    " FROM pg_stat_archiver WHERE last_archived_wal ~ '^[0-9A-F]{24}'"
)
_CHECKPOINT = "SELECT pg_wal_lsn_diff(redo_lsn, '0/0')::bigint, checkpoint_time FROM pg_control_checkpoint()"
_SETTINGS = (
    "SELECT name, setting, unit FROM pg_settings WHERE name IN ('wal_keep_size', 'max_slot_wal_keep_size',"
    " 'checkpoint_timeout', 'archive_mode')"
)
# One that was invalidated ("lost") may still say where it stood, and holds nothing. A catalog_xmin, which every logical
# slot has, keeps rows of the catalogue and none of the product's. Version 18 gives up a slot that nobody reads.
_SLOTS = (
    "SELECT s.slot_name::text, s.active, CASE WHEN s.wal_status IS DISTINCT FROM 'lost'"
    " THEN pg_wal_lsn_diff(s.restart_lsn, '0/0')::bigint END,"
    " s.xmin IS NOT NULL AND s.wal_status IS DISTINCT FROM 'lost',"
    " CASE WHEN NOT s.active THEN (to_jsonb(s)->>'inactive_since')::timestamptz"
    " + nullif(current_setting('idle_replication_slot_timeout', true)::interval, interval '0') END"
    " FROM pg_replication_slots s ORDER BY 1"
)
# Of another database they hold no row of ours.
_PREPARED = "SELECT count(*), min(prepared) FROM pg_prepared_xacts WHERE database = current_database()"
# Of sessions of others, a role without pg_monitor sees that they are there, and nothing else.
_SESSIONS = (
    "SELECT min(xact_start) FILTER (WHERE backend_xmin IS NOT NULL OR backend_xid IS NOT NULL),"
    " count(*) FILTER (WHERE backend_type IS NULL OR (backend_type = 'client backend' AND state IS NULL))"
    " FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
)
# hot_standby_feedback without a slot: it holds rows of every database.
_FEEDBACK = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND backend_xmin IS NOT NULL"
_REPLICAS = "SELECT count(*), max(coalesce(replay_lag, flush_lag, write_lag)) FROM pg_stat_replication"
# The same file still: then what a vacuum has freed in it is there until something is written over it. Of what was
# recorded before files were, nobody can tell.
_DELETION = (
    "SELECT max(at), max(lsn), count(DISTINCT relation) FILTER (WHERE pending),"
    " count(DISTINCT relation) FILTER (WHERE coalesce(filenode, present) = present) FROM (SELECT relation, filenode,"
    " pg_relation_filenode(to_regclass(relation)) AS present, max(deleted_at) AS at,"
    " max(pg_wal_lsn_diff(lsn, '0/0')::bigint) AS lsn, bool_or(reclaimed_at IS NULL) AS pending"
    " FROM lifecycle.physical_erasure GROUP BY 1, 2) d"
)
_MEGABYTE = 1024 * 1024


def facts(conn: Connection) -> Facts:
    """The server's state now. Never raises because a managed service denies a view or a function."""
    now, position = _row(conn, _NOW) or (one(conn, "SELECT clock_timestamp()"), None)
    redo, checkpointed = _row(conn, _CHECKPOINT) or (None, None)
    settings = {name: (setting, unit) for name, setting, unit in conn.execute(_SETTINGS).fetchall()}
    slot_keep = int(settings["max_slot_wal_keep_size"][0])
    snapshot, hidden = _row(conn, _SESSIONS) or (None, 1)
    replicas, lag = _row(conn, _REPLICAS) or (None, None)
    return Facts(
        now=now,
        position=position,
        oldest_on_disk=(_row(conn, _OLDEST) or (None,))[0],
        redo=redo,
        bytes_per_second=_rate(now, position, redo, checkpointed),
        keep=int(settings["wal_keep_size"][0]) * _MEGABYTE,
        slot_keep=None if slot_keep < 0 else slot_keep * _MEGABYTE,
        checkpoint_timeout=timedelta(seconds=int(settings["checkpoint_timeout"][0])),
        slots=_slots(conn),
        prepared=_row(conn, _PREPARED),
        oldest_snapshot=snapshot,
        hidden_sessions=hidden,
        feedback=one(conn, _FEEDBACK),
        replicas=replicas,
        replica_lag=lag,
        archiving=_is_on(settings),
        archived=(_row(conn, _ARCHIVED) or (None,))[0],
    )


def last_deletion(conn: Connection, roots: Sequence[str] = ()) -> Deletion | None:
    """The latest deletion on record, with the tables that are not clean yet; None before the first.

    Args:
        roots: tables whose statistics over all partitions are looked at too, quoted.
    """
    row = conn.execute(_DELETION).fetchone()
    if row is None or row[0] is None:
        return None
    at, lsn, pending, free = row
    return Deletion(at, lsn, tables_pending=pending, free_space=free, sampled=len(stale(conn, roots)))


def _rate(now: datetime, position: int | None, redo: int | None, since: datetime | None) -> float | None:
    """Bytes of log a second since the last checkpoint; None where nothing was written, or nothing is to be seen."""
    if position is None or redo is None or since is None or now <= since:
        return None
    return max(position - redo, 0) / (now - since).total_seconds() or None


def _slots(conn: Connection) -> tuple[Slot, ...] | None:
    try:
        return tuple(Slot(*row) for row in conn.execute(_SLOTS.encode()).fetchall())
    except psycopg.errors.InsufficientPrivilege:
        return None


def _is_on(settings: Mapping[str, tuple[str, str | None]]) -> bool:
    return settings["archive_mode"][0] != "off"


def _row(conn: Connection, query: str) -> tuple[Any, ...] | None:
    """The only row of a query; None where our role may not ask, or this server cannot tell."""
    try:
        return conn.execute(query.encode()).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
        return None
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.FeatureNotSupported):
        return None
