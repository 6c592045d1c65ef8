"""The reference store is a contract (DESIGN.md, "The reference store"): tests from outside build on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from lifecycle.catalog.models import Catalog
from lifecycle.errors import PreconditionError
from reference_store.create import BucketSpec, bucket_specs, create_buckets, create_store
from support.store import Store

TEXT, ID, TIME = "text", "uuid", "timestamp with time zone"
# Written from DESIGN.md.
CONTRACT = {
    "app.accounts": {
        "account_id": ID, "tier": TEXT, "email": TEXT, "display_name": TEXT, "created_at": TIME,
        "last_interaction_at": TIME,
    },
    "app.messages": {
        "message_id": ID, "conversation_id": ID, "account_id": ID, "tier": TEXT, "role": TEXT, "received_at": TIME,
        "model": TEXT, "client_ip": "inet", "body": TEXT, "object_key": TEXT,
    },
    "app.message_tools": {"message_id": ID, "tool_name": TEXT},
    "app.safety_flags": {
        "message_id": ID, "account_id": ID, "classifier": TEXT, "flagged_at": TIME, "cleared_at": TIME,
    },
    "app.safety_scores": {
        "score_id": ID, "message_id": ID, "account_id": ID, "tier": TEXT, "classifier": TEXT,
        "score": "double precision", "scored_at": TIME,
    },
    "app.feedback": {
        "feedback_id": ID, "account_id": ID, "conversation_id": ID, "message_id": ID, "rating": "integer",
        "comment": TEXT, "submitted_at": TIME, "withdrawn_at": TIME,
    },
    "app.agreements": {
        "agreement_id": ID, "account_id": ID, "category": TEXT, "retain": "interval", "effective_from": TIME,
        "effective_to": TIME,
    },
    "app.enforcement_cases": {"case_id": ID, "account_id": ID, "opened_at": TIME, "closed_at": TIME},
    "app.training_examples": {"example_id": ID, "message_id": ID, "account_id": ID, "basis": TEXT, "added_at": TIME},
    "research.messages": {
        "tier": TEXT, "model": TEXT, "role": TEXT, "received_month": "date", "body_chars": "bigint",
    },
    "lifecycle.legal_holds": {
        "hold_id": ID, "scope": TEXT, "target": TEXT, "reason": TEXT, "placed_by": TEXT, "placed_at": TIME,
        "released_at": TIME,
    },
    "lifecycle.erasure_requests": {
        "request_id": ID, "scope": TEXT, "target": TEXT, "requested_at": TIME, "completed_at": TIME, "outcome": TEXT,
    },
}  # fmt: skip
KEYS = {
    "app.accounts": ("account_id",),
    "app.messages": ("tier", "received_at", "message_id"),
    "app.message_tools": ("message_id", "tool_name"),
    "app.safety_flags": ("message_id",),
    "app.agreements": ("agreement_id",),
    "app.enforcement_cases": ("case_id",),
    "app.training_examples": ("example_id",),
    "lifecycle.legal_holds": ("hold_id",),
    "lifecycle.erasure_requests": ("request_id",),
}
NULLABLE = {
    ("app.safety_flags", "cleared_at"),
    ("app.feedback", "message_id"),
    ("app.feedback", "withdrawn_at"),
    ("app.agreements", "effective_to"),
    ("app.enforcement_cases", "closed_at"),
    ("app.messages", "body"),
    ("app.messages", "object_key"),
    ("app.accounts", "email"),
    ("app.accounts", "display_name"),
    ("lifecycle.legal_holds", "released_at"),
    ("lifecycle.erasure_requests", "completed_at"),
    ("lifecycle.erasure_requests", "outcome"),
}
TIERS = ("consumer", "beta", "evaluation", "business")
BUCKETS = {
    "product-data": (True, False),
    "product-logs": (True, False),
    "quarantine": (True, True),
    "lifecycle-evidence": (True, True),
    "research": (False, False),
}


def _columns(store: Store, table: str) -> dict[str, str]:
    schema, name = table.split(".")
    query = (
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
    )
    return dict(store.sql(query, schema, name))


def test_every_table_has_exactly_its_columns(store: Store) -> None:
    assert {table: _columns(store, table) for table in CONTRACT} == CONTRACT


def test_the_schemas_hold_no_other_table(store: Store) -> None:
    rows = store.sql(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('app', 'research') AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    )
    assert {name for (name,) in rows} == {table for table in CONTRACT if not table.startswith("lifecycle.")}


def test_primary_keys(store: Store) -> None:
    query = (
        "SELECT array_agg(a.attname ORDER BY k.position) FROM pg_constraint c"
        " CROSS JOIN unnest(c.conkey) WITH ORDINALITY k(number, position)"
        " JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number"
        " WHERE c.contype = 'p' AND c.conrelid = %s::regclass"
    )
    assert {table: tuple(store.value(query, table)) for table in KEYS} == KEYS


def test_what_may_be_null(store: Store) -> None:
    rows = store.sql(
        "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
        " WHERE is_nullable = 'YES' AND table_schema IN ('app', 'lifecycle')"
    )
    assert {(str(table), str(column)) for table, column in rows} >= NULLABLE


def test_no_table_refers_to_another(store: Store) -> None:
    """Deleting must not lean on cascades: a product's tables have none (hard case 24)."""
    query = (
        "SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace"
        " WHERE c.contype = 'f' AND n.nspname IN ('app', 'research')"
    )
    assert store.value(query) == 0


