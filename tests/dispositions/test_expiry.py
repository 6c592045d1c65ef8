"""Messages that fall due: deleted with everything that belongs to them, de-identified, or kept readable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from dispositions.conftest import RunWorld
from oracle.compare import differences, place_of, report
from oracle.dates import TICK, default_boundary
from oracle.endstate import judge_run
from oracle.facts import (
    Agreement,
    Case,
    Feedback,
    Flag,
    Message,
    ResearchRow,
    Retain,
    StoredObject,
    Training,
    World,
    ident,
)
from oracle.named import AS_OF, DAY, flag, in_landing, in_partition, message
from oracle.observe import Observed
from oracle.oracle import Place
from oracle.stores import Servers, at, look, run

pytestmark = pytest.mark.timeout(300)

EARLIER = b'{"body": "an earlier version"}'
GONE = {
    "inline": message("d inline", tools=("search", "browse")),
    "object": in_partition(message("d object", "beta"), EARLIER, EARLIER),
    "landing": in_landing(message("d landing"), EARLIER),
    "business": message("d business", "business", DAY * 26),
    "business object": in_landing(message("d business object", "business", DAY * 40)),
    "cleared flag": message("d cleared flag"),
    "withdrawn": message("d withdrawn"),
    "ended agreement": message("d ended agreement", "business", DAY * 40),
    "closed case": message("d closed case", "business", DAY * 40),
    "case on consumer": message("d case on consumer"),
    "zero days": message("d zero days", "business", DAY * 0 + TICK),
    "seven days": in_partition(message("d seven days", "business", DAY * 4 + TICK)),
    "unknown tier": message("d unknown tier", "prototype", DAY * 26),
    "just due": message("d just due", received_at=default_boundary(AS_OF, 90) - TICK),
}
KEPT = {
    "fresh": message("k fresh", age=DAY * 50, tools=("search",)),
    "fresh landing": in_landing(message("k fresh landing", age=DAY)),
    "fresh versions": in_partition(message("k fresh versions", age=DAY), EARLIER),
    "at the cut-off": message("k at the cut-off", received_at=default_boundary(AS_OF, 90)),
    "consented": in_landing(message("k consented", "beta", conversation="k conversation")),
    "consented other": message("k consented other", "beta", conversation="k conversation", account="k consented"),
    "consented business": message("k consented business", "business", DAY * 300),
    "agreed 365": in_partition(message("k agreed 365", "business", DAY * 200)),
    "open case": message("k open case", "business", DAY * 900),
    "agreed 7, not yet": message("k agreed 7, not yet", "business", DAY * 4),
    "unknown tier": message("k unknown tier", "prototype", DAY * 25),
    "arrived later": message("k arrived later", received_at=AS_OF),
}
EVALUATION = {
    "inline": message("e inline", "evaluation", body="five!"),
    "object": in_partition(message("e object", "evaluation", body="ünïcödé ☕"), EARLIER),
    "landing": in_landing(message("e landing", "evaluation", body="x" * 123)),
    "not json": replace(
        message("e raw", "evaluation", DAY * 140),
        body=None,
        stored=StoredObject(
            message("e raw", "evaluation", DAY * 140).partitioned_key, ("ça va".encode(),), "text/plain"
        ),
    ),
}


def whole_world() -> World:
    everyone = (*GONE.values(), *KEPT.values(), *EVALUATION.values())
    children = (GONE["inline"], KEPT["fresh"], EVALUATION["inline"])
    business = "prompts_and_outputs"
    old = AS_OF - DAY * 999
    return World(
        messages=everyone,
        flags=(
            flag(GONE["cleared flag"], cleared_at=AS_OF - DAY),
            Flag(ident("nobody"), ident("x"), AS_OF - DAY, AS_OF),
        ),
        feedback=(
            _consent("f1", KEPT["consented"]),
            _consent("f2", KEPT["consented business"]),
            replace(_consent("f3", GONE["withdrawn"]), withdrawn_at=AS_OF),
        ),
        agreements=(
            Agreement(ident("a1"), KEPT["agreed 365"].account_id, Retain(days=365), old),
            Agreement(ident("a2"), GONE["zero days"].account_id, Retain(), old),
            Agreement(ident("a3"), GONE["seven days"].account_id, Retain(days=7), old),
            Agreement(ident("a4"), KEPT["agreed 7, not yet"].account_id, Retain(days=7), old),
            Agreement(ident("a5"), GONE["ended agreement"].account_id, Retain(days=365), old, AS_OF, business),
        ),
        cases=(
            Case(ident("c1"), KEPT["open case"].account_id, AS_OF - DAY),
            Case(ident("c2"), GONE["closed case"].account_id, old, AS_OF),
            Case(ident("c3"), GONE["case on consumer"].account_id, old),
        ),
        training=tuple(
            Training(ident("t", m.message_id), m.message_id, m.account_id, "permission", m.received_at)
            for m in children
        ),
        partitions=frozenset((m.tier, m.received_at.date()) for m in everyone[::2] if m.tier != "prototype"),
    )


def _consent(name: str, m: Message) -> Feedback:
    return Feedback(ident(name), m.account_id, m.conversation_id, m.message_id, AS_OF - DAY)


@pytest.fixture(scope="module")
def seen(after_run: RunWorld) -> Iterator[Observed]:
    world = whole_world()
    with after_run(world) as (_, observed):
        found = differences(judge_run(world, AS_OF), observed)
        assert not found, report(found)
        yield observed


@pytest.mark.parametrize("name", GONE)
def test_a_due_message_is_deleted_with_children_object_and_versions_case_2(seen: Observed, name: str) -> None:
    m = GONE[name]
    assert place_of(m.message_id, seen) is Place.GONE
    assert m.message_id not in seen.tools
    assert m.message_id not in seen.flags
    assert ident("t", m.message_id) not in seen.training
    assert not [key for key in (*seen.data, *seen.quarantine) if str(m.message_id) in key]


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_message_stays_readable_under_its_key(seen: Observed, name: str) -> None:
    m = KEPT[name]
    now = seen.app[m.message_id]
    assert replace(now, stored=None) == replace(m, stored=None)
    if m.stored is not None:
        assert now.stored is not None
        assert (now.stored.content, now.stored.key) == (m.stored.content, m.partitioned_key)


def test_a_moved_landing_object_leaves_nothing_in_landing(seen: Observed) -> None:
    assert [key for key in seen.data if key.startswith("landing/")] == []


def test_earlier_versions_of_a_kept_object_are_left_alone(seen: Observed) -> None:
    assert seen.data[KEPT["fresh versions"].partitioned_key].versions == 2


def test_due_evaluation_messages_are_de_identified_and_nothing_else_survives(seen: Observed) -> None:
    """Only tier, model, role, month and a length are left (case 22)."""
    january, march = date(2023, 1, 1), date(2023, 3, 1)
    rows = [
        ResearchRow("evaluation", "m-1", "prompt", march, 5),
        ResearchRow("evaluation", "m-1", "prompt", march, 9),
        ResearchRow("evaluation", "m-1", "prompt", march, 123),
        ResearchRow("evaluation", "m-1", "prompt", january, 5),
    ]
    assert sorted(seen.research.elements()) == sorted(rows)
    for m in EVALUATION.values():
        assert place_of(m.message_id, seen) is Place.GONE
        assert not [key for key in (*seen.data, *seen.quarantine) if str(m.message_id) in key]


def test_default_partitions_are_drained_case_12(after_run: RunWorld) -> None:
    """What arrived before its day's partition existed lies in a day of its own afterwards, readable as before."""
    late = [
        message(f"late {n}", tier, DAY * 20) for n, tier in enumerate(("consumer", "beta", "evaluation", "business"))
    ]
    with after_run(World(messages=tuple(late))) as (store, _):
        rows = store.sql(
            """SELECT count(*) FROM app.messages
               WHERE tableoid::regclass::text LIKE 'app.messages\\_%%\\_default' AND tier = ANY (%s)""",
            ["consumer", "beta", "evaluation", "business"],
        )
        names = store.sql("SELECT DISTINCT tableoid::regclass::text FROM app.messages ORDER BY 1")
    assert rows == [(0,)]
    assert [name for (name,) in names] == sorted(f"app.messages_{m.tier}_{m.received_at:%Y%m%d}" for m in late)


