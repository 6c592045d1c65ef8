"""``lifecycle store create`` and ``lifecycle store seed``."""

from __future__ import annotations

import json

import pytest

from support.store import Store


@pytest.mark.parametrize("command", ["create", "seed"])
def test_help_has_an_example(store: Store, command: str) -> None:
    shown = store.cli("store", command, "--help").stdout
    assert f"Example: lifecycle store {command}" in " ".join(shown.replace("`", "").split())


def test_create_makes_an_empty_place_ready(store: Store) -> None:
    store.sql("DROP SCHEMA app CASCADE")
    store.sql("DROP SCHEMA lifecycle CASCADE")
    for bucket in ("product-data", "quarantine", "research"):
        store.s3.delete_bucket(Bucket=bucket)
    for _ in range(2):
        done = json.loads(store.cli("store", "create", "--json").stdout)
    assert done == {
        "schemas": ["app", "research", "lifecycle"],
        "buckets": ["product-data", "product-logs", "quarantine", "lifecycle-evidence", "research"],
    }
    assert store.value("SELECT count(*) FROM app.messages") == 0
    assert store.value("SELECT count(*) FROM lifecycle.legal_holds") == 0
    assert store.s3.get_bucket_versioning(Bucket="quarantine")["Status"] == "Enabled"


def test_seed_fills_the_store(store: Store) -> None:
    sizes = ("--accounts", 12, "--days", 5, "--messages", 900, "--objects", 20, "--seed", 3)
    done = store.cli("store", "seed", *sizes, "--as-of", "2026-09-01T00:00:00Z", "--json")
    data = json.loads(done.stdout)
    assert data["rows"]["app.messages"] == store.value("SELECT count(*) FROM app.messages") >= 900
    assert data["rows"]["app.accounts"] == 12
    assert data["as_of"] == "2026-09-01T00:00:00Z"
    assert data["seed"] == 3
    assert len(store.keys("product-data", "tier=")) + len(store.keys("product-data", "landing/")) == 20
    assert len(store.keys("product-logs", "requests/date=")) == data["parts"]
    assert store.value("SELECT max(received_at) < '2026-09-01+00' FROM app.messages")
    assert "seeding messages" in done.stderr


def test_seed_shows_a_table_to_people(store: Store) -> None:
    shown = store.cli("store", "seed", "--accounts", 2, "--days", 2, "--messages", 20, "--as-of", "2026-09-01").stdout
    assert "app.messages" in shown
    assert "lines in product-logs" in shown


def test_a_second_time_is_refused_with_a_reason(store: Store) -> None:
    arguments = ("store", "seed", "--accounts", 2, "--days", 2, "--messages", 20, "--as-of", "2026-09-01")
    store.cli(*arguments)
    refused = store.cli(*arguments, check=False)
    assert refused.returncode == 1
    assert "already holds a world of this seed" in refused.stderr


def test_without_a_store_the_remedy_is_named(store: Store) -> None:
    store.sql("DROP SCHEMA app CASCADE")
    refused = store.cli("store", "seed", "--accounts", 2, "--as-of", "2026-09-01", check=False)
    assert refused.returncode == 1
    assert "lifecycle store create" in refused.stderr
