"""A decision in sentences that a lawyer can read: the same in command line, console and docs/explain.md. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lifecycle.explain.lead import in_words, lead_sentence, promise
from lifecycle.policy.counterfactual import after
from lifecycle.policy.decide import UNCLASSIFIED, Considered, Decision, Fact, decide, in_force
from lifecycle.policy.models import Category, Clock, Disposition, Kind, Policy, Rule, Trigger

QUARANTINED = "quarantine"
_DAY = timedelta(days=1)
_ACTS = {Disposition.DELETE: "deleted", Disposition.DEIDENTIFY: "de-identified"}
_NOUNS = {
    Trigger.HOLD: "a legal hold",
    Trigger.CASE: "a usage-policy case",
    Trigger.FLAG: "a safety flag",
    Trigger.ERASURE: "an erasure request",
    Trigger.CONSENT: "a submission",
    Trigger.AGREEMENT: "an agreement",
}
_ENDED = {
    Trigger.HOLD: "was released",
    Trigger.CASE: "was closed",
    Trigger.FLAG: "was cleared",
    Trigger.CONSENT: "was withdrawn",
    Trigger.AGREEMENT: "ended",
    Trigger.ERASURE: "was completed",
}
_EVENTS = {
    Clock.RECEIVED: "received",
    Clock.SCORED: "scored",
    Clock.SUBMITTED: "submitted",
    Clock.LAST_INTERACTION: "last used",
    Clock.ADDED: "added",
}
_OPEN_END = {
    Trigger.HOLD: "Kept until the hold is released",
    Trigger.CASE: "Kept until the case is closed",
    Trigger.DEFAULT: "Kept as long as its basis holds",
}


@dataclass(frozen=True)
class Case:
    """One record with everything that its fate depends on. ``location``: app, quarantine, or another place's name."""

    category: Category
    tier: str
    clock: datetime
    facts: Sequence[Fact]
    policy: Policy
    as_of: datetime
    location: str = "app"

    @property
    def decision(self) -> Decision:
        return decide(self.category, self.tier, self.clock, self.facts, self.policy, self.as_of)


def day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def tell(case: Case) -> str:
    """What happens to the record, until when, why, what is outranked, when a run takes it, and what comes after."""
    return "\n".join(sentences(case))


def sentences(case: Case) -> Iterator[str]:
    """The text of `tell`, sentence by sentence."""
    decision = case.decision
    trigger = winning_trigger(case, decision)
    outranked = "".join(f"; {_noun(case, lost)} is outranked" for lost in _outranked(case, decision))
    yield f"{_fate(case, decision, trigger)} because {_why(case, trigger)} ({_cited(case, decision)}){outranked}."
    yield from _place(case, decision)
    yield from _taken(case, decision, trigger)
    if trigger in (Trigger.HOLD, Trigger.CASE, Trigger.CONSENT) and not decision.due:
        yield from _afterwards(case, trigger)
    yield from _ended(case)
    rule = _rule_of(case, decision)
    if rule is not None:
        yield f"The policy says: '{rule.basis}'."
    if decision.deadline is not None and rule is not None and rule.kind is Kind.MAXIMUM:
        yield lead_sentence(case.policy.lead)


def winning_trigger(case: Case, decision: Decision) -> Trigger:
    """What decided: the trigger of the rule that won."""
    winner = next((found for found in decision.rules if found.wins), None)
    return _trigger_of(case, winner) if winner is not None else Trigger.DEFAULT


def _trigger_of(case: Case, found: Considered) -> Trigger:
    return case.policy.rule(found.rule).trigger


def _is_own(case: Case, trigger: Trigger) -> bool:
    """Feedback is decided by its own submission, everything by its tier's default: no exception is named."""
    return trigger is Trigger.DEFAULT or (trigger is Trigger.CONSENT and case.category is Category.FEEDBACK)


def _outranked(case: Case, decision: Decision) -> list[Trigger]:
    found = [_trigger_of(case, other) for other in decision.rules if other.applies and not other.wins]
    return [trigger for trigger in found if not _is_own(case, trigger)]


