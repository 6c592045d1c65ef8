"""Options and checks of what a hold or an erasure request is about."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from lifecycle.catalog.models import Catalog, Logs, subject_ids_of

Target = Annotated[
    str, typer.Option("--target", metavar="ID", help="The id that the scope names: a UUID, or as the tables have it.")
]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0.001, help="How long to wait for a run that is destroying.")
]
DEFAULT_WAIT_S = 60.0


def seconds(wait: float) -> timedelta:
    return timedelta(seconds=wait)


def parse_uuid(text: str, param_hint: str) -> UUID:
    """A UUID in any usual spelling.

    Raises:
        typer.BadParameter: it is none. What was given is not repeated: it may be anything that names a person.
    """
    try:
        return UUID(text.strip())
    except ValueError:
        raise typer.BadParameter(
            "not a UUID; write for example 0190a5d2-7c1e-7a41-9d7c-2f6f0c1b2a3d", param_hint=param_hint
        ) from None


def parse_id(text: str, catalog: Callable[[], Catalog], param_hint: str) -> str:
    """An id as the dataset file's tables have it: a UUID in any usual spelling, or where some have others, any text.

    A text id may look like a UUID too, and is one letter by letter: so where there are others nothing is spelled anew.

    Args:
        catalog: reads the dataset file; only called for what is no UUID in its own spelling, so that a hold needs no
            sound one.

    Raises:
        typer.BadParameter: it is none, or may be either. What was given is not repeated.
    """
    given = text.strip()
    try:
        spelled = str(UUID(given))
    except ValueError:
        spelled = None
    if given == spelled:
        return given
    kinds = _kinds(catalog())
    if not given or kinds == {"uuid"}:
        return str(parse_uuid(text, param_hint))
    if spelled in (None, given.lower()) or "uuid" not in kinds:
        return given
    raise typer.BadParameter(
        "may be a UUID or a text id, and tables of both are bound. Write a UUID with its hyphens;"
        " a text id that looks like one has to be written into lifecycle.legal_holds or erasure_requests itself",
        param_hint=param_hint,
    )


def _kinds(catalog: Catalog) -> set[str]:
    """What the ids of rows are."""
    bound = (*(each for each in catalog.datasets if not isinstance(each, Logs)), *catalog.records)
    found: set[str] = {kind for each in bound for kind in (getattr(each, "ids", "uuid"), subject_ids_of(each))}
    return found or {"uuid"}


def dataset_name(text: str, catalog: Catalog) -> str:
    """A dataset by its id, or by its table; also a part of one, such as a stage or the rows of one tier.

    Raises:
        typer.BadParameter: the dataset file knows neither.
    """
    name = text.strip()
    ids = [dataset.id for dataset in catalog.datasets]
    tables = [dataset.table for dataset in catalog.datasets if not isinstance(dataset, Logs)]
    parts = [part.id for part in catalog.records]
    if name not in (*ids, *tables, *parts):
        raise typer.BadParameter(
            f"no such dataset; the dataset file has {', '.join(ids)} (or a table: {', '.join(tables)})",
            param_hint="--target",
        )
    return name


def login_name() -> str:
    """Who is logged in; the number of the user where it has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
