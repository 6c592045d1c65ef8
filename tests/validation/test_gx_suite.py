"""A run judged by Great Expectations: the same promises, counts only, and nothing left behind."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from datetime import timedelta
from uuid import uuid4

import pytest

from lifecycle.config import Configuration
from lifecycle.errors import PreconditionError
from lifecycle.validation import gx_suite
from lifecycle.validation.auditor import audit
from lifecycle.validation.gx_suite import ValidationReport, validate
from support.store import Store
from validation.healthy import (
    AS_OF,
    Healthy,
    ago,
    flag,
    log_line,
    partitioned_key,
    put_log,
    put_message,
    register_run,
)

CANARY = "canary-5d1b7f0e"


def judge(store: Store, configuration: Configuration, scope: str) -> ValidationReport:
    run_id = register_run(store, scope, status="running")
    with store.connect() as conn:
        return validate(conn, store.s3, configuration, run_id, AS_OF, scope)


@pytest.mark.parametrize("scope", ["consumer", "evaluation", "business", "records", "erasure"])
def test_a_healthy_world_passes(healthy: Healthy, configuration: Configuration, scope: str) -> None:
    report = judge(healthy.store, configuration, scope)
    assert report.failures == {}
    assert all(result.success for result in report.results)
    assert report.engine.startswith("Great Expectations 1.")


def break_everything(store: Store) -> None:
    """Broken promises whose rows, keys and lines all carry the canary."""
    late = put_message(store, tier="evaluation", received_at=ago(days=91), body=CANARY, model=CANARY, tools=(CANARY,))
    flag(store, late, uuid4(), classifier=CANARY)
    put_message(store, tier="evaluation", received_at=ago(days=95), body=CANARY)
    key = partitioned_key("evaluation", ago(days=4), uuid4()).replace(".json", f"-{CANARY}.json")
    store.put_object("product-data", key, CANARY.encode())
    store.insert(
        "research.messages",
        tier=CANARY,
        model=CANARY,
        role=CANARY,
        received_month=ago(days=30).date().replace(day=1),
        body_chars=1,
    )
    store.insert(
        "app.training_examples",
        example_id=uuid4(),
        message_id=late,
        account_id=uuid4(),
        basis=CANARY,
        added_at=ago(days=2),
    )
    put_log(store, ago(days=100), [log_line(CANARY, ago(days=100)), log_line("beta", CANARY)], f"{CANARY}.jsonl.gz")
    put_log(store, ago(days=99), [], f"{CANARY}.parquet")


@pytest.mark.parametrize("scope", ["evaluation", "records"])
def test_violations_are_found_and_no_value_comes_back(
    store: Store,
    configuration: Configuration,
    scope: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Case 25: the default result format keeps 20 raw values; here none leaves, and none is logged."""
    break_everything(store)
    with ExitStack() as stack:
        # The S3 client shows every request at DEBUG, which is nothing of ours; all others may say what they want.
        stack.enter_context(caplog.at_level(logging.INFO))
        for name in ("great_expectations", "sqlalchemy", "psycopg", "lifecycle"):
            stack.enter_context(caplog.at_level(logging.DEBUG, logger=name))
        report = judge(store, configuration, scope)
    assert len(report.failures) >= 3
    out, err = capfd.readouterr()
    everything = "\n".join([repr(report), caplog.text, out, err])
    assert CANARY not in everything
    assert store.postgres.password not in everything
    with store.connect() as conn:
        ours = audit(conn, store.s3, configuration, AS_OF, scopes=(scope,), run_id=report.run_id)
    by_query = {r.name: r.violations for r in report.results if not r.name.startswith("expect_")}
    assert by_query == {check.name: check.violations for check in ours.checks}


def test_a_tier_is_judged_by_itself(store: Store, configuration: Configuration) -> None:
    """Others may not have run yet."""
    put_message(store, tier="beta", received_at=ago(days=100), body="late")
    store.put_object("product-data", partitioned_key("beta", ago(days=9), uuid4()), b"words")
    assert judge(store, configuration, "consumer").failures == {}
    assert set(judge(store, configuration, "beta").failures) == {
        "messages_past_deadline.beta",
        "objects_without_row.beta",
    }


def test_what_cannot_be_checked_has_not_passed(
    store: Store, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expectation that Great Expectations could not evaluate counts as a violation, without its error's text."""
    literal = gx_suite.literal
    monkeypatch.setattr(
        gx_suite,
        "literal",
        lambda conn, check: (
            f"SELECT '{CANARY}'::int AS violation" if check.name == "plan_not_finished" else literal(conn, check)
        ),
    )
    report = judge(store, configuration, "erasure")
    assert report.failures == {"plan_not_finished": 1}
    assert CANARY not in repr(report)


def test_nothing_is_left_behind(store: Store, configuration: Configuration) -> None:
    """No staging table and no connection; the tables of a validation that was killed go with the next one."""
    store.sql("CREATE TABLE lifecycle.audit_2147483000_objects (key text)")
    judge(store, configuration, "beta")
    assert store.sql("SELECT relname FROM pg_class WHERE relname ~ '^audit_'") == []
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    assert store.value(left, "lifecycle-validation") == 0


def test_a_transaction_would_hide_the_facts(store: Store, configuration: Configuration) -> None:
    with store.connect() as conn:
        conn.autocommit = False
        with pytest.raises(PreconditionError, match="autocommit"):
            validate(conn, store.s3, configuration, 1, AS_OF, "beta")


def test_a_report_of_results_is_plain_data(store: Store, configuration: Configuration) -> None:
    report = judge(store, configuration, "erasure")
    assert json.dumps([result.as_dict() for result in report.results])
    assert report.checked == len(report.results)
    assert report.as_of - AS_OF == timedelta(0)
