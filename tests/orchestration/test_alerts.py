"""An alert is logged in any case, and sent where a connection says so; it names no record."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest

from lifecycle.demo.servers import free_port
from lifecycle.orchestration import alerts

VARIABLE = "AIRFLOW_CONN_LIFECYCLE_ALERTS"
CONTEXT: dict[str, Any] = {
    "dag_run": SimpleNamespace(dag_id="retention_beta", run_id="scheduled__2026-08-01"),
    "ti": SimpleNamespace(task_id="validate"),
    "reason": "task_failure",
    "exception": ValueError("canary@example.com"),
}


class _Logged(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler = _Logged()
    alerts.log.addHandler(handler)
    yield handler.lines
    alerts.log.removeHandler(handler)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a webhook got."""
    bodies: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = Thread(target=server.serve_forever)
    thread.start()
    channel = {"conn_type": "http", "host": "127.0.0.1", "port": server.server_port}
    monkeypatch.setenv(VARIABLE, json.dumps(channel))
    yield bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_failed_run_is_told_with_its_runbook(received: list[dict[str, Any]], logged: list[str]) -> None:
    alerts.FailureNotifier(runbook="retention_tiers").notify(CONTEXT)  # type: ignore[arg-type]
    assert received == [
        {
            "text": "retention_beta failed: run scheduled__2026-08-01, task validate (task_failure)",
            "kind": "failed",
            "dag_id": "retention_beta",
            "run_id": "scheduled__2026-08-01",
            "task_id": "validate",
            "reason": "task_failure",
            "what_now": "docs/runbooks/retention_tiers.md",
        }
    ]
    assert logged[0].startswith("ERROR retention_beta failed")
    assert "canary" not in json.dumps(received) + "".join(logged)


def test_a_late_run_is_told_from_the_context_of_the_executor(received: list[dict[str, Any]]) -> None:
    run = {"dag_id": "retention_beta", "dag_run_id": "manual__1"}
    alerts.deadline_missed({"dag_run": run}, runbook="retention_tiers", limit="PT6H")
    assert [(told["kind"], told["dag_id"], told["run_id"]) for told in received] == [
        ("late", "retention_beta", "manual__1")
    ]


@pytest.mark.parametrize("channel", ["{}", '{"conn_type": ""}'])
def test_without_a_channel_it_is_logged(monkeypatch: pytest.MonkeyPatch, logged: list[str], channel: str) -> None:
    monkeypatch.setenv(VARIABLE, channel)
    alerts.FailureNotifier(runbook="retention_tiers").notify(CONTEXT)  # type: ignore[arg-type]
    assert len(logged) == 1


def test_a_channel_that_fails_does_not_fail_silently(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    channel = {"conn_type": "http", "host": "127.0.0.1", "port": free_port()}
    monkeypatch.setenv(VARIABLE, json.dumps(channel))
    with pytest.raises(URLError):
        alerts.FailureNotifier(runbook="retention_tiers").notify(CONTEXT)  # type: ignore[arg-type]
    assert len(logged) == 1, "logged before it was sent"


def test_case_26_what_waits_rings_with_its_numbers_and_its_deadline(logged: list[str]) -> None:
    waits = SimpleNamespace(
        approval_id=12,
        subject="plan",
        units={"messages/beta/2026-05-01": 20_000, "messages/beta/2026-05-02": 1},
        shown={},
        deadline=datetime(2026, 8, 4, tzinfo=UTC),
    )
    alerts.deliver(alerts.waiting_alert(CONTEXT, waits))  # type: ignore[arg-type]
    assert logged[0] == (
        "ERROR retention_beta waiting: run scheduled__2026-08-01 (approval 12 of a plan: 20001 records,"
        " earliest deadline 2026-08-04T00:00:00+00:00); see docs/runbooks/retention_approval.md"
    )
