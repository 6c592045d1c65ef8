"""Pieces of the auditor's own SQL: periods, and the reasons a record may stay. Written from the policy page, not from
the deleting code: no function and no query of it is used here, not even its SQL function for periods.

A reason is asked for "at" an instant, ``%(settled)s``: up to there the runs must have acted on whatever ended. A record
whose reason ended later is late, but explained (hard case 5), and asked for again at ``%(as_of)s``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.catalog.models import Accounts, Catalog, Ids, Logs, Messages, Records, subject_ids_of
from lifecycle.policy.models import Category, Policy, Rule, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.validation.exceptions import as_read

AT_SETTLED: Final = sql.SQL("%(settled)s::timestamptz")
AT_AS_OF: Final = sql.SQL("%(as_of)s::timestamptz")
# A target is free text; only what reads as a UUID can name an account, a conversation or a message.
TARGET_UUID: Final = sql.SQL(
    "(CASE WHEN lower(btrim({alias}.target)) ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'"
    " THEN btrim({alias}.target)::uuid END)"
)


def any_case(column: sql.Composable, ids: Ids) -> sql.Composable:
    """A column as a hold names it: text in whatever case, since a hold that is written carelessly must still keep."""
    return sql.SQL("lower({}::text)" if ids == "text" else "{}::text").format(column)


def comparable(column: sql.Composable, ids: Ids) -> sql.Composable:
    """An id beside one of another table; those that are no uuids are compared by what is written."""
    return column if ids == "uuid" else sql.SQL("{}::text").format(column)


def is_asked_for(column: sql.Composable, alias: str, ids: Ids) -> sql.Composable:
    """Whether the target of an erasure request is exactly this id; a uuid may be spelled in capitals."""
    target = TARGET_UUID.format(alias=sql.Identifier(alias))
    if ids == "uuid":
        return sql.SQL("{} = {}").format(column, target)
    return sql.SQL("{}::text IN (btrim({}.target), {}::text)").format(column, sql.Identifier(alias), target)


def relation(name: str) -> sql.Identifier:
    schema, table = name.split(".", 1)
    return sql.Identifier(schema, table)


def interval(period: Period) -> sql.Composable:
    """PostgreSQL reads the policy's own notation."""
    return sql.SQL("{}::interval").format(sql.Literal(str(period)))


def ends_down(clock: sql.Composable, period: sql.Composable) -> sql.Composable:
    """The end of a maximum: a month without that day ends on its last day, which is what PostgreSQL does by itself."""
    return sql.SQL("(({clock} AT TIME ZONE 'UTC' + {period}) AT TIME ZONE 'UTC')").format(clock=clock, period=period)


def ends_up(clock: sql.Composable, period: Period) -> sql.Composable:
    """The end of a minimum: where the month lacked the day (so that the way back falls short), a day later."""
    return sql.SQL(
        "((({clock} AT TIME ZONE 'UTC') + {months} + {rest}"
        " + CASE WHEN ({clock} AT TIME ZONE 'UTC') + {months} - {months} < ({clock} AT TIME ZONE 'UTC')"
        " THEN interval '1 day' ELSE interval '0' END) AT TIME ZONE 'UTC')"
    ).format(
        clock=clock,
        months=interval(Period(months=period.months)),
        rest=interval(Period(days=period.days, seconds=period.seconds)),
    )


def ends(clock: sql.Composable, rule: Rule) -> sql.Composable:
    """When a rule's period for a clock ends.

    Raises:
        ValueError: the rule has no period of its own.
    """
    if rule.period is None:
        raise ValueError(f"rule {rule.id} has no period of its own")
    return ends_up(clock, rule.period) if rule.round_up else ends_down(clock, interval(rule.period))


@dataclass(frozen=True)
class Subject:
    """The columns of one kind of record that a reason to stay can name; None where it has no such column."""

    account: sql.Composable
    conversation: sql.Composable | None
    message: sql.Composable | None
    names: tuple[str, ...]
    """How a hold on a whole dataset may name it."""
    ids: Ids = "uuid"
    account_ids: Ids = "uuid"
    named_in_any_case: bool = False


def _column(alias: str, name: str | None) -> sql.Composable | None:
    return None if name is None else sql.Identifier(alias, name)


def subject_of(dataset: Messages | Records, alias: str) -> Subject:
    return Subject(
        account=sql.Identifier(alias, dataset.subject),
        conversation=_column(alias, dataset.group),
        message=_column(alias, dataset.record),
        names=dataset.names if isinstance(dataset, Records) else (dataset.id, dataset.table),
        ids=dataset.ids if isinstance(dataset, Records) else "uuid",
        account_ids=subject_ids_of(dataset),
    )


