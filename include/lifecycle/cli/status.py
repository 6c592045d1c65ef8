"""``lifecycle status``: where every dataset of every tier stands against its deadlines."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.across import in_several, several
from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit, say
from lifecycle.explain.lead import lead_sentence, lead_terms, left
from lifecycle.planning.risk import Standing, State, alarm_margin

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lifecycle.policy.models import Policy

OpenMetrics = Annotated[
    bool, typer.Option("--openmetrics", help="Print OpenMetrics text, for a textfile collector or a push gateway.")
]


def register(app: typer.Typer) -> None:
    app.command("status")(status)


@several
def status(as_of: OptionalAsOf = None, json: Json = False, openmetrics: OpenMetrics = False) -> None:
    """Tell per dataset and tier when a deadline would be broken if no further run succeeded. Changes nothing.

    Exit code 1 when something is at risk (a run is missing, and one more would break a promise) or overdue.

    Example: `lifecycle status --as-of 2026-11-01T06:00:00Z --json`
    """
    from lifecycle.config import load_configuration
    from lifecycle.connections import s3_client
    from lifecycle.deployment import current_store
    from lifecycle.orchestration.standing import standings
    from lifecycle.stores.postgres.connect import connect

    instant = as_of or now()
    config = load_configuration()
    if openmetrics and in_several():
        raise typer.BadParameter("one store at a time: its text ends with # EOF", param_hint="--openmetrics")
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        found = standings(conn, s3_client(), config.policy, config.catalog, instant)
    if openmetrics:
        from lifecycle.explain.metrics import open_metrics

        typer.echo(open_metrics(found, instant, current_store().told), nl=False)
    else:
        emit(as_data(found, config.policy, instant), json, _table)
    urgent = [standing for standing in found if standing.state(config.policy, instant) is not State.FINE]
    if urgent:
        say(", ".join(f"{standing.name}: {standing.state(config.policy, instant).value}" for standing in urgent))
        raise typer.Exit(1)


def as_data(found: tuple[Standing, ...], policy: Policy, as_of: datetime) -> dict[str, Any]:
    """The standings in a stable form."""
    return {
        "as_of": as_of,
        "lead": lead_terms(policy.lead),
        "lead_text": lead_sentence(policy.lead),
        "alarm_below_seconds": int(alarm_margin(policy).total_seconds()),
        "datasets": [_row(standing, policy, as_of) for standing in found],
    }


def _row(standing: Standing, policy: Policy, as_of: datetime) -> dict[str, Any]:
    span = standing.time_left(as_of)
    return {
        "dataset": standing.dataset,
        "tier": standing.tier,
        "scope": standing.scope,
        "rule": standing.rule,
        "period": standing.period,
        "oldest": standing.oldest,
        "cutoff": standing.cutoff,
        "at_risk": standing.at_risk,
        "time_left_seconds": None if span is None else int(span.total_seconds()),
        "state": standing.state(policy, as_of),
        "counted": standing.counted,
        "due": standing.due,
        "last_success": standing.last_success,
        **standing.late.as_dict(),
    }


_COLUMNS = (
    *("dataset", "tier", "oldest", "cut-off", "at risk", "left"),
    *("due", "overdue", "hold+other", "kept", "waits", "last run"),
)
_NUMBERS = frozenset({"due", "overdue", "hold+other", "kept", "waits"})
_COLOURS = {State.BROKEN: "bold red", State.AT_RISK: "yellow", State.FINE: ""}
_LEGEND = (
    "at risk: when a deadline would be broken if no further run succeeded. overdue: simply late. hold+other: late"
    "\n  because a hold or a case, + a flag, a consent or an agreement, ended after the deadline. kept: past the"
    "\n  deadline, and kept by a hold or an open case. waits: for an approval."
)


def _table(data: dict[str, Any]) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table

    table = Table(
        title=f"Deadlines as of {_minute(data['as_of'])} UTC", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for row in data["datasets"]:
        table.add_row(*_cells(row), style=_COLOURS[row["state"]])
    return Group(table, _LEGEND, data["lead_text"])


def _cells(row: dict[str, Any]) -> list[str]:
    seconds = row["time_left_seconds"]
    return [
        row["dataset"] + (f" ({row['counted']})" if row["counted"] != "records" else ""),
        row["tier"],
        _day(row["oldest"]),
        _day(row["cutoff"]),
        _minute(row["at_risk"]),
        left(None if seconds is None else timedelta(seconds=seconds)),
        *(
            f"{row[name]:,}"
            for name in ("due", "overdue", "after_hold", "after_exception", "kept", "awaiting_approval")
        ),
        _minute(row["last_success"]) if row["last_success"] else "never",
    ]


def _day(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d}"


def _minute(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
