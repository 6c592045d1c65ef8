"""More of what must hold across rules: nothing named twice or for nothing, and a rule for holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.contradiction import Contradiction

if TYPE_CHECKING:
    from lifecycle.policy.models import Policy

# Words that ledger and plan use in the place of a rule's id.
RESERVED = frozenset({"unclassified", "object_lock", "awaiting_approval", "not_due", "orphan", "partition", "upload"})


def more_contradictions(policy: Policy) -> Iterator[Contradiction]:
    yield from _reserved(policy)
    yield from _listed_twice(policy)
    yield from _for_nothing(policy)
    yield from _variants(policy)
    yield from _no_hold(policy)
    yield from _usage_without_hold(policy)


def _reserved(policy: Policy) -> Iterator[Contradiction]:
    for index, rule in enumerate(policy.rules):
        if rule.id in RESERVED:
            yield Contradiction(
                ("rules", index, "id"), f"{rule.id!r} has a meaning of its own in the ledger", "Give it another id"
            )


def _listed_twice(policy: Policy) -> Iterator[Contradiction]:
    for index, rule in enumerate(policy.rules):
        for name, values in (("category", rule.category), ("tiers", rule.tiers)):
            twice = [value.value for value, count in Counter(values).items() if count > 1]
            if twice:
                yield Contradiction(("rules", index, name), f"{', '.join(twice)} is listed twice", "List each once")


def _for_nothing(policy: Policy) -> Iterator[Contradiction]:
    """No dataset holds the category research: what is de-identified has no limit, so a rule for it does nothing."""
    for index, rule in enumerate(policy.rules):
        if "research" in rule.category:
            yield Contradiction(
                ("rules", index, "category"),
                "no dataset holds research: de-identified data has no limit",
                "Remove it; to de-identify instead of delete, write a rule with instead_of",
            )


def _variants(policy: Policy) -> Iterator[Contradiction]:
    """Two rules that replace the disposition of the same rule for a tier: which of them counts would be chance."""
    seen: dict[tuple[str, str], str] = {}
    for index, rule in enumerate(policy.rules):
        if rule.instead_of is None:
            continue
        for tier in dict.fromkeys(rule.tiers):
            other = seen.setdefault((rule.instead_of, tier.value), rule.id)
            if other != rule.id:
                yield Contradiction(
                    ("rules", index, "instead_of"),
                    f"{other!r} already replaces {rule.instead_of!r} for tier {tier.value}",
                    "Keep one, or narrow their tiers",
                )
                break


def _no_hold(policy: Policy) -> Iterator[Contradiction]:
    """Without such a rule the table of legal holds would be read by nobody."""
    if not any(rule.trigger == "hold" for rule in policy.rules):
        yield Contradiction(
            ("rules",),
            "no rule has the trigger 'hold', so a legal hold would keep nothing",
            "Add one, for example the rule legal_obligation of the shipped policy",
        )


def _usage_without_hold(policy: Policy) -> Iterator[Contradiction]:
    """The category is optional; where rules end usage records, a legal hold must be able to keep them."""
    ends = [index for index, rule in enumerate(policy.rules) if "usage_records" in rule.category]
    if ends and not any(rule.trigger == "hold" and "usage_records" in rule.category for rule in policy.rules):
        yield Contradiction(
            ("rules", ends[0], "category"),
            "no rule of trigger 'hold' covers usage_records, so a legal hold would not keep them",
            "Add usage_records to the categories of the rule with trigger 'hold'",
        )
