"""Where rows of a partitioned table lie: names and bounds. Pure; names are those of `partitions.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from lifecycle.stores.postgres.online.facts import Name

DAY = timedelta(days=1)
MAX_NAME_BYTES = 63


class Interval(StrEnum):
    DAY = "day"
    MONTH = "month"

    def first(self, day: date) -> date:
        return day.replace(day=1) if self is Interval.MONTH else day

    def next(self, first: date) -> date:
        if self is Interval.DAY:
            return first + DAY
        return date(first.year + first.month // 12, first.month % 12 + 1, 1)

    def label(self, first: date) -> str:
        return f"{first:%Y%m}" if self is Interval.MONTH else f"{first:%Y%m%d}"


@dataclass(frozen=True)
class Leaf:
    """A partition to be: half-open bounds as UTC days."""

    name: str
    parent: str
    lower: date
    upper: date


@dataclass(frozen=True)
class Layout:
    """Names of a tree. ``root`` is what the tree is called while it is built; ``table`` what it is for."""

    table: Name
    clock: str
    tier: str | None
    tiers: tuple[str, ...]
    interval: Interval

    @property
    def root(self) -> Name:
        return self.table.sibling(f"{self.table.name}_partitioned")

    @property
    def parked(self) -> Name:
        """The ordinary table after the switch, until `--finish` drops it."""
        return self.table.sibling(f"{self.table.name}_unpartitioned")

    @property
    def key_columns(self) -> tuple[str, ...]:
        return (self.clock,) if self.tier is None else (self.clock, self.tier)

    @property
    def branches(self) -> tuple[tuple[str | None, str], ...]:
        """(tier, name of the range-partitioned table): one per tier, or the root alone."""
        if self.tier is None:
            return ((None, self.root.name),)
        return tuple((value, f"{self.table.name}_{value}") for value in self.tiers)

    def default_of(self, branch: str) -> str:
        return f"{self.table.name}_default" if branch == self.root.name else f"{branch}_default"

    @property
    def defaults(self) -> tuple[str, ...]:
        own = (f"{self.table.name}_default",)
        return own if self.tier is None else (*own, *(self.default_of(branch) for _, branch in self.branches))

    def leaf(self, branch: str, first: date) -> Leaf:
        stem = self.table.name if branch == self.root.name else branch
        return Leaf(f"{stem}_{self.interval.label(first)}", branch, first, self.interval.next(first))

    def leaves(self, days: Iterable[date]) -> Iterator[Leaf]:
        """Of every branch, the partitions that cover the days, in order."""
        firsts = sorted({self.interval.first(day) for day in days})
        for first in firsts:
            for _, branch in self.branches:
                yield self.leaf(branch, first)

    def ahead(self, now: datetime, ahead: timedelta) -> list[date]:
        today = now.astimezone(UTC).date()
        return [today + DAY * n for n in range(ahead.days + 1)]

    def longest_name(self) -> str:
        names = [self.root.name, self.parked.name, *self.defaults]
        names += [self.leaf(branch, date(2000, 1, 1)).name for _, branch in self.branches]
        return max(names, key=lambda name: len(name.encode()))
