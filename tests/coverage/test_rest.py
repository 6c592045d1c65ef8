"""Columns, copies, buckets, prefixes, records and exclusions; and that no value comes out (cases 23, 24, 25)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from coverage.covering import AS_OF, REASON, cover, only, with_text
from lifecycle.errors import ValidationFailedError
from lifecycle.validation.auditor import audit_task
from support.store import Store


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


def test_the_command(store: Store) -> None:
    done = store.cli("coverage", "--as-of", "2026-07-01")
    assert "Everything is bound or excluded." in done.stdout
    store.sql("CREATE TABLE app.attachments (message_id uuid, n int)")
    failed: Any = store.cli("coverage", check=False)
    assert failed.returncode == 1
    assert "table: 1" in failed.stderr
    assert "       - {table: app.attachments, key: message_id}\n" in failed.stdout


def test_the_auditors_task_fails_on_a_difference(store: Store) -> None:
    """What DAG retention_auditor runs: counts per check, no names."""
    store.sql("CREATE TABLE app.attachments (message_id uuid, n int)")
    store.s3.create_bucket(Bucket="exports")
    with pytest.raises(ValidationFailedError) as caught:
        audit_task(AS_OF)
    assert caught.value.failures["coverage"] == 2
    assert "attachments" not in str(caught.value)
