"""The console's routes: guarded, self-contained, never stored, fit to be embedded by Airflow alone."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

from lifecycle.config import load_configuration
from lifecycle.console.app import Sources, create_app
from lifecycle.validation import step
from support.store import Store
from validation.healthy import AS_OF, ago, build, put_message, register_run

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "retention_console.py"


def guard(request: Request) -> None:
    if request.headers.get("x-user") != "operator":
        raise HTTPException(401)


@dataclass(frozen=True)
class Console:
    """A client that is let in, and the store behind it."""

    client: TestClient
    store: Store


@pytest.fixture
def console(store: Store) -> Iterator[Console]:
    sources = Sources(load_configuration, lambda: store.s3, lambda: AS_OF)
    parent = FastAPI()
    parent.mount("/retention", create_app([Depends(guard)], sources))
    with TestClient(parent, headers={"x-user": "operator"}) as client:
        yield Console(client, store)


def test_it_cannot_be_built_without_a_guard() -> None:
    with pytest.raises(ValueError, match="guard"):
        create_app([])


@pytest.mark.parametrize("path", ["", "/", "/api/overview", "/report/1", "/explain"])
def test_every_route_is_guarded(console: Console, path: str) -> None:
    assert console.client.get(f"/retention{path}", headers={"x-user": "nobody"}).status_code == 401


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json"])
def test_there_is_no_documentation_to_read_without_login(console: Console, path: str) -> None:
    assert console.client.get(f"/retention/{path}").status_code == 404


def test_the_page_is_self_contained_and_accessible(console: Console) -> None:
    build(console.store)
    answer = console.client.get("/retention/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    page = answer.text
    nonces = set(re.findall(r'nonce="([^"]+)"', page))
    assert len(nonces) == 1
    assert f"'nonce-{nonces.pop()}'" in policy
    assert 'style="' not in page
    assert not re.search(r"https?://|@import|\bsrc=", page)
    assert "prefers-color-scheme: dark" in page
    tables = page.count("<table>")
    assert tables == page.count("<caption>") == 2
    assert page.count('scope="row"') >= 15
    assert "Nothing is overdue." in page
    links = re.findall(r'href="([^"]+)"', page)
    assert all(re.fullmatch(r"explain|report/\d+", link) for link in links)


def test_two_visits_have_two_nonces(console: Console) -> None:
    seen = {re.findall(r'nonce="([^"]+)"', console.client.get("/retention/").text)[0] for _ in range(2)}
    assert len(seen) == 2


def test_what_a_run_says_of_itself_is_escaped(console: Console) -> None:
    run_id = register_run(console.store, "beta")
    console.store.sql("UPDATE lifecycle.runs SET run_key = %s WHERE run_id = %s", '"><script>alert(1)</script>', run_id)
    page = console.client.get("/retention/").text
    assert "<script>alert" not in page
    assert page.count("<script") == 1


def test_overview_is_served_as_json(console: Console) -> None:
    build(console.store)
    answer = console.client.get("/retention/api/overview")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["alarms"] == []
    assert {line["tier"] for line in answer.json()["lines"]} >= {"consumer", "beta", "evaluation", "business"}


def test_a_report_is_streamed_from_the_evidence(console: Console) -> None:
    store = console.store
    run_id = register_run(store, "beta", status="running")
    put_message(store, tier="beta", received_at=ago(days=99), body="late")
    with store.connect() as conn:
        step.validate_run(conn, store.s3, run_id)
    answer = console.client.get(f"/retention/report/{run_id}")
    assert answer.status_code == 200
    assert "messages_<wbr>past_<wbr>deadline" in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert f'href="report/{run_id}"' in console.client.get("/retention/").text


def test_explain_says_what_the_command_line_says(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    """One module of sentences; the name travels in the body, and is neither logged nor in an address (case 25)."""
    caplog.set_level("DEBUG")
    world = build(console.store)
    message = str(world.fresh["consumer"])
    form = console.client.get("/retention/explain")
    assert (form.status_code, form.headers["cache-control"]) == (200, "no-store")
    assert 'method="post"' in form.text and "<script" not in form.text
    answer = console.client.post("/retention/explain", data={"kind": "message", "name": f" {message} "})
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    told = json.loads(console.store.cli("explain", message, "--as-of", AS_OF.isoformat(), "--json").stdout)
    page = html.unescape(answer.text)
    assert [line for line in told["text"].splitlines() if line not in page] == []
    assert page.count('<span class="tag note">decides</span>') == 1
    assert message not in str(answer.request.url)
    assert message not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("life"))
    past = console.client.post(
        "/retention/explain", data={"kind": "account", "name": message, "as_of": "2026-01-01T00:00"}
    )
    assert "No row of that account is in the store." in past.text and "2026-01-01 00:00 UTC" in past.text


def test_explain_refuses_what_is_no_name(console: Console) -> None:
    evil = "<script>alert(1)</script>"
    answer = console.client.post("/retention/explain", data={"kind": evil, "name": evil})
    assert answer.status_code == 200 and "<script" not in answer.text
    assert "Not the name of a message" in answer.text
    wrong = console.client.post("/retention/explain", data={"kind": "message", "name": "x", "as_of": "yesterday"})
    assert "Not a date and time" in wrong.text
    assert console.client.post("/retention/explain", data={"name": "x" * 9000}).status_code == 413
    guarded = console.client.post("/retention/explain", data={"name": "x"}, headers={"x-user": "nobody"})
    assert guarded.status_code == 401


def test_unknown_reports_are_404(console: Console) -> None:
    assert console.client.get("/retention/report/4711").status_code == 404
    assert console.client.get(f"/retention/report/{register_run(console.store, 'beta')}").status_code == 404
    assert console.client.get("/retention/report/1%2F..%2Fother").status_code in (404, 422)


def test_the_console_only_reads(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a query tries, the session is read-only and cannot run for long."""
    seen: dict[str, Any] = {}

    def spy(conn: Any, *_: Any) -> None:
        for name in ("transaction_read_only", "statement_timeout"):
            seen[name] = conn.execute("SELECT current_setting(%s)", (name,)).fetchone()[0]
        raise HTTPException(418)

    monkeypatch.setattr("lifecycle.console.app.overview", spy)
    assert console.client.get("/retention/api/overview").status_code == 418
    assert seen == {"transaction_read_only": "on", "statement_timeout": "20s"}


