"""Coverage on a real PostgreSQL and a real S3: what nobody configured is found, and nothing else (cases 23 and 24)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from lifecycle.config import load_configuration
from lifecycle.coverage.check import check_coverage
from lifecycle.coverage.differences import Coverage, Difference
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from support.store import Store

AS_OF = datetime(2026, 7, 1, tzinfo=UTC)
REASON = 'reason: "a price list, no row is about a person"'


def cover(store: Store, datasets: Path | None = None, as_of: datetime = AS_OF) -> Coverage:
    with store.connect() as conn:
        return check_coverage(conn, store.s3, load_configuration(None, datasets), as_of)


def only(found: Coverage) -> Difference:
    assert [item.name for item in found.differences] == [found.differences[0].name]
    return found.differences[0]


def with_text(folder: Path, *edits: tuple[str, str], more: str = "") -> Path:
    """The shipped dataset file, edited."""
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    file = folder / "datasets.yaml"
    file.write_text(text + more, encoding="utf-8")
    return file


@pytest.fixture
def record(store: Store) -> dict[str, UUID]:
    ids = {"message": uuid4(), "conversation": uuid4(), "account": uuid4()}
    store.insert_message(
        message_id=ids["message"], conversation_id=ids["conversation"], account_id=ids["account"], body="words"
    )
    return ids


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
    assert "second identifier" in found["app.accounts.crm_ref"].suspected[1]
    assert "values of the second identifier app.accounts.crm_ref" in found["app.crm_calls"].suspected[0]
    assert "second identifier app.accounts.crm_ref" in found["app.crm_notes"].suspected[0]


def test_a_new_personal_column_of_accounts_and_its_remedy(store: Store, tmp_path: Path) -> None:
    store.sql("ALTER TABLE app.accounts ADD COLUMN phone text, ADD COLUMN locale text")
    found = only(cover(store))
    assert (found.kind, found.name) == ("column", "app.accounts.phone")
    assert found.remedies[0].yaml == "personal: [email, display_name, phone]"
    datasets = with_text(tmp_path, ("personal: [email, display_name]", found.remedies[0].yaml))
    assert cover(store, datasets).passed


def test_new_columns_where_they_outlive_the_message(store: Store, record: dict[str, UUID]) -> None:
    """A score stays seven years; what is in the message goes with it, so a new column of messages is no difference."""
    store.sql("ALTER TABLE app.messages ADD COLUMN reply_to_message_id uuid, ADD COLUMN phone text")
    store.sql("ALTER TABLE app.safety_scores ADD COLUMN prompt text, ADD COLUMN threshold float")
    store.sql("ALTER TABLE app.enforcement_cases ADD COLUMN message_id uuid")
    store.sql("ALTER TABLE app.messages ADD COLUMN attachment text")
    store.sql("UPDATE app.messages SET attachment = 's3://elsewhere/a'")
    names = [item.name for item in cover(store).differences]
    assert sorted(names) == ["app.enforcement_cases.message_id", "app.messages.attachment", "app.safety_scores.prompt"]


def test_views_are_listed_and_copies_are_differences(store: Store) -> None:
    store.sql("CREATE VIEW app.recent AS SELECT tier, received_at FROM app.messages")
    store.sql("CREATE MATERIALIZED VIEW app.per_day AS SELECT tier, count(*) AS n FROM app.recent GROUP BY 1")
    found = cover(store)
    assert found.views == ("app.recent shows app.messages",)
    item = only(found)
    assert (item.kind, item.name) == ("materialized view", "app.per_day")
    assert item.suspected[0] == "a copy of app.messages"


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


def test_a_table_listed_as_keeper_of_accounts_only_is_not_bound(store: Store, tmp_path: Path) -> None:
    """``referenced_by`` keeps the account; it disposes of nothing."""
    store.sql("CREATE TABLE app.devices (account_id uuid)")
    old = "      - {table: lifecycle.quarantine, key: account_id}"
    datasets = with_text(tmp_path, (old, f"{old}\n      - {{table: app.devices, key: account_id}}"))
    assert only(cover(store, datasets)).name == "app.devices"


def test_the_childs_remedy_can_be_pasted(store: Store, tmp_path: Path) -> None:
    store.sql("CREATE TABLE app.attachments (message_id uuid, n int)")
    remedy = only(cover(store)).remedies[0]
    assert "children of dataset messages" in remedy.say
    old = "      - {table: app.training_examples, key: message_id}\n"
    assert cover(store, with_text(tmp_path, (old, f"{old}      {remedy.yaml}\n"))).passed


def test_every_exclusion_suggested_can_be_pasted(store: Store, tmp_path: Path) -> None:
    store.sql("CREATE TABLE app.attachments (message_id uuid, n int)")
    store.sql("ALTER TABLE app.accounts ADD COLUMN phone text")
    store.sql("CREATE MATERIALIZED VIEW app.copy AS SELECT * FROM app.feedback")
    store.s3.create_bucket(Bucket="exports-2026")
    store.put_object("product-data", "tmp/x", b"x")
    store.put_object("product-data", "manifest.json", b"x")
    first = cover(store)
    assert first.counts == {"table": 1, "column": 1, "materialized view": 1, "bucket": 1, "prefix": 2}
    pasted = "".join(f"  {item.remedies[-1].yaml}\n" for item in first.differences)
    second = cover(store, with_text(tmp_path, more=f"\nexclusions:\n{pasted}"))
    assert second.passed
    assert all("still has the reason of the suggestion" in warning for warning in second.warnings)
    later = cover(store, with_text(tmp_path, more=f"\nexclusions:\n{pasted}"), AS_OF + timedelta(days=365))
    assert later.counts == first.counts
    assert sum("decide again" in warning for warning in later.warnings) == 6


@pytest.mark.parametrize(("as_of", "passes"), [(datetime(2026, 6, 29, 23, 59, tzinfo=UTC), True), (AS_OF, False)])
def test_an_exclusion_ends_where_its_day_begins(store: Store, tmp_path: Path, as_of: datetime, passes: bool) -> None:
    store.sql("CREATE TABLE app.plans (user_id int)")
    entry = f"\nexclusions:\n  - {{table: app.plans, until: 2026-06-30, {REASON}}}\n"
    assert cover(store, with_text(tmp_path, more=entry), as_of).passed is passes


def test_a_schema_can_be_excluded_and_what_matches_nothing_is_said(store: Store, tmp_path: Path) -> None:
    store.sql("CREATE SCHEMA IF NOT EXISTS airflow")
    store.sql("CREATE TABLE airflow.ab_user (email text)")
    entry = (
        f'\nexclusions:\n  - {{table: "airflow.*", until: 2027-06-30, {REASON}}}\n'
        f"  - {{table: app.gone, until: 2027-06-30, {REASON}}}\n"
        f"  - {{bucket: product-data, prefix: old/, until: 2027-06-30, {REASON}}}\n"
    )
    found = cover(store, with_text(tmp_path, more=entry))
    assert found.passed
    assert found.unused_exclusions == 2
    assert found.warnings == (
        "exclusions[1] matches nothing that exists: remove it",
        "exclusions[2] matches nothing that exists: remove it",
    )


def test_a_bucket_nobody_owns(store: Store) -> None:
    store.s3.create_bucket(Bucket="backup")
    found = only(cover(store))
    assert (found.kind, found.name) == ("bucket", "backup")


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("product-data", "exports/2026/x.json"),
        ("product-data", "x.json"),
        ("product-logs", "debug/date=2026-01-01/part-0.jsonl"),
        ("quarantine", "notes/x"),
        ("lifecycle-evidence", "dump/x"),
    ],
)
def test_a_stray_prefix(store: Store, bucket: str, key: str) -> None:
    store.put_object(bucket, key, b"x")
    found = only(cover(store))
    shown = key.split("/", 1)[0] + ("/" if "/" in key else "")
    assert (found.kind, found.name) == ("prefix", f"{bucket}/{shown}")


def test_what_is_only_hidden_is_still_there(store: Store) -> None:
    store.put_object("product-data", "exports/x", b"x")
    store.s3.delete_object(Bucket="product-data", Key="exports/x")
    assert only(cover(store)).name == "product-data/exports/"


def test_a_declared_prefix_below_another_folder(store: Store, tmp_path: Path) -> None:
    datasets = with_text(tmp_path, ("prefix: requests/", "prefix: logs/requests/"))
    store.put_object("product-logs", "logs/requests/date=2026-01-01/part-0.jsonl", b"")
    assert cover(store, datasets).passed
    store.put_object("product-logs", "logs/traces/x", b"")
    assert only(cover(store, datasets)).name == "product-logs/logs/traces/"


def test_no_value_comes_out(store: Store, record: dict[str, UUID]) -> None:
    """Case 25: neither in what the function says nor in what the command prints."""
    canaries = ["canary@example.com", "+49 170 0000000", "198.51.100.77", "canaryword", str(record["message"])]
    store.sql("CREATE TABLE app.leak (a text, b text, c text, d jsonb, e text)")
    document = f'{{"canaryword": 1, "canary@example.com": 2, "body": "canaryword", "id": "{record["message"]}"}}'
    store.insert("app.leak", a=canaries[0], b=canaries[1], c=canaries[2], d=document, e=canaries[4])
    store.sql("ANALYZE app.leak")
    for key in (
        f"{canaries[0]}/x",
        f"{canaries[4]}.json",
        "198.51.100.77/x",
        "491700000000/x",
        "user-canary@example.com",
    ):
        store.put_object("product-data", key, b"canaryword")
    done = store.cli("coverage", "--as-of", "2026-07-01", check=False)
    as_json = store.cli("coverage", "--as-of", "2026-07-01", "--json", check=False)
    assert (done.returncode, as_json.returncode) == (1, 1)
    said = repr(cover(store)) + done.stdout + done.stderr + as_json.stdout + as_json.stderr
    assert "app.leak" in said
    assert "product-data/<e-mail>/" in said
    for canary in (*canaries, "491700000000"):
        assert canary not in said
    assert store.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'coverage!_%' ESCAPE '!'") == 0


def test_very_many_stray_names_are_somebodys(store: Store) -> None:
    for n in range(25):
        store.put_object("product-data", f"{'abcdefghijklmnopqrstuvwxyz'[n]}name/x", b"x")
    found = only(cover(store))
    assert found.name == "product-data/<names>"
    assert "25 of this form" in found.suspected[0]


def test_records_of_unknown_tier_are_told_and_those_without_clock_fail(store: Store) -> None:
    """Case 23: the first fall under the strictest default, so they are counted; the second nobody ever reaches."""
    store.insert_message(tier="prototype")
    found = cover(store)
    assert found.passed
    assert found.unclassified == {"messages": 1}
    assert "1 record(s) of messages are of no declared tier" in found.warnings[0]
    store.sql("ALTER TABLE app.safety_scores ALTER COLUMN scored_at DROP NOT NULL")
    store.insert("app.safety_scores", score_id=uuid4(), message_id=uuid4(), account_id=uuid4(), tier="beta")
    item = only(cover(store))
    assert (item.kind, item.name) == ("records", "safety_scores")
    assert "1 record(s) have no clock" in item.suspected[0]


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


def test_the_command(store: Store) -> None:
    done = store.cli("coverage", "--as-of", "2026-07-01")
    assert "Everything is bound or excluded." in done.stdout
    store.sql("CREATE TABLE app.attachments (message_id uuid, n int)")
    failed: Any = store.cli("coverage", check=False)
    assert failed.returncode == 1
    assert "table: 1" in failed.stderr
    assert "       - {table: app.attachments, key: message_id}\n" in failed.stdout
