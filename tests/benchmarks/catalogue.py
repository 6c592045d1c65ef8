"""Reading, cutting off and planning a tier of very many partitions: metadata only, there is hardly a row in them.

    python tests/benchmarks/catalogue.py [--partitions 100000] [--due 1000] [--patience 300] [--dir FOLDER]

Hourly partitions of one tier below days below months. PostgreSQL makes 100,000 of them in a minute or two when no table
has many children, no column may be TOASTed (that is two files each), nothing has a constraint (each new partition reads
all of pg_constraint, for foreign keys that refer to its parent) and sessions are short; they have no indexes. The last
``--due`` behind the cut-off hold one row each. Each step has a session of its own and up to ``--patience`` seconds a
statement. Memory is the largest that this process has had and what its PostgreSQL backend has when the step ends.
``--dir`` keeps the server's files and uses them again.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import psycopg
from psycopg import sql

from lifecycle.config import Configuration, load_configuration
from lifecycle.demo.servers import Postgres, start_postgres, stop_postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import message_units
from lifecycle.ledger import runs
from lifecycle.planning.rollup import months_to_merge, years_to_merge
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.candidates import of_messages
from lifecycle.stores.postgres.partitions import create_ahead
from lifecycle.stores.postgres.standing import measure
from lifecycle.stores.postgres.tree import Branch, Partition, check_tree, partitions_of, tier_tree
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS_A_SESSION = 50
TIER = Tier.CONSUMER
HOLD = "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES ('dataset', 'messages', 'a', 'b')"
Conn = psycopg.Connection[Any]
Result = TypeVar("Result")


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


@contextmanager
def session(server: Postgres) -> Iterator[Conn]:
    with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        yield conn


# -- the partitions ------------------------------------------------------------------------------------------------


def prepare(server: Postgres) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE product")
        conn.execute("ALTER SYSTEM SET max_locks_per_transaction = 4096")
    create_schemas(server.conninfo("product"))
    with session(server) as conn:
        bare(conn)


def bare(conn: Conn) -> None:
    """The messages table without constraints, indexes and TOAST."""
    root = sql.Identifier("app", "messages")
    for (constraint,) in conn.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'app.messages'::regclass AND contype IN ('p', 'u')"
    ).fetchall():
        conn.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(root, sql.Identifier(constraint)))
    for (index,) in conn.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'app.messages'::regclass"
    ).fetchall():
        conn.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(index)))
    for column, storage in conn.execute(
        "SELECT attname, attstorage::text FROM pg_attribute WHERE attrelid = 'app.messages'::regclass AND attnum > 0"
    ).fetchall():
        alter = sql.SQL("ALTER TABLE {} ALTER {}").format(root, sql.Identifier(column))
        conn.execute(alter + sql.SQL(" DROP NOT NULL"))
        if storage != "p":
            conn.execute(alter + sql.SQL(" SET STORAGE PLAIN"))


def make(server: Postgres, partitions: int) -> None:
    """The latest first, a day in each transaction."""
    day = AS_OF
    days = -(-partitions // 24)
    for start in range(0, days, DAYS_A_SESSION):
        with session(server) as conn:
            for _ in range(min(DAYS_A_SESSION, days - start)):
                day -= DAY
                with conn.transaction():
                    make_day(conn, day)
        if start % 500 == 0:
            say(f"{start * 24:,} partitions")
    with session(server) as conn:
        conn.execute("VACUUM ANALYZE")


def make_day(conn: Conn, day: datetime) -> None:
    month = day.replace(day=1)
    if (day + DAY).month != month.month:
        conn.execute(partition("messages_consumer", month, (month + 32 * DAY).replace(day=1), "%Y%m", parted=True))
    conn.execute(partition(f"messages_consumer_{month:%Y%m}", day, day + DAY, "%Y%m%d", parted=True))
    above = f"messages_consumer_{day:%Y%m%d}"
    for lower in (day + HOUR * hour for hour in range(24)):
        conn.execute(partition(above, lower, lower + HOUR, "%Y%m%d%H"))


def partition(parent: str, lower: datetime, upper: datetime, form: str, *, parted: bool = False) -> sql.Composed:
    return sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({}){}").format(
        sql.Identifier("app", f"messages_consumer_{lower.strftime(form)}"),
        sql.Identifier("app", parent),
        sql.Literal(lower),
        sql.Literal(upper),
        sql.SQL(" PARTITION BY RANGE (received_at)" if parted else ""),
    )


def fill(server: Postgres, last: datetime, due: int) -> None:
    """One row in each of the last partitions behind the cut-off."""
    with session(server) as conn:
        for hour in range(1, due + 1):
            at = last - HOUR * hour
            leaf = sql.Identifier("app", f"messages_consumer_{at:%Y%m%d%H}")
            conn.execute(sql.SQL("TRUNCATE {}").format(leaf))
            conn.execute(
                sql.SQL(
                    "INSERT INTO {} SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'consumer', 'user',"
                    " {}, 'model-1', NULL, 'x', NULL"
                ).format(leaf, sql.Literal(at))
            )


# -- what is measured ----------------------------------------------------------------------------------------------


def merges(conn: Conn, config: Configuration) -> int:
    """What a run would merge if it had been through everything."""
    tree = tier_tree(conn, config.catalog.messages, TIER)
    found = 0
    for branch in tree.branches() if isinstance(tree, Branch) else []:
        spans = [(child.lower, child.upper) for child in branch.children if not child.default]
        found += len(months_to_merge(spans, AS_OF)) + len(years_to_merge(spans, AS_OF))
    return found


def status(conn: Conn, config: Configuration) -> None:
    measure(conn, of_messages(config.policy, config.catalog, TIER), "messages", TIER.value, AS_OF, AS_OF - DAY)


def processor(backend: psutil.Process) -> float:
    """Seconds that we and PostgreSQL have computed: what other work on the machine does not add to."""
    times = backend.cpu_times()
    return time.process_time() + float(times.user + times.system)


class Show:
    """The steps, one after the other, each with a session of its own."""

    def __init__(self, server: Postgres, patience: int) -> None:
        self._server, self._patience = server, patience

    def step(self, name: str, act: Callable[[Conn], Result]) -> Result | None:
        with session(self._server) as conn:
            conn.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(f"{self._patience}s")))
            backend = psutil.Process(conn.info.backend_pid)
            began, worked = time.monotonic(), processor(backend)
            try:
                found, note = act(conn), ""
            except psycopg.errors.QueryCanceled:
                found, note = None, "given up after "
            took, worked = time.monotonic() - began, processor(backend) - worked
            ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            tell(
                name,
                f"{note}{took:.2f} s",
                f"{worked:.2f} s",
                f"{ours:.0f} MB",
                f"{backend.memory_info().rss / 1024**2:.0f} MB",
            )
            return found

    def all(self, config: Configuration, due: int) -> None:
        messages = config.catalog.messages
        with session(self._server) as conn:
            hashes = (config.policy_hash, config.catalog_hash)
            key = f"benchmark/{time.time_ns()}"
            run = runs.begin(conn, scope=TIER.value, as_of=AS_OF, run_key=key, hashes=hashes, dry_run=False, owner=None)

        def context(conn: Conn) -> RunContext:
            return RunContext(conn, cast(Any, None), config.policy, config.catalog, run)

        tell("step", "time", "processor", "our memory", "backend")
        tell(*["---"] * 5)
        cutoff: datetime = self.step("cut-off", lambda conn: context(conn).cutoff(TIER)) or AS_OF
        fill(self._server, cutoff.replace(minute=0, second=0, microsecond=0), due)
        self.step("refusing what cannot be planned", lambda conn: check_tree(conn, messages))
        leaves: list[Partition] = self.step("the tree", lambda conn: partitions_of(conn, messages, TIER)) or []
        behind = sum(leaf.upper is not None and leaf.upper <= cutoff for leaf in leaves)
        say(f"{len(leaves):,} partitions, {behind:,} behind the cut-off")
        self.step("partitions of the days to come", lambda conn: create_ahead(conn, messages, TIER, AS_OF))
        self.step("what could be merged", lambda conn: merges(conn, config))
        units = self.step(f"the plan's {due:,} units", lambda conn: list(message_units(context(conn), TIER))) or []
        self.step("freezing the plan", lambda conn: freeze(conn, run.run_id, units))
        hour = (cutoff.replace(minute=0, second=0, microsecond=0) - HOUR, cutoff)
        self.step("one unit's partition", lambda conn: partitions_of(conn, messages, TIER, within=hour))
        self.step("status", lambda conn: status(conn, config))
        say(f"{len(units):,} units")
        with session(self._server) as conn:
            conn.execute(HOLD)
            self.step("the plan, with a hold on everything", lambda conn: list(message_units(context(conn), TIER)))
            conn.execute("DELETE FROM lifecycle.legal_holds")
            runs.finish(conn, run.run_id, "failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=1_000)
    parser.add_argument("--patience", type=int, default=300, help="seconds a statement")
    parser.add_argument("--dir", type=Path, help="where the server's files are, and stay")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as name:
        directory = (chosen.dir or Path(name)) / "pg"
        (chosen.dir or Path(name)).chmod(0o755)
        made = (directory / "postgres" / "data" / "PG_VERSION").exists()
        server = start_postgres(directory, durable=False, tie_to_parent=True)
        try:
            if not made:
                prepare(server)
                began = time.monotonic()
                make(server, chosen.partitions)
                say(f"made in {time.monotonic() - began:.0f} s")
            Show(server, chosen.patience).all(load_configuration(), chosen.due)
        finally:
            stop_postgres(directory)


if __name__ == "__main__":
    main()
