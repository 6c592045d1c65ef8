"""A due day of an ordinary table that is partitioned by day alone: by partition, in batches, and a bare DROP.

    python tests/benchmarks/table_leaves.py [--rows 1000000] [--survivors 10000] [--only partition,drop] [--repeat 3]
    python tests/benchmarks/table_leaves.py --rows 250000 --survivors 2500 --children

Each on a copy of the same rows (about 600 bytes, three indexes) in a table of its own, which also holds a young day;
survivors are those of accounts under a legal hold. Durable server. `partition` and `batches` are the units of one run,
from their leases to their ledger entries, with VACUUM; planning is a column of its own. `batches` is what the same
code does where it may not replace partitions, and what it did with every such table before. ``--children``: a row of
an index table, without a foreign key, belongs to each.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, cast
from unittest.mock import patch

import psycopg

from lifecycle.catalog.models import Catalog
from lifecycle.config import load_configuration
from lifecycle.demo.servers import embedded_postgres
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import table_units
from lifecycle.ledger import runs
from lifecycle.orchestration.steps import carry_out
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, 6, tzinfo=UTC)
DUE, YOUNG = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC)
ACCOUNTS = 5_000
USAGE: dict[str, Any] = {
    "id": "usage_logs", "type": "table", "category": "prompts_and_outputs", "table": "app.usage_logs", "key": "id",
    "record": "id", "subject": "account", "clock": "created_at", "tier_is": "business",
}  # fmt: skip
_MAKE = """
DROP TABLE IF EXISTS app.usage_logs;
CREATE TABLE app.usage_logs (LIKE bench.source INCLUDING ALL) PARTITION BY RANGE (created_at);
CREATE TABLE app.usage_logs_young PARTITION OF app.usage_logs FOR VALUES FROM ('2026-10-31') TO ('2026-11-01');
INSERT INTO app.usage_logs SELECT id, account, '2026-10-31', said FROM bench.source LIMIT 1000;
CREATE TABLE app.usage_logs_due (LIKE bench.source);
INSERT INTO app.usage_logs_due SELECT * FROM bench.source;
ALTER TABLE app.usage_logs ADD PRIMARY KEY (id, created_at);
CREATE INDEX ON app.usage_logs (created_at);
CREATE INDEX ON app.usage_logs (account);
ALTER TABLE app.usage_logs ATTACH PARTITION app.usage_logs_due FOR VALUES FROM ('2026-09-01') TO ('2026-09-02');
"""
Conn = psycopg.Connection[Any]


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def scalar(conn: Conn, query: str, *params: object) -> Any:
    row = conn.execute(query.encode(), params or None).fetchone()
    return row[0] if row else None


def make_source(conn: Conn, rows: int, survivors: int) -> None:
    conn.execute("CREATE SCHEMA bench")
    conn.execute("CREATE TABLE bench.source (id uuid NOT NULL, account uuid NOT NULL, created_at timestamptz NOT NULL,"
                 " said text)")  # fmt: skip
    conn.execute(
        "INSERT INTO bench.source SELECT md5(n::text)::uuid, ('00000000-0000-0000-0000-' || lpad((n %% %s)::text, 12,"
        " '0'))::uuid, %s + n * %s / (%s + 1), repeat(md5(n::text), 16) FROM generate_series(1, %s) n",
        (ACCOUNTS, DUE, timedelta(days=1), rows, rows),
    )
    conn.execute(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) SELECT 'account',"
        " '00000000-0000-0000-0000-' || lpad(n::text, 12, '0'), 'a case', 'somebody' FROM generate_series(1, %s) n",
        (round(survivors * ACCOUNTS / rows),),
    )
    conn.execute("ANALYZE lifecycle.legal_holds")


@dataclass(frozen=True)
class Result:
    planning: float
    seconds: float
    wal: int
    disk: int
    left: int


_CHILDREN = """
DROP TABLE IF EXISTS app.usage_tools;
CREATE TABLE app.usage_tools (log uuid NOT NULL, tool text NOT NULL);
INSERT INTO app.usage_tools SELECT id, 'search' FROM app.usage_logs;
CREATE INDEX ON app.usage_tools (log);
VACUUM ANALYZE app.usage_tools;
"""


def a_run(conn: Conn, *, by_partition: bool) -> tuple[float, float]:
    """Seconds of planning, and of carrying out every unit."""
    config = load_configuration()
    document = config.catalog.model_dump(mode="json", by_alias=True, exclude_unset=True)
    children = {"children": [{"table": "app.usage_tools", "key": "log"}]}
    has_children = scalar(conn, "SELECT to_regclass('app.usage_tools') IS NOT NULL")
    document["datasets"] = [*document["datasets"], USAGE | (children if has_children else {})]
    catalog = Catalog.model_validate(document)
    run = runs.begin(conn, scope=RECORDS_SCOPE, as_of=AS_OF, run_key=f"benchmark/{time.time_ns()}",
                     hashes=(config.policy_hash, config.catalog_hash), dry_run=False, owner=None)  # fmt: skip
    context = RunContext(conn, cast(Any, None), config.policy, catalog, run)
    dataset = next(each for each in catalog.tables if each.id == USAGE["id"])
    whole = nullcontext() if by_partition else patch("lifecycle.dispositions.survey.leaf_units", return_value=[])
    began = time.monotonic()
    with whole:
        units = [unit for unit in table_units(context, dataset) if unit.due]
    planned = time.monotonic()
    freeze(conn, run.run_id, units)
    for unit in units:
        carry_out(context, unit.unit)
    ended = time.monotonic()
    runs.finish(conn, run.run_id, "succeeded")
    return planned - began, ended - planned


def bare_drop(conn: Conn) -> tuple[float, float]:
    began = time.monotonic()
    conn.execute("DROP TABLE app.usage_logs_due")
    return 0.0, time.monotonic() - began


CONTESTANTS: dict[str, Callable[[Conn], tuple[float, float]]] = {
    "partition": lambda conn: a_run(conn, by_partition=True),
    "drop": bare_drop,
    "batches": lambda conn: a_run(conn, by_partition=False),
}


def contest(conn: Conn, name: str, *, children: bool) -> Result:
    conn.execute(_MAKE)
    for statement in _CHILDREN.split(";")[:-1] if children else ():
        conn.execute(statement.encode())
    conn.execute("VACUUM (FREEZE, ANALYZE) app.usage_logs")
    conn.execute("CHECKPOINT")
    size = scalar(conn, "SELECT pg_database_size(current_database())")
    log = scalar(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    planning, seconds = CONTESTANTS[name](conn)
    wal = scalar(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint") - log
    disk = size - scalar(conn, "SELECT pg_database_size(current_database())")
    return Result(planning, seconds, wal, disk, scalar(conn, "SELECT count(*) FROM app.usage_logs") - 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--survivors", type=int, default=10_000, help="how many rows stay")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, by commas")
    parser.add_argument("--repeat", type=int, default=1, help="tries of each; the one with the median time is shown")
    parser.add_argument("--children", action="store_true", help="something belongs to each row")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as name:
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name) / "pg", durable=True) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            create_schemas(server.conninfo("product"))
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                sys.stdout.write(f"PostgreSQL {scalar(conn, 'SHOW server_version')}, {platform.machine()}\n\n")
                make_source(conn, chosen.rows, chosen.survivors)
                tell(f"{chosen.rows:,} rows, {chosen.survivors:,} stay", "seconds", "planning", "log, MB",
                     "disk returned, MB", "rows left")  # fmt: skip
                tell(*["---"] * 6)
                for each in chosen.only.split(","):
                    found_all = (contest(conn, each, children=chosen.children) for _ in range(chosen.repeat))
                    tries = sorted(found_all, key=lambda one: one.seconds)
                    found = next(one for one in tries if one.seconds >= median(t.seconds for t in tries))
                    tell(each, f"{found.seconds:.2f}", f"{found.planning:.2f}", f"{found.wal / 1e6:,.1f}",
                         f"{found.disk / 1e6:,.0f}", f"{found.left:,}")  # fmt: skip


if __name__ == "__main__":
    main()
