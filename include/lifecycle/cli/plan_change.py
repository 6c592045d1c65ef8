"""``lifecycle plan approve`` and ``reject``: what waits in a run's plan because it is over a limit (hard case 26)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.options import Json, now
from lifecycle.cli.output import emit, stdout_console
from lifecycle.cli.policy_change import By, Comment, Yes, approval_dict, confirm

if TYPE_CHECKING:
    from rich.table import Table

RunId = Annotated[int, typer.Argument(metavar="RUN_ID", help="The run whose plan waits, as `policy status` shows it.")]


def register(group: typer.Typer) -> None:
    group.command("approve")(approve)
    group.command("reject")(reject)


def approve(run_id: RunId, by: By, comment: Comment = None, yes: Yes = False, json: Json = False) -> None:
    """Approve what waits in a plan. The next run of the scope carries it out, as far as its counts do not grow.

    Example: `lifecycle plan approve 812 --by "j.doe" --comment "backlog of the migration"`
    """
    _decide(run_id, by, comment, yes=yes, json=json, approve=True)


def reject(run_id: RunId, by: By, comment: Comment = None, json: Json = False) -> None:
    """Reject what waits in a plan. It stays, and the next run asks again if it is still over a limit.

    Example: `lifecycle plan reject 812 --by "j.doe"`
    """
    _decide(run_id, by, comment, yes=True, json=json, approve=False)


def _decide(run_id: int, by: str, comment: str | None, *, yes: bool, json: bool, approve: bool) -> None:
    from lifecycle.ledger import approvals
    from lifecycle.orchestration.decisions import answer
    from lifecycle.orchestration.schema import ensure_schema
    from lifecycle.stores.postgres.connect import connect

    with connect() as conn:
        ensure_schema(conn)
        found = approvals.of_plan(conn, run_id)
    if not json:
        stdout_console().print(_table(found.shown))
    if not yes:
        confirm(f"Approve this part of the plan of run {run_id} as {by}?")
    done = answer(found.approval_id, approve=approve, by=by, now=now(), shown_hash=found.shown_hash, comment=comment)
    emit(approval_dict(done), json, lambda d: f"Plan of run {run_id}: {d['status']} by {d['decided_by']}.")


def _table(shown: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=f"Waits for an approval: {shown['records']:,} records", title_justify="left")
    for heading in ("dataset", "tier", "what", "units", "records", "limit", "reason", "earliest deadline"):
        table.add_column(heading, justify="right" if heading in ("units", "records", "limit") else "left")
    for part in shown["parts"]:
        table.add_row(
            part["dataset"],
            part["tier"] or "all",
            part["kind"],
            f"{part['units']:,}",
            f"{part['records']:,}",
            f"{part['limit']:,}",
            part["reason"],
            (part["deadline"] or "-")[:16],
        )
    return table
