"""The ledger is append-only and hash-chained: any change to it is found (promise 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from lifecycle.errors import LedgerError
from lifecycle.ledger import chain
from lifecycle.orchestration.schema import ensure_schema
from lifecycle.stores.postgres.connect import connect
from support.store import Store

NOW = datetime(2026, 11, 1, 0, 0, 0, 1, tzinfo=UTC)
ENTRY = chain.Entry(
    run_id=1,
    run_key="test/1",
    as_of=NOW,
    entry="outcome",
    scope="consumer",
    dataset="messages",
    unit="messages/consumer/2026-08-01",
    disposition="delete",
    rule="consumer_default",
    counts={"records": 3},
    cutoff=NOW,
    policy_hash="0" * 64,
    started_at=NOW,
)


@pytest.fixture
def three_rows(store: Store) -> Store:
    with connect() as conn:
        ensure_schema(conn)
        for n in range(3):
            chain.append(conn, replace(ENTRY, counts={"records": n}))
    return store


def test_an_untouched_chain_verifies_and_starts_at_genesis(three_rows: Store) -> None:
    with connect() as conn:
        assert chain.verify(conn).rows == 3
        first = next(iter(chain.rows(conn)))
    assert first.prev_hash == chain.GENESIS


@pytest.mark.parametrize(
    "statement", ["UPDATE lifecycle.ledger SET rule = 'x'", "DELETE FROM lifecycle.ledger", "TRUNCATE lifecycle.ledger"]
)
def test_rows_cannot_be_changed_or_removed(three_rows: Store, statement: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        three_rows.sql(statement)


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        ("UPDATE lifecycle.ledger SET counts = '{\"records\": 9}' WHERE seq = 2", "row 2 was changed"),
        ("UPDATE lifecycle.ledger SET recorded_at = recorded_at + interval '1 us' WHERE seq = 1", "row 1 was changed"),
        ("DELETE FROM lifecycle.ledger WHERE seq = 2", "row 2 of the ledger is missing"),
        ("UPDATE lifecycle.ledger SET prev_hash = 'x' WHERE seq = 3", "row 3 does not follow"),
    ],
)
def test_tampering_by_a_superuser_is_found(three_rows: Store, tampering: str, message: str) -> None:
    """Whoever switches the triggers off cannot hide what they did."""
    three_rows.sql("ALTER TABLE lifecycle.ledger DISABLE TRIGGER USER")
    three_rows.sql(tampering)
    with connect() as conn, pytest.raises(LedgerError, match=message):
        chain.verify(conn)
    assert three_rows.cli("ledger", "verify", check=False).returncode == 1


def test_a_truncated_chain_is_found_by_its_copy_in_the_evidence_bucket(store: Store) -> None:
    """The last rows can be cut off without breaking the chain; the write-once copy remembers them."""
    store.insert_message(tier="business", received_at=NOW - timedelta(days=60))
    store.cli("run", "--as-of", "2026-11-01")
    assert store.cli("ledger", "verify").returncode == 0
    store.sql("ALTER TABLE lifecycle.ledger DISABLE TRIGGER USER")
    store.sql("DELETE FROM lifecycle.ledger WHERE seq = (SELECT max(seq) FROM lifecycle.ledger)")
    done = store.cli("ledger", "verify", check=False)
    assert done.returncode == 1
    assert "missing or differs from its copy" in done.stderr


def test_an_append_that_rolls_back_leaves_no_trace(three_rows: Store) -> None:
    with connect() as conn:
        with pytest.raises(RuntimeError), conn.transaction():
            chain.append(conn, ENTRY)
            raise RuntimeError
        chain.append(conn, ENTRY)
        assert chain.verify(conn).rows == 4
