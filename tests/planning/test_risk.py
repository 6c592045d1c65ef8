"""How urgent a standing is, and what the names of log days tell. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from lifecycle.config import load_configuration
from lifecycle.planning.risk import Late, Standing, State, alarm_margin, alarming, log_days
from lifecycle.policy.models import Category, Policy
from lifecycle.policy.periods import Period

AS_OF = datetime(2026, 8, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_configuration().policy


def standing(at_risk: datetime | None, tier: str = "consumer") -> Standing:
    return Standing(
        "messages", tier, tier, "consumer_default", Period(days=90), AS_OF, AS_OF, at_risk, 3, Late(), AS_OF - DAY
    )  # fmt: skip


def test_the_margin_is_an_interval_and_the_longest_run(policy: Policy) -> None:
    assert alarm_margin(policy) == timedelta(hours=36)


@pytest.mark.parametrize(
    ("left", "state"),
    [
        (timedelta(hours=36), State.FINE),
        (timedelta(hours=36) - TICK, State.AT_RISK),
        (TICK, State.AT_RISK),
        (timedelta(0), State.BROKEN),
        (-HOUR, State.BROKEN),
        (None, State.FINE),
    ],
    ids=str,
)
def test_it_rings_while_there_is_still_time(policy: Policy, left: timedelta | None, state: State) -> None:
    """The alarm comes before the deadline, not after (cases 1, 7)."""
    assert standing(None if left is None else AS_OF + left).state(policy, AS_OF) is state


def test_it_is_silent_as_long_as_every_run_succeeds_in_its_time(policy: Policy) -> None:
    """What a run leaves strikes a lead after its as-of; the next run ends an interval and its longest time later."""
    lead = policy.lead
    left_by_a_run = standing(lead.total.end(AS_OF, round_up=False))
    end_of_next = AS_OF + lead.schedule_interval.longest() + lead.longest_run.longest()
    assert left_by_a_run.state(policy, end_of_next) is State.FINE
    assert left_by_a_run.state(policy, end_of_next + HOUR) is State.AT_RISK, "the next run has failed"


def test_the_most_urgent_comes_first(policy: Policy) -> None:
    found = [standing(AS_OF + HOUR), standing(AS_OF + 9 * DAY, "beta"), standing(AS_OF - DAY, "business")]
    assert [each.tier for each in alarming(found, policy, AS_OF)] == ["business", "consumer"]
    assert alarming([replace(found[1], at_risk=None)], policy, AS_OF) == []


def strikes(policy: Policy, day: date, last: datetime | None) -> list[datetime]:
    return [found.strikes for found in log_days(policy, Category.PROMPTS_AND_OUTPUTS, [day], last)]


def test_a_log_day_strikes_for_the_first_tier_that_can_still_be_in_it(policy: Policy) -> None:
    """Business lines go after 28 days, the others after 90; what a run has taken is not there any more."""
    day, began = date(2026, 6, 1), datetime(2026, 6, 1, tzinfo=UTC)
    assert strikes(policy, day, None) == [began + 28 * DAY]
    seen_by = began + 25 * DAY  # its horizon is the first instant of that day's business deadlines
    assert strikes(policy, day, seen_by) == [began + 28 * DAY]
    assert strikes(policy, day, seen_by + 12 * HOUR) == [began + 28 * DAY + 12 * HOUR], "the rest of the day is left"
    assert strikes(policy, day, seen_by + DAY) == [began + 90 * DAY], "all its business lines are gone"
    assert strikes(policy, day, began + 88 * DAY) == [], "nothing can be left of it"
