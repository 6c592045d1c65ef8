"""The register of runs: who is at work on which scope, on which frozen as-of, under which policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from lifecycle.errors import PreconditionError, RunInProgressError
from lifecycle.stores.postgres.connect import Connection

# How long a run whose tasks come and go (Airflow) counts as alive after its last sign of life.
LEASE = timedelta(minutes=30)
_BEGIN_LOCK = 0x72756E73
_SELECT = sql.SQL(
    "SELECT run_id, run_key, scope, as_of, policy_hash, catalog_hash, dry_run, status, planned_at, started_at,"
    " guard_policy, guard_catalog FROM lifecycle.runs WHERE {}"
)
_BY_ID = sql.SQL("run_id = %(run_id)s")
_BY_KEY = sql.SQL("run_key = %(key)s")
_RESUMABLE = sql.SQL(
    "scope = %(scope)s AND as_of = %(as_of)s AND dry_run = %(dry)s AND status IN ('running', 'failed')"
    " AND policy_hash = %(policy)s AND catalog_hash = %(catalog)s AND run_key LIKE 'cli/%%'"
    " ORDER BY run_id DESC LIMIT 1"
)


@dataclass(frozen=True)
class Run:
    """One run of one scope on one frozen instant.

    ``guard_policy``, ``guard_catalog``: the configuration in force when it began, where it is another one.
    """

    run_id: int
    run_key: str
    scope: str
    as_of: datetime
    policy_hash: str
    catalog_hash: str
    dry_run: bool
    status: str
    planned_at: datetime | None
    started_at: datetime
    guard_policy: str | None = None
    guard_catalog: str | None = None

    @classmethod
    def unregistered(
        cls, name: str, scope: str, as_of: datetime, hashes: tuple[str, str], guard: tuple[str, str] | None = None
    ) -> Run:
        """A run that only looks, and that the register never sees."""
        return cls(0, name, scope, as_of, *hashes, True, "running", None, as_of, *(guard or (None, None)))


def load(conn: Connection, run_id: int) -> Run:
    run = _find(conn, _BY_ID, {"run_id": run_id})
    if run is None:
        raise PreconditionError(f"there is no run {run_id}")
    return run


def _find(conn: Connection, condition: sql.SQL, params: Mapping[str, Any]) -> Run | None:
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(_SELECT.format(condition), params).fetchone()


def begin(
    conn: Connection,
    *,
    scope: str,
    as_of: datetime,
    run_key: str | None,
    hashes: tuple[str, str],
    dry_run: bool,
    owner: Connection | None,
) -> Run:
    """Register a run, or resume the unfinished one of the same key (or, without a key, of the same scope and as-of).

    Args:
        owner: the connection whose life is the run's life (command line); None when tasks come and go (Airflow).

    Raises:
        RunInProgressError: another run of the scope is alive.
    """
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_BEGIN_LOCK,))
        facts = {
            "scope": scope,
            "as_of": as_of,
            "key": run_key,
            "policy": hashes[0],
            "catalog": hashes[1],
            "dry": dry_run,
        }
        same = _find(conn, _BY_KEY if run_key is not None else _RESUMABLE, facts)
        if same is not None and (same.policy_hash, same.catalog_hash) != hashes:
            raise PreconditionError(
                f"run {same.run_key} was planned under another policy or dataset file; start a new run instead"
            )
        _refuse_rival(conn, scope, same.run_id if same else None)
        run_id = same.run_id if same else _insert(conn, facts)
        _own(conn, run_id, owner)
        _abandon_others(conn, scope, run_id)
        return load(conn, run_id)


def _refuse_rival(conn: Connection, scope: str, mine: int | None) -> None:
    """A run is alive while its owner's backend is, or while its lease lasts when it has no owner."""
    rival = conn.execute(
        "SELECT r.run_id, r.run_key FROM lifecycle.runs r LEFT JOIN pg_stat_activity a"
        " ON a.pid = r.owner_pid AND a.backend_start = r.owner_start"
        " WHERE r.scope = %s AND r.status = 'running'"
        " AND CASE WHEN r.owner_pid IS NULL THEN r.lease_until > clock_timestamp() AND r.run_id IS DISTINCT FROM %s"
        "          ELSE a.pid IS NOT NULL END",
        (scope, mine),
    ).fetchone()
    if rival is not None:
        raise RunInProgressError(scope, rival[1])


