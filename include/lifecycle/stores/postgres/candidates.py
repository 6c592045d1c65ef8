"""Which rows have to be looked at to know where a dataset stands: those past the default's cut-off, where after a run
only survivors are, and younger ones that an exception concerns. Found by index and from the exceptions (promise 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.facts import FactTable
from lifecycle.catalog.models import Accounts, Catalog, Messages, Records
from lifecycle.planning.risk import ALL_TIERS, UNCLASSIFIED_TIER
from lifecycle.policy.counterfactual import KEEPERS, without
from lifecycle.policy.decide import rule_of_tier
from lifecycle.policy.models import Category, Policy, Rule, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.deadlines import (
    ends,
    message_deadline,
    quarantine_deadline,
    record_deadline,
)
from lifecycle.stores.postgres.fates import (
    ERASURES,
    HOLDS,
    Columns,
    interval,
    message_fate,
    quarantine_fate,
    quarantined_subject,
    record_fate,
    table,
    tier_of,
)
from lifecycle.stores.postgres.ids import Ids, found_in, named_ids
from lifecycle.stores.postgres.present import TRUE, present
from lifecycle.stores.postgres.told import read_from

AS_OF, BOUND = sql.SQL("%(as_of)s"), sql.SQL("%(bound)s")
QUARANTINE = table("lifecycle.quarantine")


@dataclass(frozen=True)
class Source:
    """One dataset of one tier, as the alias ``m``: where its rows are, and what the policy says about each."""

    catalog: Catalog
    policy: Policy
    dataset: Messages | Records | Accounts
    category: Category
    tier: Tier | None
    rule: Rule
    relation: sql.Composable
    which: sql.Composable
    columns: Columns
    names: tuple[str, ...]
    fate: sql.Composable
    deadline: sql.Composable
    unkept: sql.Composable
    """The deadline if no hold and no case kept the row."""

    def rule_of(self, trigger: Trigger) -> Rule | None:
        if not self.catalog.knows(trigger, self.category):
            return None
        return self.policy.rule_for(trigger, self.category, self.tier or Tier.CONSUMER)

    @property
    def tier_name(self) -> str:
        """As a standing names it: ``all`` where rules do not differ by tier."""
        if isinstance(self.dataset, Records) and (share := self.dataset.share_of) is not None:
            return share.name
        if self.category is not Category.PROMPTS_AND_OUTPUTS or not isinstance(self.dataset, Messages):
            return ALL_TIERS
        return self.tier.value if self.tier is not None else UNCLASSIFIED_TIER

    def columns_of(self, alias: str) -> Columns:
        """The same columns under the alias of a surrounding query."""
        if self.relation == QUARANTINE and isinstance(self.dataset, Messages):
            return Columns.of_quarantine(self.dataset, alias)
        return Columns.of(self.dataset, alias)

    @property
    def shown(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier("m", name) for name in self.names)

    def look(self, where: sql.Composable) -> sql.Composed:
        """The columns that a fate depends on, of the rows that a condition finds."""
        return sql.SQL("SELECT {columns} FROM {relation} m WHERE {which} AND {where} AND {arrived}").format(
            columns=self.shown,
            relation=self.relation,
            which=self.which,
            where=where,
            arrived=self.columns.at.before(AS_OF),
        )

    def look_up(self, column: sql.Composable, ids: sql.Composable) -> sql.Composed:
        """The same for the rows of some ids, one index probe each, however large the table is."""
        return sql.SQL("SELECT {columns} FROM (SELECT DISTINCT s.id FROM {ids} s(id)) t CROSS JOIN LATERAL"
                       " ({rows} OFFSET 0) m").format(
            columns=self.shown,
            ids=ids,
            rows=self.look(sql.SQL("{} = t.id AND {}").format(column, self.columns.at.since(BOUND))),
        )  # fmt: skip

    def rows(self) -> sql.Composed:
        """Every candidate, each once. Binds ``bound`` (no default strikes past it) and ``look`` (no need to go on)."""
        beyond = self.look(self.columns.at.before(BOUND))
        younger = self.younger()
        if not younger:
            return beyond
        return sql.SQL("{} UNION ALL ({})").format(beyond, sql.SQL(" UNION ").join(younger))

    def younger(self) -> list[sql.Composed]:
        """Queries that together find every row at or past ``bound`` that an exception may make due, some twice."""
        return [*(self.look_up(column, ids) for column, ids in few_of(self)), *map(self._younger, many_of(self))]

    def _younger(self, condition: sql.Composable) -> sql.Composed:
        return self.look(sql.SQL("{} AND {}").format(self.columns.at.since(BOUND), condition))


def own_rule(policy: Policy, dataset: Records | Accounts) -> Rule | None:
    """The rule that ends a dataset's records: its category's default, or for feedback the consent itself."""
    trigger = Trigger.CONSENT if dataset.category is Category.FEEDBACK else Trigger.DEFAULT
    return rule_of_tier(policy, trigger, dataset.category, tier_of(dataset))


def of_messages(policy: Policy, catalog: Catalog, tier: Tier | None) -> Source:
    dataset = catalog.messages
    rule = policy.rule_for(Trigger.DEFAULT, dataset.category, tier) if tier else policy.strictest(dataset.category)
    if rule is None:
        raise ValueError(f"no default rule covers {dataset.category.value} of tier {tier}")
    which = (
        sql.SQL("m.{} = {}").format(sql.Identifier(dataset.tier), sql.Literal(tier.value))
        if tier
        else _undeclared(dataset)
    )
    return Source(
        catalog,
        policy,
        dataset,
        dataset.category,
        tier,
        rule,
        relation=table(dataset.table),
        which=which,
        columns=Columns.of(dataset),
        names=tuple(dict.fromkeys((column_of(dataset.clock), dataset.subject, dataset.record, dataset.group))),
        fate=message_fate(policy, catalog, tier),
        deadline=message_deadline(policy, catalog, tier),
        unkept=message_deadline(without(policy, KEEPERS), catalog, tier),
    )


def _undeclared(dataset: Messages) -> sql.Composed:
    """Rows of no declared tier. PostgreSQL prunes by it, so that the tiers' own partitions are not looked at."""
    return sql.SQL("(m.{tier} <> ALL ({known}) OR m.{tier} IS NULL)").format(
        tier=sql.Identifier(dataset.tier), known=sql.Literal([tier.value for tier in Tier])
    )


