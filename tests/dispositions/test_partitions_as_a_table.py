"""A table that is partitioned by a clock no `partitioned_table` takes, bound as a `table`: its rows go in batches.

Range partitions of an epoch, of wall-clock time and of ULIDs; text ids and keys of several columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from lifecycle.catalog.load import load_catalog
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.columns import misfits
from lifecycle.stores.postgres.indexes import missing_indexes
from oracle.quick import only
from oracle.stores import Servers, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(180)

AS_OF = datetime(2026, 4, 23, 12, tzinfo=UTC)  # business content of before 29 March, 12:00 UTC: the day of 23 hours
DAY = timedelta(days=1)
CUTOFF = AS_OF - 25 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CLOCKS: dict[str, dict[str, Any]] = {
    "numbers": {"column": "at", "is": "epoch", "unit": "ms"},
    "walls": {"column": "at", "is": "timestamp", "zone": "Europe/Berlin"},
    "letters": {"column": "at", "is": "ulid"},
}
TYPES = {"numbers": "bigint", "walls": "timestamp", "letters": 'text COLLATE "C"'}


def written(kind: str, instant: datetime) -> Any:
    """An instant as the table has it."""
    number = (instant - EPOCH) // MILLISECOND
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
         "subject": "who", "ids": "text", "clock": dict(clock), "tier_is": "business"}
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
