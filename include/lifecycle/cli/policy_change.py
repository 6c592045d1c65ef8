"""``lifecycle policy diff``, ``approve``, ``reject`` and ``status``: what a change does, and who said yes to it."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit, instant, say, stdout_console
from lifecycle.errors import ApprovalError

if TYPE_CHECKING:
    from rich.table import Table

    from lifecycle.ledger.approvals import Approval

By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; kept in the ledger.")]
Comment = Annotated[str | None, typer.Option("--comment", help="Why; kept beside the decision, not in the ledger.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")]
_KINDS = {
    "newly_expire": "newly expire",
    "expire_later": "expire later",
    "change_disposition": "change disposition",
}


def register(group: typer.Typer) -> None:
    group.command("diff")(diff)
    group.command("approve")(approve)
    group.command("reject")(reject)
    group.command("status")(status)


def diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="A policy file, the start of a hash, or: approved, loaded.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same.")],
    as_of: OptionalAsOf = None,
    json: Json = False,
) -> None:
    """Show how many records newly expire, expire later or change disposition from one policy to another.

    Counted from metadata and exceptions, in seconds, whatever the size of the store. Changes nothing.

    Example: `lifecycle policy diff approved include/policies/retention.yaml --as-of 2026-11-01`
    """
    from lifecycle.config import load_configuration
    from lifecycle.orchestration.approval import compare
    from lifecycle.orchestration.decisions import find
    from lifecycle.stores.postgres.connect import connect

    config, at = load_configuration(), as_of or now()
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        before, after = find(conn, config, old), find(conn, config, new)
        found = compare(conn, before, after, at)
    reason = found.needs_a_name(before.policy.approval)
    data = found.as_dict() | {"old": before.key.short, "new": after.key.short, "needs_approval": reason}
    emit(data, json, _diff_table)


def approve(
    name: Annotated[str, typer.Argument(metavar="HASH", help="The beginning of the hash of policy or dataset file.")],
    by: By,
    comment: Comment = None,
    as_of: OptionalAsOf = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Approve a configuration by name, after seeing what it changes. From then on runs carry it out.

    Example: `lifecycle policy approve 3f9a1c2b7d10 --by "j.doe" --comment "ticket 4711"`
    """
    _decide(name, by, comment, as_of, yes=yes, json=json, approve=True)


def reject(
    name: Annotated[str, typer.Argument(metavar="HASH", help="The beginning of the hash of policy or dataset file.")],
    by: By,
    comment: Comment = None,
    as_of: OptionalAsOf = None,
    json: Json = False,
) -> None:
    """Reject a configuration: runs go on doing only what the one in force decides alike.

    Example: `lifecycle policy reject 3f9a1c2b7d10 --by "j.doe"`
    """
    _decide(name, by, comment, as_of, yes=True, json=json, approve=False)


def _decide(
    name: str, by: str, comment: str | None, as_of: datetime | None, *, yes: bool, json: bool, approve: bool
) -> None:
    from lifecycle.config import load_configuration
    from lifecycle.orchestration.backstop import retreat_to
    from lifecycle.orchestration.decisions import answer_policy, keep_evidence, propose
    from lifecycle.orchestration.schema import ensure_schema
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.stores.postgres.connect import connect

    config, at = load_configuration(), now()
    with connect() as conn:
        ensure_schema(conn)
        proposal = propose(conn, config, name, as_of or at)
        if proposal.diff is not None and not json:
            shown = proposal.diff.as_dict() | {"old": "in force", "new": proposal.key.short, "needs_approval": None}
            stdout_console().print(_diff_table(shown))
        if not yes:
            confirm(f"Approve configuration {proposal.key.short} as {by}?")
        done = answer_policy(conn, config, proposal, approve=approve, by=by, now=now(), comment=comment)
        retired = retreat_to(conn, shared_s3_client(), proposal.key, by=by, now=now()) if approve else 0
        keep_evidence(conn, config)
    if retired:
        say(f"{retired} lifecycle rule(s) of S3 would act too early now and were taken away: lifecycle s3 backstop")
    emit(
        approval_dict(done), json, lambda d: f"Configuration {proposal.key.short}: {d['status']} by {d['decided_by']}."
    )


