"""What is over a limit waits for a yes, unit by unit; the rest goes on, and the run says so in time (case 26)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.config import load_configuration
from lifecycle.console.app import render_page
from lifecycle.console.data import overview
from lifecycle.planning.limits import Part, over_limit
from lifecycle.planning.units import Method, Tally, Unit
from lifecycle.policy.models import Limits
from oracle.facts import Message, World
from oracle.named import AS_OF, DAY, message
from oracle.stores import Ran, Servers, at, full_run, run
from support.edits import put, write_policy
from support.scopes import carry_out
from support.store import Store

TOMORROW = AS_OF + DAY


def several(name: str, count: int, tier: str, age: timedelta) -> tuple[Message, ...]:
    return tuple(message(f"{name} {n}", tier, age) for n in range(count))


MANY = several("many", 6, "consumer", DAY * 87 + timedelta(hours=1))
FEW = several("few", 2, "beta", DAY * 87 + timedelta(hours=1))
FRESH = several("fresh", 30, "consumer", DAY)
DAYS = frozenset((m.tier, m.received_at.date()) for m in (*MANY, *FEW))


@pytest.fixture
def store(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Six consumer messages are due and two of beta; more than three of a tier have to be asked about."""
    load(tmp_path, monkeypatch, records=3)
    with servers.store(World(messages=(*MANY, *FEW, *FRESH), partitions=DAYS)) as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    file = write_policy(tmp_path, put("limits", **({"floor": 2} | limits)))
    monkeypatch.setenv("LIFECYCLE_POLICY", str(file))


def left(store: Store, messages: tuple[Message, ...]) -> int:
    ids = [m.message_id for m in messages]
    return int(store.value("SELECT count(*) FROM app.messages WHERE message_id = ANY(%s)", ids))


def consumer(as_of: datetime = AS_OF) -> Ran:
    done = carry_out(as_of)
    assert done.code == 0, str(done)
    return done


def test_what_is_over_a_limit_waits_and_the_rest_proceeds(store: Store) -> None:
    assert carry_out(AS_OF, "beta").code == 0
    assert (left(store, FEW), left(store, MANY)) == (0, 6)
    done = full_run(store, AS_OF, "--tier", "consumer")
    assert done.code == 0, str(done)
    assert left(store, MANY) == 6
    scope = done.json["scopes"]["consumer"]
    assert scope["kept"]["awaiting_approval"] == 6
    [said] = [each for each in scope["approvals"] if each["subject"] == "plan"]
    assert (said["status"], said["records"]) == ("pending", 6)
    assert said["deadline"].startswith((MANY[0].received_at + DAY * 90).date().isoformat()), "until when there is time"
    assert "messages of tier consumer: 6 records would be destroyed, more than 3" in done.stderr
    warned = store.value("SELECT violations FROM lifecycle.validations WHERE name = 'units_awaiting_approval'"
                         " ORDER BY run_id DESC OFFSET 2 LIMIT 1")  # fmt: skip
    assert warned == 1


def test_what_waits_is_shown_where_people_look(store: Store) -> None:
    """In the console, and beside the explanation of what is part of it; of nothing else."""
    run_id = consumer().json["scopes"]["consumer"]["run_id"]
    with store.connect() as conn:
        shown = overview(conn, store.s3, load_configuration(), AS_OF)
    [asked] = shown.questions
    assert (asked.subject, asked.about, asked.records) == ("plan", f"run {run_id} (consumer)", 6)
    assert asked.until == MANY[0].received_at + DAY * 90
    assert f"approval {asked.approval_id} of run {run_id} (consumer) waits for an answer" in shown.alarms
    assert "Waiting for an answer" in render_page(shown, "nonce")
    day = f"{MANY[0].received_at:%Y-%m-%d}"
    for name in (("message", str(MANY[0].message_id)), ("partition", f"messages/consumer/{day}")):
        told = json.loads(store.cli("explain", *name, "--as-of", at(AS_OF), "--json").stdout)
        [waits] = told["waits"]
        assert f"partition messages/consumer/{day} is over a limit and waits for approval {asked.approval_id}" in waits
        assert told["text"].endswith(waits)
    other = store.cli("explain", "message", str(FRESH[0].message_id), "--as-of", at(AS_OF), "--json")
    assert json.loads(other.stdout)["waits"] == []


def test_a_dry_run_foretells_what_waits_case_21(store: Store) -> None:
    dry = run(store, AS_OF, "--dry-run", "--tier", "consumer").json["scopes"]["consumer"]
    assert dry["disposed"] == {}
    assert dry["kept"]["awaiting_approval"] == 6
    assert [unit["awaiting"] for unit in dry["units"]] == ["limits.records"]
    assert store.sql("SELECT 1 FROM lifecycle.approvals") == []


def test_what_was_approved_goes_in_the_next_run(store: Store) -> None:
    waiting = consumer().json["scopes"]["consumer"]["run_id"]
    store.cli("plan", "approve", waiting, "--by", "counsel", "--yes")
    consumer()
    assert left(store, MANY) == 0
    assert store.cli("ledger", "verify", check=False).returncode == 0
    kinds = store.sql("SELECT disposition, counts ->> 'by' FROM lifecycle.ledger WHERE entry = 'decision' ORDER BY seq")
    assert kinds[-1] == ("approve", "counsel")


