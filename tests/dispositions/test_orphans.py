"""Objects that no row names are reported, and disposed of by their own clock (hard case 13)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from lifecycle.config import load_configuration
from lifecycle.dispositions import orphans
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
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


def test_an_orphan_that_comes_under_hold_after_the_plan_stays_and_is_not_recorded_as_gone(store: Store) -> None:
    """Promises 1 and 5: two were planned, one is held before the run acts; a third was held all along."""
    keys = [_orphan(store, f"tier=beta/date={OVERDUE}/{uuid4()}.json") for _ in range(3)]
    records = [key.rpartition("/")[2].removesuffix(".json") for key in keys]

    def hold(record: str) -> None:
        store.insert("lifecycle.legal_holds", scope="message", target=record, reason="r", placed_by="p")

    hold(records[0])
    config = load_configuration()
    with store.connect() as conn:
        run = runs.begin(
            conn,
            scope="beta",
            as_of=AS_OF,
            run_key="held later",
            hashes=(config.policy_hash, config.catalog_hash),
            dry_run=False,
            owner=None,
        )
        context = RunContext(conn, store.s3, config.policy, config.catalog, run)
        (unit,) = orphans.survey_orphans(context, Tier.BETA)
        freeze(conn, run.run_id, [unit])
        hold(records[1])
        assert orphans.expire_orphans(context, unit.unit)["delete:orphan"] == {"records": 1, "objects": 1}
    assert store.keys("product-data") == sorted(keys[:2])


def test_orphans_go_window_by_window_and_no_listing_goes_on_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ceph promises nothing for a listing whose keys go: each window is listed anew, across days, and none is left."""
    monkeypatch.setattr(orphans, "WINDOW", 3)
    monkeypatch.setattr(orphans, "PAGE", 2)
    days = ("2026-01-05", "2026-01-06", "2026-01-07")
    keys = sorted(_orphan(store, f"tier=beta/date={day}/{uuid4()}.json") for day in days for _ in range(4))
    pages: list[list[str]] = []
    opened: list[object] = []
    aged = orphans._aged

    def watched(*args: Any) -> Iterator[str]:
        opened.append(args)
        try:
            yield from aged(*args)
        finally:
            opened.remove(args)

    monkeypatch.setattr(orphans, "_aged", watched)
    config = load_configuration()
    with store.connect() as conn:
        run = runs.begin(
            conn,
            scope="beta",
            as_of=AS_OF,
            run_key="windows",
            hashes=(config.policy_hash, config.catalog_hash),
            dry_run=False,
            owner=None,
        )
        for page in orphans._orphans(RunContext(conn, store.s3, config.policy, config.catalog, run), Tier.BETA):
            assert opened == [], "a listing was going on"
            pages.append(page)
            for key in page:
                store.s3.delete_object(Bucket="product-data", Key=key)
    assert [key for page in pages for key in page] == keys
    assert [len(page) for page in pages] == [2, 1] * 4
