"""The cut-off is the clock value before which `decide` says due: one boundary, to the µs (hard cases 1, 10)."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.planning.cutoffs import cutoff_for, cutoff_of
from lifecycle.planning.units import Method, Tally, choose_method, in_order, merge
from lifecycle.planning.units import Unit as PlanUnit
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.load import load_policy
from lifecycle.policy.models import Category, Disposition, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.shipped import SHIPPED_POLICY, shipped

POLICY = load_policy(shipped(SHIPPED_POLICY))
MESSAGES = Category.PROMPTS_AND_OUTPUTS
instants = st.integers(0, 15 * 365 * 86_400).map(lambda s: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=s))


@given(as_of=instants, tier=st.sampled_from([*Tier, None]), micros=st.integers(-2, 2))
def test_due_exactly_before_the_cutoff(as_of: datetime, tier: Tier | None, micros: int) -> None:
    found = cutoff_for(POLICY, MESSAGES, tier, as_of)
    clock = found.cutoff + timedelta(microseconds=micros)
    decision = decide(MESSAGES, tier or "enterprise", clock, [], POLICY, as_of)
    assert found.exact
    assert decision.due == (clock < found.cutoff)


def test_months_are_counted_back_from_the_horizon_and_are_not_exact() -> None:
    """A month can lack a day: near such a cut-off every record is decided by itself."""
    rules = tuple(
        rule.model_copy(update={"period": Period.parse("P3M2DT6H")}) if rule.id == "consumer_default" else rule
        for rule in POLICY.rules
    )
    policy = POLICY.model_copy(update={"rules": rules})
    as_of = datetime(2026, 5, 29, 12, tzinfo=UTC)
    found = cutoff_for(policy, MESSAGES, Tier.BETA, as_of)
    assert (found.cutoff, found.exact) == (datetime(2026, 2, 28, 6, tzinfo=UTC), False)
    assert cutoff_for(policy, MESSAGES, Tier.BUSINESS, as_of).exact


def test_what_is_both_is_cut_off_at_as_of_and_a_maximum_a_lead_ahead() -> None:
    as_of = datetime(2026, 5, 29, 12, tzinfo=UTC)
    for rule, cutoff in (
        ("safety_scores", datetime(2019, 5, 29, 12, tzinfo=UTC)),
        ("business_default", as_of - timedelta(days=25)),
        ("safety_flagged", datetime(2024, 6, 1, 12, tzinfo=UTC)),
    ):
        assert cutoff_of(POLICY, POLICY.rule(rule), as_of) == cutoff


def test_a_cutoff_never_lies_ahead_of_as_of() -> None:
    """An agreement may leave less time than the lead; what has not arrived is still none of this run's business."""
    as_of = datetime(2026, 5, 29, 12, tzinfo=UTC)
    short = POLICY.rule("business_default").model_copy(update={"period": Period(days=1)})
    assert cutoff_of(POLICY, short, as_of) == as_of


def test_a_rule_without_a_period_has_no_cutoff() -> None:
    as_of = datetime(2026, 5, 29, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="rule legal_obligation has no period of its own"):
        cutoff_of(POLICY, POLICY.rule("legal_obligation"), as_of)
    with pytest.raises(ValueError, match="no default rule covers research of tier beta"):
        cutoff_for(POLICY, Category.RESEARCH, Tier.BETA, as_of)


def test_a_cutoff_names_its_tier_and_rule_and_cannot_be_changed() -> None:
    as_of = datetime(2026, 5, 29, 12, tzinfo=UTC)
    found = cutoff_for(POLICY, MESSAGES, None, as_of)
    assert found.as_dict() == {
        "category": "prompts_and_outputs",
        "tier": "unclassified",
        "rule": "business_default",
        "cutoff": "2026-05-04T12:00:00+00:00",
    }
    with pytest.raises(FrozenInstanceError):
        found.cutoff = as_of  # type: ignore[misc]


@given(as_of=instants, tier=st.sampled_from(Tier), age=st.integers(0, 200))
def test_a_daily_run_that_may_fail_once_is_never_late(as_of: datetime, tier: Tier, age: int) -> None:
    """Promise 2: what is not due now is due in one of the next two daily runs' reach before its deadline strikes."""
    clock = as_of - timedelta(days=age, microseconds=1)
    now = decide(MESSAGES, tier, clock, [], POLICY, as_of)
    assert now.deadline is not None
    if not now.due and now.deadline < as_of + timedelta(days=3, hours=12):
        tomorrow = decide(MESSAGES, tier, clock, [], POLICY, as_of + timedelta(days=1))
        assert tomorrow.due
        assert now.deadline > as_of + timedelta(days=2)


@given(as_of=instants, days=st.integers(0, 4000))
def test_what_is_both_goes_not_before_and_promptly_after(as_of: datetime, days: int) -> None:
    """Scores and feedback: never ahead of their end (RULES.md, "for 7 years", "for 10 years")."""
    clock = as_of - timedelta(days=days)
    for category in (Category.SAFETY_SCORES, Category.FEEDBACK, Category.ACCOUNT_DATA):
        decision = decide(category, Tier.BETA, clock, [], POLICY, as_of)
        assert decision.deadline is not None
        assert decision.due == (decision.deadline < as_of)


@pytest.mark.parametrize("higher", [Trigger.HOLD, Trigger.CASE, Trigger.FLAG, Trigger.ERASURE, Trigger.CONSENT])
def test_when_a_higher_rule_ends_the_next_applies_at_once(higher: Trigger) -> None:
    """RULES.md, precedence: released, closed, cleared, completed, withdrawn: the ordinary rule again, and overdue."""
    as_of, tier = datetime(2026, 11, 1, tzinfo=UTC), Tier.BUSINESS if higher is Trigger.CASE else Tier.CONSUMER
    clock = as_of - timedelta(days=200)
    began = as_of - timedelta(days=100)
    ended = clock - timedelta(days=1) if higher is Trigger.ERASURE else as_of - timedelta(microseconds=1)
    while_it_lasts = decide(MESSAGES, tier, clock, [Fact(higher, began)], POLICY, as_of)
    afterwards = decide(MESSAGES, tier, clock, [Fact(higher, began, ended)], POLICY, as_of)
    assert while_it_lasts.rule != afterwards.rule
    assert (afterwards.disposition, afterwards.due) == (Disposition.DELETE, True)


def test_the_overdue_go_first() -> None:
    """Case 5: what a hold made late is at the head of the plan."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    units = [
        PlanUnit(name, "messages", Method.ROWS, (), deadline=when)
        for name, when in (("b", day), ("c", None), ("a", day), ("old", day - timedelta(days=400)))
    ]
    assert [unit.unit for unit in in_order(units)] == ["old", "a", "b", "c"]


def test_a_partition_is_swapped_when_more_goes_than_stays() -> None:
    goes, stays = Tally("delete:x", 10), Tally("keep:y", 9)
    assert choose_method([goes, stays]) is Method.SWAP
    assert choose_method([Tally("delete:x", 9), stays]) is Method.ROWS


def test_progress_adds_up() -> None:
    once = merge({}, "delete:x", {"records": 1, "objects": 2})
    assert merge(once, "delete:x", {"records": 3}) == {"delete:x": {"records": 4, "objects": 2}}
    assert once == {"delete:x": {"records": 1, "objects": 2}}