def test_the_same_run_resumed_hands_out_what_was_approved(store: Store) -> None:
    """An Airflow run that is cleared: the same key, the same plan; its evidence is written beside the first."""
    from lifecycle.errors import ApprovalError
    from lifecycle.orchestration import steps

    def attempt() -> int:
        run_id = steps.begin("consumer", AS_OF, run_key="dag/1")
        steps.partition(run_id)
        steps.plan(run_id)
        steps.quarantine(run_id)
        for unit in steps.units(run_id):
            steps.expire(run_id, unit)
        steps.settle(run_id)
        steps.validate(run_id)
        steps.certify(run_id)
        return run_id

    run_id = attempt()
    assert left(store, MANY) == 6
    [(unit,)] = store.sql("SELECT unit FROM lifecycle.plan_units WHERE status = 'awaiting'")
    with pytest.raises(ApprovalError, match="waits for an approval"):
        steps.expire(run_id, unit)
    store.cli("plan", "approve", run_id, "--by", "counsel", "--yes")
    assert attempt() == run_id
    assert left(store, MANY) == 0
    verified = json.loads(store.cli("ledger", "verify", "--json").stdout)
    assert verified["copies_compared"] >= verified["rows"]


def test_an_approval_does_not_cover_more_than_was_shown(store: Store) -> None:
    waiting = consumer().json["scopes"]["consumer"]["run_id"]
    store.cli("plan", "approve", waiting, "--by", "counsel", "--yes")
    store.insert_message(received_at=MANY[0].received_at)
    consumer()
    assert left(store, MANY) == 6
    assert store.value("SELECT status FROM lifecycle.approvals ORDER BY approval_id DESC LIMIT 1") == "pending"


def test_what_nobody_answers_is_late_apart_from_what_is_simply_late(store: Store) -> None:
    """Case 26: nothing destroyed; the auditor counts it apart once the deadline has passed."""
    consumer()
    later = AS_OF + DAY * 5
    consumer(later)
    assert left(store, MANY) == 6
    audit = json.loads(store.cli("audit", "--as-of", at(later), "--json", check=False).stdout)
    found = {check["name"]: check["violations"] for check in audit["checks"]}
    assert (found["messages_past_deadline.consumer"], found["late_awaiting_approval.consumer"]) == (0, 6)
    statuses = store.sql("SELECT status FROM lifecycle.approvals WHERE subject = 'plan' ORDER BY approval_id")
    assert statuses == [("superseded",), ("pending",)], "each run asks about its own plan"


def test_a_rejected_plan_is_asked_about_again(store: Store) -> None:
    waiting = consumer().json["scopes"]["consumer"]["run_id"]
    store.cli("plan", "reject", waiting, "--by", "counsel")
    again = store.cli("plan", "approve", waiting, "--by", "counsel", "--yes", check=False)
    assert (again.returncode, "is rejected already" in again.stderr) == (1, True)
    consumer()
    assert left(store, MANY) == 6
    assert store.value("SELECT count(*) FROM lifecycle.approvals WHERE subject = 'plan'") == 2


def test_a_jump_against_the_history_of_the_scope_waits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, monkeypatch, history=3, factor=2.0)
    for n in range(3):
        day = AS_OF - DAY * (9 - n)
        store.insert_message(received_at=day - DAY * 88)
        assert carry_out(day, validated=False).code == 0
    assert store.value("SELECT count(*) FROM lifecycle.approvals WHERE subject = 'plan'") == 0
    consumer()
    assert left(store, MANY) == 6
    shown = store.value("SELECT shown FROM lifecycle.approvals WHERE subject = 'plan'")
    assert shown["parts"][0]["reason"] == "limits.factor, 2 times 1 as usual"


def _unit(records: int) -> Unit:
    return Unit("u", "messages", Method.SWAP, (Tally("delete:x", records), Tally("quarantine:y", 10**9)), tier="beta")


@pytest.mark.parametrize(
    ("records", "history", "total", "reason"),
    [
        (100, [], 10**6, None),
        (101, [], 10**6, None),
        (2001, [], 10**6, "limits.records"),
        (1500, [], 2999, "limits.share"),
        (1500, [], 3000, None),
        (1500, [], None, None),
        (1001, [100] * 6, 10**6, None),
        (1001, [100] * 7, 10**6, "limits.factor"),
        (1000, [100] * 7, 10**6, None),
        (101, [0] * 7, 10**6, "limits.factor"),
        (100, [0] * 7, 10**6, None),
        (1001, [0, 0, 0, 100, 200, 200, 200], 10**6, "limits.factor"),
    ],
)
def test_the_limits(records: int, history: list[int], total: int | None, reason: str | None) -> None:
    limits = Limits(floor=100, records=2000, share=0.5, factor=10.0, history=7)
    unit = _unit(records)
    found = over_limit(Part.of(unit), [unit], history, total, limits)
    assert (found.reason.split(",")[0] if found else None) == reason
    if found is not None:
        assert found.records == records > found.limit
