"""The differential test: SQL and `decide` are one definition of disposition, rule and deadline. Zero differences.

At least 100,000 records a run, each at ±1 µs of some boundary (cases 1, 5, 10, 11). How many were compared is logged:

    .venv/bin/pytest -q tests/stores/postgres/test_differential.py --log-cli-level=INFO
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from psycopg import sql

from lifecycle.catalog.models import Accounts, Records
from lifecycle.config import Configuration, load_configuration
from lifecycle.policy.decide import decide
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.deadlines import message_deadline, quarantine_deadline, record_deadline
from lifecycle.stores.postgres.fates import fate_parameters, message_fate, quarantine_fate, record_fate, table
from support.crowd import TICK, UNKNOWN, Crowd, Generator, Record, by_table
from support.store import Connection, Store

log = logging.getLogger(__name__)
AT_LEAST = 100_000
ACCOUNTS = 1_900  # a world; each brings about fourteen records
# As-of and session zone: the lead reaching the end of February; 1 March after 29 February; New York's repeated hour,
# asked in New York; the hour that Berlin skips, asked in Berlin.
WORLDS = (
    (datetime(2026, 2, 25, 12, tzinfo=UTC), "Australia/Lord_Howe"),
    (datetime(2027, 3, 1, 10, 0, 0, 1, tzinfo=UTC), "UTC"),
    (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "America/New_York"),
    (datetime(2026, 3, 29, 1, tzinfo=UTC), "Europe/Berlin"),
)
Verdict = tuple[str, datetime | None]


def _load(conn: Connection, crowd: Crowd) -> None:
    for name, columns, rows in by_table(crowd):
        conn.execute(sql.SQL("TRUNCATE {}").format(table(name)))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            table(name), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with conn.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        conn.execute(sql.SQL("ANALYZE {}").format(table(name)))


def _queries(config: Configuration) -> Iterator[tuple[str, sql.Composed]]:
    """Per table: key, fate and deadline of every row."""
    policy, catalog = config.policy, config.catalog
    ask = sql.SQL("SELECT m.{key}, {fate}, {deadline} FROM {t} m WHERE {which}")
    messages = catalog.messages
    for tier in (*Tier, None):
        yield (
            messages.table,
            ask.format(
                key=sql.Identifier(messages.record),
                fate=message_fate(policy, catalog, tier),
                deadline=message_deadline(policy, catalog, tier),
                t=table(messages.table),
                which=sql.SQL("m.tier = {}").format(sql.Literal(tier.value if tier else UNKNOWN)),
            ),
        )
        if tier is not None:
            yield (
                "lifecycle.quarantine",
                ask.format(
                    key=sql.Identifier("message_id"),
                    fate=quarantine_fate(policy, catalog, tier),
                    deadline=quarantine_deadline(policy, catalog, tier),
                    t=table("lifecycle.quarantine"),
                    which=sql.SQL("m.tier = {}").format(sql.Literal(tier.value)),
                ),
            )
    datasets: list[Records | Accounts] = [
        *(dataset for dataset in catalog.records if dataset.id in ("safety_scores", "feedback")),
        catalog.accounts,
    ]
    for dataset in datasets:
        yield (
            dataset.table,
            ask.format(
                key=sql.Identifier(dataset.key_columns[0]),
                fate=record_fate(policy, catalog, dataset),
                deadline=record_deadline(policy, catalog, dataset),
                t=table(dataset.table),
                which=sql.SQL("true"),
            ),
        )


def _by_sql(conn: Connection, config: Configuration, as_of: datetime) -> dict[tuple[str, UUID], Verdict]:
    found: dict[tuple[str, UUID], Verdict] = {}
    for name, query in _queries(config):
        for key, fate, deadline in conn.execute(query, fate_parameters(config.policy, as_of)).fetchall():
            found[(name, key)] = (fate, deadline.astimezone(UTC) if deadline else None)
    return found


def _by_core(crowd: Crowd, record: Record, config: Configuration) -> Verdict:
    decision = decide(record.category, record.tier, record.clock, crowd.facts_of(record), config.policy, crowd.as_of)
    return f"{decision.disposition.value}:{decision.rule}", decision.deadline


def _differences(store: Store, crowd: Crowd, zone: str, config: Configuration, seen: Counter[str]) -> list[str]:
    """What SQL and the core disagree about, in words that name no record."""
    with store.connect() as conn:
        conn.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
        _load(conn, crowd)
        by_sql = _by_sql(conn, config, crowd.as_of)
    assert len(by_sql) == len(crowd.records)
    found = []
    for record in crowd.records:
        told, core = by_sql[(record.table, record.key)], _by_core(crowd, record, config)
        seen[core[0]] += 1
        if told != core:
            facts = crowd.facts_of(record)
            found.append(f"{record.table} {record.tier} {record.clock}: SQL {told}, core {core}, {facts}")
    return found


@pytest.mark.parametrize("number", range(len(WORLDS)), ids=[f"{at:%Y-%m-%d} {zone}" for at, zone in WORLDS])
def test_sql_and_core_agree_record_by_record(store: Store, number: int) -> None:
    """Holds, cases, flags, erasure, consents and agreements: overlapping, ended, dated ahead, at ±1 µs (10, 11)."""
    config, seen, started = load_configuration(), Counter[str](), time.monotonic()
    as_of, zone = WORLDS[number]
    generator = Generator(f"differential/{number}", as_of)
    crowd = generator.fill(ACCOUNTS)
    for name in ("messages", "accounts"):
        generator.hold_dataset(name, as_of)  # released at this very instant: it no longer counts
    if number == 1:
        generator.hold_dataset("app.safety_scores", as_of + TICK)
        generator.hold_dataset("feedback", as_of + timedelta(days=2))
    differences = _differences(store, crowd, zone, config, seen)
    took = time.monotonic() - started
    log.info("compared %d records, %d fates, %d differences, %.1f s", seen.total(), len(seen), len(differences), took)
    assert not differences, f"{len(differences)} differences, for example:\n{differences[0]}"
    assert seen.total() >= AT_LEAST // len(WORLDS)
    assert len(seen) >= 18, sorted(seen)
