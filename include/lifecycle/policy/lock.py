"""What a locked policy still allows: a maximum may become shorter, a minimum longer, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Kind, Policy, Rule
from lifecycle.policy.periods import Period

# What a rule is. Its period may move one way, and its `basis` is a quotation.
_FIXED = ("category", "tiers", "trigger", "kind", "clock", "disposition", "instead_of")


def no_longer(new: Period, old: Period) -> bool:
    """Whether ``new`` ends no later than ``old`` from whatever day both are counted."""
    if new.months <= old.months and new.days <= old.days and new.seconds <= old.seconds:
        return True
    return _longest(new) <= old.shortest()


def _longest(period: Period) -> timedelta:
    """A year has at most 366 days, which twelve times 31 would overstate."""
    years, months = divmod(period.months, 12)
    return timedelta(days=years * 366 + months * 31 + period.days, seconds=period.seconds)


def violations(old: Policy, new: Policy) -> Iterator[Contradiction]:
    """Everything in ``new`` that the lock of ``old`` forbids; the paths are those of the new file."""
    if not old.locked:
        return
    if not new.locked:
        yield Contradiction(
            ("locked",), "the policy in force is locked, and a lock is never removed", "Write locked: true"
        )
    yield from _rules(old, new)
    if new.precedence != old.precedence:
        shown = ", ".join(old.precedence)
        yield Contradiction(("precedence",), "the order is locked", f"Write precedence: [{shown}]")
    yield from _figures(old, new)


def _rules(old: Policy, new: Policy) -> Iterator[Contradiction]:
    known = {rule.id: rule for rule in old.rules}
    for index, rule in enumerate(new.rules):
        if rule.id not in known:
            yield Contradiction(
                ("rules", index, "id"), f"rule {rule.id} is new, and the rules are locked", f"Remove rule {rule.id}"
            )
        else:
            yield from _rule(known[rule.id], rule, index)
    for missing in [rule for rule in old.rules if rule.id not in {rule.id for rule in new.rules}]:
        yield Contradiction(
            ("rules",), f"rule {missing.id} is missing, and the rules are locked", f"Put rule {missing.id} back"
        )


def _rule(old: Rule, new: Rule, index: int) -> Iterator[Contradiction]:
    for name in _FIXED:
        before, after = getattr(old, name), getattr(new, name)
        if (set(before) != set(after)) if isinstance(before, tuple) else before != after:
            shown = f"[{', '.join(before)}]" if isinstance(before, tuple) else before
            yield Contradiction(
                ("rules", index, name), f"rule {new.id}: {name} is locked", f"Write {name}: {shown or 'nothing'}"
            )
    if old.period is None or new.period is None:
        if old.period != new.period:
            remedy = f"Write period: {old.period}" if old.period else "Remove the period"
            yield Contradiction(("rules", index, "period"), f"rule {new.id}: the period is locked", remedy)
        return
    allowed, words = {
        Kind.MAXIMUM: (no_longer(new.period, old.period), "a locked maximum can only be shortened"),
        Kind.MINIMUM: (no_longer(old.period, new.period), "a locked minimum can only be lengthened"),
        Kind.BOTH: (new.period == old.period, "a locked period that is both minimum and maximum cannot change"),
    }[old.kind]
    if not allowed:
        longer = {Kind.MAXIMUM: " or less", Kind.MINIMUM: " or more", Kind.BOTH: ""}[old.kind]
        yield Contradiction(
            ("rules", index, "period"),
            f"rule {new.id}: {words}, and {new.period} is not ({old.period} is in force)",
            f"Write period: {old.period}{longer}",
        )


def _figures(old: Policy, new: Policy) -> Iterator[Contradiction]:
    """What protects the rules: the lead may only grow, and what asks for approval may only become stricter."""
    for name in type(old.lead).model_fields:
        before, after = getattr(old.lead, name), getattr(new.lead, name)
        if not no_longer(before, after):
            yield Contradiction(
                ("lead", name),
                f"the lead is locked and can only grow ({before} is in force)",
                f"Write {name}: {before}",
            )
    for path, before, fine in _limits(old, new):
        if not fine:
            yield Contradiction(path, f"is locked ({before} is in force)", f"Write {path[-1]}: {before} or stricter")


def _limits(old: Policy, new: Policy) -> Iterator[tuple[tuple[str, str], object, bool]]:
    for name in ("records", "share"):
        was, now = getattr(old.approval, name), getattr(new.approval, name)
        yield ("approval", name), was, now <= was
    yield ("approval", "four_eyes"), old.approval.four_eyes, new.approval.four_eyes >= old.approval.four_eyes
    fewer = not old.approval.approvers or (
        bool(new.approval.approvers) and set(new.approval.approvers) <= set(old.approval.approvers)
    )
    yield ("approval", "approvers"), f"[{', '.join(old.approval.approvers)}]", fewer
    for name in ("floor", "records", "share", "factor", "history"):
        was, now = getattr(old.limits, name), getattr(new.limits, name)
        yield ("limits", name), was, now <= was
    yield (
        ("thresholds", "k_anonymity"),
        old.thresholds.k_anonymity,
        new.thresholds.k_anonymity >= old.thresholds.k_anonymity,
    )
    yield (
        ("thresholds", "orphan_margin"),
        old.thresholds.orphan_margin,
        new.thresholds.orphan_margin == old.thresholds.orphan_margin,
    )


def loosened(old: Policy, new: Policy) -> tuple[str, ...]:
    """What a change takes away of the safeguards themselves: it never approves itself, however few records it touches.

    What keeps records longer than before, or protects them for less long, is among them: on the day of the change no
    record need be due by either, so that there is nothing to count, and the promise is another from then on.

    Returns:
        names of sections and rules: stricter figures of ``approval`` and ``limits``, the lock, the lead, and rules.
    """
    found = [".".join(path) for path, _, fine in _limits(old, new) if not fine and path[0] != "thresholds"]
    if old.locked and not new.locked:
        found.append("locked")
    if new.precedence != old.precedence:
        found.append("precedence")
    found.extend(
        f"lead.{name}"
        for name in type(old.lead).model_fields
        if not no_longer(getattr(old.lead, name), getattr(new.lead, name))
    )
    found.extend(f"rules.{rule.id}" for rule in old.rules if not _still_there(rule, new))
    found.extend(f"rules.{rule.id}" for rule in new.rules if rule.id not in {each.id for each in old.rules})
    return tuple(dict.fromkeys(found))


def _still_there(rule: Rule, new: Policy) -> bool:
    """Whether the new policy has the rule as it was, save for a period that promises more than before."""
    other = next((item for item in new.rules if item.id == rule.id), None)
    return other is not None and next(_rule(rule, other, 0), None) is None
