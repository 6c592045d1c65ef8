"""Records that are not messages: scores, feedback, training examples, accounts, children, research rows."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lifecycle.catalog.models import Accounts, Child, OrphanRecords, Records, StagedRecords, subject_ids_of
from lifecycle.policy.models import Category, Rule, Tier, Trigger
from lifecycle.validation.clocks import day_of, perhaps_before, reading
from lifecycle.validation.exceptions import id_of
from lifecycle.validation.fragments import (
    AT_SETTLED,
    ends,
    is_asked_for,
    relation,
    subject_of,
    subject_of_account,
)
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.queries.stages import (
    agreement_checks,
    judged_as,
    keeps_content,
    of_its_tier,
    orphan_checks,
    refresh_checks,
    remains,
    spoken,
)
from lifecycle.validation.scene import Scene

# What remains of a de-identified message (issue: "and nothing else survives").
RESEARCH_COLUMNS = ("tier", "model", "role", "received_month", "body_chars")
RESEARCH_QUASI_IDENTIFIERS = ("tier", "model", "role", "received_month")
PERMISSION, SAFETY_REVIEW = "permission", "safety_review"


def record_checks(scene: Scene) -> Iterator[Check]:
    for dataset in scene.catalog.records:
        yield _without_clock(dataset)
        if dataset.category is Category.TRAINING_USE:
            yield from _training_checks(scene, dataset)
            continue
        rule = _own_rule(scene, dataset)
        if rule is not None and rule.period is not None:
            yield _past_deadline(scene, dataset, rule)
        yield from agreement_checks(scene, dataset)
    for dataset in scene.catalog.tables:
        yield from orphan_checks(dataset)
        yield from refresh_checks(scene, dataset)
    if scene.catalog.has_accounts:
        yield from _account_checks(scene, scene.catalog.accounts)
    if scene.catalog.has_messages:
        yield from _child_checks(scene)


def erasure_checks(scene: Scene) -> Iterator[Check]:
    """What erasure requests ask of records and accounts."""
    for dataset in scene.catalog.records:
        share = dataset.share_of
        tier = share.tier if share is not None else dataset.tier_is
        rule = scene.reasons.rule(Trigger.ERASURE, dataset.category, tier)
        if rule is not None:
            yield _erased_remain(scene, dataset, rule)
    if not scene.catalog.has_accounts:
        return
    accounts = scene.reasons.rule(Trigger.ERASURE, scene.catalog.accounts.category, None)
    if accounts is not None:
        yield _erased_accounts(scene, scene.catalog.accounts, accounts)


def request_checks(scene: Scene) -> Iterator[Check]:
    """The erasure requests themselves; the hourly run answers them."""
    requests = scene.reasons.rule(Trigger.ERASURE, Category.PROMPTS_AND_OUTPUTS, None)
    if requests is not None:
        yield _open_requests(scene, requests)


def _stays(scene: Scene, dataset: Records | Accounts, trigger: Trigger = Trigger.DEFAULT) -> sql.Composable:
    """A legal hold (of content: whatever outranks a trigger), or a unit of the plan that waits for an approval."""
    subject = subject_of_account(dataset, "r") if isinstance(dataset, Accounts) else subject_of(dataset, "r")
    held = scene.reasons.held(subject, AT_SETTLED)
    if isinstance(dataset, Records) and dataset.category is Category.PROMPTS_AND_OUTPUTS:
        held = keeps_content(scene, dataset, subject, trigger)
    waits = scene.awaits_table(dataset, day_of(dataset.clock, "r"))
    return sql.SQL("({} OR {})").format(held, waits) if scene.awaiting else held


def _own_rule(scene: Scene, dataset: Records) -> Rule | None:
    """The rule that ends a dataset's records: its category's default, or for feedback the consent itself."""
    trigger = Trigger.CONSENT if dataset.category is Category.FEEDBACK else Trigger.DEFAULT
    tier = judged_as(dataset)
    if tier is None:
        return scene.policy.strictest(dataset.category)
    return scene.policy.rule_for(trigger, dataset.category, tier)


def _without_clock(dataset: Records) -> Check:
    return Check(
        f"{dataset.id}_without_clock",
        Promise.CLASSIFIED,
        Severity.CRITICAL,
        f"Every row of {dataset.table} has the clock its period counts from",
        sql.SQL("SELECT 1 AS violation FROM {} r WHERE {} IS NULL AND {}").format(
            relation(dataset.table),
            reading(dataset.clock, "r"),
            # A row that has its record goes with it, whatever its own clock says.
            remains(dataset, "r") if isinstance(dataset, OrphanRecords) else of_its_tier(dataset, "r"),
        ),
    )


def _past_deadline(scene: Scene, dataset: Records, rule: Rule) -> Check:
    clock = reading(dataset.clock, "r")
    bound = rule.period.cutoff_bound(scene.settled) if rule.period else scene.settled
    # "Both" kinds may only go once their time is up, so the first run after it is the earliest that could act.
    query = sql.SQL(
        "SELECT 1 AS violation FROM {table} r WHERE {near} AND {end} < %(settled)s AND {held} IS NOT TRUE AND {remains}"
    ).format(
        table=relation(dataset.table),
        remains=remains(dataset, "r"),
        near=perhaps_before(dataset.clock, "r", bound),
        end=ends(clock, rule),
        held=_stays(scene, dataset),
    )
    return Check(
        f"{dataset.id}_past_deadline",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"{spoken(dataset)} is older than {rule.period} (rule {rule.id}) without a reason to stay"
        if isinstance(dataset, StagedRecords)
        else f"{spoken(dataset)} is older than {rule.period} (rule {rule.id}) without a legal hold",
        query,
        {"settled": scene.settled},
    )


def _erased_remain(scene: Scene, dataset: Records, rule: Rule) -> Check:
    columns = {"account": dataset.subject, "conversation": dataset.group, "message": dataset.record}
    clock = reading(dataset.clock, "r")
    per_scope = [
        sql.SQL(
            "SELECT {key} FROM lifecycle.erasure_requests e JOIN {table} r ON {asked_for}"
            " WHERE e.scope = {scope} AND {late} < %(as_of)s AND (e.completed_at IS NULL OR {clock} <= e.completed_at)"
            " AND {clock} < %(settled)s AND {held} IS NOT TRUE AND {remains}"
        ).format(
            remains=remains(dataset, "r"),
            key=sql.SQL(", ").join(sql.Identifier("r", name) for name in dataset.key_columns),
            table=relation(dataset.table),
            asked_for=is_asked_for(
                sql.Identifier("r", column), "e", subject_ids_of(dataset) if scope == "account" else dataset.ids
            ),
            scope=sql.Literal(scope),
            late=ends(sql.SQL("e.requested_at"), rule),
            clock=clock,
            held=_stays(scene, dataset, Trigger.ERASURE),
        )
        for scope, column in columns.items()
        if column is not None
    ]
    return Check(
        f"erased_{dataset.id}_remain",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"{spoken(dataset)} outlives an erasure request by more than {rule.period} without a legal hold",
        sql.SQL("SELECT 1 AS violation FROM ({}) x").format(sql.SQL(" UNION ").join(per_scope)),
        scene.instants,
    )


def _training_checks(scene: Scene, dataset: Records) -> Iterator[Check]:
    if dataset.basis is None or dataset.record is None:
        return
    message = sql.Identifier("r", dataset.record)
    held = _stays(scene, dataset)
    query = sql.SQL(
        "SELECT 1 AS violation FROM {table} r WHERE {clock} < %(settled)s"
        " AND (r.{basis} = {permission} OR (r.{basis} = {review} AND {flagged})) IS NOT TRUE AND {held} IS NOT TRUE"
    ).format(
        table=relation(dataset.table),
        clock=reading(dataset.clock, "r"),
        basis=sql.Identifier(dataset.basis),
        permission=sql.Literal(PERMISSION),
        review=sql.Literal(SAFETY_REVIEW),
        flagged=scene.reasons.flagged(message, AT_SETTLED),
        held=held,
    )
    yield Check(
        "training_without_basis",
        Promise.TRAINING_USE,
        Severity.CRITICAL,
        "Every training example rests on a permission, or on a safety flag that is not cleared",
        query,
        {"settled": scene.settled},
    )
    gone = sql.SQL(
        "SELECT 1 AS violation FROM {table} r WHERE {clock} < %(settled)s AND {missing} AND {held} IS NOT TRUE"
    ).format(
        table=relation(dataset.table),
        clock=reading(dataset.clock, "r"),
        missing=_message_is_gone(scene, message),
        held=held,
    )
    yield Check(
        "training_without_message",
        Promise.TRAINING_USE,
        Severity.CRITICAL,
        "No training example outlives the message it was made from",
        gone,
        {"settled": scene.settled},
    )


def _message_is_gone(scene: Scene, message: sql.Composable) -> sql.Composable:
    dataset = scene.catalog.messages
    return sql.SQL(
        "(NOT EXISTS (SELECT FROM {messages} k WHERE k.{record} = {message})"
        " AND NOT EXISTS (SELECT FROM lifecycle.quarantine q WHERE q.message_id = {message}))"
    ).format(messages=relation(dataset.table), record=sql.Identifier(dataset.record), message=message)


def _child_checks(scene: Scene) -> Iterator[Check]:
    """Rows of child tables whose record is gone. A flag may come after its message went, so that is only reported."""
    counted = {dataset.table for dataset in scene.catalog.records}
    for child in scene.catalog.messages.children:
        if child.table in counted:
            continue
        yield Check(
            f"children_without_message.{child.table.split('.', 1)[1]}",
            Promise.AGREEMENT,
            Severity.CRITICAL if child.moves else Severity.WARNING,
            f"No row of {child.table} outlives its message",
            sql.SQL("SELECT 1 AS violation FROM {} c WHERE {}").format(
                relation(child.table), _message_is_gone(scene, id_of(sql.Identifier("c", child.key), child.ids))
            ),
        )


def _has_personal_data(dataset: Accounts) -> sql.Composable:
    return sql.SQL("({})").format(
        sql.SQL(" OR ").join(sql.SQL("r.{} IS NOT NULL").format(sql.Identifier(name)) for name in dataset.personal)
    )


def _account_checks(scene: Scene, dataset: Accounts) -> Iterator[Check]:
    clock, key = reading(dataset.clock, "r"), sql.Identifier("r", dataset.key)
    held = _stays(scene, dataset)
    rule = scene.policy.rule_for(Trigger.DEFAULT, dataset.category, Tier.CONSUMER)
    if rule is not None and rule.period is not None:
        inactive = sql.SQL(
            "SELECT 1 AS violation FROM {table} r WHERE {near} AND {end} < %(settled)s AND {held} IS NOT TRUE"
        ).format(
            table=relation(dataset.table),
            near=perhaps_before(dataset.clock, "r", rule.period.cutoff_bound(scene.settled)),
            end=ends(clock, rule),
            held=held,
        )
        params = {"settled": scene.settled}
        yield Check(
            "accounts_past_inactivity",
            Promise.NEVER_LATE,
            Severity.CRITICAL,
            f"No account without interaction for {rule.period} has personal data, unless it is under hold",
            sql.SQL("{} AND {}").format(inactive, _has_personal_data(dataset)),
            params,
        )
        yield Check(
            "accounts_nobody_refers_to",
            Promise.NEVER_LATE,
            Severity.WARNING,
            f"No account without interaction for {rule.period} stays when no table refers to it",
            sql.SQL("{} AND NOT ({})").format(inactive, _referenced(dataset, key)),
            params,
        )


def _erased_accounts(scene: Scene, dataset: Accounts, rule: Rule) -> Check:
    clock, key = reading(dataset.clock, "r"), sql.Identifier("r", dataset.key)
    return Check(
        "erased_accounts_remain",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"No account has personal data {rule.period} after its erasure was asked for, unless it is under hold",
        sql.SQL(
            "SELECT 1 AS violation FROM (SELECT {key} FROM lifecycle.erasure_requests e JOIN {table} r ON"
            " {asked_for}"
            " WHERE e.scope = 'account' AND {late} < %(as_of)s AND (e.completed_at IS NULL OR {clock} <="
            " e.completed_at)"
            " AND {clock} < %(settled)s AND {personal} AND {held} IS NOT TRUE GROUP BY 1) x"
        ).format(
            key=key,
            table=relation(dataset.table),
            asked_for=is_asked_for(key, "e", dataset.ids),
            late=ends(sql.SQL("e.requested_at"), rule),
            clock=clock,
            personal=_has_personal_data(dataset),
            held=_stays(scene, dataset),
        ),
        scene.instants,
    )


def _referenced(dataset: Accounts, key: sql.Composable) -> sql.Composable:
    def by_text(child: Child) -> bool:
        """The quarantine has accounts as uuids, and others as text in a column of their own."""
        return dataset.ids != "uuid" and child.table == "lifecycle.quarantine"

    return sql.SQL(" OR ").join(
        sql.SQL("EXISTS (SELECT FROM {} x WHERE x.{} = {})").format(
            relation(child.table),
            sql.Identifier("account" if by_text(child) else child.key),
            sql.SQL("{}::text").format(key) if by_text(child) else key,
        )
        for child in dataset.referenced_by
    )


def research_checks(scene: Scene) -> Iterator[Check]:
    """The de-identified rows: only the agreed columns, only the tiers the policy names, no small groups."""
    name = scene.catalog.messages.research.table
    table = relation(name)
    schema, bare = name.split(".", 1)
    yield Check(
        "research_columns",
        Promise.DEIDENTIFIED,
        Severity.CRITICAL,
        f"{name} has exactly the columns {', '.join(RESEARCH_COLUMNS)}: no identifier, no content",
        sql.SQL(
            "SELECT 1 AS violation FROM (SELECT a.attname::text AS name FROM pg_attribute a"
            " WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped) have"
            " FULL JOIN unnest(%(columns)s::text[]) AS want (name) USING (name) WHERE have IS NULL OR want IS NULL"
        ),
        {"table": sql.Identifier(schema, bare).as_string(None), "columns": list(RESEARCH_COLUMNS)},
    )
    tiers = sorted({tier.value for rule in scene.policy.rules if rule.instead_of is not None for tier in rule.tiers})
    yield Check(
        "research_tiers",
        Promise.DEIDENTIFIED,
        Severity.CRITICAL,
        f"{name} holds only records of tiers that may be de-identified ({', '.join(tiers) or 'none'})",
        sql.SQL("SELECT 1 AS violation FROM {} r WHERE (r.tier = ANY (%(tiers)s)) IS NOT TRUE").format(table),
        {"tiers": tiers},
    )
    yield Check(
        "research_months",
        Promise.DEIDENTIFIED,
        Severity.CRITICAL,
        f"{name} knows no time finer than a month",
        sql.SQL("SELECT 1 AS violation FROM {} r WHERE extract(day FROM r.received_month) <> 1").format(table),
    )
    yield Check(
        "research_small_groups",
        Promise.DEIDENTIFIED,
        Severity.WARNING,
        f"No group of research records is smaller than {scene.policy.thresholds.k_anonymity}",
        sql.SQL("SELECT 1 AS violation FROM {} r GROUP BY {} HAVING count(*) < %(k)s").format(
            table, sql.SQL(", ").join(sql.Identifier("r", name) for name in RESEARCH_QUASI_IDENTIFIERS)
        ),
        {"k": scene.policy.thresholds.k_anonymity},
    )


def _open_requests(scene: Scene, rule: Rule) -> Check:
    return Check(
        "erasure_requests_open",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"Every erasure request has its outcome within {rule.period}",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.erasure_requests e WHERE e.completed_at IS NULL AND {} < %(as_of)s"
        ).format(ends(sql.SQL("e.requested_at"), rule)),
        {"as_of": scene.as_of},
    )