def test_messages_are_partitioned_by_tier_and_then_by_receipt(store: Store) -> None:
    keys = store.sql(
        "SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid) FROM pg_partitioned_table"
        " WHERE partrelid::regclass::text LIKE 'app.%' ORDER BY 1",
    )
    expected = [("app.messages", "LIST (tier)")] + [(f"app.messages_{tier}", "RANGE (received_at)") for tier in TIERS]
    assert keys == sorted(expected)


@pytest.mark.parametrize("tier", [*TIERS, "legacy"])
@pytest.mark.parametrize("year", [1970, 2026, 2999])
def test_an_insert_never_fails(store: Store, tier: str, year: int) -> None:
    """Hard case 12: what has no partition of its own goes to the default partition of its level."""
    message = store.insert_message(tier=tier, received_at=datetime(year, 2, 3, 4, 5, tzinfo=UTC))
    expected = f"app.messages_{tier}_default" if tier in TIERS else "app.messages_default"
    assert store.sql("SELECT tableoid::regclass::text FROM app.messages WHERE message_id = %s", message) == [
        (expected,)
    ]


def test_messages_are_found_by_index(store: Store) -> None:
    query = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'app.messages'::regclass"
    found = {definition.split(" USING btree ")[1] for (definition,) in store.sql(query)}
    assert found == {
        "(tier, received_at, message_id)",
        "(message_id)",
        "(account_id, received_at)",
        "(object_key text_pattern_ops) WHERE (object_key IS NOT NULL)",
        "(conversation_id)",
        "(received_at)",
    }


def test_buckets_are_versioned_and_locked_without_a_default_retention(store: Store) -> None:
    found = {}
    for name in (bucket["Name"] for bucket in store.s3.list_buckets()["Buckets"]):
        versioned = store.s3.get_bucket_versioning(Bucket=name).get("Status") == "Enabled"
        found[name] = (versioned, _locked(store, name))
    assert found == BUCKETS


def _locked(store: Store, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        lock = store.s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ObjectLockConfigurationNotFoundError"
        return False
    assert "Rule" not in lock, "two years is a maximum: nothing may be locked for a fixed time"
    return lock["ObjectLockEnabled"] == "Enabled"


def test_creating_again_changes_nothing(store: Store, catalog: Catalog) -> None:
    account = uuid4()
    message = store.insert_message(account_id=account, object_body="still here")
    create_store(store.conninfo, store.s3, catalog)
    assert store.value("SELECT count(*) FROM app.messages WHERE message_id = %s", message) == 1
    assert store.keys("product-data") == [f"landing/{message}.json"]


def test_two_at_once_do_not_collide(store: Store, catalog: Catalog) -> None:
    store.sql("DROP SCHEMA app CASCADE")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(create_store, store.conninfo, store.s3, catalog) for _ in range(4)]:
            done.result()
    assert _columns(store, "app.messages") == CONTRACT["app.messages"]


def test_versioning_is_switched_on_where_it_was_suspended(store: Store, catalog: Catalog) -> None:
    store.s3.put_bucket_versioning(Bucket="product-data", VersioningConfiguration={"Status": "Suspended"})
    create_buckets(store.s3, bucket_specs(catalog))
    assert store.s3.get_bucket_versioning(Bucket="product-data").get("Status") == "Enabled"


def test_a_bucket_without_the_lock_it_needs_is_refused(store: Store) -> None:
    with pytest.raises(PreconditionError, match=r"research.*without Object Lock"):
        create_buckets(store.s3, (BucketSpec("research", versioned=True, locked=True),))
