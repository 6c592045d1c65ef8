"""The fixture everybody builds on."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from support.store import Store


def test_a_message_with_an_object_is_there_in_both_stores(store: Store) -> None:
    message = store.insert_message(tier="business", object_body="hello", tools=("search",))
    assert store.keys("product-data") == [f"landing/{message}.json"]
    assert store.sql("SELECT body, object_key FROM app.messages WHERE tier = %s", "business") == [
        (None, f"landing/{message}.json")
    ]
    assert store.value("SELECT count(*) FROM app.message_tools") == 1
    assert store.value("SELECT count(*) FROM app.accounts") == 1


@pytest.mark.parametrize("round_", range(3))
def test_each_test_starts_empty_and_soon(store: Store, round_: int) -> None:
    assert store.value("SELECT count(*) FROM app.messages") == 0
    for bucket in ("product-data", "product-logs", "quarantine", "lifecycle-evidence", "research"):
        assert store.versions(bucket) == []
    store.insert_message(body="left behind", received_at=datetime(2026, 1, 1, tzinfo=UTC))
    store.put_object("product-data", "landing/left-behind.json", b"{}")
    held = store.put_object("quarantine", "left-behind", b"x")
    assert held is not None
    store.s3.put_object_legal_hold(Bucket="quarantine", Key="left-behind", VersionId=held, LegalHold={"Status": "ON"})


def test_sessions_are_in_utc(store: Store) -> None:
    with store.connect() as conn:
        row = conn.execute("SHOW TimeZone").fetchone()
        assert row == ("UTC",)
        assert conn.autocommit
    assert store.value("SELECT %s::timestamptz", datetime(2026, 1, 1, tzinfo=UTC)).tzinfo is not None


def test_setup_is_quick(store: Store, request: pytest.FixtureRequest) -> None:
    from support.buckets import fresh_buckets
    from support.servers import fresh_database

    specs = request.getfixturevalue("buckets")
    began = time.monotonic()
    with fresh_database(store.postgres):
        fresh_buckets(store.s3_server, store.s3, specs)
        assert time.monotonic() - began < 3, "0.1 s on an idle machine"