def _rule_of(case: Case, decision: Decision) -> Rule | None:
    """The rule whose period and sentence are quoted: the strictest default for an unknown tier."""
    if decision.rule == UNCLASSIFIED:
        return case.policy.strictest(case.category) if decision.rules else None
    return case.policy.rule(decision.rule)


def _cited(case: Case, decision: Decision) -> str:
    rule = _rule_of(case, decision)
    if rule is None:
        return f"rule {decision.rule}"
    timed = case.policy.rule(rule.instead_of) if rule.instead_of is not None else rule
    why = ", the strictest because its tier is unknown" if decision.rule == UNCLASSIFIED else ""
    return f"rule {decision.rule}, '{promise(timed)}'{why}"


def _active(case: Case, trigger: Trigger) -> list[Fact]:
    """The facts of one kind that count, earliest first; of agreements the one that is in effect."""
    rule = _any_rule(case, trigger)
    if rule is None:
        return []
    named = [fact for fact in case.facts if fact.trigger is trigger and in_force(fact, case.clock, rule, case.as_of)]
    if trigger is Trigger.AGREEMENT and named:
        latest = max(fact.began for fact in named)
        return [fact for fact in named if fact.began == latest]
    return sorted(named, key=lambda fact: fact.began)


def _any_rule(case: Case, trigger: Trigger) -> Rule | None:
    for rule in case.policy.rules:
        if rule.trigger is trigger and case.category in rule.category and rule.instead_of is None:
            return rule
    return None


def _noun(case: Case, trigger: Trigger) -> str:
    active = _active(case, trigger)
    return f"{_NOUNS[trigger]} of {day(active[0].began)}" if active else _NOUNS[trigger]


def _why(case: Case, trigger: Trigger) -> str:
    rule = _any_rule(case, trigger)
    if _is_own(case, trigger):
        event = _EVENTS.get(rule.clock, "recorded") if rule is not None else "recorded"
        return f"it was {event} on {day(case.clock)}"
    match trigger:
        case Trigger.HOLD:
            return f"{_noun(case, trigger)} is in force"
        case Trigger.CASE:
            return f"{_noun(case, trigger)} is open"
        case Trigger.FLAG:
            return "a safety classifier flagged it"
        case Trigger.ERASURE:
            return f"{_noun(case, trigger)} covers it"
        case Trigger.CONSENT:
            return f"it belongs to {_noun(case, trigger)} that was consented to"
        case _:
            shortest = min(
                (fact.retain for fact in _active(case, trigger) if fact.retain is not None),
                key=lambda retain: retain.end(case.clock, round_up=False),
            )
            return f"{_noun(case, trigger)} sets {in_words(shortest)} from receipt"


def _fate(case: Case, decision: Decision, trigger: Trigger) -> str:
    deadline = decision.deadline
    if decision.due:
        act = _ACTS[decision.disposition]
        if deadline is None or (deadline < case.as_of and _only_just_came(case)):
            return f"To be {act} by the next run"
        if deadline < case.as_of:
            return f"Overdue since {day(deadline)}, to be {act} by the next run,"
        return f"To be {act} by {day(deadline)}"
    if deadline is None:
        return _OPEN_END.get(trigger, "Kept")
    return f"Kept until {day(deadline)}"


def _only_just_came(case: Case) -> bool:
    """Terms shorter than the lead are not late before a run could act on them."""
    return case.clock + case.policy.lead.total.longest() > case.as_of


def _place(case: Case, decision: Decision) -> Iterator[str]:
    if decision.disposition is Disposition.QUARANTINE:
        if case.location == QUARANTINED:
            yield "It lies in quarantine until then."
        elif case.location == "app":
            yield "The next run moves it into quarantine, where it stays until then."
    elif case.location == QUARANTINED and not decision.due:
        held = winning_trigger(case, decision) is Trigger.HOLD
        yield "It lies in quarantine, and stays there." if held else "The next run takes it out of quarantine."


