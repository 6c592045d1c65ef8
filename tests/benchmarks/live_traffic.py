"""A backlog of day partitions goes while the application works in the same table: ours beside batched DELETE.

    python tests/benchmarks/live_traffic.py [--partitions 60] [--rows 20000] [--clients 4] [--idle 30]

Clients insert (40%), update by key (20%) and read by account (40%), with a pause between statements, each in a process
of its own; so does whoever disposes. One row in a hundred is under a legal hold. Durable server.
The contestant `cpu` does nothing but keep one core busy: what of a difference is that.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import Postgres, embedded_postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire import expire
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import message_units
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
FIRST = datetime(2026, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ACCOUNTS = 1_000
PAUSE = 0.005
Conn = psycopg.Connection[Any]
_SPAWN = multiprocessing.get_context("spawn")


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


# -- the data -----------------------------------------------------------------------------------------------------


def leaf(day: datetime) -> sql.Identifier:
    return sql.Identifier("app", f"messages_consumer_{day:%Y%m%d}")


def fill(conn: Conn, days: list[datetime], rows: int) -> None:
    conn.execute("SET synchronous_commit = off")
    for day in days:
        conn.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF app.messages_consumer FOR VALUES FROM ({}) TO ({})").format(
                leaf(day), sql.Literal(day), sql.Literal(day + DAY)
            )
        )
        conn.execute(
            sql.SQL(
                "INSERT INTO app.messages SELECT gen_random_uuid(), md5((n / 8)::text)::uuid,"
                " ('00000000-0000-0000-0000-' || lpad((n % {accounts})::text, 12, '0'))::uuid, 'consumer', 'user',"
                " {day} + n * interval '86400 seconds' / ({rows} + 1), 'model-1', '192.0.2.1', repeat(md5(n::text), 14)"
                ", NULL FROM generate_series(1, {rows}) n"
            ).format(accounts=sql.Literal(ACCOUNTS), day=sql.Literal(day), rows=sql.Literal(rows))
        )
    conn.execute(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) SELECT 'account',"
        " '00000000-0000-0000-0000-' || lpad(n::text, 12, '0'), 'a case', 'somebody' FROM generate_series(1, %s) n",
        (ACCOUNTS // 100,),
    )
    conn.execute("VACUUM (ANALYZE)")
    conn.execute("CHECKPOINT")


# -- the application ----------------------------------------------------------------------------------------------


def client(conninfo: str, seed: int, ready: Any, stop: Event, results: Any) -> None:
    """One session of the application; puts (milliseconds per statement, failures) when it is told to stop."""
    dice, taken, failed, mine = random.Random(seed), list[float](), 0, list[Any]()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        ready.wait()
        while not stop.is_set():
            act = _choose(dice, mine)
            began = time.perf_counter()
            try:
                act(conn)
            except psycopg.Error:
                failed += 1
            taken.append((time.perf_counter() - began) * 1e3)
            time.sleep(PAUSE)
    results.put((taken, failed))


def _choose(dice: random.Random, mine: list[Any]) -> Callable[[Conn], object]:
    what, account = dice.random(), f"00000000-0000-0000-0000-{dice.randrange(ACCOUNTS):012d}"
    if what < 0.4 or not mine:
        message, at = uuid4(), AS_OF + timedelta(seconds=dice.random() * 3600)
        mine.append((message, at))
        return lambda conn: conn.execute(
            "INSERT INTO app.messages VALUES (%s, %s, %s, 'consumer', 'user', %s, 'model-1', NULL, %s, NULL)",
            (message, uuid4(), account, at, "x" * 450),
        )
    if what < 0.6:
        message, at = dice.choice(mine)
        return lambda conn: conn.execute(
            "UPDATE app.messages SET body = %s WHERE tier = 'consumer' AND received_at = %s AND message_id = %s",
            ("y" * 450, at, message),
        )
    return lambda conn: conn.execute(
        "SELECT count(*) FROM app.messages WHERE account_id = %s AND received_at >= %s", (account, AS_OF - 30 * DAY)
    ).fetchone()


# -- who disposes -------------------------------------------------------------------------------------------------


def ours(conninfo: str) -> None:
    """What a daily run does, unit by unit."""
    config = load_configuration()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        hashes = (config.policy_hash, config.catalog_hash)
        run = runs.begin(
            conn, scope="consumer", as_of=AS_OF, run_key="benchmark", hashes=hashes, dry_run=False, owner=None
        )
        context = RunContext(conn, cast(Any, None), config.policy, config.catalog, run)
        units = list(message_units(context, Tier.CONSUMER))
        freeze(conn, run.run_id, units)
        for unit in units:
            expire(context, unit.unit)


def batched(conninfo: str) -> None:
    """Ids looked for, deleted by key, 10,000 a time; then VACUUM."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        names = conn.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'app.messages_consumer'::regclass AND c.relname < 'messages_consumer_20260701'"
            " ORDER BY 1"
        ).fetchall()
        for (name,) in names:
            _empty(conn, sql.Identifier("app", name))


