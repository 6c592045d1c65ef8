"""Leaving one day of one tier to S3 (``expire: native``): the rules for its prefix, and whether there is time. Pure.

A rule for a prefix asks for no tag, so it takes everything there. It stands only while everything there is due and no
exception names any of it, and while a run would still be in time to do the work itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from lifecycle.backstop.compare import MOST_RULES, Finding, is_ours, normal
from lifecycle.backstop.models import NATIVE, NativeRule
from lifecycle.catalog.models import Catalog
from lifecycle.policy.models import Kind, Policy, Rule, Tier, Trigger

_MARKERS = "-markers"
_DAY = timedelta(days=1)
# S3 acts some time after a midnight: a day until it strikes, one to act. What is only hidden waits a day more, and
# again for a midnight and its act; the delete marker goes with a later pass.
TIME_PLAIN, TIME_VERSIONED = 2 * _DAY, 5 * _DAY
# A partition is due as a whole one day after its first record, and the next run may be an interval away.
_WIDTH = _DAY
# Where months differ in length, a cut-off is exact within four days only.
_SLACK = timedelta(days=5)


class Verdict(StrEnum):
    """What a run does with a day of a native dataset that no exception names."""

    WAIT = "wait"
    """Not all of it is due, and S3 will have the time once it is."""
    LEAVE = "leave"
    """All of it is due, and S3 has the time."""
    REQUESTS = "requests"
    """There is no time to wait for S3."""


@dataclass(frozen=True)
class NativeDay:
    """One day of one tier that is left to S3, as it stands in lifecycle.native_rules."""

    native_id: int
    rule_id: str
    bucket: str
    prefix: str
    dataset: str
    tier: str
    day: date
    days: int
    rule: str
    run_id: int
    objects: int
    versions: int
    bytes: int
    placed_at: datetime

    @property
    def rules(self) -> tuple[NativeRule, NativeRule]:
        return rules_for(self.rule_id, self.prefix, self.days)


def rule_id_of(dataset: str, tier: str, day: date) -> str:
    return f"{NATIVE}{dataset}-{tier}-{day.isoformat()}"


def rules_for(rule_id: str, prefix: str, days: int) -> tuple[NativeRule, NativeRule]:
    """What empties a prefix; delete markers with nothing below them need a rule of their own."""
    return (
        NativeRule(rule_id, prefix, expire_days=days, noncurrent_days=1, abort_days=days),
        NativeRule(f"{rule_id}{_MARKERS}", prefix, drop_markers=True),
    )


def is_native(rule: Mapping[str, Any]) -> bool:
    return str(rule.get("ID", "")).startswith(NATIVE)


def days_reached(newest: datetime, as_of: datetime) -> int:
    """The most days that everything listed has reached already: what comes later is out of reach for as long."""
    return max(1, (as_of - newest) // _DAY)


def time_needed(*, versioned: bool) -> timedelta:
    """What S3 needs to empty a prefix, at the longest that is usual; it promises nothing."""
    return TIME_VERSIONED if versioned else TIME_PLAIN


def least_term(policy: Policy, *, versioned: bool) -> timedelta:
    """How long ``lead.s3_expiry`` must be, so that S3 ever gets to its work."""
    return time_needed(versioned=versioned) + _WIDTH + policy.lead.schedule_interval.longest()


def never(policy: Policy, rule: Rule | None) -> str | None:
    """Why no day under a rule can be left to S3; None where it can."""
    if rule is None or rule.period is None:
        return "no rule with a period decides there"
    if rule.kind is not Kind.MAXIMUM:
        return f"rule {rule.id} is a minimum too: there is no time between the day it allows and the day it asks for"
    if policy.lead.s3_expiry.longest() < least_term(policy, versioned=False):
        days = [least_term(policy, versioned=versioned) // _DAY for versioned in (False, True)]
        return (
            f"the lead leaves S3 no time: s3_expiry is {policy.lead.s3_expiry}, and must be at least P{days[0]}D, with "
            f"versions P{days[1]}D"
        )
    return None


def refused(policy: Policy, catalog: Catalog, tier: Tier) -> str | None:
    """Why no day of a tier can be left to S3, whatever lies in it; None where days can."""
    if not catalog.has_messages or catalog.messages.objects.expire != "native":
        return "the dataset file does not leave it to S3"
    rule = policy.rule_for(Trigger.DEFAULT, catalog.messages.category, tier)
    if rule is not None and policy.variant_of(rule, tier) is not None:
        return "the de-identified form is written before an object goes (copy before cut)"
    return never(policy, rule)


def outlook(policy: Policy, catalog: Catalog) -> dict[Tier, str | None]:
    """For each tier of a dataset file that leaves days to S3, why none can be; None where days can."""
    if not catalog.has_messages or catalog.messages.objects.expire != "native":
        return {}
    return {tier: refused(policy, catalog, tier) for tier in Tier}


def wholly_due(policy: Policy, rule: Rule, upper: datetime, as_of: datetime) -> bool:
    """Whether every record received before an instant is due by a rule that is a maximum."""
    if rule.period is None or upper > as_of:
        return False
    slack = _SLACK if rule.period.months else timedelta(0)
    return rule.period.end(upper, round_up=True) + slack <= policy.lead.total.end(as_of, round_up=True)


def verdict(
    policy: Policy, rule: Rule, lower: datetime, upper: datetime, as_of: datetime, needed: timedelta, *, standing: bool
) -> Verdict:
    """Whether to leave a day to S3.

    A run takes over as soon as the day's first instant would be due without the time that the lead has for S3: so the
    promise is the same as if S3 did nothing.

    Args:
        needed: what S3 needs from now on.
        standing: the rule is in the bucket already, and S3 at work.
    """
    if never(policy, rule) is not None or rule.period is None:
        return Verdict.REQUESTS
    taken_over = rule.period.end(lower, round_up=False) - policy.lead.without_s3.longest()
    if as_of >= taken_over:
        return Verdict.REQUESTS
    if wholly_due(policy, rule, upper, as_of):
        return Verdict.LEAVE if standing or as_of + needed <= taken_over else Verdict.REQUESTS
    slack = _SLACK if rule.period.months else timedelta(0)
    whole = rule.period.end(upper, round_up=True) - policy.lead.total.shortest() + slack
    begins = max(whole, as_of) + policy.lead.schedule_interval.longest()
    return Verdict.WAIT if begins + needed <= taken_over else Verdict.REQUESTS


def in_the_way(current: Iterable[Mapping[str, Any]], prefix: str) -> str | None:
    """Why rules of others, or too many rules, leave no room for ours; None where there is room."""
    rules = list(current)
    if len(rules) + 2 > MOST_RULES:
        return f"the bucket has {len(rules)} lifecycle rules; S3 takes {MOST_RULES:,}"
    for rule in rules:
        near = normal(rule)["Filter"].get("Prefix", "")
        if not is_ours(rule) and not is_native(rule) and (prefix.startswith(near) or near.startswith(prefix)):
            return "a lifecycle rule of somebody else reaches there too"
    return None


def added(current: Iterable[Mapping[str, Any]], rules: Iterable[NativeRule]) -> list[Mapping[str, Any]]:
    """The rules of a bucket with some more, in place of those of the same IDs."""
    wanted = [rule.as_s3() for rule in rules]
    ids = {rule["ID"] for rule in wanted}
    return [*(rule for rule in current if rule.get("ID") not in ids), *wanted]


def without(current: Iterable[Mapping[str, Any]], ids: Collection[str]) -> list[Mapping[str, Any]]:
    return [rule for rule in current if rule.get("ID") not in ids]


def stands(current: Iterable[Mapping[str, Any]], day: NativeDay) -> bool:
    """Whether a day's rules are in the bucket as they were written."""
    there = {str(rule.get("ID", "")): normal(rule) for rule in current}
    return all(there.get(rule.id) == normal(rule.as_s3()) for rule in day.rules)


def native_findings(bucket: str, current: Iterable[Mapping[str, Any]], known: Iterable[NativeDay]) -> Iterator[Finding]:
    """Rules for days that no run has written down, or that are not as they were written."""
    wanted = {rule.id: normal(rule.as_s3()) for day in known if day.bucket == bucket for rule in day.rules}
    there = {str(rule["ID"]): normal(rule) for rule in current if is_native(rule)}
    again = "`lifecycle s3 shield` takes away what no run has written down; the next run does the work by requests"
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            told = "no run has written it down" if name not in wanted else "it is not as the run wrote it"
            yield Finding(bucket, name, f"a rule for one day: {told}", again)
