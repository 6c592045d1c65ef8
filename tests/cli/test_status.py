"""`lifecycle status`: at risk is computed, and what a hold made late is told apart from what is simply late."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from lifecycle.errors import DeadlineAtRiskError
from lifecycle.orchestration.watch import watch
from support.store import Store
from validation.healthy import AS_OF, ago, build, hold, log_line, put_log, put_message

UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-", re.I)


def status(store: Store, as_of: datetime = AS_OF) -> tuple[int, dict[str, Any]]:
    done = store.cli("status", "--as-of", as_of.isoformat(), "--json", check=False)
    assert not UUID_TEXT.search(done.stdout + done.stderr), "no identifier of a record"
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def row(shown: dict[str, Any], dataset: str, tier: str) -> dict[str, Any]:
    return next(r for r in shown["datasets"] if (r["dataset"], r["tier"]) == (dataset, tier))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_healthy_store_is_fine_and_shows_the_five_terms(store: Store) -> None:
    build(store)
    code, shown = status(store)
    assert code == 0
    assert shown["lead"] == {
        "schedule_interval": "P1D", "longest_run": "PT12H", "failed_runs": "P1D", "store_lag": "PT12H",
        "backup_retention": "P0D", "total": "P3D",
    }  # fmt: skip
    assert "1 day (between two runs) + 12 hours (the longest run)" in shown["lead_text"]
    consumer = row(shown, "messages", "consumer")
    assert at(consumer["oldest"]) == ago(days=500), "a hold keeps it: it is there, and no deadline is at risk for it"
    assert at(consumer["cutoff"]) == AS_OF - timedelta(days=87)
    assert at(consumer["at_risk"]) == ago(days=2) + timedelta(days=90), "the oldest that nothing keeps"
    assert (consumer["due"], consumer["overdue"], consumer["kept"]) == (0, 0, 1)
    assert at(row(shown, "messages", "business")["at_risk"]) == ago(hours=3) + timedelta(days=28)
    assert row(shown, "messages", "business")["kept"] == 2, "one by hold, one by an open case"
    assert at(row(shown, "quarantine", "consumer")["at_risk"]).date() == (ago(days=600) + timedelta(days=730)).date()
    assert row(shown, "training_examples", "all")["at_risk"] is None
    assert {r["state"] for r in shown["datasets"]} == {"fine"}


def test_it_is_at_risk_while_there_is_still_time_and_then_broken(store: Store) -> None:
    """The alarm rings before the deadline (cases 1 and 7); every further failed run makes it worse."""
    build(store)
    put_message(store, tier="business", received_at=ago(days=26, hours=13), body="due, and no run takes it")
    code, shown = status(store)
    business = row(shown, "messages", "business")
    assert (code, business["state"], business["due"], business["overdue"]) == (1, "at risk", 1, 0)
    assert business["time_left_seconds"] == 35 * 3600
    code, shown = status(store, AS_OF + timedelta(hours=36))
    business = row(shown, "messages", "business")
    assert (code, business["state"], business["overdue"]) == (1, "broken", 1)


def test_late_because_of_a_hold_is_told_apart_from_simply_late(store: Store) -> None:
    """A released hold makes overdue items due at once; they are not the runs' fault until a run has passed (case 5)."""
    build(store)
    put_message(store, tier="beta", received_at=ago(days=95), body="simply late")
    released = put_message(store, tier="beta", received_at=ago(days=200), body="held until now")
    hold(store, "message", released, released_at=AS_OF - timedelta(hours=1))
    account = uuid4()
    put_message(store, tier="business", received_at=ago(days=40), account_id=account, body="accused until now")
    store.insert("app.enforcement_cases", case_id=uuid4(), account_id=account, opened_at=ago(days=50),
                 closed_at=AS_OF - timedelta(hours=1))  # fmt: skip
    store.sql("UPDATE lifecycle.runs SET as_of = as_of - interval '1 day'")
    beta = row(status(store)[1], "messages", "beta")
    assert (beta["due"], beta["overdue"], beta["after_hold"], beta["state"]) == (2, 1, 1, "broken")
    business = row(status(store)[1], "messages", "business")
    assert (business["overdue"], business["after_hold"], business["state"]) == (0, 1, "fine")
    assert at(business["at_risk"]) == AS_OF - timedelta(hours=1) + timedelta(days=3), "a lead after it became free"
    store.sql("UPDATE lifecycle.runs SET as_of = as_of + interval '1 day'")
    beta = row(status(store)[1], "messages", "beta")
    assert (beta["overdue"], beta["after_hold"]) == (2, 0), "a run has succeeded since, and did not take it"


