"""When a day is left to S3 and when it is not: pure, by the clock alone. Promises 1 and 2; cases 1 and 11."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.backstop.native import (
    TIME_VERSIONED,
    NativeDay,
    Verdict,
    added,
    days_reached,
    in_the_way,
    least_term,
    native_findings,
    never,
    rules_for,
    stands,
    verdict,
    wholly_due,
    without,
)
from lifecycle.policy.models import Policy, Rule
from lifecycle.policy.periods import Period
from support.edits import lead, period, shipped_policy

DAY = timedelta(days=1)
BEGINS = datetime(2024, 2, 20, tzinfo=UTC)
PREFIX = "tier=business/date=2024-02-20/"
THEIRS: dict[str, Any] = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "exports/"}, "Expiration": {"Days": 1}}
LEFT = NativeDay(
    1, "lifecycle-native-a", "b", PREFIX, "messages", "business", date(2024, 2, 20), 4, "r", 1, 2, 3, 4, BEGINS
)
periods = st.sampled_from(["P28D", "P1M", "P90D", "P3M", "P1Y", "P2Y", "P45DT6H"])
terms = st.sampled_from(["P7D", "P8D", "P9DT5H", "P12D", "P20D"])


def made(period_: str, term: str) -> tuple[Policy, Rule]:
    policy = shipped_policy(
        lead("s3_expiry", term), period("consumer_default", "P1Y"), period("business_default", period_)
    )
    return policy, policy.rule("business_default")


def judged(policy: Policy, found: Rule, as_of: datetime, *, standing: bool = False) -> Verdict:
    return verdict(policy, found, BEGINS, BEGINS + DAY, as_of, TIME_VERSIONED, standing=standing)


@given(periods, terms, st.integers(0, 24 * 800), st.booleans())
def test_promise_2_whatever_s3_does_a_run_has_the_time_it_has_without_s3(
    period_: str, term: str, hours: int, standing: bool
) -> None:
    """Case 1: a day is left to S3 only while its first record is not due by the lead of a run that does all itself."""
    policy, found = made(period_, term)
    as_of = BEGINS + timedelta(hours=hours)
    assert found.period is not None
    left = judged(policy, found, as_of, standing=standing) is not Verdict.REQUESTS
    assert not left or found.period.end(BEGINS, round_up=False) >= policy.lead.without_s3.end(as_of, round_up=True)


@given(periods, terms, st.sampled_from([-120, -48, -24, -1, 0, 1, 24]), st.sampled_from([0, 86_399]), st.booleans())
def test_promise_1_a_rule_stands_only_when_every_record_of_its_day_is_due(
    period_: str, term: str, hours: int, second: int, standing: bool
) -> None:
    """Cases 1 and 11: months of any length, around the instant at which the last record of the day becomes due."""
    policy, found = made(period_, term)
    assert found.period is not None
    as_of = found.period.end(BEGINS + DAY, round_up=False) - policy.lead.total.longest() + timedelta(hours=hours)
    last = BEGINS + timedelta(seconds=second, microseconds=999_999)
    due = found.period.end(last, round_up=False) < policy.lead.total.end(as_of, round_up=True)
    if judged(policy, found, as_of, standing=standing) is Verdict.LEAVE or wholly_due(
        policy, found, BEGINS + DAY, as_of
    ):
        assert due


@given(periods, terms, st.integers(0, 23))
def test_with_the_least_term_daily_runs_at_any_hour_leave_the_day_to_s3(period_: str, term: str, hour: int) -> None:
    """Waiting or leaving from the first run that finds part of it due, until S3 has had its time."""
    policy, found = made(period_, term)
    assert found.period is not None and policy.lead.s3_expiry.longest() >= least_term(policy, versioned=True)
    if found.period.months:
        return  # days that months may lack cost up to five more
    first = BEGINS + timedelta(hours=hour)
    runs = [first + DAY * number for number in range(800)]
    end = found.period.end(BEGINS, round_up=False)
    said = [judged(policy, found, at) for at in runs if end < policy.lead.total.end(at, round_up=True)]
    begun = said.index(Verdict.LEAVE)
    assert set(said[:begun]) <= {Verdict.WAIT}


def test_days_are_what_everything_listed_has_reached() -> None:
    """What arrives later is out of reach for as long; and never less than one, which S3 does not know."""
    assert days_reached(BEGINS, BEGINS + DAY * 17 + timedelta(hours=5)) == 17
    assert days_reached(BEGINS + DAY, BEGINS) == 1


def test_where_there_is_never_time_or_no_maximum_it_is_said_why() -> None:
    policy = shipped_policy()
    because = never(policy, policy.rule("business_default"))
    assert because is not None and "at least P4D, with versions P7D" in because
    enough, found = made("P28D", "P7D")
    assert never(enough, found) is None
    assert "minimum too" in (never(enough, enough.rule("safety_scores")) or "")
    assert never(enough, None) is not None


def test_the_term_for_s3_is_part_of_the_lead_but_not_of_what_a_person_asked_for() -> None:
    """The shipped request must be done in seven days, and is begun at once; its period need not hold S3's time too."""
    policy, _ = made("P28D", "P12D")
    assert policy.lead.total == Period(days=15) and policy.lead.without_s3 == Period(days=3)
    with pytest.raises(ValueError, match=r"the lead \(P3D\) is not shorter than the period"):
        shipped_policy(period("erasure_request", "P2D"))
    with pytest.raises(ValueError, match=r"the lead \(P33D\) is not shorter than the period"):
        shipped_policy(lead("s3_expiry", "P30D"))


def test_rules_of_others_and_a_full_bucket_are_in_the_way() -> None:
    """S3 takes 1,000 rules; the oldest days come first, the others go by requests."""
    assert in_the_way([THEIRS], PREFIX) is None
    assert in_the_way([THEIRS | {"Filter": {"Prefix": "tier=business/"}}], PREFIX) is not None
    assert in_the_way([THEIRS | {"Filter": {"Prefix": f"{PREFIX}deeper/"}}], PREFIX) is not None
    many = [THEIRS | {"ID": str(number)} for number in range(999)]
    assert in_the_way(many[:998], PREFIX) is None
    assert "S3 takes 1,000" in (in_the_way(many, PREFIX) or "")


def test_rules_are_added_and_taken_away_beside_all_others() -> None:
    both = added([THEIRS], LEFT.rules)
    assert both[0] == THEIRS and stands(both, LEFT)
    assert added(both, LEFT.rules) == both
    assert without(both, {rule.id for rule in LEFT.rules}) == [THEIRS]
    assert not stands(both[:-1], LEFT)


def test_what_nobody_has_written_down_or_somebody_changed_is_found() -> None:
    both = added([THEIRS], LEFT.rules)
    assert list(native_findings("b", both, [LEFT])) == []
    assert {found.rule for found in native_findings("b", both, [])} == {rule.id for rule in LEFT.rules}
    changed = added(both, rules_for(LEFT.rule_id, PREFIX, 2))
    assert [found.rule for found in native_findings("b", changed, [LEFT])] == [LEFT.rule_id]
