"""A period of months judged by column: beyond a few days of the cut-off it is what `decide` says (hard case 1)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.config import load_configuration
from lifecycle.planning.log_decision import LogFacts, log_decision
from lifecycle.policy.models import Category, Kind, Policy, Tier
from lifecycle.policy.periods import Period
from lifecycle.stores.s3.records import Judge

SHIPPED = load_configuration().policy
NOTHING = LogFacts({}, {}, ())


def policy_of(period: Period, kind: Kind) -> Policy:
    """The shipped one with a period of this kind for prompts and outputs."""
    rules = tuple(
        rule.model_copy(update={"period": period, "kind": kind}) if rule.id == "consumer_default" else rule
        for rule in SHIPPED.rules
    )
    return SHIPPED.model_copy(update={"rules": rules})


@settings(max_examples=150, deadline=None)
@given(
    as_of=st.integers(0, 6 * 366 * 24).map(lambda hours: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=hours)),
    period=st.builds(Period, st.integers(1, 40), st.sampled_from([0, 1, 15])),
    kind=st.sampled_from([Kind.MAXIMUM, Kind.BOTH]),
    off=st.timedeltas(timedelta(days=-9), timedelta(days=9)),
)
def test_what_is_judged_by_column_is_what_decide_says(
    as_of: datetime, period: Period, kind: Kind, off: timedelta
) -> None:
    judge = log_decision(policy_of(period, kind), Category.PROMPTS_AND_OUTPUTS, as_of, NOTHING, date(2023, 1, 1))
    assert isinstance(judge, Judge)
    assert judge.ordinary is not None
    until, rule = judge.ordinary.cutoffs[Tier.CONSUMER]
    since = judge.ordinary.unsure[Tier.CONSUMER]
    assert until - since <= timedelta(days=8)
    clock = since + (until - since) / 2 + off
    if not since <= clock < until:
        assert judge("m", "a", "consumer", clock) == (rule if clock < until else None)
    assert Tier.BUSINESS not in judge.ordinary.unsure
