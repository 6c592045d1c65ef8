"""Before anything is destroyed: the plan against its limits and its history (hard case 26).

What is over a limit waits for a yes in the plan itself, unit by unit; the rest goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from lifecycle.dispositions.context import RunContext
from lifecycle.errors import BlastRadiusError
from lifecycle.ledger import approvals
from lifecycle.ledger.approvals import Key, Request
from lifecycle.planning.limits import DESTROYING, OverLimit, Part, destroyed, disputed, over_limit
from lifecycle.planning.units import Unit
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.sizes import estimates

log = logging.getLogger(__name__)
# How many earlier runs are looked at; policy says how many there must be.
_LOOK_BACK = 28


def judge(context: RunContext, units: Sequence[Unit]) -> tuple[list[Unit], list[OverLimit]]:
    """The plan with the units marked that wait, and the limits they are over. Reads only."""
    limits = (
        context.policy.limits if context.guard is None or context.guard.policy is None else context.guard.policy.limits
    )
    covered = approved_units(context.conn, context.run.scope)
    found = []
    for part, some in disputed(units, covered).items():
        if sum(destroyed(unit) for unit in some) <= limits.floor:
            continue
        verdict = over_limit(part, some, _history(context, part), _total(context, part), limits)
        if verdict is not None:
            found.append(verdict)
    reasons = {unit: verdict.reason for verdict in found for unit in verdict.units}
    return [replace(unit, awaiting=reasons.get(unit.unit)) for unit in units], found


def ask(
    context: RunContext, units: Sequence[Unit], found: Sequence[OverLimit], requested_by: str, now: datetime
) -> None:
    """Ask for what waits, in the transaction that freezes the plan, and say its numbers aloud."""
    if not found:
        return
    for over in found:
        log.error("%s", BlastRadiusError(over.part.dataset, over.part.tier, over.records, over.limit, over.reason))
    deadlines = [over.deadline for over in found if over.deadline is not None]
    approvals.ask(
        context.conn,
        Request(
            approvals.PLAN,
            Key(context.run.policy_hash, context.run.catalog_hash),
            {
                "reason": "; ".join(f"{over.part}: {over.records} records, more than {over.limit}" for over in found),
                "as_of": context.run.as_of.isoformat(),
                "records": sum(over.records for over in found),
                "parts": [over.as_dict() for over in found],
            },
            requested_by,
            now,
            context.run.run_id,
            context.run.scope,
            {unit.unit: destroyed(unit) for unit in units if unit.awaiting is not None},
            min(deadlines, default=None),
        ),
    )


def approved_units(conn: Connection, scope: str) -> Mapping[str, int]:
    """Records per unit that somebody approved and that have not been carried out since."""
    rows = conn.execute(
        "SELECT u.key, max(u.value::bigint) FROM lifecycle.approvals a, jsonb_each_text(a.units) u"
        " WHERE a.subject = 'plan' AND a.status = 'approved' AND a.scope = %(scope)s AND NOT EXISTS"
        " (SELECT FROM lifecycle.plan_units p JOIN lifecycle.runs r USING (run_id) WHERE r.scope = a.scope"
        " AND p.unit = u.key AND p.status = 'done' AND p.finished_at > a.decided_at) GROUP BY 1",
        {"scope": scope},
    ).fetchall()
    return {unit: int(records) for unit, records in rows}


def release(context: RunContext) -> int:
    """Hand out what was approved since this run was planned. Returns how many units."""
    covered = approved_units(context.conn, context.run.scope)
    waiting = context.conn.execute(
        "SELECT u.unit, (SELECT coalesce(sum((c.value ->> 'records')::bigint), 0) FROM jsonb_each(u.planned) c"
        " WHERE split_part(c.key, ':', 1) = ANY (%s)) FROM lifecycle.plan_units u"
        " WHERE u.run_id = %s AND u.status = 'awaiting'",
        (list(DESTROYING), context.run.run_id),
    ).fetchall()
    free = [unit for unit, records in waiting if records <= covered.get(unit, -1)]
    context.conn.execute(
        "UPDATE lifecycle.plan_units SET status = 'planned' WHERE run_id = %s AND unit = ANY (%s)"
        " AND status = 'awaiting'",
        (context.run.run_id, free),
    )
    return len(free)


def _history(context: RunContext, part: Part) -> list[int]:
    """What the last successful runs of this scope destroyed of a part, the latest first."""
    rows = context.conn.execute(
        "SELECT (SELECT coalesce(sum((c.value ->> 'records')::bigint), 0) FROM lifecycle.plan_units u,"
        " jsonb_each(u.progress) c WHERE u.run_id = r.run_id AND u.dataset = %(dataset)s"
        " AND u.tier IS NOT DISTINCT FROM %(tier)s AND split_part(c.key, ':', 1) = ANY (%(destroying)s)"
        " AND CASE WHEN %(kind)s = 'records' THEN u.method NOT IN ('quarantine', 'orphans')"
        " ELSE u.method = %(kind)s END) FROM lifecycle.runs r WHERE r.scope = %(scope)s AND NOT r.dry_run"
        " AND r.status = 'succeeded' AND r.run_id <> %(run)s ORDER BY r.run_id DESC LIMIT %(limit)s",
        {
            "dataset": part.dataset,
            "tier": part.tier,
            "kind": part.kind,
            "destroying": list(DESTROYING),
            "scope": context.run.scope,
            "run": context.run.run_id,
            "limit": _LOOK_BACK,
        },
    ).fetchall()
    return [int(row[0]) for row in rows]


def _total(context: RunContext, part: Part) -> int | None:
    """About how many records the whole dataset has; None for log lines and orphans, which nobody has counted."""
    if part.kind == "orphans":
        return None
    if part.kind == "quarantine":
        return sum(estimates(context.conn, "lifecycle.quarantine").values())
    tables = {dataset.id: dataset.table for dataset in context.catalog.row_by_row}
    if context.catalog.has_messages:
        tables[context.messages.id] = context.messages.table
    name = tables.get(part.dataset)
    return None if name is None else sum(estimates(context.conn, name).values())