def _insert(conn: Connection, facts: Mapping[str, Any]) -> int:
    row = conn.execute(
        "INSERT INTO lifecycle.runs (run_key, scope, as_of, policy_hash, catalog_hash, dry_run)"
        " VALUES (coalesce(%(key)s, 'cli/' || gen_random_uuid()), %(scope)s, %(as_of)s, %(policy)s, %(catalog)s,"
        " %(dry)s)"
        " RETURNING run_id",
        facts,
    ).fetchone()
    assert row is not None
    return int(row[0])


def _own(conn: Connection, run_id: int, owner: Connection | None) -> None:
    pid = owner.info.backend_pid if owner is not None else None
    conn.execute(
        "UPDATE lifecycle.runs SET status = 'running', finished_at = NULL, owner_pid = %(pid)s,"
        " owner_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = %(pid)s),"
        " lease_until = clock_timestamp() + %(lease)s WHERE run_id = %(run)s",
        {"pid": pid, "lease": LEASE, "run": run_id},
    )


def _abandon_others(conn: Connection, scope: str, run_id: int) -> None:
    """A dead run of the scope will not be resumed once another has begun: what it left is due again in the new one."""
    conn.execute(
        "UPDATE lifecycle.runs SET status = 'abandoned', finished_at = clock_timestamp()"
        " WHERE scope = %s AND run_id <> %s AND status IN ('running', 'failed')",
        (scope, run_id),
    )


def unfinished_of_abandoned(conn: Connection, scope: str) -> list[tuple[int, str]]:
    """Units that an abandoned run had begun and never closed: their acts are still to be written to the ledger."""
    rows = conn.execute(
        "SELECT u.run_id, u.unit FROM lifecycle.plan_units u JOIN lifecycle.runs r USING (run_id)"
        " WHERE r.scope = %s AND r.status = 'abandoned' AND u.status IN ('running', 'failed') ORDER BY 1, 2",
        (scope,),
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def guard(conn: Connection, run_id: int, hashes: tuple[str, str] | None) -> None:
    """Bind a run that is not planned yet to the configuration in force; None when its own is."""
    policy, catalog = hashes or (None, None)
    conn.execute(
        "UPDATE lifecycle.runs SET guard_policy = %s, guard_catalog = %s WHERE run_id = %s AND planned_at IS NULL",
        (policy, catalog, run_id),
    )


def alive(conn: Connection, run_id: int) -> None:
    """Extend the lease: this run has just shown a sign of life."""
    conn.execute("UPDATE lifecycle.runs SET lease_until = clock_timestamp() + %s WHERE run_id = %s", (LEASE, run_id))


def summarise(conn: Connection, run_id: int, summary: Mapping[str, Any]) -> None:
    conn.execute("UPDATE lifecycle.runs SET summary = %s WHERE run_id = %s", (Jsonb(dict(summary)), run_id))


def note_late(conn: Connection, run_id: int, late: Mapping[str, int]) -> None:
    """Keep what the run found past its deadline before it disposed of anything."""
    conn.execute("UPDATE lifecycle.runs SET late = %s WHERE run_id = %s", (Jsonb(dict(late)), run_id))


def late(conn: Connection, run_id: int) -> dict[str, int]:
    row = conn.execute("SELECT late FROM lifecycle.runs WHERE run_id = %s", (run_id,)).fetchone()
    return dict(row[0]) if row is not None and row[0] is not None else {}


def finish(conn: Connection, run_id: int, status: str) -> None:
    """Close a run as 'succeeded' or 'failed'; a failed one can be resumed."""
    conn.execute(
        "UPDATE lifecycle.runs SET status = %s, finished_at = clock_timestamp(), lease_until = NULL, owner_pid = NULL"
        " WHERE run_id = %s AND status IN ('running', 'failed')",
        (status, run_id),
    )


def last_success(conn: Connection, scope: str, as_of: datetime) -> datetime | None:
    """The as-of of the scope's last successful run up to an instant."""
    row = conn.execute(
        "SELECT max(as_of) FROM lifecycle.runs WHERE scope = %s AND NOT dry_run AND status = 'succeeded'"
        " AND as_of <= %s",
        (scope, as_of),
    ).fetchone()
    return row[0] if row is not None else None
