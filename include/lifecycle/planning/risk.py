"""Where each dataset of each tier stands against its deadlines, and when somebody has to be told. Pure.

The *at-risk instant* is when a promise would be broken if no further run succeeded: the earliest deadline among what is
still there and is not kept by a rule without end. What can only go late (a hold was released after the deadline, an
agreement is shorter than the lead, a period that is also a minimum has just run out) has one lead to go in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from lifecycle.policy.decide import horizon
from lifecycle.policy.models import Category, Policy, Rule, Tier, Trigger
from lifecycle.policy.periods import Period

ALL_TIERS = "all"
UNCLASSIFIED_TIER = "unclassified"


class State(StrEnum):
    """How urgent a standing is."""

    FINE = "fine"
    AT_RISK = "at risk"
    """A run is missing, and one more that fails would break a promise."""
    BROKEN = "broken"
    """Something has outlived its deadline and nothing excuses it."""


@dataclass(frozen=True)
class Late:
    """What is past its deadline, by whether it is excused. ``kept`` is not late: a hold or an open case keeps it."""

    overdue: int = 0
    """Simply late: a run should have taken it."""
    after_hold: int = 0
    """Late because a hold or a case ended after the deadline, and no run has succeeded since."""
    after_exception: int = 0
    """The same for a cleared flag, a withdrawn or ended consent, a changed agreement."""
    kept: int = 0
    awaiting_approval: int = 0
    """Late because nobody has answered yet; the alarm rings for it all the same (hard case 26)."""

    def __add__(self, other: Late) -> Late:
        return Late(
            self.overdue + other.overdue,
            self.after_hold + other.after_hold,
            self.after_exception + other.after_exception,
            self.kept + other.kept,
            self.awaiting_approval + other.awaiting_approval,
        )

    def of_which_waiting(self, records: int) -> Late:
        """The same, with what an unanswered approval made late told apart from what is simply late."""
        waiting = min(records, self.overdue)
        return replace(self, overdue=self.overdue - waiting, awaiting_approval=waiting)

    def as_dict(self) -> dict[str, int]:
        return {
            "overdue": self.overdue,
            "after_hold": self.after_hold,
            "after_exception": self.after_exception,
            "kept": self.kept,
            "awaiting_approval": self.awaiting_approval,
        }


@dataclass(frozen=True)
class Standing:
    """One dataset of one tier at one instant; counts of ``counted`` (records, or objects where lines are not read)."""

    dataset: str
    tier: str
    scope: str
    rule: str
    period: Period | None
    oldest: datetime | None
    cutoff: datetime | None
    at_risk: datetime | None
    due: int
    late: Late
    last_success: datetime | None
    counted: str = "records"

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.tier}"

    def time_left(self, as_of: datetime) -> timedelta | None:
        """Until a promise is broken; negative once it is; None when nothing there can break one."""
        return None if self.at_risk is None else self.at_risk - as_of

    def state(self, policy: Policy, as_of: datetime) -> State:
        left = self.time_left(as_of)
        if left is None:
            return State.FINE
        if left <= timedelta(0):
            return State.BROKEN
        return State.AT_RISK if left < alarm_margin(policy) else State.FINE


def alarm_margin(policy: Policy) -> timedelta:
    """One schedule interval and the longest run: with less left than that, one more failure is one too many.

    While every run succeeds in its time, what is left is never less: the lead minus the same two terms.
    """
    return policy.lead.schedule_interval.longest() + policy.lead.longest_run.longest()


def alarming(standings: Iterable[Standing], policy: Policy, as_of: datetime) -> list[Standing]:
    """Those that somebody has to look at, the most urgent first."""
    found = [standing for standing in standings if standing.state(policy, as_of) is not State.FINE]
    return sorted(found, key=lambda standing: (standing.at_risk or as_of, standing.name))


def earliest(instants: Iterable[datetime | None]) -> datetime | None:
    return min((instant for instant in instants if instant is not None), default=None)


@dataclass(frozen=True)
class LogDay:
    """One day of many-record objects: when the first of its lines that no run has taken yet breaks a promise."""

    day: date
    strikes: datetime


def log_days(policy: Policy, category: Category, days: Iterable[date], last_success: datetime | None) -> list[LogDay]:
    """Deadlines of days of log objects from their names alone; no object is read.

    A run reads every day and takes each line that strikes before its horizon. So of each tier only lines that strike
    later can be left, and a day strikes for the first tier of which it can still hold any.
    """
    seen = horizon(policy, last_success) if last_success is not None else None
    rules = [rule for rule in (policy.rule_for(Trigger.DEFAULT, category, tier) for tier in Tier) if rule is not None]
    found = []
    for day in sorted(days):
        strikes = earliest(_strikes(rule, day, seen) for rule in rules)
        if strikes is not None:
            found.append(LogDay(day, strikes))
    return found


def _strikes(rule: Rule, day: date, seen: datetime | None) -> datetime | None:
    began = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first, last = rule.end(began), rule.end(began + timedelta(days=1))
    if first is None or last is None or (seen is not None and last <= seen):
        return None
    return first if seen is None else max(first, seen)
