"""What the retention DAGs have in common, so that DAG files stay lists of values. Imports airflow.sdk only."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator  # noqa: TID253
from airflow.sdk import Asset, CronTriggerTimetable, Param, chain  # noqa: TID253
from airflow.sdk.definitions.callback import SyncCallback  # noqa: TID253
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference  # noqa: TID253

from lifecycle.deployment import Store
from lifecycle.orchestration import tasks
from lifecycle.orchestration.alerts import FailureNotifier, deadline_at_risk, deadline_missed
from lifecycle.orchestration.cluster import Cluster, configured
from lifecycle.orchestration.cluster import job as submitted
from lifecycle.orchestration.parallel import expire_at_once
from lifecycle.orchestration.retries import RETRY_POLICY

OWNER = "data-protection"

# A closed set: tests refuse any other, so that the filter in the UI stays useful.
TAGS = frozenset({"retention", "tier", "records", "erasure", "audit", "approval", "destructive", "read-only"})

# No backfill: past days have older cut-offs, so a backfill does nothing that the next run does not do better. No asset
# materialisation: it takes no parameters and would hide who asked for the run.
RUN_TYPES = ("scheduled", "manual", "operator_triggered")

AS_OF = Param(
    None,
    type=["null", "string"],
    format="date-time",
    title="As of",
    description="The instant this run works as of. Empty: the logical date, else the time of the run. "
    "A past instant can only spare more; one in the future is refused.",
)
DRY_RUN = Param(
    False,
    type="boolean",
    title="Dry run",
    description="Plans and reports with the same code, and changes nothing in any store.",
)


def settings(
    dag_file: str,
    runbook: str,
    *,
    store: Store,
    tags: set[str],
    limit: timedelta,
    deadline: timedelta,
    give_up_after: int,
    scope: str | None = None,
    at_once: int = 1,
) -> dict[str, Any]:
    """Arguments of a retention DAG.

    Args:
        dag_file: `__file__` of the DAG file; its runbook lies in ../docs/runbooks.
        runbook: name of the runbook, without suffix.
        store: whose DAG it is; its tag is added where there is a file of stores.
        tags: out of TAGS.
        limit: a run that takes longer is failed.
        deadline: an alert goes out when a run is not done this long after it was queued.
        give_up_after: failed runs in a row after which Airflow pauses the DAG; 0 for never.
        scope: what the run disposes of; if it has not succeeded by `limit`, an alert tells when deadlines are at risk.
        at_once: how many runs there may be; more than one only where nothing is destroyed.
    """
    alerts = [_late_alert(runbook, deadline)] + ([_at_risk_alert(runbook, limit, scope, store)] if scope else [])
    return {
        # No start_date: with one, Airflow would run the latest missed slot the moment a new DAG is unpaused, and
        # unpausing must not delete anything by itself.
        "catchup": False,
        "max_active_runs": at_once,
        "max_consecutive_failed_dag_runs": give_up_after,
        "dagrun_timeout": limit,
        "allowed_run_types": RUN_TYPES,
        "tags": sorted(tags | store.tags),
        "doc_md": runbook_text(dag_file, runbook),
        "default_args": task_defaults(),
        "on_failure_callback": FailureNotifier(runbook=runbook),
        "deadline": alerts,
    }


def utc_cron(expression: str) -> CronTriggerTimetable:
    """A schedule in UTC that never makes up for a slot that is over.

    Airflow 3.3 takes ``run_immediately=False`` for "unless the last slot is less than a tenth of the interval ago": a
    daily DAG unpaused before half past two would run at once, as of midnight. No time at all is what is meant.
    """
    return CronTriggerTimetable(expression, timezone="UTC", run_immediately=timedelta(0))


def _late_alert(runbook: str, after: timedelta) -> DeadlineAlert:
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=SyncCallback(deadline_missed, kwargs={"runbook": runbook, "limit": iso8601(after)}),
        name=f"{runbook}-late",
    )


def _at_risk_alert(runbook: str, after: timedelta, scope: str, store: Store) -> DeadlineAlert:
    """Airflow keeps the deadline of a run that failed, so this rings for a run that failed early, too."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=SyncCallback(deadline_at_risk, kwargs={"runbook": runbook, "scope": scope, **store.told}),
        name=f"{scope}-at-risk",
    )


