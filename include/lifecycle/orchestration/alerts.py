"""Who is told, and how, when a run fails or is late.

Importable by its dotted path: Airflow calls deadline callbacks in other processes, which cannot import a DAG file.
Every alert is logged at ERROR. It is also sent where the Airflow connection `lifecycle_alerts` points, if there is one:
conn_type `http` or `https` gets a JSON POST (enough for chat webhooks), `smtp` gets a mail (extra: {"from", "to"}).
Alerts name DAGs, runs and tasks, never records and never the text of an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier  # noqa: TID253  (a DAG file's own import)

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from airflow.sdk.definitions.context import Context

    from lifecycle.ledger.approvals import Approval

ALERT_CONNECTION = "lifecycle_alerts"
SEND_TIMEOUT_S = 10.0

log = logging.getLogger("lifecycle.alerts")


@dataclass(frozen=True)
class Alert:
    """What is said: kind is 'failed', 'late', 'at risk' or 'waiting'; `what_now` names the runbook."""

    kind: str
    dag_id: str
    run_id: str
    task_id: str | None
    reason: str
    what_now: str

    def headline(self) -> str:
        """One line, fit for a subject."""
        where = f", task {self.task_id}" if self.task_id else ""
        return f"{self.dag_id} {self.kind}: run {self.run_id}{where} ({self.reason})"


class FailureNotifier(BaseNotifier):
    """Tells that a DAG run failed. Airflow runs it in the DAG processor, once per failed run."""

    template_fields = ("runbook",)

    def __init__(self, runbook: str) -> None:
        super().__init__()
        self.runbook = runbook

    def notify(self, context: Context) -> None:
        """Log the failure and send it on."""
        deliver(failure_alert(context, self.runbook))


def failure_alert(context: Mapping[str, Any], runbook: str) -> Alert:
    """The alert for a failed DAG run, from the context of its callback."""
    run = context.get("dag_run")
    instance = context.get("ti") or context.get("task_instance")
    return Alert(
        kind="failed",
        dag_id=str(getattr(run, "dag_id", "unknown")),
        run_id=str(getattr(run, "run_id", "unknown")),
        task_id=getattr(instance, "task_id", None),
        reason=str(context.get("reason") or "task_failure"),
        what_now=f"docs/runbooks/{runbook}.md",
    )


def waiting_alert(context: Mapping[str, Any], found: Approval) -> Alert:
    """The alert for what waits for an approval: how much, and until when the deadline can still be met (case 26)."""
    run = context.get("dag_run")
    until = f", earliest deadline {found.deadline.isoformat()}" if found.deadline is not None else ""
    records = sum(found.units.values()) if found.units else found.shown.get("affected", 0)
    return Alert(
        kind="waiting",
        dag_id=str(getattr(run, "dag_id", "unknown")),
        run_id=str(getattr(run, "run_id", "unknown")),
        task_id=None,
        reason=f"approval {found.approval_id} of a {found.subject}: {records} records{until}",
        what_now="docs/runbooks/retention_approval.md",
    )


def deadline_missed(context: Mapping[str, Any] | None = None, *, runbook: str, limit: str) -> None:
    """Deadline callback: a run is still not done `limit` (ISO 8601) after it was queued."""
    run = (context or {}).get("dag_run") or {}
    deliver(
        Alert(
            kind="late",
            dag_id=_read(run, "dag_id"),
            run_id=_read(run, "dag_run_id", "run_id"),
            task_id=None,
            reason=f"not done {limit} after it was queued",
            what_now=f"docs/runbooks/{runbook}.md",
        )
    )


def deadline_at_risk(
    context: Mapping[str, Any] | None = None, *, runbook: str, scope: str, store: str | None = None
) -> None:
    """Deadline callback, as long after a run was queued as the longest run takes: if the run has not succeeded by then,
    it measures how much time is left, and tells when one more failure would break a promise.

    A run that failed keeps its deadline in Airflow; when a later run has caught up meanwhile, nothing is said.
    """
    from lifecycle.deployment import using
    from lifecycle.errors import DeadlineAtRiskError
    from lifecycle.orchestration.watch import check_scopes

    run = (context or {}).get("dag_run") or {}
    try:
        with using(store):
            check_scopes([scope], datetime.now(UTC))
    except DeadlineAtRiskError as error:
        deliver(
            Alert(
                kind="at risk",
                dag_id=_read(run, "dag_id"),
                run_id=_read(run, "dag_run_id", "run_id"),
                task_id=None,
                reason=str(error),
                what_now=f"docs/runbooks/{runbook}.md",
            )
        )


def deliver(alert: Alert) -> None:
    """Log the alert, then send it if a channel is configured. A channel that fails raises: the alert was logged."""
    log.error("%s; see %s", alert.headline(), alert.what_now)
    channel = _channel()
    if channel is None:
        return
    if channel.conn_type == "smtp":
        _mail(channel, alert)
    else:
        _post(channel, alert)
    log.info("alert sent over connection %s (%s)", ALERT_CONNECTION, channel.conn_type)


def _channel() -> Connection | None:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        channel: Connection = Connection.get(ALERT_CONNECTION)
    except AirflowNotFoundException:
        return None
    return channel if channel.conn_type else None  # {} in the environment means: nowhere else


def _post(channel: Connection, alert: Alert) -> None:
    from urllib.request import Request, urlopen

    scheme = "https" if "https" in (channel.conn_type, channel.schema) else "http"
    port = f":{channel.port}" if channel.port else ""
    path = str(channel.extra_dejson.get("path", "/"))
    body = json.dumps({"text": alert.headline(), **asdict(alert)}).encode()
    headers = {"Content-Type": "application/json"}
    if channel.password:
        headers["Authorization"] = f"Bearer {channel.password}"
    request = Request(f"{scheme}://{channel.host}{port}{path}", data=body, headers=headers, method="POST")
    with urlopen(request, timeout=SEND_TIMEOUT_S) as response:
        response.read()


def _mail(channel: Connection, alert: Alert) -> None:
    from email.message import EmailMessage
    from smtplib import SMTP

    message = EmailMessage()
    message["From"], message["To"] = channel.extra_dejson["from"], channel.extra_dejson["to"]
    message["Subject"] = alert.headline()
    message.set_content(f"{alert.headline()}\n\nWhat to do: {alert.what_now}\n")
    with SMTP(channel.host or "localhost", channel.port or 25, timeout=SEND_TIMEOUT_S) as server:
        if channel.login:
            server.starttls()
            server.login(channel.login, channel.password or "")
        server.send_message(message)


def _read(run: Any, *names: str) -> str:
    """A field of a run that comes as a mapping (executor) or as an object (DAG processor)."""
    for name in names:
        value = run.get(name) if isinstance(run, Mapping) else getattr(run, name, None)
        if value is not None:
            return str(value)
    return "unknown"
