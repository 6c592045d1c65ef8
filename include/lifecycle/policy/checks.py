"""What must hold across a policy's rules; pydantic has already checked each field by itself.

A rule that the code could not carry out as written is refused here, never silently read as another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category, Clock, Disposition, Kind, Policy, Rule, Tier, Trigger
from lifecycle.policy.more_checks import more_contradictions
from lifecycle.policy.periods import Period

_WITHOUT_PERIOD = (Trigger.HOLD, Trigger.CASE, Trigger.AGREEMENT)
_KINDS: dict[Trigger, tuple[Kind, ...]] = {
    Trigger.HOLD: (Kind.MINIMUM,),
    Trigger.CASE: (Kind.MINIMUM,),
    Trigger.FLAG: (Kind.MAXIMUM,),
    Trigger.ERASURE: (Kind.MAXIMUM,),
    Trigger.CONSENT: (Kind.BOTH, Kind.MINIMUM),
    Trigger.AGREEMENT: (Kind.MAXIMUM,),
}
_DISPOSITIONS: dict[Trigger, Disposition] = {
    Trigger.HOLD: Disposition.KEEP,
    Trigger.CASE: Disposition.KEEP,
    Trigger.FLAG: Disposition.QUARANTINE,
    Trigger.ERASURE: Disposition.DELETE,
    Trigger.CONSENT: Disposition.DELETE,
    Trigger.AGREEMENT: Disposition.DELETE,
}
_CLOCKS: dict[Trigger, Clock] = {
    Trigger.HOLD: Clock.PLACED,
    Trigger.CASE: Clock.OPENED,
    Trigger.FLAG: Clock.RECEIVED,
    Trigger.ERASURE: Clock.REQUESTED,
    Trigger.CONSENT: Clock.SUBMITTED,
    Trigger.AGREEMENT: Clock.RECEIVED,
}
_DEFAULT_CLOCKS: dict[Category, Clock] = {
    Category.PROMPTS_AND_OUTPUTS: Clock.RECEIVED,
    Category.SAFETY_SCORES: Clock.SCORED,
    Category.FEEDBACK: Clock.SUBMITTED,
    Category.ACCOUNT_DATA: Clock.LAST_INTERACTION,
    Category.TRAINING_USE: Clock.ADDED,
    Category.USAGE_RECORDS: Clock.RECEIVED,
}
_DEFAULT_DISPOSITIONS: dict[Category, Disposition] = {
    Category.PROMPTS_AND_OUTPUTS: Disposition.DELETE,
    Category.SAFETY_SCORES: Disposition.DELETE,
    Category.FEEDBACK: Disposition.DELETE,
    Category.ACCOUNT_DATA: Disposition.DEIDENTIFY,
    Category.TRAINING_USE: Disposition.DELETE,
    Category.USAGE_RECORDS: Disposition.DELETE,
}


def contradictions(policy: Policy) -> Iterator[Contradiction]:
    """Everything that no single field shows: duplicates, gaps, rivals, and rules that cannot be carried out."""
    yield from _duplicate_ids(policy)
    yield from _precedence(policy)
    for index, rule in enumerate(policy.rules):
        for check in _RULE_CHECKS:
            yield from check(policy, rule, index)
    yield from _rivals(policy)
    yield from _gaps(policy)
    yield from more_contradictions(policy)


def _duplicate_ids(policy: Policy) -> Iterator[Contradiction]:
    seen: set[str] = set()
    for index, rule in enumerate(policy.rules):
        if rule.id in seen:
            yield Contradiction(
                ("rules", index, "id"), f"rule id {rule.id!r} is used twice", "Give each rule an id of its own"
            )
        seen.add(rule.id)


def _precedence(policy: Policy) -> Iterator[Contradiction]:
    where = ("precedence",)
    twice = [trigger.value for trigger, count in Counter(policy.precedence).items() if count > 1]
    if twice:
        yield Contradiction(where, f"{', '.join(twice)} is listed twice", "List each trigger once, highest first")
    if policy.precedence[-1:] != (Trigger.DEFAULT,):
        yield Contradiction(where, "'default' does not come last", "Move 'default' to the end of the list")
    if Trigger.HOLD in policy.precedence and policy.precedence[0] is not Trigger.HOLD:
        yield Contradiction(
            where, "'hold' does not come first", "Move 'hold' to the front: nothing destroys what is under a legal hold"
        )


def _ranked(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    first = next(at for at, other in enumerate(policy.rules) if other.trigger is rule.trigger)
    if rule.trigger not in policy.precedence and index == first:
        yield Contradiction(
            ("rules", index, "trigger"),
            f"trigger {rule.trigger.value!r} has no place in precedence",
            "Add it to the list 'precedence', highest first",
        )


def _period(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    where = ("rules", index, "period")
    if rule.trigger in _WITHOUT_PERIOD or rule.instead_of is not None or rule.category == (Category.TRAINING_USE,):
        if rule.period is not None:
            source = "the rule it replaces" if rule.instead_of else "the exception itself, or the basis of the data,"
            yield Contradiction(where, f"this rule has a period, but {source} says how long", "Remove the period")
        return
    if rule.period is None:
        yield Contradiction(where, "this rule needs a period", "Write an ISO 8601 duration, for example `period: P28D`")
    elif rule.kind is Kind.MAXIMUM and rule.period.shortest() <= (lead := _lead_of(policy, rule)).longest():
        yield Contradiction(
            where,
            f"the lead ({lead}) is not shorter than the period ({rule.period}): all data would go at once",
            "Shorten the lead or lengthen the period",
        )


def _lead_of(policy: Policy, rule: Rule) -> Period:
    """The lead that must fit into a period. What a person asked for goes at once, and is never left to S3."""
    return policy.lead.without_s3 if rule.trigger is Trigger.ERASURE else policy.lead.total


def _kind(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    allowed = _KINDS.get(rule.trigger)
    if allowed is not None and rule.kind not in allowed:
        yield Contradiction(
            ("rules", index, "kind"),
            f"a rule of trigger {rule.trigger.value!r} cannot be a {rule.kind.value!r}",
            f"Write kind: {allowed[0].value}",
        )


def _clock(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    fixed = _CLOCKS.get(rule.trigger)
    allowed = {fixed} if fixed else {_DEFAULT_CLOCKS[item] for item in rule.category if item in _DEFAULT_CLOCKS}
    if allowed and allowed != {rule.clock}:
        named = " or ".join(sorted(clock.value for clock in allowed))
        yield Contradiction(
            ("rules", index, "clock"),
            f"a rule of trigger {rule.trigger.value!r} for {', '.join(rule.category)} counts from {named}, "
            f"not from {rule.clock.value!r}",
            f"Write clock: {named}" if len(allowed) == 1 else "Write a rule of its own for each category",
        )


def _disposition(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    where = ("rules", index, "disposition")
    if rule.instead_of is not None:
        wanted = {Disposition.DEIDENTIFY}
    elif rule.trigger in _DISPOSITIONS:
        wanted = {_DISPOSITIONS[rule.trigger]}
    else:
        wanted = {_DEFAULT_DISPOSITIONS[item] for item in rule.category if item in _DEFAULT_DISPOSITIONS}
    if wanted and wanted != {rule.disposition}:
        named = " or ".join(sorted(item.value for item in wanted))
        yield Contradiction(
            where,
            f"this rule can only {named}, not {rule.disposition.value}",
            f"Write disposition: {named}" if len(wanted) == 1 else "Write a rule of its own for each category",
        )


def _variant(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    """A variant replaces the disposition of an ordinary default rule, within its tiers and category."""
    if rule.instead_of is None:
        return
    where = ("rules", index, "instead_of")
    replaced = next((other for other in policy.rules if other.id == rule.instead_of), None)
    if replaced is None:
        yield Contradiction(where, f"no rule is called {rule.instead_of!r}", "Name the id of an existing rule")
    elif replaced.trigger is not Trigger.DEFAULT or replaced.instead_of is not None:
        yield Contradiction(
            where, f"{rule.instead_of!r} is not the default rule of a tier", "Name a rule with trigger 'default'"
        )
    elif not set(rule.tiers) <= set(replaced.tiers) or not set(rule.category) <= set(replaced.category):
        yield Contradiction(
            where,
            f"{rule.instead_of!r} does not cover all tiers and categories of this rule",
            "Narrow 'tiers' and 'category' of this rule to those of the rule it replaces",
        )
    if rule.trigger is not Trigger.DEFAULT:
        yield Contradiction(
            ("rules", index, "trigger"), "a rule with instead_of must be a default", "Write trigger: default"
        )


def _all_tiers(policy: Policy, rule: Rule, index: int) -> Iterator[Contradiction]:
    """Only prompts and outputs are told apart by tier; rules for other data that name some tiers would be half read."""
    others = [item.value for item in rule.category if item is not Category.PROMPTS_AND_OUTPUTS]
    missing = [tier.value for tier in Tier if tier not in rule.tiers]
    if others and missing:
        yield Contradiction(
            ("rules", index, "tiers"),
            f"a rule for {', '.join(others)} must cover all tiers; {', '.join(missing)} is missing",
            f"Write tiers: [{', '.join(Tier)}], or a rule of its own for prompts_and_outputs",
        )


_RULE_CHECKS: tuple[Callable[[Policy, Rule, int], Iterator[Contradiction]], ...] = (
    _ranked,
    _period,
    _kind,
    _clock,
    _disposition,
    _variant,
    _all_tiers,
)


def _rivals(policy: Policy) -> Iterator[Contradiction]:
    """Two rules that one trigger brings into play for the same data: which of them counts would be chance."""
    reported: set[tuple[str, ...]] = set()
    for category in Category:
        for tier in Tier:
            for trigger in Trigger:
                rivals = [
                    (index, rule)
                    for index, rule in enumerate(policy.rules)
                    if rule.trigger is trigger and rule.instead_of is None and rule.covers(category, tier)
                ]
                names = tuple(rule.id for _, rule in rivals)
                if len(set(names)) > 1 and names not in reported:
                    reported.add(names)
                    yield Contradiction(
                        ("rules", rivals[1][0]),
                        f"rules {', '.join(names)} all apply to {category.value} of tier {tier.value} "
                        f"by trigger {trigger.value}",
                        "Keep one, or narrow their tiers or categories",
                    )


def _gaps(policy: Policy) -> Iterator[Contradiction]:
    """Without a default rule prompts and outputs of a tier would stay for ever."""
    without = [
        tier.value for tier in Tier if policy.rule_for(Trigger.DEFAULT, Category.PROMPTS_AND_OUTPUTS, tier) is None
    ]
    if without:
        yield Contradiction(
            ("rules",),
            f"no default rule covers prompts_and_outputs of tier {', '.join(without)}",
            "Add a rule with trigger 'default' for each such tier",
        )
