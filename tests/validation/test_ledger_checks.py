"""What a run planned, did and wrote down must agree (promise 5), and its cut-offs may not run too far ahead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lifecycle.config import Configuration
from lifecycle.ledger.chain import Entry, append
from lifecycle.validation.auditor import audit
from lifecycle.validation.chain import BEGINNING, walk
from support.store import Store
from validation.healthy import AS_OF, ago, register_run

Counts = Mapping[str, Mapping[str, int]]


def put_unit(
    store: Store, run_id: int, planned: Counts, progress: Counts, status: str = "done", name: str = "messages/beta/x"
) -> None:
    from psycopg.types.json import Jsonb

    store.insert(
        "lifecycle.plan_units",
        run_id=run_id,
        unit=name,
        dataset="messages",
        tier="beta",
        method="rows",
        planned=Jsonb(planned),
        progress=Jsonb(progress),
        status=status,
    )


def put_row(store: Store, run_id: int, *, records: int = 3, **columns: Any) -> None:
    fields: dict[str, Any] = {
        "run_id": run_id,
        "run_key": "test",
        "as_of": AS_OF,
        "entry": "outcome",
        "scope": "beta",
        "dataset": "messages",
        "unit": "messages/beta/x",
        "disposition": "delete",
        "rule": "consumer_default",
        "counts": {"records": records},
        "cutoff": ago(days=87),
        "policy_hash": "p" * 64,
        "started_at": AS_OF,
    }
    with store.connect() as conn, conn.transaction():
        append(conn, Entry(**(fields | columns)))


def judged(store: Store, configuration: Configuration, run_id: int) -> dict[str, int]:
    with store.connect() as conn:
        result = audit(conn, store.s3, configuration, AS_OF, scopes=("beta",), run_id=run_id)
    return result.failures | {c.name: c.violations for c in result.checks if not c.success}


DELETED: Counts = {"delete:consumer_default": {"records": 3}}


def test_a_run_whose_ledger_agrees_passes(store: Store, configuration: Configuration) -> None:
    run_id = register_run(store, "beta", status="running")
    put_unit(store, run_id, {**DELETED, "keep:feedback": {"records": 2}}, DELETED)
    put_row(store, run_id, entry="intent")
    put_row(store, run_id)
    assert judged(store, configuration, run_id) == {}


@pytest.mark.parametrize("records, rows", [(2, 1), (4, 1), (3, 2), (0, 0)])
def test_the_ledger_says_what_was_done_no_more_and_no_less(
    store: Store, configuration: Configuration, records: int, rows: int
) -> None:
    run_id = register_run(store, "beta", status="running")
    put_unit(store, run_id, DELETED, DELETED)
    for _ in range(rows):
        put_row(store, run_id, records=records)
    assert judged(store, configuration, run_id) == {"ledger_differs_from_work": 1}


@pytest.mark.parametrize(
    "told, wrong", [({"delete:consumer_default": 3}, 0), ({"delete:consumer_default": 2}, 1), ({}, 1)]
)
def test_a_runs_summary_is_the_sum_of_its_ledger(
    store: Store, configuration: Configuration, told: dict[str, int], wrong: int
) -> None:
    run_id = register_run(store, "beta", status="running")
    put_unit(store, run_id, DELETED, DELETED)
    put_row(store, run_id)
    store.sql("UPDATE lifecycle.runs SET summary = %s WHERE run_id = %s", json.dumps({"by_rule": told}), run_id)
    assert judged(store, configuration, run_id) == ({"summary_differs_from_ledger": 1} if wrong else {})


def test_other_findings_about_a_run(store: Store, configuration: Configuration) -> None:
    run_id = register_run(store, "beta", status="running")
    put_unit(store, run_id, {}, DELETED)
    put_unit(store, run_id, DELETED, {}, status="running", name="messages/beta/y")
    put_row(store, run_id, cutoff=AS_OF + timedelta(days=3, microseconds=1))
    put_row(store, run_id, entry="intent", unit="messages/beta/y")
    assert judged(store, configuration, run_id) == {
        "disposed_beyond_plan": 1,
        "plan_not_finished": 1,
        "ledger_cutoff_too_late": 1,
        "ledger_intent_without_outcome": 1,
    }


def test_intents_of_ended_runs_have_outcomes(store: Store, configuration: Configuration) -> None:
    """In an audit of everything; a run that is under way or may be resumed is left alone."""
    for status in ("succeeded", "abandoned", "failed", "running"):
        put_row(store, register_run(store, "beta", status=status), entry="intent", unit=status)
    put_row(store, 999)
    with store.connect() as conn:
        failures = audit(conn, store.s3, configuration, AS_OF).failures
    assert {name: n for name, n in failures.items() if name.startswith("ledger")} == {
        "ledger_intent_without_outcome": 2,
        "ledger_without_run": 1,
    }


def test_deidentified_records_are_in_the_research_table(store: Store, configuration: Configuration) -> None:
    run_id = register_run(store, "evaluation", status="running")
    done: Counts = {"deidentify:research": {"records": 3}}
    put_unit(store, run_id, done, done)
    put_row(store, run_id, disposition="deidentify", rule="research", scope="evaluation")
    store.sql("INSERT INTO research.messages VALUES ('evaluation', 'm', 'prompt', date '2026-01-01', 1)")
    with store.connect() as conn:
        result = audit(conn, store.s3, configuration, AS_OF, scopes=("evaluation",), run_id=run_id)
    assert result.failures == {"research_rows_missing": 2}


def test_a_gap_before_the_run_is_shown(store: Store, configuration: Configuration) -> None:
    register_run(store, "beta", AS_OF - timedelta(days=2))
    run_id = register_run(store, "beta", status="running")
    assert judged(store, configuration, run_id) == {"run_gap": 1}


def unlocked(store: Store, statement: str, *params: object) -> None:
    """What an intruder with the table's owner's rights can do."""
    store.sql("ALTER TABLE lifecycle.ledger DISABLE TRIGGER USER")
    store.sql(statement, *params)
    store.sql("ALTER TABLE lifecycle.ledger ENABLE TRIGGER USER")


@pytest.mark.parametrize(
    "tampering, broken",
    [
        ("UPDATE lifecycle.ledger SET counts = '{\"records\": 1}' WHERE seq = 2", 1),
        ("UPDATE lifecycle.ledger SET recorded_at = recorded_at + interval '1 us' WHERE seq = 3", 1),
        ("DELETE FROM lifecycle.ledger WHERE seq = 2", 1),
        ("DELETE FROM lifecycle.ledger WHERE seq = 1", 1),
        ("UPDATE lifecycle.ledger SET hash = repeat('0', 64) WHERE seq = 1", 2),
    ],
)
def test_the_chain_is_walked_by_the_auditor_itself(
    store: Store, configuration: Configuration, tampering: str, broken: int
) -> None:
    run_id = register_run(store, "beta")
    cutoff = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for unit in ("a", "b", "c", "d"):
        put_row(store, run_id, unit=unit, cutoff=None if unit == "b" else cutoff)
    with store.connect() as conn:
        whole = walk(conn)
        assert (whole.rows, whole.broken) == (4, 0)
        assert whole.head != BEGINNING
        unlocked(store, tampering)
        assert walk(conn).broken == broken
        assert audit(conn, store.s3, configuration, AS_OF).failures["ledger_chain"] == broken
