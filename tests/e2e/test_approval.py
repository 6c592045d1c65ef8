"""retention_approval in a real Airflow: asked in its own form, answered over its API, checked and written down."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.conftest import RUN_WITHIN_S, Stack
from lifecycle.demo.rest import RestError
from lifecycle.ledger import approvals
from lifecycle.ledger.approvals import Key, Request

DAG = "retention_approval"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def ask(stack: Stack, requested_by: str = "schedule") -> int:
    """Part of a plan of the beta scope that waits."""
    now = datetime.now(UTC)
    part = {
        "dataset": "messages", "tier": "beta", "kind": "records", "units": 1, "records": 20_000, "limit": 10_000,
        "reason": "limits.records", "deadline": None,
    }  # fmt: skip
    shown = {"records": 20_000, "reason": "over a limit", "parts": [part]}
    with stack.store.connect() as conn:
        return approvals.ask(
            conn,
            Request(
                approvals.PLAN, Key("p" * 64, "c" * 64), shown, requested_by, now, 1, "beta", {"no such unit": 20_000},
                now + timedelta(days=2),
            ),
        )  # fmt: skip


def question(stack: Stack, number: int) -> tuple[str, str]:
    """Trigger the DAG and wait until its question stands; the run, and the path of its answer."""
    run_id = stack.api.trigger(DAG, {"approval": number})
    give_up = time.monotonic() + RUN_WITHIN_S
    while True:
        states = {task["task_id"]: task["state"] for task in stack.api.task_instances(DAG, run_id)}
        if states.get("ask") == "awaiting_input":
            return run_id, f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/ask/-1/hitlDetails"
        assert time.monotonic() < give_up and "failed" not in states.values(), states
        time.sleep(1)


def answer(stack: Stack, run_id: str, path: str, option: str) -> str:
    """Answer until the run has ended: one that comes within a second of the question can be lost, and is asked again
    (Airflow 3.3: the executor reports the parked task as finished while the answer has it scheduled again)."""
    give_up = time.monotonic() + RUN_WITHIN_S
    while (state := str(stack.api.run(DAG, run_id)["state"])) not in ("success", "failed"):
        assert time.monotonic() < give_up, stack.api.task_instances(DAG, run_id)
        states = {task["task_id"]: task["state"] for task in stack.api.task_instances(DAG, run_id)}
        if states["ask"] == "awaiting_input":
            with contextlib.suppress(RestError):
                stack.api.call("PATCH", path, {"chosen_options": [option]})
        time.sleep(1)
    return state


def decided(stack: Stack, number: int) -> tuple[Any, ...]:
    return stack.store.sql("SELECT status, decided_by FROM lifecycle.approvals WHERE approval_id = %s", number)[0]


def test_a_yes_is_checked_written_down_and_gives_the_scope_work(stack: Stack) -> None:
    number = ask(stack)
    before = stack.store.value("SELECT count(*) FROM lifecycle.runs WHERE scope = 'beta'")
    run_id, path = question(stack, number)
    shown = stack.api.call("GET", path)
    assert "20,000 records would go" in shown["subject"]
    assert "| messages | beta | records |" in shown["body"]
    assert (shown["options"], shown["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert answer(stack, run_id, path, "Approve") == "success"
    assert decided(stack, number) == ("approved", "admin")
    give_up = time.monotonic() + RUN_WITHIN_S
    while stack.store.value("SELECT count(*) FROM lifecycle.runs WHERE scope = 'beta'") == before:
        assert time.monotonic() < give_up, "the scope's DAG was not triggered"
        time.sleep(1)


def test_a_no_is_written_down_and_nothing_follows(stack: Stack) -> None:
    number = ask(stack)
    run_id, path = question(stack, number)
    assert answer(stack, run_id, path, "Reject") == "success"
    assert decided(stack, number) == ("rejected", "admin")
    states = {task["task_id"]: task["state"] for task in stack.api.task_instances(DAG, run_id)}
    assert states == {
        "show": "success",
        "ask": "success",
        "answered": "skipped",
        "record": "success",
        "go_on": "skipped",
    }


def test_an_answer_to_an_older_question_is_refused_case_28(stack: Stack) -> None:
    number = ask(stack)
    run_id, path = question(stack, number)
    later = ask(stack)
    assert answer(stack, run_id, path, "Approve") == "failed"
    assert (decided(stack, number), decided(stack, later)) == (("superseded", None), ("pending", None))
