"""One DAG for what people asked to delete, hourly: without undue delay."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from lifecycle.deployment import stores
from lifecycle.orchestration import dag_factory

for store in stores():
    with DAG(
        dag_id=store.named("erasure"),
        dag_display_name=store.titled("Retention: erasure requests"),
        description="Carries out erasure requests and records their outcome.",
        # Twenty past: clear of the tiers at 00:00 and the records at 01:30, which lock the same partitions for moments.
        schedule=dag_factory.utc_cron("20 * * * *"),
        params={"as_of": dag_factory.AS_OF, "dry_run": dag_factory.DRY_RUN},
        **dag_factory.settings(
            __file__,
            "retention_erasure",
            store=store,
            tags={"retention", "erasure", "destructive"},
            limit=timedelta(hours=3),
            deadline=timedelta(minutes=50),  # before the next one is due
            give_up_after=24,
        ),
    ):
        dag_factory.retention_run("erasure", store)
