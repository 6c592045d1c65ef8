"""Materialized views that show what has gone until somebody refreshes them: refreshed at the end of a run."""

from __future__ import annotations

import logging
import time

import psycopg
from psycopg import sql

from lifecycle.catalog.models import OrphanRecords, Records
from lifecycle.dispositions.context import RunContext
from lifecycle.errors import DispositionError
from lifecycle.stores.postgres.connect import LOCK_TIMEOUT_MS, Connection, one
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.partitions import vacuum
from lifecycle.stores.postgres.samples import renew

log = logging.getLogger(__name__)
# A view without a unique index is locked while it is refreshed; for so long its readers are let past first.
PATIENCE_SECONDS = 60.0
# The instant of the last disposal of any part of a dataset; null where nothing has ever gone.
_LAST = (
    "SELECT max(u.finished_at) FROM lifecycle.plan_units u JOIN lifecycle.runs r USING (run_id)"
    " WHERE u.dataset = ANY (%s) AND NOT r.dry_run AND EXISTS (SELECT FROM jsonb_each(u.progress) c"
    " WHERE split_part(c.key, ':', 1) IN ('delete', 'deidentify') AND (c.value ->> 'records')::bigint > 0)"
)
_STALE = (
    "SELECT v.name FROM unnest(%s::text[]) WITH ORDINALITY v(name, place) WHERE %s > coalesce((SELECT f.refreshed_at"
    " FROM lifecycle.refreshed_views f WHERE f.name = v.name), '-infinity') ORDER BY v.place"
)
# A view whose every row a unique index names can be refreshed beside its readers.
_UNIQUE = (
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.oid = to_regclass(%s)"
    " AND c.relispopulated AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL)"
)
_DONE = (
    "INSERT INTO lifecycle.refreshed_views (name, refreshed_at) VALUES (%s, clock_timestamp())"
    " ON CONFLICT (name) DO UPDATE SET refreshed_at = excluded.refreshed_at"
)


def refresh_views(context: RunContext) -> int:
    """Refresh, in the order in which the dataset file lists them, the views that were made before the last disposal.

    Returns:
        how many were refreshed.

    Raises:
        DispositionError: some could not be locked in time, or may not be refreshed; the others were.
    """
    done = failed = 0
    for dataset in context.catalog.tables:
        for name in _stale(context.conn, dataset):
            if _refresh(context.conn, name):
                done += 1
            else:
                failed += 1
    if failed:
        raise DispositionError("materialized views", failed, {"views not refreshed": failed, "views refreshed": done})
    return done


def _stale(conn: Connection, dataset: Records) -> list[str]:
    if not dataset.refresh:
        return []
    last = one(conn, _LAST, ([each.id for each in dataset.unfolded if not isinstance(each, OrphanRecords)],))
    return [name for (name,) in conn.execute(_STALE, (list(dataset.refresh), last)).fetchall()]


def _refresh(conn: Connection, name: str) -> bool:
    view = table(name)
    beside = bool(one(conn, _UNIQUE, (view.as_string(conn),)))
    text = "REFRESH MATERIALIZED VIEW CONCURRENTLY {}" if beside else "REFRESH MATERIALIZED VIEW {}"
    try:
        _patiently(conn, sql.SQL(text).format(view))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as e:
        log.error("%s was not refreshed (%s) and still shows what has gone", name, type(e).__name__)
        return False
    if beside:
        # Only what differs was replaced, row by row; a whole new file leaves nothing behind.
        vacuum(conn, [view])
    renew(conn, view)
    conn.execute(_DONE, (name,))
    return True


def _patiently(conn: Connection, statement: sql.Composed) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    pause = 0.05
    while True:
        try:
            with conn.transaction():
                conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_TIMEOUT_MS}ms",))
                conn.execute(statement)
                return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
