"""``lifecycle postgres partition``: the product's own messages become what a run needs, and a run runs on them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from support.store import Store

AS_OF = datetime(2026, 6, 10, 6, tzinfo=UTC)
_ORDINARY = """
    CREATE TABLE app.ordinary (LIKE app.messages INCLUDING DEFAULTS);
    DROP TABLE app.messages CASCADE;
    ALTER TABLE app.ordinary RENAME TO messages;
    ALTER TABLE app.messages ADD CONSTRAINT messages_pkey PRIMARY KEY (message_id);
    CREATE INDEX messages_account ON app.messages (account_id, received_at);
    CREATE INDEX messages_conversation ON app.messages (conversation_id);
    CREATE INDEX messages_received ON app.messages (received_at);
    CREATE INDEX messages_object ON app.messages (object_key text_pattern_ops) WHERE object_key IS NOT NULL;
"""
_SHAPE = """
    SELECT c.relname, c.relkind::text, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
        i.inhparent::regclass::text
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relnamespace = 'app'::regnamespace AND c.relname ~ '^messages(_[a-z]+)?(_default)?$'
      AND c.relkind IN ('r', 'p') AND c.relname <> 'messages_unpartitioned'
    ORDER BY 1
"""
_CATALOGUE = """
    SELECT (SELECT array_agg((oid, relname, relkind, relacl, relfilenode)::text ORDER BY oid) FROM pg_class),
           (SELECT sum(hashtext(t::text)::bigint) FROM pg_attribute t),
           (SELECT sum(hashtext(t::text)::bigint) FROM pg_depend t),
           (SELECT sum(hashtext(t::text)::bigint) FROM pg_proc t),
           (SELECT sum(hashtext(t::text)::bigint) FROM pg_trigger t),
           (SELECT sum(hashtext(t::text)::bigint) FROM pg_constraint t)
