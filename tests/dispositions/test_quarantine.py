"""Flagged messages: into quarantine at once, back or away when the flag is cleared, away two years after receipt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from dispositions.conftest import RunWorld
from oracle.change import apply_changes
from oracle.compare import differences, place_of, report, world_after
from oracle.dates import LEAD, TICK, years_later
from oracle.endstate import judge_run
from oracle.facts import Erasure, Feedback, Hold, Message, StoredObject, Training, World, ident
from oracle.named import AS_OF, DAY, HOUR, flag, in_landing, in_partition, message
from oracle.observe import Observed
from oracle.oracle import Place
from oracle.stores import Servers, at, look, run

pytestmark = pytest.mark.timeout(300)

INLINE = message("inline", age=DAY * 2, body='naïve "quoted" \\ ☕\n', tools=("browse", "search"))
LANDING = in_landing(message("landing", "beta", DAY * 3))
VERSIONED = in_partition(message("versioned", "evaluation", DAY * 4), b'{"body": "an earlier version"}')
BINARY = replace(
    message("binary", age=DAY * 5),
    body=None,
    stored=StoredObject(message("binary", age=DAY * 5).partitioned_key, (bytes(range(256)) * 50,), "application/x-odd"),
)
OLD = message("old", age=DAY * 300)
FLAGGED = (INLINE, LANDING, VERSIONED, BINARY, OLD)
BUSINESS = message("business", "business", DAY * 2)
OVER = message("over", received_at=years_later(AS_OF + LEAD, -2, up=False) - TICK)
NOT_OVER = message("not over", received_at=years_later(AS_OF + LEAD, -2, up=False))


@pytest.fixture(scope="module")
def seen(after_run: RunWorld) -> Iterator[Observed]:
    messages = (*FLAGGED, BUSINESS, OVER, NOT_OVER)
    world = World(
        messages=messages,
        flags=tuple(flag(m) for m in messages),
        training=(Training(ident("t"), INLINE.message_id, INLINE.account_id, "safety_review", INLINE.received_at),),
    )
    with after_run(world) as (_, observed):
        found = differences(judge_run(world, AS_OF), observed)
        assert not found, report(found)
        yield observed


def by_name(m: Message) -> str:
    return m.tier


@pytest.mark.parametrize("m", FLAGGED, ids=["inline", "landing", "versioned", "binary", "old"])
def test_a_flagged_message_moves_at_once_whatever_its_age(seen: Observed, m: Message) -> None:
    assert m.message_id not in seen.app
    assert m.quarantine_prefix + "record.json" in seen.quarantine
    assert not [key for key in seen.data if str(m.message_id) in key]


def test_record_json_is_the_row_and_its_children(seen: Observed) -> None:
    content = seen.quarantine[INLINE.quarantine_prefix + "record.json"].content
    record = json.loads(content or b"")
    assert {key: record[key] for key in ("version", "table")} == {"version": 1, "table": "app.messages"}
    row = record["row"]
    assert datetime.fromisoformat(row.pop("received_at")) == INLINE.received_at
    assert row == {
        "message_id": str(INLINE.message_id),
        "conversation_id": str(INLINE.conversation_id),
        "account_id": str(INLINE.account_id),
        "tier": "consumer",
        "role": "prompt",
        "model": "m-1",
        "client_ip": "192.0.2.1",
        "body": INLINE.body,
        "object_key": None,
    }
    assert sorted(record["children"]["app.message_tools"], key=lambda tool: str(tool["tool_name"])) == [
        {"message_id": str(INLINE.message_id), "tool_name": name} for name in INLINE.tools
    ]


@pytest.mark.parametrize("m", [LANDING, VERSIONED, BINARY], ids=["landing", "versioned", "binary"])
def test_the_object_is_byte_identical_with_its_content_type(seen: Observed, m: Message) -> None:
    assert m.stored is not None
    copy = seen.quarantine[m.quarantine_prefix + "object"]
    assert (copy.content, copy.content_type) == (m.stored.content, m.stored.content_type)
    assert seen.index[m.message_id].object_sha256 == hashlib.sha256(m.stored.content).hexdigest()


def test_an_inline_message_has_no_object_in_quarantine(seen: Observed) -> None:
    assert INLINE.quarantine_prefix + "object" not in seen.quarantine
    assert seen.index[INLINE.message_id].object_sha256 is None


@pytest.mark.parametrize("m", [LANDING, BINARY], ids=["landing", "binary"])
def test_the_copies_carry_the_original_times_case_17(seen: Observed, m: Message) -> None:
    """Receipt and flag travel in the metadata, so that no clock starts again."""
    for name in ("record.json", "object"):
        instants = set(map(_instant, seen.quarantine[m.quarantine_prefix + name].metadata.values()))
        assert m.received_at in instants, name
        assert m.received_at + HOUR in instants, name


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def test_flags_and_valid_training_examples_stay_in_the_store(seen: Observed) -> None:
    assert {m.message_id for m in FLAGGED} <= seen.flags
    assert ident("t") in seen.training


def test_a_flag_on_a_business_message_moves_nothing(seen: Observed) -> None:
    assert place_of(BUSINESS.message_id, seen) is Place.APP


def test_flagged_two_years_after_receipt_is_gone_and_a_microsecond_less_is_not_case_10(seen: Observed) -> None:
    assert place_of(OVER.message_id, seen) is Place.GONE
    assert place_of(NOT_OVER.message_id, seen) is Place.QUARANTINE
    assert OVER.message_id not in seen.flags


# The second run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Second:
    """Messages that were quarantined in one run, and where they were after the next."""

    first: Observed
    second: Observed
    left: World


FRESH = in_landing(message("fresh", age=DAY * 10, tools=("search",)), b'{"body": "earlier"}')
FRESH_INLINE = message("fresh inline", "beta", DAY * 10, tools=("browse",))
DUE = in_partition(message("due", age=DAY * 120))
DUE_EVALUATION = message("due evaluation", "evaluation", DAY * 120, body="y" * 77)
CONSENTED = message("consented", age=DAY * 120)
ERASED = in_partition(message("erased", age=DAY * 10))
HELD_THEN = in_partition(message("held then", age=DAY * 120))
STILL = in_partition(message("still", age=DAY * 120))
CLEARED = (FRESH, FRESH_INLINE, DUE, DUE_EVALUATION, CONSENTED, ERASED, HELD_THEN)


@pytest.fixture(scope="module")
def second(servers: Servers) -> Iterator[Second]:
    world = World(messages=(*CLEARED, STILL), flags=tuple(flag(m) for m in (*CLEARED, STILL)))
    with servers.store(world) as store, store.connect() as conn:
        assert run(store, AS_OF).code == 0
        first = look(store)
        left = world_after(judge_run(world, AS_OF), first)
        cleared = {m.message_id for m in CLEARED}
        later = replace(
            left,
            flags=tuple(replace(f, cleared_at=AS_OF + HOUR) if f.message_id in cleared else f for f in left.flags),
            feedback=(Feedback(ident("f"), CONSENTED.account_id, CONSENTED.conversation_id, None, AS_OF),),
            erasures=(Erasure(ident("e"), "message", str(ERASED.message_id), AS_OF),),
            holds=(Hold(ident("h"), "message", str(HELD_THEN.message_id), AS_OF),),
        )
        apply_changes(conn, left, later)
        done = run(store, AS_OF + DAY)
        assert done.code == 0, str(done)
        observed = look(store)
        found = differences(judge_run(later, AS_OF + DAY), observed)
        assert not found, report(found)
        yield Second(first, observed, left)


def test_all_were_in_quarantine_after_the_first_run(second: Second) -> None:
    assert second.first.index.keys() == {m.message_id for m in (*CLEARED, STILL)}


@pytest.mark.parametrize("m", [FRESH, FRESH_INLINE], ids=["with object", "inline"])
def test_a_cleared_message_that_is_not_due_comes_back_whole(second: Second, m: Message) -> None:
    back = second.second.app[m.message_id]
    assert replace(back, stored=None) == replace(m, stored=None)
    if m.stored is not None:
        assert back.stored == StoredObject(m.partitioned_key, (m.stored.content,), m.stored.content_type)
    assert not [key for key in second.second.quarantine if str(m.message_id) in key]


@pytest.mark.parametrize("m", [DUE, DUE_EVALUATION], ids=["consumer", "evaluation"])
def test_a_cleared_message_that_is_due_is_deleted_from_quarantine(second: Second, m: Message) -> None:
    assert place_of(m.message_id, second.second) is Place.GONE
    assert not [key for key in (*second.second.quarantine, *second.second.data) if str(m.message_id) in key]


def test_a_cleared_evaluation_message_that_is_due_is_de_identified(second: Second) -> None:
    assert [row.body_chars for row in second.second.research.elements()] == [77]


def test_a_cleared_message_that_was_consented_comes_back(second: Second) -> None:
    assert place_of(CONSENTED.message_id, second.second) is Place.APP


def test_a_cleared_message_that_was_asked_to_be_erased_is_deleted(second: Second) -> None:
    assert place_of(ERASED.message_id, second.second) is Place.GONE


def test_a_cleared_message_under_hold_stays_in_quarantine(second: Second) -> None:
    assert place_of(HELD_THEN.message_id, second.second) is Place.QUARANTINE


def test_an_uncleared_message_stays_in_quarantine_untouched(second: Second) -> None:
    for name in ("record.json", "object"):
        key = STILL.quarantine_prefix + name
        assert second.second.quarantine[key] == second.first.quarantine[key]


def test_two_years_after_receipt_quarantine_is_empty_with_all_versions(servers: Servers) -> None:
    """The flag still stands, and a consent does not prolong it: two years from receipt is a maximum."""
    m = in_partition(message("two years", received_at=AS_OF - DAY))
    consent = Feedback(ident("f"), m.account_id, m.conversation_id, m.message_id, AS_OF - DAY)
    with servers.store(World(messages=(m,), flags=(flag(m),), feedback=(consent,))) as store:
        assert run(store, AS_OF).code == 0
        end = years_later(m.received_at, 2, up=False)
        assert run(store, end - LEAD).code == 0
        assert place_of(m.message_id, look(store)) is Place.QUARANTINE
        done = run(store, end - LEAD + TICK)
        assert done.code == 0, str(done)
        observed = look(store)
        assert (dict(observed.quarantine), dict(observed.index)) == ({}, {})
        assert observed.flags == frozenset()
        assert done.disposed() == {"delete": 1}


def test_a_leap_days_two_years_end_on_28_february_case_11(servers: Servers) -> None:
    from oracle.dates import utc

    m = message("leap", received_at=utc(2024, 2, 29, 8))
    with servers.store(World(messages=(m,), flags=(flag(m),))) as store:
        assert run(store, utc(2026, 2, 25, 8)).code == 0
        assert place_of(m.message_id, look(store)) is Place.QUARANTINE
        assert run(store, utc(2026, 2, 25, 8) + TICK).code == 0
        assert place_of(m.message_id, look(store)) is Place.GONE


def test_explain_follows_a_message_into_quarantine(servers: Servers) -> None:
    m = message("explained", age=DAY * 5)
    with servers.store(World(messages=(m,), flags=(flag(m),))) as store:
        assert run(store, AS_OF).code == 0
        said = json.loads(store.cli("explain", m.message_id, "--as-of", at(AS_OF), "--json").stdout)
    assert (said["location"], said["deciding_rule"], said["disposition"]) == (
        "quarantine",
        "safety_flagged",
        "quarantine",
    )
    assert datetime.fromisoformat(said["clock"]) == m.received_at
    assert datetime.fromisoformat(said["deadline"]) - m.received_at > timedelta(days=729)