def test_partitions_are_created_ahead(after_run: RunWorld) -> None:
    with after_run(World(messages=(message("any"),))) as (store, _):
        for ahead in (0, 1, 7):
            name = f"app.messages_consumer_{AS_OF + DAY * ahead:%Y%m%d}"
            assert store.value("SELECT to_regclass(%s) IS NOT NULL", name), ahead


def test_due_rows_of_a_default_partition_go_as_well_case_12(after_run: RunWorld) -> None:
    overdue, unknown = message("overdue", age=DAY * 500), message("overdue unknown", "prototype", DAY * 500)
    with after_run(World(messages=(overdue, unknown))) as (_, seen):
        assert seen.app == {}


def test_unknown_tiers_are_counted_and_shown_case_23(servers: Servers) -> None:
    due, fresh = message("due", "prototype", DAY * 26), message("fresh", "prototype", DAY * 2)
    with servers.store(World(messages=(due, fresh))) as store:
        done = run(store, AS_OF)
        rules = store.sql(
            "SELECT rule, sum((counts ->> 'records')::int) FROM lifecycle.ledger WHERE entry = 'outcome' GROUP BY 1"
        )
        said = json.loads(store.cli("explain", fresh.message_id, "--as-of", at(AS_OF), "--json").stdout)
    assert done.code == 0, str(done)
    assert rules == [("unclassified", 1)]
    assert said["deciding_rule"] == "unclassified"


