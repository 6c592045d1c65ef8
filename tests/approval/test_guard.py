"""The guarded fate is the loaded policy's where both policies treat a record alike, and waiting everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.config import load_configuration
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.models import Policy, Tier
from lifecycle.stores.postgres.facts import message_facts
from lifecycle.stores.postgres.fates import fate_parameters, message_fate, quarantine_fate, record_fate, table
from lifecycle.stores.postgres.guard import AWAITING, guard_of, hold_rule
from lifecycle.stores.postgres.messages import locate
from oracle.busy import AS_OF, busy_world
from oracle.load import write_rows
from oracle.stores import Servers
from properties.budget import budget
from support.edits import policies


@pytest.fixture(scope="module")
def busy(servers: Servers) -> Iterator[tuple[Any, Catalog, dict[Any, tuple[str, Any, list[Fact]]]]]:
    """A busy store, with a copy of every message's row in the quarantine's index, and what `decide` needs of each."""
    with servers.store() as store, store.connect() as conn:
        write_rows(conn, busy_world())
        catalog = load_configuration().catalog
        facts = {}
        for (record,) in conn.execute("SELECT message_id FROM app.messages").fetchall():
            found = locate(conn, catalog, record)
            assert found is not None
            facts[record] = (found.tier, found.clock, message_facts(conn, catalog, record, found))
        conn.execute(
            "INSERT INTO lifecycle.quarantine (message_id, conversation_id, account_id, tier, received_at,"
            " quarantined_at, prefix, record_sha256) SELECT message_id, conversation_id, account_id, tier, received_at,"
            " now(), '', '' FROM app.messages"
        )
        yield conn, catalog, facts


def _fates(
    conn: Any, relation: sql.Composable, key: str, fate: sql.Composable, params: Any, tier: Tier | None = None
) -> dict[Any, str]:
    where = sql.SQL("m.tier = {}").format(sql.Literal(tier.value)) if tier else sql.SQL("true")
    query = sql.SQL("SELECT m.{}, {} FROM {} m WHERE {}").format(sql.Identifier(key), fate, relation, where)
    return dict(conn.execute(query, params).fetchall())


@budget(12)
@given(policies(), policies())
def test_a_guarded_fate_is_what_both_agree_on(busy: Any, old: Policy, new: Policy) -> None:
    conn, catalog, facts = busy
    guard = guard_of(conn, catalog, old, catalog)
    params = fate_parameters(new, AS_OF) | guard.params(AS_OF)
    compared = 0
    for tier in Tier:
        loaded = message_fate(new, catalog, tier)
        fates = _fates(
            conn,
            table("app.messages"),
            "message_id",
            guard.message_fate(loaded, catalog.messages, tier),
            params,
            tier,
        )
        moved = _fates(
            conn,
            sql.SQL("lifecycle.quarantine"),
            "message_id",
            guard.quarantine_fate(quarantine_fate(new, catalog, tier), new, catalog.messages, tier),
            params,
            tier,
        )
        for record, found in fates.items():
            shown, clock, known = facts[record]
            before, after = (
                decide(catalog.messages.category, shown, clock, known, policy, AS_OF) for policy in (old, new)
            )
            alike = before.disposition is after.disposition
            assert found == (f"{after.disposition.value}:{after.rule}" if alike else f"keep:{AWAITING}")
            ways = [
                "stays" if d.disposition.value == "quarantine" or d.rule == hold_rule(p, tier) else d.disposition.value
                for d, p in ((before, old), (after, new))
            ]
            expected = f"{after.disposition.value}:{after.rule}"
            assert moved[record] == (expected if ways[0] == ways[1] else f"quarantine:{AWAITING}")
            compared += 1
    for dataset in (*catalog.records, catalog.accounts):
        name = table(dataset.table)
        both = [_fates(conn, name, dataset.key_columns[0], record_fate(p, catalog, dataset), fate_parameters(p, AS_OF))
                for p in (old, new)]  # fmt: skip
        guarded = _fates(
            conn, name, dataset.key_columns[0], guard.record_fate(record_fate(new, catalog, dataset), dataset), params
        )
        for key, found in guarded.items():
            was, becomes = both[0][key], both[1][key]
            assert found == (becomes if was.split(":")[0] == becomes.split(":")[0] else f"keep:{AWAITING}")
            compared += 1
    assert compared > 300


def test_a_configuration_that_cannot_be_read_lets_nothing_go(busy: Any) -> None:
    conn, catalog, _ = busy
    guard = guard_of(conn, catalog, None, None)
    policy = load_configuration().policy
    fate = guard.message_fate(message_fate(policy, catalog, Tier.CONSUMER), catalog.messages, Tier.CONSUMER)
    found = _fates(conn, table("app.messages"), "message_id", fate, fate_parameters(policy, AS_OF))
    assert set(found.values()) == {f"keep:{AWAITING}"}


def test_exceptions_whose_columns_are_gone_make_everything_wait(busy: Any) -> None:
    conn, catalog, _ = busy
    flags = catalog.exceptions.flags.model_copy(update={"cleared": "no_such_column"})
    other = catalog.model_copy(update={"exceptions": catalog.exceptions.model_copy(update={"flags": flags})})
    policy = load_configuration().policy
    assert guard_of(conn, catalog, policy, other).waiting == {dataset.id for dataset in catalog.datasets}
    assert guard_of(conn, catalog, policy, catalog).waiting == frozenset()


def test_other_exceptions_make_everything_wait(busy: Any) -> None:
    """Where holds, cases or terms are read from decides every fate: nothing goes, and nothing approves itself."""
    conn, catalog, _ = busy
    cases = catalog.exceptions.cases.model_copy(
        update={"table": "app.safety_flags", "opened": "flagged_at", "closed": "cleared_at"}
    )
    other = catalog.model_copy(update={"exceptions": catalog.exceptions.model_copy(update={"cases": cases})})
    policy = load_configuration().policy
    assert guard_of(conn, other, policy, catalog).waiting == {dataset.id for dataset in catalog.datasets}


def test_log_lines_wait_with_the_messages_that_tell_their_conversations(busy: Any) -> None:
    conn, catalog, _ = busy
    messages = catalog.messages.model_copy(update={"group": "account_id"})
    others = tuple(messages if dataset.id == messages.id else dataset for dataset in catalog.datasets)
    other = catalog.model_copy(update={"datasets": others})
    policy = load_configuration().policy
    logs = {dataset.id for dataset in catalog.logs}
    assert guard_of(conn, other, policy, catalog).waiting == {messages.id, *logs}