WITH_AIRFLOW = """
import json, sys
sys.path.insert(0, {plugins!r})
import retention_console as plugin
cold = sorted({{"fastapi", "lifecycle.console.app", "great_expectations", "boto3"}} & set(sys.modules))
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient
manager = create_auth_manager()
manager.init()
parent = FastAPI()
entry = plugin.RetentionConsole.fastapi_apps[0]
parent.mount(entry["url_prefix"], entry["app"])
def status(path, token=None):
    headers = {{"Authorization": "Bearer " + token}} if token else {{}}
    with TestClient(parent) as client:
        return client.get("/retention" + path, headers=headers).status_code
def token(role):
    return manager.generate_jwt(SimpleAuthManagerUser(username="u", role=role))
paths = ["", "/", "/api/overview", "/report/1"]
print(json.dumps({{
    "cold": cold,
    "view": plugin.RetentionConsole.external_views[0],
    "nobody": [status(path) for path in paths],
    "forged": [status(path, "x.y.z") for path in paths],
    "viewer": [status(path, token("VIEWER")) for path in paths],
}}))
"""


@pytest.mark.slow
def test_airflows_own_login_decides(store: Store, tmp_path: Path) -> None:
    """With Airflow's real dependencies, in a process of its own: 401 without a token, the page with a viewer's."""
    env = {
        **os.environ,
        **store.env,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__BASE_URL": "http://localhost:8080/data/airflow",
        "AIRFLOW__API_AUTH__JWT_SECRET": "0" * 64,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
    }
    script = WITH_AIRFLOW.format(plugins=str(PLUGIN.parent))
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nobody"] == [401] * 4
    assert found["forged"] == [403] * 4
    assert found["viewer"] == [200, 200, 200, 404]
    assert found["cold"] == []
    assert found["view"] == {
        "name": "Retention",
        "href": "/data/airflow/retention/",
        "destination": "nav",
        "url_route": "retention",
    }
