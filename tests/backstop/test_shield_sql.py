"""The shield asks in SQL, of many records at once, what `decide` answers of one (promise 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lifecycle.backstop.compile import must_stay, stem
from lifecycle.catalog.models import Catalog
from lifecycle.config import load_configuration
from lifecycle.dispositions.shield import keys_to_shield
from lifecycle.policy.decide import decide
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.stores.postgres.facts import message_facts
from lifecycle.stores.postgres.messages import locate
from oracle import busy
from oracle.load import write_rows
from oracle.named import in_landing
from oracle.stores import Servers


@pytest.fixture(scope="module")
def crowd(servers: Servers) -> Iterator[tuple[Any, Catalog]]:
    """Every exception, on every tier, at telling ages; no objects: only their keys are asked for."""
    world = busy.busy_world()
    everywhere = tuple(replace(m, body=None, stored=in_landing(m).partitioned().stored) for m in world.messages)
    with servers.store() as store, store.connect() as conn:
        write_rows(conn, replace(world, messages=everywhere))
        yield conn, load_configuration().catalog


@pytest.mark.parametrize("tier", list(Tier))
def test_the_shield_asks_in_sql_what_decide_answers(crowd: tuple[Any, Catalog], tier: Tier) -> None:
    conn, catalog = crowd
    policy = load_configuration().policy
    default = policy.rule_for(Trigger.DEFAULT, Category.PROMPTS_AND_OUTPUTS, tier)
    assert default is not None
    wanted = set()
    rows = conn.execute("SELECT message_id, object_key FROM app.messages WHERE tier = %s", (tier.value,)).fetchall()
    for record, key in rows:
        found = locate(conn, catalog, record)
        assert found is not None
        facts = message_facts(conn, catalog, record, found)
        fate = decide(Category.PROMPTS_AND_OUTPUTS, tier.value, found.clock, facts, policy, busy.AS_OF)
        if must_stay(f"{fate.disposition.value}:{fate.rule}", default.id) and fate.rule != "research":
            wanted.add(key)
    prefix = stem(catalog.messages.objects.partitioned, tier) or ""
    assert wanted
    assert all(key.startswith(prefix) for key in wanted)
    asked = [key for page in keys_to_shield(conn, policy, catalog, tier, busy.AS_OF) for key in page]
    assert set(asked) >= wanted
    # Of the rest only what would be de-identified may be asked for, and it has no ticket anyway.
    assert tier is Tier.EVALUATION or set(asked) == wanted


def test_a_hold_on_the_whole_dataset_shields_every_object(crowd: tuple[Any, Catalog]) -> None:
    conn, catalog = crowd
    policy = load_configuration().policy
    with conn.transaction(force_rollback=True):
        conn.execute(
            "INSERT INTO lifecycle.legal_holds (hold_id, scope, target, reason, placed_by, placed_at)"
            " VALUES (gen_random_uuid(), 'dataset', 'messages', 'r', 'p', %s)",
            (busy.AS_OF,),
        )
        asked = [key for page in keys_to_shield(conn, policy, catalog, Tier.BETA, busy.AS_OF) for key in page]
        total = conn.execute("SELECT count(*) FROM app.messages WHERE tier = 'beta'").fetchone()
        assert total is not None
        assert len(asked) == total[0]
