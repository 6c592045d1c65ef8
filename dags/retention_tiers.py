"""One DAG per product tier: prompts and outputs past their time are disposed of, daily."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

from airflow.sdk import DAG

from lifecycle.deployment import stores
from lifecycle.orchestration import dag_factory

for store, tier in product(stores(), ("consumer", "beta", "evaluation", "business")):
    with DAG(
        dag_id=store.named(tier),
        dag_display_name=store.titled(f"Retention: {tier} prompts and outputs"),
        description=f"Disposes of {tier} prompts and outputs before their deadline.",
        # Midnight UTC: then the cut-off, a whole number of days earlier, falls on a boundary of the day partitions, and
        # a partition is due as a whole. At any other time the youngest due day would be cut into.
        schedule=dag_factory.utc_cron("0 0 * * *"),
        params={"as_of": dag_factory.AS_OF, "dry_run": dag_factory.DRY_RUN},
        **dag_factory.settings(
            __file__,
            "retention_tiers",
            store=store,
            tags={"retention", "tier", "destructive"},
            limit=timedelta(hours=12),  # `longest_run` of the policy's lead
            deadline=timedelta(hours=6),  # half of it, so that there is time left to act
            scope=tier,
            give_up_after=7,  # a week of failures is no glitch, and the auditor rings from the second day on
        ),
    ):
        dag_factory.retention_run(tier, store)
