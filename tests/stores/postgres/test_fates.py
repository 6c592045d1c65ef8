"""The SQL that finds exceptions and the `decide` that explains them are one definition: zero differences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from dateutil.relativedelta import relativedelta
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.policy.decide import decide
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.facts import message_facts
from lifecycle.stores.postgres.fates import fate_parameters, message_fate
from lifecycle.stores.postgres.messages import locate
from support.store import Store

TIERS = ["consumer", "beta", "evaluation", "business", "enterprise"]
MICRO = timedelta(microseconds=1)


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _clocks(as_of: datetime) -> list[datetime]:
    """Clocks at and one microsecond beside every boundary, and around 29 February."""
    ahead = as_of + timedelta(days=3)
    edges = [
        ahead - timedelta(days=28),
        ahead - timedelta(days=90),
        ahead - timedelta(days=7),
        ahead - timedelta(days=365),
        ahead - relativedelta(years=2),
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        datetime(2024, 2, 28, 18, tzinfo=UTC),
        datetime(2016, 2, 29, 12, tzinfo=UTC),
        as_of - relativedelta(years=10),
        as_of,
        as_of - timedelta(days=1),
    ]
    return [edge + delta for edge in edges for delta in (-MICRO, timedelta(0), MICRO)]


def _times(rng: random.Random, as_of: datetime) -> tuple[datetime, datetime | None]:
    """A beginning, and an end that is missing, past, future, or within a microsecond of as-of."""
    began = as_of - timedelta(days=rng.choice([0, 1, 30, 400, 3650]), hours=rng.randrange(24))
    ended = rng.choice(
        [None, None, as_of - timedelta(hours=1), as_of - MICRO, as_of, as_of + MICRO, as_of + timedelta(days=9)]
    )
    return began, ended


def _copy(conn: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _load(store: Store, rng: random.Random, as_of: datetime) -> None:
    accounts = [(_uuid(rng), rng.choice(TIERS[:4])) for _ in range(60)]
    clocks = _clocks(as_of)
    messages: list[tuple[Any, ...]] = []
    for account, tier in accounts:
        for _ in range(rng.randrange(1, 4)):
            conversation = _uuid(rng)
            shown = tier if rng.random() < 0.95 else "enterprise"
            for _ in range(rng.randrange(1, 6)):
                messages.append((_uuid(rng), conversation, account, shown, "prompt", rng.choice(clocks), "m", "x"))

    def some(of: Sequence[Any], share: float) -> list[Any]:
        return [item for item in of if rng.random() < share]

    holds: list[tuple[Any, ...]] = []
    erasures: list[tuple[Any, ...]] = []
    for into, share in ((holds, 0.06), (erasures, 0.12)):
        for scope, targets in (
            ("account", [row[0] for row in accounts]),
            ("conversation", sorted({row[1] for row in messages})),
            ("message", [row[0] for row in messages]),
        ):
            for target in some(targets, share):
                written = str(target).upper() if rng.random() < 0.5 else str(target)
                into.append((_uuid(rng), scope, written, *_times(rng, as_of)))
    with store.connect() as conn:
        _copy(
            conn,
            "app.accounts",
            ("account_id", "tier", "created_at", "last_interaction_at"),
            [(*row, as_of, as_of) for row in accounts],
        )
        _copy(
            conn,
            "app.messages",
            ("message_id", "conversation_id", "account_id", "tier", "role", "received_at", "model", "body"),
            messages,
        )
        _copy(
            conn,
            "lifecycle.legal_holds",
            ("hold_id", "scope", "target", "placed_at", "released_at", "reason", "placed_by"),
            [(*row, "r", "p") for row in holds],
        )
        _copy(
            conn,
            "lifecycle.erasure_requests",
            ("request_id", "scope", "target", "requested_at", "completed_at"),
            erasures,
        )
        _copy(
            conn,
            "app.safety_flags",
            ("message_id", "account_id", "classifier", "flagged_at", "cleared_at"),
            [(row[0], row[2], "c", *_times(rng, as_of)) for row in some(messages, 0.2)],
        )
        _copy(
            conn,
            "app.feedback",
            ("feedback_id", "account_id", "conversation_id", "rating", "submitted_at", "withdrawn_at"),
            [
                (
                    _uuid(rng),
                    row[2],
                    row[1],
                    1,
                    rng.choice([_times(rng, as_of)[0], rng.choice(clocks)]),
                    _times(rng, as_of)[1],
                )
                for row in some(messages, 0.15)
            ],
        )
        _copy(
            conn,
            "app.enforcement_cases",
            ("case_id", "account_id", "opened_at", "closed_at"),
            [(_uuid(rng), row[0], *_times(rng, as_of)) for row in some(accounts, 0.2)],
        )
        _copy(
            conn,
            "app.agreements",
            ("agreement_id", "account_id", "category", "retain", "effective_from", "effective_to"),
            [
                (
                    _uuid(rng),
                    row[0],
                    rng.choice(["prompts_and_outputs", "prompts_and_outputs", "feedback"]),
                    rng.choice(["0", "1 day", "7 days", "365 days", "1 year", "13 months", "36 hours"]),
                    *_times(rng, as_of),
                )
                for row in some(accounts + accounts, 0.4)
            ],
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("as_of", [datetime(2026, 2, 28, 12, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)], ids=str)
def test_the_sql_and_the_core_agree_record_by_record(store: Store, as_of: datetime, seed: int) -> None:
    """Overlapping, ended, future-dated exceptions; ±1 µs of every boundary; 29 February (cases 10 and 11)."""
    config = load_configuration()
    _load(store, random.Random(f"{seed}/{as_of}"), as_of)
    params = fate_parameters(config.policy, as_of)
    compared: dict[str, int] = {}
    with store.connect() as conn:
        # A session time zone with daylight saving must not matter.
        conn.execute("SET TimeZone = 'America/New_York'")
        for tier in (*Tier, None):
            fate = message_fate(config.policy, config.catalog, tier)
            where = sql.SQL("m.tier = {}").format(sql.Literal(tier.value)) if tier else sql.SQL("m.tier = 'enterprise'")
            rows = conn.execute(
                sql.SQL("SELECT m.message_id, {} FROM app.messages m WHERE {}").format(fate, where), params
            ).fetchall()
            for record, found in rows:
                located = locate(conn, config.catalog, record)
                assert located is not None
                facts = message_facts(conn, config.catalog, record, located)
                decision = decide(
                    config.catalog.messages.category,
                    located.tier,
                    located.clock.astimezone(UTC),
                    facts,
                    config.policy,
                    as_of,
                )
                assert found == f"{decision.disposition.value}:{decision.rule}", (located.tier, located.clock, facts)
                compared[found] = compared.get(found, 0) + 1
    assert sum(compared.values()) > 100
    assert len(compared) >= 8


def test_an_agreement_that_names_no_length_sets_none(store: Store) -> None:
    """An adopter's column may be nullable. What is agreed before still counts, else the tier's default."""
    as_of = datetime(2026, 11, 1, tzinfo=UTC)
    store.sql("ALTER TABLE app.agreements ALTER COLUMN retain DROP NOT NULL")
    config = load_configuration()
    expected = {}
    for agreed in (None, timedelta(days=400)):
        clock = as_of - timedelta(days=100)
        record = store.insert_message(tier="business", received_at=clock, body="x")
        account = store.value("SELECT account_id FROM app.messages WHERE message_id = %s", record)
        for days, retain in ((20, agreed), (10, None)):
            row = {"agreement_id": uuid4(), "account_id": account, "category": "prompts_and_outputs", "retain": retain}
            if days == 10 or agreed is not None:
                store.insert("app.agreements", **row, effective_from=as_of - timedelta(days=days))
        expected[record] = "delete:business_default" if agreed is None else "keep:business_agreement"
    fate = message_fate(config.policy, config.catalog, Tier.BUSINESS)
    with store.connect() as conn:
        query = sql.SQL("SELECT m.message_id, {} FROM app.messages m").format(fate)
        assert dict(conn.execute(query, fate_parameters(config.policy, as_of)).fetchall()) == expected
        for record, wanted in expected.items():
            found = locate(conn, config.catalog, record)
            assert found is not None
            facts = message_facts(conn, config.catalog, record, found)
            decision = decide(config.catalog.messages.category, found.tier, found.clock, facts, config.policy, as_of)
            assert f"{decision.disposition.value}:{decision.rule}" == wanted
