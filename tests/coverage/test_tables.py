"""Tables that nobody configured are found, by foreign key, name and content, and nothing else is (case 24)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from coverage.covering import AS_OF, REASON, cover, only, with_text
from lifecycle.config import load_configuration
from lifecycle.coverage.check import check_coverage
from support.store import Store


def test_the_reference_store_passes_as_shipped(store: Store, record: dict[str, UUID]) -> None:
    for tier in ("beta", "business"):
        store.insert_message(tier=tier, object_body="words")
    found = cover(store)
    assert found.differences == ()
    assert found.warnings == ()
    assert found.looked_at["tables"] == 10
    assert found.looked_at["buckets"] == 5


def test_lookup_tables_are_left_alone(store: Store, record: dict[str, UUID]) -> None:
    """No false alarm for what is about nobody, whatever types and words it uses."""
    store.sql(
        "CREATE TABLE app.plans (plan_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, description text,"
        " price numeric, valid_from date, active boolean, released_version text, opens_at time)"
    )
    store.sql(
        "INSERT INTO app.plans (name, description, price, valid_from, active, released_version, opens_at)"
        " SELECT 'plan ' || n, 'for teams of ' || n, n, date '2026-01-01' + n, true, '1.2.' || n, time '10:30:15'"
        " FROM generate_series(1, 200) n"
    )
    store.sql("CREATE TABLE app.models (id int PRIMARY KEY, model text, context_tokens int, email_enabled boolean)")
    store.sql("INSERT INTO app.models VALUES (1, 'm-1', 8000, false), (2, 'm-2', 16000, true)")
    store.sql("CREATE TABLE app.countries (code text PRIMARY KEY, name text, zip_required boolean, shipping numeric)")
    store.sql("ALTER TABLE app.accounts ADD COLUMN plan_id uuid REFERENCES app.plans")
    store.sql("ALTER TABLE app.messages ADD COLUMN model_uuid uuid")
    store.sql("CREATE TABLE app.model_cards (model_uuid uuid PRIMARY KEY, context_tokens int)")
    store.sql("ANALYZE")
    assert cover(store).differences == ()


def test_a_table_with_a_foreign_key(store: Store) -> None:
    store.sql("CREATE TABLE app.devices (device int PRIMARY KEY, holder uuid REFERENCES app.accounts)")
    found = only(cover(store))
    assert (found.kind, found.name) == ("table", "app.devices")
    assert found.suspected == ("foreign key from holder to app.accounts.account_id",)
    assert any(remedy.yaml == "- {table: app.devices, key: holder}" for remedy in found.remedies)


def test_a_table_that_refers_to_one_that_refers(store: Store) -> None:
    store.sql("CREATE TABLE app.devices (device int PRIMARY KEY, holder uuid REFERENCES app.accounts)")
    store.sql("CREATE TABLE app.device_states (device int REFERENCES app.devices, state int)")
    found = {item.name: item.suspected for item in cover(store).differences}
    assert set(found) == {"app.devices", "app.device_states"}
    assert "which is suspected itself" in found["app.device_states"][0]


@pytest.mark.parametrize(
    "column", ["message_id", "source_message_id", "conversation_id", "account_id", '"messageUuid"']
)
def test_a_table_with_only_a_same_named_column(store: Store, column: str) -> None:
    """Case 24: an index table without a foreign key, even without a row."""
    store.sql(f"CREATE TABLE app.search_index ({column} uuid, rank int)")
    found = only(cover(store))
    assert found.name == "app.search_index"
    assert "is named like app." in found.suspected[0]


@pytest.mark.parametrize("analyzed", [True, False], ids=["statistics", "sample"])
@pytest.mark.parametrize("which", ["message", "conversation", "account"])
def test_a_table_with_only_content(store: Store, record: dict[str, UUID], which: str, analyzed: bool) -> None:
    """Nothing but the values tells: by statistics after ANALYZE, by a sample where nobody analysed."""
    store.sql("CREATE TABLE app.blob_index (k uuid, n int)")
    for value in (uuid4(), record[which], uuid4()):
        store.insert("app.blob_index", k=value, n=1)
    if analyzed:
        store.sql("ANALYZE app.blob_index")
    found = only(cover(store))
    assert found.suspected[0].startswith("column k holds ids of app.")
    assert which in found.suspected[0]


def test_ids_of_nobody_are_no_reference(store: Store, record: dict[str, UUID]) -> None:
    store.sql("CREATE TABLE app.jobs (job uuid, n int)")
    for _ in range(20):
        store.insert("app.jobs", job=uuid4(), n=1)
    store.sql("ANALYZE app.jobs")
    assert cover(store).differences == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("someone@example.com", "e-mail addresses"),
        ("+49 30 901820", "phone numbers"),
        ("(555) 010-9999", "phone numbers"),
        ("203.0.113.7", "IP addresses"),
        ("2001:db8::7", "IP addresses"),
        ("s3://elsewhere/x", "keys or addresses of stored objects"),
    ],
)
def test_content_that_is_personal_by_its_form(store: Store, value: str, says: str) -> None:
    store.sql("CREATE TABLE app.misc (a int, b text)")
    store.insert("app.misc", a=1, b=value)
    store.sql("ANALYZE app.misc")
    found = only(cover(store))
    assert found.suspected == (f"column b holds {says}",)
    assert value not in repr(found)


@pytest.mark.parametrize("kind", ["jsonb", "json", "text", "bytea"])
def test_a_copy_in_json(store: Store, record: dict[str, UUID], kind: str) -> None:
    """Case 24: a copy of a record as one value."""
    store.sql(f"CREATE TABLE app.outbox (n int, v {kind})")
    value = "convert_to(row_to_json(m)::text, 'UTF8')" if kind == "bytea" else f"row_to_json(m)::text::{kind}"
    store.sql(f"INSERT INTO app.outbox SELECT 1, {value} FROM app.messages m")
    store.sql("ANALYZE app.outbox")
    found = only(cover(store))
    text = "; ".join(found.suspected)
    assert "column v holds ids of app.messages.message_id" in text
    assert "column v holds JSON with keys named like personal data" in text


def test_a_wide_copy_that_statistics_leave_out(store: Store, record: dict[str, UUID]) -> None:
    store.sql("CREATE TABLE app.wide (v jsonb)")
    store.sql(
        "INSERT INTO app.wide SELECT jsonb_build_object('x', m.message_id, 'y', repeat('ab cd ', 5000))"
        " FROM app.messages m"
    )
    store.sql("ANALYZE app.wide")
    assert "column v holds ids of app.messages.message_id" in only(cover(store)).suspected


def test_a_second_identifier(store: Store) -> None:
    """Case 24: the account has another id, and a table knows it by that one only."""
    store.sql("ALTER TABLE app.accounts ADD COLUMN crm_ref text UNIQUE")
    account = store.insert_account()
    store.sql("UPDATE app.accounts SET crm_ref = 'crm-4711-0815-42' WHERE account_id = %s", account)
    store.sql("CREATE TABLE app.crm_calls (called text, seconds int)")
    store.insert("app.crm_calls", called="crm-4711-0815-42", seconds=60)
    store.sql("CREATE TABLE app.crm_notes (crm_ref text)")
    store.sql("ANALYZE")
    found = {item.name: item for item in cover(store).differences}
    assert set(found) == {"app.accounts.crm_ref", "app.crm_calls", "app.crm_notes"}
    assert "is a second identifier of the person" in found["app.accounts.crm_ref"].suspected[1]
    assert "values of the second identifier app.accounts.crm_ref" in found["app.crm_calls"].suspected[0]
    assert "second identifier app.accounts.crm_ref" in found["app.crm_notes"].suspected[0]


def test_partitions_are_one_table_and_what_was_detached_is_another(store: Store) -> None:
    store.sql("CREATE TABLE app.events (account_id uuid, at date) PARTITION BY RANGE (at)")
    store.sql("CREATE TABLE app.events_a PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')")
    store.sql("CREATE TABLE app.events_b PARTITION OF app.events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')")
    store.sql("ALTER TABLE app.messages_beta DETACH PARTITION app.messages_beta_default")
    assert {item.name for item in cover(store).differences} == {"app.events", "app.messages_beta_default"}


def test_tables_in_every_schema_and_among_the_projects_own(store: Store) -> None:
    store.sql("CREATE SCHEMA IF NOT EXISTS reporting")
    for name in ("reporting.accounts_copy", "public.tmp", "research.raw", "lifecycle.scratch"):
        store.sql(f"CREATE TABLE {name} (user_id bigint)")
    assert sorted(item.name for item in cover(store).differences) == [
        "lifecycle.scratch",
        "public.tmp",
        "reporting.accounts_copy",
        "research.raw",
    ]


def test_a_table_that_may_not_be_read(store: Store) -> None:
    """Not knowing is not passing: the names still speak, and where they say nothing the table itself is told."""
    store.sql("CREATE SCHEMA IF NOT EXISTS vault")
    store.sql("CREATE TABLE vault.x (n int)")
    store.sql("CREATE ROLE looker")
    try:
        store.sql("GRANT USAGE ON SCHEMA app, lifecycle, research TO looker")
        store.sql("GRANT SELECT ON ALL TABLES IN SCHEMA app, lifecycle, research TO looker")
        with store.connect() as conn:
            conn.execute("SET ROLE looker")
            found = check_coverage(conn, store.s3, load_configuration(), AS_OF)
        assert only(found).name == "vault.x"
        assert "may not read it" in only(found).suspected[0]
    finally:
        store.sql("DROP OWNED BY looker")
        store.sql("DROP ROLE looker")


def test_an_excluded_column_of_a_table_nobody_bound(store: Store, tmp_path: Path) -> None:
    """What is suspected for that column alone is excluded with it; another reason still counts."""
    store.sql("CREATE TABLE app.partners (n int, email text)")
    entry = f"\nexclusions:\n  - {{table: app.partners, column: email, until: 2027-06-30, {REASON}}}\n"
    found = cover(store, with_text(tmp_path, more=entry))
    assert (found.passed, found.warnings) == (True, ())
    store.sql("ALTER TABLE app.partners ADD COLUMN phone text")
    assert only(cover(store, with_text(tmp_path, more=entry))).suspected == (
        "column phone (text) is named like personal data",
    )


def test_a_partition_that_is_half_detached(store: Store) -> None:
    """Nobody who reads the root sees its rows any more, no plan has it, and it is a partition all the same."""
    store.insert_message(tier="beta", received_at=AS_OF - timedelta(days=3))
    ((leaf, parent, default),) = store.sql(
        "SELECT i.inhrelid::regclass::text, i.inhparent::regclass::text, p.partdefid::regclass::text"
        " FROM app.messages m JOIN pg_inherits i ON i.inhrelid = m.tableoid"
        " JOIN pg_partitioned_table p ON p.partrelid = i.inhparent"
    )
    assert leaf == default, "of the other kind none can be detached so while there is a default partition"
    store.sql(f"ALTER TABLE {parent} DETACH PARTITION {leaf}")
    store.sql(f"ALTER TABLE {parent} ATTACH PARTITION {leaf} FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")
    with psycopg.connect(store.conninfo) as reader, store.connect() as conn:
        reader.execute(f"SELECT FROM {parent}".encode())
        conn.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(f"ALTER TABLE {parent} DETACH PARTITION {leaf} CONCURRENTLY".encode())
    assert store.value("SELECT count(*) FROM app.messages") == 0
    assert {item.name for item in cover(store).differences} == {leaf}
