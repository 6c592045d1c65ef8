"""``lifecycle erase``: enter erasure requests and see what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from lifecycle.cli.across import earlier_in, in_common, several
from lifecycle.cli.options import At, Json, now
from lifecycle.cli.output import emit, instant
from lifecycle.cli.targets import DEFAULT_WAIT_S, Target, Wait, parse_id, parse_uuid, seconds
from lifecycle.config import load_configuration
from lifecycle.stores.postgres import requests
from lifecycle.stores.postgres.connect import connect
from lifecycle.stores.postgres.identity import refuse_other
from lifecycle.stores.postgres.requests import Erasure, ErasureScope

erase_app = typer.Typer(no_args_is_help=True, help="Enter erasure requests and see what became of them.")


def register(app: typer.Typer) -> None:
    app.add_typer(erase_app, name="erase")


@erase_app.command("request")
@several
def request_(
    scope: Annotated[ErasureScope, typer.Option("--scope", help="What kind of thing the target names.")],
    target: Target,
    at: At = None,
    wait: Wait = DEFAULT_WAIT_S,
    json: Json = False,
) -> None:
    """Enter what a person instructed to delete; the next run carries it out, apart from what a higher rule keeps.

    With `--store all` it is entered in every store under one id, and left alone where it waits already.

    Example: `lifecycle erase request --scope account --target 0190a5d2-7c1e-7a41-9d7c-2f6f0c1b2a3d`
    """
    target = parse_id(target, lambda: load_configuration().catalog, "--target")
    common = in_common("erasure", lambda names: _waiting_in(names, scope, target) or uuid4())
    with connect() as conn:
        refuse_other(conn)
        waiting = requests.open_erasure(conn, scope, target) if common is not None else None
        erasure = waiting or requests.request_erasure(
            conn, scope, target, at or now(), seconds(wait), request_id=common
        )
    waits = "waits already" if waiting is not None else "entered"
    emit(erasure, json, lambda _: f"erasure request {erasure.request_id} {waits} for {erasure.scope} {erasure.target}")


def _waiting_in(names: Sequence[str], scope: ErasureScope, target: str) -> UUID | None:
    """The id under which the same request waits in a store already: an earlier try that failed in another one."""
    return earlier_in(
        names, lambda conn: found.request_id if (found := requests.open_erasure(conn, scope, target)) else None
    )


@erase_app.command()
@several
def status(
    request_id: Annotated[
        str | None, typer.Argument(metavar="[REQUEST_ID]", help="As `erase request` showed it; all if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Show one request, or all: when it was completed, and whether anything was kept and by which rules.

    Example: `lifecycle erase status --json`
    """
    chosen = parse_uuid(request_id, "REQUEST_ID") if request_id is not None else None
    with connect() as conn:
        if chosen is not None:
            erasure = requests.find_erasure(conn, chosen)
            emit(erasure, json, lambda _: _table([erasure]))
            return
        erasures = requests.list_erasures(conn)
    emit(erasures, json, lambda _: _table(erasures))


def _table(erasures: list[Erasure]) -> Any:
    from rich.table import Table

    if not erasures:
        return "no erasure requests"
    table = Table()
    for heading in ("request", "scope", "target", "requested", "completed", "outcome"):
        table.add_column(heading, overflow="fold")
    for erasure in erasures:
        completed = instant(erasure.completed_at) if erasure.completed_at is not None else "-"
        table.add_row(
            str(erasure.request_id),
            erasure.scope,
            erasure.target,
            instant(erasure.requested_at),
            completed,
            erasure.outcome or "open",
        )
    return table
