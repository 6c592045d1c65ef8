"""The DAGs through a real scheduler: triggered over REST, states polled, store inspected."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import psutil
import psycopg
import pytest
from psycopg import sql

from e2e.conftest import RUN_WITHIN_S, Stack
from lifecycle.demo.demo import AlreadyRunningError
from lifecycle.demo.report import scope_reports
from lifecycle.demo.rest import RestError

SCOPES = ("consumer", "beta", "evaluation", "business", "records", "erasure")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def present(stack: Stack, message_id: UUID) -> bool:
    return bool(stack.store.sql("SELECT 1 FROM app.messages WHERE message_id = %s", message_id))


def task_states(stack: Stack, dag_id: str, run_id: str) -> dict[str, tuple[str, int]]:
    """State and try number per task, mapped ones by their unit."""
    return {
        f"{task['task_id']} {task['rendered_map_index'] or ''}".strip(): (task["state"], task["try_number"])
        for task in stack.api.task_instances(dag_id, run_id)
    }


def test_the_demo_runs_every_dag_and_every_check_passes(stack: Stack) -> None:
    assert {dag.dag_id: (dag.state, dag.failed_tasks) for dag in stack.outcome.dags} == dict.fromkeys(
        (
            f"retention_{name}"
            for name in ["consumer", "beta", "evaluation", "business", "records", "erasure", "auditor", "watch"]
        ),
        ("success", ()),
    )
    scopes = {report.scope: report for report in stack.outcome.scopes}
    assert set(scopes) == set(SCOPES)
    assert all(report.passed and report.checks > 0 for report in scopes.values())
    assert scopes["consumer"].disposed["delete"] > 0
    assert scopes["evaluation"].disposed["deidentify"] > 0
    assert stack.outcome.passed


def test_a_second_up_says_that_it_runs(stack: Stack) -> None:
    with pytest.raises(AlreadyRunningError, match="running already"):
        stack.demo.up(stack.options)
    status = stack.demo.status()
    assert status["running"]
    assert set(dict(status["airflow"])["health"].values()) == {"healthy"}  # type: ignore[call-overload]


def test_case_9_a_run_without_logical_date_works_as_of_its_own_time(stack: Stack) -> None:
    late = stack.store.insert_message(
        tier="consumer", received_at=stack.due("consumer"), object_body="late", tools=["a"]
    )
    run_id, state = stack.run("retention_consumer")
    run = stack.api.run("retention_consumer", run_id)
    assert (state, run["logical_date"]) == ("success", None)
    assert not present(stack, late)
    assert not stack.store.sql("SELECT 1 FROM app.message_tools WHERE message_id = %s", late)
    assert [key for key in stack.store.keys("product-data") if str(late) in key] == []
    ((_, as_of, status, dry_run, *_),) = stack.register("retention_consumer", run_id)
    assert (as_of.isoformat()[:19], status, dry_run) == (run["run_after"][:19], "succeeded", False)


def test_mapped_tasks_are_named_by_their_units_and_xcoms_hold_counts(stack: Stack) -> None:
    day = stack.due("consumer")
    stack.store.insert_message(tier="consumer", received_at=day)
    run_id, state = stack.run("retention_consumer")
    assert state == "success"
    named = f"expire messages/consumer/{day:%Y-%m}"
    assert task_states(stack, "retention_consumer", run_id)[named] == ("success", 1)
    settled = stack.api.xcoms("retention_consumer", run_id, "settle")["return_value"]
    counts = json.loads(settled) if isinstance(settled, str) else settled
    assert counts["disposed"]["delete"] >= 1


def test_case_9_a_logical_date_is_the_instant(stack: Stack) -> None:
    past = stack.options.as_of - timedelta(days=30)
    run_id = stack.api.trigger("retention_beta", {}, logical_date=past.isoformat())
    assert stack.api.wait("retention_beta", run_id, RUN_WITHIN_S) == "success"
    assert stack.register("retention_beta", run_id)[0][1] == past


def test_case_9_an_instant_in_the_future_is_refused_at_once(stack: Stack) -> None:
    kept = stack.store.insert_message(tier="consumer", received_at=stack.options.as_of - timedelta(days=1))
    run_id, state = stack.run("retention_consumer", as_of="2100-01-01T00:00:00Z")
    assert state == "failed"
    states = task_states(stack, "retention_consumer", run_id)
    assert states["check"] == ("failed", 1), "it would fail again, so it is not tried again"
    assert {state for name, (state, _) in states.items() if name != "check"} == {"upstream_failed"}
    assert stack.register("retention_consumer", run_id) == []
    assert present(stack, kept)


def test_an_instant_that_is_none_is_refused_at_once(stack: Stack) -> None:
    """Airflow's API does not check the format of a text; the first task does."""
    run_id, state = stack.run("retention_consumer", as_of="yesterday")
    assert state == "failed"
    assert task_states(stack, "retention_consumer", run_id)["check"] == ("failed", 1)
    assert stack.register("retention_consumer", run_id) == []


