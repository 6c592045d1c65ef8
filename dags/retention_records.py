"""One DAG for what is of no single tier: scores, feedback, training examples, accounts, request logs, unclassified."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from lifecycle.deployment import stores
from lifecycle.orchestration import dag_factory

for store in stores():
    with DAG(
        dag_id=store.named("records"),
        dag_display_name=store.titled("Retention: cross-tier records"),
        description="Disposes of scores, feedback, training examples, account data and log records past their time.",
        # After the tiers as a rule: training examples and accounts go when the messages they refer to are gone. When a
        # tier is late, they go a day later, which the lead covers.
        schedule=dag_factory.utc_cron("30 1 * * *"),
        params={"as_of": dag_factory.AS_OF, "dry_run": dag_factory.DRY_RUN},
        **dag_factory.settings(
            __file__,
            "retention_records",
            store=store,
            tags={"retention", "records", "destructive"},
            limit=timedelta(hours=12),
            deadline=timedelta(hours=6),
            give_up_after=7,
            scope="records",
        ),
    ):
        dag_factory.retention_run("records", store)
