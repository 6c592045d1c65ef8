"""When a record's deadline strikes, as one SQL expression per dataset: the set-based twin of ``decide().deadline``.

Compiled from the same policy objects as fates.py, in the same order of precedence. Null where what keeps the record has
no end of its own (an open hold, an open case). Every query binds the parameters of `fates.fate_parameters`.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from lifecycle.catalog.models import Accounts, Catalog, Records
from lifecycle.policy.decide import rule_for_unknown_tier
from lifecycle.policy.models import Category, Policy, Rule, Tier, Trigger
from lifecycle.stores.postgres.fates import (
    ERASURES,
    HOLD_OPEN,
    HOLDS,
    Columns,
    agreed_end,
    case_open,
    consented,
    erased,
    flagged,
    held,
    interval,
    table,
    tier_of,
)
from lifecycle.stores.postgres.ids import Ids, exactly, folded, other, own
from lifecycle.stores.postgres.told import read_from

NEVER = sql.SQL("NULL::timestamptz")


def message_deadline(policy: Policy, catalog: Catalog, tier: Tier | None, alias: str = "m") -> sql.Composable:
    """The deadline of a row of the messages table, of one known tier or of an unknown one (None)."""
    dataset = catalog.messages
    return _deadline(policy, catalog, dataset.category, tier, Columns.of(dataset, alias))


def quarantine_deadline(policy: Policy, catalog: Catalog, tier: Tier, alias: str = "m") -> sql.Composable:
    """The deadline of a row of lifecycle.quarantine, decided as if the message were still in its table."""
    dataset = catalog.messages
    return _deadline(policy, catalog, dataset.category, tier, Columns.of_quarantine(dataset, alias))


def record_deadline(policy: Policy, catalog: Catalog, dataset: Records | Accounts, alias: str = "m") -> sql.Composable:
    """The deadline of a row of an ordinary table, all of one tier as far as rules differ by it."""
    return _deadline(policy, catalog, dataset.category, tier_of(dataset), Columns.of(dataset, alias))


def _deadline(
    policy: Policy, catalog: Catalog, category: Category, tier: Tier | None, columns: Columns
) -> sql.Composable:
    branches: list[sql.Composable] = []
    for trigger in filter(lambda each: catalog.knows(each, category), policy.precedence):
        rule = (
            policy.rule_for(trigger, category, tier)
            if tier is not None
            else rule_for_unknown_tier(policy, trigger, category)
        )
        if rule is not None:
            branches.extend(_branch(rule, columns, catalog, category))
    return sql.SQL("(CASE {} ELSE {} END)").format(sql.SQL(" ").join(branches), NEVER)


def _branch(rule: Rule, columns: Columns, catalog: Catalog, category: Category) -> list[sql.Composable]:
    """``WHEN <the rule applies> THEN <its deadline>``; nothing where the rule cannot concern such a row."""
    always = sql.SQL("true")
    match rule.trigger:
        case Trigger.HOLD:
            return [_when(held(columns, catalog), held_until(columns, catalog))]
        case Trigger.CASE:
            return [_when(case_open(columns, catalog), case_until(columns, catalog))]
        case Trigger.FLAG if columns.record is not None:
            return [_when(flagged(columns.record, catalog, columns.ids), ends(columns.clock, rule))]
        case Trigger.ERASURE:
            return [_when(erased(columns), _erasure_end(columns, rule))]
        case Trigger.CONSENT if category is Category.FEEDBACK:
            return [_when(always, ends(columns.clock, rule))]
        case Trigger.CONSENT if columns.group is not None:
            end = _consent_end(columns.group, catalog, rule, columns.ids)
            return [_when(consented(columns.group, catalog, rule, columns.ids), end)]
        case Trigger.AGREEMENT:
            end = agreed_end(columns, catalog, category)
            return [_when(sql.SQL("{} IS NOT NULL").format(end), end)]
        case Trigger.DEFAULT:
            return [_when(always, ends(columns.clock, rule))]
        case _:
            return []


def _when(condition: sql.Composable, value: sql.Composable) -> sql.Composable:
    return sql.SQL("WHEN {} THEN {}").format(condition, value)


def ends(clock: sql.Composable, rule: Rule) -> sql.Composable:
    """When the rule's own period for a clock ends; null for a rule without one."""
    if rule.period is None:
        return NEVER
    return sql.SQL("lifecycle.period_end({}, {}, {})").format(clock, interval(rule.period), sql.Literal(rule.round_up))