@pytest.mark.parametrize("conf", [{"as_of": 5}, {"dry_run": "maybe"}])
def test_the_form_refuses_nonsense(stack: Stack, conf: dict[str, object]) -> None:
    with pytest.raises(RestError) as refused:
        stack.api.trigger("retention_consumer", conf)
    assert refused.value.status == 400


def test_case_9_a_backfill_is_refused(stack: Stack) -> None:
    body = {"dag_id": "retention_consumer", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-03T00:00:00Z"}
    with pytest.raises(RestError) as refused:
        stack.api.call("POST", "/api/v2/backfills", body)
    assert 400 <= refused.value.status < 500


def test_a_dry_run_changes_nothing(stack: Stack) -> None:
    """Case 21."""
    due = stack.store.insert_message(tier="beta", received_at=stack.due("beta"), object_body="stays")
    before = stack.store.versions("product-data"), stack.store.value("SELECT count(*) FROM lifecycle.ledger")
    run_id, state = stack.run("retention_beta", dry_run=True)
    assert state == "success"
    assert task_states(stack, "retention_beta", run_id)["certify"][0] == "skipped", "nothing to announce"
    assert present(stack, due)
    assert (stack.store.versions("product-data"), stack.store.value("SELECT count(*) FROM lifecycle.ledger")) == before
    assert stack.register("retention_beta", run_id)[0][2:4] == ("succeeded", True)


def test_a_cleared_task_is_harmless(stack: Stack) -> None:
    """Case 9: a run that is done and run again from the middle does nothing twice."""
    stack.store.insert_message(tier="evaluation", received_at=stack.due("evaluation"))
    run_id, state = stack.run("retention_evaluation")
    assert state == "success"
    ((number, *_),) = stack.register("retention_evaluation", run_id)
    ledger = "SELECT seq, hash FROM lifecycle.ledger WHERE run_id = %s ORDER BY seq"
    research = "SELECT count(*) FROM research.messages"
    before = stack.store.sql(ledger, number), stack.store.value(research)
    assert before[0]
    assert stack.api.clear("retention_evaluation", run_id, ["expire"]) > 0
    assert stack.api.wait("retention_evaluation", run_id, RUN_WITHIN_S) == "success"
    states = task_states(stack, "retention_evaluation", run_id)
    assert states["check"] == ("success", 2), "the setup is cleared with what it is for"
    assert (stack.store.sql(ledger, number), stack.store.value(research)) == before
    assert stack.register("retention_evaluation", run_id)[0][2] == "succeeded"


def test_two_runs_at_once_queue(stack: Stack) -> None:
    first, second = (stack.api.trigger("retention_business", {}) for _ in range(2))
    for run_id in (first, second):
        assert stack.api.wait("retention_business", run_id, RUN_WITHIN_S) == "success"
    rows = [stack.register("retention_business", run_id)[0] for run_id in (first, second)]
    (_, _, _, _, begun, ended), (_, _, _, _, begun_after, _) = sorted(rows, key=lambda row: row[4])
    assert begun < ended <= begun_after


def partitioned(stack: Stack, dag_id: str, run_id: str, seconds: float = 180.0) -> None:
    """Until late rows lie in partitions of their own; what is left before `expire` only reads them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if task_states(stack, dag_id, run_id).get("partition", ("", 0))[0] == "success":
            return
        time.sleep(0.1)
    raise AssertionError(f"{dag_id} did not get as far as cut-offs")


@contextmanager
def in_use(stack: Stack, message_id: UUID) -> Iterator[int]:
    """Somebody edits the record: whoever wants to destroy it, and nobody else, waits. Yields who holds it up."""
    with psycopg.connect(stack.store.conninfo) as conn:
        leaf = conn.execute(
            "SELECT n.nspname, c.relname FROM app.messages m JOIN pg_class c ON c.oid = m.tableoid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE message_id = %s",
            (message_id,),
        ).fetchone()
        assert leaf is not None, "destroyed before the test could take hold of it"
        conn.commit()
        # By its partition: through the table above, every other partition would be in use as well.
        edit = sql.SQL("SELECT FROM {} WHERE message_id = %s FOR UPDATE").format(sql.Identifier(*leaf))
        assert conn.execute(edit, (message_id,)).rowcount == 1
        yield conn.info.backend_pid


def held_up_task(stack: Stack, holder: int, seconds: float = 120.0) -> psutil.Process:
    """The task process that waits for `holder`, found by the port of its database session.

    It gives up and tries again every moment, so one look may miss it.
    """
    waiting = "SELECT client_port FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ports = {port for (port,) in stack.store.sql(waiting, holder)}
        for found in psutil.net_connections("tcp") if ports else ():
            if found.laddr and found.laddr.port in ports and found.pid:
                return psutil.Process(found.pid)
        time.sleep(0.05)
    raise AssertionError("no task wanted to destroy the record")


def gone(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@dataclass(frozen=True)
class Kill:
    """A run that is about to destroy one record, and which of its processes is killed then."""

    dag_id: str
    run_id: str
    unit: str
    shard: str
    record: UUID


def kill(stack: Stack, tier: str, victim: str) -> Kill:
    day = stack.due(tier, 230)  # a day that no other test here uses, so that it holds this one record
    due = stack.store.insert_message(tier=tier, received_at=day)
    dag_id = f"retention_{tier}"
    run_id = stack.api.trigger(dag_id, {})
    partitioned(stack, dag_id, run_id)
    with in_use(stack, due) as holder:
        task = held_up_task(stack, holder)
        supervisor = task.parent()
        assert supervisor is not None
        (task if victim == "task" else supervisor).kill()
        assert gone(task, 5), "the zombie twin goes on without its supervisor"
        assert present(stack, due)
    return Kill(dag_id, run_id, f"messages/{tier}/{day:%Y-%m-%d}", f"expire messages/{tier}/{day:%Y-%m}", due)


def test_case_27_who_is_killed_before_the_act_is_tried_again(stack: Stack) -> None:
    """Without its supervisor a task must not go on while the second try starts; nor does a killed one do half."""
    # The scheduler takes a while to miss a supervisor, so both wait at the same time.
    killed = [kill(stack, "evaluation", "supervisor"), kill(stack, "beta", "task")]
    for run in killed:
        assert stack.api.wait(run.dag_id, run.run_id, RUN_WITHIN_S) == "success"
        assert task_states(stack, run.dag_id, run.run_id)[run.shard] == ("success", 2)
        assert not present(stack, run.record)
        ((number, _, status, *_),) = stack.register(run.dag_id, run.run_id)
        assert status == "succeeded"
        assert recorded(stack, number, run.unit) == 1


def recorded(stack: Stack, run: int, unit: str) -> int:
    """Records that the ledger says a run has disposed of in a unit."""
    query = """SELECT coalesce(sum((counts ->> 'records')::int), 0) FROM lifecycle.ledger
               WHERE run_id = %s AND unit = %s AND entry = 'outcome'"""
    return int(stack.store.value(query, run, unit))


def alerted(stack: Stack, headline: str, seconds: float = 60.0) -> bool:
    """Whether an alert is logged; the DAG processor runs the notifier a little after the run has failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(headline in path.read_text() for path in (stack.airflow_home / "logs").rglob("*.log")):
            return True
        time.sleep(0.5)
    return False


def test_case_7_auditor_and_watch_fail_while_something_is_overdue(stack: Stack) -> None:
    """And pass once a run has taken it."""
    lookers = {"retention_auditor": "audit", "retention_watch": "watch"}

    def look() -> dict[str, tuple[str, str]]:
        begun = {dag_id: stack.api.trigger(dag_id, {}) for dag_id in lookers}
        return {dag_id: (run_id, stack.api.wait(dag_id, run_id, RUN_WITHIN_S)) for dag_id, run_id in begun.items()}

    stack.store.insert_message(tier="business", received_at=stack.due("business"))
    for dag_id, (run_id, state) in look().items():
        assert state == "failed", dag_id
        assert task_states(stack, dag_id, run_id)[lookers[dag_id]] == ("failed", 1)
        assert alerted(stack, f"{dag_id} failed: run {run_id}")
    run_id = stack.api.trigger("retention_business", {})
    assert stack.api.wait("retention_business", run_id, RUN_WITHIN_S) == "success"
    assert {state for _, state in look().values()} == {"success"}


def test_an_erasure_request_is_carried_out_within_the_run(stack: Stack) -> None:
    young = stack.options.as_of - timedelta(days=1)
    message = stack.store.insert_message(tier="consumer", received_at=young, object_body="forget me")
    stack.store.insert(
        "lifecycle.erasure_requests", scope="message", target=str(message), requested_at=stack.options.as_of
    )
    assert stack.run("retention_erasure")[1] == "success"
    assert not present(stack, message)
    request = "SELECT outcome FROM lifecycle.erasure_requests WHERE target = %s AND completed_at IS NOT NULL"
    assert stack.store.sql(request, str(message)) == [("done",)]


def test_the_summary_shows_the_latest_run_of_each_scope(stack: Stack) -> None:
    reports = scope_reports(stack.store.conninfo)
    assert [report.scope for report in reports] == list(SCOPES)