def subject_of_account(dataset: Accounts, alias: str) -> Subject:
    names = (dataset.id, dataset.table)
    return Subject(sql.Identifier(alias, dataset.key), None, None, names, account_ids=dataset.ids)


def subject_of_quarantined(dataset: Messages, alias: str) -> Subject:
    plain = dataset.subject_ids == "uuid"
    return Subject(
        account=sql.Identifier(alias, "account_id" if plain else "account"),
        account_ids="uuid" if plain else "text",
        conversation=sql.Identifier(alias, "conversation_id"),
        message=sql.Identifier(alias, "message_id"),
        names=(dataset.id, dataset.table),
    )


def subject_of_log(dataset: Logs, alias: str) -> Subject:
    """A line of a log as it was staged; its columns are text."""
    return Subject(
        account=sql.Identifier(alias, "account"),
        conversation=None,
        message=sql.Identifier(alias, "message"),
        names=(*dataset.names, dataset.bucket),
        account_ids="text",
        named_in_any_case=True,
    )


def _either(conditions: Iterable[sql.Composable]) -> sql.Composable:
    listed = list(conditions)
    return sql.SQL("({})").format(sql.SQL(" OR ").join(listed)) if listed else sql.SQL("false")


@dataclass(frozen=True)
class Reasons:
    """The reasons that policy and catalog know, as conditions on a row. Never written without ``IS NOT TRUE`` around a
    negation: a null column must not hide a violation."""

    policy: Policy
    catalog: Catalog

    def held(self, of: Subject, at: sql.Composable) -> sql.Composable:
        """A legal hold covers the row. When it was placed does not matter."""
        conditions = [self._hold_on("account", of.account, of.account_ids, at), self._hold_on_dataset(of, at)]
        if of.message is not None:
            conditions.append(self._hold_on("message", of.message, of.ids, at))
        if of.conversation is not None:
            conditions.append(self._hold_on("conversation", of.conversation, of.ids, at))
        elif of.message is not None and self.catalog.has_messages:
            conditions.append(self._hold_on_conversation_of(of.message, of.ids, at))
        return _either(conditions)

    @staticmethod
    def _hold_on(scope: str, column: sql.Composable, ids: Ids, at: sql.Composable) -> sql.Composable:
        return sql.SQL(
            "{column} IN (SELECT lower(btrim(h.target)) FROM lifecycle.legal_holds h"
            " WHERE h.scope = {scope} AND (h.released_at IS NULL OR h.released_at > {at}))"
        ).format(column=any_case(column, ids), scope=sql.Literal(scope), at=at)

    @staticmethod
    def _hold_on_dataset(of: Subject, at: sql.Composable) -> sql.Composable:
        target = sql.SQL("lower(btrim(h.target))" if of.named_in_any_case else "btrim(h.target)")
        return sql.SQL(
            "EXISTS (SELECT FROM lifecycle.legal_holds h WHERE h.scope = 'dataset' AND {target} = ANY ({names})"
            " AND (h.released_at IS NULL OR h.released_at > {at}))"
        ).format(target=target, names=sql.Literal(list(of.names)), at=at)

    def _hold_on_conversation_of(self, message: sql.Composable, ids: Ids, at: sql.Composable) -> sql.Composable:
        """For rows that know their message but not its conversation."""
        dataset = self.catalog.messages
        return sql.SQL(
            "{message} IN (SELECT k.{record}::text FROM lifecycle.legal_holds h"
            " JOIN {messages} k ON k.{conversation} = {target}"
            " WHERE h.scope = 'conversation' AND (h.released_at IS NULL OR h.released_at > {at})"
            " UNION SELECT k.message_id::text FROM lifecycle.legal_holds h"
            " JOIN lifecycle.quarantine k ON k.conversation_id = {target}"
            " WHERE h.scope = 'conversation' AND (h.released_at IS NULL OR h.released_at > {at}))"
        ).format(
            message=any_case(message, ids),
            record=sql.Identifier(dataset.record),
            messages=relation(dataset.table),
            conversation=sql.Identifier(dataset.group),
            target=TARGET_UUID.format(alias=sql.Identifier("h")),
            at=at,
        )

    def flagged(self, message: sql.Composable, at: sql.Composable, ids: Ids = "uuid") -> sql.Composable:
        flags = self.catalog.flags
        return sql.SQL(
            "EXISTS (SELECT FROM {flags} f WHERE {record} = {message} AND (f.{cleared} IS NULL OR f.{cleared} > {at}))"
        ).format(
            flags=as_read(flags, ids),
            record=comparable(sql.Identifier("f", flags.record), ids),
            cleared=sql.Identifier(flags.cleared),
            message=comparable(message, ids),
            at=at,
        )

    def case_open(self, account: sql.Composable, at: sql.Composable, ids: Ids = "uuid") -> sql.Composable:
        cases = self.catalog.cases
        return sql.SQL(
            "{account}::text IN (SELECT c.{subject}::text FROM {cases} c WHERE c.{closed} IS NULL OR c.{closed} > {at})"
        ).format(
            account=account,
            subject=sql.Identifier(cases.subject),
            cases=as_read(cases, ids),
            closed=sql.Identifier(cases.closed),
            at=at,
        )

    def consented(
        self, conversation: sql.Composable, rule: Rule, at: sql.Composable, ids: Ids = "uuid"
    ) -> sql.Composable:
        consents = self.catalog.consents
        given = sql.Identifier("s", consents.given)
        return sql.SQL(
            "EXISTS (SELECT FROM {consents} s WHERE {group} = {conversation}"
            " AND (s.{withdrawn} IS NULL OR s.{withdrawn} > {at}) AND {end} >= {at})"
        ).format(
            consents=as_read(consents, ids),
            group=comparable(sql.Identifier("s", consents.group), ids),
            conversation=comparable(conversation, ids),
            withdrawn=sql.Identifier(consents.withdrawn),
            end=ends(given, rule),
            at=at,
        )

    def agreed(
        self,
        account: sql.Composable,
        clock: sql.Composable,
        category: Category,
        at: sql.Composable,
        ids: Ids = "uuid",
    ) -> sql.Composable:
        """The retention agreed with an account at an instant (an interval, null without one): the latest agreement, and
        of equally late ones the one that ends first by the calendar (PostgreSQL takes a year for 360 days)."""
        terms = self.catalog.agreements
        return sql.SQL(
            # No end of it may lie past PostgreSQL's own last one.
            "(SELECT least(a.{retain}, interval '100000 years') FROM {agreements} a"
            " WHERE {subject} = {account} AND a.{category} = {this}"
            " AND a.{since} <= {at} AND (a.{until} IS NULL OR a.{until} > {at})"
            " AND a.{retain} IS NOT NULL ORDER BY a.{since} DESC,"
            " {clock} AT TIME ZONE 'UTC' + least(a.{retain}, interval '100000 years') LIMIT 1)"
        ).format(
            clock=clock,
            retain=sql.Identifier(terms.retain),
            agreements=as_read(terms, ids),
            subject=comparable(sql.Identifier("a", terms.subject), ids),
            account=comparable(account, ids),
            category=sql.Identifier(terms.category),
            this=sql.Literal(category.value),
            since=sql.Identifier(terms.effective_from),
            until=sql.Identifier(terms.effective_to),
            at=at,
        )

    def above(
        self, trigger: Trigger, category: Category, tier: Tier | None, of: Subject, at: sql.Composable
    ) -> sql.Composable:
        """Whether a reason that the policy ranks above ``trigger`` keeps the row. The order is the policy's."""
        higher = self.policy.precedence[: self.policy.precedence.index(trigger)]
        found = (self._reason(each, category, tier, of, at) for each in higher)
        return _either(condition for condition in found if condition is not None)

    def rule(self, trigger: Trigger, category: Category, tier: Tier | None) -> Rule | None:
        """The rule of a tier; for an unknown tier (None) only one that covers every tier (hard case 23). None where the
        dataset file says that there is nothing to which it could apply."""
        if not self._there(trigger, category):
            return None
        if tier is not None:
            return self.policy.rule_for(trigger, category, tier)
        found = [self.policy.rule_for(trigger, category, each) for each in Tier]
        return found[0] if all(rule is not None and rule == found[0] for rule in found) else None

    def _there(self, trigger: Trigger, category: Category) -> bool:
        facts = self.catalog.exceptions
        parts = {Trigger.FLAG: facts.flags, Trigger.CASE: facts.cases, Trigger.AGREEMENT: facts.agreements}
        if trigger is Trigger.CONSENT and category is not Category.FEEDBACK:
            return facts.consents is not None
        return trigger not in parts or parts[trigger] is not None

    def _reason(
        self, trigger: Trigger, category: Category, tier: Tier | None, of: Subject, at: sql.Composable
    ) -> sql.Composable | None:
        rule = self.rule(trigger, category, tier)
        if rule is None:
            return None
        match trigger:
            case Trigger.HOLD:
                return self.held(of, at)
            case Trigger.CASE:
                return self.case_open(of.account, at, of.account_ids)
            case Trigger.FLAG if of.message is not None:
                return self.flagged(of.message, at, of.ids)
            case Trigger.CONSENT if of.conversation is not None and category is Category.PROMPTS_AND_OUTPUTS:
                return self.consented(of.conversation, rule, at, of.ids)
            case _:
                return None
