"""The one definition of a record's fate. Pure: facts and time are arguments; no I/O, no Airflow.

The set-based SQL of stores/postgres/fates.py is compiled from the same policy and held to this by a differential test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lifecycle.policy.models import Category, Disposition, Policy, Rule, Tier, Trigger
from lifecycle.policy.periods import Period

UNCLASSIFIED = "unclassified"


@dataclass(frozen=True)
class Fact:
    """One exception that concerns a record: when it began and ended, and for an agreement how long it retains."""

    trigger: Trigger
    began: datetime
    ended: datetime | None = None
    retain: Period | None = None


@dataclass(frozen=True)
class Considered:
    """One rule that was looked at, and why it won, lost or did not apply."""

    rule: str
    applies: bool
    wins: bool
    reason: str
    until: datetime | None


@dataclass(frozen=True)
class Decision:
    """What becomes of a record now, by which rule, and the instant at which that rule's promise strikes."""

    rule: str
    disposition: Disposition
    due: bool
    deadline: datetime | None
    rules: tuple[Considered, ...]


def horizon(policy: Policy, as_of: datetime) -> datetime:
    """As-of plus the lead: a maximum that strikes before this instant is due now (hard case 1)."""
    return policy.lead.total.end(as_of, round_up=True)


def in_force(fact: Fact, clock: datetime, rule: Rule, as_of: datetime) -> bool:
    """Whether an exception counts at as-of. What keeps counts however late it was entered; only its end matters."""
    match fact.trigger:
        case Trigger.AGREEMENT:
            return fact.began <= as_of and (fact.ended is None or fact.ended > as_of)
        case Trigger.ERASURE:
            return fact.ended is None or clock <= fact.ended
        case Trigger.CONSENT:
            end = rule.end(fact.began)
            return (fact.ended is None or fact.ended > as_of) and (end is None or end >= as_of)
        case _:
            return fact.ended is None or fact.ended > as_of


def _agreement_in_force(facts: Sequence[Fact], clock: datetime) -> Fact:
    """Of several agreements the latest replaces the others; of equally late ones the one that ends first counts."""
    latest = max(fact.began for fact in facts)
    return min((fact for fact in facts if fact.began == latest), key=lambda fact: _agreed_end(fact, clock))


def _agreed_end(fact: Fact, clock: datetime) -> datetime:
    return fact.retain.end(clock, round_up=False) if fact.retain else clock


@dataclass(frozen=True)
class _Verdict:
    disposition: Disposition
    due: bool
    deadline: datetime | None
    reason: str


def _judge(
    rule: Rule, facts: Sequence[Fact], clock: datetime, category: Category, ahead: datetime, as_of: datetime
) -> _Verdict:
    match rule.trigger:
        case Trigger.HOLD | Trigger.CASE:
            ends = [fact.ended for fact in facts]
            until = None if None in ends else max(end for end in ends if end is not None)
            word = "a legal hold is in force" if rule.trigger is Trigger.HOLD else "a usage-policy case is open"
            return _Verdict(Disposition.KEEP, False, until, word)
        case Trigger.FLAG:
            end = rule.end(clock)
            due = end is not None and end < ahead and clock < as_of
            what = Disposition.DELETE if due else Disposition.QUARANTINE if clock < as_of else Disposition.KEEP
            return _Verdict(what, due, end, f"a safety classifier flagged it ({rule.period} from receipt)")
        case Trigger.ERASURE:
            asked = min(fact.began for fact in facts)
            due = clock < as_of
            what = Disposition.DELETE if due else Disposition.KEEP
            return _Verdict(what, due, rule.end(asked), f"an erasure request of {asked.date()} covers it")
        case Trigger.CONSENT if category is not Category.FEEDBACK:
            ends_at = [end for fact in facts if (end := rule.end(fact.began)) is not None]
            return _Verdict(Disposition.KEEP, False, max(ends_at), "it belongs to a submission that was consented to")
        case Trigger.AGREEMENT:
            agreed = _agreement_in_force(facts, clock)
            end = _agreed_end(agreed, clock)
            due = end < ahead and clock < as_of
            return _Verdict(
                Disposition.DELETE if due else Disposition.KEEP, due, end, f"an agreement sets {agreed.retain}"
            )
        case _:
            end = rule.end(clock)
            limit = as_of if rule.round_up else ahead
            due = end is not None and end < limit and clock < as_of
            what = rule.disposition if due else Disposition.KEEP
            return _Verdict(what, due, end, f"the rule of its tier and category ({rule.period})")


