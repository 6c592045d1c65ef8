"""``lifecycle coverage``: what exists against what is configured."""

from __future__ import annotations

from typing import Any

import typer

from lifecycle.cli.across import several
from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit, say


def register(app: typer.Typer) -> None:
    app.command("coverage")(coverage)


@several
def coverage(as_of: OptionalAsOf = None, json: Json = False) -> None:
    """Compare what exists with what the dataset file binds: tables, columns, buckets, prefixes, records.

    Exit code 1 on a difference; each with what it is, why it is suspected, and what to write. Changes nothing.

    Example: `lifecycle coverage --as-of 2026-11-01 --json`
    """
    from lifecycle.config import load_configuration
    from lifecycle.connections import s3_client
    from lifecycle.coverage.check import check_coverage
    from lifecycle.stores.postgres.connect import connect

    config = load_configuration()
    with connect() as conn:
        found = check_coverage(conn, s3_client(), config, as_of or now())
    emit(found.as_dict(), json, _text)
    for warning in found.warnings:
        say(f"warning: {warning}")
    if not found.passed:
        say("; ".join(f"{kind}: {count}" for kind, count in found.counts.items()))
        raise typer.Exit(1)


def _text(data: dict[str, Any]) -> Any:
    """What is to be pasted must come out as it is: no folding, no markup."""
    from rich.text import Text

    lines = [f"Coverage as of {data['as_of']}"]
    for item in data["differences"]:
        lines += ["", f"{item['kind']} {item['name']}"]
        lines += [f"  {reason}" for reason in item["suspected"]]
        for remedy in item["remedies"]:
            lines.append(f"  -> {remedy['say']}")
            if remedy["yaml"] is not None:
                lines.append(f"       {remedy['yaml']}")
    for view in data["views"]:
        lines += ["", f"view {view} (a view holds nothing)"]
    looked = ", ".join(f"{count:,} {what}" for what, count in data["looked_at"].items())
    verdict = "Everything is bound or excluded." if data["passed"] else f"{len(data['differences'])} difference(s)."
    return Text("\n".join([*lines, "", f"Looked at {looked}. {verdict}"]), no_wrap=True, overflow="ignore")
