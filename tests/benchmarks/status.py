"""How long `lifecycle status` takes on millions of messages, and how many rows it reads in tables that are not due.

    python tests/benchmarks/status.py [--messages 2000000]

A store in its steady state: nothing is older than its cut-off but what a consent keeps; one account in a thousand has a
hold, an erasure request, an agreement or an open case, one conversation in a hundred was rated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import embedded_postgres
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.candidates import of_messages
from lifecycle.stores.postgres.standing import measure
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
LAST = AS_OF - timedelta(days=1)
# Share of the messages, and how many days of them a successful run leaves.
TIERS = {"consumer": (0.6, 88), "beta": (0.1, 88), "evaluation": (0.1, 88), "business": (0.2, 26)}


def tell(what: str, how: object) -> None:
    sys.stdout.write(f"{what:<40}  {how}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000_000)
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
                fill(conn, chosen.messages)
                tell("filled", f"{time.monotonic() - began:.0f} s")
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                conn.execute("SET timezone = 'UTC'")
                for again in ("cold", "warm"):
                    report(conn, again)


def fill(conn: psycopg.Connection[Any], messages: int) -> None:
    conn.execute("SET synchronous_commit = off")
    accounts = max(1000, messages // 100)
    for tier, (share, days) in TIERS.items():
        per_day = max(1, int(messages * share / days))
        for n in range(days):
            _fill_day(conn, tier, AS_OF - timedelta(days=n + 1), per_day, accounts)
        for n in range(days, days + 60):
            _fill_day(conn, tier, AS_OF - timedelta(days=n + 1), max(1, per_day // 100), accounts, survivors=True)
    for statement in _EXCEPTIONS:
        conn.execute(statement.encode())
    conn.execute("VACUUM (ANALYZE)")


def _fill_day(
    conn: psycopg.Connection[Any], tier: str, day: datetime, rows: int, accounts: int, *, survivors: bool = False
) -> None:
    """One partition. Survivors are of conversations of their own, which a consent keeps."""
    leaf = sql.Identifier("app", f"messages_{tier}_{day:%Y%m%d}")
    conn.execute(
        sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
            leaf, sql.Identifier("app", f"messages_{tier}"), sql.Literal(day), sql.Literal(day + timedelta(days=1))
        )
    )
    conversation = "('00000000-0000-4000-{}-' || lpad(to_hex((random() * {})::int), 12, '0'))::uuid"
    conn.execute(
        sql.SQL(
            "INSERT INTO {} (message_id, conversation_id, account_id, tier, role, received_at, model, body)"
            f" SELECT gen_random_uuid(), {conversation.format('a000' if survivors else '8000', accounts * 10)},"
            f" {conversation.format('9000', accounts)}, {{}}, 'prompt', {{}} + n * {{}}, 'm-1', repeat('words ', 8)"
            " FROM generate_series(0, {}) n"
        ).format(
            leaf,
            sql.Literal(tier),
            sql.Literal(day),
            sql.Literal(timedelta(days=1) / (rows + 1)),
            sql.Literal(rows - 1),
        )
    )


_EXCEPTIONS = (
    "INSERT INTO app.feedback (feedback_id, account_id, conversation_id, submitted_at) SELECT gen_random_uuid(),"
    " min(account_id::text)::uuid, conversation_id, min(received_at) FROM app.messages"
    " WHERE conversation_id::text LIKE '%-a000-%' GROUP BY conversation_id",
    "INSERT INTO app.feedback (feedback_id, account_id, conversation_id, submitted_at)"
    " SELECT gen_random_uuid(), account_id, conversation_id, received_at FROM app.messages TABLESAMPLE BERNOULLI (0.1)",
    "CREATE TEMP TABLE sampled AS SELECT account_id, row_number() OVER () AS n FROM"
    " (SELECT DISTINCT account_id FROM app.messages) a",
    "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) SELECT 'account', account_id::text, 'r', 'p'"
    " FROM sampled WHERE n % 1000 = 1",
    "INSERT INTO lifecycle.erasure_requests (scope, target, completed_at) SELECT 'account', account_id::text,"
    " CASE WHEN n % 2000 = 2 THEN '2026-09-01Z'::timestamptz END FROM sampled WHERE n % 1000 = 2",
    "INSERT INTO app.enforcement_cases (case_id, account_id, opened_at) SELECT gen_random_uuid(), account_id,"
    " '2026-01-01Z' FROM sampled WHERE n % 1000 = 3",
    "INSERT INTO app.agreements (agreement_id, account_id, category, retain, effective_from) SELECT gen_random_uuid(),"
    " account_id, 'prompts_and_outputs', CASE WHEN n % 2000 = 4 THEN interval '7 days' ELSE '45 days' END,"
    " '2026-01-01Z' FROM sampled WHERE n % 1000 = 4",
)
_READ = (
    "SELECT coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables"
    " WHERE schemaname = 'app' AND relname LIKE 'messages%'"
)


def _read(conn: psycopg.Connection[Any]) -> tuple[int, int]:
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(_READ.encode()).fetchone()
    assert row is not None
    return row[0], row[1]


def report(conn: psycopg.Connection[Any], caches: str) -> None:
    config = load_configuration()
    total = 0.0
    for tier in (*Tier, None):
        source = of_messages(config.policy, config.catalog, tier)
        before, began = _read(conn), time.monotonic()
        found = measure(conn, source, "messages", "scope", AS_OF, LAST)
        took = time.monotonic() - began
        total += took
        after = _read(conn)
        left = found.time_left(AS_OF)
        hours = "-" if left is None else f"{left.total_seconds() / 3600:.0f} h left"
        tell(
            f"{caches}: {found.name}",
            f"{took:.2f} s; {hours}, {found.due} due, {found.late.kept} kept; rows read: {after[0] - before[0]:,} by"
            f" scans, {after[1] - before[1]:,} by index",
        )
    tell(f"{caches}: all tiers", f"{total:.2f} s")


if __name__ == "__main__":
    main()
