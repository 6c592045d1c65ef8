"""The decision about one line of a log, from frozen facts. Pure: whoever judges lines, here or elsewhere, asks this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from lifecycle.planning.cutoffs import Cutoff, cutoff_for
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.models import Category, Policy, Tier

Decide = Callable[[str, str, str, datetime | None], str | None]
# A month lacks at most three days of another, so this far from a cut-off by months it decides alone.
_UNSURE = timedelta(days=4)


@dataclass(frozen=True)
class LogFacts:
    """Every exception that can concern a log line, by subject and by record (both as lower-case text).

    ``exactly``: by subject letter by letter, what must concern nobody whose id differs in case only.
    """

    by_subject: Mapping[str, tuple[Fact, ...]]
    by_record: Mapping[str, tuple[Fact, ...]]
    everywhere: tuple[Fact, ...]
    exactly: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)

    @property
    def subjects(self) -> frozenset[str]:
        """Every subject that an exception may concern, in lower case."""
        return frozenset(self.by_subject) | {subject.lower() for subject in self.exactly}

    def of(self, record: str, subject: str) -> list[Fact]:
        return [
            *self.by_subject.get(subject.lower(), ()),
            *self.exactly.get(subject, ()),
            *self.by_record.get(record.lower(), ()),
            *self.everywhere,
        ]


def log_decision(policy: Policy, category: Category, as_of: datetime, facts: LogFacts, day: date) -> Decide:
    """The decision of one policy about the lines of one day's objects.

    Flags and consents concern the message, not the line that logged it, and are not asked. A record without a readable
    time counts from the end of the day it was filed under, and one without a tier as unclassified (hard case 23).
    """
    filed = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    # A log line has no de-identified form: where the message's would be published, the line is just deleted.
    variants = {rule.id: rule.instead_of for rule in policy.rules if rule.instead_of is not None}
    ordinary = {tier.value: cutoff_for(policy, category, tier, as_of) for tier in Tier}

    def due(record: str, subject: str, tier: str, told: datetime | None) -> str | None:
        clock, tier = (told, tier) if told is not None else (filed, "")
        known: list[Fact] = facts.of(record, subject)
        default = ordinary.get(tier)
        if not known and default is not None and default.exact:
            # Nearly every line: no exception names it, and its tier's cut-off decides.
            return default.rule if clock < default.cutoff else None
        decision = decide(category, tier, clock, known, policy, as_of)
        return variants.get(decision.rule, decision.rule) if decision.due else None

    return _judge(due, facts, ordinary)


def _judge(due: Decide, facts: LogFacts, ordinary: Mapping[str, Cutoff]) -> Decide:
    """With what decides of nearly every line, so that they are judged by column. Nothing, where a hold is on all."""
    from lifecycle.stores.s3.records import Judge, Ordinary

    if facts.everywhere:
        return due
    plain, unsure = dict[str, tuple[datetime, str]](), dict[str, datetime]()
    for tier, default in ordinary.items():
        plain[tier] = (default.cutoff if default.exact else default.cutoff + _UNSURE, default.rule)
        if not default.exact:
            unsure[tier] = default.cutoff - _UNSURE
    return Judge(due, Ordinary(plain, facts.by_record.keys(), facts.subjects, unsure))
