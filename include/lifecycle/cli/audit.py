"""``lifecycle audit``: the independent auditor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from lifecycle.cli.across import several
from lifecycle.cli.options import AsOf, Json
from lifecycle.cli.output import emit, say

if TYPE_CHECKING:
    from rich.console import RenderableType


def register(app: typer.Typer) -> None:
    app.command("audit")(audit)


@several
def audit(as_of: AsOf, json: Json = False) -> None:
    """Re-read the stores by queries of its own and say which promises are broken. Deletes nothing.

    Exit code 1 when a promise is broken, with how often; warnings alone do not fail it.

    Example: `lifecycle audit --as-of 2026-11-01T06:00:00Z --json`
    """
    from lifecycle.config import load_configuration
    from lifecycle.connections import s3_client
    from lifecycle.stores.postgres.connect import connect
    from lifecycle.validation import auditor

    config = load_configuration()
    with connect() as conn:
        result = auditor.audit(conn, s3_client(), config, as_of)
    emit(result.as_dict(), json, _table)
    if not result.passed:
        say("; ".join(f"{name}: {count}" for name, count in sorted(result.failures.items())))
        raise typer.Exit(1)


def _table(data: dict[str, Any]) -> RenderableType:
    """Broken promises first, then warnings; what holds is summed up in a line per promise."""
    from rich.console import Group
    from rich.table import Table

    table = Table(title=f"Audit as of {data['as_of']}")
    for heading, justify in (("promise", "left"), ("check", "left"), ("violations", "right"), ("verdict", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    holding: dict[str, int] = {}
    for check in sorted(data["checks"], key=lambda check: (check["success"], check["severity"], check["name"])):
        if check["success"] and not check["violations"]:
            holding[check["promise"]] = holding.get(check["promise"], 0) + 1
            continue
        verdict = "explained" if check["success"] else "BROKEN" if check["severity"] == "critical" else "warning"
        table.add_row(check["promise"], check["name"], f"{check['violations']:,}", verdict)
    for promise, checks in sorted(holding.items()):
        table.add_row(promise, f"{checks} checks", "0", "holds")
    verdict = "Every promise holds." if data["passed"] else f"Broken: {len(data['broken'])} check(s)."
    return Group(table, verdict)