def naming(columns: Columns) -> sql.Composable:
    """True when the row ``x`` of erasure requests names the record, its group or its subject."""
    return _naming(columns, lambda column, ids: sql.SQL("{}::text = ANY ({})").format(column, exactly("x", ids)))


def _naming(columns: Columns, same: Callable[[sql.Composable, Ids], sql.Composable]) -> sql.Composable:
    parts = [
        sql.SQL("(x.scope = {} AND {})").format(sql.Literal(scope), same(column, ids))
        for scope, (column, ids) in columns.scoped.items()
    ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


def holding(columns: Columns, catalog: Catalog) -> sql.Composable:
    """True when the hold ``x`` covers the row: by name, by its dataset, or by the conversation of its message."""
    parts = [
        _naming(columns, lambda column, ids: sql.SQL("lower(btrim(x.target)) = {}").format(folded(column, ids))),
        sql.SQL("(x.scope = 'dataset' AND btrim(x.target) = ANY ({}))").format(
            sql.Literal(list(columns.dataset_names))
        ),
    ]
    if columns.group is None and columns.record is not None and catalog.has_messages:
        parts.append(_names_conversation_of(columns.record, catalog, columns.ids))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


def _names_conversation_of(record: sql.Composable, catalog: Catalog, ids: Ids) -> sql.Composable:
    """For rows that know their message but not its conversation."""
    messages = catalog.messages
    return sql.SQL(
        "(x.scope = 'conversation' AND (EXISTS (SELECT FROM {messages} c WHERE {key} = {record}"
        " AND c.{group}::text = lower(btrim(x.target))) OR EXISTS (SELECT FROM lifecycle.quarantine q"
        " WHERE {quarantined} = {record} AND q.conversation_id::text = lower(btrim(x.target)))))"
    ).format(
        messages=table(messages.table),
        key=other(sql.Identifier("c", messages.record), ids),
        quarantined=other(sql.SQL("q.message_id"), ids),
        group=sql.Identifier(messages.group),
        record=own(record, ids),
    )


_LAST_END = sql.SQL("CASE WHEN bool_or({end} IS NULL) THEN NULL ELSE max({end}) END")


def held_until(columns: Columns, catalog: Catalog) -> sql.Composable:
    """When the last of the holds on the row ends; null when one of them is open."""
    return sql.SQL("(SELECT {last} FROM {holds} x WHERE {open} AND {covers})").format(
        last=_LAST_END.format(end=sql.SQL("x.released_at")),
        holds=HOLDS,
        open=HOLD_OPEN,
        covers=holding(columns, catalog),
    )


def case_until(columns: Columns, catalog: Catalog) -> sql.Composable:
    """When the last of the account's cases is closed; null when one of them is open."""
    cases = catalog.cases
    closed = sql.Identifier("x", cases.closed)
    return sql.SQL(
        "(SELECT {last} FROM {cases} x WHERE {subject} = {row} AND ({closed} IS NULL OR {closed} > %(as_of)s))"
    ).format(
        last=_LAST_END.format(end=closed),
        cases=read_from(cases, columns.subject_ids),
        subject=other(sql.Identifier("x", cases.subject), columns.subject_ids),
        row=own(columns.subject, columns.subject_ids),
        closed=closed,
    )


def _erasure_end(columns: Columns, rule: Rule) -> sql.Composable:
    """The service level of the earliest request that covers the row."""
    asked = sql.SQL(
        "(SELECT min(x.requested_at) FROM {requests} x WHERE (x.completed_at IS NULL OR {clock} <= x.completed_at)"
        " AND {named})"
    ).format(requests=ERASURES, clock=columns.clock, named=naming(columns))
    return ends(asked, rule)


def _consent_end(group: sql.Composable, catalog: Catalog, rule: Rule, ids: Ids) -> sql.Composable:
    """When the last of the submissions that still count stops keeping the row."""
    consents = catalog.consents
    end = ends(sql.Identifier("x", consents.given), rule)
    return sql.SQL(
        "(SELECT max({end}) FROM {t} x WHERE {group} = {row} AND (x.{withdrawn} IS NULL OR x.{withdrawn} > %(as_of)s)"
        " AND {end} >= %(as_of)s)"
    ).format(
        end=end,
        t=read_from(consents, ids),
        group=other(sql.Identifier("x", consents.group), ids),
        row=own(group, ids),
        withdrawn=sql.Identifier(consents.withdrawn),
    )
