"""The judge is judged first: verdicts worked out by hand, and a comparison that notices what it must notice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from .compare import differences
from .dates import LEAD, TICK, add_months, agreed_end, utc, years_later
from .endstate import judge_run
from .facts import (
    Account,
    Agreement,
    Case,
    Erasure,
    Feedback,
    Flag,
    Hold,
    Message,
    Retain,
    StoredObject,
    World,
    ident,
)
from .observe import Observed, Stored
from .oracle import Judge, Place, Verdict

NOW = utc(2025, 6, 15, 12)
DAY = timedelta(days=1)


def message(age: timedelta, tier: str = "consumer", name: str = "m") -> Message:
    return Message(ident(name), ident("c"), ident("a"), tier, "prompt", NOW - age)


def verdict(world: World, as_of: datetime = NOW) -> Verdict:
    return Judge(world, as_of).verdict(world.messages[0])


@pytest.mark.parametrize(
    ("start", "years", "up", "end"),
    [
        (utc(2024, 2, 29, 7), 2, False, utc(2026, 2, 28, 7)),
        (utc(2024, 2, 29, 7), 2, True, utc(2026, 3, 1, 7)),
        (utc(2016, 2, 29), 10, True, utc(2026, 3, 1)),
        (utc(2020, 2, 29), 4, True, utc(2024, 2, 29)),
        (utc(2024, 2, 28), 2, False, utc(2026, 2, 28)),
        (utc(2025, 3, 1), 7, True, utc(2032, 3, 1)),
    ],
)
def test_years_are_calendar_years_case_11(start: datetime, years: int, up: bool, end: datetime) -> None:
    assert years_later(start, years, up=up) == end


def test_an_agreed_month_from_the_31st_ends_on_the_months_last_day() -> None:
    assert agreed_end(utc(2025, 1, 31), Retain(months=1)) == utc(2025, 2, 28)
    assert add_months(utc(2025, 1, 31), 1, up=True) == utc(2025, 3, 1)


@pytest.mark.parametrize(("tier", "days"), [("consumer", 90), ("beta", 90), ("evaluation", 90), ("business", 28)])
def test_the_cutoff_runs_a_lead_ahead_and_is_open_at_its_instant_case_10(tier: str, days: int) -> None:
    exactly = timedelta(days=days) - LEAD
    gone = Place.DEIDENTIFIED if tier == "evaluation" else Place.GONE
    assert verdict(World(messages=(message(exactly, tier),))).places == {Place.APP}
    assert verdict(World(messages=(message(exactly - TICK, tier),))).places == {Place.APP}
    assert verdict(World(messages=(message(exactly + TICK, tier),))).places == {gone}


def test_a_flag_quarantines_at_once_until_two_years_from_receipt() -> None:
    flag = Flag(ident("m"), ident("a"), NOW - DAY)
    start = add_months(NOW + LEAD, -24, up=False)
    assert verdict(World(messages=(message(DAY),), flags=(flag,))).places == {Place.QUARANTINE}
    assert verdict(World(messages=(message(NOW - start),), flags=(flag,))).places == {Place.QUARANTINE}
    assert verdict(World(messages=(message(NOW - start + TICK),), flags=(flag,))).places == {Place.GONE}
    assert verdict(World(messages=(message(DAY, "business"),), flags=(flag,))).places == {Place.APP}


def test_precedence_hold_case_flag_erasure_consent_agreement_default() -> None:
    account = ident("a")
    flag = Flag(ident("m"), account, NOW - DAY)
    erase = Erasure(ident("e"), "account", str(account), NOW - DAY)
    consent = Feedback(ident("f"), account, ident("c"), None, NOW - DAY)
    hold = Hold(ident("h"), "message", str(ident("m")), NOW - DAY)
    old = World(messages=(message(DAY * 100),))
    assert verdict(old).rule == "consumer_default"
    consented = replace(old, feedback=(consent,))
    assert (verdict(consented).rule, verdict(consented).places) == ("feedback", frozenset({Place.APP}))
    erased = replace(consented, erasures=(erase,))
    assert (verdict(erased).rule, verdict(erased).places) == ("erasure_request", frozenset({Place.GONE}))
    flagged = replace(erased, flags=(flag,))
    assert (verdict(flagged).rule, verdict(flagged).places) == ("safety_flagged", frozenset({Place.QUARANTINE}))
    held = replace(flagged, holds=(hold,))
    assert (verdict(held).rule, verdict(held).places) == ("legal_obligation", frozenset({Place.APP}))


def test_precedence_of_business() -> None:
    account = ident("a")
    agreed = Agreement(ident("g"), account, Retain(days=365), NOW - DAY * 900)
    opened = Case(ident("k"), account, NOW - DAY)
    erase = Erasure(ident("e"), "message", str(ident("m")), NOW - DAY)
    old = World(messages=(message(DAY * 100, "business"),))
    assert verdict(old).places == {Place.GONE}
    assert verdict(replace(old, agreements=(agreed,))).places == {Place.APP}
    assert verdict(replace(old, agreements=(agreed,), erasures=(erase,))).rule == "erasure_request"
    assert verdict(replace(old, erasures=(erase,), cases=(opened,))).rule == "usage_policy_enforcement"


def test_the_latest_agreement_wins_and_of_two_that_began_together_the_shorter() -> None:
    account = ident("a")
    long = Agreement(ident("g1"), account, Retain(days=365), NOW - DAY * 90)
    short = Agreement(ident("g2"), account, Retain(days=7), NOW - DAY * 90)
    newer = Agreement(ident("g3"), account, Retain(days=100), NOW - DAY)
    ended = Agreement(ident("g4"), account, Retain(days=900), NOW - DAY * 2, NOW)
    world = World(messages=(message(DAY * 30, "business"),))
    assert verdict(replace(world, agreements=(long, short))).places == {Place.GONE}
    assert verdict(replace(world, agreements=(long, short, newer, ended))).places == {Place.APP}


def test_exceptions_end_exactly_at_their_instant() -> None:
    flag = Flag(ident("m"), ident("a"), NOW - DAY)
    world = World(messages=(message(DAY),))
    assert verdict(replace(world, flags=(replace(flag, cleared_at=NOW),))).places == {Place.APP}
    assert verdict(replace(world, flags=(replace(flag, cleared_at=NOW + TICK),))).places == {Place.QUARANTINE}


def test_a_completed_erasure_leaves_what_arrived_later() -> None:
    erase = Erasure(ident("e"), "account", str(ident("a")), NOW - DAY * 9, NOW - DAY, "done")
    assert verdict(World(messages=(message(DAY),), erasures=(erase,))).places == {Place.GONE}
    assert verdict(World(messages=(message(DAY - TICK),), erasures=(erase,))).places == {Place.APP}


def test_erasure_outcomes_name_what_keeps_in_order_of_precedence() -> None:
    account = ident("a")
    world = World(
        accounts=(Account(account, "consumer", "a@example.org", "A", NOW - DAY, NOW - DAY),),
        messages=(message(DAY, name="m1"), message(DAY, name="m2"), message(DAY, name="m3")),
        flags=(Flag(ident("m1"), account, NOW - DAY),),
        holds=(Hold(ident("h"), "message", str(ident("m2")), NOW),),
        erasures=(Erasure(ident("e"), "account", str(account), NOW - DAY),),
    )
    expected = judge_run(world, NOW)
    assert expected.erasures[ident("e")] == (NOW, frozenset({"kept: legal_obligation, safety_flagged"}))
    assert expected.accounts[account] is False
    without = replace(world, flags=(), holds=())
    assert judge_run(without, NOW).erasures[ident("e")][1] == {"done"}
    assert judge_run(without, NOW).accounts[account] is None


def test_a_message_that_arrives_at_the_runs_instant_is_out_of_its_scope() -> None:
    flag = Flag(ident("m"), ident("a"), NOW)
    assert verdict(World(messages=(message(0 * DAY),), flags=(flag,))).places == {Place.APP}


def seen(world: World) -> Observed:
    """The store as it stands before any run, in the shape of an observation."""
    return Observed(
        app={m.message_id: m for m in world.messages},
        copies=Counter(m.message_id for m in world.messages),
        data={
            m.stored.key: Stored(m.stored.content, m.stored.content_type, {}, len(m.stored.versions), 0)
            for m in world.messages
            if m.stored
        },
        quarantine={},
        index={},
        tools=frozenset(m.message_id for m in world.messages if m.tools),
        flags=frozenset(f.message_id for f in world.flags),
        scores=frozenset(s.score_id for s in world.scores),
        feedback=frozenset(f.feedback_id for f in world.feedback),
        training=frozenset(t.example_id for t in world.training),
        accounts={a.account_id: (a.email, a.display_name) for a in world.accounts},
        erasures={e.request_id: (e.completed_at, e.outcome) for e in world.erasures},
        others={"agreements": len(world.agreements), "cases": len(world.cases), "holds": len(world.holds)},
        logs=Counter(world.logs),
        log_objects={},
        research=Counter(world.research),
    )


def test_the_comparison_accepts_the_right_state_and_notices_each_wrong_one() -> None:
    kept = replace(message(DAY, name="kept"), body=None, tools=("t",))
    kept = replace(kept, stored=StoredObject(kept.partitioned_key, (b"{}",)))
    world = World(messages=(kept,))
    expected, state = judge_run(world, NOW), seen(world)
    assert differences(expected, state) == []
    wrong = {
        "row lost": replace(state, app={}),
        "object lost": replace(state, data={}),
        "object changed": replace(state, data={kept.partitioned_key: Stored(b"x", "application/json", {}, 1, 0)}),
        "old object left": replace(state, data={**state.data, kept.landing_key: Stored(None, None, {}, 1, 1)}),
        "copied twice": replace(state, copies=Counter({kept.message_id: 2})),
        "column changed": replace(state, app={kept.message_id: replace(kept, model="other")}),
        "tool lost": replace(state, app={kept.message_id: replace(kept, tools=())}),
    }
    assert [name for name, changed in wrong.items() if not differences(expected, changed)] == []


def test_the_comparison_notices_what_should_have_gone() -> None:
    world = World(messages=(message(DAY * 91),))
    found = differences(judge_run(world, NOW), seen(world))
    assert [d.promise for d in found] == ["2 never late"]
