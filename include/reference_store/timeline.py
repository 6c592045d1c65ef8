"""When things happened in a generated world, and which day partitions exist when its messages are inserted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from random import Random

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
# How long the longest conversation may take; a tail day keeps its conversations to itself.
LONGEST_CONVERSATION = timedelta(hours=2)
# Nothing is received in the last seconds before as-of, so that its flags and scores come before as-of too.
_QUIET = timedelta(seconds=10)
# Ages in days of the thin tail: around two years (quarantine), and up to beyond ten (feedback).
_TAIL = (130, 160, 200, 300, 400, 500, 600, 700, 726, 729, 735, 760, 800, 1000, 1400, 1900, 2500, 3000, 3700, 4000)
# Old days without a partition: what arrived there sits in the default partition.
_TAIL_WITHOUT_PARTITION = (150, 210, 450, 900)
_RECENT_DAYS_WITHOUT_PARTITION = 2


@dataclass(frozen=True)
class Timeline:
    """``days`` of traffic before ``as_of`` (aware, UTC) and a tail of single older days."""

    as_of: datetime
    days: int

    def window_start(self, rng: Random) -> datetime:
        """A start for an ordinary conversation: somewhat more often recent than long ago."""
        return self.as_of - timedelta(days=self.days * rng.random() ** 1.25)

    def recent(self, rng: Random, within: float = 20) -> datetime:
        """An instant in the last days, well inside every default period."""
        return self.as_of - timedelta(days=rng.uniform(0.2, min(within, self.days)))

    def aged(self, rng: Random, at_least: float, at_most: float = 100_000) -> datetime:
        """An instant so many days ago that a conversation may start at: in the window or on a day of the tail."""
        if at_least + 0.5 < min(self.days, at_most):
            return self.as_of - timedelta(days=rng.uniform(at_least, min(self.days, at_most)))
        fitting = [age for age in self._tail if at_least <= age <= at_most] or [max(self._tail, default=self.days)]
        return self._on_day(rng, self._day(rng.choice(fitting)))

    def without_partition(self, rng: Random) -> datetime:
        """An instant on an old day that has no partition."""
        return self._on_day(rng, rng.choice(sorted(self.old_days_without_partition)))

    def fit(self, start: datetime, duration: timedelta) -> datetime:
        """The start moved back so that a conversation ends before ``as_of``."""
        return min(start, self.as_of - duration - _QUIET)

    @cached_property
    def partition_days(self) -> tuple[date, ...]:
        """The days that get a partition per tier before anything is inserted."""
        first = (self.as_of - timedelta(days=self.days)).date()
        window = {first + n * DAY for n in range((self._last_day - first).days + 1)}
        return tuple(sorted((window | {self._day(age) for age in self._tail}) - self.days_without_partition))

    @cached_property
    def old_days_without_partition(self) -> frozenset[date]:
        ages = [age for age in _TAIL_WITHOUT_PARTITION if age > self.days + 1] or [self.days + 40]
        return frozenset(self._day(age) for age in ages)

    @cached_property
    def days_without_partition(self) -> frozenset[date]:
        """The last days, whose partitions nobody has created ahead, and a few old ones."""
        recent = {self._last_day - n * DAY for n in range(_RECENT_DAYS_WITHOUT_PARTITION)}
        return self.old_days_without_partition | recent

    @cached_property
    def _tail(self) -> tuple[int, ...]:
        return tuple(age for age in _TAIL if age > self.days + 1)

    @property
    def _last_day(self) -> date:
        return (self.as_of - TICK).date()

    def _day(self, age: int) -> date:
        return (self.as_of - timedelta(days=age)).date()

    def _on_day(self, rng: Random, day: date) -> datetime:
        midnight = datetime.combine(day, time.min, tzinfo=UTC)
        return midnight + rng.random() * (DAY - LONGEST_CONVERSATION)
