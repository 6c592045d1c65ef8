"""After an exchange of partitions that somebody had to wait for, the table is left alone (hard case 19)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from lifecycle.demo.servers import Postgres
from lifecycle.dispositions import exchange as exchanging
from lifecycle.dispositions import expire as expiry
from lifecycle.dispositions import rests
from lifecycle.stores.postgres.locks import somebody_waits
from support.catalogue import scratch_database
from support.units import Bench

WITHIN_S = 20.0


@pytest.fixture(scope="module")
def bench(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        found = Bench(conninfo)
        yield found
        found.close()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []

    class Clock:
        monotonic = staticmethod(time.monotonic)
        sleep = staticmethod(taken.append)

    monkeypatch.setattr(rests, "time", Clock)
    return taken


@contextmanager
def a_reader_at_the_exchange(bench: Bench, monkeypatch: pytest.MonkeyPatch, act: str) -> Iterator[list[int]]:
    """While the tables are locked, somebody asks for all messages, and is waiting when the exchange goes on."""
    readers: list[Thread] = []
    counted: list[int] = []

    def read() -> None:
        with bench.connect() as conn:
            row = conn.execute("SELECT count(*) FROM app.messages").fetchone()
            counted.append(row[0] if row else -1)

    exchange = getattr(exchanging, act)

    def exchanged(conn: Any, subject: Any) -> float:
        since: float = exchange(conn, subject)
        readers.append(Thread(target=read))
        readers[-1].start()
        ends = time.monotonic() + WITHIN_S
        while not somebody_waits(conn):
            assert time.monotonic() < ends, "nobody waits for the exchanged partition"
        return since

    with monkeypatch.context() as patched:
        patched.setattr(exchanging, act, exchanged)
        yield counted
    for reader in readers:
        reader.join(WITHIN_S)


@pytest.mark.parametrize("survivors", [0, 2])
def test_an_exchange_that_somebody_waited_for_is_followed_by_a_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, naps: list[float], survivors: int
) -> None:
    age, account = 120 + survivors, uuid4()
    bench.day(age)
    bench.write(age, 3)
    if survivors:
        bench.write(age, survivors, account=account)
        bench.hold("account", account)
    began = time.monotonic()
    with a_reader_at_the_exchange(bench, monkeypatch, "put_in_place") as counted:
        bench.expire(age)
    took = time.monotonic() - began
    assert counted == [bench.value("SELECT count(*) FROM app.messages")]
    (nap,) = naps
    # One part in a hundred of the time, by default, and no more than the patience.
    assert 0 < nap <= min(took * 99, 60)


def test_an_exchange_that_nobody_waited_for_is_followed_by_none(bench: Bench, naps: list[float]) -> None:
    bench.day(130)
    bench.write(130, 3)
    bench.expire(130)
    assert naps == []


def test_dropping_an_empty_partition_counts_as_an_exchange(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    """What went with its object leaves a partition without rows, which is dropped where it is bounded."""
    bench.day(131)
    (record,) = bench.write(131)
    with bench.connect() as conn:
        context, (unit,) = bench.plan(conn, 131)
        bench.sql("DELETE FROM app.messages WHERE message_id = %s", record)
        with a_reader_at_the_exchange(bench, monkeypatch, "drop_partition"):
            expiry.expire(context, unit)
    assert len(naps) == 1
