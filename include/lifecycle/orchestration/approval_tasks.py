"""The tasks of retention_approval: a question in Airflow's own form, and a check of who answered (cases 26 and 28).

Airflow's API takes any answer from anybody who may edit the run, with empty or wrong parameters too. So nothing follows
from the answer itself: `record` checks it and writes it down, or refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: TID253  (a DAG file's own import)
from airflow.sdk import TriggerRule, get_current_context, task  # noqa: TID253

from lifecycle.orchestration.process import task_process
from lifecycle.orchestration.tasks import POSTGRES_POOL

REPLY = "reply"
# Until the policy in force has been asked; `AskOperator` puts its own figure in this one's place.
DEFAULT_ANSWER_WITHIN = timedelta(days=1)


@task(pool=POSTGRES_POOL, multiple_outputs=False)
def show(store: str | None = None) -> dict[str, Any]:
    """What waits, as it stands now: subject, table, the hash that the answer is bound to, and how long there is."""
    with task_process(store):
        from lifecycle.orchestration import asking

        return asking.question(int(get_current_context()["params"]["approval"]), datetime.now(UTC))


class AskOperator(ApprovalOperator):
    """Asks what `show` found. No answer is a no."""

    def execute(self, context: Any) -> Any:
        question = context["ti"].xcom_pull(task_ids="show")
        self.subject, self.body = question["subject"], question["body"]
        self.response_timeout = timedelta(seconds=question["seconds"])
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keep the reply first: after a no, Airflow skips what follows by an exception, and the result is lost."""
        names = ("chosen_options", "params_input", "responded_by_user")
        context["ti"].xcom_push(key=REPLY, value={name: event.get(name) for name in names})
        return super().execute_complete(context, event)


@task(pool=POSTGRES_POOL)
def answered() -> None:
    """Skipped after a no, so that `record`, which must run after any answer, does not follow the question directly."""


@task(pool=POSTGRES_POOL, trigger_rule=TriggerRule.NONE_FAILED)
def record(store: str | None = None) -> list[str]:
    """Who answered, what, and whether they may; then in the ledger. Returns the DAGs that have something to do now.

    Raises:
        ApprovalError: nobody answered, somebody who may not, or something else is waiting by now.
    """
    with task_process(store):
        from lifecycle.orchestration import asking

        ti = get_current_context()["ti"]
        question: Mapping[str, Any] = ti.xcom_pull(task_ids="show")
        reply: Mapping[str, Any] | None = ti.xcom_pull(task_ids="ask", key=REPLY)
        return asking.record_reply(question, reply, datetime.now(UTC))
