"""Many records in words: how many share a fate, by which rule, until when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lifecycle.explain.lead import promise
from lifecycle.explain.sentences import day
from lifecycle.policy.decide import UNCLASSIFIED
from lifecycle.policy.models import Policy, Rule, Trigger
from lifecycle.stores.postgres.explained import Group

_DOES = {
    "delete": "{n} to be deleted",
    "deidentify": "{n} to be de-identified",
    "quarantine": "{n} in quarantine or to be moved there",
    "keep": "{n} kept",
}


def records(count: int) -> str:
    return f"{count:,} record{'' if count == 1 else 's'}"


def merged(groups: Iterable[Group]) -> list[Group]:
    """One group for each fate."""
    by_fate: dict[str, list[Group]] = {}
    for group in groups:
        by_fate.setdefault(group.fate, []).append(group)
    return [
        Group(
            fate,
            sum(each.records for each in same),
            min((each.first for each in same if each.first is not None), default=None),
            max((each.last for each in same if each.last is not None), default=None),
            sum(each.endless for each in same),
        )
        for fate, same in by_fate.items()
    ]


def as_rows(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """Groups in a stable form."""
    return [
        {
            "disposition": group.disposition,
            "rule": group.rule,
            "records": group.records,
            "first_deadline": group.first,
            "last_deadline": group.last,
            "without_end": group.endless,
        }
        for group in groups
    ]


def sentences(groups: Sequence[Group], policy: Policy) -> Iterator[str]:
    """A line per fate, what goes first."""
    for group in sorted(groups, key=lambda group: (group.disposition == "keep", -group.records)):
        does = _DOES[group.disposition].format(n=records(group.records))
        yield f"{does} by {cited(group.rule, policy)}{_until(group)}."


def cited(rule_id: str, policy: Policy) -> str:
    """A rule with what it promises: "rule consumer_default, 'maximum of 90 days'"."""
    rule = next((rule for rule in policy.rules if rule.id == rule_id), None)
    if rule is None:
        return f"rule {rule_id}, the strictest deadline" if rule_id == UNCLASSIFIED else f"rule {rule_id}"
    timed = policy.rule(rule.instead_of) if rule.instead_of is not None else rule
    return f"rule {rule_id}, '{promise(timed)}'"


def _until(group: Group) -> str:
    if group.first is None or group.last is None:
        return ", without an end yet" if group.disposition == "keep" else ""
    span = day(group.first) if day(group.first) == day(group.last) else f"{day(group.first)} to {day(group.last)}"
    endless = f", {group.endless:,} of them without an end yet" if group.endless else ""
    return f", {'until' if group.disposition in ('keep', 'quarantine') else 'deadline'} {span}{endless}"


def kept_by_exception(groups: Iterable[Group], policy: Policy) -> list[Group]:
    """The survivors: what stays for another reason than that its ordinary period is not over."""
    ordinary = {rule.id for rule in policy.rules if _is_ordinary(rule)} | {UNCLASSIFIED}
    return [group for group in groups if group.disposition in ("keep", "quarantine") and group.rule not in ordinary]


def _is_ordinary(rule: Rule) -> bool:
    return rule.trigger is Trigger.DEFAULT
