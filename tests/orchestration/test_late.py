"""A run's summary and its report tell what was late because of a hold or a case from what was simply late (case 5)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from lifecycle.orchestration import alerts
from support.store import Store

DAY = timedelta(days=1)


def test_summary_and_report_tell_late_by_why(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_VALIDATION", "sql")
    now = datetime.now(UTC)
    store.insert_message(tier="business", received_at=now - 40 * DAY, body="simply late")
    store.insert_message(tier="business", received_at=now - 26 * DAY, body="due, not late")
    held = store.insert_message(tier="business", received_at=now - 60 * DAY, body="held until an hour ago")
    store.insert("lifecycle.legal_holds", scope="message", target=str(held), reason="r", placed_by="p",
                 placed_at=now - 70 * DAY, released_at=now - timedelta(hours=1))  # fmt: skip
    for closed in (now - timedelta(hours=2), None):
        account = uuid4()
        store.insert_message(tier="business", received_at=now - 50 * DAY, account_id=account, body="under a case")
        store.insert("app.enforcement_cases", case_id=uuid4(), account_id=account, opened_at=now - 60 * DAY,
                     closed_at=closed)  # fmt: skip
    flagged = store.insert_message(tier="business", received_at=now - 29 * DAY, body="agreed until now")
    party = store.value("SELECT account_id FROM app.messages WHERE message_id = %s", flagged)
    store.insert("app.agreements", agreement_id=uuid4(), account_id=party, category="prompts_and_outputs",
                 retain="90 days", effective_from=now - 90 * DAY, effective_to=now - timedelta(hours=3))  # fmt: skip
    done = store.cli("run", "--as-of", now.isoformat(), "--tier", "business", "--json")
    business = json.loads(done.stdout)["scopes"]["business"]
    assert business["late"] == {"overdue": 1, "after_hold": 2, "after_exception": 1, "awaiting_approval": 0}
    assert business["disposed"] == {"delete": 5}
    assert business["kept"] == {"usage_policy_enforcement": 1}
    report = next(key for key in store.keys("lifecycle-evidence", "runs/") if "/business/" in key and "report" in key)
    page = store.read_object("lifecycle-evidence", report).decode()
    assert "1 simply late; 2 late because a hold or a case ended" in page
    again = json.loads(store.cli("run", "--as-of", now.isoformat(), "--tier", "business", "--json").stdout)
    assert again["scopes"]["business"]["late"] == dict.fromkeys(business["late"], 0)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What alerts log; none is sent anywhere."""
    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_ALERTS", "{}")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    alerts.log.addHandler(handler)
    yield lines
    alerts.log.removeHandler(handler)


def test_an_airflow_deadline_measures_again_before_it_rings(store: Store, said: list[str]) -> None:
    """A run that failed keeps its deadline in Airflow; it rings only when a deadline really is at risk (cases 1, 7)."""
    run = {"dag_run": {"dag_id": "retention_business", "dag_run_id": "scheduled__1"}}
    now = datetime.now(UTC)
    store.insert_message(tier="business", received_at=now - 26 * DAY, body="two days are left")
    alerts.deadline_at_risk(run, runbook="retention_tiers", scope="business")
    assert said == []
    message = store.insert_message(tier="business", received_at=now - 27 * DAY, body="one day is left")
    alerts.deadline_at_risk(run, runbook="retention_tiers", scope="consumer")
    assert said == [], "another scope"
    alerts.deadline_at_risk(run, runbook="retention_tiers", scope="business")
    assert len(said) == 1
    assert said[0].startswith("retention_business at risk: run scheduled__1 (messages/business: 24.0 h left, 2 due)")
    assert str(message) not in said[0]
