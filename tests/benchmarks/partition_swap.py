"""Disposing of one day partition: ours beside batched DELETE and bare DROP TABLE, each on a copy of the same data.

    python tests/benchmarks/partition_swap.py [--rows 1000000] [--survivors 10000] [--only ours,drop] [--repeat 3]
    python tests/benchmarks/partition_swap.py --growth [--rows 1000000]
    python tests/benchmarks/partition_swap.py --partman pg_partman--4.7.2.sql --only ours,drop,partman

Rows of the reference store's app.messages, about 600 bytes, with its six indexes; survivors are those of accounts under
a legal hold. Durable server. Times of DELETE include VACUUM. `ours` is one unit of a run, from its lease to its ledger
entry; what planning the run costs is a column of its own.

``--growth`` takes ours and the bare drop at --rows and ten times that, with 10,000 and with 100,000 survivors.
``partman`` is a run of pg_partman's maintenance whose retention drops the partition, survivors too. Its extension is
plain SQL, of which one file is asked for: Debian's is in postgresql-15-partman (apt-get download, dpkg -x; nothing has
to be installed), and works with later servers.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    runs.finish(conn, run.run_id, "succeeded")
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


def partman(conn: Conn) -> float:
    """What a scheduler would call for pg_partman every so often; it makes partitions ahead in the same transaction."""
    began = time.monotonic()
    conn.execute("SELECT partman.run_maintenance('app.messages_consumer')")
    took.append(time.monotonic() - began)
    return 0.0


def set_up_partman(conn: Conn) -> None:
    """The tier's table is given over to it, with a partition that is called as it wants it."""
    conn.execute("DELETE FROM partman.part_config")
    conn.execute("DROP TABLE app.messages_consumer_default")
    conn.execute(
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(LEAF, sql.Identifier(f"messages_consumer_p{DAY:%Y_%m_%d}"))
    )
    conn.execute(
        "SELECT partman.create_parent('app.messages_consumer', 'received_at', 'native', 'daily', p_premake := 1)"
    )
    conn.execute("UPDATE partman.part_config SET retention = (now() - %s)::text, retention_keep_table = false", (NEXT,))
    conn.execute("CHECKPOINT")


def take_down_partman(conn: Conn) -> None:
    for (name,) in conn.execute(
        "SELECT relid::regclass::text FROM pg_partition_tree('app.messages_consumer') WHERE isleaf"
    ).fetchall():
        conn.execute(sql.SQL("DROP TABLE {}").format(sql.SQL(name)))
    conn.execute("DROP TABLE IF EXISTS partman.template_app_messages_consumer")
    conn.execute("CREATE TABLE app.messages_consumer_default PARTITION OF app.messages_consumer DEFAULT")


def install_partman(conn: Conn, script: Path) -> None:
    """As CREATE EXTENSION does it, but for what only an extension can say of itself."""
    if datetime.now(UTC) < NEXT + timedelta(days=1):
        raise SystemExit(f"pg_partman goes by the clock of this machine, which has to be past {NEXT:%Y-%m-%d}")
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.startswith("\\")]
    text = "\n".join(lines).replace("@extschema@", "partman")
    conn.execute("CREATE SCHEMA partman")
    conn.execute(re.sub(r"SELECT pg_catalog\.pg_extension_config_dump\(.*?\);", "", text).encode())


CONTESTANTS: dict[str, Callable[[Conn], float]] = {
    "ours": ours,
    "drop": drop,
    "at_once": at_once,
    "keyset_10000": batched(10_000, keyset=True),
    "batch_10000": batched(10_000, keyset=False),
    "batch_1000": batched(1_000, keyset=False),
    "partman": partman,
}
# What is done before and after, of contestants that want their tables otherwise.
AROUND: dict[str, tuple[Callable[[Conn], None], Callable[[Conn], None]]] = {
    "partman": (set_up_partman, take_down_partman),
}
GROWTH = 10
GROWTH_SURVIVORS = (10_000, 100_000)


@dataclass(frozen=True)
class Result:
    seconds: float
    planning: float
    wal: int
    disk: int
    """Bytes given back to the file system at once."""
    left: int


