"""What the demo's runs did, in one table: read from lifecycle.runs, plan_units, ledger and validations. Counts only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from rich.console import RenderableType

# The latest run per scope. Due is what the frozen plan wanted to go; the rest is what the run's summary says was done.
_RUNS = """
SELECT DISTINCT ON (r.scope) r.scope, r.run_id, r.status, r.summary,
       (SELECT coalesce(sum((fate.value ->> 'records')::bigint), 0)
          FROM lifecycle.plan_units u, jsonb_each(u.planned) AS fate
         WHERE u.run_id = r.run_id AND split_part(fate.key, ':', 1) <> 'keep') AS due,
       (SELECT count(*) FROM lifecycle.ledger l WHERE l.run_id = r.run_id) AS ledger_rows,
       (SELECT count(*) FROM lifecycle.validations v WHERE v.run_id = r.run_id) AS checks,
       (SELECT count(*) FROM lifecycle.validations v
         WHERE v.run_id = r.run_id AND NOT v.success AND v.severity = 'critical') AS broken
  FROM lifecycle.runs r
 ORDER BY r.scope, r.run_id DESC
"""
_ORDER = ("consumer", "beta", "evaluation", "business", "records", "erasure")


@dataclass(frozen=True)
class ScopeReport:
    """One scope's latest run."""

    scope: str
    status: str
    due: int
    disposed: Mapping[str, int]
    kept: Mapping[str, int]
    ledger_rows: int
    checks: int
    broken: int

    @property
    def verdict(self) -> str:
        if self.broken:
            return f"{self.broken} of {self.checks} checks broken"
        return f"{self.checks} checks passed" if self.status == "succeeded" else self.status

    @property
    def passed(self) -> bool:
        return self.status == "succeeded" and self.broken == 0


def scope_reports(conninfo: str) -> list[ScopeReport]:
    """The latest run of every scope."""
    with psycopg.connect(conninfo, row_factory=dict_row) as conn:
        rows = conn.execute(_RUNS).fetchall()
    return sorted((_report(row) for row in rows), key=lambda report: _ORDER.index(report.scope))


def _report(row: Mapping[str, Any]) -> ScopeReport:
    summary = row["summary"] or {}
    return ScopeReport(
        scope=row["scope"],
        status=row["status"],
        due=int(row["due"]),
        disposed=summary.get("disposed", {}),
        kept=summary.get("kept", {}),
        ledger_rows=int(row["ledger_rows"]),
        checks=int(row["checks"]),
        broken=int(row["broken"]),
    )


def table(reports: Sequence[ScopeReport]) -> RenderableType:
    """The summary that the demo ends with."""
    from rich.table import Table

    shown = Table(title="What the runs did (records)", title_justify="left")
    for name in ("scope", "due", "deleted", "de-identified", "quarantined", "restored", "ledger rows"):
        shown.add_column(name, justify="left" if name == "scope" else "right")
    shown.add_column("kept, and why")
    shown.add_column("verdict")
    for report in reports:
        counts = [report.disposed.get(name, 0) for name in ("delete", "deidentify", "quarantine", "restore")]
        kept = ", ".join(f"{rule} {count:,}" for rule, count in sorted(report.kept.items()) if count)
        numbers = [f"{number:,}" for number in (report.due, *counts, report.ledger_rows)]
        shown.add_row(report.scope, *numbers, kept, report.verdict)
    return shown
