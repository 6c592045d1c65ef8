"""What the page says about the store: cut-offs, the oldest item, due and overdue, kept and why, runs and the ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from psycopg.errors import QueryCanceled

from lifecycle.config import load_configuration
from lifecycle.console.app import render_page
from lifecycle.console.data import overview
from lifecycle.console.model import Line, Overview
from lifecycle.console.render import age, number, period, took
from lifecycle.planning.risk import Standing
from support.store import Store
from validation.healthy import (
    AS_OF,
    ago,
    agreement,
    build,
    erasure,
    hold,
    log_line,
    put_log,
    put_message,
    register_run,
)


def look(store: Store) -> Overview:
    with store.connect() as conn:
        return overview(conn, store.s3, load_configuration(), AS_OF)


def line(shown: Overview, dataset: str, tier: str = "all") -> Line:
    return next(found for found in shown.lines if (found.dataset, found.tier) == (dataset, tier))


def test_a_healthy_store_has_no_alarm(store: Store) -> None:
    build(store)
    shown = look(store)
    assert shown.alarms == ()
    assert shown.overdue == 0
    consumer = line(shown, "messages", "consumer")
    assert (consumer.period, consumer.rule, consumer.kind) == ("P90D", "consumer_default", "maximum")
    assert consumer.cutoff == AS_OF - timedelta(days=87)
    assert consumer.oldest == ago(days=500)
    assert (consumer.due, consumer.overdue, dict(consumer.kept)) == (0, 0, {"hold": 1, "consent": 1})
    business = line(shown, "messages", "business")
    assert business.cutoff == AS_OF - timedelta(days=25)
    assert dict(business.kept) == {"hold": 1, "consent": 1, "agreement": 1, "case": 1}
    assert line(shown, "quarantine", "consumer").oldest == ago(days=600)
    assert line(shown, "request_logs").oldest == ago(days=1).replace(hour=0, minute=0, second=0)
    assert {found.dataset for found in shown.lines} >= {"safety_scores", "feedback", "training_examples", "accounts"}
    assert shown.queues.quarantined == 2


def test_due_and_overdue_are_told_apart(store: Store) -> None:
    """Due from the cut-off on, overdue from the deadline on; a shorter agreement counts too."""
    build(store)
    for days in (24, 26, 29):
        put_message(store, tier="business", received_at=ago(days=days), body="words")
    account = uuid4()
    agreement(store, account, "7 days")
    put_message(store, tier="business", received_at=ago(days=5), account_id=account, body="due by its terms")
    held = put_message(store, tier="beta", received_at=ago(days=99), body="held until now")
    hold(store, "message", held, released_at=ago(hours=0))
    store.sql("UPDATE lifecycle.runs SET as_of = as_of - interval '1 hour'")
    shown = look(store)
    business = line(shown, "messages", "business")
    assert (business.due, business.overdue) == (3, 1)
    beta = line(shown, "messages", "beta")
    assert (beta.due, beta.overdue, beta.explained) == (1, 0, 1)
    assert shown.alarms == ("business messages: 1 overdue",)


def test_when_a_deadline_would_be_broken_is_a_column_and_an_alarm(store: Store) -> None:
    """At risk is computed, and rings while there is still time (cases 1, 5 and 7); log objects are counted by day."""
    build(store)
    put_message(store, tier="business", received_at=ago(days=27), body="due, and no run takes it")
    released = put_message(store, tier="beta", received_at=ago(days=200), body="held until now")
    hold(store, "message", released, released_at=ago(hours=1))
    old = datetime(*ago(days=29).timetuple()[:3], tzinfo=UTC)
    put_log(store, old, [log_line("business", old)])
    store.sql("UPDATE lifecycle.runs SET as_of = as_of - interval '6 days' WHERE scope = 'records'")
    store.sql("UPDATE lifecycle.runs SET as_of = as_of - interval '2 hours' WHERE scope = 'beta'")
    shown = look(store)
    business = line(shown, "messages", "business")
    assert (business.at_risk, business.urgency) == (AS_OF + timedelta(days=1), "at risk")
    assert line(shown, "messages", "consumer").urgency == "fine"
    beta = line(shown, "messages", "beta")
    assert (beta.explained, beta.after_hold, beta.urgency) == (1, 1, "fine")
    logs = line(shown, "request_logs")
    assert (logs.counted, logs.due, logs.overdue, logs.urgency) == ("objects", 1, 1, "broken")
    assert f"business messages: a deadline is at risk, {business.at_risk:%Y-%m-%d %H:%M} UTC" in shown.alarms
    assert "all request_logs: 1 objects overdue" in shown.alarms
    page = render_page(shown, "n")
    assert ">At risk (UTC)</th>" in page and "1 after a hold" in page


def test_the_page_does_without_the_instants_when_they_take_too_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run over years of backlog must not take the page away (case 19)."""
    build(store)

    def too_long(*_: object) -> tuple[Standing, ...]:
        raise QueryCanceled

    monkeypatch.setattr("lifecycle.console.data.standings", too_long)
    shown = look(store)
    assert line(shown, "messages", "consumer").at_risk is None
    assert line(shown, "request_logs").due is None
    assert ">At risk (UTC)</th>" in render_page(shown, "n")


