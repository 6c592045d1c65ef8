"""``lifecycle run`` and ``lifecycle plan``: a whole run without a scheduler, and what it would do."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli import plan_change
from lifecycle.cli.across import several
from lifecycle.cli.options import AsOf, DryRun, Json, TierOption, parse_instant
from lifecycle.cli.output import emit, say

if TYPE_CHECKING:
    from rich.table import Table

    from lifecycle.planning.units import Unit


AWAITING = "awaiting_approval"
PlanAsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=parse_instant,
        metavar="T",
        help="The run's frozen instant: 2026-08-01 or 2026-08-01T06:00:00Z.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command("run")(run)
    planning = typer.Typer(invoke_without_command=True, help="Show what a run would do; approve what waits in a plan.")
    planning.callback()(plan)
    plan_change.register(planning)
    app.add_typer(planning, name="plan")


@several
def run(as_of: AsOf, tier: TierOption = None, dry_run: DryRun = False, json: Json = False) -> None:
    """Carry out the daily run for all tiers (or one), cross-tier records and erasure requests.

    Exit code 0 only if everything was disposed of and every validation passed.

    Example: `lifecycle run --as-of 2026-11-01T00:00:00Z --tier business`
    """
    if dry_run:
        _show_plan(as_of, tier.value if tier else None, json)
        return
    from lifecycle.orchestration.whole_run import run_scopes, scopes_of

    results = run_scopes(scopes_of(tier.value if tier else None), as_of, _progress, requested_by=_caller())
    passed = all(result.passed for result in results)
    data = {
        "as_of": as_of,
        "dry_run": False,
        "passed": passed,
        "scopes": {result.scope: result.as_dict() for result in results},
    }
    emit(data, json, _table)
    if not passed:
        raise typer.Exit(1)


def _caller() -> str:
    """The system's name of who runs this; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


def plan(ctx: typer.Context, as_of: PlanAsOf = None, tier: TierOption = None, json: Json = False) -> None:
    """Show what a run would do, partition by partition. Changes nothing.

    Example: `lifecycle plan --as-of 2026-11-01 --json`
    """
    if ctx.invoked_subcommand is not None:
        return
    if as_of is None:
        raise typer.BadParameter("Missing option '--as-of'.")
    _show_plan(as_of, tier.value if tier else None, json)


def _progress(scope: str, step: str, done: int, total: int) -> None:
    say(f"{scope}: {step}" + (f" {done}/{total}" if total else ""))


def _show_plan(as_of: datetime, tier: str | None, json: bool) -> None:
    from lifecycle.orchestration.whole_run import dry_run, scopes_of

    found = dry_run(scopes_of(tier), as_of)
    data = {"as_of": as_of, "dry_run": True, "scopes": {scope: _scope(units) for scope, units in found.items()}}
    emit(data, json, _plan_table)


def _scope(units: Sequence[Unit]) -> dict[str, Any]:
    disposed: dict[str, int] = {}
    kept: dict[str, int] = {}
    for unit in units:
        for tally in unit.tallies:
            if unit.awaiting is not None:
                kept[AWAITING] = kept.get(AWAITING, 0) + (tally.records if tally.disposes else 0)
                continue
            into, name = (disposed, tally.disposition) if tally.disposes else (kept, tally.rule)
            into[name] = into.get(name, 0) + tally.records
    return {"disposed": disposed, "kept": kept, "units": [_unit(unit) for unit in units]}


def _unit(unit: Unit) -> dict[str, Any]:
    return {
        "unit": unit.unit,
        "method": unit.method.value,
        "cutoff": unit.cutoff,
        "deadline": unit.deadline,
        "counts": unit.planned(),
        "awaiting": unit.awaiting,
        "left_to_s3": unit.left_to_s3,
    }


def _table(data: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=f"Run as of {data['as_of']:%Y-%m-%d %H:%M} UTC", title_justify="left")
    for name in ("scope", "deleted", "de-identified", "quarantined", "restored", "kept, and why", "late", "verdict"):
        table.add_column(name, justify="left" if name in ("scope", "kept, and why", "late", "verdict") else "right")
    for scope, found in data["scopes"].items():
        disposed = found["disposed"]
        counts = [f"{disposed.get(name, 0):,}" for name in ("delete", "deidentify", "quarantine", "restore")]
        kept = ", ".join(f"{rule} {count:,}" for rule, count in sorted(found["kept"].items()))
        failures = ", ".join(f"{name}: {count}" for name, count in found["failures"].items())
        table.add_row(
            scope,
            *counts,
            kept,
            late_words(found.get("late", {})),
            found["verdict"] + (f" ({failures})" if failures else ""),
        )
    return table


def late_words(late: Mapping[str, int]) -> str:
    """What was past its deadline before the run, by why."""
    words = {"overdue": "simply late", "after_hold": "after a hold or case", "after_exception": "after an exception"}
    words["awaiting_approval"] = "waiting for approval"
    return ", ".join(f"{late[name]:,} {text}" for name, text in words.items() if late.get(name))


def _plan_table(data: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=f"Plan as of {data['as_of']:%Y-%m-%d %H:%M} UTC (nothing was changed)", title_justify="left")
    for name in ("scope", "unit", "how", "goes", "stays"):
        table.add_column(name)
    for scope, found in data["scopes"].items():
        for unit in found["units"]:
            shown = sorted(unit["counts"].items())
            goes = ", ".join(f"{fate} {n['records']:,}" for fate, n in shown if not fate.startswith("keep:"))
            stays = ", ".join(f"{fate[5:]} {n['records']:,}" for fate, n in shown if fate.startswith("keep:"))
            waits = f" (waits for an approval: {unit['awaiting']})" if unit["awaiting"] else ""
            waits += " (left to S3)" if unit["left_to_s3"] else ""
            table.add_row(scope, unit["unit"], unit["method"], goes + waits, stays)
    return table
