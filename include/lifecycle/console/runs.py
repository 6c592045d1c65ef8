"""The console's queries on runs, verdicts, ledger and what people have asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from psycopg import sql

from lifecycle.config import Configuration
from lifecycle.console.model import Ledger, Question, Queues, RunLine, ScopeState
from lifecycle.ledger import approvals
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.checks import SCOPES
from lifecycle.validation.exceptions import as_read
from lifecycle.validation.fragments import ends
from lifecycle.validation.queries.ledger import CHAIN

RECENT = 20
_RUNS = sql.SQL(
    "SELECT r.run_id, r.run_key, r.scope, r.as_of, r.status, r.dry_run, r.started_at, r.finished_at, r.summary,"
    " v.broken, v.warnings FROM lifecycle.runs r LEFT JOIN LATERAL (SELECT"
    " CASE WHEN count(*) > 0 THEN count(*) FILTER (WHERE NOT c.success AND c.severity = 'critical') END AS broken,"
    " CASE WHEN count(*) > 0 THEN count(*) FILTER (WHERE NOT c.success AND c.severity = 'warning') END AS warnings"
    " FROM lifecycle.validations c WHERE c.run_id = r.run_id) v ON true {} ORDER BY r.run_id DESC LIMIT %(limit)s"
)


def _line(row: tuple[Any, ...]) -> RunLine:
    run_id, key, scope, as_of, status, dry, started, finished, summary, broken, warnings = row
    found = summary or {}
    return RunLine(
        run_id=run_id,
        run_key=key,
        scope=scope,
        as_of=as_of,
        status=status,
        dry_run=dry,
        started_at=started,
        finished_at=finished,
        disposed=_counts(found.get("disposed")),
        kept=_counts(found.get("kept")),
        broken=broken,
        warnings=warnings,
    )


def _counts(value: Any) -> dict[str, int]:
    """Counts of a summary; anything else in it is left out."""
    return {str(key): int(n) for key, n in value.items() if isinstance(n, int) and n} if isinstance(value, dict) else {}


def recent_runs(conn: Connection, limit: int = RECENT) -> list[RunLine]:
    return [_line(row) for row in conn.execute(_RUNS.format(sql.SQL("")), {"limit": limit}).fetchall()]


def find_run(conn: Connection, run_id: int) -> RunLine | None:
    rows = conn.execute(_RUNS.format(sql.SQL("WHERE r.run_id = %(run_id)s")), {"run_id": run_id, "limit": 1}).fetchall()
    return _line(rows[0]) if rows else None


def scope_states(conn: Connection, policy: Policy, as_of: datetime) -> Iterator[ScopeState]:
    """Each scope's last run that was not a dry one, and whether it has been left alone for too long."""
    query = _RUNS.format(sql.SQL("WHERE r.scope = %(scope)s AND NOT r.dry_run"))
    for scope in SCOPES:
        last = [_line(row) for row in conn.execute(query, {"scope": scope, "limit": 1}).fetchall()]
        row = conn.execute(
            "SELECT max(r.as_of), coalesce(max(r.as_of) <= %(as_of)s::timestamptz - 2 * %(interval)s::interval, true)"
            " FROM lifecycle.runs r WHERE r.scope = %(scope)s AND NOT r.dry_run AND r.status = 'succeeded'",
            {"scope": scope, "as_of": as_of, "interval": str(policy.lead.schedule_interval)},
        ).fetchone()
        succeeded, missing = row if row is not None else (None, True)
        yield ScopeState(scope, last[0] if last else None, succeeded, missing)


def ledger_state(conn: Connection) -> Ledger:
    """The end of the chain by index, and the verdict of whoever walked it last."""
    head = conn.execute("SELECT seq, hash, recorded_at FROM lifecycle.ledger ORDER BY seq DESC LIMIT 1").fetchone()
    verdict = conn.execute(
        "SELECT success, checked_at FROM lifecycle.validations WHERE name = %s ORDER BY checked_at DESC LIMIT 1",
        (CHAIN,),
    ).fetchone()
    seq, hash_, recorded_at = head if head is not None else (0, None, None)
    intact, checked_at = verdict if verdict is not None else (None, None)
    return Ledger(seq, hash_, recorded_at, intact, checked_at)


def queues(conn: Connection, config: Configuration, as_of: datetime) -> Queues:
    cases = config.catalog.exceptions.cases
    open_cases: sql.Composable = sql.SQL("0::bigint")
    if cases is not None:
        open_cases = sql.SQL(
            "(SELECT count(*) FROM {cases} c WHERE c.{closed} IS NULL OR c.{closed} > %(as_of)s)"
        ).format(cases=as_read(cases), closed=sql.Identifier(cases.closed))
    rule = config.policy.rule_for(Trigger.ERASURE, Category.PROMPTS_AND_OUTPUTS, Tier.CONSUMER)
    end = ends(sql.SQL("e.requested_at"), rule) if rule is not None else sql.SQL("'infinity'::timestamptz")
    row = conn.execute(
        sql.SQL(
            "SELECT (SELECT count(*) FROM lifecycle.legal_holds h WHERE h.released_at IS NULL OR h.released_at >"
            " %(as_of)s),"
            " {open_cases},"
            " e.open, e.oldest, e.late, (SELECT count(*) FROM lifecycle.quarantine)"
            " FROM (SELECT count(*) AS open, min(e.requested_at) AS oldest, count(*) FILTER (WHERE {end} < %(as_of)s)"
            " AS late"
            " FROM lifecycle.erasure_requests e WHERE e.completed_at IS NULL) e"
        ).format(open_cases=open_cases, end=end),
        {"as_of": as_of},
    ).fetchone()
    if row is None:
        raise LookupError("the query returned no row")
    return Queues(*row)


def questions(conn: Connection) -> Iterator[Question]:
    """What waits for an answer, the most urgent first."""
    if not approvals.kept(conn):
        return
    for asked in approvals.waiting(conn):
        is_policy = asked.subject == approvals.POLICY
        yield Question(
            approval_id=asked.approval_id,
            subject=asked.subject,
            about=f"configuration {asked.key.short}" if is_policy else f"run {asked.run_id} ({asked.scope})",
            records=int(asked.shown.get("affected", 0)) if is_policy else sum(asked.units.values()),
            reason=asked.shown.get("reason"),
            asked_by=asked.requested_by,
            asked_at=asked.requested_at,
            until=asked.deadline,
        )
