"""What is planned from exceptions is what asking every row gives, partition by partition (promise 8; cases 1 and 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from psycopg import sql

from lifecycle.catalog.models import Catalog, Records
from lifecycle.dispositions import census, leaves
from lifecycle.dispositions.context import ERASURE_SCOPE, RunContext
from lifecycle.orchestration import steps
from lifecycle.orchestration.session import run_context
from lifecycle.planning.units import Tally
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.exceptional import WITH_OBJECT, carry_over, tallies_by_exceptions
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.messages import GOING, is_due, tallies
from lifecycle.stores.postgres.timed import leaves_of
from lifecycle.stores.postgres.tree import Partition, partitions_of, tier_root
from support.crowd import Generator, by_table
from support.store import Store

AS_OF = datetime(2026, 2, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
# Bounds of partitions, in days before as-of: behind, around and past the cut-offs of every tier.
DAYS = (4000, 800, 740, 725, 400, 120, 93, 88, 84, 60, 31, 26, 24, 20, 9, 3, 1, 0, -1)
Counts = dict[str, set[Tally]]


def _partition(store: Store) -> None:
    for tier in Tier:
        for number, (begin, end) in enumerate(pairwise(DAYS)):
            store.sql(
                sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})")
                .format(
                    sql.Identifier("app", f"m_{tier.value}_{number}"),
                    sql.Identifier("app", f"messages_{tier.value}"),
                    *(sql.Literal(AS_OF - days * DAY) for days in (begin, end)),
                )
                .as_string(None)
            )


def _load(store: Store) -> None:
    crowd = Generator("census", AS_OF).fill(300)
    with store.connect() as conn, conn.cursor() as cursor:
        for name, columns, rows in by_table(crowd):
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table(name), names)) as copy:
                for row in rows:
                    copy.write_row(row)
        conn.execute("UPDATE app.messages SET body = NULL, object_key = message_id::text WHERE message_id::text < '5'")


@pytest.fixture
def crowded(store: Store) -> Store:
    _partition(store)
    _load(store)
    return store


def _context(scope: str) -> Iterator[RunContext]:
    run_id = steps.begin(scope, AS_OF, run_key=f"test/{scope}")
    with run_context(run_id) as context:
        yield context


def _asked(context: RunContext, tier: Tier, source: sql.Composable) -> Counts:
    where = sql.SQL("m.received_at < %(as_of)s")
    found = tallies(context.conn, context.messages, source, context.fate(tier), where, context.params)
    return {name: set(counted) for name, counted in found.items()}


def _goes(context: RunContext, counted: set[Tally]) -> bool:
    erasing = context.run.scope == ERASURE_SCOPE
    going = [tally for tally in counted if tally.disposition in ("delete", "deidentify")]
    return any(not erasing or tally.rule == context.erasure_rule for tally in going)


@pytest.mark.parametrize(
    ("large", "together"),
    [(0, 250), (65_536, 250), (65_536, 2), (1 << 40, 250), (1 << 40, 3)],
    ids=["all large", "some large", "some large, two by two", "all small", "all small, three by three"],
)
@pytest.mark.parametrize("erasing", [False, True], ids=["daily", "hourly"])
def test_partitions_in_which_something_is_due_are_counted_as_if_every_row_were_asked(
    crowded: Store, monkeypatch: pytest.MonkeyPatch, large: int, together: int, erasing: bool
) -> None:
    monkeypatch.setattr(census, "LARGE", large)
    monkeypatch.setattr(census, "TOGETHER", together)
    seen = 0
    for tier in Tier:
        for context in _context(ERASURE_SCOPE if erasing else tier.value):
            root = tier_root(context.conn, context.messages, tier)
            assert root is not None
            found = partitions_of(context.conn, context.messages, tier)
            planned = census.census(context, tier, root, found)
            told = {name: set(counted) for name, counted in planned.items() if _goes(context, set(counted))}
            asked = _asked(context, tier, root)
            assert told == {name: counted for name, counted in asked.items() if _goes(context, counted)}
            seen += len(told)
    assert seen > 12, "too little was due for the test to say anything"


def test_where_rows_have_to_be_asked_one_by_one_they_are_asked_some_partitions_at_a_time(
    crowded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold on the whole dataset is no reason for one statement over every partition that there is (case 19)."""
    crowded.sql(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES ('dataset', 'messages', 'r', 'p')"
    )
    asked_in = list[int]()

    def counting(*args: Any) -> Any:
        found = tallies(*args)
        asked_in.append(len(found))
        return found

    monkeypatch.setattr(census, "TOGETHER", 3)
    monkeypatch.setattr(census, "tallies", counting)
    for context in _context(Tier.BUSINESS.value):
        root = tier_root(context.conn, context.messages, Tier.BUSINESS)
        assert root is not None
        every = partitions_of(context.conn, context.messages, Tier.BUSINESS)
        planned = census.census(context, Tier.BUSINESS, root, every)
        assert {name: set(counted) for name, counted in planned.items()} == _asked(context, Tier.BUSINESS, root)
        assert len(asked_in) >= len(every) // 3 and max(asked_in) <= 3


