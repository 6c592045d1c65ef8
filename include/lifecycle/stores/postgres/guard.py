"""The guard of an unapproved configuration: a record goes only where the configuration in force sends it the same way.

Compiled as one expression over both fates, so that it is judged again wherever a fate is: in the plan, in each batch,
and inside the gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Catalog, Dataset, Messages, Records
from lifecycle.policy.decide import horizon
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import message_fate, quarantine_fate, record_fate, table

AWAITING = "awaiting_approval"
_KEEP = sql.Literal(f"keep:{AWAITING}")
_STAYS = sql.Literal(f"quarantine:{AWAITING}")
_OLD = "approved_"


@dataclass(frozen=True)
class Guard:
    """The configuration in force while another is loaded; both None when this version cannot read it any more.

    ``waiting``: ids of datasets that the two bind differently, or that the old one cannot judge: all of them wait.
    """

    policy: Policy | None
    catalog: Catalog | None
    waiting: frozenset[str]

    def waits(self, dataset: str) -> bool:
        return self.policy is None or self.catalog is None or dataset in self.waiting

    def params(self, as_of: datetime) -> dict[str, Any]:
        """What the guarded expressions need beside the parameters of the loaded policy."""
        return {} if self.policy is None else {f"{_OLD}horizon": horizon(self.policy, as_of)}

    def message_fate(self, new: sql.Composable, dataset: Messages, tier: Tier | None) -> sql.Composable:
        """The fate of a row of the messages table, where both agree on what becomes of it."""
        if self.policy is None or self.catalog is None or self.waits(dataset.id):
            return _KEEP
        return _both(new, as_old(message_fate(self.policy, self.catalog, tier)))

    def record_fate(self, new: sql.Composable, dataset: Records | Accounts) -> sql.Composable:
        bound = dataset.binding if isinstance(dataset, Records) else dataset.id
        if self.policy is None or self.catalog is None or self.waits(bound):
            return _KEEP
        return _both(new, as_old(record_fate(self.policy, self.catalog, dataset)))

    def quarantine_fate(self, new: sql.Composable, loaded: Policy, dataset: Messages, tier: Tier) -> sql.Composable:
        """In quarantine a fate of "keep" means the way back, except under a hold; where they disagree it stays."""
        if self.policy is None or self.catalog is None or self.waits(dataset.id):
            return _STAYS
        old = as_old(quarantine_fate(self.policy, self.catalog, tier))
        return sql.SQL("(CASE WHEN {} = {} THEN {} ELSE {} END)").format(
            _way(new, hold_rule(loaded, tier)), _way(old, hold_rule(self.policy, tier)), new, _STAYS
        )

    def held(self, dataset: Messages, tier: Tier) -> sql.Composable:
        """Whether the configuration in force sees a row of the messages table under hold: then it does not move."""
        if self.policy is None or self.catalog is None or self.waits(dataset.id):
            return sql.SQL("true")
        old = as_old(message_fate(self.policy, self.catalog, tier))
        return sql.SQL("({} = {})").format(old, sql.Literal(f"keep:{hold_rule(self.policy, tier)}"))


def hold_rule(policy: Policy, tier: Tier) -> str:
    rule = policy.rule_for(Trigger.HOLD, Category.PROMPTS_AND_OUTPUTS, tier)
    return rule.id if rule is not None else ""


def _both(new: sql.Composable, old: sql.Composable) -> sql.Composable:
    return sql.SQL(
        "(CASE WHEN split_part({new}, ':', 1) = split_part({old}, ':', 1) THEN {new} ELSE {keep} END)"
    ).format(new=new, old=old, keep=_KEEP)


def _way(fate: sql.Composable, hold: str) -> sql.Composable:
    return sql.SQL("CASE WHEN {fate} = {held} THEN 'quarantine' ELSE split_part({fate}, ':', 1) END").format(
        fate=fate, held=sql.Literal(f"keep:{hold}")
    )


def as_old(query: sql.Composable, names: Iterable[str] = ("horizon",)) -> sql.Composable:
    """The same query with some parameters renamed, so that two policies can stand in one statement."""
    if isinstance(query, sql.Composed):
        return sql.Composed([as_old(part, names) for part in query])
    if isinstance(query, sql.SQL):
        text = query.as_string(None)
        for name in names:
            text = text.replace(f"%({name})s", f"%({_OLD}{name})s")
        return sql.SQL(text)
    return query


def old_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters under the names that `as_old` gives them."""
    return {f"{_OLD}{name}": value for name, value in params.items()}


def guard_of(conn: Connection, loaded: Catalog, policy: Policy | None, catalog: Catalog | None) -> Guard:
    """The guard that a configuration in force makes for a loaded dataset file."""
    if policy is None or catalog is None:
        return Guard(None, None, frozenset())
    if loaded.exceptions != catalog.exceptions or not _evaluable(conn, catalog):
        # They decide every fate, and the gate locks the loaded ones only.
        return Guard(policy, catalog, frozenset(dataset.id for dataset in loaded.datasets))
    waiting = {dataset.id for dataset in loaded.datasets if differs(dataset, catalog)}
    if loaded.has_messages and loaded.messages.id in waiting:
        # A hold on a conversation reaches a log line by way of the messages.
        waiting |= {dataset.id for dataset in loaded.logs}
    return Guard(policy, catalog, frozenset(waiting))


def differs(dataset: Dataset, other: Catalog) -> bool:
    """Whether another dataset file binds a dataset differently, or does not know it."""
    same = next((item for item in other.datasets if item.id == dataset.id), None)
    return same is None or _binding(same) != _binding(dataset)


def _binding(dataset: Dataset) -> dict[str, Any]:
    """Everything that decides a fate; not what is made ahead, how fast it goes, by whom, and what S3 may do."""
    own = dict.fromkeys(("create_ahead", "pace", "shards", "prepared", "read_ahead", "expire"), True)
    return dataset.model_dump(exclude={**own, "objects": {"backstop", "expire"}})


def _evaluable(conn: Connection, catalog: Catalog) -> bool:
    """Whether every column that fates are compiled from still exists."""
    wanted = list(dict.fromkeys(_columns(catalog)))
    found = conn.execute(
        "SELECT count(*) FROM unnest(%s::text[], %s::text[]) AS w (name, attname) JOIN pg_attribute a"
        " ON a.attrelid = to_regclass(w.name) AND a.attname = w.attname AND NOT a.attisdropped",
        ([table(name).as_string(conn) for name, _ in wanted], [column for _, column in wanted]),
    ).fetchone()
    return found is not None and found[0] == len(wanted)


def _columns(catalog: Catalog) -> Iterator[tuple[str, str]]:
    facts = catalog.exceptions
    parts = (facts.flags, facts.consents, facts.cases, facts.agreements)
    for source in (part for part in parts if part is not None):
        for column in (source.named, *source.times, *source.others):
            yield source.table, column
    if not catalog.has_messages:
        return
    messages = catalog.messages
    for column in (column_of(messages.clock), messages.subject, messages.record, messages.group, messages.tier):
        yield messages.table, column
