"""One DAG that looks every hour how much time is left to every deadline, and fails while there is still time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from lifecycle.deployment import stores
from lifecycle.orchestration import dag_factory
from lifecycle.orchestration.process import task_process
from lifecycle.orchestration.tasks import run_instant


@task(retries=2, multiple_outputs=False)
def watch(store: str | None = None) -> dict[str, Any]:
    """Hours left per dataset and tier, as metrics. Fails when one more run that fails would break a promise."""
    with task_process(store):
        from lifecycle.orchestration import watch as watching

        return watching.watch(run_instant())


for store in stores():
    with DAG(
        dag_id=store.named("watch"),
        dag_display_name=store.titled("Retention: time left"),
        description="Measures when a deadline would be broken if no further run succeeded; rings before it is.",
        # Ten to: the hourly erasure run has ended, and the daily ones are under way or done.
        schedule=dag_factory.utc_cron("50 * * * *"),
        params={"as_of": dag_factory.AS_OF},
        **dag_factory.settings(
            __file__,
            "retention_watch",
            store=store,
            tags={"retention", "audit", "read-only"},
            limit=timedelta(minutes=45),
            deadline=timedelta(minutes=30),
            give_up_after=0,  # an alarm that switches itself off is none
        ),
    ):
        watch(**store.told)
