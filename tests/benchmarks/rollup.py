"""Ten years of day partitions with a survivor in each: how many are left, and what the application's queries gain.

    .venv/bin/python tests/benchmarks/rollup.py --years 10

Servers of its own, in a temporary folder. Prints partitions, seconds, and milliseconds that PostgreSQL takes to plan.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lifecycle.demo.servers import embedded_postgres
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.rollup import roll_up
from lifecycle.stores.postgres.tree import partitions_of
from reference_store.create import create_schemas
from support.servers import scratch, with_database
from support.units import AS_OF, TIER, Bench

log = logging.getLogger("rollup")
QUERIES = {
    "by account (all partitions)": "SELECT * FROM app.messages WHERE account_id = gen_random_uuid() AND tier = 'beta'",
    "one day (pruned)": "SELECT * FROM app.messages WHERE tier = 'beta' AND received_at = '2026-10-30'",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=10)
    years = parser.parse_args().years
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lifecycle").setLevel(logging.WARNING)
    with scratch("rollup") as folder, embedded_postgres(folder) as server:
        create_schemas(server.conninfo())
        measure(Bench(with_database(server, "postgres")), years)


def measure(bench: Bench, years: int) -> None:
    account, days = uuid4(), 365 * years
    bench.hold("account", account)
    for age in range(days, -8, -1):
        bench.day(age)
    with bench.connect() as conn, conn.transaction():
        for age in range(days, 0, -1):
            bench.write(age, account=account, conn=conn)
    bench.sql("ANALYZE app.messages")
    tell(bench, "before")
    rows = bench.value("SELECT count(*) FROM app.messages")
    with bench.connect() as conn:
        context, _ = bench.plan(conn, days * 2)
        context = RunContext(conn, context.s3, context.policy, context.catalog, replace(context.run, planned_at=None))
        began = time.monotonic()
        counts = roll_up(context, TIER)
        log.info("merged %d partitions in %.1f s", counts["merged"], time.monotonic() - began)
        left = partitions_of(conn, context.messages, TIER)
    assert rows == bench.value("SELECT count(*) FROM app.messages")
    assert any(leaf.lower is not None and AS_OF - leaf.lower > timedelta(days=days - 31) for leaf in left)
    tell(bench, "after")
    bench.close()


def tell(bench: Bench, when: str) -> None:
    leaves = bench.value("SELECT count(*) FROM pg_partition_tree('app.messages_beta') WHERE isleaf")
    log.info("%s: %d partitions", when, leaves)
    for name, query in QUERIES.items():
        times = []
        for _ in range(7):
            # A first plan in a session loads the definitions of what it looks at; the others are what a query pays.
            (plan,) = bench.sql(f"EXPLAIN (SUMMARY, FORMAT JSON) {query}")[0]
            times.append(plan[0]["Planning Time"])
        log.info("  %s: first plan %.1f ms, at best %.1f ms", name, times[0], min(times[1:]))


if __name__ == "__main__":
    main()
