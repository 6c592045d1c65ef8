"""A table that is partitioned by a clock no `partitioned_table` takes, bound as a `table`: its rows go in batches.

Range partitions of an epoch, of wall-clock time and of ULIDs; text ids and keys of several columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import yaml

from lifecycle.catalog.load import load_catalog
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.columns import misfits
from lifecycle.stores.postgres.indexes import missing_indexes
from oracle.quick import only
from oracle.stores import Servers, at, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(180)

AS_OF = datetime(2026, 4, 23, 12, tzinfo=UTC)  # business content of before 29 March, 12:00 UTC: the day of 23 hours
DAY = timedelta(days=1)
CUTOFF = AS_OF - 25 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CLOCKS: dict[str, str | dict[str, Any]] = {
    "instants": "at",
    "numbers": {"column": "at", "is": "epoch", "unit": "ms"},
    "walls": {"column": "at", "is": "timestamp", "zone": "Europe/Berlin"},
    "letters": {"column": "at", "is": "ulid"},
}
TYPES = {"instants": "timestamptz", "numbers": "bigint", "walls": "timestamp", "letters": 'text COLLATE "C"'}


def written(kind: str, instant: datetime) -> Any:
    """An instant as the table has it."""
    number = (instant - EPOCH) // MILLISECOND
    if kind == "instants":
        return instant
    if kind == "numbers":
        return number
    if kind == "walls":  # Berlin is one hour ahead until 29 March, 01:00 UTC, and two from then on
        ahead = timedelta(hours=2 if instant >= datetime(2026, 3, 29, 1, tzinfo=UTC) else 1)
        return (instant + ahead).replace(tzinfo=None)
    return "".join(LETTERS[(number >> 5 * place) & 31] for place in range(9, -1, -1)) + "A" * 16


def bound(kind: str, instant: datetime) -> str:
    value = written(kind, instant)
    return f"'{value[:10]}'" if kind == "letters" else f"'{value}'"


@pytest.fixture(scope="module")
def store(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Days around the cut-off, with rows at one unit of it and of the bounds of each partition, after a run."""
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    document["datasets"] += [
        {"id": kind, "type": "table", "category": "prompts_and_outputs", "table": f"app.{kind}", "key": ["who", "at"],
         "subject": "who", "ids": "text", "tier_is": "business",
         "clock": clock if isinstance(clock, str) else dict(clock)}
        for kind, clock in CLOCKS.items()
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("partitions") / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    first = datetime(2026, 3, 27, tzinfo=UTC)
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        for kind, type_of in TYPES.items():
            store.sql(f"CREATE TABLE app.{kind} (who text, at {type_of}, said text, PRIMARY KEY (who, at))"
                      " PARTITION BY RANGE (at)")  # fmt: skip
            store.sql(f"CREATE INDEX ON app.{kind} (at, who)")
            for number in range(5):
                lower, upper = (bound(kind, first + days * DAY) for days in (number, number + 1))
                store.sql(f"CREATE TABLE app.{kind}_{number} PARTITION OF app.{kind} FOR VALUES FROM ({lower})"
                          f" TO ({upper})")  # fmt: skip
                for unit in (timedelta(), MILLISECOND, DAY - MILLISECOND):
                    store.sql(f"INSERT INTO app.{kind} VALUES (%s, %s, 'x')", f"day {number} {unit}",
                              written(kind, first + number * DAY + unit))  # fmt: skip
            for name, instant in (("before", CUTOFF - MILLISECOND), ("at", CUTOFF), ("Held", first)):
                store.sql(f"INSERT INTO app.{kind} VALUES (%s, %s, 'x')", name, written(kind, instant))
        store.insert("lifecycle.legal_holds", scope="account", target="held", reason="r", placed_by="p")
        with store.connect() as conn:
            assert not misfits(conn, load_catalog(file)) and not missing_indexes(conn, load_catalog(file))
        with only("records"):
            dry = full_run(store, AS_OF, "--dry-run")
            assert dry.code == 0, str(dry)
            assert store.value("SELECT count(*) FROM app.instants") == 18, "a dry run reads only"
            done = full_run(store, AS_OF)
        assert done.code == 0, str(done)
        yield store


@pytest.mark.parametrize("kind", CLOCKS)
def test_rows_go_from_every_partition_up_to_the_cut_off(store: Store, kind: str) -> None:
    left = {who for (who,) in store.sql(f"SELECT who FROM app.{kind}")}
    assert {"at", "Held"} <= left and "before" not in left
    days = {who for who in left if who.startswith("day")}
    assert days == {f"day {n} {u}" for n in (3, 4) for u in (timedelta(), MILLISECOND, DAY - MILLISECOND)} | {
        f"day 2 {DAY - MILLISECOND}"}  # fmt: skip


def test_where_bounds_are_instants_partitions_go_whole_and_everybody_tells_of_them(store: Store) -> None:
    """Plan, ledger and `explain partition` name them (issue 4, points 1 and 4)."""
    planned = store.sql("SELECT unit, method, day FROM lifecycle.plan_units JOIN lifecycle.runs USING (run_id)"
                        " WHERE dataset = 'instants' AND NOT dry_run ORDER BY unit")  # fmt: skip
    assert planned == [
        ("instants", "records", None),
        ("instants/2026-03-27", "swap", date(2026, 3, 27)),
        ("instants/2026-03-28", "swap", date(2026, 3, 28)),
    ]
    told = store.sql("SELECT unit, counts FROM lifecycle.ledger WHERE dataset = 'instants' ORDER BY unit")
    assert told == [
        ("instants", {"records": 3}), ("instants/2026-03-27", {"records": 3}), ("instants/2026-03-28", {"records": 3})
    ]  # fmt: skip
    assert store.value("SELECT to_regclass('app.instants_1')") is None, "nothing was left in it"
    assert store.sql("SELECT who FROM app.instants_0") == [("Held",)]
    found = json.loads(store.cli("explain", "partition", "instants/2026-03-27", "--as-of", at(AS_OF), "--json").stdout)
    assert (found["records"], found["survivors"]) == (1, {"legal_obligation": 1})
    gone = store.cli("explain", "partition", "instants/2026-03-28", "--as-of", at(AS_OF), "--json", check=False)
    assert json.loads(gone.stdout)["location"] == "absent"
