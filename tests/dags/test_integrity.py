"""What every DAG of the project must have, whoever adds one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pendulum
import pytest

ROOT = Path(__file__).resolve().parents[2]
DAG_FILES = sorted((ROOT / "dags").glob("*.py"))
DAG_IDS = {
    "retention_consumer",
    "retention_beta",
    "retention_evaluation",
    "retention_business",
    "retention_records",
    "retention_erasure",
    "retention_auditor",
    "retention_watch",
    "retention_approval",
}
# They read and judge; they have one task, take no lease and never pause themselves.
READING = {"retention_auditor": "audit", "retention_watch": "watch"}
SCHEDULES = {
    **dict.fromkeys(("consumer", "beta", "evaluation", "business"), "0 0 * * *"),
    "records": "30 1 * * *",
    "erasure": "20 * * * *",
    "auditor": "0 6 * * *",
    "watch": "50 * * * *",
}
QUESTION = ["show", "ask", "answered", "record", "go_on"]
# Not runs of a scope: they destroy nothing.
OTHERS = (*READING, "retention_approval")
CHAIN = ["check", "partition", "cutoffs", "plan", "quarantine", "shards", "expire", "settle", "validate", "certify"]
HEAVY = ("great_expectations", "pandas", "boto3", "pyarrow", "lifecycle.orchestration.steps", "lifecycle.validation")


@pytest.fixture(scope="module")
def bag() -> Iterator[Any]:
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(ROOT / "dags"))


@pytest.fixture(scope="module")
def dags(bag: Any) -> list[Any]:
    return list(bag.dags.values())


def test_every_file_imports(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == DAG_IDS


def test_the_dag_bag_is_filled_in_seconds(bag: Any) -> None:
    began, worked = time.monotonic(), time.process_time()
    type(bag)(str(ROOT / "dags"))
    assert time.process_time() - worked < 5
    assert time.monotonic() - began < 60, "it waits for something; on a busy machine for a processor, but not so long"


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.name)
def test_files_are_thin(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.name)
def test_nothing_heavy_is_imported_at_the_top(file: Path, tmp_path: Path) -> None:
    """Airflow parses DAG files again and again, and once per task."""
    code = (
        "import runpy, sys, json, time\nimport airflow.sdk\nbegan = time.process_time()\n"
        "runpy.run_path(sys.argv[1], run_name='dag_file')\n"
        "print(json.dumps([time.process_time() - began, sorted(sys.modules)]))"
    )
    env = {"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], env=env, capture_output=True, text=True, timeout=100, check=True
    )
    seconds, modules = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in modules if name.startswith(HEAVY)] == []
    assert seconds < 5, "of processor time, beside importing airflow.sdk itself"


def test_tags_are_of_the_closed_set(dags: list[Any]) -> None:
    from lifecycle.orchestration.dag_factory import TAGS

    for dag in dags:
        assert dag.tags and set(dag.tags) <= TAGS, dag.dag_id
        assert "retention" in dag.tags
        assert ("read-only" in dag.tags) == (dag.dag_id in READING)


def test_every_dag_has_a_runbook_of_its_family(dags: list[Any]) -> None:
    for dag in dags:
        assert dag.doc_md.startswith("# Runbook:"), dag.dag_id
        assert dag.dag_id in dag.doc_md.splitlines()[0]
        assert "way back" in dag.doc_md


def test_every_task_is_named_in_its_runbook(dags: list[Any]) -> None:
    for dag in dags:
        assert [task.task_id for task in dag.tasks if f"`{task.task_id}" not in dag.doc_md] == [], dag.dag_id


def test_owner_retries_and_pools(dags: list[Any]) -> None:
    pools = set(json.loads((ROOT / "pools.json").read_text(encoding="utf-8")))
    for dag in dags:
        for task in dag.tasks:
            assert task.owner == "data-protection"
            assert task.retries >= 1
            assert task.execution_timeout is not None
            assert task.pool in pools | ({"default_pool"} if dag.dag_id in READING else set())


def test_one_run_at_a_time_never_of_the_past(dags: list[Any]) -> None:
    for dag in dags:
        # An unanswered question must not keep the next one from being asked.
        assert dag.max_active_runs == (20 if dag.dag_id == "retention_approval" else 1)
        assert dag.catchup is False
        assert dag.start_date is None, "with a start date, unpausing would run the last missed slot at once"
        assert "backfill" not in {str(run_type.value) for run_type in dag.allowed_run_types}
        limit = timedelta(days=8) if dag.dag_id == "retention_approval" else timedelta(hours=12)
        assert timedelta(0) < dag.dagrun_timeout <= limit
        assert dag.deadline and dag.deadline[0].interval < dag.dagrun_timeout
        assert dag.on_failure_callback is not None


def test_what_watches_and_what_asks_never_pauses_itself(dags: list[Any]) -> None:
    for dag in dags:
        assert (dag.max_consecutive_failed_dag_runs == 0) == (dag.dag_id in OTHERS)


def test_schedules_are_explicit_and_in_utc(dags: list[Any]) -> None:
    for dag in dags:
        if dag.dag_id == "retention_approval":
            assert not dag.timetable.can_be_scheduled, "it is triggered by the run that found something waiting"
            continue
        expected = SCHEDULES[dag.dag_id.removeprefix("retention_")]
        assert (dag.timetable.expression, str(dag.timetable.timezone)) == (expected, "UTC")


def test_unpausing_a_dag_makes_up_for_no_slot(dags: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after its slot a new DAG waits for the next one: what it destroys is destroyed when somebody watches."""
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction

    for dag in dags:
        if dag.dag_id.removeprefix("retention_") not in SCHEDULES:
            continue
        there: Any = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).timetable
        slot = there._align_to_prev(pendulum.datetime(2026, 11, 25, 12, 0, 0))
        monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda slot=slot: slot.add(minutes=1))
        first: Any = there.next_dagrun_info(
            last_automated_data_interval=None, restriction=TimeRestriction(earliest=None, latest=None, catchup=False)
        )
        assert first.run_after == there._get_next(slot), dag.dag_id


