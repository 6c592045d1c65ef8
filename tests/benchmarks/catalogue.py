"""Reading, cutting off and planning a tier of very many partitions: metadata only, there is not a row in them.

    python tests/benchmarks/catalogue.py [--partitions 100000] [--due 1000]

Hourly partitions of one tier below monthly ones (making 100,000 below one table takes PostgreSQL hours), without
indexes (which nothing here looks at, and which would be ten files each). The last ``--due`` behind the cut-off hold one
row each. Memory is that of this process and of its PostgreSQL backend.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import embedded_postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import message_units
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.tree import partitions_of
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
Conn = psycopg.Connection[Any]
Result = TypeVar("Result")


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def bare(conn: Conn) -> None:
    """The messages table without constraints and indexes."""
    for (constraint,) in conn.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'app.messages'::regclass AND contype IN ('p', 'u')"
    ).fetchall():
        conn.execute(sql.SQL("ALTER TABLE app.messages DROP CONSTRAINT {}").format(sql.Identifier(constraint)))
    for (index,) in conn.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'app.messages'::regclass"
    ).fetchall():
        conn.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(index)))


def make(conn: Conn, partitions: int) -> None:
    """The latest first, a month in each transaction."""
    upper, made = AS_OF, 0
    while made < partitions:
        month = (upper - HOUR).replace(day=1, hour=0)
        name = sql.Identifier("app", f"messages_consumer_{month:%Y%m}")
        with conn.transaction():
            conn.execute(
                sql.SQL(
                    "CREATE TABLE {} PARTITION OF app.messages_consumer FOR VALUES FROM ({}) TO ({})"
                    " PARTITION BY RANGE (received_at)"
                ).format(name, sql.Literal(month), sql.Literal(upper))
            )
            for hour in range((upper - month) // HOUR):
                _make_hour(conn, name, month + HOUR * hour)
                made += 1
        upper = month
        if month.month == 1:
            say(f"{made:,} partitions")


def _make_hour(conn: Conn, month: sql.Identifier, lower: datetime) -> None:
    conn.execute(
        sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier("app", f"messages_consumer_{lower:%Y%m%d%H}"),
            month,
            sql.Literal(lower),
            sql.Literal(lower + HOUR),
        )
    )


def fill(conn: Conn, last: datetime, due: int) -> None:
    """One row in each of the last partitions behind the cut-off."""
    for hour in range(1, due + 1):
        at = last - HOUR * hour
        conn.execute(
            sql.SQL(
                "INSERT INTO {} SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'consumer', 'user', {},"
                " 'model-1', NULL, 'x', NULL"
            ).format(sql.Identifier("app", f"messages_consumer_{at:%Y%m%d%H}"), sql.Literal(at))
        )


def measured(name: str, conn: Conn, act: Callable[[], Result]) -> Result:
    backend = psutil.Process(conn.info.backend_pid)
    began = time.monotonic()
    found = act()
    took = time.monotonic() - began
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell(name, f"{took:.2f} s", f"{ours:.0f} MB", f"{backend.memory_info().rss / 1024**2:.0f} MB")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=1_000)
    chosen = parser.parse_args()
    config = load_configuration()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as directory:
        Path(directory).chmod(0o755)
        with embedded_postgres(Path(directory) / "pg") as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
                conn.execute("ALTER SYSTEM SET max_locks_per_transaction = 4096")
            create_schemas(server.conninfo("product"))
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                conn.execute("SET TimeZone = 'UTC'")
                bare(conn)
                make(conn, chosen.partitions)
                show(conn, config, chosen.due)


def show(conn: Conn, config: Any, due: int) -> None:
    hashes = (config.policy_hash, config.catalog_hash)
    run = runs.begin(conn, scope="consumer", as_of=AS_OF, run_key="b", hashes=hashes, dry_run=False, owner=None)
    context = RunContext(conn, cast(Any, None), config.policy, config.catalog, run)
    tell("step", "time", "memory", "backend")
    tell(*["---"] * 4)
    leaves = measured("the tree", conn, lambda: partitions_of(conn, context.messages, Tier.CONSUMER))
    cutoff = measured("cut-off", conn, lambda: context.cutoff(Tier.CONSUMER))
    behind = [leaf for leaf in leaves if leaf.upper is not None and leaf.upper <= cutoff]
    say(f"{len(leaves):,} partitions, {len(behind):,} behind the cut-off")
    fill(conn, cutoff.replace(minute=0, second=0, microsecond=0), due)
    units = measured("units", conn, lambda: list(message_units(context, Tier.CONSUMER)))
    measured("freeze", conn, lambda: freeze(conn, run.run_id, units))
    say(f"{len(units):,} units")


if __name__ == "__main__":
    main()
