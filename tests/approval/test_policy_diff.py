"""`policy diff` counts from metadata and exceptions what deciding every record one by one would count (case 20)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Catalog, Records
from lifecycle.config import load_configuration
from lifecycle.planning.due_clocks import due_clocks
from lifecycle.planning.policy_diff import Change, changes_fate
from lifecycle.policy.decide import Fact, decide, horizon
from lifecycle.policy.models import Category, Policy
from lifecycle.stores.postgres.facts import message_facts
from lifecycle.stores.postgres.fates import fate_parameters, record_fate, table
from lifecycle.stores.postgres.messages import locate
from lifecycle.stores.postgres.policy_diff import measure
from lifecycle.stores.postgres.policy_sources import Pair
from oracle.busy import AS_OF, DAY, busy_world
from oracle.facts import World
from oracle.load import write_rows
from oracle.stores import Servers
from properties.budget import budget
from properties.worlds import worlds
from support.edits import PERIODS, lead, order, period, policies, shipped_policy, without

Found = dict[tuple[str, str, str, str, str], tuple[int, datetime | None, datetime | None]]


@dataclass
class Judged:
    """A store, and what `decide` needs of every message in it."""

    conn: Any
    catalog: Catalog
    as_of: datetime
    messages: list[tuple[str, datetime, list[Fact]]]


def _judged(conn: Any, as_of: datetime) -> Judged:
    catalog = load_configuration().catalog
    found = []
    for (record,) in conn.execute("SELECT message_id FROM app.messages").fetchall():
        located = locate(conn, catalog, record)
        assert located is not None
        found.append((located.tier, located.clock.astimezone(UTC), message_facts(conn, catalog, record, located)))
    return Judged(conn, catalog, as_of, found)


def _add(found: Found, key: tuple[str, str, str, str, str], clock: datetime, count: int = 1) -> None:
    n, oldest, newest = found.get(key, (0, None, None))
    found[key] = (n + count, min(oldest or clock, clock), max(newest or clock, clock))


def brute_force(judged: Judged, old: Policy, new: Policy) -> Found:
    """Every message decided by `decide` under both policies, every other record by its whole table."""
    found: Found = {}
    tiers = {"consumer", "beta", "evaluation", "business"}
    for tier, clock, facts in judged.messages:
        if clock >= judged.as_of:
            continue
        before, after = (
            decide(Category.PROMPTS_AND_OUTPUTS, tier, clock, facts, policy, judged.as_of) for policy in (old, new)
        )
        was, becomes = (f"{d.disposition.value}:{d.rule}" for d in (before, after))
        if changes_fate(was, becomes):
            shown = tier if tier in tiers else "unclassified"
            _add(found, ("messages", shown, "prompts_and_outputs", was, becomes), clock)
    for dataset in judged.catalog.records:
        _brute_force_table(judged, dataset, old, new, found)
    _brute_force_table(judged, judged.catalog.accounts, old, new, found)
    return found


def _brute_force_table(judged: Judged, dataset: Records | Accounts, old: Policy, new: Policy, found: Found) -> None:
    fates = []
    for policy in (old, new):
        rows = judged.conn.execute(
            sql.SQL("SELECT m.{key}, m.{clock}, {fate} FROM {t} m WHERE m.{clock} < %(as_of)s").format(
                key=sql.Identifier(dataset.key),
                clock=sql.Identifier(column_of(dataset.clock)),
                fate=record_fate(policy, judged.catalog, dataset),
                t=table(dataset.table),
            ),
            fate_parameters(policy, judged.as_of),
        ).fetchall()
        fates.append({key: (clock, fate) for key, clock, fate in rows})
    for key, (clock, before) in fates[0].items():
        after = fates[1][key][1]
        if changes_fate(before, after):
            _add(found, (dataset.id, "all", dataset.category.value, before, after), clock)


def measured(judged: Judged, old: Policy, new: Policy) -> Found:
    changes = measure(judged.conn, Pair(old, judged.catalog, new, judged.catalog, judged.as_of), ())
    return {_key(change): (change.records, change.oldest, change.newest) for change in changes}


def _key(change: Change) -> tuple[str, str, str, str, str]:
    return (change.dataset, change.tier, change.category, change.before, change.after)


@pytest.fixture(scope="module")
def busy(servers: Servers) -> Iterator[Judged]:
    """One world in which every exception befalls messages of every age and tier."""
    with servers.store() as store, store.connect() as conn:
        write_rows(conn, busy_world())
        yield _judged(conn, AS_OF)


@budget(40)
@given(policies(), policies())
def test_the_diff_of_any_two_policies_is_that_of_deciding_every_record(busy: Judged, old: Policy, new: Policy) -> None:
    assert measured(busy, old, new) == brute_force(busy, old, new)


def test_the_diff_at_every_boundary(servers: Servers) -> None:
    """Generated worlds: exceptions that overlap, have ended or come later, clocks at ±1 µs of the boundaries."""
    pairs = [
        (shipped_policy(), shipped_policy(period(name, value))) for name, values in PERIODS.items() for value in values
    ]
    pairs.append((shipped_policy(), shipped_policy(lead("failed_runs", "P0D"), without("safety_flagged"))))
    pairs.append(
        (shipped_policy(), shipped_policy(order("hold", "erasure", "case", "flag", "consent", "agreement", "default")))
    )
    compared = 0
    differences: list[object] = []

    @budget(1)
    @given(worlds(stories=40))
    def explore(drawn: tuple[World, datetime]) -> None:
        nonlocal compared
        world, as_of = drawn
        with servers.store() as store, store.connect() as conn:
            write_rows(conn, world)
            judged = _judged(conn, as_of)
            for old, new in pairs:
                for one, other in ((old, new), (new, old)):
                    expected, found = brute_force(judged, one, other), measured(judged, one, other)
                    wrong = {key: (expected.get(key), found.get(key)) for key in expected.keys() | found.keys()}
                    differences.extend((as_of, key, pair) for key, pair in wrong.items() if pair[0] != pair[1])
                    compared += sum(n for n, _, _ in expected.values())

    explore()
    assert differences == []
    assert compared > 100


def test_a_change_of_words_measures_nothing(busy: Judged) -> None:
    old = shipped_policy()
    assert measured(busy, old, old) == {}


@pytest.mark.parametrize(
    "as_of", [datetime(2026, 3, 1, 10, tzinfo=UTC), datetime(2026, 2, 25, 12, tzinfo=UTC)], ids=str
)
@pytest.mark.parametrize("value", ["P90D", "P3M", "P1M", "P2Y", "P10Y", "P1M3DT5H"])
@pytest.mark.parametrize("name", ["consumer_default", "feedback"])
def test_the_due_clocks_are_those_whose_period_has_ended_case_11(as_of: datetime, value: str, name: str) -> None:
    """Around the end of a month a later clock can be due before an earlier one."""
    policy = shipped_policy(period(name, value))
    rule = policy.rule(name)
    limit = as_of if rule.round_up else horizon(policy, as_of)
    due = due_clocks(rule, policy, as_of)
    clock, stop = due[-1].high - DAY * 12, due[-1].high + DAY * 12
    edges = [edge for each in due for edge in (each.low, each.high) if each.low > clock or edge is each.high]
    steps = [clock + timedelta(hours=3) * n for n in range(8 * 24)]
    for at in (*(t for edge in edges for t in (edge - edge.resolution, edge)), *steps):
        end = rule.end(at)
        assert end is not None
        assert any(each.low <= at < each.high for each in due) == (end < limit and at < as_of), at
    assert steps[-1] < stop
