"""How hard a dataset's table may be pressed: the length of a transaction, a budget per run, and what makes us wait."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from lifecycle.policy.models import Frozen

DURATION_ERROR = "duration"
_ISO = re.compile(
    r"P(?:(?P<days>\d{1,4})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,5})H)?(?:(?P<minutes>\d{1,6})M)?(?:(?P<seconds>\d{1,8}(?:\.\d{1,3})?)S)?)?",
    re.ASCII,
)
_PATTERN = r"^P(?=.)(\d{1,4}D)?(T(?=.)(\d{1,5}H)?(\d{1,6}M)?(\d{1,8}(\.\d{1,3})?S)?)?$"


def _between(shortest: timedelta, longest: timedelta, example: str) -> Any:
    """A length of time within bounds, in text; these are lengths, not calendar periods."""

    def parse(value: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _ISO.fullmatch(value) if isinstance(value, str) else None
        found = {name: part for name, part in match.groupdict().items() if part} if match else {}
        if not found:
            raise PydanticCustomError(
                DURATION_ERROR, "is not an ISO 8601 duration of days, hours, minutes and seconds", {"like": example}
            )
        length = timedelta(**{name: float(part) for name, part in found.items()})
        if not shortest <= length <= longest:
            raise PydanticCustomError(
                DURATION_ERROR,
                "lies outside {shortest} to {longest}",
                {"like": example, "shortest": iso_duration(shortest), "longest": iso_duration(longest)},
            )
        return length

    return (
        BeforeValidator(parse),
        PlainSerializer(iso_duration),
        WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": [example]}),
    )


def iso_duration(length: timedelta) -> str:
    """``PT0.5S``, ``P1DT2H``: to the millisecond."""
    whole, milliseconds = divmod(round(length.total_seconds() * 1000), 1000)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{milliseconds:03d}".rstrip("0") if milliseconds else ""
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M")) if n)
    time += f"{seconds}{fraction}S" if seconds or fraction else ""
    date = f"{days}D" if days else ""
    return f"P{date}{'T' + time if time else ''}" if date or time else "PT0S"


_SECOND, _HOUR, _DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
Transaction = Annotated[timedelta, *_between(timedelta(milliseconds=20), _SECOND * 30, "PT0.5S")]
Statement = Annotated[timedelta, *_between(_SECOND, _HOUR, "PT30S")]
Budget = Annotated[timedelta, *_between(_SECOND, _DAY * 7, "PT4H")]
Wait = Annotated[timedelta, *_between(timedelta(0), _HOUR, "PT1M")]
Lag = Annotated[timedelta, *_between(timedelta(milliseconds=100), _DAY, "PT30S")]


class Pace(Frozen):
    """How rows are taken out of a table that people are using (hard case 19). All of it has defaults.

    ``transaction``: how long one transaction should take; batches grow and shrink towards it.
    ``statement_timeout``: a batch that takes longer is given up and tried with fewer rows.
    ``budget``, ``rows``: at most so much time and so many rows of this dataset in one run; the next takes the rest.
    ``replication_lag``, ``wal_mb_per_second``, ``checkpoint_rest``, ``canary_factor``: what makes us wait between two
    batches: a replica behind, too much write-ahead log, a checkpoint that the log forced, a probe that has become slow.
    ``patience``: how long to wait at most before a small batch goes all the same, so that a deadline is not lost to a
    replica that never comes back.
    ``locked_share``: while others want the table, at most this share of the time may be an exchange of partitions.
    """

    transaction: Transaction = timedelta(seconds=0.5)
    statement_timeout: Statement = timedelta(seconds=30)
    budget: Budget = timedelta(hours=4)
    rows: Annotated[int, Field(ge=1, le=10**12, strict=True, examples=[50_000_000])] = 1_000_000_000
    patience: Wait = timedelta(minutes=1)
    replication_lag: Lag = timedelta(seconds=30)
    wal_mb_per_second: Annotated[int, Field(ge=1, le=1_000_000, strict=True, examples=[200])] = 200
    checkpoint_rest: Wait = timedelta(seconds=5)
    canary_factor: Annotated[float, Field(ge=1.5, le=1000.0, strict=True, examples=[5.0])] = 5.0
    locked_share: Annotated[float, Field(ge=0.0001, le=1.0, strict=True, examples=[0.01])] = 0.01