def test_survivors_of_a_large_partition_are_found_by_its_exceptions(
    crowded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Including rows whose object is not gone, which no fate lets go before it is."""
    monkeypatch.setattr(census, "LARGE", 0)
    judged = 0
    for tier in Tier:
        for context in _context(tier.value):
            for leaf in partitions_of(context.conn, context.messages, tier):
                judged += _same_survivors(context, tier, leaf)
    assert judged > 12, "too few partitions have one ordinary fate for the test to say anything"


def _same_survivors(context: RunContext, tier: Tier, leaf: Partition) -> bool:
    known = census.exceptions_of(context, tier, leaf)
    if known is None:
        return False
    conn, params, fate = context.conn, context.params, context.fate(tier)
    source, ordinary = known
    if ordinary.startswith("keep"):
        return False
    without = tallies(
        conn, context.messages, leaf.identifier, fate, sql.SQL("m.object_key IS NULL"), params
    ).get(leaf.name, [])  # fmt: skip
    with conn.transaction(force_rollback=True):
        made = sql.Identifier("pg_temp", "survivors")
        conn.execute(sql.SQL("CREATE TEMP TABLE survivors (LIKE {})").format(leaf.identifier))
        columns = sql.SQL("message_id, conversation_id, account_id, tier, role, received_at, body, object_key")
        counted, copied = carry_over(conn, source, ordinary, params, made, columns)
        carried = conn.execute("SELECT message_id FROM pg_temp.survivors ORDER BY 1").fetchall()
    assert {t.fate: t.records for t in counted if t.fate != WITH_OBJECT} == {t.fate: t.records for t in without}
    kept = sql.SQL("SELECT m.message_id FROM {} m WHERE m.object_key IS NOT NULL OR NOT {} ORDER BY 1")
    assert carried == conn.execute(kept.format(leaf.identifier, is_due(fate)), params).fetchall()
    assert copied == len(carried) == sum(tally.records for tally in counted if tally.disposition not in GOING)
    return True


@pytest.mark.parametrize("name", ["safety_scores", "feedback", "training_examples"])
def test_ordinary_tables_are_counted_as_if_every_row_were_asked(crowded: Store, name: str) -> None:
    for context in _context("records"):
        dataset = next(dataset for dataset in context.catalog.records if dataset.id == name)
        told = census.count_records(context, dataset, sql.SQL("true"))
        asked = context.conn.execute(
            sql.SQL("SELECT {}, count(*) FROM {} m GROUP BY 1").format(
                context.record_fate(dataset), table(dataset.table)
            ),
            context.params,
        ).fetchall()
        assert {(tally.fate, tally.records) for tally in told} == set(asked)
        assert name == "training_examples" or len(asked) >= 3


@pytest.mark.parametrize("ids", ["uuid", "text"])
def test_partitions_of_an_ordinary_table_are_judged_as_if_every_row_were_asked(
    crowded: Store, monkeypatch: pytest.MonkeyPatch, ids: str
) -> None:
    """Whatever the ids: a hold counts in any case of letters, so it is looked for in any (case 4)."""
    monkeypatch.setattr(census, "LARGE", 0)
    as_it_is = "{}" if ids == "uuid" else "CASE WHEN message_id::text < '8' THEN initcap({0}::text) ELSE {0}::text END"
    named = ", ".join(as_it_is.format(column) for column in ("message_id", "conversation_id", "account_id"))
    crowded.sql(f"CREATE TABLE app.copied (id {ids}, talk {ids}, who {ids}, at timestamptz, PRIMARY KEY (id, at))"
                " PARTITION BY RANGE (at)")  # fmt: skip
    for number, (begin, end) in enumerate(pairwise(DAYS)):
        crowded.sql(f"CREATE TABLE app.copied_{number} PARTITION OF app.copied FOR VALUES FROM"
                    f" ('{AS_OF - begin * DAY}') TO ('{AS_OF - end * DAY}')")  # fmt: skip
    crowded.sql("CREATE TABLE app.copied_rest PARTITION OF app.copied DEFAULT")
    crowded.sql(f"INSERT INTO app.copied SELECT {named}, received_at FROM app.messages")
    judged = 0
    for context in _context("records"):
        for tier in ("consumer", "business"):
            document = context.catalog.model_dump(mode="json", by_alias=True, exclude_unset=True)
            document["datasets"].append(
                {"id": "copied", "type": "table", "category": "prompts_and_outputs", "table": "app.copied", "key": "id",
                 "record": "id", "group": "talk", "subject": "who", "clock": "at", "tier_is": tier, "ids": ids}
            )  # fmt: skip
            of_tables = replace(context, catalog=Catalog.model_validate(document))
            dataset = next(each for each in of_tables.catalog.tables if each.id == "copied")
            for leaf in leaves_of(context.conn, dataset, None):
                judged += _same_of_table(of_tables, dataset, leaf)
    assert judged > 12, "too few partitions lie behind a cut-off for the test to say anything"


def _same_of_table(context: RunContext, dataset: Records, leaf: Partition) -> bool:
    known = leaves.exceptions_of(context, dataset, leaf)
    if known is None:
        return False
    conn, params = context.conn, context.params
    asked = leaves.asked(context, dataset, [leaf]).get(leaf, [])
    assert set(tallies_by_exceptions(conn, *known, params)) == set(asked)
    with conn.transaction(force_rollback=True):
        conn.execute(sql.SQL("CREATE TEMP TABLE survivors (LIKE {})").format(leaf.identifier))
        made, columns = sql.Identifier("pg_temp", "survivors"), sql.SQL("id, talk, who, at")
        counted, copied = carry_over(conn, *known, params, made, columns)
        carried = conn.execute("SELECT id FROM pg_temp.survivors ORDER BY 1").fetchall()
    assert {t.fate: t.records for t in counted} == {t.fate: t.records for t in asked}
    kept = sql.SQL("SELECT m.id FROM {} m WHERE NOT {} ORDER BY 1").format(
        leaf.identifier, is_due(context.record_fate(dataset))
    )
    assert carried == conn.execute(kept, params).fetchall() and copied == len(carried)
    return True