def of_quarantine(policy: Policy, catalog: Catalog, tier: Tier, rule: Rule) -> Source:
    dataset = catalog.messages
    return Source(
        catalog,
        policy,
        dataset,
        dataset.category,
        tier,
        rule,
        relation=QUARANTINE,
        which=sql.SQL("m.tier = {}").format(sql.Literal(tier.value)),
        columns=Columns.of_quarantine(dataset),
        names=("received_at", quarantined_subject(dataset), "message_id", "conversation_id"),
        fate=quarantine_fate(policy, catalog, tier),
        deadline=quarantine_deadline(policy, catalog, tier),
        unkept=quarantine_deadline(without(policy, KEEPERS), catalog, tier),
    )


def of_records(policy: Policy, catalog: Catalog, dataset: Records | Accounts, rule: Rule) -> Source:
    if isinstance(dataset, Accounts):
        names: tuple[str, ...] = (column_of(dataset.clock), dataset.key)
    else:
        found = (dataset.subject, *dataset.key_columns, dataset.record, dataset.group, dataset.basis)
        # A column may play two parts.
        names = tuple(dict.fromkeys((column_of(dataset.clock), *(name for name in found if name is not None))))
    return Source(
        catalog,
        policy,
        dataset,
        dataset.category,
        tier_of(dataset),
        rule,
        relation=table(dataset.table),
        which=present(dataset),
        columns=Columns.of(dataset),
        names=names,
        fate=record_fate(policy, catalog, dataset),
        deadline=record_deadline(policy, catalog, dataset),
        unkept=record_deadline(without(policy, KEEPERS), catalog, dataset),
    )


def few_of(source: Source) -> Iterator[tuple[sql.Composable, sql.Composable]]:
    """Columns and the ids to look up in them: what requests, holds, cases and short agreements concern."""
    columns = source.columns
    for scope, (column, ids) in columns.scoped.items():
        if source.rule_of(Trigger.ERASURE) is not None:
            asked = sql.SQL("(x.completed_at IS NULL OR x.completed_at >= %(bound)s)")
            yield column, named_ids(ERASURES, scope, asked, ids)
        # What an open hold keeps has no deadline; one whose release is dated has.
        yield column, named_ids(HOLDS, scope, sql.SQL("x.released_at > %(as_of)s"), ids)
    for subjects, theirs in _subjects_of(source):
        found = found_in(subjects, columns.subject_ids, theirs)
        if found is not None:
            yield columns.subject, found


