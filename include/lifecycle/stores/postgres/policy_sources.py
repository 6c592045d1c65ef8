"""What a comparison of two configurations looks at: one source per table and tier, and what exceptions name in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.facts import FactTable
from lifecycle.catalog.models import Accounts, Catalog, Messages, Records
from lifecycle.planning.due_clocks import Interval, due_clocks
from lifecycle.policy.decide import UNCLASSIFIED, rule_of_tier
from lifecycle.policy.models import Category, Policy, Rule, Tier, Trigger
from lifecycle.stores.postgres.fates import HOLDS, Columns, fate_parameters, message_fate, record_fate, table, tier_of
from lifecycle.stores.postgres.guard import as_old, old_params
from lifecycle.stores.postgres.ids import Ids, found_in, named_ids
from lifecycle.stores.postgres.present import TRUE, present
from lifecycle.stores.postgres.told import read_from

# Rules of these triggers are maxima that the lead moves.
_LED = (Trigger.FLAG, Trigger.AGREEMENT)


@dataclass(frozen=True)
class Pair:
    """The two configurations, and the instant at which they are compared."""

    old: Policy
    old_catalog: Catalog
    new: Policy
    new_catalog: Catalog
    as_of: datetime

    @cached_property
    def params(self) -> dict[str, Any]:
        old = {"horizon": fate_parameters(self.old, self.as_of)["horizon"]}
        return {**fate_parameters(self.new, self.as_of), **old_params(old)}


@dataclass(frozen=True)
class Fates:
    """Of records that no exception names: which clocks are due, their fate, and the fate of the others."""

    due: tuple[Interval, ...]
    going: str
    kept: str


@dataclass(frozen=True)
class Source:
    """Records of one table, tier and category: how each policy judges them, and where they are."""

    pair: Pair
    dataset: str
    tier: Tier | None
    category: Category
    own: Trigger
    columns: Columns
    relation: sql.Composable
    where: sql.Composable
    before: sql.Composable
    after: sql.Composable
    names: tuple[sql.Identifier, ...]
    whole: bool = False
    """An ordinary table, all of whose rows are of one tier."""

    @property
    def tier_name(self) -> str:
        if self.whole:
            return "all"
        return self.tier.value if self.tier else UNCLASSIFIED

    def rule(self, policy: Policy, trigger: Trigger) -> Rule | None:
        return rule_of_tier(policy, trigger, self.category, self.tier)

    def differs(self, trigger: Trigger) -> bool:
        """Whether the two policies can treat what this trigger names differently."""
        pair = self.pair
        if pair.old.precedence != pair.new.precedence or pair.old_catalog.exceptions != pair.new_catalog.exceptions:
            return True
        return _essence(self.rule(pair.old, trigger)) != _essence(self.rule(pair.new, trigger)) or (
            trigger in _LED and pair.old.lead.total != pair.new.lead.total
        )

    def fates(self, policy: Policy) -> Fates:
        """What becomes of records that no exception names."""
        rule = self.rule(policy, self.own)
        if rule is None or rule.period is None:
            return Fates((), f"delete:{UNCLASSIFIED}", f"keep:{UNCLASSIFIED}")
        variant = policy.variant_of(rule, self.tier) if self.tier is not None and self.own is Trigger.DEFAULT else None
        chosen = variant or rule
        name, kept = (UNCLASSIFIED, UNCLASSIFIED) if self.tier is None else (chosen.id, rule.id)
        due = due_clocks(rule, policy, self.pair.as_of)
        return Fates(due, f"{chosen.disposition.value}:{name}", f"keep:{kept}")


def _essence(rule: Rule | None) -> Any:
    """What a rule does; its name and its sentence do nothing."""
    return None if rule is None else rule.model_dump(exclude={"id", "basis", "category", "tiers"})


def messages_source(pair: Pair, dataset: Messages, tier: Tier | None) -> Source:
    column = sql.Identifier("m", dataset.tier)
    named = (
        sql.SQL("{} = {}").format(column, sql.Literal(tier.value))
        if tier
        else sql.SQL("{} <> ALL ({})").format(column, sql.Literal([each.value for each in Tier]))
    )
    wanted = (dataset.record, column_of(dataset.clock), dataset.subject, dataset.group)
    return Source(
        pair,
        dataset.id,
        tier,
        dataset.category,
        Trigger.DEFAULT,
        Columns.of(dataset),
        table(dataset.table),
        named,
        as_old(message_fate(pair.old, pair.old_catalog, tier)),
        message_fate(pair.new, pair.new_catalog, tier),
        tuple(sql.Identifier(name) for name in dict.fromkeys(wanted)),
    )


def records_source(pair: Pair, dataset: Records | Accounts) -> Source:
    own = Trigger.CONSENT if dataset.category is Category.FEEDBACK else Trigger.DEFAULT
    wanted = [*dataset.key_columns, column_of(dataset.clock)]
    if isinstance(dataset, Records):
        wanted += [name for name in (dataset.subject, dataset.record, dataset.group, dataset.basis) if name is not None]
    return Source(
        pair,
        dataset.id,
        tier_of(dataset),
        dataset.category,
        own,
        Columns.of(dataset),
        table(dataset.table),
        present(dataset),
        as_old(record_fate(pair.old, pair.old_catalog, dataset)),
        record_fate(pair.new, pair.new_catalog, dataset),
        tuple(sql.Identifier(name) for name in dict.fromkeys(wanted)),
        whole=not isinstance(dataset, Records) or dataset.share_of is None,
    )


def named(source: Source) -> Iterator[tuple[Trigger, sql.Composable, sql.Composable]]:
    """Trigger by trigger: the column that exceptions name, and a query for what they name there."""
    of, pair = source.columns, source.pair
    for trigger, ledger in ((Trigger.HOLD, "legal_holds"), (Trigger.ERASURE, "erasure_requests")):
        if _ruled(source, trigger):
            for scope, (column, ids) in of.scoped.items():
                yield trigger, column, named_ids(table(f"lifecycle.{ledger}"), scope, TRUE, ids)
    others: list[tuple[Trigger, sql.Composable, sql.Composable, Ids]] = []
    if _ruled(source, Trigger.HOLD) and of.group is None and of.record is not None and pair.new_catalog.has_messages:
        others.append((Trigger.HOLD, of.record, _of_held_conversations(pair.new_catalog), "uuid"))
    for catalog in _catalogs(pair):
        others += _from_tables(source, catalog)
    for trigger, column, keys, theirs in others:
        ids = of.subject_ids if trigger in (Trigger.CASE, Trigger.AGREEMENT) else of.ids
        found = found_in(sql.SQL("({})").format(keys), ids, theirs)
        if found is not None:
            yield trigger, column, found


def _from_tables(source: Source, catalog: Catalog) -> Iterator[tuple[Trigger, sql.Composable, sql.Composable, Ids]]:
    """As `named`, with what the ids of the exceptions are."""
    of = source.columns
    own = source.own is Trigger.CONSENT

    def asked(trigger: Trigger) -> bool:
        return catalog.knows(trigger, source.category) and _ruled(source, trigger)

    if of.record is not None and asked(Trigger.FLAG):
        yield Trigger.FLAG, of.record, _open(catalog.flags, catalog.flags.cleared, of.ids), catalog.flags.ids
    if of.group is not None and not own and asked(Trigger.CONSENT):
        given = catalog.consents
        yield Trigger.CONSENT, of.group, _open(given, given.withdrawn, of.ids), given.ids
    if asked(Trigger.CASE):
        yield Trigger.CASE, of.subject, _open(catalog.cases, catalog.cases.closed, of.subject_ids), catalog.cases.ids
    if asked(Trigger.AGREEMENT):
        terms = catalog.agreements
        yield Trigger.AGREEMENT, of.subject, _open(terms, terms.effective_to, of.subject_ids), terms.ids


def _catalogs(pair: Pair) -> tuple[Catalog, ...]:
    same = pair.old_catalog.exceptions == pair.new_catalog.exceptions
    return (pair.new_catalog,) if same else (pair.new_catalog, pair.old_catalog)


def _ruled(source: Source, trigger: Trigger) -> bool:
    return any(source.rule(policy, trigger) is not None for policy in (source.pair.old, source.pair.new))


def _of_held_conversations(catalog: Catalog) -> sql.Composable:
    messages = catalog.messages
    return sql.SQL(
        "SELECT c.{record} FROM {t} c WHERE c.{group} IN ({held}) UNION ALL"
        " SELECT q.message_id FROM lifecycle.quarantine q WHERE q.conversation_id IN ({held})"
    ).format(
        record=sql.Identifier(messages.record),
        group=sql.Identifier(messages.group),
        t=table(messages.table),
        held=named_ids(HOLDS, "conversation", TRUE, "uuid"),
    )


def _open(facts: FactTable, ended: str, ids: Ids) -> sql.Composable:
    return sql.SQL(
        "SELECT x.{key} FROM {t} x WHERE x.{key} IS NOT NULL AND (x.{ended} IS NULL OR x.{ended} > %(as_of)s)"
    ).format(key=sql.Identifier(facts.named), t=read_from(facts, ids), ended=sql.Identifier(ended))
