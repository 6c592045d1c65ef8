"""What is under hold is not deleted, not de-identified, not moved and not hidden, by whatever name it is held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dispositions.conftest import RunWorld
from oracle.compare import differences, place_of, report, world_after
from oracle.dates import TICK
from oracle.endstate import judge_run
from oracle.facts import Erasure, Hold, World, ident
from oracle.named import AS_OF, DAY, account_of, flag, in_landing, in_partition, message
from oracle.observe import Observed
from oracle.oracle import Place
from oracle.stores import Servers, look, run

pytestmark = pytest.mark.timeout(300)

EARLIER = b'{"body": "an earlier version"}'
HELD = {
    "by message": message("h message", tools=("search",)),
    "by account": in_partition(message("h account", "beta"), EARLIER),
    "by conversation": message("h conversation", "business", DAY * 50),
    "evaluation": message("h evaluation", "evaluation", DAY * 100),
    "flagged": in_partition(message("h flagged", age=DAY * 5), EARLIER),
    "flagged and due": message("h flagged and due", age=DAY * 900),
    "landing": in_landing(message("h landing", age=DAY), EARLIER),
    "landing and due": in_landing(message("h landing and due", "business", DAY * 60)),
    "landing and flagged": in_landing(message("h landing and flagged", "beta", DAY * 60)),
    "asked to be erased": in_partition(message("h erased", age=DAY)),
    "hold begins later": message("h later"),
    "hold ends later": message("h ends later"),
    "unknown tier": message("h unknown", "prototype", DAY * 100),
}
FREE = {
    "released": message("f released"),
    "released at the very instant": message("f at the instant"),
    "other message of the account": message("f other", account="h message"),
}


def _hold(name: str, scope: str, target: object, **times: object) -> Hold:
    return replace(Hold(ident("hold", name), scope, str(target), AS_OF - DAY), **times)  # type: ignore[arg-type]


def held_world() -> World:
    holds = [_hold(n, "message", m.message_id) for n, m in HELD.items() if n not in ("by account", "by conversation")]
    holds = [
        h for h in holds if h.target not in (str(HELD[n].message_id) for n in ("hold begins later", "hold ends later"))
    ]
    holds += [
        _hold("by account", "account", HELD["by account"].account_id),
        _hold("by conversation", "conversation", HELD["by conversation"].conversation_id),
        _hold("begins later", "message", HELD["hold begins later"].message_id, placed_at=AS_OF + DAY),
        _hold("ends later", "message", HELD["hold ends later"].message_id, released_at=AS_OF + TICK),
        _hold("released", "message", FREE["released"].message_id, released_at=AS_OF - DAY),
        _hold("instant", "account", FREE["released at the very instant"].account_id, released_at=AS_OF),
    ]
    flagged = [m for name, m in HELD.items() if "flagged" in name]
    return World(
        messages=(*HELD.values(), *FREE.values()),
        flags=tuple(flag(m) for m in flagged),
        holds=tuple(holds),
        erasures=(Erasure(ident("e"), "message", str(HELD["asked to be erased"].message_id), AS_OF - DAY),),
    )


@pytest.fixture(scope="module")
def seen(after_run: RunWorld) -> Iterator[Observed]:
    world = held_world()
    with after_run(world) as (_, observed):
        found = differences(judge_run(world, AS_OF), observed)
        assert not found, report(found)
        yield observed


@pytest.mark.parametrize("name", HELD)
def test_a_held_message_is_where_and_as_it_was(seen: Observed, name: str) -> None:
    m = HELD[name]
    now = seen.app[m.message_id]
    assert replace(now, stored=None) == replace(m, stored=None)
    assert m.message_id not in seen.index
    if m.stored is not None:
        assert now.stored is not None
        assert (now.stored.key, now.stored.content) == (m.stored.key, m.stored.content)
        stored = seen.data[m.stored.key]
        assert (stored.versions, stored.markers) == (len(m.stored.versions), 0)


@pytest.mark.parametrize("name", FREE)
def test_what_is_not_under_hold_goes(seen: Observed, name: str) -> None:
    assert place_of(FREE[name].message_id, seen) is Place.GONE


def test_a_held_evaluation_message_leaves_no_research_row(seen: Observed) -> None:
    assert not seen.research


def test_an_erasure_that_a_hold_refuses_says_so(seen: Observed) -> None:
    assert seen.erasures[ident("e")] == (AS_OF, "kept: legal_obligation")


@pytest.mark.parametrize("name", ["messages", "app.messages"])
def test_a_whole_dataset_under_hold_keeps_every_message(servers: Servers, name: str) -> None:
    world = World(
        messages=tuple(
            message(f"m {tier}", tier, DAY * 200) for tier in ("consumer", "beta", "evaluation", "business")
        ),
        holds=(_hold("all", "dataset", name),),
    )
    with servers.store(world) as store:
        done = run(store, AS_OF)
        assert done.code == 0, str(done)
        assert look(store).app.keys() == {m.message_id for m in world.messages}


def test_a_target_in_capitals_holds_as_well(servers: Servers) -> None:
    """Other systems write the table directly; the same identifier in another spelling must not lose what it names."""
    m = message("capitals")
    holds = (replace(_hold("c", "message", ""), target=str(m.message_id).upper()),)
    with servers.store(World(messages=(m,), holds=holds)) as store:
        assert run(store, AS_OF).code == 0
        assert place_of(m.message_id, look(store)) is Place.APP


def test_release_makes_what_is_overdue_due_at_once_case_5(servers: Servers) -> None:
    overdue, fresh = in_partition(message("overdue", age=DAY * 400)), message("fresh", age=DAY * 5)
    flagged = in_landing(message("flagged", "beta", DAY * 5))
    held = (overdue, fresh, flagged)
    world = World(
        messages=held,
        flags=(flag(flagged),),
        holds=tuple(_hold(str(n), "message", m.message_id) for n, m in enumerate(held)),
    )
    with servers.store(world) as store:
        assert run(store, AS_OF).code == 0
        expected = judge_run(world, AS_OF)
        left = world_after(expected, look(store))
        assert {m.message_id for m in left.messages} == {m.message_id for m in held}
        store.sql("UPDATE lifecycle.legal_holds SET released_at = %s", AS_OF + DAY)
        done = run(store, AS_OF + DAY)
        assert done.code == 0, str(done)
        after = look(store)
    assert place_of(overdue.message_id, after) is Place.GONE
    assert place_of(fresh.message_id, after) is Place.APP
    assert place_of(flagged.message_id, after) is Place.QUARANTINE
    assert done.disposed() == {"delete": 1, "quarantine": 1}


def test_a_hold_placed_by_command_holds(servers: Servers) -> None:
    m = message("by command", "business", DAY * 100)
    with servers.store(World(messages=(m,), accounts=(account_of(m),))) as store:
        store.cli("hold", "place", "--help")
        scope = ("--scope", "account", "--target", m.account_id)
        done = store.cli("hold", "place", *scope, "--reason", "litigation", "--by", "counsel", check=False)
        assert done.returncode == 0, done.stderr
        assert run(store, AS_OF).code == 0
        assert place_of(m.message_id, look(store)) is Place.APP


def test_a_held_message_in_quarantine_stays_there_past_its_two_years(servers: Servers) -> None:
    m = in_partition(message("quarantined", age=DAY))
    with servers.store(World(messages=(m,), flags=(flag(m),))) as store:
        assert run(store, AS_OF).code == 0
        store.insert(
            "lifecycle.legal_holds",
            scope="message",
            target=str(m.message_id),
            reason="litigation",
            placed_by="counsel",
            placed_at=AS_OF,
        )
        before = look(store)
        done = run(store, AS_OF + DAY * 500)
        assert done.code == 0, str(done)
        after = look(store)
        store.sql("UPDATE app.safety_flags SET cleared_at = %s", AS_OF + DAY * 500)
        assert run(store, AS_OF + DAY * 501).code == 0
        cleared = look(store)
    assert place_of(m.message_id, after) is Place.QUARANTINE
    assert dict(after.quarantine) == dict(before.quarantine) == dict(cleared.quarantine)


def test_a_hold_that_can_keep_nothing_is_said_by_every_run(servers: Servers) -> None:
    """Somebody relies on it: a name that was mistyped, or that the file had before. Targets are not repeated."""
    sound = [("dataset", "app.messages"), ("dataset", " app.message_tools")]
    odd = [("dataset", "app.Messages"), ("dataset", "chats"), ("account", "somebody@example.org"), ("message", "12")]
    sound += [("dataset", "product-logs"), ("dataset", "request_logs"), ("account", f" {ident('a')}".upper())]
    holds = {key: ident("hold", *key) for key in (*sound, *odd)}
    with servers.store() as store:
        for (scope, target), hold in holds.items():
            store.insert("lifecycle.legal_holds", hold_id=hold, scope=scope, target=target, reason="r", placed_by="p")
        done = run(store, AS_OF, scope="records")
        shown = json.loads(store.cli("hold", "list", "--idle", "--json").stdout)
    said = {(hold["scope"], hold["target"]) for hold in shown}
    assert said == set(odd) and "4 open hold(s) keep nothing" in done.stderr
    assert "somebody@example.org" not in done.stderr and "chats" not in done.stderr
