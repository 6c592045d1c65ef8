"""What the console's lines have in common: how far the next run reaches, what keeps a row, what is late."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from psycopg import sql

from lifecycle.policy.models import Category, Rule, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.auditor import count
from lifecycle.validation.fragments import (
    AT_AS_OF,
    Subject,
)
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene

RECORDS = "records"
PROMPTS = Category.PROMPTS_AND_OUTPUTS


def horizon(scene: Scene) -> datetime:
    """As-of plus the lead: a maximum that ends before this instant goes in the next run."""
    return scene.policy.lead.total.end(scene.as_of, round_up=True)


def cutoff(scene: Scene, rule: Rule) -> datetime | None:
    """The clock value before which records are due today."""
    if rule.period is None:
        return None
    at = scene.as_of if rule.round_up else horizon(scene)
    found = at - Period(days=rule.period.days, seconds=rule.period.seconds).longest()
    return min(_months_before(found, rule.period.months), scene.as_of)


def _months_before(at: datetime, months: int) -> datetime:
    from dateutil.relativedelta import relativedelta

    return at - relativedelta(months=months)


def late_counts(conn: Connection, checks: Iterable[Check]) -> tuple[int, int]:
    """Overdue, and late but explained, by the auditor's own queries."""
    wanted = [check for check in checks if check.promise is Promise.NEVER_LATE or check.informative]
    results = count(conn, [c for c in wanted if c.severity is Severity.CRITICAL or c.informative])
    overdue = sum(r.violations for r in results if r.severity == Severity.CRITICAL)
    return overdue, sum(r.violations for r in results if r.severity != Severity.CRITICAL)


def reasons(scene: Scene, tier: Tier | None, subject: Subject, triggers: Iterable[Trigger]) -> sql.Composable:
    """Which reason keeps a row, as the name of its trigger; 'none' when none does."""
    branches = []
    for trigger in scene.policy.precedence:
        rule = scene.reasons.rule(trigger, PROMPTS, tier)
        if rule is None or trigger not in triggers:
            continue
        match trigger:
            case Trigger.HOLD:
                condition = scene.reasons.held(subject, AT_AS_OF)
            case Trigger.CASE:
                condition = scene.reasons.case_open(subject.account, AT_AS_OF, subject.account_ids)
            case Trigger.FLAG if subject.message is not None:
                condition = scene.reasons.flagged(subject.message, AT_AS_OF, subject.ids)
            case Trigger.CONSENT if subject.conversation is not None:
                condition = scene.reasons.consented(subject.conversation, rule, AT_AS_OF, subject.ids)
            case _:
                continue
        branches.append(sql.SQL("WHEN {} THEN {}").format(condition, sql.Literal(trigger.value)))
    if not branches:
        return sql.SQL("'none'")
    return sql.SQL("(CASE {} ELSE 'none' END)").format(sql.SQL(" ").join(branches))


def due_and_kept(rows: Iterable[tuple[str, int]]) -> tuple[int, dict[str, int]]:
    """Due, and kept by reason."""
    found = dict(rows)
    return found.pop("none", 0), found


def oldest(conn: Connection, query: sql.Composed, params: dict[str, Any] | None = None) -> datetime | None:
    row = conn.execute(query, params).fetchone()
    return row[0] if row is not None else None
