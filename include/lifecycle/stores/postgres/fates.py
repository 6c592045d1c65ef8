"""The set-based twin of policy/decide.py: one SQL expression per dataset, compiled from the policy and the catalog.

A fate is text ``<disposition>:<rule>``, for example ``delete:consumer_default`` or ``keep:legal_obligation``. Every
query binds the parameters of `fate_parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from lifecycle.catalog.models import Accounts, Catalog, Messages, Records, subject_ids_of
from lifecycle.policy.decide import UNCLASSIFIED, horizon, rule_for_unknown_tier
from lifecycle.policy.models import Category, Disposition, Policy, Rule, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.ids import Ids, exactly, folded, other, own
from lifecycle.stores.postgres.told import read_from

HOLDS = sql.Identifier("lifecycle", "legal_holds")
ERASURES = sql.Identifier("lifecycle", "erasure_requests")


def table(name: str) -> sql.Identifier:
    """``schema.table`` as one quoted identifier."""
    return sql.Identifier(*name.split(".", 1))


def interval(period: Period) -> sql.Composable:
    return sql.SQL("make_interval(months => {}, days => {}, secs => {})").format(
        sql.Literal(period.months), sql.Literal(period.days), sql.Literal(period.seconds)
    )


def fate_parameters(policy: Policy, as_of: datetime) -> dict[str, Any]:
    return {"as_of": as_of, "horizon": horizon(policy, as_of)}


@dataclass(frozen=True)
class Columns:
    """The columns of one dataset that its fate depends on, qualified by the query's alias."""

    at: ClockSql
    subject: sql.Composable
    record: sql.Composable | None
    group: sql.Composable | None
    dataset_names: tuple[str, ...]
    ids: Ids = "uuid"
    subject_ids: Ids = "uuid"

    @property
    def scoped(self) -> dict[str, tuple[sql.Composable, Ids]]:
        """By the scopes of holds and requests: the column that they name, and what its ids are. Without those that
        rows have no column for."""
        found = {"account": (self.subject, self.subject_ids)}
        if self.group is not None:
            found["conversation"] = (self.group, self.ids)
        if self.record is not None:
            found["message"] = (self.record, self.ids)
        return found

    @property
    def clock(self) -> sql.Composable:
        """The clock as an instant. To find or order rows by it, see `at`."""
        return self.at.instant

    @classmethod
    def of(cls, dataset: Messages | Records | Accounts, alias: str = "m") -> Columns:
        def column(name: str | None) -> sql.Composable | None:
            return None if name is None else sql.Identifier(alias, name)

        clock = ClockSql.of(dataset.clock, alias)
        names = dataset.names if isinstance(dataset, Records) else (dataset.id, dataset.table)
        if isinstance(dataset, Accounts):
            return cls(clock, sql.Identifier(alias, dataset.key), None, None, names, dataset.ids, dataset.ids)
        ids = dataset.ids if isinstance(dataset, Records) else "uuid"
        subject, of_subject = sql.Identifier(alias, dataset.subject), subject_ids_of(dataset)
        return cls(clock, subject, column(dataset.record), column(dataset.group), names, ids, of_subject)

    @classmethod
    def of_quarantine(cls, dataset: Messages, alias: str = "m") -> Columns:
        """The same columns in lifecycle.quarantine; what holds name is still the dataset."""
        return cls(
            at=ClockSql.of("received_at", alias),
            subject=sql.Identifier(alias, quarantined_subject(dataset)),
            record=sql.Identifier(alias, "message_id"),
            group=sql.Identifier(alias, "conversation_id"),
            dataset_names=(dataset.id, dataset.table),
            subject_ids="uuid" if dataset.subject_ids == "uuid" else "text",
        )


def quarantined_subject(dataset: Messages) -> str:
    """The column of lifecycle.quarantine that has the account: a uuid, or any other id as text."""
    return "account_id" if dataset.subject_ids == "uuid" else "account"


