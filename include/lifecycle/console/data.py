"""The console's queries. Cheap on purpose: the oldest item by index, and counts only beyond the cut-off, where after a
run only survivors are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.errors import QueryCanceled

from lifecycle.catalog.models import Accounts, Logs, Records
from lifecycle.config import Configuration
from lifecycle.console.model import Line, Overview
from lifecycle.console.runs import ledger_state, questions, queues, recent_runs, scope_states
from lifecycle.orchestration.standing import standings
from lifecycle.planning.risk import Standing
from lifecycle.policy.models import Category, Rule, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.auditor import count
from lifecycle.validation.clocks import perhaps_before, reading
from lifecycle.validation.fragments import (
    AT_AS_OF,
    Subject,
    ends,
    ends_down,
    interval,
    relation,
    subject_of,
    subject_of_account,
    subject_of_quarantined,
)
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.prepare import settled
from lifecycle.validation.queries import messages, quarantine, records
from lifecycle.validation.queries.stages import remains
from lifecycle.validation.scene import Scene, Stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
RECORDS = "records"
PROMPTS = Category.PROMPTS_AND_OUTPUTS
# None of the checks used here asks what an audit stages.
_NO_STAGE = Stage(*(sql.Identifier("pg_temp", "nothing"),) * 3)


def overview(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> Overview:
    """Everything the page shows, at one instant."""
    scopes = (*(tier.value for tier in Tier), RECORDS)
    scenes = {
        scope: Scene(config.policy, config.catalog, _NO_STAGE, as_of, settled(conn, config, scope, as_of), scope)
        for scope in scopes
    }
    lines = [*_messages(conn, scenes), *_quarantine(conn, scenes), *_records(conn, scenes[RECORDS])]
    lines.extend(_logs(config, dataset, as_of) for dataset in config.catalog.logs)
    standing = {(s.dataset, s.tier): s for s in _standings(conn, s3, config, as_of)}
    lines = [_with_risk(line, standing.get((line.dataset, line.tier)), config, as_of) for line in lines]
    return Overview(
        as_of=as_of,
        policy_name=config.policy.name,
        policy_version=config.policy.version,
        policy_hash=config.policy_hash,
        lead=str(config.policy.lead.total),
        lines=tuple(lines),
        scopes=tuple(scope_states(conn, config.policy, as_of)),
        runs=tuple(recent_runs(conn)),
        ledger=ledger_state(conn),
        queues=queues(conn, config, as_of),
        questions=tuple(questions(conn)),
    )


def _standings(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> tuple[Standing, ...]:
    """Nothing when it takes too long, as over the backlog of a first run: the rest of the page is worth more."""
    try:
        return standings(conn, s3, config.policy, config.catalog, as_of)
    except QueryCanceled:
        log.warning("the at-risk instants are not shown: measuring them took longer than the page may take")
        return ()


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


def _late(conn: Connection, checks: Iterable[Check]) -> tuple[int, int]:
    """Overdue, and late but explained, by the auditor's own queries."""
    wanted = [check for check in checks if check.promise is Promise.NEVER_LATE or check.informative]
    results = count(conn, [c for c in wanted if c.severity is Severity.CRITICAL or c.informative])
    overdue = sum(r.violations for r in results if r.severity == Severity.CRITICAL)
    return overdue, sum(r.violations for r in results if r.severity != Severity.CRITICAL)


def _reasons(scene: Scene, tier: Tier | None, subject: Subject, triggers: Iterable[Trigger]) -> sql.Composable:
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
                condition = scene.reasons.case_open(subject.account, AT_AS_OF)
            case Trigger.FLAG if subject.message is not None:
                condition = scene.reasons.flagged(subject.message, AT_AS_OF)
            case Trigger.CONSENT if subject.conversation is not None:
                condition = scene.reasons.consented(subject.conversation, rule, AT_AS_OF)
            case _:
                continue
        branches.append(sql.SQL("WHEN {} THEN {}").format(condition, sql.Literal(trigger.value)))
    if not branches:
        return sql.SQL("'none'")
    return sql.SQL("(CASE {} ELSE 'none' END)").format(sql.SQL(" ").join(branches))


def _split(rows: Iterable[tuple[str, int]]) -> tuple[int, dict[str, int]]:
    """Due, and kept by reason."""
    found = dict(rows)
    return found.pop("none", 0), found


def _oldest(conn: Connection, query: sql.Composed, params: dict[str, Any] | None = None) -> datetime | None:
    row = conn.execute(query, params).fetchone()
    return row[0] if row is not None else None


