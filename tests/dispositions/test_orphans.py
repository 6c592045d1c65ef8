"""Objects that no row names are reported, and disposed of by their own clock (hard case 13)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from support.store import Store

OVERDUE = "2026-01-05"
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)


def _orphan(store: Store, key: str) -> str:
    store.put_object("product-data", key, b"{}")
    return key


def _plan(store: Store) -> dict[str, dict[str, object]]:
    shown = json.loads(store.cli("plan", "--as-of", AS_OF.isoformat(), "--tier", "beta", "--json").stdout)
    return {unit["unit"]: unit["counts"] for scope in shown["scopes"].values() for unit in scope["units"]}


def test_an_orphan_of_a_day_behind_the_cutoff_is_planned_destroyed_and_recorded(store: Store) -> None:
    """Case 13: with all its versions, whatever S3 says about its age."""
    key = _orphan(store, f"tier=beta/date={OVERDUE}/{uuid4()}.json")
    _orphan(store, key)
    assert _plan(store)["orphans/beta"] == {"delete:orphan": {"records": 1, "objects": 1}}
    store.cli("run", "--as-of", AS_OF.isoformat(), "--tier", "beta")
    assert store.versions("product-data") == []
    assert store.sql("SELECT entry, counts->>'objects' FROM lifecycle.ledger WHERE rule = 'orphan' ORDER BY seq") == [
        ("intent", "1"),
        ("outcome", "1"),
    ]


def test_a_young_object_without_a_row_may_still_get_one(store: Store) -> None:
    """Case 13: the application writes the object first and the row a moment later."""
    keys = [
        _orphan(store, f"tier=beta/date={AS_OF.date() - timedelta(days=1)}/{uuid4()}.json"),
        _orphan(store, f"landing/{uuid4()}.json"),
    ]
    store.cli("run", "--as-of", AS_OF.isoformat(), "--tier", "beta")
    assert store.keys("product-data") == sorted(keys)


def test_an_object_that_a_row_of_another_day_and_tier_names_is_no_orphan(store: Store) -> None:
    """Case 13: rows are found by the key alone; a key in the wrong place still belongs to its row."""
    key = f"tier=beta/date={OVERDUE}/odd name.json"
    store.insert_message(tier="consumer", received_at=AS_OF - timedelta(days=2), object_body="x", object_key=key)
    assert "orphans/beta" not in _plan(store)


@pytest.mark.parametrize("scope", ["message", "dataset"])
def test_an_orphan_under_hold_stays(store: Store, scope: str) -> None:
    record = uuid4()
    key = _orphan(store, f"tier=beta/date={OVERDUE}/{record}.json")
    store.insert(
        "lifecycle.legal_holds",
        scope=scope,
        target=str(record) if scope == "message" else "messages",
        reason="r",
        placed_by="p",
    )
    store.cli("run", "--as-of", AS_OF.isoformat(), "--tier", "beta", check=False)
    assert store.keys("product-data") == [key]
