"""The report of a run's validation: JSON for machines, one self-contained HTML page for auditors, write-once in S3.

Counts, rule ids, partition names, hashes and times; never a record's content or identifier (hard case 25).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lifecycle.config import Configuration
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.gx_suite import ValidationReport
from lifecycle.validation.models import PROMISES, CheckResult
from lifecycle.validation.run_facts import LedgerLine, RunFacts, UnitLine, ledger_of, load_run, units_of

if TYPE_CHECKING:
    from markupsafe import Markup
    from mypy_boto3_s3 import S3Client

_JOINTS = re.compile(r"([_./])")
REPORT, VERDICTS = "report.html", "validation.json"
_EXISTS = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


@dataclass(frozen=True)
class Published:
    """Where the report lies in the evidence bucket; ``written`` is False when it stood there already."""

    html_key: str
    json_key: str
    written: bool


def run_prefix(scope: str, as_of: datetime, run_id: int) -> str:
    return f"runs/{as_of.astimezone(UTC).date().isoformat()}/{scope}/{run_id}/"


def publish(
    conn: Connection, s3: S3Client, config: Configuration, report: ValidationReport, checked_at: datetime
) -> Published:
    """Write the report, once. A run that passed keeps its first report; each failed try gets a place of its own."""
    run = load_run(conn, report.run_id)
    prefix = run_prefix(report.scope, report.as_of, report.run_id)
    if not report.passed:
        prefix += f"failed-{checked_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}/"
    ledger, units = ledger_of(conn, report.run_id), units_of(conn, report.run_id)
    data = as_json(report, run, config, checked_at, ledger, units)
    html = as_html(data, config)
    bucket = config.catalog.evidence_bucket
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)
    first = _put_once(s3, bucket, prefix + VERDICTS, text.encode(), "application/json")
    written = _put_once(s3, bucket, prefix + REPORT, html.encode(), "text/html; charset=utf-8")
    return Published(prefix + REPORT, prefix + VERDICTS, first and written)


def _put_once(s3: S3Client, bucket: str, key: str, body: bytes, content_type: str) -> bool:
    """Write an object unless there is one. Returns whether it was written."""
    from botocore.exceptions import ClientError

    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _EXISTS:
            return False
        raise
    return True


def find_report(s3: S3Client, bucket: str, scope: str, as_of: datetime, run_id: int) -> str | None:
    """The key of a run's report: the one it passed with, else that of its last failed try."""
    prefix = run_prefix(scope, as_of, run_id)
    found: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        found.extend(entry["Key"] for entry in page.get("Contents", []) if entry["Key"].endswith(f"/{REPORT}"))
    return prefix + REPORT if prefix + REPORT in found else max(found, default=None)


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def as_json(
    report: ValidationReport,
    run: RunFacts,
    config: Configuration,
    checked_at: datetime,
    ledger: list[LedgerLine],
    units: list[UnitLine],
) -> dict[str, Any]:
    """Everything the report says, in a stable form."""
    return {
        "version": 1,
        "passed": report.passed,
        "broken": report.failures,
        "run": {
            "run_id": run.run_id,
            "run_key": run.run_key,
            "scope": run.scope,
            "as_of": _instant(run.as_of),
            "started_at": _instant(run.started_at),
            "checked_at": _instant(checked_at),
            "policy_sha256": run.policy_hash,
            "datasets_sha256": run.catalog_hash,
            "policy_name": config.policy.name,
            "policy_version": config.policy.version,
        },
        "late": dict((run.summary or {}).get("late") or {}),
        "read": {
            "engine": report.engine,
            "versions_listed": report.versions_listed,
            "quarantine_copies_read": report.copies_read,
        },
        "ledger": {
            "rows": report.ledger_rows,
            "head": report.ledger_head,
            "of_run": [_ledger_line(line) for line in ledger],
        },
        "units": [
            {
                "unit": unit.unit,
                "method": unit.method,
                "status": unit.status,
                "planned": unit.planned,
                "done": unit.progress,
            }
            for unit in units
        ],
        "checks": [result.as_dict() for result in report.results],
    }


def _ledger_line(line: LedgerLine) -> dict[str, Any]:
    return {
        "seq": line.seq,
        "entry": line.entry,
        "unit": line.unit,
        "disposition": line.disposition,
        "rule": line.rule,
        "counts": line.counts,
        "cutoff": _instant(line.cutoff),
        "recorded_at": _instant(line.recorded_at),
        "hash": line.hash,
    }


def verdict_word(check: CheckResult | dict[str, Any]) -> str:
    """One word per check: holds, explained, warning or broken."""
    found = check.as_dict() if isinstance(check, CheckResult) else check
    if found["success"]:
        return "holds" if found["violations"] == 0 else "explained"
    return "broken" if found["severity"] == "critical" else "warning"


def as_html(data: dict[str, Any], config: Configuration) -> str:
    """One page: nothing is loaded from elsewhere, and every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lifecycle.validation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["breakable"] = breakable
    environment.filters["number"] = lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    environment.filters["counts"] = lambda counts: ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items()))
    by_promise = []
    for promise, (title, sentence) in PROMISES.items():
        checks = [check for check in data["checks"] if check["promise"] == promise.value]
        if checks:
            shown = [{**check, "verdict": verdict_word(check)} for check in checks]
            by_promise.append({"title": title, "sentence": sentence, "checks": shown, "verdict": _worst(shown)})
    page: str = environment.get_template("report.html.j2").render(
        **data,
        promises=by_promise,
        rules=config.policy.rules,
        lead=config.policy.lead,
        totals=_totals(data["units"]),
        warnings=sum(verdict_word(check) == "warning" for check in data["checks"]),
    )
    return page


def breakable(name: str) -> Markup:
    """A name that may be broken into lines where it has a joint; escaped."""
    from markupsafe import Markup, escape

    return Markup(_JOINTS.sub(r"\1<wbr>", str(escape(name))))


def _worst(checks: list[dict[str, Any]]) -> str:
    order = ("broken", "warning", "explained", "holds")
    words: list[str] = [check["verdict"] for check in checks]
    return min(words, key=order.index)


def _totals(units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Planned and done records per disposition and rule, over all units."""
    totals: dict[str, dict[str, int]] = {}
    for unit in units:
        for column, source in (("planned", unit["planned"]), ("done", unit["done"])):
            for fate, counts in source.items():
                into = totals.setdefault(fate, {"planned": 0, "done": 0})
                into[column] += counts.get("records", 0)
    return [
        {
            "disposition": fate.split(":", 1)[0],
            "rule": fate.split(":", 1)[1],
            "kept": fate.startswith("keep:"),
            **counts,
        }
        for fate, counts in sorted(totals.items())
        if any(counts.values())
    ]
