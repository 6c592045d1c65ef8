"""Lines of many-record objects, as they were staged, past the deadline of their tier, agreement or erasure."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lifecycle.catalog.models import Logs
from lifecycle.policy.models import Rule, Tier, Trigger
from lifecycle.validation.fragments import AT_AS_OF, AT_SETTLED, ends, ends_down, interval, is_asked_for, subject_of_log
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene

UNREADABLE = "logs_unreadable"
_KNOWN = [tier.value for tier in Tier]


def log_checks(scene: Scene, dataset: Logs) -> Iterator[Check]:
    base = sql.SQL("SELECT 1 AS violation FROM {} l WHERE l.dataset = %(dataset)s AND {}")
    params = {**scene.instants, "dataset": dataset.id}
    for tier in (*Tier, None):
        strictest = scene.policy.strictest(dataset.category)
        rule = scene.policy.rule_for(Trigger.DEFAULT, dataset.category, tier) if tier else strictest
        if rule is None or rule.period is None:
            continue
        name = tier.value if tier else "unclassified"
        # A line without a readable clock is unclassified like one without a tier (hard case 23).
        of_tier = (
            sql.SQL("NOT l.broken AND l.tier = {}").format(sql.Literal(tier.value))
            if tier
            else sql.SQL("(l.broken OR (l.tier = ANY ({})) IS NOT TRUE)").format(sql.Literal(_KNOWN))
        )
        past = sql.SQL("{} AND l.clock < %(settled)s AND {} AND {}").format(
            of_tier,
            _past(scene, dataset, rule, tier),
            sql.SQL("{} IS NOT TRUE").format(_keeps(scene, dataset, tier, Trigger.DEFAULT, AT_SETTLED)),
        )
        yield Check(
            f"{dataset.id}_past_deadline.{name}",
            Promise.NEVER_LATE,
            Severity.CRITICAL,
            f"{_spoken(dataset)} of {name} outlives {rule.period} (rule {rule.id}) or its account's terms without a"
            f" reason to stay",
            base.format(scene.stage.logs, past),
            params,
        )
        erasure = scene.reasons.rule(Trigger.ERASURE, dataset.category, tier)
        if erasure is not None and tier is not None:
            yield Check(
                f"erased_{dataset.id}_remain.{name}",
                Promise.NEVER_LATE,
                Severity.CRITICAL,
                f"{_spoken(dataset)} of {name} outlives an erasure request by more than {erasure.period}",
                base.format(
                    scene.stage.logs,
                    sql.SQL("{} AND l.clock < %(settled)s AND {} AND {} IS NOT TRUE").format(
                        of_tier, _erased(scene, erasure), _keeps(scene, dataset, tier, Trigger.ERASURE, AT_SETTLED)
                    ),
                ),
                params,
            )
    yield Check(
        f"{dataset.id}_unclassified",
        Promise.CLASSIFIED,
        Severity.WARNING,
        "Every log record that was read has a clock, a declared tier and a form that can be read",
        base.format(
            scene.stage.logs,
            sql.SQL("(l.broken OR (l.tier = ANY ({})) IS NOT TRUE)").format(sql.Literal(_KNOWN)),
        ),
        params,
    )


def _spoken(dataset: Logs) -> str:
    """The beginning of a sentence about what must be gone."""
    return f"No content ({', '.join(dataset.clear)}) of a log record" if dataset.clear else "No log record"


def _keeps(scene: Scene, dataset: Logs, tier: Tier | None, trigger: Trigger, at: sql.Composable) -> sql.Composable:
    """Holds and open cases; flags and consents do not apply to log lines."""
    subject, reasons = subject_of_log(dataset, "l"), scene.reasons
    above = scene.policy.precedence[: scene.policy.precedence.index(trigger)]
    found = [reasons.held(subject, at)] if Trigger.HOLD in above else []
    if Trigger.CASE in above and reasons.rule(Trigger.CASE, dataset.category, tier) is not None:
        found.append(reasons.case_open(subject.account, at, scene.catalog.messages.subject_ids))
    if any(name == dataset.id for name, _, _ in scene.awaiting):
        found.append(scene.awaits(sql.SQL("(l.clock AT TIME ZONE 'UTC')::date"), dataset.id, None))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(found)) if found else sql.SQL("false")


def _past(scene: Scene, dataset: Logs, rule: Rule, tier: Tier | None) -> sql.Composable:
    """Past the default, or where agreements exist past the terms in effect at both instants."""
    clock = sql.SQL("l.clock")
    if tier is None or scene.policy.rule_for(Trigger.AGREEMENT, dataset.category, tier) is None or rule.period is None:
        return sql.SQL("{} < %(as_of)s").format(ends(clock, rule))
    default = interval(rule.period)

    def past_at(at: sql.Composable) -> sql.Composable:
        ids = scene.catalog.messages.subject_ids
        account = sql.SQL("l.account_id" if ids == "uuid" else "l.account")
        agreed = scene.reasons.agreed(account, clock, dataset.category, at, ids)
        return sql.SQL("{} < %(as_of)s").format(ends_down(clock, sql.SQL("coalesce({}, {})").format(agreed, default)))

    return sql.SQL("{} AND {}").format(past_at(AT_AS_OF), past_at(AT_SETTLED))


def _erased(scene: Scene, rule: Rule) -> sql.Composable:
    lettered = scene.catalog.messages.subject_ids == "text"
    asked_for = (
        is_asked_for(sql.SQL("l.account"), "e", "text") if lettered else sql.SQL("lower(btrim(e.target)) = l.account")
    )
    return sql.SQL(
        "EXISTS (SELECT FROM lifecycle.erasure_requests e WHERE {late} < %(as_of)s"
        " AND (e.completed_at IS NULL OR l.clock <= e.completed_at)"
        " AND ((e.scope = 'account' AND {asked_for})"
        " OR (e.scope = 'message' AND lower(btrim(e.target)) = l.message)))"
    ).format(late=ends(sql.SQL("e.requested_at"), rule), asked_for=asked_for)
