"""One DAG that waits for people, so that no other has to: each run asks one question and checks the answer."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from lifecycle.deployment import stores
from lifecycle.orchestration import dag_factory

for store in stores():
    with DAG(
        dag_id=store.named("approval"),
        dag_display_name=store.titled("Retention: approval"),
        description="Asks whether a changed policy, or a plan over its limits, may be carried out.",
        schedule=None,  # triggered by the run that found something waiting
        params={
            "approval": Param(
                type="integer",
                minimum=1,
                title="Approval",
                description="The number of what waits, as `lifecycle policy status` shows it.",
            )
        },
        **dag_factory.settings(
            __file__,
            "retention_approval",
            store=store,
            tags={"retention", "approval"},
            limit=timedelta(days=8),  # longer than the policy's answer_within; a question ends by itself before
            deadline=timedelta(hours=12),  # half of answer_within as shipped: while there is time left to act
            give_up_after=0,
            at_once=20,  # a question that nobody answers must not keep the next one from being asked
        ),
    ):
        dag_factory.approval_run(store)
