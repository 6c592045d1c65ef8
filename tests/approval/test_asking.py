"""Who answered, what, and to what: only a plain answer by somebody who may, to what still waits, counts (case 28)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import ApprovalError
from lifecycle.ledger import approvals
from lifecycle.ledger.approvals import Key, Request
from lifecycle.ledger.runs import Run
from lifecycle.orchestration import asking
from lifecycle.stores.postgres.connect import connect
from support.approve import approve_loaded
from support.edits import put, write_policy
from support.store import Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PART: dict[str, Any] = {
    "dataset": "messages",
    "tier": "consumer",
    "kind": "records",
    "units": 2,
    "records": 12_345,
    "limit": 10_000,
    "reason": "limits.records",
    "deadline": "2026-11-26T12:00:00+00:00",
}


@pytest.fixture
def asked(store: Store) -> Iterator[int]:
    """Part of a plan of run 7 that waits; who started the run is known as starter."""
    with connect() as conn:
        yield _ask(conn, records=12_345)


def _ask(conn: Any, records: int) -> int:
    shown = {"records": records, "reason": "over a limit", "parts": [PART | {"records": records}]}
    deadline = NOW + timedelta(hours=6)
    return approvals.ask(
        conn,
        Request(
            approvals.PLAN, Key("p" * 64, "c" * 64), shown, "starter", NOW, 7, "consumer", {"unit": records}, deadline
        ),
    )


def reply(name: str | None = "counsel", *chosen: str, **params: object) -> dict[str, Any]:
    """An answer as Airflow hands it over."""
    return {
        "chosen_options": list(chosen or ["Approve"]),
        "params_input": params,
        "responded_at": NOW,
        "responded_by_user": {"id": name, "name": name} if name else None,
    }


def in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **rules: object) -> None:
    """Make a policy with these rules of approval the one in force."""
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, put("approval", **rules))))
    approve_loaded(NOW)


def status(store: Store, number: int) -> tuple[object, ...]:
    return store.sql("SELECT status, decided_by FROM lifecycle.approvals WHERE approval_id = %s", number)[0]


def test_the_question_shows_the_numbers_and_how_long_there_is(asked: int) -> None:
    question = asking.question(asked, NOW)
    assert question["subject"] == "Approve part of the plan of run 7 (consumer)? 12,345 records would go"
    assert (
        "| messages | consumer | records | 2 | 12,345 | 10,000 | limits.records | 2026-11-26T12:00 |"
        in question["body"]
    )
    assert question["seconds"] == 6 * 3600, "not a day, as the policy says: the deadline comes first"


def test_a_plain_yes_counts_and_gives_the_scope_work(store: Store, asked: int) -> None:
    assert asking.record_reply(asking.question(asked, NOW), reply(), NOW) == ["retention_consumer"]
    assert status(store, asked) == ("approved", "counsel")
    [(entry, rule, counts)] = store.sql("SELECT entry, rule, counts FROM lifecycle.ledger")
    assert (entry, rule, counts["by"], counts["records"]) == ("decision", "approved", "counsel", 12_345)
    [(digest,)] = store.sql("SELECT hash FROM lifecycle.ledger")
    assert store.keys("lifecycle-evidence") == [f"ledger/decisions/approval-{asked}-{digest[:12]}/ledger.jsonl"]


def test_a_no_is_written_down_too(store: Store, asked: int) -> None:
    assert asking.record_reply(asking.question(asked, NOW), reply("counsel", "Reject"), NOW) == []
    assert status(store, asked) == ("rejected", "counsel")
    assert store.value("SELECT disposition FROM lifecycle.ledger") == "reject"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "nobody answered"),
        (reply(None, "Reject"), "nobody answered"),
        (reply(None, "Approve"), "nobody answered"),
        (reply("counsel") | {"chosen_options": []}, "neither a plain yes"),
        (reply("counsel", "Approve", "Reject"), "neither a plain yes"),
        (reply("counsel", "approve"), "neither a plain yes"),
        (reply("counsel", "Approve", approval=8), "neither a plain yes"),
    ],
)
def test_anything_else_does_not_count(store: Store, asked: int, answer: dict[str, Any] | None, says: str) -> None:
    with pytest.raises(ApprovalError, match=says):
        asking.record_reply(asking.question(asked, NOW), answer, NOW)
    assert status(store, asked) == ("pending", None)
    assert store.sql("SELECT 1 FROM lifecycle.ledger") == []


@pytest.mark.parametrize(
    ("rules", "name", "says"),
    [
        ({"four_eyes": True}, "starter", "second pair of eyes"),
        ({"approvers": ["counsel", "dpo"]}, "somebody", "not among the approvers"),
    ],
)
def test_the_wrong_person_is_refused(
    store: Store,
    asked: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rules: dict[str, object],
    name: str,
    says: str,
) -> None:
    in_force(tmp_path, monkeypatch, **rules)
    with pytest.raises(ApprovalError, match=says):
        asking.record_reply(asking.question(asked, NOW), reply(name), NOW)
    assert status(store, asked) == ("pending", None)
    assert asking.record_reply(asking.question(asked, NOW), reply("dpo"), NOW) == ["retention_consumer"]


def test_rules_of_a_policy_that_is_not_in_force_do_not_count(
    store: Store, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever edits the file cannot make themselves an approver."""
    in_force(tmp_path, monkeypatch, approvers=["dpo"])
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path / "new", put("approval", approvers=["me"]))))
    with pytest.raises(ApprovalError, match="not among the approvers"):
        asking.record_reply(asking.question(asked, NOW), reply("me"), NOW)


def test_an_answer_is_to_what_was_shown(store: Store, asked: int) -> None:
    question = asking.question(asked, NOW)
    with pytest.raises(ApprovalError, match="something else than what was shown"):
        asking.record_reply(question | {"shown_sha256": "0" * 64}, reply(), NOW)
    with connect() as conn:
        _ask(conn, records=99_999)
    with pytest.raises(ApprovalError, match="superseded"):
        asking.record_reply(question, reply(), NOW)
    with pytest.raises(ApprovalError, match="there is nothing to ask"):
        asking.question(asked, NOW)


def test_nothing_is_answered_twice(store: Store, asked: int) -> None:
    question = asking.question(asked, NOW)
    asking.record_reply(question, reply(), NOW)
    with pytest.raises(ApprovalError, match="cannot be answered again"):
        asking.record_reply(question, reply("somebody", "Reject"), NOW)
    assert status(store, asked) == ("approved", "counsel")


def test_the_hourly_run_rings_once_for_what_it_asked_and_never_for_others(store: Store, asked: int) -> None:
    with connect() as conn:
        found = [approvals.load(conn, asked)]
    for scope, run_id, rings in (("consumer", 9, 1), ("erasure", 9, 0), ("erasure", 7, 1)):
        run = Run(run_id, "k", scope, NOW, "p", "c", False, "running", None, NOW)
        assert len(asking.to_ring_for(found, run)) == rings


def test_what_is_in_force_does_not_depend_on_the_clock_of_who_answered_case_10(store: Store) -> None:
    """The first answer came from a machine an hour ahead; the second one, given later, counts."""
    with connect() as conn:
        for key, ahead in ((Key("a" * 64, "c" * 64), timedelta(hours=1)), (Key("b" * 64, "c" * 64), timedelta(0))):
            number = approvals.ask(conn, Request(approvals.POLICY, key, {"affected": 0}, "starter", NOW))
            approvals.decide(conn, number, approvals.APPROVED, by="boss", at=NOW + ahead)
        assert approvals.in_force(conn) == key