def _messages(conn: Connection, scenes: dict[str, Scene]) -> Iterator[Line]:
    if not scenes[RECORDS].catalog.has_messages:
        return
    for tier in (*Tier, None):
        scene = scenes[tier.value if tier else RECORDS]
        rule = scene.policy.rule_for(Trigger.DEFAULT, PROMPTS, tier) if tier else scene.policy.strictest(PROMPTS)
        if rule is None or rule.period is None:
            continue
        due, kept = _split(_beyond_cutoff(conn, scene, tier, rule))
        checks = messages.tier_checks(scene, tier) if tier else messages.unclassified_checks(scene)
        overdue, explained = _late(conn, checks)
        yield Line(
            tier=tier.value if tier else "unclassified",
            dataset=scene.catalog.messages.id,
            scope=scene.scope,
            rule=rule.id,
            period=str(rule.period),
            kind=rule.kind.value,
            cutoff=cutoff(scene, rule),
            oldest=_oldest(
                conn,
                sql.SQL("SELECT min({clock}) FROM {messages} m WHERE {which}").format(
                    **scene.message_names(), which=_of_tier(scene, tier)
                ),
            ),
            due=due,
            overdue=overdue,
            explained=explained,
            kept=kept,
        )


def _of_tier(scene: Scene, tier: Tier | None) -> sql.Composable:
    column = scene.message_names()["tier"]
    if tier is not None:
        return sql.SQL("{} = {}").format(column, sql.Literal(tier.value))
    return sql.SQL("{} <> ALL ({})").format(column, sql.Literal([each.value for each in Tier]))


def _beyond_cutoff(conn: Connection, scene: Scene, tier: Tier | None, rule: Rule) -> list[tuple[str, int]]:
    """Rows past the default's cut-off by what keeps them; longer terms count as a reason, shorter ones add rows."""
    if rule.period is None:
        return []
    names = scene.message_names()
    reason = _reasons(scene, tier, scene.message_subject, set(Trigger))
    end = ends(names["clock"], rule)
    kept_by_terms: sql.Composable = sql.SQL("false")
    bound = rule.period.cutoff_bound(horizon(scene))
    if tier is not None and scene.policy.rule_for(Trigger.AGREEMENT, PROMPTS, tier) is not None:
        agreed = scene.reasons.agreed(names["account"], names["clock"], PROMPTS, AT_AS_OF)
        terms = sql.SQL("coalesce({}, {})").format(agreed, interval(rule.period))
        kept_by_terms = sql.SQL("{} >= %(horizon)s").format(ends_down(names["clock"], terms))
    rows = conn.execute(
        sql.SQL(
            "SELECT CASE WHEN b.reason = 'none' AND b.terms THEN 'agreement' ELSE b.reason END, count(*) FROM"
            " (SELECT {reason} AS reason, {terms} AS terms FROM {messages} m WHERE {which} AND {clock} < %(bound)s"
            " AND {end} < %(horizon)s AND {clock} < %(as_of)s) b GROUP BY 1"
        ).format(**names, reason=reason, terms=kept_by_terms, which=_of_tier(scene, tier), end=end),
        {"as_of": scene.as_of, "horizon": horizon(scene), "bound": bound},
    ).fetchall()
    found = {name: int(number) for name, number in rows}
    if tier is not None and scene.policy.rule_for(Trigger.AGREEMENT, PROMPTS, tier) is not None:
        found["none"] = found.get("none", 0) + _due_by_shorter_terms(conn, scene, tier, rule)
    return list(found.items())


def _due_by_shorter_terms(conn: Connection, scene: Scene, tier: Tier, rule: Rule) -> int:
    """Rows that the default would still keep and their account's agreement does not."""
    names, terms = scene.message_names(), scene.catalog.agreements
    agreed = scene.reasons.agreed(names["account"], names["clock"], PROMPTS, AT_AS_OF)
    row = conn.execute(
        sql.SQL(
            "SELECT count(*) FROM (SELECT DISTINCT a.{subject} AS account FROM {agreements} a) p JOIN {messages} m"
            " ON {account} = p.account WHERE {which} AND {end} >= %(horizon)s AND {agreed_end} < %(horizon)s"
            " AND {clock} < %(as_of)s AND {reason} = 'none'"
        ).format(
            **names,
            subject=sql.Identifier(terms.subject),
            agreements=relation(terms.table),
            which=_of_tier(scene, tier),
            end=ends(names["clock"], rule),
            agreed_end=ends_down(names["clock"], agreed),
            reason=_reasons(scene, tier, scene.message_subject, set(Trigger)),
        ),
        {"as_of": scene.as_of, "horizon": horizon(scene)},
    ).fetchone()
    return int(row[0]) if row is not None else 0


