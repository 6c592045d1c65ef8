"""A table that its clock alone divides, bound as a `table`: partitions behind the cut-off go whole, whatever the clock.

Range partitions of instants, of an epoch, of wall-clock time, of ULIDs and of UUIDs of version 7; text ids and keys of
several columns. What tells no time lies among what does, and stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import yaml

from lifecycle.catalog.load import load_catalog
from lifecycle.dispositions import census
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
    "sevens": {"column": "at", "is": "uuid7"},
}
TYPES = {
    "instants": "timestamptz",
    "numbers": "bigint",
    "walls": "timestamp",
    "letters": 'text COLLATE "C"',
    "sevens": "uuid",
}
# In the first partition, between two that tell a time; of the others nothing but a time can lie there.
AMONG = {"letters", "sevens"}
TIMELESS = AMONG | {"numbers"}


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
    if kind == "sevens":
        return UUID(f"{number:012x}7{'0' * 3}8{'0' * 15}")
    return "".join(LETTERS[(number >> 5 * place) & 31] for place in range(9, -1, -1)) + "A" * 16


def bound(kind: str, instant: datetime) -> str:
    value = written(kind, instant)
    if kind == "sevens":  # as pg_partman has them, from the first of all of a millisecond
        return f"'{UUID(value.hex[:12].ljust(32, '0'))}'"
    return f"'{value[:10]}'" if kind == "letters" else f"'{value}'"


def timeless(kind: str, instant: datetime) -> Any:
    value = written(kind, instant)
    return UUID(f"{value.hex[:12]}4{value.hex[13:]}") if kind == "sevens" else f"{value[:10]}u"


@pytest.fixture(scope="module")
def store(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Days around the cut-off, with rows at one unit of it and of the bounds of each partition, after a run that found
    nothing wrong but rows without a time."""
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
        patch.setattr(census, "LARGE", 0)
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
            if kind == "numbers":
                store.sql("CREATE TABLE app.numbers_none PARTITION OF app.numbers FOR VALUES FROM (-9) TO (9)")
                store.sql("INSERT INTO app.numbers VALUES ('timeless', 0, 'x'), ('early', 5, 'x')")
            if kind in AMONG:
                store.sql(
                    f"INSERT INTO app.{kind} VALUES ('timeless', %s, 'x')", timeless(kind, first + 5 * MILLISECOND)
                )
        store.insert("lifecycle.legal_holds", scope="account", target="held", reason="r", placed_by="p")
        with store.connect() as conn:
            assert not misfits(conn, load_catalog(file)) and not missing_indexes(conn, load_catalog(file))
        with only("records"):
            dry = full_run(store, AS_OF, "--dry-run")
            assert dry.code == 0, str(dry)
            assert store.value("SELECT count(*) FROM app.instants") == 18, "a dry run reads only"
            done = full_run(store, AS_OF)
        broken = {name for (name,) in store.sql("SELECT name FROM lifecycle.validations WHERE NOT success AND severity"
                                                " = 'critical'")}  # fmt: skip
        assert broken == {f"{kind}_without_clock" for kind in TIMELESS}, str(done)
        yield store


@pytest.mark.parametrize("kind", CLOCKS)
def test_rows_go_from_every_partition_up_to_the_cut_off(store: Store, kind: str) -> None:
    """What tells no time has no deadline, and lies between rows that have: it never goes with their partition."""
    left = {who for (who,) in store.sql(f"SELECT who FROM app.{kind}")}
    assert {"at", "Held"} <= left and not {"before", "early"} & left and ("timeless" in left) == (kind in TIMELESS)
    days = {who for who in left if who.startswith("day")}
    assert days == {f"day {n} {u}" for n in (3, 4) for u in (timedelta(), MILLISECOND, DAY - MILLISECOND)} | {
        f"day 2 {DAY - MILLISECOND}"}  # fmt: skip


@pytest.mark.parametrize("kind", CLOCKS)
def test_partitions_go_whole_and_everybody_tells_of_them(store: Store, kind: str) -> None:
    """Plan, ledger and `explain partition` name them (issue 4, points 1 and 5)."""
    # Of wall-clock time the wall clock's own reading: days in UTC begin at one o'clock there.
    labels = [f"{day}T01:00:00Z..{later}T01:00:00Z" if kind == "walls" else day for day, later in pairwise(
        ("2026-03-27", "2026-03-28", "2026-03-29"))]  # fmt: skip
    planned = store.sql("SELECT unit, method, day FROM lifecycle.plan_units JOIN lifecycle.runs USING (run_id)"
                        " WHERE dataset = %s AND NOT dry_run ORDER BY unit", kind)  # fmt: skip
    assert planned == [
        (kind, "records", None),
        (f"{kind}/{labels[0]}", "swap", date(2026, 3, 27)),
        (f"{kind}/{labels[1]}", "swap", date(2026, 3, 28)),
    ]
    told = store.sql("SELECT unit, counts FROM lifecycle.ledger WHERE dataset = %s ORDER BY unit", kind)
    assert told == [(unit, {"records": 3 + (unit == "numbers")}) for unit, _, _ in planned]
    assert store.value(f"SELECT to_regclass('app.{kind}_1')") is None, "nothing was left in it"
    assert store.value(f"SELECT count(*) FROM app.{kind}_0") == 1 + (kind in AMONG)
    found = json.loads(store.cli("explain", "partition", f"{kind}/{labels[0]}", "--as-of", at(AS_OF), "--json").stdout)
    assert (found["records"], found["survivors"]) == (1 + (kind in AMONG), {"legal_obligation": 1})
    gone = store.cli("explain", "partition", f"{kind}/{labels[1]}", "--as-of", at(AS_OF), "--json", check=False)
    assert json.loads(gone.stdout)["location"] == "absent"
