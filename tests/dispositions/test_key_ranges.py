"""A day of many log objects is cut into key ranges, each a unit of its own, carried out beside each other (issue 5, 7).

Hard cases 4 and 27: such gates are open at the same time, and holds stand still for every one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import yaml

from conftest import DATASETS
from lifecycle.config import load_configuration
from lifecycle.dispositions.gate import UnitLease, open_gate, take_lease, through_gate
from lifecycle.errors import FencedOutError
from lifecycle.orchestration import steps
from lifecycle.stores.postgres.connect import Connection, connect
from oracle.facts import LogRecord, World, ident
from oracle.load import LOGS
from oracle.named import AS_OF, DAY
from oracle.stores import Servers
from support.store import Store

UNIT = "request_logs/2023-01-01"
LATER = "requests/date=2023-01-01/z-filed-after-the-plan.jsonl.gz"


def key(number: int) -> str:
    return f"requests/date=2023-01-01/part-{number}.jsonl.gz"


def record(number: int, age: int) -> LogRecord:
    name = f"{number} of {age}"
    return LogRecord(key(number), ident("log", name), ident("account", name), "consumer", AS_OF - DAY * age, name)


# Seven objects: part-2 has nothing due, part-5 nothing that stays.
WORLD = World(
    logs=(*(record(n, 100) for n in range(7) if n != 2), *(record(n, 1) for n in range(7) if n != 5)),
)


@pytest.fixture(scope="module")
def store(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Days are cut after every second object."""
    datasets = yaml.safe_load(DATASETS.read_text(encoding="utf-8"))
    next(each for each in datasets["datasets"] if each["type"] == "logs")["shards"] = {"objects": 2}
    path = Path(tmp_path_factory.mktemp("ranges"), "datasets.yaml")
    path.write_text(yaml.safe_dump(datasets), encoding="utf-8")
    with servers.store(WORLD) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in {**made.env, "LIFECYCLE_DATASETS": str(path)}.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def run(store: Store) -> int:
    number = steps.begin("records", AS_OF)
    steps.plan(number)
    return number


@pytest.fixture
def two(run: int) -> Iterator[tuple[tuple[Connection, UnitLease], tuple[Connection, UnitLease]]]:
    """Two workers, each with a range of the same day."""
    with connect() as one, connect() as other:
        yield (one, take_lease(one, run, f"{UNIT}/0001")), (other, take_lease(other, run, f"{UNIT}/0003"))


CATALOG = load_configuration().catalog


def test_a_day_is_cut_by_key_and_each_range_is_a_unit_and_a_shard(store: Store, run: int) -> None:
    cut = store.sql(
        "SELECT unit, keys_after, keys_until, planned #>> '{delete:consumer_default,records}'"
        " FROM lifecycle.plan_units WHERE run_id = %s AND method = 'logs' ORDER BY unit",
        run,
    )
    stem = "requests/date=2023-01-01/part-"
    assert cut == [
        (f"{UNIT}/0001", None, f"{stem}2", "2"),
        (f"{UNIT}/0002", f"{stem}2", f"{stem}4", "1"),
        (f"{UNIT}/0003", f"{stem}4", f"{stem}6", "2"),
        (f"{UNIT}/0004", f"{stem}6", None, "1"),
    ]
    assert [shard for shard in steps.shards(run) if shard.startswith("request_logs")] == [
        f"request_logs/2023-01/part-{number:02d}" for number in range(1, 5)
    ]


def test_gates_of_ranges_are_open_beside_each_other(
    two: tuple[tuple[Connection, UnitLease], tuple[Connection, UnitLease]],
) -> None:
    (one, first), (other, second) = two
    with open_gate(one, CATALOG, first, reads_only=True) as gate:
        through_gate(other, CATALOG, second, lambda beside: beside.check(), reads_only=True)
        gate.check()


@pytest.mark.parametrize("table", ["lifecycle.legal_holds", "app.safety_flags"])
def test_holds_and_flags_stand_still_while_any_of_them_is_open_case_4(
    store: Store, two: tuple[tuple[Connection, UnitLease], tuple[Connection, UnitLease]], table: str
) -> None:
    (one, first), (other, second) = two
    with (
        open_gate(one, CATALOG, first, reads_only=True),
        open_gate(other, CATALOG, second, reads_only=True),
        store.connect() as somebody,
    ):
        somebody.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            somebody.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("mine_reads_only", [False, True])
def test_a_gate_that_writes_exceptions_is_open_alone(
    two: tuple[tuple[Connection, UnitLease], tuple[Connection, UnitLease]], mine_reads_only: bool
) -> None:
    """Neither beside one of the others nor they beside it: it waits for its turn, and is let in afterwards."""
    (one, first), (other, second) = two
    opened = threading.Event()

    def open_other() -> None:
        through_gate(other, CATALOG, second, lambda gate: opened.set(), reads_only=not mine_reads_only)

    thread = threading.Thread(target=open_other)
    with open_gate(one, CATALOG, first, reads_only=mine_reads_only) as gate:
        thread.start()
        assert not opened.wait(0.5)
        gate.check()
    thread.join(timeout=30)
    assert opened.is_set()


def test_a_zombie_of_one_range_is_fenced_out_and_its_neighbour_is_not_case_27(
    two: tuple[tuple[Connection, UnitLease], tuple[Connection, UnitLease]], run: int
) -> None:
    (one, zombie), (other, neighbour) = two
    with connect() as heir:
        take_lease(heir, run, zombie.unit)
    with pytest.raises(FencedOutError), open_gate(one, CATALOG, zombie, reads_only=True):
        pytest.fail("the gate opened for a zombie")
    through_gate(other, CATALOG, neighbour, lambda gate: gate.check(), reads_only=True)


def test_ranges_are_carried_out_at_once_and_together_are_the_day(store: Store, run: int) -> None:
    """Two tasks at a time, one range done twice; what was filed after the plan belongs to the last range."""
    filed = next(each for each in WORLD.logs if each.key == key(5))
    store.s3.copy_object(Bucket=LOGS, Key=LATER, CopySource={"Bucket": LOGS, "Key": filed.key})
    shards = [shard for shard in steps.shards(run) if shard.startswith("request_logs")]
    with ThreadPoolExecutor(2) as workers:
        done = list(workers.map(lambda shard: steps.expire_shard(run, shard), shards))
    assert sum(sum(counts.values()) for counts in done) == 7
    assert steps.expire(run, f"{UNIT}/0001") == {"delete:consumer_default": 2}
    assert store.keys(LOGS, "requests/date=2023-01-01/") == [key(n) for n in range(7) if n != 5]
    ledger = store.sql(
        "SELECT unit, sum((counts ->> 'records')::int)::int FROM lifecycle.ledger WHERE run_id = %s"
        " AND entry = 'outcome' AND dataset = 'request_logs' GROUP BY unit ORDER BY unit",
        run,
    )
    assert ledger == [(f"{UNIT}/0001", 2), (f"{UNIT}/0002", 1), (f"{UNIT}/0003", 2), (f"{UNIT}/0004", 2)]