"""
PARTITION = ("postgres", "partition", "app.messages")
BEGIN = (*PARTITION, "--clock", "received_at", "--tier", "tier", "--accept-weaker-uniqueness")


@pytest.fixture
def ordinary(store: Store) -> Store:
    """The reference store with its messages in one ordinary table, as a product begins."""
    store.sql(_ORDINARY)
    return store


def fill(store: Store) -> None:
    for tier, days in (("business", 40), ("business", 2), ("consumer", 100), ("consumer", 5), ("beta", 1), ("lost", 1)):
        store.insert_message(tier=tier, received_at=AS_OF - timedelta(days=days))
    store.insert_message(tier="consumer", received_at=AS_OF - timedelta(days=100), object_body="in S3")


def test_the_messages_of_a_product_become_the_reference_layout_and_a_run_runs_on_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_VALIDATION", "sql")
    shape = store.sql(_SHAPE)
    store.sql(_ORDINARY)
    fill(store)
    rows = store.sql("SELECT * FROM app.messages ORDER BY message_id")

    done = json.loads(store.cli(*BEGIN, "--json").stdout)
    assert (done["table"], done["phase"], done["copied"]) == ("app.messages", "switched", 7)
    assert store.sql(_SHAPE) == shape
    assert store.sql("SELECT * FROM app.messages ORDER BY message_id") == rows
    assert (
        store.value("SELECT tableoid::regclass::text FROM app.messages WHERE tier = 'lost'") == "app.messages_default"
    )

    refused = store.cli("run", "--as-of", AS_OF.isoformat(), check=False)
    assert refused.returncode == 1 and "--finish" in refused.stderr
    assert store.sql("SELECT * FROM app.messages ORDER BY message_id") == rows

    store.cli(*PARTITION, "--finish")
    assert store.value("SELECT to_regclass('app.messages_unpartitioned')") is None
    result = json.loads(store.cli("run", "--as-of", AS_OF.isoformat(), "--json").stdout)
    assert result["passed"]
    left = store.sql("SELECT tier, received_at FROM app.messages ORDER BY 1, 2")
    assert left == [
        ("beta", AS_OF - timedelta(days=1)),
        ("business", AS_OF - timedelta(days=2)),
        ("consumer", AS_OF - timedelta(days=5)),
        ("lost", AS_OF - timedelta(days=1)),
    ]


def test_the_plan_changes_nothing_and_names_every_step(ordinary: Store) -> None:
    """Case 21: what it prints is what it would do."""
    ordinary.insert_message(tier="beta", received_at=AS_OF)
    ordinary.sql("DROP SCHEMA lifecycle CASCADE")
    before = ordinary.sql(_CATALOGUE)
    plan = json.loads(ordinary.cli(*BEGIN, "--plan", "--json").stdout)
    assert ordinary.sql(_CATALOGUE) == before
    assert [step["name"] for step in plan["steps"]] == [
        "tree", "partitions", "mirror", "copy", "compare", "switch", "finish",
    ]  # fmt: skip
    assert plan["primary_key"] == ["message_id", "received_at", "tier"]
    assert plan["no_longer_unique"] == ["messages_pkey"]
    assert plan["estimate"]["rows"] == 1 and plan["estimate"]["bytes"] > 0
    statements = "\n".join(text for step in plan["steps"] for text in step["sql"])
    assert 'CREATE TABLE "app"."messages_beta_20260610" PARTITION OF' in statements
    assert 'DROP TABLE IF EXISTS "app"."messages_unpartitioned"' in statements
    shown = ordinary.cli(*BEGIN, "--plan").stdout
    assert "waits: writers, 400 ms a try" in shown and "ACCESS EXCLUSIVE on app.messages" in shown
    ordinary.sql("CREATE SCHEMA lifecycle")


def test_what_is_lost_is_said_and_must_be_accepted(ordinary: Store) -> None:
    refused = ordinary.cli(*BEGIN[:-1], check=False)
    assert refused.returncode == 1
    assert "messages_pkey (message_id)" in refused.stderr and "--accept-weaker-uniqueness" in refused.stderr
    planned = ordinary.cli(*BEGIN[:-1], "--plan", check=False)
    assert planned.returncode == 1 and "nothing was changed" in planned.stderr
    assert ordinary.value("SELECT count(*) FROM lifecycle.partitionings") == 0
    assert ordinary.value("SELECT to_regclass('app.messages_partitioned')") is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("app.nothing", "--clock", "x"), "there is no table app.nothing"),
        (("messages", "--clock", "x"), "schema.table"),
        (("app.messages",), "--clock COLUMN"),
        (("app.messages", "--resume"), "no partitioning of app.messages is under way"),
        (("app.messages", "--resume", "--finish"), "choose one of"),
        (("app.messages", "--clock", "received_at", "--ahead", "P0D"), "P7D"),
        (("app.messages", "--clock", "when"), "it has no column 'when'"),
    ],
)
def test_mistakes_are_named(ordinary: Store, words: tuple[str, ...], says: str) -> None:
    done = ordinary.cli("postgres", "partition", *words, check=False)
    assert done.returncode in (1, 2)
    assert says in done.stderr, done.stderr


def test_begun_twice_taken_back_and_begun_again(ordinary: Store) -> None:
    ordinary.insert_message(tier="beta", received_at=AS_OF)
    rows = ordinary.sql("SELECT * FROM app.messages ORDER BY message_id")
    ordinary.cli(*BEGIN, "--interval", "month")
    assert "go on with --resume" in ordinary.cli(*BEGIN, check=False).stderr
    assert "switched" in ordinary.cli(*PARTITION, "--resume").stdout
    back = json.loads(ordinary.cli(*PARTITION, "--revert", "--json").stdout)
    assert back["phase"] == "reverted"
    assert ordinary.sql("SELECT * FROM app.messages ORDER BY message_id") == rows
    assert ordinary.value("SELECT relkind::text FROM pg_class WHERE oid = 'app.messages'::regclass") == "r"
    ordinary.cli(*BEGIN, "--interval", "month", "--ahead", "P1D")
    ordinary.cli(*PARTITION, "--finish")
    assert ordinary.sql("SELECT * FROM app.messages ORDER BY message_id") == rows
