"""How long `lifecycle policy diff` takes: millions of messages made inside PostgreSQL, and some typical edits.

    python tests/benchmarks/policy_diff.py [--messages 10000000] [--days 120]

One in a hundred messages is flagged, one in two hundred belongs to a rated conversation; one account in a thousand has
a hold, an agreement, an open case or an erasure request. The store is durable and analysed, as a real one is.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.demo.servers import embedded_postgres
from lifecycle.ledger.approvals import Key
from lifecycle.orchestration.approval import Known, compare
from lifecycle.policy.models import Policy
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
TIERS = {"consumer": 0.6, "beta": 0.1, "evaluation": 0.1, "business": 0.2}
INDEXES = ("messages_message", "messages_account", "messages_conversation", "messages_received", "messages_object")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=120)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as name:
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name) / "pg", durable=True) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            create_schemas(server.conninfo("product"))
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                conn.execute("SET timezone = 'UTC'")
                began = time.monotonic()
                fill(conn, chosen.messages, chosen.days)
                tell("filled", f"{time.monotonic() - began:.0f} s")
                measure(conn)


def tell(what: str, how: object) -> None:
    sys.stdout.write(f"{what:<44}  {how}\n")
    sys.stdout.flush()


def fill(conn: psycopg.Connection[Any], messages: int, days: int) -> None:
    """Day partitions, rows spread evenly over them, exceptions sampled from the rows; then indexes and statistics."""
    definitions = [
        str(row[0])
        for row in conn.execute(
            "SELECT pg_get_indexdef(to_regclass('app.' || n)) FROM unnest(%s::text[]) n", (list(INDEXES),)
        )
    ]
    for name in INDEXES:
        conn.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier("app", name)))
    conn.execute("SET synchronous_commit = off")
    accounts = max(1000, messages // 100)
    for tier, share in TIERS.items():
        per_day = max(1, int(messages * share / days))
        for n in range(days):
            _fill_day(conn, tier, AS_OF - timedelta(days=n + 1), per_day, accounts)
    conn.execute("SET maintenance_work_mem = '1GB'")
    for definition in definitions:
        conn.execute(definition.replace(" ON ONLY ", " ON ").encode())
    _exceptions(conn)
    conn.execute("VACUUM (ANALYZE)")


def _fill_day(conn: psycopg.Connection[Any], tier: str, day: datetime, rows: int, accounts: int) -> None:
    leaf = sql.Identifier("app", f"messages_{tier}_{day:%Y%m%d}")
    conn.execute(
        sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
            leaf,
            sql.Identifier("app", f"messages_{tier}"),
            sql.Literal(day),
            sql.Literal(day + timedelta(days=1)),
        )
    )
    conn.execute(
        sql.SQL(
            "INSERT INTO {} (message_id, conversation_id, account_id, tier, role, received_at, model, body)"
            " SELECT gen_random_uuid(),"
            " ('00000000-0000-4000-8000-' || lpad(to_hex((random() * {})::int), 12, '0'))::uuid,"
            " ('00000000-0000-4000-9000-' || lpad(to_hex((random() * {})::int), 12, '0'))::uuid, {}, 'prompt',"
            " {} + n * {}, 'm-1', repeat('words ', 8) FROM generate_series(0, {}) n"
        ).format(
            leaf,
            sql.Literal(accounts * 10),
            sql.Literal(accounts),
            sql.Literal(tier),
            sql.Literal(day),
            sql.Literal(timedelta(days=1) / (rows + 1)),
            sql.Literal(rows - 1),
        )
    )


def _exceptions(conn: psycopg.Connection[Any]) -> None:
    for statement in (
        "INSERT INTO app.safety_flags (message_id, account_id, flagged_at) SELECT message_id, account_id, received_at"
        " FROM app.messages TABLESAMPLE BERNOULLI (1)",
        "INSERT INTO app.feedback (feedback_id, account_id, conversation_id, submitted_at)"
        " SELECT gen_random_uuid(), account_id, conversation_id, received_at"
        " FROM app.messages TABLESAMPLE BERNOULLI (0.05)",
        "CREATE TEMP TABLE sampled AS SELECT DISTINCT account_id, (random() * 4000)::int AS n FROM app.messages"
        " TABLESAMPLE SYSTEM (2)",
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by)"
        " SELECT DISTINCT 'account', account_id::text, 'r', 'p' FROM sampled WHERE n < 4",
        "INSERT INTO lifecycle.erasure_requests (scope, target)"
        " SELECT DISTINCT 'account', account_id::text FROM sampled WHERE n BETWEEN 4 AND 7",
        "INSERT INTO app.enforcement_cases (case_id, account_id, opened_at)"
        " SELECT gen_random_uuid(), account_id, '2026-01-01Z' FROM sampled WHERE n BETWEEN 8 AND 11",
        "INSERT INTO app.agreements (agreement_id, account_id, category, retain, effective_from)"
        " SELECT gen_random_uuid(), account_id, 'prompts_and_outputs', '45 days', '2026-01-01Z' FROM sampled"
        " WHERE n BETWEEN 12 AND 15",
    ):
        conn.execute(statement.encode())


def _known(path: Path, name: str, **edits: str) -> Known:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for rule in document["rules"]:
        rule["period"] = edits.get(rule["id"], rule.get("period"))
        if rule["period"] is None:
            del rule["period"]
    document["lead"]["failed_runs"] = edits.get("failed_runs", document["lead"]["failed_runs"])
    catalog = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    return Known(Key(name, name), Policy.model_validate(document), Catalog.model_validate(catalog))


def measure(conn: psycopg.Connection[Any]) -> None:
    size = conn.execute("SELECT count(*), pg_size_pretty(pg_database_size(current_database())) FROM app.messages")
    rows, shown = size.fetchone() or (0, "?")
    version = conn.execute("SHOW server_version").fetchone()
    tell("machine", f"{platform.machine()}, {os.cpu_count()} cores, PostgreSQL {version[0] if version else '?'}")
    tell("messages, database", f"{rows:,}, {shown}")
    path = shipped(SHIPPED_POLICY)
    old = _known(path, "old")
    for words, edits in (
        ("a remark only", {}),
        ("consumer_default P90D to P89D", {"consumer_default": "P89D"}),
        ("consumer_default P90D to P30D", {"consumer_default": "P30D"}),
        ("business_default P28D to P60D", {"business_default": "P60D"}),
        ("safety_flagged P2Y to P60D", {"safety_flagged": "P60D"}),
        ("lead longer by a day", {"failed_runs": "P2D"}),
    ):
        began = time.monotonic()
        found = compare(conn, old, _known(path, "new", **edits), AS_OF)
        tell(words, f"{time.monotonic() - began:6.2f} s  {found.affected:>10,} records change")


if __name__ == "__main__":
    main()