def task_defaults() -> dict[str, Any]:
    """Arguments of every task."""
    return {
        "owner": OWNER,
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": timedelta(hours=6),
    }


def retention_run(scope: str, store: Store) -> None:
    """Wire one run of `scope` into the DAG of the current `with`: the same steps for tiers, records and erasure."""
    told = store.told
    run: Any = _of(store, tasks.check)(scope, **told)
    planned: Any = _of(store, tasks.plan)(run, **told)
    shards: Any = _of(store, tasks.shards)(run, **told)
    certified: Any = _of(store, tasks.certify, outlets=[disposed_asset(scope, store)])(run, **told)
    chain(
        run,
        _of(store, tasks.partition)(run, **told),
        _of(store, tasks.cutoffs)(run, **told),
        planned,
        _of(store, tasks.quarantine)(run, **told),
        shards,
        _of(store, tasks.expire, max_active_tis_per_dagrun=expire_at_once())
        .partial(run=run, **told)
        .expand(unit=shards),
        # The id by way of the plan: a task right after a setup may not have another trigger rule than all_success.
        _of(store, tasks.settle)(planned["run"], **told),
        _of(store, tasks.validate)(run, **told),
        certified,
    )
    if scope == "records" and (cluster := configured()) is not None:
        _prepare_elsewhere(cluster, store, run, planned, shards)
    # A leaf of its own: whoever has to be asked is asked in retention_approval, and this run goes on meanwhile.
    asked = TriggerDagRunOperator.partial(
        task_id="ask",
        trigger_dag_id=store.named("approval"),
        skip_when_already_exists=True,
        pool=store.pool(tasks.POSTGRES_POOL),
    ).expand_kwargs(_of(store, tasks.waiting)(planned["run"], **told))
    # check is the setup: clearing any task in between clears it too, so the lease is taken again before the work is.
    closed: Any = _of(store, tasks.close)(run, **told)
    [certified, asked] >> closed.as_teardown(setups=run)


def _of(store: Store, each: Any, **more: Any) -> Any:
    """A task in the pool of its store."""
    return each.override(pool=store.pool(each.kwargs["pool"]), **more)


def _prepare_elsewhere(cluster: Cluster, store: Store, run: Any, planned: Any, shards: Any) -> None:
    """Log objects are prepared by Spark before units are handed out. If that fails, they are rewritten here."""
    exported: Any = _of(store, tasks.export)(run, **store.told)
    job = submitted(cluster, _of(store, tasks.drivers)(exported))
    chain(planned, exported)
    chain(job, _of(store, tasks.prepared)(), shards)


def approval_run(store: Store) -> None:
    """Wire one question into the DAG of the current `with`: show, ask, check and record, let the work go on."""
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    from lifecycle.orchestration import approval_tasks

    told, pool = store.told, store.pool(tasks.POSTGRES_POOL)
    asked = approval_tasks.AskOperator(
        task_id="ask",
        subject="An approval is being prepared",
        defaults=ApprovalOperator.REJECT,
        response_timeout=approval_tasks.DEFAULT_ANSWER_WITHIN,
        pool=pool,
    )
    recorded: Any = _of(store, approval_tasks.record)(**told)
    again = TriggerDagRunOperator.partial(task_id="go_on", pool=pool).expand(trigger_dag_id=recorded)
    chain(_of(store, approval_tasks.show)(**told), asked, _of(store, approval_tasks.answered)(), recorded, again)


def disposed_asset(scope: str, store: Store) -> Asset:
    """Updated when a run of the scope is certified; other DAGs can be scheduled on it.

    Without a URI: for one with a scheme, Airflow asks all providers, which imports boto3 whenever a DAG file is parsed.
    """
    return Asset(name=store.named(scope), group="retention")


def runbook_text(dag_file: str, name: str) -> str:
    """The runbook beside the DAGs; where docs/ was not deployed, its name: a missing text must not stop disposal."""
    path = Path(dag_file).resolve().parents[1] / "docs" / "runbooks" / f"{name}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else f"Runbook: docs/runbooks/{name}.md of the project."


def iso8601(interval: timedelta) -> str:
    """An interval of whole minutes, like PT6H or PT50M."""
    hours, minutes = divmod(int(interval.total_seconds()) // 60, 60)
    return "PT" + (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes or not hours else "")
