"""The tasks of the retention DAGs. Each calls one step; nothing is decided here, and only ids and counts travel.

`run` is the id in lifecycle.runs (Airflow reserves the name run_id for its own); `store` is told where there is a file
of stores. Steps are imported inside the tasks: Airflow parses DAG files every few seconds and
once per task.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import TriggerRule, get_current_context, task  # noqa: TID253  (a DAG file's own import)

from lifecycle.orchestration.instant import run_as_of
from lifecycle.orchestration.process import task_process

POSTGRES_POOL = "retention_postgres"
S3_POOL = "retention_s3"


def run_instant() -> datetime:
    """The instant of the current DAG run; only inside a task."""
    context = get_current_context()
    return run_as_of(context["params"].get("as_of"), context.get("logical_date"), context["dag_run"].run_after)


def _started_by() -> str:
    """Who started the run by hand; may not approve what it asks where the policy wants four eyes."""
    return getattr(get_current_context()["dag_run"], "triggering_user_name", None) or "schedule"


@task(pool=POSTGRES_POOL)
def check(scope: str, store: str | None = None) -> int:
    """Clocks, configuration, connections, one run at a time; opens the run, or resumes it when this was cleared."""
    with task_process(store):
        from lifecycle.orchestration import steps

        context = get_current_context()
        run_key = f"{context['dag'].dag_id}/{context['run_id']}"
        dry_run = bool(context["params"]["dry_run"])
        return steps.begin(scope, run_instant(), run_key=run_key, dry_run=dry_run, requested_by=_started_by())


@task(pool=S3_POOL, multiple_outputs=False)
def partition(run: int, store: str | None = None) -> dict[str, int]:
    """Day partitions ahead, default partitions drained, landed objects moved to tier=/date=."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return steps.partition(run)


@task(pool=POSTGRES_POOL)
def cutoffs(run: int, store: str | None = None) -> list[dict[str, Any]]:
    """Cut-off and deadline per dataset and rule."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return steps.cutoffs(run)


@task(pool=POSTGRES_POOL, multiple_outputs=True)
def plan(run: int, store: str | None = None) -> dict[str, Any]:
    """Freezes what this run will do, per partition, with counts."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return {**steps.plan(run, requested_by=_started_by()), "run": run}


@task(pool=POSTGRES_POOL, multiple_outputs=False)
def waiting(run: int, store: str | None = None) -> list[dict[str, Any]]:
    """What somebody has to be asked, once a day each, and an alarm that says until when there is time."""
    with task_process(store):
        from lifecycle.orchestration import asking
        from lifecycle.orchestration.alerts import deliver, waiting_alert
        from lifecycle.orchestration.session import run_context

        with run_context(run) as opened:
            found = asking.waiting_of(opened.conn, opened.run)
            loud = asking.to_ring_for(found, opened.run)
        context = get_current_context()
        for each in loud:
            deliver(waiting_alert(context, each))
        day = run_instant().date().isoformat()
        return [
            {"conf": {"approval": each.approval_id}, "trigger_run_id": f"approval-{each.approval_id}-{day}"}
            for each in found
        ]


@task(pool=S3_POOL, multiple_outputs=False)
def quarantine(run: int, store: str | None = None) -> dict[str, Any]:
    """Flagged messages into quarantine, cleared ones out of it, ended ones deleted."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return steps.quarantine(run)


@task(pool=S3_POOL, multiple_outputs=False)
def export(run: int, store: str | None = None) -> dict[str, Any]:
    """Inputs and names of log objects, to staging: only where a cluster is configured."""
    with task_process(store):
        from lifecycle.orchestration.prepared import export_prepared

        return export_prepared(run)


@task(pool=POSTGRES_POOL, multiple_outputs=False)
def drivers(exported: dict[str, Any]) -> list[dict[str, Any]]:
    """What the cluster is asked, one job for each place that was exported."""
    from lifecycle.orchestration.cluster import configured

    cluster = configured()
    return [cluster.job_driver(place) for place in exported["places"]] if cluster is not None else []


# all_done: what the cluster could not do is done here, and a deadline never waits for it.
@task(pool=POSTGRES_POOL, trigger_rule=TriggerRule.ALL_DONE)
def prepared() -> None:
    """The cluster has ended, whatever came of it."""


@task(pool=POSTGRES_POOL)
def shards(run: int, store: str | None = None) -> list[str]:
    """The units still to expire. Coarse, so that their number stays far below Airflow's max_map_length."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return steps.shards(run)


# How many at once: see lifecycle.orchestration.parallel.
@task(pool=S3_POOL, multiple_outputs=False, map_index_template="{{ unit_name }}")
def expire(run: int, unit: str, store: str | None = None) -> dict[str, Any]:
    """One unit: survivors carried over, the rest dropped, the ledger written."""
    with task_process(store):
        from lifecycle.orchestration import steps

        get_current_context()["unit_name"] = unit  # type: ignore[typeddict-unknown-key]
        return steps.expire_shard(run, unit)


# none_failed: on a day without due partitions `expire` maps over nothing and is skipped, and the run goes on.
@task(pool=POSTGRES_POOL, multiple_outputs=False, trigger_rule=TriggerRule.NONE_FAILED)
def settle(run: int, store: str | None = None) -> dict[str, Any]:
    """What needs the rest done first: outcomes of erasure requests, account rows that nothing refers to."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return steps.settle(run)


@task(pool=POSTGRES_POOL, multiple_outputs=False)
def validate(run: int, store: str | None = None) -> dict[str, Any]:
    """Great Expectations over the stores, with queries of its own; a failed expectation fails the run."""
    with task_process(store):
        from lifecycle.orchestration import steps

        return steps.validate(run)


@task(pool=POSTGRES_POOL, multiple_outputs=False)
def certify(run: int, store: str | None = None) -> dict[str, Any]:
    """Closes the run and writes its certificate. Tells other DAGs by an asset event, unless nothing was done."""
    with task_process(store):
        from airflow.sdk.exceptions import AirflowSkipException

        from lifecycle.orchestration import steps

        result = steps.certify(run)
        context = get_current_context()
        if context["params"]["dry_run"]:
            raise AirflowSkipException("dry run: nothing was disposed of, so there is nothing to announce")
        summary = context["ti"].xcom_pull(task_ids="settle")
        counts = {name: summary[name] for name in ("disposed", "kept")}
        for asset in context["task"].outlets:
            context["outlet_events"][asset].extra = {"run": run, "as_of": run_instant().isoformat(), **counts}
        return result


@task(pool=POSTGRES_POOL)
def close(run: int, store: str | None = None) -> None:
    """Teardown, whatever happened: a run that was not certified is marked as failed and its lease is given back."""
    with task_process(store):
        from lifecycle.orchestration import steps

        steps.fail(run)
