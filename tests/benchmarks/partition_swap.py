"""Disposing of one day partition: ours beside batched DELETE and bare DROP TABLE, each on a copy of the same data.

    python tests/benchmarks/partition_swap.py [--rows 1000000] [--survivors 10000] [--only ours,drop] [--repeat 3]

Rows of the reference store's app.messages, about 600 bytes, with its six indexes; survivors are those of accounts under
a legal hold. Durable server. Times of DELETE include VACUUM. `ours` is one unit of a run, from its lease to its ledger
entry; what planning the run costs is a column of its own.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, cast

import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import embedded_postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire import expire
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import message_units
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
DAY = datetime(2026, 6, 1, tzinfo=UTC)
NEXT = datetime(2026, 6, 2, tzinfo=UTC)
LEAF = sql.Identifier("app", "messages_consumer_20260601")
ACCOUNTS = 5_000
Conn = psycopg.Connection[Any]


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def scalar(conn: Conn, query: str | sql.Composable, *params: object) -> Any:
    row = conn.execute(query, params or None).fetchone()  # type: ignore[arg-type]
    return row[0] if row else None


# -- the data -----------------------------------------------------------------------------------------------------


def make_source(conn: Conn, rows: int) -> None:
    """The rows that every copy has; by a generator of numbers, so that they are the same in every run."""
    conn.execute("CREATE SCHEMA bench")
    conn.execute("CREATE TABLE bench.source (LIKE app.messages) WITH (autovacuum_enabled = off)")
    conn.execute(
        sql.SQL(
            "INSERT INTO bench.source SELECT md5(n::text)::uuid, md5((n / 8)::text || 'c')::uuid,"
            " ('00000000-0000-0000-0000-' || lpad((n % {accounts})::text, 12, '0'))::uuid, 'consumer',"
            " CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, {day} + n * ({next} - {day}) / ({rows} + 1),"
            " 'model-1', '192.0.2.1', repeat(md5(n::text), 14), NULL FROM generate_series(1, {rows}) n"
        ).format(accounts=sql.Literal(ACCOUNTS), day=sql.Literal(DAY), next=sql.Literal(NEXT), rows=sql.Literal(rows))
    )


def hold(conn: Conn, rows: int, survivors: int) -> None:
    """Legal holds on as many accounts as have that many rows."""
    accounts = round(survivors * ACCOUNTS / rows)
    conn.execute(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) SELECT 'account',"
        " '00000000-0000-0000-0000-' || lpad(n::text, 12, '0'), 'a case', 'somebody'"
        " FROM generate_series(1, %s) n",
        (accounts,),
    )
    conn.execute("ANALYZE lifecycle.legal_holds")


def make_copy(conn: Conn) -> None:
    """The partition: filled, then given its indexes, vacuumed as a partition of a past day is, and attached."""
    conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(LEAF))
    conn.execute(sql.SQL("CREATE TABLE {} (LIKE app.messages INCLUDING DEFAULTS)").format(LEAF))
    conn.execute(sql.SQL("INSERT INTO {} SELECT * FROM bench.source").format(LEAF))
    conn.execute("SET maintenance_work_mem = '512MB'")
    bounds = [sql.Literal(DAY), sql.Literal(NEXT)]
    for statement in (
        "ALTER TABLE {} ADD PRIMARY KEY (tier, received_at, message_id)",
        "CREATE INDEX ON {} (message_id)",
        "CREATE INDEX ON {} (account_id, received_at)",
        "CREATE INDEX ON {} (conversation_id)",
        "CREATE INDEX ON {} (received_at)",
        "CREATE INDEX ON {} (object_key text_pattern_ops) WHERE object_key IS NOT NULL",
        "VACUUM (FREEZE, ANALYZE) {}",
    ):
        conn.execute(sql.SQL(statement).format(LEAF))
    conn.execute(
        sql.SQL("ALTER TABLE app.messages_consumer ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            LEAF, *bounds
        )
    )
    conn.execute("CHECKPOINT")


# -- the contestants ----------------------------------------------------------------------------------------------


def ours(conn: Conn) -> float:
    """One unit of a run. Returns the seconds of planning."""
    config = load_configuration()
    run = runs.begin(
        conn,
        scope="consumer",
        as_of=AS_OF,
        run_key=f"benchmark/{time.time_ns()}",
        hashes=(config.policy_hash, config.catalog_hash),
        dry_run=False,
        owner=None,
    )
    context = RunContext(conn, cast(Any, None), config.policy, config.catalog, run)
    began = time.monotonic()
    units = list(message_units(context, Tier.CONSUMER))
    planned = time.monotonic() - began
    freeze(conn, run.run_id, units)
    (unit,) = units
    began = time.monotonic()
    expire(context, unit.unit)
    took.append(time.monotonic() - began)
    return planned


took: list[float] = []
"""Seconds of the part of a contestant that counts, where it is not all of it."""
_FREE = sql.SQL(
    " account_id::text NOT IN (SELECT target FROM lifecycle.legal_holds WHERE scope = 'account'"
    " AND released_at IS NULL)"
)


def batched(size: int, *, keyset: bool) -> Callable[[Conn], float]:
    """Look for ids, delete them by key, and look again: from the start, or at its best from where the last ended."""
    query = sql.SQL("SELECT message_id, received_at FROM {} WHERE received_at < %s AND received_at > %s AND").format(
        LEAF
    )
    query += _FREE + sql.SQL(" ORDER BY received_at LIMIT %s" if keyset else " LIMIT %s")
    delete = sql.SQL("DELETE FROM {} WHERE message_id = ANY (%s)").format(LEAF)

    def work(conn: Conn) -> float:
        after = datetime(1970, 1, 1, tzinfo=UTC)
        while found := conn.execute(query, (NEXT, after, size)).fetchall():
            conn.execute(delete, ([row[0] for row in found],))
            after = found[-1][1] if keyset else after
        conn.execute(sql.SQL("VACUUM {}").format(LEAF))
        return 0.0

    return work


def at_once(conn: Conn) -> float:
    conn.execute(sql.SQL("DELETE FROM {} WHERE").format(LEAF) + _FREE)
    conn.execute(sql.SQL("VACUUM {}").format(LEAF))
    return 0.0


def drop(conn: Conn) -> float:
    """The limit: everything goes, survivors too."""
    conn.execute(sql.SQL("DROP TABLE {}").format(LEAF))
    return 0.0


CONTESTANTS: dict[str, Callable[[Conn], float]] = {
    "ours": ours,
    "drop": drop,
    "at_once": at_once,
    "keyset_10000": batched(10_000, keyset=True),
    "batch_10000": batched(10_000, keyset=False),
    "batch_1000": batched(1_000, keyset=False),
}


@dataclass(frozen=True)
class Result:
    seconds: float
    planning: float
    wal: int
    disk: int
    """Bytes given back to the file system at once."""
    left: int


def contest(conn: Conn, work: Callable[[Conn], float]) -> Result:
    make_copy(conn)
    size = scalar(conn, "SELECT pg_database_size(current_database())")
    log = scalar(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    took.clear()
    began = time.monotonic()
    planning = work(conn)
    seconds = took[0] if took else time.monotonic() - began
    wal = scalar(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint") - log
    disk = size - scalar(conn, "SELECT pg_database_size(current_database())")
    left = scalar(conn, "SELECT count(*) FROM app.messages")
    return Result(seconds, planning, wal, disk, left)


def results(conn: Conn, chosen: argparse.Namespace) -> Iterator[tuple[str, Result]]:
    for name in chosen.only.split(","):
        tries = []
        for number in range(chosen.repeat):
            say(f"{name}, try {number + 1} of {chosen.repeat}")
            tries.append(contest(conn, CONTESTANTS[name]))
        yield name, min(tries, key=lambda one: abs(one.seconds - median(each.seconds for each in tries)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--survivors", type=int, default=10_000, help="how many rows stay")
    parser.add_argument("--only", default=",".join(CONTESTANTS))
    parser.add_argument("--repeat", type=int, default=1, help="tries of each; the one with the median time is shown")
    parser.add_argument("--dir", type=Path, help="where the server's files go")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-", dir=chosen.dir) as name:
        Path(name).chmod(0o755)
        free = shutil.disk_usage(name).free
        if free < chosen.rows * 4_000:
            raise SystemExit(
                f"{chosen.rows} rows need about {chosen.rows * 4_000 >> 30} GiB in {name}; {free >> 30} are free"
            )
        with embedded_postgres(Path(name) / "pg", durable=True) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            create_schemas(server.conninfo("product"))
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                say(f"making {chosen.rows:,} rows")
                make_source(conn, chosen.rows)
                hold(conn, chosen.rows, chosen.survivors)
                version = scalar(conn, "SHOW server_version")
                what = f"{chosen.rows:,} rows, {chosen.survivors:,} survivors"
                sys.stdout.write(f"{what}, PostgreSQL {version}, {platform.machine()}\n\n")
                tell("", "seconds", "planning", "log, MB", "disk returned, MB", "rows left")
                tell(*["---"] * 6)
                for contestant, found in results(conn, chosen):
                    tell(
                        contestant,
                        f"{found.seconds:.2f}",
                        f"{found.planning:.2f}",
                        f"{found.wal / 1e6:,.1f}",
                        f"{found.disk / 1e6:,.0f}",
                        f"{found.left:,}",
                    )


if __name__ == "__main__":
    main()
