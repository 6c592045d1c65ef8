"""A question about what waits, as people read it, and their reply, as the ledger takes it. No Airflow here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from lifecycle.config import load_configuration
from lifecycle.deployment import current_store
from lifecycle.dispositions.context import ERASURE_SCOPE, SCOPES
from lifecycle.errors import ApprovalError
from lifecycle.ledger import approvals
from lifecycle.ledger.approvals import Approval
from lifecycle.ledger.runs import Run
from lifecycle.orchestration.approval import concerning, thresholds
from lifecycle.orchestration.decisions import answer
from lifecycle.stores.postgres.connect import Connection, connect

APPROVE, REJECT = "Approve", "Reject"
# A question stands at least so long, even where the deadline has come: somebody may be reading it.
_AT_LEAST = timedelta(minutes=5)
_ROWS = 30


def question(approval_id: int, now: datetime) -> dict[str, Any]:
    """What to ask: ``subject`` and ``body`` (Markdown), the hash of what is shown, and for how long.

    Raises:
        ApprovalError: it has been answered, or is superseded.
    """
    config = load_configuration()
    with connect() as conn:
        found = approvals.load(conn, approval_id)
        if found.status != approvals.PENDING:
            raise ApprovalError(f"approval {approval_id} is {found.status}: there is nothing to ask")
        rules = thresholds(conn, config)
    patience = rules.answer_within.longest()
    if found.deadline is not None:
        patience = min(patience, found.deadline - now)
    return {
        "approval": approval_id,
        "shown_sha256": found.shown_hash,
        "subject": subject_of(found),
        "body": body_of(found, rules.four_eyes),
        "seconds": int(max(patience, _AT_LEAST).total_seconds()),
    }


def subject_of(found: Approval) -> str:
    """One line."""
    if found.subject == approvals.POLICY:
        return f"Approve configuration {found.key.short}? It touches {found.shown.get('affected', 0):,} records"
    return (
        f"Approve part of the plan of run {found.run_id} ({found.scope})? {found.shown['records']:,} records would go"
    )


def body_of(found: Approval, four_eyes: bool) -> str:
    """The diff, or the numbers, as a table; counts, dates and rule ids only."""
    lines = [
        f"Approval {found.approval_id}, asked by {found.requested_by} at {found.requested_at:%Y-%m-%d %H:%M} UTC.",
        f"Why: {found.shown.get('reason') or 'not said'}.",
        "",
        *(_policy_table(found.shown) if found.subject == approvals.POLICY else _plan_table(found.shown)),
        "",
        "Reject, or no answer: nothing of this is destroyed, and everything else goes on.",
    ]
    if found.deadline is not None:
        lines.append(f"The earliest deadline of what waits is {found.deadline:%Y-%m-%d %H:%M} UTC.")
    if four_eyes:
        lines.append(f"Four eyes: {found.requested_by} may not approve this.")
    return "\n".join(lines)


def _policy_table(shown: Mapping[str, Any]) -> list[str]:
    rows = [
        "| dataset | tier | rule | change | from | to | records | oldest | newest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    changes = shown.get("changes", [])
    for change in changes[:_ROWS]:
        ends = (str(change[end] or "-")[:10] for end in ("oldest", "newest"))
        kind = change["kind"].replace("_", " ")
        rows.append(
            f"| {change['dataset']} | {change['tier']} | {change['rule']} | {kind} | {change['before']}"
            f" | {change['after']} | {change['records']:,} | {' | '.join(ends)} |"
        )
    if len(changes) > _ROWS:
        rows.append(f"and {len(changes) - _ROWS} more: `lifecycle policy status --json`")
    for name, words in (("waiting", "Bound differently"), ("loosened", "Takes away safeguards")):
        if shown.get(name):
            rows += ["", f"{words}: {', '.join(shown[name])}."]
    return rows


def _plan_table(shown: Mapping[str, Any]) -> list[str]:
    rows = [
        "| dataset | tier | what | units | records | limit | reason | deadline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {part['dataset']} | {part['tier'] or 'all'} | {part['kind']} | {part['units']:,} | {part['records']:,}"
        f" | {part['limit']:,} | {part['reason']} | {(part['deadline'] or '-')[:16]} |"
        for part in shown["parts"]
    ]
    return rows


def record_reply(question: Mapping[str, Any], reply: Mapping[str, Any] | None, now: datetime) -> list[str]:
    """Check a reply and write it down.

    Returns:
        the DAGs that have something to do now.

    Raises:
        ApprovalError: nobody answered (a default is no answer), the answer is neither yes nor no, this person may not
            answer, or something else waits by now than what was shown.
    """
    number = int(question["approval"])
    person = (reply or {}).get("responded_by_user") or {}
    name = str(person.get("name") or person.get("id") or "")
    if reply is None or not name:
        raise ApprovalError(f"nobody answered approval {number} in time: nothing of it is destroyed; ask again")
    chosen = list(reply.get("chosen_options") or ())
    if chosen not in ([APPROVE], [REJECT]) or reply.get("params_input"):
        raise ApprovalError(
            f"the answer to approval {number} is neither a plain yes nor a plain no; it counts for nothing"
        )
    done = answer(
        number,
        approve=chosen == [APPROVE],
        by=name,
        now=now,
        shown_hash=str(question["shown_sha256"]),
        comment="answered in Airflow",
    )
    return dags_of(done) if done.status == approvals.APPROVED else []


def dags_of(done: Approval) -> list[str]:
    """The current store's DAGs that an approval gives work to: the scope's of a plan, all of a configuration."""
    store = current_store()
    return [store.named(scope) for scope in ([done.scope] if done.scope else SCOPES)]


def waiting_of(conn: Connection, run: Run) -> list[Approval]:
    """What a run waits for."""
    return [] if run.dry_run else [each for each in concerning(conn, run) if each.status == approvals.PENDING]


def to_ring_for(found: list[Approval], run: Run) -> list[Approval]:
    """What to alert about: everything, but the hourly run only what it asked itself, or it would ring all day."""
    return [each for each in found if run.scope != ERASURE_SCOPE or each.run_id == run.run_id]
