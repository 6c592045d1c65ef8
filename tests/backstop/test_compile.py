"""What is left to S3: at the deadline itself, never earlier, and never what must stay. Cases 1, 2, 3, 11, 14, 24."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lifecycle.backstop.compile import compile_backstop, is_ordinary, must_stay, stem, ticket_of
from lifecycle.backstop.days import strikes, whole_days
from lifecycle.backstop.models import OWN, NativeRule, Place, Ticket
from lifecycle.catalog.buckets import Backstop as Tickets
from lifecycle.catalog.models import Catalog, Messages
from lifecycle.config import load_configuration
from lifecycle.dispositions.shield import AHEAD
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.models import Category, Kind, Policy, Tier, Trigger
from lifecycle.policy.periods import Period
from oracle.dates import TICK, utc
from support.edits import Document, policies, rule, shipped_policy

DAY = timedelta(days=1)
RECEIVED = utc(2024, 2, 29, 17)
SHIPPED = load_configuration()


def ticketed(catalog: Catalog) -> Catalog:
    """The same dataset file, with the backstop below the objects of messages."""
    objects = catalog.messages.objects.model_copy(update={"backstop": Tickets()})
    changed = catalog.messages.model_copy(update={"objects": objects})
    others = [dataset for dataset in catalog.datasets if not isinstance(dataset, Messages)]
    return catalog.model_copy(update={"datasets": (changed, *others)})


TICKETED = ticketed(SHIPPED.catalog)


def place(name: str, policy: Policy = SHIPPED.policy, catalog: Catalog = TICKETED) -> Place:
    return next(each for each in compile_backstop(policy, catalog).places if each.name == name)


def kind_both(document: Document) -> None:
    rule(document, "consumer_default")["kind"] = "both"


# -- days as S3 counts them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "days"),
    [("P28D", 28), ("P90D", 90), ("P1M", 31), ("P2M", 62), ("P1Y", 366), ("P2Y", 731), ("PT1S", 1), ("P1DT1S", 2)],
)
def test_whole_days_are_the_longest_that_the_calendar_makes_of_a_period(period: str, days: int) -> None:
    assert whole_days(Period.parse(period)) == days


@settings(max_examples=100, deadline=None)
@given(
    st.builds(Period, st.integers(0, 40), st.integers(0, 800), st.integers(0, 100_000)),
    st.timedeltas(timedelta(0), DAY * 366 * 75),
)
@example(Period(months=24), utc(2024, 3, 1) - utc(2015, 1, 1) - TICK)
def test_case_11_s3_never_strikes_before_a_period_has_ended(period: Period, since: timedelta) -> None:
    """Case 11: leap days, ends of months, fractions of days: by day 731 two years have passed, by day 730 maybe not."""
    start = utc(2015, 1, 1) + since
    assert strikes(start, whole_days(period)) >= period.end(start, round_up=True)


def test_s3_rounds_up_to_midnight() -> None:
    assert strikes(utc(2024, 3, 1), 28) == utc(2024, 3, 29)
    assert strikes(utc(2024, 3, 1) + timedelta(microseconds=1), 28) == utc(2024, 3, 30)


# -- which place may have a rule -----------------------------------------------------------------------------------


def test_without_tickets_s3_expires_nothing_at_all() -> None:
    """Holds, cases, consents and agreements stay among the rest: a prefix alone cannot tell them apart."""
    places = compile_backstop(SHIPPED.policy, SHIPPED.catalog).places
    assert [each.name for each in places if each.expires] == []
    consumer = place("messages of consumer", catalog=SHIPPED.catalog)
    assert "legal_obligation, feedback" in consumer.because[0]
    assert "backstop: {tag: lifecycle-expires}" in (consumer.remedy or "")


def test_with_tickets_each_tier_has_its_own_rule_at_its_own_deadline() -> None:
    found = {each.name: each for each in compile_backstop(SHIPPED.policy, TICKETED).places if each.expires}
    assert set(found) == {"messages of consumer", "messages of beta", "messages of business"}
    rules = {name: each.rules[0] for name, each in found.items()}
    ticket = Ticket("lifecycle-expires", "business_default")
    assert rules["messages of business"] == NativeRule(
        f"{OWN}messages-business-expire", "tier=business/date=", ticket, 28, 1
    )
    assert rules["messages of consumer"].expire_days == 90


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("messages of evaluation", "de-identified form"),  # promise 3: copy before cut
        ("landing of messages", "do not tell the tier"),
        ("quarantine of consumer", "delete marker over versions"),  # case 3
        ("request_logs", "one object holds records of many accounts"),
        ("evidence", "outlives"),
        ("research", "no limit"),
    ],
)
def test_where_s3_may_not_act_the_reason_is_told(name: str, says: str) -> None:
    found = place(name)
    assert not found.expires
    assert any(says in reason for reason in found.because)
    # What has an end has a remedy: the runs.
    assert (found.remedy is None) is (name in ("evidence", "research"))


def test_case_14_leftovers_go_everywhere_but_where_nothing_ends() -> None:
    """Case 14: unfinished uploads, and delete markers with nothing below them; neither is a record."""
    places = compile_backstop(SHIPPED.policy, TICKETED).places
    lone = {each.name for each in places if not any(one.drop_markers and one.abort_days for one in each.rules)}
    assert lone == {"evidence", "research"}
    aborts = {each.name: each.rules[-1].abort_days for each in places if each.rules}
    assert (aborts["messages of business"], aborts["messages of beta"], aborts["landing of messages"]) == (28, 90, 28)
    assert aborts["quarantine of beta"] == 731
    for each in places:
        for one in each.rules:
            assert one.ticket is not None or (one.expire_days is None and one.noncurrent_days is None)


def test_a_tier_that_its_layout_does_not_lead_with_is_refused() -> None:
    objects = TICKETED.messages.objects.model_copy(update={"partitioned": "date={date}/{tier}/{record}.json"})
    messages = TICKETED.messages.model_copy(update={"objects": objects})
    catalog = TICKETED.model_copy(update={"datasets": (messages, *TICKETED.datasets[1:])})
    found = place("messages of consumer", catalog=catalog)
    assert not found.rules
    assert "varies in the layout" in found.because[0]
    assert "begin with the tier" in (found.remedy or "")


def test_case_2_the_beginning_of_a_tier_reaches_no_other_tier() -> None:
    """Case 2: a prefix of user/1 is one of user/10 too."""
    for layout in ("tier={tier}/date={date}/{record}.json", "{tier}{date}/{record}", "x-{tier}-{record}/{date}"):
        stems = {tier: stem(layout, tier) or "" for tier in Tier}
        for one in Tier:
            others = (stems[other] for other in Tier if other is not one)
            assert not any(other.startswith(stems[one]) for other in others)


def test_a_minimum_counts_for_old_versions_too() -> None:
    """What a minimum keeps may not go a day after it was replaced; what only has a maximum may."""
    both = place("messages of consumer", shipped_policy(kind_both)).rules[0]
    assert (both.expire_days, both.noncurrent_days) == (90, 90)
    assert place("messages of consumer").rules[0].noncurrent_days == 1


# -- and whatever befalls a record ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entered:
    """A fact and when somebody wrote it down."""

    fact: Fact
    at: datetime


_TRIGGERS = (Trigger.HOLD, Trigger.CASE, Trigger.FLAG, Trigger.ERASURE, Trigger.CONSENT, Trigger.AGREEMENT)
_HOURS = st.integers(-24 * 30, 24 * 130)


@st.composite
def _entered(draw: st.DrawFn) -> Entered:
    trigger = draw(st.sampled_from(_TRIGGERS))
    began = RECEIVED + timedelta(hours=draw(_HOURS))
    # A shield looks two days ahead: an agreement that begins and ends in between is never in force for it.
    lasts = draw(st.none() | st.integers(49, 24 * 400))
    ended = None if lasts is None else began + timedelta(hours=lasts)
    retain = Period(days=draw(st.sampled_from((0, 1, 27, 60, 500)))) if trigger is Trigger.AGREEMENT else None
    entered = max(RECEIVED, began) if draw(st.booleans()) else RECEIVED + timedelta(hours=draw(_HOURS))
    return Entered(Fact(trigger, began, ended, retain), entered)


# Entered long before, in force half an hour before S3 would act.
LATER = Entered(
    Fact(Trigger.AGREEMENT, utc(2024, 3, 28, 23) + timedelta(minutes=30), None, Period(days=500)), RECEIVED + DAY * 10
)


def _fate(policy: Policy, tier: Tier, facts: list[Entered], known: datetime, as_of: datetime) -> str:
    there = [each.fact for each in facts if each.at <= known]
    found = decide(Category.PROMPTS_AND_OUTPUTS, tier.value, RECEIVED, there, policy, as_of)
    return f"{found.disposition.value}:{found.rule}"


@settings(max_examples=120, deadline=None)
@given(
    st.just(SHIPPED.policy) | st.just(shipped_policy(kind_both)) | policies(),
    st.sampled_from(tuple(Tier)),
    st.lists(_entered(), max_size=3),
    st.integers(1, 24 * 80),
    st.integers(0, 47),
)
@example(SHIPPED.policy, Tier.BUSINESS, [LATER], 1, 2)
def test_what_s3_expires_was_past_its_deadline_and_nothing_kept_it(
    policy: Policy, tier: Tier, facts: list[Entered], moved_after: int, unshielded: int
) -> None:
    """Promise 1, for every fate of `decide`: received, moved with a ticket or without, befallen, shielded, struck.

    Shields come every day; the last one ``unshielded`` hours before S3 acts.
    """
    ticket = ticket_of(policy, TICKETED.messages, tier)
    found = place(f"messages of {tier.value}", policy)
    assert found.expires is (ticket is not None)
    assume(ticket is not None)
    assert ticket is not None
    native, default = found.rules[0], policy.rule(ticket.value)
    moved = RECEIVED + timedelta(hours=moved_after)
    assume(is_ordinary(_fate(policy, tier, facts, moved, moved), ticket))
    struck = strikes(moved, native.expire_days or 0)
    deadline = default.end(RECEIVED)
    assert deadline is not None
    assert struck >= deadline
    last = struck - timedelta(hours=unshielded)
    shields = [moved + DAY * n for n in range(1, (last - moved) // DAY + 1)] + [last]
    for at in shields:
        for instant in (at, at + AHEAD):
            if must_stay(_fate(policy, tier, facts, at, instant), default.id):
                return  # the ticket is gone, and S3 never reaches the object
    # The record is judged as it was known at the last shield, at the instant at which S3 acts.
    assert _fate(policy, tier, facts, last, struck) in {
        f"delete:{one.id}"
        for one in policy.rules
        if one.trigger in (Trigger.DEFAULT, Trigger.AGREEMENT, Trigger.ERASURE)
    } | ({f"keep:{default.id}"} if default.kind is not Kind.MAXIMUM and struck == deadline else set())


def test_a_ticket_without_a_shield_would_be_early() -> None:
    """The property above has teeth: a hold that nobody took a ticket for is struck like everything else."""
    ticket = ticket_of(SHIPPED.policy, TICKETED.messages, Tier.CONSUMER)
    assert ticket is not None
    held = [Entered(Fact(Trigger.HOLD, RECEIVED + DAY * 50), RECEIVED + DAY * 50)]
    moved = RECEIVED + DAY
    assert is_ordinary(_fate(SHIPPED.policy, Tier.CONSUMER, held, moved, moved), ticket)
    fate = _fate(SHIPPED.policy, Tier.CONSUMER, held, RECEIVED + DAY * 51, strikes(moved, 90))
    assert fate == "keep:legal_obligation"
    assert must_stay(fate, ticket.value)
    assert replace(ticket, value="x") != ticket