def test_agreements_shorter_than_the_default_are_honoured_in_days_that_are_not_due(servers: Servers) -> None:
    """One account's zero days empty its rows out of a day whose other rows stay."""
    at_noon = AS_OF - DAY * 3
    zero = [message(f"zero {n}", "business", received_at=at_noon, account="zero") for n in range(3)]
    others = [message(f"other {n}", "business", received_at=at_noon, account="other") for n in range(3)]
    agreement = Agreement(ident("z"), zero[0].account_id, Retain(), AS_OF - DAY * 100)
    world = World(
        messages=(*zero, *others), agreements=(agreement,), partitions=frozenset({("business", at_noon.date())})
    )
    with servers.store(world) as store:
        assert run(store, AS_OF).code == 0
        assert look(store).app.keys() == {m.message_id for m in others}


def test_an_agreement_about_something_else_changes_nothing(after_run: RunWorld) -> None:
    m = message("m", "business", DAY * 40)
    other = Agreement(ident("o"), m.account_id, Retain(days=365), AS_OF - DAY * 100, category="feedback")
    with after_run(World(messages=(m,), agreements=(other,))) as (_, seen):
        assert seen.app == {}


def test_a_run_of_one_tier_leaves_the_others_alone(servers: Servers) -> None:
    tiers = ("consumer", "beta", "evaluation", "business")
    due = [message(f"due {tier}", tier) for tier in tiers]
    flagged = [message(f"flagged {tier}", tier, DAY) for tier in tiers]
    with servers.store(World(messages=(*due, *flagged), flags=tuple(flag(m) for m in flagged))) as store:
        assert run(store, AS_OF, "--tier", "beta").code == 0
        seen = look(store)
    assert seen.app.keys() == {m.message_id for m in (*due, *flagged) if m.tier != "beta"}
    assert seen.index.keys() == {m.message_id for m in flagged if m.tier == "beta"}
    assert not seen.research


def test_somebody_elses_consent_keeps_the_whole_conversation(after_run: RunWorld) -> None:
    mine = message("mine", account="me", conversation="shared")
    yours = message("yours", account="you", conversation="shared")
    consent = Feedback(ident("f"), yours.account_id, yours.conversation_id, None, AS_OF - DAY)
    with after_run(World(messages=(mine, yours), feedback=(consent,))) as (_, seen):
        assert seen.app.keys() == {mine.message_id, yours.message_id}


def test_a_closed_case_hands_over_to_the_accounts_ordinary_rule_case_5(servers: Servers) -> None:
    m = in_landing(message("enforced", "business", DAY * 200))
    with servers.store(World(messages=(m,), cases=(Case(ident("c"), m.account_id, AS_OF - DAY * 190),))) as store:
        assert run(store, AS_OF).code == 0
        assert place_of(m.message_id, look(store)) is Place.APP
        store.sql("UPDATE app.enforcement_cases SET closed_at = %s", AS_OF + DAY)
        assert run(store, AS_OF + DAY).code == 0
        assert look(store).app == {}


def test_a_withdrawn_consent_no_longer_counts_from_its_instant_on(servers: Servers) -> None:
    m = message("consented")
    with servers.store(World(messages=(m,), feedback=(_consent("f", m),))) as store:
        store.sql("UPDATE app.feedback SET withdrawn_at = %s", AS_OF + TICK)
        assert run(store, AS_OF).code == 0
        assert place_of(m.message_id, look(store)) is Place.APP
        assert run(store, AS_OF + TICK).code == 0
        after = look(store)
    assert place_of(m.message_id, after) is Place.GONE
    assert after.feedback == {ident("f")}, "the submission itself stays its ten years"
