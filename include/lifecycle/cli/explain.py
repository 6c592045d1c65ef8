"""``lifecycle explain``: why a message stays or goes, in words a lawyer can read."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)


def explain(
    message_id: Annotated[UUID, typer.Argument(help="The message's id.")],
    as_of: OptionalAsOf = None,
    json: Json = False,
) -> None:
    """Tell which rule decides a message's fate, every rule that applied, its deadline, and why.

    Example: `lifecycle explain 6f1c0a52-5f0e-4a39-9d0e-0e2f6f1f7f00 --as-of 2026-11-01`
    """
    from lifecycle.orchestration.explain import explain_message

    data = explain_message(message_id, as_of or now())
    emit(data, json, lambda found: found["text"])
    if data["location"] == "absent":
        raise typer.Exit(1)
