"""A swap that has to wait for a long reader makes nobody else wait behind it (case 19)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from lifecycle.demo.servers import Postgres
from lifecycle.dispositions.expire import expire
from lifecycle.stores.postgres.connect import LOCK_TIMEOUT_MS
from support.catalogue import scratch_database
from support.units import Bench

READS_SECONDS = 5.0
# Without a limit everybody would wait as long as the reader reads. Generous, for a machine that is busy.
LONGEST_SECONDS = 3.0


@pytest.fixture
def bench(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        made = Bench(conninfo)
        yield made
        made.close()


@pytest.mark.parametrize("reads", ["the partition", "its parent"])
def test_while_a_swap_waits_for_a_long_reader_nobody_waits_for_the_swap(bench: Bench, reads: str) -> None:
    """Readers and writers of the other days go on, and the swap is done once the reader has gone."""
    account = uuid4()
    bench.day(100)
    bench.day(1)
    bench.hold("account", account)
    bench.write(100, 5)
    kept = bench.write(100, 1, account=account)
    ended, longest = threading.Event(), [0.0]

    def go_on() -> None:
        with bench.connect() as conn:
            while not ended.is_set():
                began = time.monotonic()
                bench.write(1, conn=conn)
                conn.execute("SELECT count(*) FROM app.messages WHERE tier = 'beta'")
                longest[0] = max(longest[0], time.monotonic() - began)

    def swap() -> None:
        with bench.connect() as conn:
            context, (unit,) = bench.plan(conn, 100)
            expire(context, unit)

    others, swapping = threading.Thread(target=go_on), threading.Thread(target=swap)
    with psycopg.connect(bench.conninfo) as reader:
        table = bench.leaf(100) if reads == "the partition" else "app.messages_beta"
        reader.execute(f"SELECT count(*) FROM {table}".encode())
        others.start()
        swapping.start()
        swapping.join(timeout=READS_SECONDS)
        assert swapping.is_alive(), "the swap did not wait for the reader"
        assert bench.value(f"SELECT count(*) FROM {bench.leaf(100)}") == 6
    swapping.join(timeout=60)
    ended.set()
    others.join(timeout=60)
    assert bench.records(100) == set(kept)
    assert LOCK_TIMEOUT_MS / 1000 <= LONGEST_SECONDS / 3
    assert longest[0] < LONGEST_SECONDS