def _empty(conn: Conn, name: sql.Identifier) -> None:
    find = sql.SQL(
        "SELECT message_id FROM {} WHERE account_id::text NOT IN (SELECT target FROM lifecycle.legal_holds) LIMIT 10000"
    ).format(name)
    while found := conn.execute(find).fetchall():
        delete = sql.SQL("DELETE FROM {} WHERE message_id = ANY (%s)").format(name)
        conn.execute(delete, ([row[0] for row in found],))
    conn.execute(sql.SQL("VACUUM {}").format(name))


def spin(conninfo: str) -> None:
    """Nothing but processor time of one core, to tell what of a difference is that."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


WORKERS: dict[str, Callable[[str], None]] = {"ours": ours, "batch_10000": batched, "cpu": spin}


# -- the measurement ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    seconds: float
    taken: list[float]
    failed: int
    deadlocks: int
    old_left: int

    def quantile(self, share: float) -> float:
        return sorted(self.taken)[min(int(len(self.taken) * share), len(self.taken) - 1)]


@contextmanager
def _server(directory: Path) -> Any:
    with embedded_postgres(directory / "pg", durable=True) as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE product")
        create_schemas(server.conninfo("product"))
        yield server


def measure(server: Postgres, clients: int, work: Callable[[], None]) -> Measured:
    conninfo, stop, results = server.conninfo("product"), _SPAWN.Event(), _SPAWN.Queue()
    ready = _SPAWN.Barrier(clients + 1)
    users = [_SPAWN.Process(target=client, args=(conninfo, seed, ready, stop, results)) for seed in range(clients)]
    for user in users:
        user.start()
    ready.wait()
    began = time.monotonic()
    work()
    seconds = time.monotonic() - began
    stop.set()
    found = [results.get() for _ in users]
    for user in users:
        user.join()
    with psycopg.connect(conninfo) as conn:
        deadlocks = conn.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = 'product'").fetchone()
        left = conn.execute("SELECT count(*) FROM app.messages WHERE received_at < %s", (FIRST + 90 * DAY,)).fetchone()
    assert deadlocks is not None and left is not None
    return Measured(
        seconds, [ms for taken, _ in found for ms in taken], sum(n for _, n in found), deadlocks[0], left[0]
    )


def process(worker: Callable[[str], None], conninfo: str) -> None:
    done = _SPAWN.Process(target=worker, args=(conninfo,))
    done.start()
    done.join()
    if done.exitcode:
        raise SystemExit(f"the work ended with code {done.exitcode}")


def show(name: str, found: Measured) -> None:
    numbers = (f"{found.quantile(share):.1f}" for share in (0.5, 0.99, 1))
    tell(name, f"{found.seconds:.0f}", len(found.taken), *numbers, found.failed, found.deadlocks, f"{found.old_left:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=60)
    parser.add_argument("--rows", type=int, default=20_000, help="in each partition")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--idle", type=int, default=30, help="seconds of the application alone")
    parser.add_argument("--only", default=",".join(WORKERS))
    chosen = parser.parse_args()
    tell("", "seconds", "statements", "p50 ms", "p99 ms", "max ms", "failed", "deadlocks", "old rows left")
    tell(*["---"] * 9)
    days = [FIRST + DAY * n for n in range(chosen.partitions)]
    recent = [AS_OF - DAY * n for n in range(30, -1, -1)]
    for name in chosen.only.split(","):
        with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as directory:
            Path(directory).chmod(0o755)
            with _server(Path(directory)) as server:
                say(f"{name}: making {len(days) + len(recent)} partitions of {chosen.rows:,} rows")
                with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                    fill(conn, days + recent, chosen.rows)
                show(f"idle, before {name}", measure(server, chosen.clients, lambda: time.sleep(chosen.idle)))
                say(name)
                work = WORKERS[name]
                show(name, measure(server, chosen.clients, lambda: process(work, server.conninfo("product"))))  # noqa: B023


if __name__ == "__main__":
    main()