def contest(conn: Conn, name: str) -> Result:
    make_copy(conn)
    before, after = AROUND.get(name, (None, None))
    if before is not None:
        before(conn)
    size = scalar(conn, "SELECT pg_database_size(current_database())")
    log = scalar(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    took.clear()
    began = time.monotonic()
    planning = CONTESTANTS[name](conn)
    seconds = took[0] if took else time.monotonic() - began
    wal = scalar(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint") - log
    disk = size - scalar(conn, "SELECT pg_database_size(current_database())")
    left = scalar(conn, "SELECT count(*) FROM app.messages")
    if after is not None:
        after(conn)
    return Result(seconds, planning, wal, disk, left)


def results(conn: Conn, names: Sequence[str], repeat: int) -> Iterator[tuple[str, Result]]:
    for name in names:
        tries = []
        for number in range(repeat):
            say(f"{name}, try {number + 1} of {repeat}")
            tries.append(contest(conn, name))
        yield name, min(tries, key=lambda one: abs(one.seconds - median(each.seconds for each in tries)))


def prepare(conn: Conn, rows: int, survivors: int, *, fresh: bool) -> None:
    if fresh:
        say(f"making {rows:,} rows")
        conn.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        make_source(conn, rows)
    conn.execute("DELETE FROM lifecycle.legal_holds")
    hold(conn, rows, survivors)


def compare(conn: Conn, chosen: argparse.Namespace, names: Sequence[str]) -> None:
    """Every contestant on the same rows."""
    prepare(conn, chosen.rows, chosen.survivors, fresh=True)
    tell(f"{chosen.rows:,} rows, {chosen.survivors:,} stay", "seconds", "planning", "log, MB", "disk returned, MB",
         "rows left")  # fmt: skip
    tell(*["---"] * 6)
    for name, found in results(conn, names, chosen.repeat):
        tell(
            name,
            f"{found.seconds:.2f}",
            f"{found.planning:.2f}",
            f"{found.wal / 1e6:,.1f}",
            f"{found.disk / 1e6:,.0f}",
            f"{found.left:,}",
        )


def growth(conn: Conn, chosen: argparse.Namespace) -> None:
    """Ten times the rows with the same survivors: what it costs more, beside what a bare drop costs more."""
    sizes = (chosen.rows, chosen.rows * GROWTH)
    found: dict[tuple[int, int, str], float] = {}
    for rows in sizes:
        for number, survivors in enumerate(GROWTH_SURVIVORS):
            prepare(conn, rows, survivors, fresh=number == 0)
            for name, one in results(conn, ("ours", "drop"), chosen.repeat):
                found[rows, survivors, name] = one.seconds
    tell("survivors", *(f"{name}, {rows:,} rows" for name in ("ours", "drop") for rows in sizes), "ours", "drop",
         "ours less drop")  # fmt: skip
    tell(*["---"] * 8)
    for survivors in GROWTH_SURVIVORS:
        ours_took, drop_took = ([found[rows, survivors, name] for rows in sizes] for name in ("ours", "drop"))
        own = [all_of_it - bare for all_of_it, bare in zip(ours_took, drop_took, strict=True)]
        tell(
            f"{survivors:,}",
            *(f"{seconds:.2f} s" for seconds in (*ours_took, *drop_took)),
            *(f"{large / max(small, 1e-3):.2f} times" for small, large in (ours_took, drop_took, own)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--survivors", type=int, default=10_000, help="how many rows stay")
    parser.add_argument("--only", help="contestants, by commas; all but partman")
    parser.add_argument("--repeat", type=int, default=1, help="tries of each; the one with the median time is shown")
    parser.add_argument("--growth", action="store_true", help="ten times the rows, the same survivors")
    parser.add_argument("--partman", type=Path, help="pg_partman's script of SQL")
    parser.add_argument("--dir", type=Path, help="where the server's files go")
    chosen = parser.parse_args()
    names = (chosen.only or ",".join(name for name in CONTESTANTS if name != "partman" or chosen.partman)).split(",")
    if "partman" in names and chosen.partman is None:
        parser.error("partman needs its script: --partman FILE")
    most = chosen.rows * (GROWTH if chosen.growth else 1)
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-", dir=chosen.dir) as name:
        Path(name).chmod(0o755)
        free = shutil.disk_usage(name).free
        if free < most * 4_000:
            raise SystemExit(f"{most} rows need about {most * 4_000 >> 30} GiB in {name}; {free >> 30} are free")
        with embedded_postgres(Path(name) / "pg", durable=True) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            create_schemas(server.conninfo("product"))
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                sys.stdout.write(f"PostgreSQL {scalar(conn, 'SHOW server_version')}, {platform.machine()}\n\n")
                if "partman" in names:
                    install_partman(conn, chosen.partman)
                if chosen.growth:
                    growth(conn, chosen)
                else:
                    compare(conn, chosen, names)


if __name__ == "__main__":
    main()
