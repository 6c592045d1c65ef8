"""From "deleted" to "reclaimed": vacuum, and a record that nothing is left, written only when it is so (case 18).

A vacuum can leave dead rows: an old snapshot, a prepared transaction or a replica may still see them, a page may be in
use, the right to vacuum may be missing (PostgreSQL then only warns). How far it got it says itself, for the table and
for its TOAST table: everything deleted by a transaction before its "removable cutoff" is gone. That needs no right to
look at what others do. A server that speaks another language is believed only when it counts no dead row at all.

What kept it is often over when the vacuum is: so it is tried again, for as long as the first pass took. A later pass
reads only pages that the first could not finish (the visibility map leaves out the rest).

"Reclaimed" means that no row version, index entry or TOAST chunk is left. Their bytes are free space then, which VACUUM
does not overwrite; ``filenode`` tells whether the file that has them is still the table's.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.partitions import vacuum
from lifecycle.stores.postgres.samples import renew

log = logging.getLogger(__name__)
# Transactions that were under way beside our last one are given so long to end before a vacuum begins.
PATIENCE_SECONDS = 0.25
# A table whose first pass took hours is not waited for as long again: the next run tries once more.
_MOST_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.025
_MOST_POLL_SECONDS = 5.0
_FIRST_WITH_FLUSH = 150_000
_CUTOFF = re.compile(r"(?:removable cutoff|oldest xmin): (\d+)")
_MISSED = re.compile(r"tuples missed: ([1-9]\d*)")
_XIDS = 1 << 32
_NEXT = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_BOUND = (
    "SELECT max(bound::text::bigint) FROM lifecycle.physical_erasure"
    " WHERE relation = %(relation)s AND reclaimed_at IS NULL"
)
# Whether a transaction that can see rows of this database (a session's, a replica's, a prepared one) is older than
# another. A vacuum at work elsewhere holds no rows. What others do may be hidden; their transaction ids never are.
_OLDER = (
    "SELECT EXISTS (SELECT FROM pg_prepared_xacts p WHERE p.database = current_database()"
    " AND age(p.transaction) > age(%(bound)s::text::xid8::xid))"
    " OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid()"
    " AND (a.datname IS NULL OR a.datname = current_database())"
    " AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)"
    " AND greatest(age(a.backend_xmin), age(a.backend_xid)) > age(%(bound)s::text::xid8::xid))"
)
# Both the table and its TOAST table have been vacuumed, at or after an instant, and nothing dead was left in either.
_SPOTLESS = (
    "SELECT coalesce(bool_and(s.last_vacuum >= %(since)s AND s.n_dead_tup = 0), false)"
    " FROM pg_class c JOIN pg_stat_all_tables s ON s.relid IN (c.oid, c.reltoastrelid)"
    " WHERE c.oid = to_regclass(%(relation)s)"
)


@dataclass
class _Said:
    """What a vacuum said: how far it got, per table it went through, and whether pages in use kept dead rows."""

    cutoffs: list[int] = field(default_factory=list)
    missed: bool = False

    def hear(self, notice: psycopg.errors.Diagnostic) -> None:
        text = f"{notice.message_primary or ''}\n{notice.message_detail or ''}"
        self.cutoffs += [int(found) for found in _CUTOFF.findall(text)]
        self.missed = self.missed or _MISSED.search(text) is not None

    def cutoff(self, now: int) -> int | None:
        """The transaction, in full, before which every deletion is gone; None where the vacuum did not say.

        Args:
            now: the next transaction in full; what the vacuum says is its last 32 bits.
        """
        if self.missed or not self.cutoffs:
            return None
        return min(now - (now - said) % _XIDS for said in self.cutoffs)


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
            _let_others_end(conn, name, time.monotonic() + PATIENCE_SECONDS)
        clean = _vacuum_until_clean(conn, relation, name) and clean
        if deleted:
            renew(conn, relation)
    return clean


def note_deleted(conn: Connection, run_id: int, unit: str, relation: str, *, dropped: bool = False) -> None:
    """Record that rows went from a table, or the table with them: then its files went when the transaction ended."""
    conn.execute(
        "INSERT INTO lifecycle.physical_erasure (run_id, unit, relation, deleted_at, lsn, bound, reclaimed_at,"
        " filenode) VALUES (%(run)s, %(unit)s, %(relation)s, clock_timestamp(), %(lsn)s,"
        " pg_snapshot_xmax(pg_current_snapshot()), CASE WHEN %(dropped)s THEN clock_timestamp() END,"
        " CASE WHEN %(dropped)s THEN 0 ELSE pg_relation_filenode(to_regclass(%(relation)s)) END)"
        " ON CONFLICT (run_id, unit, relation) DO UPDATE SET deleted_at = excluded.deleted_at, lsn = excluded.lsn,"
        " bound = excluded.bound, reclaimed_at = excluded.reclaimed_at, filenode = excluded.filenode",
        {"run": run_id, "unit": unit, "relation": relation, "lsn": _position(conn), "dropped": dropped},
    )


def reclaim_pending(conn: Connection) -> int:
    """Try again where an earlier vacuum left something. Returns how many tables still have such rows."""
    names = conn.execute(
        "SELECT DISTINCT p.relation, n.nspname::text, c.relname::text FROM lifecycle.physical_erasure p"
        " LEFT JOIN pg_class c ON c.oid = to_regclass(p.relation) LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE p.reclaimed_at IS NULL ORDER BY 1"
    ).fetchall()
    left = 0
    for name, schema, bare in names:
        if bare is None:
            _note_clean(conn, name, None)
        elif not _vacuum(conn, sql.Identifier(schema, bare), name):
            left += 1
            _warn(name)
    return left


def _vacuum_until_clean(conn: Connection, relation: sql.Identifier, name: str) -> bool:
    """Vacuum, and again what was kept from it, for as long as the first pass took."""
    began = time.monotonic()
    if _vacuum(conn, relation, name):
        return True
    now = time.monotonic()
    give_up = now + min(max(PATIENCE_SECONDS, now - began), _MOST_PATIENCE_SECONDS)
    pause = _POLL_SECONDS
    while time.monotonic() < give_up:
        if not _let_others_end(conn, name, give_up):
            break
        if _vacuum(conn, relation, name):
            return True
        time.sleep(min(pause, max(give_up - time.monotonic(), 0)))
        pause = min(pause * 2, _MOST_POLL_SECONDS)
    _warn(name)
    return False


def _warn(name: str) -> None:
    log.warning(
        "%s: vacuum could not remove all that was deleted; it is not recorded as reclaimed, and is tried again at the"
        " end of this run and by each later one (lifecycle postgres physical tells what may hold it)",
        name,
    )


def _let_others_end(conn: Connection, name: str, give_up: float) -> bool:
    """Until nobody can see what was deleted from a table; False where an instant of the monotonic clock came first.

    A snapshot that we do not see is for the vacuum to tell.
    """
    bound = one(conn, _BOUND, {"relation": name})
    if bound is None:
        return True
    pause = _POLL_SECONDS
    while one(conn, _OLDER, {"bound": str(bound)}):
        if time.monotonic() > give_up:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _MOST_POLL_SECONDS)
    return True


def _vacuum(conn: Connection, relation: sql.Identifier, name: str) -> bool:
    since = one(conn, "SELECT clock_timestamp()")
    if conn.info.server_version >= _FIRST_WITH_FLUSH:
        # Otherwise our own deletions may be added to the statistics after the vacuum has set them.
        conn.execute("SELECT pg_stat_force_next_flush()")
    with _listening(conn) as said:
        try:
            vacuum(conn, [relation])
        except psycopg.errors.LockNotAvailable:
            return False  # our role has a lock_timeout, and somebody (autovacuum, DDL) is at work in the table
    if one(conn, _SPOTLESS, {"since": since, "relation": name}):
        _note_clean(conn, name, None)
    else:
        cutoff = said.cutoff(one(conn, _NEXT))
        if cutoff is not None:
            _note_clean(conn, name, cutoff)
    left: int = one(
        conn,
        "SELECT count(*) FROM lifecycle.physical_erasure WHERE relation = %s AND reclaimed_at IS NULL",
        (name,),
    )
    return left == 0


@contextmanager
def _listening(conn: Connection) -> Iterator[_Said]:
    said = _Said()
    conn.add_notice_handler(said.hear)
    try:
        yield said
    finally:
        conn.remove_notice_handler(said.hear)


def _note_clean(conn: Connection, name: str, cutoff: int | None) -> None:
    """What was deleted from the table before a transaction is gone; without one, everything that was ever deleted."""
    conn.execute(
        "UPDATE lifecycle.physical_erasure SET reclaimed_at = clock_timestamp() WHERE relation = %(name)s"
        " AND reclaimed_at IS NULL AND (%(cutoff)s::text IS NULL OR bound <= %(cutoff)s::text::xid8)",
        {"name": name, "cutoff": None if cutoff is None else str(cutoff)},
    )


def _position(conn: Connection) -> str | None:
    try:
        return str(one(conn, "SELECT pg_current_wal_insert_lsn()::text"))
    except psycopg.errors.InsufficientPrivilege:
        return None