def test_what_waits_for_an_approval_is_told_apart_and_still_rings(store: Store) -> None:
    """No answer is no excuse: it is not simply late, and the alarm comes all the same (case 26)."""
    world = build(store)
    put_message(store, tier="beta", received_at=ago(days=95), body="in a unit over the limit")
    put_message(store, tier="beta", received_at=ago(days=96), body="simply late")
    store.sql("UPDATE lifecycle.runs SET planned_at = now()")
    store.sql("ALTER TABLE lifecycle.plan_units DROP CONSTRAINT IF EXISTS plan_units_status_check")
    store.insert(
        "lifecycle.plan_units", run_id=world.runs["beta"], unit=f"messages/beta/{ago(days=95):%Y-%m-%d}",
        dataset="messages", tier="beta", method="swap", status="awaiting", deadline=ago(days=5),
        planned='{"delete:consumer_default": {"records": 1}, "keep:feedback": {"records": 4}}',
    )  # fmt: skip
    code, shown = status(store)
    beta = row(shown, "messages", "beta")
    assert (code, beta["overdue"], beta["awaiting_approval"], beta["state"]) == (1, 1, 1, "broken")


def test_request_logs_are_counted_from_the_names_of_their_days(store: Store) -> None:
    """A day is due when lines of some tier can strike that no run has seen; objects are counted, not read."""
    build(store)
    old = datetime(*ago(days=27).timetuple()[:3], tzinfo=UTC)
    for part in range(2):
        put_log(store, old, [log_line("business", old + timedelta(hours=5))], name=f"part-{part}.jsonl.gz")
    store.sql("UPDATE lifecycle.runs SET as_of = as_of - interval '4 days' WHERE scope = 'records'")
    logs = row(status(store)[1], "request_logs", "all")
    assert (logs["counted"], logs["due"], logs["overdue"]) == ("objects", 2, 0)
    assert at(logs["at_risk"]) == old + timedelta(days=28)
    store.sql("UPDATE lifecycle.runs SET as_of = %s WHERE scope = 'records'", AS_OF)
    logs = row(status(store)[1], "request_logs", "all")
    assert (logs["due"], logs["state"]) == (0, "fine"), "the run has read that day and took what strikes"


def test_open_metrics(store: Store) -> None:
    build(store)
    text = store.cli("status", "--as-of", AS_OF.isoformat(), "--openmetrics").stdout
    lines = text.splitlines()
    assert lines[-1] == "# EOF"
    sample = re.compile(r'lifecycle_[a-z_]+\{dataset="[a-z_]+",tier="[a-z]+"(,why="[a-z]+")?\} -?[0-9.e+]+')
    assert [line for line in lines if not line.startswith("#") and not sample.fullmatch(line)] == []
    assert 'lifecycle_overdue{dataset="messages",tier="beta",why="hold"} 0' in lines
    assert any(line.startswith('lifecycle_at_risk_seconds{dataset="messages",tier="business"} 24') for line in lines)


def test_for_people(store: Store) -> None:
    build(store)
    text = store.cli("status", "--as-of", AS_OF.isoformat()).stdout
    assert "at risk" in text and "request_logs (objects)" in text and "Lead: 1 day (between two runs)" in text


def test_the_watch_publishes_gauges_and_then_rings(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gauges carry dataset and tier; the error carries hours and counts, and no record (case 25)."""
    from airflow.sdk.observability import stats

    build(store)
    gauges: dict[tuple[str, str, str], float] = {}

    def gauge(name: str, value: float, *, tags: dict[str, str]) -> None:
        gauges[(name, tags["dataset"], tags["tier"])] = value

    monkeypatch.setattr(stats, "gauge", gauge)
    assert watch(AS_OF)["fine"] == len({key[1:] for key in gauges})
    put_message(store, tier="business", received_at=ago(days=27), body="due, and no run takes it")
    with pytest.raises(DeadlineAtRiskError, match=r"messages/business: 24\.0 h left, 1 due") as raised:
        watch(AS_OF)
    assert gauges[("lifecycle.at_risk_seconds", "messages", "business")] == 24 * 3600
    assert raised.value.hours_left == {"messages/business": 24.0}
