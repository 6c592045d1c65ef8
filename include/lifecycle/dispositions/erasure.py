"""Erasure requests: after everything of their scope that may go has gone, what became of them is written down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from psycopg import sql

from lifecycle.catalog.models import Accounts, Records
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, UnitLease, through_gate
from lifecycle.policy.decide import rule_of_tier
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.stores.postgres.fates import Columns, table
from lifecycle.stores.postgres.guard import AWAITING
from lifecycle.stores.postgres.ids import Ids, exactly
from lifecycle.stores.postgres.present import present

SCOPE_COLUMNS = {"account": "subject", "conversation": "group", "message": "record"}


def settle_requests(context: RunContext, lease: UnitLease) -> dict[str, int]:
    """Set completed_at and outcome of open requests; turn "kept" into "done" where the last keeper has ended.

    Returns:
        how many requests were completed as done, completed as kept, and left open because something still has to go.
    """
    return through_gate(context.conn, context.catalog, lease, partial(_settle, context))


def _settle(context: RunContext, gate: Gate) -> dict[str, int]:
    gate.conn.execute("CREATE TEMP TABLE remaining (request_id uuid, fate text) ON COMMIT DROP")
    for scope in SCOPE_COLUMNS:
        for query in _remaining(context, scope):
            gate.conn.execute(query, context.params)
    order = [
        rule.id for trigger in context.policy.precedence for rule in context.policy.rules if rule.trigger is trigger
    ]
    rows = gate.conn.execute(
        "WITH kept AS (SELECT request_id, bool_or(fate LIKE 'delete:%%' OR fate LIKE 'deidentify:%%'"
        " OR split_part(fate, ':', 2) = %(awaiting)s) AS pending,"
        " array_agg(DISTINCT split_part(fate, ':', 2)) AS rules FROM remaining GROUP BY 1),"
        " settled AS (UPDATE lifecycle.erasure_requests r SET"
        " completed_at = coalesce(r.completed_at, greatest(%(as_of)s, r.requested_at)),"
        " outcome = CASE WHEN k.rules IS NULL THEN 'done' ELSE 'kept: ' || array_to_string(ARRAY("
        "   SELECT x FROM unnest(k.rules) x ORDER BY array_position(%(order)s::text[], x)), ', ') END"
        " FROM lifecycle.erasure_requests q LEFT JOIN kept k USING (request_id) WHERE r.request_id = q.request_id"
        " AND (r.completed_at IS NULL OR r.outcome LIKE 'kept:%%')"
        " AND NOT coalesce(k.pending, false) RETURNING r.outcome)"
        " SELECT CASE WHEN outcome = 'done' THEN 'done' ELSE 'kept' END, count(*) FROM settled GROUP BY 1",
        {"as_of": context.run.as_of, "order": order, "awaiting": AWAITING},
    ).fetchall()
    waiting = gate.conn.execute("SELECT count(*) FROM lifecycle.erasure_requests WHERE completed_at IS NULL").fetchone()
    return {f"requests {name}": count for name, count in rows} | {"requests open": waiting[0] if waiting else 0}


def _insert(
    scope: str,
    source: sql.Composable,
    column: sql.Composable,
    clock: sql.Composable,
    fate: sql.Composable,
    extra: sql.Composable,
    ids: Ids = "uuid",
) -> sql.Composed:
    """Note every row that a request of one scope still finds, with the fate that explains it."""
    return sql.SQL(
        "INSERT INTO remaining SELECT r.request_id, {fate} FROM {source} m JOIN lifecycle.erasure_requests r"
        " ON r.scope = {scope} AND {column}::text = ANY ({exactly})"
        " WHERE (r.completed_at IS NULL OR (r.outcome LIKE 'kept:%%' AND {clock} <= r.completed_at))"
        " AND {clock} < %(as_of)s AND {extra}"
    ).format(
        fate=fate,
        source=source,
        scope=sql.Literal(scope),
        column=column,
        clock=clock,
        extra=extra,
        exactly=exactly("r", ids),
    )


def _remaining(context: RunContext, scope: str) -> Iterable[sql.Composed]:
    if context.catalog.has_messages:
        yield from _remaining_messages(context, scope)
    for dataset in erasable(context):
        found = _of_records(context, dataset, scope)
        if found is not None:
            yield found
    if scope == "account" and context.catalog.has_accounts:
        yield _of_accounts(context, context.catalog.accounts)


def erasable(context: RunContext) -> Iterator[Records]:
    """What a request reaches in ordinary tables: submissions, and content and usage where the policy says so."""
    for dataset in context.catalog.records:
        asked = rule_of_tier(context.policy, Trigger.ERASURE, dataset.category, dataset.ruled_as) is not None
        content = dataset.category in (Category.PROMPTS_AND_OUTPUTS, Category.USAGE_RECORDS)
        if dataset.category is Category.FEEDBACK or (content and asked):
            yield dataset


def _remaining_messages(context: RunContext, scope: str) -> Iterator[sql.Composed]:
    messages = context.messages
    columns, inside = Columns.of(messages), Columns.of_quarantine(messages)
    (named, ids), (quarantined, theirs) = columns.scoped[scope], inside.scoped[scope]
    for tier in Tier:
        of_tier = sql.SQL("m.{} = {}").format(sql.Identifier(messages.tier), sql.Literal(tier.value))
        yield _insert(scope, table(messages.table), named, columns.clock, context.fate(tier), of_tier, ids)
        yield _insert(
            scope,
            sql.SQL("lifecycle.quarantine"),
            quarantined,
            inside.clock,
            context.quarantine_fate(tier),
            sql.SQL("m.tier = {}").format(sql.Literal(tier.value)),
            theirs,
        )
    unknown = sql.SQL("m.{} <> ALL({})").format(sql.Identifier(messages.tier), sql.Literal([t.value for t in Tier]))
    yield _insert(scope, table(messages.table), named, columns.clock, context.fate(None), unknown, ids)


def _of_records(context: RunContext, dataset: Records, scope: str) -> sql.Composed | None:
    columns = Columns.of(dataset)
    if scope not in columns.scoped:
        return None
    named, ids = columns.scoped[scope]
    return _insert(
        scope, table(dataset.table), named, columns.clock, context.record_fate(dataset), present(dataset), ids
    )


def _of_accounts(context: RunContext, dataset: Accounts) -> sql.Composed:
    columns = Columns.of(dataset)
    return _insert(
        "account",
        table(dataset.table),
        columns.subject,
        columns.clock,
        context.record_fate(dataset),
        present(dataset),
        columns.subject_ids,
    )
