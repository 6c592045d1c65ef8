"""Clocks of tables as people have them: which column tells when a record's period began, and how it is read.

A bare name is a ``timestamptz``. Anything else says what it is, because the same number or the same wall-clock time
stands for different instants.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from lifecycle.catalog.identifiers import Identifier
from lifecycle.policy.models import Frozen

ZONE_ERROR = "zone"
BARE = "bare"


class EpochUnit(StrEnum):
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"

    @property
    def per_second(self) -> int:
        return {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[self.value]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PydanticCustomError(ZONE_ERROR, "is not a time zone of the IANA database") from None
    return name


Zone = Annotated[str, AfterValidator(_known_zone), Field(examples=["UTC", "Europe/Berlin"])]


class TimestampForm(Frozen):
    """Of several columns: ``timestamp without time zone``, in the wall-clock time of a zone."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    is_: Literal["timestamp"] = Field(alias="is")
    zone: Zone


class EpochForm(Frozen):
    """Of several columns: integers, units since 1970-01-01 00:00 UTC."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    is_: Literal["epoch"] = Field(alias="is")
    unit: Annotated[EpochUnit, Field(examples=["ms"])]


class _Told(Frozen):
    """``is`` is a word of Python, so the field has another name; files and JSON say ``is``."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    column: Identifier


class TimestampClock(_Told):
    """``timestamp without time zone``, written in the wall-clock time of a zone."""

    is_: Literal["timestamp"] = Field(alias="is")
    zone: Zone


class EpochClock(_Told):
    """An integer: units since 1970-01-01 00:00 UTC."""

    is_: Literal["epoch"] = Field(alias="is")
    unit: Annotated[EpochUnit, Field(examples=["ms"])]


class UlidClock(_Told):
    """A text column of ULIDs in upper case, the first ten letters of which are milliseconds."""

    is_: Literal["ulid"] = Field(alias="is")


class Uuid7Clock(_Told):
    """A uuid column of version 7, the first 48 bits of which are milliseconds."""

    is_: Literal["uuid7"] = Field(alias="is")


ToldClock = TimestampClock | EpochClock | UlidClock | Uuid7Clock
Clock = str | ToldClock


def _tag(value: Any) -> str | None:
    if isinstance(value, dict):
        return value.get("is", value.get("is_"))
    return getattr(value, "is_", BARE)


ClockForm = Annotated[
    Annotated[TimestampForm, Tag("timestamp")] | Annotated[EpochForm, Tag("epoch")],
    Discriminator(_tag),
]
ClockField = Annotated[
    Annotated[Identifier, Tag(BARE)]
    | Annotated[TimestampClock, Tag("timestamp")]
    | Annotated[EpochClock, Tag("epoch")]
    | Annotated[UlidClock, Tag("ulid")]
    | Annotated[Uuid7Clock, Tag("uuid7")],
    Discriminator(_tag),
]
TAGS = (BARE, "timestamp", "epoch", "ulid", "uuid7")


def in_form(column: str, form: TimestampForm | EpochForm | None) -> Clock:
    """One of several columns that are all of a form; without one they are ``timestamptz``."""
    match form:
        case TimestampForm(zone=zone):
            return TimestampClock(column=column, is_="timestamp", zone=zone)
        case EpochForm(unit=unit):
            return EpochClock(column=column, is_="epoch", unit=unit)
        case _:
            return column


def column_of(clock: Clock) -> str:
    """The column of a clock, whatever is in it."""
    return clock if isinstance(clock, str) else clock.column


def is_id(clock: Clock) -> bool:
    """Whether a clock is an identifier that tells the time, and so may be a key too."""
    return isinstance(clock, UlidClock | Uuid7Clock)
