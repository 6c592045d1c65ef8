"""``lifecycle ledger``: check the hash chain and its write-once copies; show rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.across import several
from lifecycle.cli.options import Json
from lifecycle.cli.output import emit

if TYPE_CHECKING:
    from rich.table import Table

ledger = typer.Typer(no_args_is_help=True, help="The append-only record of what was disposed of.")


def register(app: typer.Typer) -> None:
    app.add_typer(ledger, name="ledger")


@ledger.command()
@several
def verify(json: Json = False) -> None:
    """Walk the whole chain, and compare it with its copies in the evidence bucket.

    Exit code 1 if a row is missing, was changed, or differs from its copy.

    Example: `lifecycle ledger verify --json`
    """
    from lifecycle.config import load_configuration
    from lifecycle.connections import s3_client
    from lifecycle.ledger import chain
    from lifecycle.ledger.evidence import compare_copies
    from lifecycle.stores.postgres.connect import connect

    with connect() as conn:
        verdict = chain.verify(conn)
        compared = compare_copies(conn, s3_client(), load_configuration().catalog.evidence_bucket)
    data = {"rows": verdict.rows, "head": verdict.head, "copies_compared": compared, "intact": True}
    emit(
        data,
        json,
        lambda d: f"The chain of {d['rows']} rows is intact; {d['copies_compared']} copies agree. Head {d['head']}",
    )


@ledger.command("list")
@several
def list_rows(
    run_id: Annotated[int | None, typer.Option("--run", help="Only rows of this run.")] = None, json: Json = False
) -> None:
    """Show ledger rows in order.

    Example: `lifecycle ledger list --run 12`
    """
    from lifecycle.ledger import chain
    from lifecycle.stores.postgres.connect import connect

    with connect() as conn:
        data = [asdict(row) for row in chain.rows(conn, run_id)]
    emit(data, json, _table)


def _table(data: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    for name in ("seq", "run", "entry", "unit", "disposition", "rule", "counts", "recorded at"):
        table.add_column(name)
    for row in data:
        counts = ", ".join(f"{key} {value}" for key, value in sorted(row["counts"].items()))
        table.add_row(
            str(row["seq"]),
            str(row["run_id"]),
            row["entry"],
            row["unit"],
            row["disposition"],
            row["rule"],
            counts,
            f"{row['recorded_at']:%Y-%m-%d %H:%M:%S}",
        )
    return table
