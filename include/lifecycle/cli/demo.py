"""``lifecycle demo``: a whole Airflow with a store full of data on this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit, instant, say, stdout_console

if TYPE_CHECKING:
    from lifecycle.demo.demo import Demo, Outcome

demo = typer.Typer(
    no_args_is_help=True, help="A real Airflow, PostgreSQL and S3 with a store full of data, on this machine."
)

Home = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Where the demo lives [default: .demo in the project].")
]


def register(app: typer.Typer) -> None:
    app.add_typer(demo, name="demo")


@demo.command()
def up(
    accounts: Annotated[int, typer.Option("--accounts", min=1, help="Number of accounts.")] = 2000,
    days: Annotated[int, typer.Option("--days", min=1, help="Days of traffic before T.")] = 120,
    messages: Annotated[int, typer.Option("--messages", min=1, help="About so many messages.")] = 200_000,
    objects: Annotated[int, typer.Option("--objects", min=0, help="So many of them have their body in S3.")] = 10_000,
    as_of: OptionalAsOf = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, sizes and T: the same store.")] = 1,
    airflow_port: Annotated[
        int, typer.Option("--airflow-port", envvar="DEMO_AIRFLOW_PORT", help="UI and REST.")
    ] = 8080,
    postgres_port: Annotated[int, typer.Option("--postgres-port", envvar="DEMO_POSTGRES_PORT")] = 15432,
    s3_port: Annotated[int, typer.Option("--s3-port", envvar="DEMO_S3_PORT")] = 19000,
    home: Home = None,
) -> None:
    """Start everything, run every DAG once, show what they did, and leave it running.

    T is today's midnight UTC unless given. With DEMO_EXIT=1 in the environment it stops by itself. Exit code 0 only if
    every DAG succeeded and every check passed.

    Example: `lifecycle demo up --messages 20000 --objects 1000 --airflow-port 8081`
    """
    from lifecycle.demo.demo import DemoOptions

    chosen = as_of or now().replace(hour=0, minute=0, second=0, microsecond=0)
    if chosen > now():
        raise typer.BadParameter("--as-of lies in the future; a run would delete what is not due yet")
    here = _demo(home)
    options = DemoOptions(
        accounts, days, messages, objects, chosen, seed, airflow_port, postgres_port, s3_port
    )  # fmt: skip
    # SIGTERM (a CI job that is cut short) ends like Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    outcome = here.up(options)
    _show(outcome, instant(chosen))
    if os.environ.get("DEMO_EXIT", "") not in ("", "0"):
        here.down()
        say("stopped (DEMO_EXIT)")
    else:
        _show_way_in(here, instant(chosen))
    if not outcome.passed:
        raise typer.Exit(1)


@demo.command()
def down(home: Home = None) -> None:
    """Stop the demo. Does nothing when none is running; logs stay until the next `up`.

    Example: `lifecycle demo down`
    """
    say("stopped" if _demo(home).down() else "no demo was running")


@demo.command()
def status(home: Home = None, json: Json = False) -> None:
    """Say what runs and where. Exit code 1 when nothing does.

    Example: `lifecycle demo status --json`
    """
    found = _demo(home).status()
    emit(found, json, _status_text)
    if not found["running"]:
        raise typer.Exit(1)


def _demo(home: Path | None) -> Demo:
    from lifecycle.demo.demo import Demo, find_project

    project = find_project()
    return Demo(project, (home or project / ".demo").resolve())


def _show(outcome: Outcome, as_of: str) -> None:
    from lifecycle.demo.report import table

    console = stdout_console()
    console.print(table(outcome.scopes))
    for dag in outcome.dags:
        failed = f"; failed: {', '.join(dag.failed_tasks)}" if dag.failed_tasks else ""
        console.print(f"{dag.dag_id}: {dag.state} after {dag.seconds:.0f} s{failed}")
    verdict = "Every DAG succeeded and every check passed" if outcome.passed else "NOT everything succeeded"
    console.print(f"{verdict}, as of {as_of}, in {outcome.seconds:.0f} s.")


def _show_way_in(here: Demo, as_of: str) -> None:
    user, password = here.login()
    console = stdout_console()
    console.print(f"\nAirflow: {here.url()}   user {user}   password {password}   (Retention is in its navigation)")
    console.print(f"Command line: `. {here.home / 'env'}`, then say `.venv/bin/lifecycle audit --as-of {as_of}`")
    console.print("Stop it with `make demo-down`.")


def _status_text(found: dict[str, Any]) -> str:
    if not found["running"]:
        return "no demo is running; start one with `make demo`"
    health = found["airflow"]["health"]
    parts = ", ".join(f"{name} {state}" for name, state in sorted(health.items())) or "not answering"
    postgres, s3 = found["postgres"], found["s3"]
    return (
        f"Airflow {found['airflow']['url'] or 'is down'} ({parts})\n"
        f"PostgreSQL {'port ' + str(postgres['port']) if postgres else 'is down'}\n"
        f"S3 {s3['url'] if s3 else 'is down'}\n"
        f"connections: {found['environment']}"
    )
