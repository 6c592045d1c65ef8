"""``lifecycle explain``: why something stays or goes, in words a lawyer can read."""

from __future__ import annotations

from typing import Annotated

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit

KINDS = ("message", "account", "object", "partition", "record")
What = Annotated[
    list[str],
    typer.Argument(
        metavar="[KIND] NAME",
        help="`message ID`, `account ID`, `object BUCKET/KEY`, `partition NAME` (as plans and the ledger write it, for"
        " example messages/consumer/2026-08-01), `record DATASET/KEY`. An id alone is a message.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)


def explain(what: What, as_of: OptionalAsOf = None, json: Json = False) -> None:
    """Tell which rule decides about a message, an account, an object, a partition or a record, until when, and why.

    Exit code 1 when there is no such thing. What is printed is for you alone: nothing of it is logged.

    Examples:
    `lifecycle explain message 6f1c0a52-5f0e-4a39-9d0e-0e2f6f1f7f00 --as-of 2026-11-01`,
    `lifecycle explain partition messages/consumer/2026-08-01`
    """
    from lifecycle.explain.ask import QuestionError
    from lifecycle.orchestration import explain as explaining

    kind, name = _question(what)
    try:
        data = explaining.explain(kind, name, as_of or now())
    except QuestionError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    emit(data, json, lambda found: found["text"])
    if data["location"] == "absent":
        raise typer.Exit(1)


def _question(what: list[str]) -> tuple[str, str]:
    """Kind and name; a name alone is a message's id, as the command was first made."""
    if len(what) == 1 and what[0] not in KINDS:
        return "message", what[0]
    if len(what) == 2 and what[0] in KINDS:
        return what[0], what[1]
    raise typer.BadParameter(f"write one of {', '.join(KINDS)} and a name, or a message's id alone", param_hint="KIND")
