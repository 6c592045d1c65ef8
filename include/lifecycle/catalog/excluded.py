"""What a dataset file says needs no rule, as an object. Whether the declarations hold: catalog/exclusions.py."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from lifecycle.catalog.buckets import Bucket
from lifecycle.catalog.identifiers import Identifier, TableName
from lifecycle.policy.models import Frozen

ExcludedTable = TableName  # or ``app.*``: a whole schema
ExcludedPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9!_.*'()=/-]{1,1024}$")]
DATE_ERROR = "calendar_date"


def _calendar_date(value: Any) -> Any:
    """Only YYYY-MM-DD: pydantic would also read a number as seconds since 1970."""
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and len(value) == len("YYYY-MM-DD"):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise PydanticCustomError(DATE_ERROR, "is not a date of the calendar in the form YYYY-MM-DD")


CalendarDate = Annotated[date, BeforeValidator(_calendar_date)]


class Exclusion(Frozen):
    """Something that exists and needs no rule: a table (``app.*``: a schema), a column, a bucket or a prefix; or a copy
    that is ended elsewhere: a publication, a trigger (or rule) of a table.

    ``until``: from the beginning of that day (UTC) on it is a difference again, so that somebody looks.
    """

    table: Annotated[ExcludedTable | None, Field(examples=["app.plans"])] = None
    column: Annotated[Identifier | None, Field(examples=["note"])] = None
    bucket: Annotated[Bucket | None, Field(examples=["exports"])] = None
    prefix: Annotated[ExcludedPrefix | None, Field(examples=["exports/"])] = None
    publication: Annotated[Identifier | None, Field(examples=["to_warehouse"])] = None
    trigger: Annotated[Identifier | None, Field(examples=["keep_history"])] = None
    reason: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=10),
        Field(examples=["a price list, no row is about a person"]),
    ]
    until: Annotated[CalendarDate, Field(examples=["2027-06-30"])]