def decide(
    category: Category, tier: str, clock: datetime, facts: Sequence[Fact], policy: Policy, as_of: datetime
) -> Decision:
    """Decide one record's fate.

    Args:
        category: what the record is.
        tier: the record's product tier; an unknown one falls under the category's strictest default (hard case 23).
        clock: the aware instant its periods count from.
        facts: every exception that names the record, its group or its subject, ended ones included.
        policy: the rules and their precedence.
        as_of: the run's frozen instant.
    """
    known = tier in set(Tier)
    ahead = horizon(policy, as_of)
    considered: list[Considered] = []
    winner: tuple[Rule, _Verdict] | None = None
    for trigger in policy.precedence:
        rule = rule_of_tier(policy, trigger, category, tier if known else None)
        if rule is None:
            continue
        own = trigger is Trigger.DEFAULT or (trigger is Trigger.CONSENT and category is Category.FEEDBACK)
        named = [fact for fact in facts if fact.trigger is trigger]
        active = [fact for fact in named if in_force(fact, clock, rule, as_of)]
        if not own and not active:
            if named:
                considered.append(Considered(rule.id, False, False, "has ended", None))
            continue
        verdict = _judge(rule, active, clock, category, ahead, as_of)
        wins = winner is None
        if winner is None:
            winner = (rule, verdict)
        reason = verdict.reason if wins else f"{verdict.reason}; outranked by {winner[0].id}"
        considered.append(Considered(rule.id, True, wins, reason, verdict.deadline))
    if winner is None:
        return Decision(UNCLASSIFIED, Disposition.KEEP, False, None, tuple(considered))
    rule, verdict = winner
    return _named(policy, rule, verdict, tier if known else None, tuple(considered))


def _named(
    policy: Policy, rule: Rule, verdict: _Verdict, tier: str | None, considered: tuple[Considered, ...]
) -> Decision:
    """Give the decision its rule id: the variant's where one replaces the disposition, else the rule's own."""
    if tier is None and rule.trigger is Trigger.DEFAULT:
        return Decision(UNCLASSIFIED, verdict.disposition, verdict.due, verdict.deadline, considered)
    variant = policy.variant_of(rule, Tier(tier)) if tier is not None else None
    if variant is not None and verdict.due:
        return Decision(variant.id, variant.disposition, True, verdict.deadline, considered)
    return Decision(rule.id, verdict.disposition, verdict.due, verdict.deadline, considered)


def rule_of_tier(policy: Policy, trigger: Trigger, category: Category, tier: str | None) -> Rule | None:
    """The rule of a trigger for records of a tier, or (None) of an unknown one."""
    if tier is not None:
        return policy.rule_for(trigger, category, Tier(tier))
    return rule_for_unknown_tier(policy, trigger, category)


def rule_for_unknown_tier(policy: Policy, trigger: Trigger, category: Category) -> Rule | None:
    """What an unclassified record falls under: the exceptions of every tier, and the strictest default."""
    if trigger is Trigger.DEFAULT and policy.defaults(category):
        return policy.strictest(category)
    return next((rule for rule in policy.rules if _everywhere(rule, trigger, category)), None)


def _everywhere(rule: Rule, trigger: Trigger, category: Category) -> bool:
    return rule.trigger is trigger and category in rule.category and set(rule.tiers) == set(Tier)
