"""The seeded reference store, before and after a run: everything in it is bound as shipped."""

from __future__ import annotations

import json

import pytest

from support.store import Store


@pytest.mark.slow
def test_the_seeded_store_passes_before_and_after_a_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With statistics of every column, its unknown tiers, its log objects, and what a run and its evidence leave."""
    monkeypatch.setenv("LIFECYCLE_VALIDATION", "sql")
    sizes = ("--accounts", 20, "--days", 2, "--messages", 400, "--objects", 10, "--seed", 3)
    store.cli("store", "seed", *sizes, "--as-of", "2026-09-01T00:00:00Z")
    for step in ("seeded", "after a run"):
        store.sql("ANALYZE")
        found = json.loads(store.cli("coverage", "--as-of", "2026-09-01", "--json").stdout)
        assert found["differences"] == [], step
        assert found["unclassified"]["messages"] > 0, step
        if step == "seeded":
            store.cli("run", "--as-of", "2026-09-01")
    assert "Every promise holds." in store.cli("audit", "--as-of", "2026-09-01").stdout
