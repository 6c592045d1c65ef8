"""What a plan is made of. Pure: the shell measures, this module shapes (promise 4: exactly the plan)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum

DISPOSING = ("delete", "deidentify", "quarantine", "restore", "move")


class Method(StrEnum):
    """How a unit is carried out."""

    SWAP = "swap"
    ROWS = "rows"
    QUARANTINE = "quarantine"
    LANDING = "landing"
    RECORDS = "records"
    ACCOUNTS = "accounts"
    LOGS = "logs"
    ORPHANS = "orphans"
    SETTLE = "settle"


@dataclass(frozen=True)
class Tally:
    """How many records of a partition share a fate, how many of them have objects, and the oldest clock among them."""

    fate: str
    records: int
    objects: int = 0
    oldest: datetime | None = None

    @property
    def disposition(self) -> str:
        return self.fate.split(":", 1)[0]

    @property
    def rule(self) -> str:
        return self.fate.split(":", 1)[1]

    @property
    def disposes(self) -> bool:
        return self.disposition in DISPOSING


@dataclass(frozen=True)
class KeyRange:
    """The keys behind ``after`` up to and including ``until``; None: without end. All keys, unless told."""

    after: str = ""
    until: str | None = None


EVERY_KEY = KeyRange()


@dataclass(frozen=True)
class Unit:
    """One partition with what will be done to it: the grain of work, retry and evidence.

    ``awaiting``: why it is not carried out before somebody says yes; None where nobody need be asked.
    ``left_to_s3``: as it looks now, its objects are left to S3, and its rows until S3 is done (``expire: native``).
    ``keys``: which objects of the partition are meant, where it was cut.
    """

    unit: str
    dataset: str
    method: Method
    tallies: tuple[Tally, ...]
    tier: str | None = None
    day: date | None = None
    cutoff: datetime | None = None
    deadline: datetime | None = None
    order: tuple[datetime, ...] = field(default=())
    awaiting: str | None = None
    left_to_s3: bool = False
    keys: KeyRange = EVERY_KEY

    @property
    def due(self) -> int:
        return sum(tally.records for tally in self.tallies if tally.disposes)

    @property
    def kept(self) -> int:
        return sum(tally.records for tally in self.tallies if not tally.disposes)

    def planned(self) -> dict[str, dict[str, int]]:
        return {tally.fate: {"records": tally.records, "objects": tally.objects} for tally in self.tallies}


def choose_method(tallies: Iterable[Tally]) -> Method:
    """Swap a partition whose survivors are fewer than what goes; otherwise take the rows out one by one."""
    going = staying = 0
    for tally in tallies:
        if tally.disposition in ("delete", "deidentify"):
            going += tally.records
        else:
            staying += tally.records
    return Method.SWAP if going > staying else Method.ROWS


def in_order(units: Iterable[Unit]) -> list[Unit]:
    """The overdue first: what a hold or an open case made late goes before what is merely due (hard case 5)."""
    never = datetime.max.replace(tzinfo=UTC)
    return sorted(units, key=lambda unit: (unit.deadline or never, unit.unit))


Progress = Mapping[str, Mapping[str, int]]


def merge(progress: Progress, fate: str, counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Progress with some more counts of one fate added."""
    merged = {key: dict(value) for key, value in progress.items()}
    into = merged.setdefault(fate, {})
    for name, value in counts.items():
        into[name] = into.get(name, 0) + value
    return merged