def tier_of(dataset: Records | Accounts) -> Tier | None:
    """The tier whose rules decide the rows of an ordinary table; None where it is unknown."""
    return dataset.ruled_as if isinstance(dataset, Records) else Tier.CONSUMER


def _targets(source: sql.Composable, scope: str, condition: sql.Composable) -> sql.Composable:
    """The targets of holds or requests of one scope; a subquery without reference to the row, so it is hashed once."""
    return sql.SQL("(SELECT lower(btrim(x.target)) FROM {} x WHERE x.scope = {} AND {})").format(
        source, sql.Literal(scope), condition
    )


def _requested(scope: str, condition: sql.Composable, ids: Ids) -> sql.Composable:
    """The texts of ids that erasure requests name."""
    if ids == "uuid":
        return _targets(ERASURES, scope, condition)
    return sql.SQL("(SELECT unnest({}) FROM {} x WHERE x.scope = {} AND {})").format(
        exactly("x", ids), ERASURES, sql.Literal(scope), condition
    )


HOLD_OPEN = sql.SQL("(x.released_at IS NULL OR x.released_at > %(as_of)s)")


def held(columns: Columns, catalog: Catalog, condition: sql.Composable = HOLD_OPEN) -> sql.Composable:
    """True when a legal hold covers the row. The time a hold was entered does not matter, only whether it has ended.

    ``condition`` says which holds ``x`` count: those that are open, unless another question is asked.
    """
    parts = [
        sql.SQL("{} IN {}").format(folded(columns.subject, columns.subject_ids), _targets(HOLDS, "account", condition)),
        sql.SQL("EXISTS (SELECT FROM {} x WHERE x.scope = 'dataset' AND btrim(x.target) = ANY({}) AND {})").format(
            HOLDS, sql.Literal(list(columns.dataset_names)), condition
        ),
    ]
    if columns.record is not None:
        record = folded(columns.record, columns.ids)
        parts.append(sql.SQL("{} IN {}").format(record, _targets(HOLDS, "message", condition)))
    if columns.group is not None:
        group = folded(columns.group, columns.ids)
        parts.append(sql.SQL("{} IN {}").format(group, _targets(HOLDS, "conversation", condition)))
    elif columns.record is not None and catalog.has_messages:
        # Only where a conversation is under hold are its messages looked for: that reads the whole table of messages.
        parts.append(
            sql.SQL("(EXISTS {} AND {} IN {})").format(
                _targets(HOLDS, "conversation", condition),
                folded(columns.record, columns.ids),
                messages_of_held_conversations(catalog, condition),
            )
        )
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


def messages_of_held_conversations(catalog: Catalog, condition: sql.Composable) -> sql.Composable:
    """Message ids, as text, of every conversation under hold, wherever the message is now."""
    messages = catalog.messages
    conversations = _targets(HOLDS, "conversation", condition)
    return sql.SQL(
        "(SELECT c.{record}::text FROM {messages} c WHERE c.{group}::text IN {targets}"
        " UNION ALL SELECT q.message_id::text FROM lifecycle.quarantine q WHERE q.conversation_id::text IN {targets})"
    ).format(
        record=sql.Identifier(messages.record),
        group=sql.Identifier(messages.group),
        messages=table(messages.table),
        targets=conversations,
    )


def erased(columns: Columns) -> sql.Composable:
    def covered(scope: str, column: sql.Composable, ids: Ids) -> sql.Composable:
        return sql.SQL(
            "({column}::text IN {open} OR ({column}::text IN {closed} AND EXISTS ("
            "SELECT FROM {requests} x WHERE x.scope = {scope} AND x.completed_at IS NOT NULL"
            " AND {column}::text = ANY ({exactly}) AND {clock} <= x.completed_at)))"
        ).format(
            column=column,
            open=_requested(scope, sql.SQL("x.completed_at IS NULL"), ids),
            closed=_requested(scope, sql.SQL("x.completed_at IS NOT NULL"), ids),
            exactly=exactly("x", ids),
            requests=ERASURES,
            scope=sql.Literal(scope),
            clock=columns.clock,
        )

    parts = [covered(scope, column, ids) for scope, (column, ids) in columns.scoped.items()]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