def test_what_is_missing_or_failed_is_an_alarm(store: Store) -> None:
    for scope in ("consumer", "beta", "evaluation", "records", "erasure"):
        register_run(store, scope, AS_OF - timedelta(hours=3))
    run_id = register_run(store, "beta", status="failed")
    store.insert(
        "lifecycle.validations",
        run_id=run_id,
        name="messages_past_deadline.beta",
        promise="never_late",
        severity="critical",
        violations=7,
        success=False,
        checked_at=AS_OF,
    )
    store.insert(
        "lifecycle.validations",
        run_id=run_id,
        name="ledger_chain",
        promise="nothing_unrecorded",
        severity="critical",
        violations=1,
        success=False,
        checked_at=AS_OF,
    )
    erasure(store, "account", uuid4())
    shown = look(store)
    assert set(shown.alarms) == {
        "1 erasure request(s) past their service level",
        "business: no successful run within two schedule intervals",
        "beta: the last run found 2 check(s) broken",
        "the ledger's hash chain is broken",
    }
    assert shown.runs[0].verdict == "broken"
    assert shown.queues.erasure_oldest == ago(days=8)


def test_the_json_is_plain_and_carries_no_identifier(store: Store) -> None:
    """Case 25: counts, rules, names of datasets and times."""
    world = build(store)
    shown = look(store).as_dict()
    text = json.dumps(shown, sort_keys=True)
    assert shown["as_of"] == AS_OF.isoformat().replace("+00:00", "Z")
    assert shown["scopes"][0]["last"]["verdict"] == "succeeded"
    for secret in (world.quarantined, *world.fresh.values(), *world.account.values()):
        assert str(secret) not in text
    assert "court" not in text


def test_an_empty_store_can_be_shown(store: Store) -> None:
    shown = look(store)
    assert line(shown, "messages", "consumer").oldest is None
    assert line(shown, "request_logs").oldest is None
    assert (shown.ledger.rows, shown.ledger.head, shown.ledger.intact) == (0, None, None)
    assert shown.runs == ()


NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "moment, words",
    [
        (NOW - timedelta(days=500), "500 d"),
        (NOW - timedelta(days=1, hours=12), "1.5 d"),
        (NOW - timedelta(hours=5, minutes=59), "5 h"),
        (NOW - timedelta(seconds=61), "1 min"),
        (NOW - timedelta(seconds=3), "just now"),
        (NOW + timedelta(days=1), "in the future"),
        (None, "–"),
    ],
)
def test_ages_are_short(moment: datetime | None, words: str) -> None:
    assert age(moment, NOW) == words


def test_figures_read_well() -> None:
    assert number(1234567) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    assert number(None) == "–"
    assert [period(text) for text in ("P90D", "P2Y", "P1Y2M1D", "PT4H", None)] == [
        "90 days",
        "2 years",
        "1 year 2 months 1 day",
        "PT4H",
        "–",
    ]
    assert [took(NOW, NOW + timedelta(seconds=s)) for s in (0.5, 75, 3720)] == ["0.5 s", "1 min 15 s", "1 h 02 min"]
    assert took(NOW, None) == "–"