def confirm(question: str) -> None:
    """Ask on a terminal; elsewhere a yes has to be an option.

    Raises:
        ApprovalError: there is nobody to ask, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise ApprovalError("nobody can be asked here; look at the figures and repeat the command with --yes")
    if not typer.confirm(question):
        raise ApprovalError("nothing was approved")


def status(json: Json = False) -> None:
    """Show which configuration is in force, which is loaded, and what waits for a yes.

    Example: `lifecycle policy status --json`
    """
    from lifecycle.config import load_configuration
    from lifecycle.ledger import approvals
    from lifecycle.orchestration.approval import key_of, thresholds
    from lifecycle.stores.postgres.connect import connect

    config = load_configuration()
    with connect() as conn:
        kept = approvals.kept(conn)
        force = approvals.in_force(conn) if kept else None
        data = {
            "loaded": key_of(config).short,
            "in_force": force.short if force else None,
            "approved": force == key_of(config),
            "locked": config.policy.locked,
            "thresholds": thresholds(conn, config) if kept else config.policy.approval,
            "waiting": [approval_dict(found) for found in approvals.waiting(conn)] if kept else [],
        }
    emit(data, json, _status_text)


def approval_dict(found: Approval) -> dict[str, Any]:
    """A request as JSON."""
    return {
        "approval_id": found.approval_id,
        "subject": found.subject,
        "configuration": found.key.short,
        "run_id": found.run_id,
        "scope": found.scope,
        "units": found.units,
        "shown": found.shown,
        "shown_sha256": found.shown_hash,
        "status": found.status,
        "deadline": found.deadline,
        "requested_by": found.requested_by,
        "requested_at": found.requested_at,
        "decided_by": found.decided_by,
        "decided_at": found.decided_at,
        "comment": found.comment,
    }


def _status_text(data: dict[str, Any]) -> str:
    lines = [
        f"loaded:   {data['loaded']}",
        f"in force: {data['in_force'] or 'none yet: the first run approves the first configuration'}",
    ]
    if data["locked"]:
        lines.append("locked:   yes")
    for found in data["waiting"]:
        until = f", until {instant(found['deadline'])}" if found["deadline"] else ""
        what = found["configuration"] if found["subject"] == "policy" else f"plan of run {found['run_id']}"
        reason = found["shown"].get("reason") or ""
        lines.append(
            f"waits:    {what} ({found['subject']}, approval {found['approval_id']}{until}): {reason}".rstrip(": ")
        )
    return "\n".join(lines)


def _diff_table(data: dict[str, Any]) -> Table:
    from rich.table import Table

    totals = ", ".join(f"{data[kind]:,} {words}" for kind, words in _KINDS.items())
    notes = [f"{data['old']} → {data['new']} as of {data['as_of']}: {totals} ({data['share']:.2%} of all records)"]
    if data["waiting"]:
        notes.append(f"bound differently, and compared by nobody: {', '.join(data['waiting'])}")
    if data["loosened"]:
        notes.append(f"takes away safeguards: {', '.join(data['loosened'])}")
    if data["needs_approval"]:
        notes.append(f"needs an approval: {data['needs_approval']}")
    table = Table(title="\n".join(notes), title_justify="left")
    for heading in ("dataset", "tier", "category", "rule", "change", "from", "to", "records", "oldest", "newest"):
        table.add_column(heading, justify="right" if heading == "records" else "left", overflow="fold")
    for change in data["changes"]:
        table.add_row(
            change["dataset"],
            change["tier"],
            change["category"],
            change["rule"],
            _KINDS[change["kind"]],
            change["before"],
            change["after"],
            f"{change['records']:,}",
            *(str(change[end])[:10] for end in ("oldest", "newest")),
        )
    return table