def flagged(record: sql.Composable, catalog: Catalog, ids: Ids = "uuid") -> sql.Composable:
    flags = catalog.flags
    return sql.SQL(
        "EXISTS (SELECT FROM {t} f WHERE {record} = {row} AND (f.{cleared} IS NULL OR f.{cleared} > %(as_of)s))"
    ).format(
        t=read_from(flags, ids),
        record=other(sql.Identifier("f", flags.record), ids),
        row=own(record, ids),
        cleared=sql.Identifier(flags.cleared),
    )


def case_open(columns: Columns, catalog: Catalog) -> sql.Composable:
    cases = catalog.cases
    return sql.SQL("{row} IN (SELECT {subject} FROM {t} c WHERE c.{closed} IS NULL OR c.{closed} > %(as_of)s)").format(
        row=own(columns.subject, columns.subject_ids),
        subject=other(sql.Identifier("c", cases.subject), columns.subject_ids),
        t=read_from(cases, columns.subject_ids),
        closed=sql.Identifier(cases.closed),
    )


def consented(group: sql.Composable, catalog: Catalog, rule: Rule, ids: Ids = "uuid") -> sql.Composable:
    consents = catalog.consents
    assert rule.period is not None
    return sql.SQL(
        "EXISTS (SELECT FROM {t} s WHERE {group} = {row} AND (s.{withdrawn} IS NULL OR s.{withdrawn} > %(as_of)s)"
        " AND lifecycle.period_end(s.{given}, {period}, {up}) >= %(as_of)s)"
    ).format(
        t=read_from(consents, ids),
        group=other(sql.Identifier("s", consents.group), ids),
        row=own(group, ids),
        withdrawn=sql.Identifier(consents.withdrawn),
        given=sql.Identifier(consents.given),
        period=interval(rule.period),
        up=sql.Literal(rule.round_up),
    )


def agreed_end(columns: Columns, catalog: Catalog, category: Category) -> sql.Composable:
    """When the agreement in force lets the row end; null without one.

    One that names no length sets none. The latest replaces earlier ones; of equally late ones the one that ends first,
    which is decided by the calendar: PostgreSQL's own order of intervals takes a year for 360 days.
    """
    terms = catalog.agreements
    return sql.SQL(
        "(SELECT lifecycle.period_end({clock}, a.{retain}, false) FROM {t} a WHERE {subject} = {row}"
        " AND a.{category} = {this} AND a.{since} <= %(as_of)s AND (a.{until} IS NULL OR a.{until} > %(as_of)s)"
        " AND a.{retain} IS NOT NULL ORDER BY a.{since} DESC, 1 LIMIT 1)"
    ).format(
        clock=columns.clock,
        retain=sql.Identifier(terms.retain),
        t=read_from(terms, columns.subject_ids),
        subject=other(sql.Identifier("a", terms.subject), columns.subject_ids),
        row=own(columns.subject, columns.subject_ids),
        category=sql.Identifier(terms.category),
        this=sql.Literal(category.value),
        since=sql.Identifier(terms.effective_from),
        until=sql.Identifier(terms.effective_to),
    )


def past(clock: sql.Composable, rule: Rule) -> sql.Composable:
    """True when the rule's period has run out for a clock: ahead of the deadline for a maximum, after it otherwise.

    Months differ by days, so only within four days of the cut-off is the end computed by the calendar; without months
    the cut-off is one instant. What a daily run takes out lies within those days, so the calendar is written out here:
    calling lifecycle.period_end for each row took longer than deleting it.
    """
    assert rule.period is not None
    at = sql.SQL("%(as_of)s::timestamptz" if rule.round_up else "%(horizon)s::timestamptz")
    if not rule.period.months:
        return sql.SQL(
            "({clock} < %(as_of)s AND {clock} < ({at} AT TIME ZONE 'UTC' - {period}) AT TIME ZONE 'UTC')"
        ).format(clock=clock, period=interval(rule.period), at=at)
    # Bounds as subqueries, which PostgreSQL asks once a statement: its arithmetic of months takes a zone's rules.
    return sql.SQL(
        "({clock} < %(as_of)s AND ({clock} < (SELECT {at} - {period} - interval '4 days')"
        " OR ({clock} < (SELECT {at} - {period} + interval '4 days') AND {end} < {at} AT TIME ZONE 'UTC')))"
    ).format(clock=clock, period=interval(rule.period), at=at, end=_written_out(clock, rule.period, up=rule.round_up))


