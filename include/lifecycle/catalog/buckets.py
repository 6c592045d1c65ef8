"""What a dataset file says of objects in buckets: where they lie, how they are cut, and what S3 may do to them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from lifecycle.catalog.identifiers import Identifier, TableName
from lifecycle.policy.models import Frozen

Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Prefix = Annotated[str, Field(pattern=r"^([A-Za-z0-9!_.*'()=-]+/)*$")]
TagKey = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,127}$", examples=["lifecycle-expires"])]
Expire = Literal["requests", "native"]
# How many log objects a plan reads at once; the client has 32 connections.
ReadAhead = Annotated[int, Field(ge=1, le=32, strict=True, examples=[16])]


class Backstop(Frozen):
    """S3 itself may expire objects that carry a ticket: a tag of this name, whose value is the rule they fall under.

    Runs hand tickets out to ordinary objects and take them from what an exception names (lifecycle/backstop).
    """

    tag: TagKey = "lifecycle-expires"


class Objects(Frozen):
    """The S3 objects of a record: the column that holds the key, and where keys live."""

    column: Identifier
    bucket: Bucket
    landing: Prefix = "landing/"
    partitioned: str = "tier={tier}/date={date}/{record}.json"
    backstop: Backstop | None = None
    expire: Expire = "requests"
    """``native``: a day that no exception names is emptied by a lifecycle rule of its own (lifecycle/backstop)."""

    def day_prefix(self, tier: str, day: date) -> str:
        """What the keys of one tier and day, and no others, begin with: in a layout the record comes last."""
        return self.partitioned.partition("{record}")[0].format(tier=tier, date=day.isoformat())

    def keys_of(self, record: str, tier: str, day: date, key: str | None) -> tuple[str, ...]:
        """Every key under which versions of a record's object may lie: where it is, where it landed, where it moved.

        A key that it left can hide an old version behind a delete marker (hard case 2).
        """
        moved = self.partitioned.format(tier=tier, date=day.isoformat(), record=record)
        return tuple(dict.fromkeys([*([key] if key is not None else []), f"{self.landing}{record}.json", moved]))


class Quarantine(Frozen):
    bucket: Bucket
    prefix: str = "tier={tier}/date={date}/{record}/"


class Research(Frozen):
    """The de-identified form of a record: a table whose columns are fixed, and a bucket for what is made from it."""

    table: TableName
    bucket: Bucket | None = None


class Shards(Frozen):
    """How a day of very many objects is cut: each part is a unit of its own, for a worker of its own."""

    objects: Annotated[int, Field(ge=1, le=10**9, strict=True, examples=[10_000])]


class Staging(Frozen):
    """Where a cluster leaves the rests of log objects, to be taken over by a run; nothing may stay there."""

    bucket: Bucket
    prefix: Prefix
