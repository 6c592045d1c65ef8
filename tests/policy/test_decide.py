"""`decide`, the one definition of a record's fate: by tables, at every boundary, and against the oracle of RULES.md.

Pure and fast: these are the tests that judge mutants of the core (docs/mutation.md). Cases 1, 5, 8, 10, 11, 23.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.policy.decide import (
    UNCLASSIFIED,
    Considered,
    Decision,
    Fact,
    decide,
    horizon,
    in_force,
    rule_for_unknown_tier,
)
from lifecycle.policy.models import Category, Disposition, Policy, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.shipped import SHIPPED_POLICY, shipped
from oracle.dates import TICK, add_months, months_before, utc
from oracle.facts import Agreement, Case, Erasure, Feedback, Flag, Hold, Message, Retain, World, ident
from oracle.oracle import AGREEMENT, CASE, CONSENT, ERASURE, FLAG, HOLD, Judge, Place
from oracle.terms import SHIPPED

DATA: dict[str, Any] = yaml.safe_load(shipped(SHIPPED_POLICY).read_text(encoding="utf-8"))
POLICY = Policy.model_validate(DATA)
MESSAGES = Category.PROMPTS_AND_OUTPUTS
DAY = timedelta(days=1)
NOW = utc(2026, 11, 1, 12)
LEAD = SHIPPED.lead
LONG_AGO = NOW - 200 * DAY
TIERS = ("consumer", "beta", "evaluation", "business", "prototype")

KEEP, DELETE, QUARANTINE, DEIDENTIFY = (
    Disposition.KEEP,
    Disposition.DELETE,
    Disposition.QUARANTINE,
    Disposition.DEIDENTIFY,
)


def fate(
    tier: str, clock: datetime, *facts: Fact, category: Category = MESSAGES, policy: Policy = POLICY
) -> tuple[str, Disposition, bool, datetime | None]:
    found = decide(category, tier, clock, facts, policy, NOW)
    return found.rule, found.disposition, found.due, found.deadline


def policy_with(**periods: str) -> Policy:
    """The shipped policy with other periods."""
    rules = [rule | ({"period": periods[rule["id"]]} if rule["id"] in periods else {}) for rule in DATA["rules"]]
    return Policy.model_validate(DATA | {"rules": rules})


# Defaults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy_lead", [("P1D", 3), ("P2D", 4), ("P0D", 2)])
def test_the_horizon_is_as_of_plus_every_term_of_the_lead(policy_lead: tuple[str, int]) -> None:
    text, days = policy_lead
    policy = Policy.model_validate(DATA | {"lead": DATA["lead"] | {"failed_runs": text}})
    assert horizon(policy, NOW) == NOW + timedelta(days=days)


def test_the_horizon_rounds_up_in_months() -> None:
    """Whoever keeps backups for a month counts from the 31st to the first, not to the 28th."""
    rules = [r | ({"period": "P200D"} if r["kind"] == "maximum" and "period" in r else {}) for r in DATA["rules"]]
    policy = Policy.model_validate(DATA | {"lead": DATA["lead"] | {"backup_retention": "P1M"}, "rules": rules})
    assert horizon(policy, utc(2026, 1, 31)) == utc(2026, 3, 4)


@pytest.mark.parametrize(
    ("tier", "days", "rule", "gone", "gone_rule"),
    [
        ("consumer", 90, "consumer_default", DELETE, "consumer_default"),
        ("beta", 90, "consumer_default", DELETE, "consumer_default"),
        ("evaluation", 90, "consumer_default", DEIDENTIFY, "research"),
        ("business", 28, "business_default", DELETE, "business_default"),
        ("prototype", 28, UNCLASSIFIED, DELETE, UNCLASSIFIED),
    ],
)
def test_a_default_is_due_a_lead_before_its_deadline_case_1_10_23(
    tier: str, days: int, rule: str, gone: Disposition, gone_rule: str
) -> None:
    clock = NOW + LEAD - days * DAY
    assert fate(tier, clock) == (rule, KEEP, False, NOW + LEAD)
    assert fate(tier, clock + TICK) == (rule, KEEP, False, NOW + LEAD + TICK)
    assert fate(tier, clock - TICK) == (gone_rule, gone, True, NOW + LEAD - TICK)


@pytest.mark.parametrize("tier", TIERS)
def test_what_arrives_at_or_after_as_of_is_out_of_scope(tier: str) -> None:
    """Even where the terms leave no time at all: the next run's business, not this one's (case 8)."""
    at_once = Fact(Trigger.AGREEMENT, LONG_AGO, None, Period())
    for clock in (NOW, NOW + TICK):
        assert decide(MESSAGES, tier, clock, [at_once], POLICY, NOW).disposition is KEEP
        assert not decide(MESSAGES, tier, clock, [at_once], POLICY, NOW).due
    due = decide(MESSAGES, tier, NOW - TICK, [at_once], POLICY, NOW).due
    assert due == (tier == "business")


@pytest.mark.parametrize(
    ("category", "months", "rule", "gone"),
    [
        (Category.SAFETY_SCORES, 84, "safety_scores", DELETE),
        (Category.FEEDBACK, 120, "feedback", DELETE),
        (Category.ACCOUNT_DATA, 36, "account_data", DEIDENTIFY),
    ],
)
def test_what_is_both_goes_only_after_its_end(category: Category, months: int, rule: str, gone: Disposition) -> None:
    clock = months_before(NOW, months)
    for tier in Tier:
        assert fate(tier, clock, category=category) == (rule, KEEP, False, NOW)
        assert fate(tier, clock - TICK, category=category) == (rule, gone, True, NOW - TICK)


def test_a_default_without_a_period_keeps() -> None:
    """Training examples end with their basis, which the policy names and the shell looks up."""
    assert fate("consumer", LONG_AGO, category=Category.TRAINING_USE) == ("training_use", KEEP, False, None)


def test_a_category_that_no_rule_covers_is_kept_and_called_unclassified() -> None:
    assert decide(Category.RESEARCH, "beta", LONG_AGO, [], POLICY, NOW) == Decision(UNCLASSIFIED, KEEP, False, None, ())


@pytest.mark.parametrize("clock", [NOW, NOW + TICK, NOW + DAY])
def test_no_period_however_short_reaches_what_has_not_arrived_case_8(clock: datetime) -> None:
    """A policy file with such a period is refused; the core does not rely on it."""
    short = {"consumer_default": Period(days=1), "safety_flagged": Period(days=1)}
    rules = tuple(
        rule.model_copy(update={"period": short[rule.id]}) if rule.id in short else rule for rule in POLICY.rules
    )
    hasty = POLICY.model_copy(update={"rules": rules})
    flag = Fact(Trigger.FLAG, NOW - DAY)
    assert fate("beta", clock, policy=hasty) == ("consumer_default", KEEP, False, clock + DAY)
    assert fate("beta", clock, flag, policy=hasty) == ("safety_flagged", KEEP, False, clock + DAY)
    assert fate("beta", NOW - TICK, policy=hasty)[1:3] == (DELETE, True)
    assert fate("beta", NOW - TICK, flag, policy=hasty)[1:3] == (DELETE, True)


def test_a_consent_may_keep_other_data_too() -> None:
    """Only a submission is itself what was consented to; to everything else the consent is an exception."""
    categories = [*DATA["rules"][[r["id"] for r in DATA["rules"]].index("feedback")]["category"], "account_data"]
    rules = [rule | ({"category": categories} if rule["id"] == "feedback" else {}) for rule in DATA["rules"]]
    policy = Policy.model_validate(DATA | {"rules": rules})
    old = months_before(NOW, 37)
    fact = Fact(Trigger.CONSENT, NOW - DAY)
    assert fate("beta", old, category=Category.ACCOUNT_DATA, policy=policy)[:2] == ("account_data", DEIDENTIFY)
    assert fate("beta", old, fact, category=Category.ACCOUNT_DATA, policy=policy)[:2] == ("feedback", KEEP)


def test_what_is_decided_cannot_be_changed() -> None:
    found = decide(MESSAGES, "beta", LONG_AGO, [], POLICY, NOW)
    for record, field in ((found, "due"), (found.rules[0], "wins"), (Fact(Trigger.HOLD, NOW), "ended")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, field, None)


def test_a_record_cannot_fall_due_before_it_exists() -> None:
    """A period shorter than nothing there is; but a clock in the future has none either."""
    for category in (Category.SAFETY_SCORES, Category.FEEDBACK, Category.ACCOUNT_DATA):
        assert fate("beta", NOW + DAY, category=category)[1:3] == (KEEP, False)


# Exceptions --------------------------------------------------------------------------------------------------------

OPEN_ENDED = [Trigger.HOLD, Trigger.CASE, Trigger.FLAG, Trigger.CONSENT]


@pytest.mark.parametrize("trigger", OPEN_ENDED)
@pytest.mark.parametrize(("ended", "counts"), [(None, True), (NOW + TICK, True), (NOW, False), (NOW - TICK, False)])
def test_what_keeps_counts_until_its_end_however_late_it_was_entered_case_5(
    trigger: Trigger, ended: datetime | None, counts: bool
) -> None:
    tier = Tier.BUSINESS if trigger is Trigger.CASE else Tier.CONSUMER
    rule = POLICY.rule_for(trigger, MESSAGES, tier)
    assert rule is not None
    began = [NOW - DAY, NOW, NOW + TICK, NOW + DAY]
    assert [in_force(Fact(trigger, at, ended), LONG_AGO, rule, NOW) for at in began] == [counts] * 4
    assert (fate(tier.value, LONG_AGO, Fact(trigger, NOW - DAY, ended))[0] == rule.id) == counts


def test_an_erasure_reaches_what_is_not_younger_than_its_completion() -> None:
    rule = POLICY.rule("erasure_request")
    completed = NOW - 5 * DAY
    fact = Fact(Trigger.ERASURE, NOW - 6 * DAY, completed)
    reached = [in_force(fact, completed + shift, rule, NOW) for shift in (-TICK, timedelta(0), TICK)]
    assert reached == [True, True, False]
    assert in_force(replace(fact, ended=None), NOW - TICK, rule, NOW)


@pytest.mark.parametrize(("shift", "counts"), [(-TICK, False), (timedelta(0), True), (TICK, True)])
def test_a_consent_counts_for_ten_years_from_submission(shift: timedelta, counts: bool) -> None:
    given_at = months_before(NOW, 120) + shift
    assert (fate("consumer", LONG_AGO, Fact(Trigger.CONSENT, given_at))[0] == "feedback") == counts


@pytest.mark.parametrize(
    ("began", "ended", "counts"),
    [
        (NOW - TICK, None, True),
        (NOW, None, True),
        (NOW + TICK, None, False),
        (NOW - DAY, NOW + TICK, True),
        (NOW - DAY, NOW, False),
        (NOW - DAY, NOW - TICK, False),
    ],
)
def test_an_agreement_is_in_effect_from_its_beginning_to_its_end(
    began: datetime, ended: datetime | None, counts: bool
) -> None:
    fact = Fact(Trigger.AGREEMENT, began, ended, Period(days=365))
    assert (fate("business", LONG_AGO, fact)[0] == "business_agreement") == counts


def test_an_agreement_that_is_over_says_so() -> None:
    fact = Fact(Trigger.AGREEMENT, NOW - DAY, NOW, Period(days=365))
    considered = decide(MESSAGES, "business", LONG_AGO, [fact], POLICY, NOW).rules
    assert considered[0] == Considered("business_agreement", False, False, "has ended", None)
    assert [c.rule for c in considered] == ["business_agreement", "business_default"]


@pytest.mark.parametrize(
    ("retains", "days"),
    [
        ([(2, 7), (1, 365)], 365),
        ([(1, 365), (2, 7)], 365),
        ([(2, 365), (1, 7)], 7),
        ([(1, 60), (1, 30)], 30),
        ([(1, 30), (1, 60)], 30),
        ([(1, 0), (1, 1)], 0),
    ],
)
def test_the_latest_agreement_counts_and_of_equals_the_shortest(retains: list[tuple[int, int]], days: int) -> None:
    facts = [Fact(Trigger.AGREEMENT, NOW - ago * DAY, None, Period(days=length)) for ago, length in retains]
    clock = NOW - 10 * DAY
    assert fate("business", clock, *facts)[3] == clock + days * DAY
    assert fate("business", clock, *facts)[2] == (days < 13)


def test_the_shortest_agreement_is_the_one_that_ends_first_for_this_record() -> None:
    """A year is shorter than 366 days, unless 29 February lies in it; which one ends first depends on the receipt."""
    year = Fact(Trigger.AGREEMENT, LONG_AGO, None, Period(months=12))
    days = Fact(Trigger.AGREEMENT, LONG_AGO, None, Period(days=366))
    for facts in ([year, days], [days, year]):
        assert fate("business", utc(2026, 1, 5), *facts)[3] == utc(2027, 1, 5)
    longer = Fact(Trigger.AGREEMENT, LONG_AGO, None, Period(days=365))
    for facts in ([year, longer], [longer, year]):
        assert fate("business", utc(2024, 1, 5), *facts)[3] == utc(2025, 1, 4)


def test_an_agreement_without_a_length_is_over_at_once() -> None:
    clock = NOW - DAY
    assert fate("business", clock, Fact(Trigger.AGREEMENT, LONG_AGO)) == ("business_agreement", DELETE, True, clock)
    both = [Fact(Trigger.AGREEMENT, LONG_AGO, None, Period(days=9)), Fact(Trigger.AGREEMENT, LONG_AGO)]
    assert fate("business", clock, *both)[3] == clock


def test_an_agreed_maximum_runs_a_lead_ahead_and_rounds_down_case_11() -> None:
    month = Fact(Trigger.AGREEMENT, LONG_AGO, None, Period(months=1))
    clock = add_months(NOW + LEAD, -1, up=False)
    assert fate("business", clock, month) == ("business_agreement", KEEP, False, NOW + LEAD)
    assert fate("business", clock - TICK, month) == ("business_agreement", DELETE, True, NOW + LEAD - TICK)
    since_2020 = Fact(Trigger.AGREEMENT, utc(2020, 1, 1), None, Period(months=1))
    leap = decide(MESSAGES, "business", utc(2026, 1, 30), [since_2020], POLICY, utc(2026, 2, 20))
    assert (leap.rule, leap.deadline) == ("business_agreement", utc(2026, 2, 28))


def test_a_flag_means_quarantine_at_once_and_two_years_from_receipt() -> None:
    flag = Fact(Trigger.FLAG, NOW - DAY)
    clock = months_before(NOW + LEAD, 24)
    for tier in ("consumer", "beta", "evaluation"):
        assert fate(tier, NOW - TICK, flag)[:3] == ("safety_flagged", QUARANTINE, False)
        assert fate(tier, clock, flag) == ("safety_flagged", QUARANTINE, False, NOW + LEAD)
        assert fate(tier, clock + TICK, flag)[:3] == ("safety_flagged", QUARANTINE, False)
        assert fate(tier, clock - TICK, flag) == ("safety_flagged", DELETE, True, NOW + LEAD - TICK)
        assert fate(tier, NOW, flag)[:3] == ("safety_flagged", KEEP, False)
    assert fate("business", NOW - DAY, flag)[:3] == ("business_default", KEEP, False)


def test_a_request_is_due_at_once_and_its_service_level_counts_from_the_first() -> None:
    asked = [Fact(Trigger.ERASURE, NOW - 2 * DAY), Fact(Trigger.ERASURE, NOW - 3 * DAY)]
    for facts in (asked, asked[::-1]):
        assert fate("beta", NOW - TICK, *facts) == ("erasure_request", DELETE, True, NOW + 4 * DAY)
        assert fate("beta", NOW, *facts)[:3] == ("erasure_request", KEEP, False)


@pytest.mark.parametrize(("trigger", "tier"), [(Trigger.HOLD, "consumer"), (Trigger.CASE, "business")])
def test_what_keeps_without_end_has_no_deadline_and_with_ends_the_last(trigger: Trigger, tier: str) -> None:
    soon, later = Fact(trigger, LONG_AGO, NOW + DAY), Fact(trigger, LONG_AGO, NOW + 2 * DAY)
    endless = Fact(trigger, LONG_AGO)
    assert fate(tier, LONG_AGO, endless)[1:] == (KEEP, False, None)
    assert fate(tier, LONG_AGO, soon, later)[1:] == (KEEP, False, NOW + 2 * DAY)
    assert fate(tier, LONG_AGO, later, soon)[1:] == (KEEP, False, NOW + 2 * DAY)
    assert fate(tier, LONG_AGO, later, endless, soon)[1:] == (KEEP, False, None)


def test_the_longest_consent_keeps() -> None:
    given_at = [months_before(NOW, 60), months_before(NOW, 12), months_before(NOW, 24)]
    facts = [Fact(Trigger.CONSENT, at) for at in given_at]
    assert fate("consumer", LONG_AGO, *facts)[1:] == (KEEP, False, add_months(given_at[1], 120, up=True))


def test_a_submission_counts_from_itself_not_from_consents() -> None:
    """A feedback row goes after ten years, also when it was withdrawn, whatever else was submitted."""
    clock = months_before(NOW, 120) - TICK
    fact = Fact(Trigger.CONSENT, NOW - DAY, NOW - TICK)
    assert fate("beta", clock, fact, category=Category.FEEDBACK) == ("feedback", DELETE, True, NOW - TICK)
    assert fate("beta", clock + TICK, fact, category=Category.FEEDBACK) == ("feedback", KEEP, False, NOW)


# Precedence and explanation ----------------------------------------------------------------------------------------

EVERYTHING = {
    Trigger.HOLD: Fact(Trigger.HOLD, LONG_AGO),
    Trigger.CASE: Fact(Trigger.CASE, LONG_AGO),
    Trigger.FLAG: Fact(Trigger.FLAG, LONG_AGO),
    Trigger.ERASURE: Fact(Trigger.ERASURE, LONG_AGO),
    Trigger.CONSENT: Fact(Trigger.CONSENT, LONG_AGO),
    Trigger.AGREEMENT: Fact(Trigger.AGREEMENT, LONG_AGO, None, Period(days=7)),
}
LADDERS = {
    "consumer": [
        (Trigger.HOLD, "legal_obligation"),
        (Trigger.FLAG, "safety_flagged"),
        (Trigger.ERASURE, "erasure_request"),
        (Trigger.CONSENT, "feedback"),
        (Trigger.DEFAULT, "consumer_default"),
    ],
    "business": [
        (Trigger.HOLD, "legal_obligation"),
        (Trigger.CASE, "usage_policy_enforcement"),
        (Trigger.ERASURE, "erasure_request"),
        (Trigger.CONSENT, "feedback"),
        (Trigger.AGREEMENT, "business_agreement"),
        (Trigger.DEFAULT, "business_default"),
    ],
    "prototype": [
        (Trigger.HOLD, "legal_obligation"),
        (Trigger.ERASURE, "erasure_request"),
        (Trigger.CONSENT, "feedback"),
        (Trigger.DEFAULT, "business_default"),
    ],
}
WORDS = {
    "legal_obligation": "a legal hold is in force",
    "usage_policy_enforcement": "a usage-policy case is open",
    "safety_flagged": "a safety classifier flagged it (P2Y from receipt)",
    "erasure_request": f"an erasure request of {LONG_AGO.date()} covers it",
    "feedback": "it belongs to a submission that was consented to",
    "business_agreement": "an agreement sets P7D",
    "consumer_default": "the rule of its tier and category (P90D)",
    "business_default": "the rule of its tier and category (P28D)",
}


@pytest.mark.parametrize("tier", LADDERS)
def test_when_a_higher_rule_ends_the_next_applies_at_once_and_every_loser_says_why(tier: str) -> None:
    ladder = LADDERS[tier]
    for step in range(len(ladder)):
        facts = [fact for trigger, fact in EVERYTHING.items() if trigger not in dict(ladder[:step])]
        found = decide(MESSAGES, tier, LONG_AGO, facts[::-1], POLICY, NOW)
        winner = ladder[step][1]
        assert found.rule == (UNCLASSIFIED if tier == "prototype" and step == len(ladder) - 1 else winner)
        assert [(c.rule, c.applies, c.wins) for c in found.rules] == [
            (name, True, place == 0) for place, (_, name) in enumerate(ladder[step:])
        ]
        assert found.rules[0].reason == WORDS[winner]
        assert found.rules[0].until == found.deadline
        assert [c.reason for c in found.rules[1:]] == [
            f"{WORDS[name]}; outranked by {winner}" for _, name in ladder[step + 1 :]
        ]


def test_the_order_is_the_policys_not_the_codes() -> None:
    turned = Policy.model_validate(
        DATA | {"precedence": ["hold", "consent", "agreement", "erasure", "flag", "case", "default"]}
    )
    facts = [fact for trigger, fact in EVERYTHING.items() if trigger is not Trigger.HOLD]
    assert fate("consumer", LONG_AGO, *facts, policy=turned)[0] == "feedback"
    del facts[[fact.trigger for fact in facts].index(Trigger.CONSENT)]
    assert fate("business", LONG_AGO, *facts, policy=turned)[0] == "business_agreement"
    assert fate("consumer", LONG_AGO, *facts, policy=turned)[0] == "erasure_request"


def test_ended_exceptions_are_named_as_ended_and_those_that_never_were_not_at_all() -> None:
    facts = [Fact(Trigger.HOLD, LONG_AGO, NOW), Fact(Trigger.FLAG, LONG_AGO, NOW - DAY)]
    found = decide(MESSAGES, "consumer", LONG_AGO, facts, POLICY, NOW)
    assert found.rules[:2] == (
        Considered("legal_obligation", False, False, "has ended", None),
        Considered("safety_flagged", False, False, "has ended", None),
    )
    assert [c.rule for c in found.rules[2:]] == ["consumer_default"]


def test_the_variant_names_itself_only_when_it_acts() -> None:
    assert fate("evaluation", NOW - DAY)[0] == "consumer_default"
    assert fate("evaluation", LONG_AGO)[0] == "research"
    assert fate("evaluation", LONG_AGO, EVERYTHING[Trigger.ERASURE])[:2] == ("erasure_request", DELETE)


@pytest.mark.parametrize("trigger", [Trigger.CASE, Trigger.FLAG, Trigger.AGREEMENT])
def test_rules_of_some_tiers_do_not_reach_an_unknown_one_case_23(trigger: Trigger) -> None:
    assert rule_for_unknown_tier(POLICY, trigger, MESSAGES) is None
    assert fate("prototype", LONG_AGO, EVERYTHING[trigger])[0] == UNCLASSIFIED


def test_rules_of_all_tiers_reach_an_unknown_one_and_the_strictest_default_does() -> None:
    for trigger, name in (
        (Trigger.HOLD, "legal_obligation"),
        (Trigger.ERASURE, "erasure_request"),
        (Trigger.CONSENT, "feedback"),
        (Trigger.DEFAULT, "business_default"),
    ):
        rule = rule_for_unknown_tier(POLICY, trigger, MESSAGES)
        assert rule is not None and rule.id == name
    loose = policy_with(business_default="P120D")
    strictest = rule_for_unknown_tier(loose, Trigger.DEFAULT, MESSAGES)
    assert strictest is not None and strictest.id == "consumer_default"
    assert rule_for_unknown_tier(POLICY, Trigger.HOLD, Category.RESEARCH) is None
    # Examples have a default without a period: their basis ends them.
    assert fate("prototype", LONG_AGO, category=Category.TRAINING_USE) == (UNCLASSIFIED, KEEP, False, None)
    assert decide(Category.SAFETY_SCORES, "prototype", LONG_AGO, [], POLICY, NOW).rule == UNCLASSIFIED


# Against the oracle ------------------------------------------------------------------------------------------------

# Ordinary days, the ends of February, leap days, and the days on which three days' lead crosses them.
INSTANTS = (utc(2025, 6, 15, 12, 34, 56, 789_012), utc(2026, 2, 25, 12), utc(2026, 3, 1, 10, 30), utc(2024, 2, 29))
RETAINS = (Retain(), Retain(days=1), Retain(days=7), Retain(days=60), Retain(days=365), Retain(months=1))


@dataclass(frozen=True)
class Case_:
    """One message, and everything that may befall it."""

    world: World
    facts: Sequence[Fact]
    as_of: datetime

    @property
    def message(self) -> Message:
        return self.world.messages[0]


@lru_cache
def _edges(as_of: datetime) -> list[datetime]:
    """Receipts, submissions and ends that lie on a boundary."""
    starts = [as_of + LEAD - days * DAY for days in (1, 7, 28, 60, 90, 365)]
    for months, at in ((24, as_of + LEAD), (120, as_of), (1, as_of + LEAD)):
        starts += [months_before(at, months), months_before(at + DAY, months) - DAY]
    return [start + shift for start in (*starts, as_of, as_of - 100 * DAY) for shift in (-TICK, timedelta(0), TICK)]


@st.composite
def cases(draw: st.DrawFn) -> Case_:
    as_of = draw(st.sampled_from(INSTANTS))
    edges = st.sampled_from(_edges(as_of))
    ends = st.sampled_from([None, None, as_of - TICK, as_of, as_of + TICK, as_of + DAY])
    m = Message(ident("m"), ident("c"), ident("a"), draw(st.sampled_from(TIERS)), "prompt", draw(edges))
    world = World(messages=(m,))
    facts: list[Fact] = []
    for trigger in draw(st.lists(st.sampled_from([t for t in Trigger if t is not Trigger.DEFAULT]), max_size=5)):
        n, began, ended = len(facts), draw(edges), draw(ends)
        retain = None
        match trigger:
            case Trigger.HOLD:
                scope = draw(st.sampled_from(["account", "conversation", "message"]))
                target = {"account": m.account_id, "conversation": m.conversation_id, "message": m.message_id}[scope]
                world += World(holds=(Hold(ident("h", n), scope, str(target), began, ended),))
            case Trigger.CASE:
                world += World(cases=(Case(ident("e", n), m.account_id, began, ended),))
            case Trigger.FLAG:
                if world.flags:
                    continue
                world += World(flags=(Flag(m.message_id, m.account_id, began, ended),))
            case Trigger.ERASURE:
                ended = draw(st.sampled_from([None, m.received_at - TICK, m.received_at, m.received_at + TICK]))
                world += World(erasures=(Erasure(ident("x", n), "message", str(m.message_id), began, ended, "done"),))
            case Trigger.CONSENT:
                given_ = Feedback(ident("f", n), m.account_id, m.conversation_id, None, began, ended)
                world += World(feedback=(given_,))
            case _:
                agreed = draw(st.sampled_from(RETAINS))
                began = draw(st.sampled_from([as_of - DAY, as_of - DAY, as_of, as_of + TICK]))
                retain = Period(months=agreed.months, days=agreed.days)
                world += World(agreements=(Agreement(ident("g", n), m.account_id, agreed, began, ended),))
        facts.append(Fact(trigger, began, ended, retain))
    return Case_(world, facts, as_of)


PLACES = {KEEP: Place.APP, QUARANTINE: Place.QUARANTINE, DELETE: Place.GONE, DEIDENTIFY: Place.DEIDENTIFIED}


@settings(deadline=None, derandomize=True, database=None)
@given(cases())
def test_every_decision_is_the_oracles(case: Case_) -> None:
    judge = Judge(case.world, case.as_of)
    verdict = judge.verdict(case.message)
    found = decide(MESSAGES, case.message.tier, case.message.received_at, case.facts, POLICY, case.as_of)
    assert PLACES[found.disposition] in verdict.places
    if verdict.rule == "later":
        return
    consented = verdict.rule == UNCLASSIFIED and bool(judge.consents(case.message.conversation_id))
    rule = CONSENT if consented else "research" if verdict.places == {Place.DEIDENTIFIED} else verdict.rule
    assert (found.rule, found.due) == (rule, verdict.due and not consented)
    if rule in (FLAG, ERASURE, AGREEMENT, "business_default", "consumer_default", "research", UNCLASSIFIED):
        assert found.deadline == judge.strikes(case.message)
    elif rule == CONSENT:
        assert found.deadline == max(SHIPPED.consent_end(f.submitted_at) for f in judge.consents(ident("c")))
    else:
        assert rule in (HOLD, CASE)
        ends = [
            fact.ended
            for fact in case.facts
            if fact.trigger is (Trigger.HOLD if rule == HOLD else Trigger.CASE)
            and (fact.ended is None or fact.ended > case.as_of)
        ]
        assert found.deadline == (None if None in ends else max(end for end in ends if end is not None))
    assert [c.rule for c in found.rules if c.wins] == [
        "consumer_default" if rule == "research" else "business_default" if rule == UNCLASSIFIED else rule
    ]