def _written_out(clock: sql.Composable, period: Period, *, up: bool) -> sql.Composable:
    """What lifecycle.period_end gives for a period that is known, as a timestamp in UTC: of operators only."""
    began = sql.SQL("{} AT TIME ZONE 'UTC'").format(clock)
    landed = sql.SQL("({} + {})").format(began, interval(Period(months=period.months)))
    rest = interval(Period(days=period.days, seconds=period.seconds))
    if not up:
        return sql.SQL("({} + {})").format(landed, rest)
    short = sql.SQL("date_part('day', {}) < date_part('day', {})").format(landed, began)
    return sql.SQL("({} + CASE WHEN {} THEN interval '1 day' ELSE interval '0' END + {})").format(landed, short, rest)


def _fate(disposition: Disposition, rule: str) -> sql.Literal:
    return sql.Literal(f"{disposition.value}:{rule}")


def _when(condition: sql.Composable, value: sql.Composable) -> sql.Composable:
    return sql.SQL("WHEN {} THEN {}").format(condition, value)


def _branches(
    rule: Rule, columns: Columns, policy: Policy, catalog: Catalog, category: Category, tier: Tier | None
) -> list[sql.Composable]:
    """The WHEN branches of one rule, in the order in which they must be tried."""
    keep, delete = _fate(Disposition.KEEP, rule.id), _fate(Disposition.DELETE, rule.id)
    arrived = sql.SQL("{} < %(as_of)s").format(columns.clock)
    match rule.trigger:
        case Trigger.HOLD:
            return [_when(held(columns, catalog), keep)]
        case Trigger.CASE:
            return [_when(case_open(columns, catalog), keep)]
        case Trigger.FLAG if columns.record is not None:
            moved = sql.SQL("CASE WHEN {} THEN {} WHEN {} THEN {} ELSE {} END").format(
                past(columns.clock, rule), delete, arrived, _fate(Disposition.QUARANTINE, rule.id), keep
            )
            return [_when(flagged(columns.record, catalog, columns.ids), moved)]
        case Trigger.ERASURE:
            return [_when(erased(columns), sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(arrived, delete, keep))]
        case Trigger.CONSENT if category is Category.FEEDBACK:
            return [_when(past(columns.clock, rule), delete), _when(sql.SQL("true"), keep)]
        case Trigger.CONSENT if columns.group is not None:
            return [_when(consented(columns.group, catalog, rule, columns.ids), keep)]
        case Trigger.AGREEMENT:
            end = agreed_end(columns, catalog, category)
            terms = catalog.agreements
            party = sql.SQL("{} IN (SELECT {} FROM {} a)").format(
                own(columns.subject, columns.subject_ids),
                other(sql.Identifier("a", terms.subject), columns.subject_ids),
                read_from(terms, columns.subject_ids),
            )
            due = sql.SQL("({} AND {} < %(horizon)s AND {})").format(party, end, arrived)
            return [_when(due, delete), _when(sql.SQL("{} AND {} IS NOT NULL").format(party, end), keep)]
        case Trigger.DEFAULT:
            variant = policy.variant_of(rule, tier) if tier is not None else None
            chosen = variant or rule
            name, kept = (chosen.id, rule.id) if tier is not None else (UNCLASSIFIED, UNCLASSIFIED)
            return [
                _when(past(columns.clock, rule), _fate(chosen.disposition, name)),
                _when(sql.SQL("true"), _fate(Disposition.KEEP, kept)),
            ]
        case _:
            return []


