"""The report: written once, self-contained, everything escaped, fit for print and for machines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from lifecycle.config import Configuration, load_configuration
from lifecycle.validation import step
from lifecycle.validation.report import find_report, run_prefix
from support.store import Store
from validation.healthy import AS_OF, ago, put_message, register_run

BUCKET = "lifecycle-evidence"


def judge(store: Store, run_id: int) -> bool:
    with store.connect() as conn:
        return step.validate_run(conn, store.s3, run_id).passed


def test_the_verdicts_are_stored_and_the_report_is_published(store: Store) -> None:
    run_id = register_run(store, "beta", status="running")
    assert judge(store, run_id)
    stored = store.sql("SELECT name, success FROM lifecycle.validations WHERE run_id = %s", run_id)
    assert len(stored) > 25
    prefix = f"runs/{AS_OF.date()}/beta/{run_id}/"
    assert store.keys(BUCKET, "runs/") == [f"{prefix}report.html", f"{prefix}validation.json"]
    data = json.loads(store.read_object(BUCKET, f"{prefix}validation.json"))
    assert data["passed"] is True
    assert {check["name"] for check in data["checks"]} == {row[0] for row in stored}
    assert data["run"]["policy_sha256"] == "p" * 64
    page = store.read_object(BUCKET, f"{prefix}report.html").decode()
    assert "Every promise holds." in page
    assert data["ledger"]["head"] in page


def test_a_certified_report_is_never_replaced(store: Store) -> None:
    run_id = register_run(store, "beta", status="running")
    judge(store, run_id)
    first = store.versions(BUCKET, "runs/")
    assert judge(store, run_id)
    assert store.versions(BUCKET, "runs/") == first
    assert store.value("SELECT count(DISTINCT checked_at) FROM lifecycle.validations") == 1


def test_each_failed_try_keeps_its_report_and_the_run_can_still_pass(store: Store) -> None:
    run_id = register_run(store, "beta", status="running")
    message = put_message(store, tier="beta", received_at=ago(days=99), body="late")
    assert not judge(store, run_id)
    assert not judge(store, run_id)
    failed = [key for key in store.keys(BUCKET, "runs/") if key.endswith("report.html")]
    assert len(failed) == 2
    assert find_report(store.s3, BUCKET, "beta", AS_OF, run_id) == max(failed)
    assert "found a promise broken" in store.read_object(BUCKET, failed[0]).decode()
    store.sql("DELETE FROM app.messages WHERE message_id = %s", message)
    assert judge(store, run_id)
    assert find_report(store.s3, BUCKET, "beta", AS_OF, run_id) == f"{run_prefix('beta', AS_OF, run_id)}report.html"
    assert store.value("SELECT bool_and(success) FROM lifecycle.validations WHERE run_id = %s", run_id)


def test_there_is_no_report_of_a_run_that_was_not_validated(store: Store) -> None:
    assert find_report(store.s3, BUCKET, "beta", AS_OF, 7) is None
    assert find_report(store.s3, BUCKET, "beta", AS_OF + timedelta(days=1), 7) is None


class Links(HTMLParser):
    """What a page would load or point to, and whether its elements are closed in order."""

    VOID = frozenset({"meta", "link", "br", "wbr", "hr", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(store: Store, monkeypatch: pytest.MonkeyPatch, config: Configuration) -> str:
    monkeypatch.setattr(step, "load_configuration", lambda: config)
    run_id = register_run(store, "beta", status="running")
    store.sql("UPDATE lifecycle.runs SET run_key = %s WHERE run_id = %s", "dag/<script>alert(1)</script>", run_id)
    store.insert(
        "lifecycle.plan_units",
        run_id=run_id,
        unit='<img src="x">',
        dataset="messages",
        method="rows",
        planned='{"keep:<b>": {"records": 1234567}}',
        status="done",
    )
    judge(store, run_id)
    return store.read_object(BUCKET, f"runs/{AS_OF.date()}/beta/{run_id}/report.html").decode()


def test_the_page_loads_nothing_and_escapes_everything(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_configuration()
    rule = config.policy.rules[0].model_copy(update={"basis": "<script>alert(2)</script> and more"})
    policy = config.policy.model_copy(update={"rules": (rule, *config.policy.rules[1:])})
    page = page_of(store, monkeypatch, replace(config, policy=policy))
    links = Links()
    links.feed(page)
    assert (links.loads, links.open) == ([], [])
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"https?://|url\(|@import", page)
    for wanted in ("prefers-color-scheme: dark", "@media print", 'lang="en"', "Signature", 'scope="col"'):
        assert wanted in page
