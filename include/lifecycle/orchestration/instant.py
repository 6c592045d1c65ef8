"""Which instant a DAG run works as of (hard case 9)."""

from __future__ import annotations

from datetime import UTC, datetime

from lifecycle.errors import PreconditionError


def run_as_of(param: str | None, logical_date: datetime | None, run_after: datetime) -> datetime:
    """The parameter if given, else the logical date, else `run_after`, which every run has; in UTC.

    A run that was triggered by hand or over REST has no logical date. An instant in the future is refused by the check
    step, which compares it with the stores' clocks.

    Raises:
        PreconditionError: the parameter is no instant, or has no offset from UTC.
    """
    if param is None:
        return (logical_date or run_after).astimezone(UTC)
    try:
        instant = datetime.fromisoformat(param)
    except ValueError:
        raise PreconditionError("parameter as_of is no date-time; write it like 2026-08-01T00:00:00Z") from None
    if instant.tzinfo is None:
        raise PreconditionError("parameter as_of has no offset from UTC; write it like 2026-08-01T00:00:00Z")
    return instant.astimezone(UTC)
