"""The console's lines of what is disposed of row by row, and of log objects."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Accounts, Logs, Records
from lifecycle.config import Configuration
from lifecycle.console.counting import RECORDS, cutoff, due_and_kept, horizon, late_counts, oldest
from lifecycle.console.model import Line
from lifecycle.policy.models import Category, Rule, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.auditor import count
from lifecycle.validation.clocks import perhaps_before, reading
from lifecycle.validation.fragments import (
    AT_AS_OF,
    ends,
    relation,
    subject_of,
    subject_of_account,
)
from lifecycle.validation.models import Check
from lifecycle.validation.queries import records
from lifecycle.validation.queries.stages import judged_as, remains
from lifecycle.validation.scene import Scene


def record_lines(conn: Connection, scene: Scene) -> Iterator[Line]:
    late = {check.name: check for check in (*records.record_checks(scene), *records.erasure_checks(scene))}
    for dataset in scene.catalog.row_by_row:
        if dataset.category is Category.TRAINING_USE:
            yield _training(conn, scene, dataset, late)
            continue
        trigger = Trigger.CONSENT if dataset.category is Category.FEEDBACK else Trigger.DEFAULT
        rule = _rule_of(scene, dataset, trigger)
        if rule is None or rule.period is None:
            continue
        is_account = isinstance(dataset, Accounts)
        names = ("accounts_past_inactivity", "erased_accounts_remain") if is_account else (
            f"{dataset.id}_past_deadline", f"erased_{dataset.id}_remain")  # fmt: skip
        overdue, _ = late_counts(conn, [late[name] for name in names if name in late])
        due, kept = due_and_kept(_past_end(conn, scene, dataset, rule))
        share = dataset.share_of if isinstance(dataset, Records) else None
        yield Line(
            tier=share.name if share is not None else "all",
            dataset=dataset.id,
            scope=scene.scope,
            rule=rule.id,
            period=str(rule.period),
            kind=rule.kind.value,
            cutoff=cutoff(scene, rule),
            oldest=oldest(
                conn,
                sql.SQL("SELECT min({}) FROM {} r WHERE {}").format(
                    reading(dataset.clock, "r"), relation(dataset.table), _still_personal(dataset)
                ),
            ),
            due=due,
            overdue=overdue,
            kept=kept,
        )


def _rule_of(scene: Scene, dataset: Records | Accounts, trigger: Trigger) -> Rule | None:
    tier = judged_as(dataset) if isinstance(dataset, Records) else Tier.CONSUMER
    if tier is None:
        return scene.policy.strictest(dataset.category)
    return scene.policy.rule_for(trigger, dataset.category, tier)


def _still_personal(dataset: Records | Accounts) -> sql.Composable:
    if not isinstance(dataset, Accounts):
        return remains(dataset, "r")
    return sql.SQL("({})").format(
        sql.SQL(" OR ").join(sql.SQL("r.{} IS NOT NULL").format(sql.Identifier(name)) for name in dataset.personal)
    )


def _past_end(conn: Connection, scene: Scene, dataset: Records | Accounts, rule: Rule) -> list[tuple[str, int]]:
    if rule.period is None:
        return []
    clock = reading(dataset.clock, "r")
    subject = subject_of_account(dataset, "r") if isinstance(dataset, Accounts) else subject_of(dataset, "r")
    limit = scene.as_of if rule.round_up else horizon(scene)
    return conn.execute(
        sql.SQL(
            "SELECT CASE WHEN {held} THEN 'hold' ELSE 'none' END, count(*) FROM {table} r WHERE {near}"
            " AND {end} < %(limit)s AND {personal} GROUP BY 1"
        ).format(
            held=scene.reasons.held(subject, AT_AS_OF),
            table=relation(dataset.table),
            near=perhaps_before(dataset.clock, "r", rule.period.cutoff_bound(limit)),
            end=ends(clock, rule),
            personal=_still_personal(dataset),
        ),
        {"as_of": scene.as_of, "limit": limit},
    ).fetchall()


def _training(conn: Connection, scene: Scene, dataset: Records | Accounts, late: dict[str, Check]) -> Line:
    """Training examples have no period: they stay as long as their basis does."""
    rule = scene.policy.rule_for(Trigger.DEFAULT, dataset.category, Tier.CONSUMER)
    wanted = [late[name] for name in ("training_without_basis", "training_without_message") if name in late]
    overdue = sum(result.violations for result in count(conn, wanted))
    return Line(
        tier="all",
        dataset=dataset.id,
        scope=scene.scope,
        rule=rule.id if rule else "training_use",
        period=None,
        kind="basis",
        cutoff=None,
        oldest=oldest(
            conn, sql.SQL("SELECT min({}) FROM {} r").format(reading(dataset.clock, "r"), relation(dataset.table))
        ),
        due=overdue,
        overdue=overdue,
    )


def log_line(config: Configuration, dataset: Logs, as_of: datetime) -> Line:
    """What the policy says of log objects; what is there is filled in from the names of their days."""
    rule = config.policy.strictest(dataset.category)
    ahead = config.policy.lead.total.end(as_of, round_up=True)
    return Line(
        tier="all",
        dataset=dataset.id,
        scope=RECORDS,
        rule="by tier",
        period=str(rule.period),
        kind=rule.kind.value,
        cutoff=ahead - rule.period.longest() if rule.period else None,
        oldest=None,
        due=None,
        overdue=None,
    )