def test_params_are_a_form(dags: list[Any]) -> None:
    for dag in dags:
        if dag.dag_id == "retention_approval":
            assert dag.params.get_param("approval").schema == {"type": "integer", "minimum": 1, **_words(dag)}
            continue
        assert dag.params.get_param("as_of").schema["format"] == "date-time"
        assert dag.params["as_of"] is None
        if dag.dag_id not in READING:
            assert dag.params["dry_run"] is False


def _words(dag: Any) -> dict[str, str]:
    schema = dag.params.get_param("approval").schema
    return {name: schema[name] for name in ("title",) if schema[name]}


def test_no_answer_is_a_no_and_the_answer_is_checked_cases_26_and_28(dags: list[Any]) -> None:
    [dag] = [dag for dag in dags if dag.dag_id == "retention_approval"]
    assert dag.task_ids and set(dag.task_ids) == set(QUESTION)
    for before, after in pairwise(QUESTION):
        assert after in dag.task_dict[before].downstream_task_ids
    asked, record = dag.task_dict["ask"], dag.task_dict["record"]
    assert (asked.defaults, asked.options) == (["Reject"], ["Approve", "Reject"])
    assert asked.response_timeout is not None
    # A no skips what follows it directly; the check must run after a no, too.
    assert record.upstream_task_ids == {"answered"}
    assert record.trigger_rule == "none_failed"


def test_a_run_that_waits_asks_and_goes_on(dags: list[Any]) -> None:
    for dag in dags:
        if dag.dag_id not in OTHERS:
            ask = dag.task_dict["ask"]
            assert ask.upstream_task_ids == {"waiting"}
            assert ask.downstream_task_ids == {"close"}
            assert dag.task_dict["waiting"].upstream_task_ids == {"plan"}


def test_the_order_of_the_steps(dags: list[Any]) -> None:
    for dag in dags:
        if dag.dag_id in OTHERS:
            assert dag.task_ids == [READING.get(dag.dag_id)] or dag.dag_id == "retention_approval"
            continue
        assert set(dag.task_ids) == {*CHAIN, "waiting", "ask", "close"}
        for before, after in pairwise(CHAIN):
            assert after in dag.task_dict[before].downstream_task_ids, (dag.dag_id, before, after)


def test_a_run_is_always_closed(dags: list[Any]) -> None:
    """`check` is the setup of `close`: clearing any task takes the lease again, and a failed run gives it back."""
    for dag in dags:
        if dag.dag_id in OTHERS:
            continue
        assert dag.task_dict["check"].is_setup
        assert dag.task_dict["close"].is_teardown
        assert dag.task_dict["close"].upstream_task_ids == {"check", "certify", "ask"}


def test_settle_survives_a_day_without_due_units(dags: list[Any]) -> None:
    for dag in dags:
        if "settle" in dag.task_dict:
            assert dag.task_dict["settle"].trigger_rule == "none_failed"


def test_serialisation_keeps_what_the_scheduler_needs(dags: list[Any]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dags:
        there = DagSerialization.serialize_dag(dag)
        back = DagSerialization.deserialize_dag(there)
        assert set(back.task_dict) == set(dag.task_dict)
        assert "unusual_prefix" not in json.dumps(there, default=str), "a callback of a DAG file cannot be imported"
        assert "lifecycle.orchestration.alerts.deadline_missed" in json.dumps(there, default=str)


def test_a_run_that_has_not_succeeded_in_the_longest_run_has_its_deadlines_measured(dags: list[Any]) -> None:
    """Then there is exactly as much time left as the alarm asks for (cases 1 and 7)."""
    from lifecycle.config import load_configuration

    longest = load_configuration().policy.lead.longest_run.longest()
    for dag in dags:
        alerts = {alert.name: alert for alert in dag.deadline}
        scope = dag.dag_id.removeprefix("retention_")
        if dag.dag_id in OTHERS or scope == "erasure":
            assert len(alerts) == 1
            continue
        alert = alerts[f"{scope}-at-risk"]
        assert alert.interval == longest
        assert alert.callback.path == "lifecycle.orchestration.alerts.deadline_at_risk"
        assert alert.callback.kwargs["scope"] == scope


def test_runs_announce_what_they_disposed_of(dags: list[Any]) -> None:
    for dag in dags:
        if "certify" in dag.task_dict:
            scope = dag.dag_id.removeprefix("retention_")
            assert [outlet.name for outlet in dag.task_dict["certify"].outlets] == [f"retention_{scope}"]
