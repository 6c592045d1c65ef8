"""One DAG that deletes nothing and trusts nobody: it re-reads the stores, fails on a broken promise (hard case 7)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from lifecycle.deployment import stores
from lifecycle.orchestration import dag_factory
from lifecycle.orchestration.process import task_process
from lifecycle.orchestration.tasks import run_instant


@task(retries=1, multiple_outputs=False)
def audit(store: str | None = None) -> dict[str, Any]:
    """Overdue items, missing runs, broken ledger: counts per promise. Fails when any is not zero."""
    with task_process(store):
        from lifecycle.validation import auditor

        return auditor.audit_task(run_instant())


for store in stores():
    with DAG(
        dag_id=store.named("auditor"),
        dag_display_name=store.titled("Retention: independent auditor"),
        description="Fails when something outlived its deadline, went early, or has no run behind it.",
        # Six hours after the tiers: their deadline alert rings at the same time, from another source.
        schedule=dag_factory.utc_cron("0 6 * * *"),
        params={"as_of": dag_factory.AS_OF},
        **dag_factory.settings(
            __file__,
            "retention_auditor",
            store=store,
            tags={"retention", "audit", "read-only"},
            limit=timedelta(hours=3),
            deadline=timedelta(hours=2),
            give_up_after=0,  # an auditor that pauses itself is the failure it is there to find
        ),
    ):
        audit(**store.told)
