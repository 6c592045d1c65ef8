"""Erasure requests: what goes, what a higher rule keeps, what is said about it, and what goes once that rule ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dispositions.conftest import RunWorld
from oracle.change import apply_changes
from oracle.compare import differences, place_of, report, world_after
from oracle.dates import TICK
from oracle.endstate import judge_run
from oracle.facts import (
    Agreement,
    Case,
    Erasure,
    Feedback,
    Hold,
    Message,
    Retain,
    Score,
    Training,
    World,
    ident,
)
from oracle.named import AS_OF, DAY, account_of, flag, in_landing, in_partition, message
from oracle.observe import Observed
from oracle.oracle import Place
from oracle.stores import Servers, look, run

pytestmark = pytest.mark.timeout(300)

# One account per story; "all" goes whole, the others keep something.
ALL = tuple(message(f"all {n}", age=DAY * (n + 1), account="all") for n in range(3))
ALL_OBJECT = in_partition(message("all object", age=DAY, account="all"), b'{"body": "earlier"}')
BESIDE = message("beside", age=DAY)
TALK = message("talk 1", age=DAY, account="talker", conversation="talk")
TALK_2 = in_landing(message("talk 2", "consumer", DAY, account="talker", conversation="talk"))
OTHER_TALK = message("other talk", age=DAY, account="talker")
ONE = message("one", "evaluation", DAY, account="oner")
ANOTHER = message("another", "evaluation", DAY, account="oner")
CONSENTED = message("consented", "beta", DAY)
AGREED = message("agreed", "business", DAY * 40)
FLAGGED = in_partition(message("flagged", age=DAY, account="flagged account"))
UNFLAGGED = message("unflagged", age=DAY, account="flagged account")
ENFORCED = message("enforced", "business", DAY * 40)
HELD = message("held", age=DAY, account="held account")
MIXED = message("mixed held", age=DAY, account="mixed account")
MIXED_FLAGGED = message("mixed flagged", age=DAY, account="mixed account")
LATER = message("later", received_at=AS_OF + DAY, account="all")

REQUESTS = {
    "all": ("account", ALL[0].account_id, "done"),
    "conversation": ("conversation", TALK.conversation_id, "done"),
    "message": ("message", ONE.message_id, "done"),
    "consented": ("account", CONSENTED.account_id, "done"),
    "agreed": ("account", AGREED.account_id, "done"),
    "flagged": ("account", FLAGGED.account_id, "kept: safety_flagged"),
    "enforced": ("account", ENFORCED.account_id, "kept: usage_policy_enforcement"),
    "held": ("account", HELD.account_id, "kept: legal_obligation"),
    "mixed": ("account", MIXED.account_id, "kept: legal_obligation, safety_flagged"),
    "nobody": ("account", ident("nobody"), "done"),
}
ERASED = {
    "first of all": ALL[0],
    "last of all": ALL[2],
    "object": ALL_OBJECT,
    "conversation": TALK,
    "conversation, landing": TALK_2,
    "one message of evaluation": ONE,
    "consented": CONSENTED,
    "agreed longer": AGREED,
    "beside a flagged one": UNFLAGGED,
}
STAYING = {
    "another account": BESIDE,
    "another conversation": OTHER_TALK,
    "another message": ANOTHER,
    "open case": ENFORCED,
    "held": HELD,
    "one held, one flagged": MIXED,
    "arrived after the run's instant": LATER,
}


def erasing_world() -> World:
    everyone = (*ERASED.values(), *STAYING.values(), ALL[1], FLAGGED, MIXED_FLAGGED)
    first_of_account = {m.account_id: m for m in everyone}
    return World(
        accounts=tuple(account_of(m) for m in first_of_account.values()),
        messages=everyone,
        flags=(flag(FLAGGED), flag(MIXED_FLAGGED)),
        cases=(Case(ident("case"), ENFORCED.account_id, AS_OF - DAY),),
        holds=(
            Hold(ident("h1"), "account", str(HELD.account_id), AS_OF - DAY),
            Hold(ident("h2"), "message", str(MIXED.message_id), AS_OF - DAY),
        ),
        agreements=(Agreement(ident("a"), AGREED.account_id, Retain(days=900), AS_OF - DAY * 90),),
        feedback=tuple(
            Feedback(ident("feedback", m.message_id), m.account_id, m.conversation_id, m.message_id, AS_OF - DAY)
            for m in (ALL[0], TALK, ONE, CONSENTED, HELD, ANOTHER)
        ),
        scores=tuple(Score(ident("score", m.message_id), m.message_id, m.account_id, m.tier, AS_OF - DAY) for m in ALL),
        training=(Training(ident("t"), ALL[0].message_id, ALL[0].account_id, "permission", AS_OF - DAY),),
        erasures=tuple(
            Erasure(ident("request", name), scope, str(target), AS_OF - DAY)
            for name, (scope, target, _) in REQUESTS.items()
        ),
    )


@pytest.fixture(scope="module")
def seen(after_run: RunWorld) -> Iterator[Observed]:
    world = erasing_world()
    with after_run(world) as (_, observed):
        found = differences(judge_run(world, AS_OF), observed)
        assert not found, report(found)
        yield observed


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_says_what_became_of_it(seen: Observed, name: str) -> None:
    assert seen.erasures[ident("request", name)] == (AS_OF, REQUESTS[name][2])


@pytest.mark.parametrize("name", ERASED)
def test_what_was_asked_to_go_is_gone_with_all_versions(seen: Observed, name: str) -> None:
    m = ERASED[name]
    assert place_of(m.message_id, seen) is Place.GONE
    assert not [key for key in (*seen.data, *seen.quarantine) if str(m.message_id) in key]


@pytest.mark.parametrize("name", STAYING)
def test_what_was_not_asked_for_or_is_kept_stays(seen: Observed, name: str) -> None:
    assert place_of(STAYING[name].message_id, seen) is Place.APP


def test_a_flagged_message_goes_to_quarantine_although_erasure_was_asked(seen: Observed) -> None:
    assert place_of(FLAGGED.message_id, seen) is Place.QUARANTINE
    assert place_of(MIXED_FLAGGED.message_id, seen) is Place.QUARANTINE


def test_erased_evaluation_messages_leave_no_research_row(seen: Observed) -> None:
    assert not seen.research


def test_feedback_of_the_scope_goes_unless_held(seen: Observed) -> None:
    left = {ident("feedback", m.message_id) for m in (HELD, ANOTHER)}
    assert seen.feedback == left


def test_scores_stay_their_seven_years(seen: Observed) -> None:
    assert seen.scores == {ident("score", m.message_id) for m in ALL}


def test_training_examples_of_erased_messages_go(seen: Observed) -> None:
    assert seen.training == frozenset()


def test_account_data_goes_only_when_the_account_was_asked_for(seen: Observed) -> None:
    assert seen.accounts[ALL[0].account_id] == (None, None), "scores still refer to it"
    assert seen.accounts[AGREED.account_id] == (None, None), "its agreement still refers to it"
    assert seen.accounts[FLAGGED.account_id] == (None, None), "quarantine still refers to it"
    assert CONSENTED.account_id not in seen.accounts, "nothing refers to it"
    for m in (TALK, ONE, BESIDE, HELD):
        assert seen.accounts[m.account_id][0] is not None


def test_completed_at_is_the_request_where_that_is_later(servers: Servers) -> None:
    m = message("m", age=DAY)
    request = Erasure(ident("e"), "account", str(m.account_id), AS_OF + DAY)
    with servers.store(World(messages=(m,), erasures=(request,))) as store:
        assert run(store, AS_OF).code == 0
        assert look(store).erasures[ident("e")] == (AS_OF + DAY, "done")


@pytest.mark.parametrize("tier", ["consumer", "business"])
def test_what_was_kept_goes_when_the_rule_ends_case_5(servers: Servers, tier: str) -> None:
    """The flag is cleared, or the case closed: the old request applies at once, and its outcome becomes done."""
    m = in_partition(message("kept", tier, DAY))
    world = World(
        messages=(m,),
        flags=(flag(m),) if tier == "consumer" else (),
        cases=(Case(ident("c"), m.account_id, AS_OF - DAY),) if tier == "business" else (),
        erasures=(Erasure(ident("e"), "account", str(m.account_id), AS_OF - DAY),),
    )
    with servers.store(world) as store, store.connect() as conn:
        assert run(store, AS_OF).code == 0
        first = look(store)
        kept = "safety_flagged" if tier == "consumer" else "usage_policy_enforcement"
        assert first.erasures[ident("e")] == (AS_OF, f"kept: {kept}")
        left = world_after(judge_run(world, AS_OF), first)
        later = replace(
            left,
            flags=tuple(replace(f, cleared_at=AS_OF + TICK) for f in left.flags),
            cases=tuple(replace(c, closed_at=AS_OF + TICK) for c in left.cases),
        )
        apply_changes(conn, left, later)
        done = run(store, AS_OF + DAY)
        assert done.code == 0, str(done)
        after = look(store)
    assert place_of(m.message_id, after) is Place.GONE
    assert dict(after.quarantine) == dict(after.data) == {}
    assert after.erasures[ident("e")][1] == "done"
    assert done.disposed() == {"delete": 1}


def test_what_arrives_after_completion_is_not_erased(servers: Servers) -> None:
    before, after = message("before", age=DAY, account="a"), message("after", received_at=AS_OF + TICK, account="a")
    request = Erasure(ident("e"), "account", str(before.account_id), AS_OF - DAY)
    with servers.store(World(messages=(before, after), erasures=(request,))) as store:
        assert run(store, AS_OF).code == 0
        assert run(store, AS_OF + DAY).code == 0
        observed = look(store)
    assert observed.app.keys() == {after.message_id}
    assert observed.erasures[ident("e")] == (AS_OF, "done")


def test_a_target_in_capitals_is_erased_as_well(servers: Servers) -> None:
    """Other systems write the table directly, in a spelling of their own."""
    m = message("capitals", age=DAY)
    request = Erasure(ident("e"), "account", str(m.account_id).upper(), AS_OF - DAY)
    with servers.store(World(messages=(m,), accounts=(account_of(m),), erasures=(request,))) as store:
        assert run(store, AS_OF).code == 0
        observed = look(store)
    assert (dict(observed.app), dict(observed.accounts)) == ({}, {})
    assert observed.erasures[ident("e")] == (AS_OF, "done")


def test_a_consent_that_goes_with_an_erasure_keeps_nothing_after_the_next_run(servers: Servers) -> None:
    """The person who consented asks for erasure; what only that consent kept is due at the latest in the next run."""
    m = message("kept by consent")
    consent = Feedback(ident("f"), ident("somebody"), m.conversation_id, None, AS_OF - DAY)
    request = Erasure(ident("e"), "account", str(ident("somebody")), AS_OF - DAY)
    with servers.store(World(messages=(m,), feedback=(consent,), erasures=(request,))) as store:
        assert run(store, AS_OF).code == 0
        assert look(store).feedback == frozenset()
        assert run(store, AS_OF + DAY).code == 0
        assert look(store).app == {}


def test_a_request_made_by_command_is_carried_out(servers: Servers) -> None:
    m: Message = message("by command", age=DAY)
    with servers.store(World(messages=(m,))) as store:
        asked = store.cli("erase", "request", "--scope", "account", "--target", m.account_id, check=False)
        assert asked.returncode == 0, asked.stderr
        assert run(store, AS_OF).code == 0
        observed = look(store)
    assert observed.app == {}
    assert [outcome for _, outcome in observed.erasures.values()] == ["done"]