def taken_after(case: Case, decision: Decision) -> datetime | None:
    """The first run whose as-of lies after this instant takes the record, if nothing changes. None: no run does."""
    rule = _rule_of(case, decision)
    if decision.due or decision.deadline is None or rule is None:
        return None
    if rule.trigger in (Trigger.HOLD, Trigger.CASE) or (
        rule.trigger is Trigger.CONSENT and case.category is not Category.FEEDBACK
    ):
        return None
    if rule.round_up:
        return decision.deadline
    return decision.deadline - case.policy.lead.total.longest()


def _taken(case: Case, decision: Decision, trigger: Trigger) -> Iterator[str]:
    """On which day a run takes it. Messages go at midnight UTC where the schedule interval is a day."""
    instant = taken_after(case, decision)
    if decision.due and decision.deadline is not None and decision.deadline >= case.as_of:
        yield "The next run takes it, ahead of the deadline."
    if instant is None:
        return
    instant = max(instant, case.clock)
    midnight = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    nightly = case.category is Category.PROMPTS_AND_OUTPUTS and case.policy.lead.schedule_interval.longest() == _DAY
    run = f"The run of {midnight:%Y-%m-%d}" if nightly else f"The first run after {instant:%Y-%m-%d %H:%M} UTC"
    act = "de-identifies" if _then_deidentified(case, trigger) else "deletes"
    rule = _rule_of(case, decision)
    ahead = rule is not None and rule.kind is Kind.MAXIMUM
    lead = f", at most {in_words(case.policy.lead.total)} ahead of the deadline" if ahead else ""
    yield f"{run} {act} it{lead}."


def _then_deidentified(case: Case, trigger: Trigger) -> bool:
    if trigger is not Trigger.DEFAULT:
        return False
    if case.category is Category.ACCOUNT_DATA:
        return True
    return any(r.instead_of is not None and case.tier in {t.value for t in r.tiers} for r in case.policy.rules)


def _afterwards(case: Case, trigger: Trigger) -> Iterator[str]:
    """The next rule applies at once when a higher one ends (RULES.md, precedence)."""
    following = Case(
        case.category, case.tier, case.clock, case.facts, after(case.policy, trigger), case.as_of, case.location
    )
    decision = following.decision
    if decision.deadline is None:
        return
    when = day(decision.deadline)
    if decision.due and decision.deadline < case.as_of:
        yield f"When that ends, rule {decision.rule} applies, whose deadline was {when}: the next run takes it at once."
    elif decision.due:
        yield f"When that ends, rule {decision.rule} applies, whose deadline is {when}: the next run takes it."
    else:
        yield f"When that ends, rule {decision.rule} applies, and keeps it until {when}."


def _made_late(case: Case, fact: Fact) -> str:
    """What ended after the deadline is why a record is late (hard case 5)."""
    decision = case.decision
    late = decision.due and decision.deadline is not None and decision.deadline < case.as_of
    after_it = decision.deadline is not None and fact.ended is not None and fact.ended > decision.deadline
    return "; it ended after the deadline, and is why this is late" if late and after_it else ""


def _ended(case: Case) -> Iterator[str]:
    """What used to concern the record, or does not concern it yet."""
    for fact in sorted(case.facts, key=lambda fact: (case.policy.precedence.index(fact.trigger), fact.began)):
        rule = _any_rule(case, fact.trigger)
        concerns = any(found.rule == rule.id for found in case.decision.rules) if rule is not None else False
        if rule is None or not concerns or in_force(fact, case.clock, rule, case.as_of):
            continue
        noun = f"{_NOUNS[fact.trigger]} of {day(fact.began)}"
        noun = noun[0].upper() + noun[1:]
        if fact.began > case.as_of and fact.trigger is Trigger.AGREEMENT:
            yield f"{noun} is not in effect yet."
        elif fact.trigger is Trigger.ERASURE and fact.ended is not None:
            yield f"{noun} was completed on {day(fact.ended)}, before this came."
        elif fact.ended is not None and fact.ended <= case.as_of:
            yield f"{noun} {_ENDED[fact.trigger]} on {day(fact.ended)} and no longer counts{_made_late(case, fact)}."
        else:
            yield f"{noun} has run out and no longer counts."
