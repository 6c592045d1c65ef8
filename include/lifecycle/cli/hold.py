"""``lifecycle hold``: place, release and list legal holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from lifecycle.cli.across import earlier_in, in_common, in_several, several
from lifecycle.cli.options import At, Json, now
from lifecycle.cli.output import emit, instant
from lifecycle.cli.targets import DEFAULT_WAIT_S, Target, Wait, dataset_name, login_name, parse_id, parse_uuid, seconds
from lifecycle.config import load_configuration
from lifecycle.stores.postgres import requests
from lifecycle.stores.postgres.connect import Connection, connect
from lifecycle.stores.postgres.identity import refuse_other
from lifecycle.stores.postgres.idle_holds import idle_holds
from lifecycle.stores.postgres.requests import Hold, HoldScope

hold_app = typer.Typer(no_args_is_help=True, help="Place, release and list legal holds.")


def register(app: typer.Typer) -> None:
    app.add_typer(hold_app, name="hold")


@hold_app.command()
@several
def place(
    scope: Annotated[HoldScope, typer.Option("--scope", help="What kind of thing the target names.")],
    target: Target,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever reviews the hold.")],
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who asked for it; you if not given.")] = None,
    at: At = None,
    wait: Wait = DEFAULT_WAIT_S,
    json: Json = False,
) -> None:
    """Place a hold: nothing in its scope is destroyed, de-identified or moved until it is released.

    For the scope dataset the target is a dataset id or its table. A run that is destroying is waited for.
    With `--store all` it is placed in every store under one id, and left alone where it stands already.

    Example: `lifecycle hold place --scope account --target 0190a5d2-7c1e-7a41-9d7c-2f6f0c1b2a3d --reason "case 12"`
    """
    if scope is HoldScope.DATASET:
        target = dataset_name(target, load_configuration().catalog)
    else:
        target = parse_id(target, lambda: load_configuration().catalog, "--target")
    if not reason.strip():
        raise typer.BadParameter("a hold needs a reason that a reviewer understands", param_hint="--reason")
    placed_by = (by or "").strip() or login_name()
    reason = reason.strip()
    common = in_common("hold", lambda names: _standing_in(names, scope, target, reason) or uuid4())
    with connect() as conn:
        refuse_other(conn)
        standing = requests.open_hold(conn, scope, target, reason) if common is not None else None
        hold = standing or requests.place_hold(
            conn, scope, target, reason, placed_by, at or now(), seconds(wait), hold_id=common
        )
        stands = "stands already" if standing is not None else "placed"
        emit(hold, json, lambda _: f"hold {hold.hold_id} {stands} on {hold.scope} {hold.target}")
        _out_of_reach(conn, hold)


def _standing_in(names: Sequence[str], scope: HoldScope, target: str, reason: str) -> UUID | None:
    """The id under which the same hold stands in a store already: an earlier try that failed in another one."""
    return earlier_in(
        names, lambda conn: found.hold_id if (found := requests.open_hold(conn, scope, target, reason)) else None
    )


def _out_of_reach(conn: Connection, hold: Hold) -> None:
    """Where S3 may expire objects by itself, it must not wait for the next run to learn of a hold."""
    config = load_configuration()
    if not config.catalog.has_messages:
        return
    objects = config.catalog.messages.objects
    if objects.backstop is None and objects.expire != "native":
        return
    from lifecycle.dispositions.native_rules import give_back
    from lifecycle.dispositions.shield import shield, shield_hold
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.policy.models import Tier

    s3, tiers, known = shared_s3_client(), tuple(Tier), [(config.policy, config.catalog)]
    give_back(conn, s3, known, tiers, now(), config.policy_hash, by=f"hold {hold.hold_id}")
    if objects.backstop is None:
        return
    if hold.scope == HoldScope.DATASET:
        shield(conn, s3, config.policy, config.catalog, tiers, now())
    else:
        shield_hold(conn, s3, config.catalog, hold.scope, hold.target)


@hold_app.command()
@several
def release(
    hold_id: Annotated[str, typer.Argument(metavar="HOLD_ID", help="As `hold place` and `hold list` show it.")],
    at: At = None,
    wait: Wait = DEFAULT_WAIT_S,
    json: Json = False,
) -> None:
    """Release a hold: what it alone kept is due at once and goes first in the next run.

    With `--store all` in every store; one that released it before is left as it is.

    Example: `lifecycle hold release 7b0c6f0e-3c5b-4a55-9f0e-0d4f7a1c9e11`
    """
    chosen = parse_uuid(hold_id, "HOLD_ID")
    with connect() as conn:
        refuse_other(conn)
        standing = requests.find_hold(conn, chosen) if in_several() else None
        ended = standing is not None and standing.released_at is not None
        hold = standing if standing and ended else requests.release_hold(conn, chosen, at or now(), seconds(wait))
    emit(hold, json, lambda _: f"hold {hold.hold_id} released")


@hold_app.command("list")
@several
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Also holds that have been released.")] = False,
    idle: Annotated[
        bool, typer.Option("--idle", help="Only open ones that can keep nothing: what they name cannot be there.")
    ] = False,
    json: Json = False,
) -> None:
    """List open holds, oldest first.

    Example: `lifecycle hold list --all --json`
    """
    with connect() as conn:
        holds = requests.list_holds(conn, now(), ended=all_ and not idle)
        if idle:
            found = set(idle_holds(conn, load_configuration().catalog))
            holds = [hold for hold in holds if hold.hold_id in found]
    emit(holds, json, lambda _: _table(holds))


def _table(holds: list[Hold]) -> Any:
    from rich.table import Table

    if not holds:
        return "no holds"
    table = Table()
    for heading in ("hold", "scope", "target", "reason", "by", "placed", "released"):
        table.add_column(heading, overflow="fold")
    for hold in holds:
        released = instant(hold.released_at) if hold.released_at is not None else "-"
        row = (
            str(hold.hold_id),
            hold.scope,
            hold.target,
            hold.reason,
            hold.placed_by,
            instant(hold.placed_at),
            released,
        )
        table.add_row(*row)
    return table
