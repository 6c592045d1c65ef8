"""From policy and datasets to S3 Lifecycle rules: which place may have one, at which day, and which may not. Pure.

S3 asks nobody before it acts: it knows prefixes, tags and ages, but no hold, case, flag, consent or agreement. So it
may remove a version only where whatever makes a record's fate differ takes the object out of the rule's reach first.
Moving does that for flags; nothing moves what is under hold (RULES.md), and a lock does not help, because an expiration
puts a delete marker over a locked version (hard case 3). What is left is a ticket: a tag that runs give to objects of
records that no exception names, and take away when one does. No ticket, no expiry.
"""

from __future__ import annotations

from collections.abc import Iterator

from lifecycle.backstop.days import whole_days
from lifecycle.backstop.models import OWN, Backstop, NativeRule, Place, Ticket
from lifecycle.catalog.models import Catalog, Logs, Messages
from lifecycle.policy.models import Kind, Policy, Rule, Tier, Trigger

# What keeps a record keeps its object where it lies; a flag moves it away, and an erasure request only hastens its end.
_STAYING = (Trigger.HOLD, Trigger.CASE, Trigger.CONSENT, Trigger.AGREEMENT)
# An expiration in a bucket with versions only hides; this many days later S3 removes what it hid (hard case 2).
_HIDDEN_DAYS = 1
_LEAVE_TO_RUNS = "Leave it to the runs, and mind `lifecycle status`: its alarm rings before the deadline"


def compile_backstop(policy: Policy, catalog: Catalog) -> Backstop:
    """Every place of the dataset file, each with the rules that S3 may carry out there."""
    return Backstop(tuple(_places(policy, catalog)))


def _places(policy: Policy, catalog: Catalog) -> Iterator[Place]:
    if catalog.has_messages:
        messages = catalog.messages
        for tier in Tier:
            yield _partitioned(policy, messages, tier)
        yield _landing(policy, messages)
        for tier in Tier:
            yield from _quarantine(policy, messages, tier)
    for dataset in catalog.logs:
        yield _logs(policy, dataset)
    yield Place(
        catalog.evidence_bucket,
        "",
        "evidence",
        because=("the evidence outlives what it is about; no rule of the policy ends it",),
    )
    if catalog.has_messages and messages.research.bucket is not None:
        yield Place(
            messages.research.bucket,
            "",
            "research",
            because=("de-identified data has no limit",),
            keeps=False,
        )


def stem(layout: str, tier: Tier) -> str | None:
    """What the keys of a tier, and of no other, begin with; None where something else varies before the tier."""
    head, _, rest = layout.partition("{tier}")
    return None if "{" in head else f"{head}{tier.value}{rest.partition('{')[0]}"


def ticket_of(policy: Policy, messages: Messages, tier: Tier) -> Ticket | None:
    """The ticket with which an ordinary object of a tier may be expired by S3; None where none may."""
    rule = policy.rule_for(Trigger.DEFAULT, messages.category, tier)
    backstop = messages.objects.backstop
    if backstop is None or rule is None or tuple(_against(policy, messages, tier, rule)):
        return None
    return Ticket(backstop.tag, rule.id)


