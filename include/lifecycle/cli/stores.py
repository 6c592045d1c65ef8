"""``lifecycle stores``: the stores of this deployment, what state each is in, and what Airflow needs for them."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from lifecycle.cli.across import each_store, of_every_store
from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit, say
from lifecycle.deployment import current_store

if TYPE_CHECKING:
    from rich.table import Table

stores_app = typer.Typer(invoke_without_command=True, help="The stores of this deployment, and their state.")


def register(app: typer.Typer) -> None:
    app.add_typer(stores_app, name="stores")


@stores_app.callback()
@of_every_store
def list_(ctx: typer.Context, as_of: OptionalAsOf = None, json: Json = False) -> None:
    """List the stores of the file that LIFECYCLE_STORES names, each with its state. Changes nothing.

    Exit code 1 when one cannot be read, or has a deadline at risk or broken.

    Example: `lifecycle stores --json`
    """
    if ctx.invoked_subcommand is not None:
        return
    from lifecycle.orchestration.states import state_of

    at = as_of or now()
    found = [state_of(store, at) for store in each_store()]
    emit([asdict(each) for each in found], json, _table)
    for each in found:
        if each.problem is not None:
            say(f"store {each.name}: {each.problem}")
    if not all(each.fine for each in found):
        raise typer.Exit(1)


@stores_app.command()
@of_every_store
def pools() -> None:
    """Print the pools of all stores as JSON, for `airflow pools import`: without its pools a DAG waits for ever.

    Example: `lifecycle stores pools > pools.json && airflow pools import pools.json`
    """
    from lifecycle.orchestration.states import pools_of

    made = {name: pool for store in each_store() for name, pool in pools_of(store).items()}
    typer.echo(json_.dumps(made, indent=2))


@stores_app.command()
def adopt(json: Json = False) -> None:
    """Give the database of `--store` to that store, whoever it belonged to: after a store was renamed.

    Example: `lifecycle stores adopt --store chat`
    """
    from lifecycle.errors import PreconditionError
    from lifecycle.orchestration.schema import ensure_schema
    from lifecycle.stores.postgres import identity
    from lifecycle.stores.postgres.connect import connect

    store = current_store()
    if not store.declared:
        raise PreconditionError("LIFECYCLE_STORES names no file of stores, so databases belong to none")
    with connect() as conn:
        ensure_schema(conn)
        before = identity.adopt(conn, store.name)
    data = {"store": store.name, "before": before}
    emit(data, json, lambda _: f"the database belongs to store {store.name} (before: {before or 'none'})")


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    for name in ("store", "state", "due", "overdue", "holds", "waiting", "last run", "postgres", "s3", "datasets"):
        table.add_column(name, overflow="fold", justify="right" if name in ("due", "overdue", "holds") else "left")
    for each in found:
        last = each["last_success"]
        counts = ["–" if each[name] is None else f"{each[name]:,}" for name in ("due", "overdue", "holds", "waiting")]
        table.add_row(
            each["name"],
            each["state"],
            *counts,
            f"{last:%Y-%m-%d %H:%M}" if last else "never",
            each["postgres"],
            each["s3"],
            each["datasets"] or "–",
        )
    return table
