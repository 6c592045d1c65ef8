"""Options that several commands share. The clock is read here and nowhere below."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lifecycle.policy.models import Tier

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(?P<zone>Z|[+-]\d{2}:?\d{2})?", re.I)
_FORMS = "write 2026-08-01 (midnight UTC), 2026-08-01T06:00:00Z or 2026-08-01T06:00:00+02:00"


def now() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


def parse_instant(value: str | datetime) -> datetime:
    """An ISO 8601 date (midnight UTC) or date and time with its zone, as an aware instant in UTC.

    Raises:
        typer.BadParameter: it is neither, or has a time without a zone.
    """
    if isinstance(value, datetime):
        return value
    text = value.strip()
    match = _INSTANT.fullmatch(text)
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if match is not None and match["zone"]:
            return datetime.fromisoformat(text.upper().replace(" ", "T")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no date or time of the calendar; {_FORMS}") from None
    if match is not None:
        raise typer.BadParameter(f"{text!r} has no time zone; add Z for UTC: {text}Z")
    raise typer.BadParameter(f"{text!r} is not an instant; {_FORMS}")


AsOf = Annotated[
    datetime,
    typer.Option(
        "--as-of",
        parser=parse_instant,
        metavar="T",
        help="The run's frozen instant: 2026-08-01 or 2026-08-01T06:00:00Z.",
    ),
]
OptionalAsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", parser=parse_instant, metavar="T", help="The instant to decide for; now if not given."),
]
At = Annotated[
    datetime | None,
    typer.Option(
        "--at",
        parser=parse_instant,
        metavar="T",
        help="When it happened: 2026-08-01 or 2026-08-01T06:00:00Z; now if not given.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: sorted keys, times in UTC with Z.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Plan and show, change nothing.")]
TierOption = Annotated[Tier | None, typer.Option("--tier", help="Only this product tier.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="Policy file; else LIFECYCLE_POLICY, else the shipped one."),
]
DatasetsFile = Annotated[
    Path | None,
    typer.Option("--datasets", metavar="FILE", help="Dataset file; else LIFECYCLE_DATASETS, else the shipped one."),
]