def _partitioned(policy: Policy, messages: Messages, tier: Tier) -> Place:
    objects, name = messages.objects, f"{messages.id} of {tier.value}"
    prefix = stem(objects.partitioned, tier)
    rule = policy.rule_for(Trigger.DEFAULT, messages.category, tier)
    if rule is None or rule.period is None or prefix is None:
        because = "something else varies in the layout of its keys before {tier}"
        remedy = "Let the layout begin with the tier, for example tier={tier}/date={date}/{record}.json"
        return Place(objects.bucket, prefix or "", name, (), (because,), remedy)
    rules = [_leftovers(f"{messages.id}-{tier.value}", prefix, rule)]
    ticket = ticket_of(policy, messages, tier)
    if ticket is not None:
        days = whole_days(rule.period)
        # A maximum has no earliest day, so what was replaced may go at once; a minimum counts for old versions too.
        noncurrent = _HIDDEN_DAYS if rule.kind is Kind.MAXIMUM else days
        rules.insert(0, NativeRule(f"{OWN}{messages.id}-{tier.value}-expire", prefix, ticket, days, noncurrent))
        return Place(objects.bucket, prefix, name, tuple(rules))
    against = tuple(_against(policy, messages, tier, rule))
    if against:
        return Place(objects.bucket, prefix, name, tuple(rules), against, _LEAVE_TO_RUNS)
    staying = (policy.rule_for(trigger, messages.category, tier) for trigger in _STAYING)
    ids = ", ".join(found.id for found in staying if found is not None)
    because = f"what {ids} keep lies among the rest, and nothing tells it apart for S3"
    remedy = (
        f"Write `backstop: {{tag: lifecycle-expires}}` below objects of dataset {messages.id}: runs then tag what S3 "
        "may expire, and `lifecycle s3 shield`, from cron too, takes the tag from what must stay"
    )
    return Place(objects.bucket, prefix, name, tuple(rules), (because,), remedy)


def is_ordinary(fate: str, ticket: Ticket) -> bool:
    """Whether a record's fate is that of its tier's default, so that nothing but time will end it."""
    return fate == f"keep:{ticket.value}"


def must_stay(fate: str, default: str) -> bool:
    """Whether a record's fate is another than its default and than to go now: S3 must not reach its object.

    The shield asks the same of many records at once, in SQL (dispositions/shield.py).
    """
    return fate != f"keep:{default}" and not fate.startswith("delete:")


def _against(policy: Policy, messages: Messages, tier: Tier, rule: Rule) -> Iterator[str]:
    """Why no object of a tier may go natively, ticket or not."""
    if rule.period is None:
        yield f"rule {rule.id} has no period"
    if stem(messages.objects.partitioned, tier) is None:
        yield "something else varies in the layout of its keys before {tier}"
    variant = policy.variant_of(rule, tier)
    if variant is not None:
        yield f"rule {variant.id} wants the de-identified form written before the object goes (copy before cut)"


def _leftovers(name: str, prefix: str, rule: Rule) -> NativeRule:
    """No record is in a delete marker with nothing below it, nor in an upload that nobody finished (hard case 14)."""
    if rule.period is None:
        raise ValueError("leftovers are removed at the end of a period")
    return NativeRule(f"{OWN}{name}-leftovers", prefix, drop_markers=True, abort_days=whole_days(rule.period))


def _landing(policy: Policy, messages: Messages) -> Place:
    rule = policy.strictest(messages.category)
    return Place(
        messages.objects.bucket,
        messages.objects.landing,
        f"landing of {messages.id}",
        (_leftovers(f"{messages.id}-landing", messages.objects.landing, rule),),
        ("keys there do not tell the tier, and what is under hold is not moved away from there",),
        _LEAVE_TO_RUNS,
    )


def _quarantine(policy: Policy, messages: Messages, tier: Tier) -> Iterator[Place]:
    rule = policy.rule_for(Trigger.FLAG, messages.category, tier)
    prefix = stem(messages.quarantine.prefix, tier)
    if rule is None or prefix is None:
        return
    yield Place(
        messages.quarantine.bucket,
        prefix,
        f"quarantine of {tier.value}",
        (_leftovers(f"quarantine-{tier.value}", prefix, rule),),
        (
            "an expiration puts a delete marker over versions that a legal hold locks, and so hides them (hard case 3)",
            "a copy is as old as the move, and the period counts from receipt: S3 would be late by the time in between",
        ),
        _LEAVE_TO_RUNS,
    )


def _logs(policy: Policy, dataset: Logs) -> Place:
    return Place(
        dataset.bucket,
        dataset.prefix,
        dataset.id,
        (_leftovers(dataset.id, dataset.prefix, policy.strictest(dataset.category)),),
        (
            "one object holds records of many accounts and tiers: with it S3 would take lines that a hold, a case or "
            "an agreement keeps",
        ),
        _LEAVE_TO_RUNS,
    )
