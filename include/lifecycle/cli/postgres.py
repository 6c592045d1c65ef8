"""``lifecycle postgres``: the role of a run, tables partitioned while in use, what can still hold what was deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli import postgres_partition
from lifecycle.cli.options import DatasetsFile, Json
from lifecycle.cli.output import emit, say, to_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lifecycle.planning.physical import Outlook
    from lifecycle.policy.models import Policy

postgres_app = typer.Typer(no_args_is_help=True, help="PostgreSQL: a run's role, partitioning in use, erasure.")
postgres_partition.attach(postgres_app)
Role = Annotated[
    str, typer.Option("--role", metavar="NAME", help="The role that runs connect as; made when it does not exist.")
]


def register(app: typer.Typer) -> None:
    app.add_typer(postgres_app, name="postgres")


@postgres_app.command()
def grants(role: Role = "lifecycle", datasets: DatasetsFile = None, json: Json = False) -> None:
    """Print the script that makes the least-privilege role of a run, for the tables of the dataset file.

    Connects to nothing. A comment beside each part says what it is for.

    Example: `lifecycle postgres grants --role retention | psql product`
    """
    from lifecycle.config import load_configuration
    from lifecycle.stores.postgres.grants import grants_script

    if not role or "\x00" in role or len(f"{role}_owner".encode()) > 63:
        raise typer.BadParameter("a role's name has 1 to 57 bytes: write for example --role retention")
    script = grants_script(load_configuration(None, datasets).catalog, role)
    if json:
        typer.echo(to_json({"role": role, "script": script}))
    else:
        typer.echo(script, nl=False)


@postgres_app.command()
def physical(json: Json = False) -> None:
    """Show what can still hold what was deleted last, and when it is expected to be gone. Changes nothing.

    Tables whose dead rows no vacuum could remove yet, column statistics, write-ahead log, replication slots, replicas,
    snapshots, prepared transactions, subscribers, base backups as the policy declares them. Compares with the lead, and
    warns where it is longer. Also counts tables whose files may have bytes of deleted rows in their free space.

    Example: `lifecycle postgres physical --json`
    """
    from dataclasses import replace

    from lifecycle.cli.options import now
    from lifecycle.config import load_configuration
    from lifecycle.coverage.check import undeclared_publications
    from lifecycle.planning.physical import outlook
    from lifecycle.stores.postgres.connect import connect
    from lifecycle.stores.postgres.physical import facts, last_deletion
    from lifecycle.stores.postgres.samples import roots_of

    config = load_configuration()
    policy = config.policy
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        deletion = last_deletion(conn, roots_of(conn, config.catalog))
        found = None
        if deletion is not None:
            seen = replace(facts(conn), undeclared=undeclared_publications(conn, config, now()))
            found = outlook(seen, deletion, policy.lead.backup_retention)
    emit(_physical(found, policy), json, _outlook)
    for holder in found.longer_than(policy.lead) if found else ():
        allowed = f"{policy.lead.store_lag} and {policy.lead.backup_retention}"
        say(f"warning: {holder.kind}: may hold longer than the lead allows (store_lag, backup_retention: {allowed})")


def _physical(found: Outlook | None, policy: Policy) -> dict[str, Any]:
    longer = found.longer_than(policy.lead) if found else []
    holders = found.holders if found else ()
    return {
        "deleted_at": found.deletion.at if found else None,
        "unreachable": found.unreachable if found else None,
        "erased": found.erased if found else None,
        "tables_with_free_space": found.deletion.free_space if found else None,
        "until": found.until if found else None,
        "holders": [
            {"kind": each.kind, "until": each.until, "why": each.why, "longer_than_lead": each in longer}
            for each in holders
        ],
        "lead": {"store_lag": policy.lead.store_lag, "backup_retention": policy.lead.backup_retention},
    }


def _outlook(data: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    if data["deleted_at"] is None:
        return "Nothing has been deleted yet."
    if data["erased"]:
        return f"What was deleted by {data['deleted_at']:%Y-%m-%d %H:%M} UTC is erased, as far as the server can tell."
    if data["unreachable"]:
        return (
            f"What was deleted by {data['deleted_at']:%Y-%m-%d %H:%M} UTC can be read by no query and no replica any"
            f" more. Its bytes may still lie in free space of {data['tables_with_free_space']} table(s), until it is"
            " written over: VACUUM does not. A rewrite of the file (VACUUM FULL, pg_repack) or a drop takes them"
            " out (docs/operators.md)."
        )
    table = Table(title=f"What can still hold what was deleted by {data['deleted_at']:%Y-%m-%d %H:%M} UTC")
    for name in ("what", "until (UTC)", "why"):
        table.add_column(name, overflow="fold")
    for holder in data["holders"]:
        until = f"{holder['until']:%Y-%m-%d %H:%M}" if holder["until"] else "unknown"
        table.add_row(holder["kind"], until, holder["why"])
    return table