def _subjects_of(source: Source) -> Iterator[tuple[sql.Composable, Ids]]:
    """Accounts that cases and agreements name, with what their ids are."""
    if source.rule_of(Trigger.CASE) is not None:
        cases = source.catalog.cases
        yield ids_of(cases, cases.closed, "{0} > %(as_of)s", source.columns.subject_ids), cases.ids
    if source.rule_of(Trigger.AGREEMENT) is not None and source.rule.period is not None:
        yield _parties(source, shorter_than=source.rule.period), source.catalog.agreements.ids


def many_of(source: Source) -> Iterator[sql.Composable]:
    """Conditions on younger rows of which there can be many: flags that wait, consents that are about to end."""
    columns = source.columns
    if source.category is not Category.PROMPTS_AND_OUTPUTS:
        return
    if columns.record is not None and source.rule_of(Trigger.FLAG) is not None:
        flags = source.catalog.flags
        flagged = ids_of(flags, flags.cleared, "({0} IS NULL OR {0} > %(as_of)s)", "uuid")
        if source.relation == QUARANTINE:
            # The quarantine's ids are uuids; a flag that names none of them says nothing of any.
            yield sql.SQL("NOT EXISTS (SELECT FROM {} f(id) WHERE f.id = {})").format(flagged, columns.record)
        else:
            moved = sql.SQL("SELECT q.message_id FROM {} q").format(QUARANTINE)
            waiting = found_in(sql.SQL("(SELECT f.id FROM {} f(id) EXCEPT {})").format(flagged, moved), columns.ids)
            if waiting is not None:
                yield sql.SQL("{} IN {}").format(columns.record, waiting)
    consent = source.rule_of(Trigger.CONSENT)
    if columns.group is not None and consent is not None:
        ending = found_in(_ending_consents(source, consent), columns.ids, source.catalog.consents.ids)
        if ending is not None:
            yield sql.SQL("{} IN {}").format(columns.group, ending)


def parties(source: Source) -> sql.Composed:
    """Every account with an agreement in force."""
    return _parties(source)


def _parties(source: Source, shorter_than: Period | None = None) -> sql.Composed:
    terms = source.catalog.agreements
    # PostgreSQL's order of intervals takes a month for 30 days: four days of slack lose nothing.
    shorter = (
        sql.SQL("a.{} < {} + interval '4 days'").format(sql.Identifier(terms.retain), interval(shorter_than))
        if shorter_than is not None
        else TRUE
    )
    return sql.SQL(
        "(SELECT a.{subject} FROM {t} a WHERE a.{category} = {this} AND a.{since} <= %(as_of)s"
        " AND (a.{until} IS NULL OR a.{until} > %(as_of)s) AND {shorter})"
    ).format(
        subject=sql.Identifier(terms.subject),
        t=read_from(terms, source.columns.subject_ids),
        category=sql.Identifier(terms.category),
        this=sql.Literal(source.category.value),
        since=sql.Identifier(terms.effective_from),
        until=sql.Identifier(terms.effective_to),
        shorter=shorter,
    )


def ids_of(facts: FactTable, end: str, condition: str, ids: Ids) -> sql.Composed:
    """What exceptions name whose end (``{0}``) is as a condition says, to be compared with ids of a type."""
    return sql.SQL("(SELECT x.{key} FROM {t} x WHERE {condition})").format(
        key=sql.Identifier(facts.named),
        t=read_from(facts, ids),
        condition=sql.SQL(condition).format(sql.Identifier("x", end)),
    )


def _ending_consents(source: Source, rule: Rule) -> sql.Composed:
    """Groups with a submission that stops keeping them before anything else strikes."""
    consents = source.catalog.consents
    end = ends(sql.Identifier("x", consents.given), rule)
    return sql.SQL(
        "(SELECT x.{group} FROM {t} x WHERE {end} >= %(as_of)s AND {end} < coalesce(%(look)s::timestamptz, 'infinity')"
        " AND (x.{withdrawn} IS NULL OR x.{withdrawn} > %(as_of)s))"
    ).format(
        group=sql.Identifier(consents.group),
        t=read_from(consents, source.columns.ids),
        end=end,
        withdrawn=sql.Identifier(consents.withdrawn),
    )
