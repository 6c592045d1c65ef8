"""What a report tells of a run, read from the project's own tables: counts, hashes and times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg.rows import class_row

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection


@dataclass(frozen=True)
class RunFacts:
    """One row of lifecycle.runs."""

    run_id: int
    run_key: str
    scope: str
    as_of: datetime
    policy_hash: str
    catalog_hash: str
    dry_run: bool
    status: str
    started_at: datetime
    finished_at: datetime | None
    summary: dict[str, Any] | None


@dataclass(frozen=True)
class LedgerLine:
    """One row of the run's ledger, as the report shows it."""

    seq: int
    entry: str
    unit: str
    disposition: str
    rule: str
    counts: dict[str, int]
    cutoff: datetime | None
    recorded_at: datetime
    hash: str


@dataclass(frozen=True)
class UnitLine:
    """One unit of the run's plan."""

    unit: str
    method: str
    day: date | None
    status: str
    planned: dict[str, dict[str, int]]
    progress: dict[str, dict[str, int]]


def load_run(conn: Connection, run_id: int) -> RunFacts:
    """Read one run.

    Raises:
        PreconditionError: there is no such run.
    """
    with conn.cursor(row_factory=class_row(RunFacts)) as cursor:
        found = cursor.execute(
            "SELECT run_id, run_key, scope, as_of, policy_hash, catalog_hash, dry_run, status, started_at, finished_at,"
            " summary FROM lifecycle.runs WHERE run_id = %s",
            (run_id,),
        ).fetchone()
    if found is None:
        raise PreconditionError(f"there is no run {run_id}")
    return found


def ledger_of(conn: Connection, run_id: int) -> list[LedgerLine]:
    with conn.cursor(row_factory=class_row(LedgerLine)) as cursor:
        return cursor.execute(
            "SELECT seq, entry, unit, disposition, rule, counts, cutoff, recorded_at, hash FROM lifecycle.ledger"
            " WHERE run_id = %s ORDER BY seq",
            (run_id,),
        ).fetchall()


def units_of(conn: Connection, run_id: int) -> list[UnitLine]:
    with conn.cursor(row_factory=class_row(UnitLine)) as cursor:
        return cursor.execute(
            "SELECT unit, method, day, status, planned, progress FROM lifecycle.plan_units"
            " WHERE run_id = %s ORDER BY unit",
            (run_id,),
        ).fetchall()