def _quarantine(conn: Connection, scenes: dict[str, Scene]) -> Iterator[Line]:
    if not scenes[RECORDS].catalog.has_messages:
        return
    for tier in Tier:
        scene = scenes[tier.value]
        rule = scene.policy.rule_for(Trigger.FLAG, PROMPTS, tier)
        if rule is None or rule.period is None:
            continue
        subject = subject_of_quarantined(scene.catalog.messages, "q")
        received, params = sql.Identifier("q", "received_at"), {"tier": tier.value, "as_of": scene.as_of}
        rows = conn.execute(
            sql.SQL(
                "SELECT {reason}, count(*) FROM lifecycle.quarantine q WHERE q.tier = %(tier)s"
                " AND ({end} < %(horizon)s OR NOT {flagged}) GROUP BY 1"
            ).format(
                reason=_reasons(scene, tier, subject, {Trigger.HOLD, Trigger.CASE}),
                end=ends(received, rule),
                flagged=scene.reasons.flagged(sql.Identifier("q", "message_id"), AT_AS_OF),
            ),
            params | {"horizon": horizon(scene)},
        ).fetchall()
        due, kept = _split(rows)
        overdue, explained = _late(conn, quarantine.index_checks(scene, tier))
        yield Line(
            tier=tier.value,
            dataset="quarantine",
            scope=tier.value,
            rule=rule.id,
            period=str(rule.period),
            kind=rule.kind.value,
            cutoff=cutoff(scene, rule),
            oldest=_oldest(
                conn,
                sql.SQL("SELECT min(q.received_at) FROM {} q WHERE q.tier = %(tier)s").format(
                    relation("lifecycle.quarantine")
                ),
                {"tier": tier.value},
            ),
            due=due,
            overdue=overdue,
            explained=explained,
            kept=kept,
        )


def _records(conn: Connection, scene: Scene) -> Iterator[Line]:
    late = {check.name: check for check in (*records.record_checks(scene), *records.erasure_checks(scene))}
    for dataset in scene.catalog.row_by_row:
        if dataset.category is Category.TRAINING_USE:
            yield _training(conn, scene, dataset, late)
            continue
        trigger = Trigger.CONSENT if dataset.category is Category.FEEDBACK else Trigger.DEFAULT
        rule = scene.policy.rule_for(trigger, dataset.category, _tier_of(dataset))
        if rule is None or rule.period is None:
            continue
        is_account = isinstance(dataset, Accounts)
        names = ("accounts_past_inactivity", "erased_accounts_remain") if is_account else (
            f"{dataset.id}_past_deadline", f"erased_{dataset.id}_remain")  # fmt: skip
        overdue, _ = _late(conn, [late[name] for name in names if name in late])
        due, kept = _split(_past_end(conn, scene, dataset, rule))
        yield Line(
            tier="all",
            dataset=dataset.id,
            scope=scene.scope,
            rule=rule.id,
            period=str(rule.period),
            kind=rule.kind.value,
            cutoff=cutoff(scene, rule),
            oldest=_oldest(
                conn,
                sql.SQL("SELECT min({}) FROM {} r WHERE {}").format(
                    reading(dataset.clock, "r"), relation(dataset.table), _still_personal(dataset)
                ),
            ),
            due=due,
            overdue=overdue,
            kept=kept,
        )


def _tier_of(dataset: Records | Accounts) -> Tier:
    return (dataset.tier_is if isinstance(dataset, Records) else None) or Tier.CONSUMER


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
        oldest=_oldest(
            conn, sql.SQL("SELECT min({}) FROM {} r").format(reading(dataset.clock, "r"), relation(dataset.table))
        ),
        due=overdue,
        overdue=overdue,
    )


def _logs(config: Configuration, dataset: Logs, as_of: datetime) -> Line:
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


def _with_risk(line: Line, standing: Standing | None, config: Configuration, as_of: datetime) -> Line:
    """The at-risk instant beside the auditor's counts; for log objects the counts too, which it does not read."""
    if standing is None:
        return line
    known = replace(
        line,
        at_risk=standing.at_risk,
        urgency=standing.state(config.policy, as_of).value,
        after_hold=standing.late.after_hold,
        counted=standing.counted,
    )
    if line.due is not None:
        return known
    return replace(known, oldest=standing.oldest, due=standing.due, overdue=standing.late.overdue)