def message_fate(policy: Policy, catalog: Catalog, tier: Tier | None, alias: str = "m") -> sql.Composable:
    """The fate of a row of the messages table, of one known tier or of an unknown one (None)."""
    dataset = catalog.messages
    return _case(policy, catalog, dataset.category, tier, Columns.of(dataset, alias))


def record_fate(policy: Policy, catalog: Catalog, dataset: Records | Accounts, alias: str = "m") -> sql.Composable:
    """The fate of a row of an ordinary table, or of one tier's share of it: all of one tier as far as rules differ."""
    columns = Columns.of(dataset, alias)
    if dataset.category is Category.TRAINING_USE:
        assert isinstance(dataset, Records)
        return _training_fate(policy, catalog, dataset, columns, alias)
    return _case(policy, catalog, dataset.category, tier_of(dataset), columns)


def quarantine_fate(policy: Policy, catalog: Catalog, tier: Tier, alias: str = "m") -> sql.Composable:
    """The fate of a row of lifecycle.quarantine, decided as if the message were still in its table."""
    dataset = catalog.messages
    return _case(policy, catalog, dataset.category, tier, Columns.of_quarantine(dataset, alias))


def _case(policy: Policy, catalog: Catalog, category: Category, tier: Tier | None, columns: Columns) -> sql.Composable:
    branches: list[sql.Composable] = []
    for trigger in filter(lambda each: catalog.knows(each, category), policy.precedence):
        rule = (
            policy.rule_for(trigger, category, tier)
            if tier is not None
            else rule_for_unknown_tier(policy, trigger, category)
        )
        if rule is not None:
            branches.extend(_branches(rule, columns, policy, catalog, category, tier))
    return sql.SQL("(CASE {} ELSE {} END)").format(sql.SQL(" ").join(branches), _fate(Disposition.KEEP, UNCLASSIFIED))


def _training_fate(policy: Policy, catalog: Catalog, dataset: Records, columns: Columns, alias: str) -> sql.Composable:
    """A training example stays only on a valid basis: a permission, or an uncleared safety flag (rule training_use)."""
    rule = next(
        rule for rule in policy.rules if Category.TRAINING_USE in rule.category and rule.trigger is Trigger.DEFAULT
    )
    hold = policy.rule_for(Trigger.HOLD, Category.TRAINING_USE, Tier.CONSUMER)
    assert columns.record is not None and dataset.basis is not None
    valid = sql.SQL("({basis} = 'permission' OR ({basis} = 'safety_review' AND {flagged})) AND {there}").format(
        basis=sql.Identifier(alias, dataset.basis),
        flagged=flagged(columns.record, catalog),
        there=_message_there(columns, catalog),
    )
    return sql.SQL("(CASE WHEN {} THEN {} WHEN {} OR {} >= %(as_of)s THEN {} ELSE {} END)").format(
        held(columns, catalog),
        _fate(Disposition.KEEP, hold.id if hold else UNCLASSIFIED),
        valid,
        columns.clock,
        _fate(Disposition.KEEP, rule.id),
        _fate(Disposition.DELETE, rule.id),
    )


def _message_there(columns: Columns, catalog: Catalog) -> sql.Composable:
    """True unless the message an example was made from is gone. An example outlives it under a hold on its own dataset
    only, so messages are looked up, partition by partition, only where there has ever been one (hard case 5)."""
    assert columns.record is not None
    messages = catalog.messages
    return sql.SQL(
        "(NOT EXISTS (SELECT FROM {holds} x WHERE x.scope = 'dataset' AND btrim(x.target) = ANY({names}))"
        " OR EXISTS (SELECT FROM {messages} k WHERE k.{key} = {record})"
        " OR EXISTS (SELECT FROM lifecycle.quarantine q WHERE q.message_id = {record}))"
    ).format(
        holds=HOLDS,
        names=sql.Literal(list(columns.dataset_names)),
        messages=table(messages.table),
        key=sql.Identifier(messages.record),
        record=columns.record,
    )
