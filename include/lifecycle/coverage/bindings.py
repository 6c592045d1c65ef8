"""What a dataset file binds: tables with the part they play, their declared columns, and the identifiers they hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Catalog, Messages, Records
from lifecycle.catalog.stages import all_of
from lifecycle.coverage.facts import Column, Relation
from lifecycle.coverage.names import identifying
from lifecycle.policy.models import Category

OWN_SCHEMA = "lifecycle"
# Too plain to mean the same thing in two tables.
_PLAIN_NAMES = frozenset({"id", "key", "uuid", "token", "ref", "tier", "role", "name"})
_MOSTLY_DIFFERENT = 0.5
_TEXT_OR_UUID = frozenset({"uuid", "text", "character varying", "character"})


class Part(StrEnum):
    """What a bound table is to the records."""

    MESSAGES = "messages"
    CHILD = "child"
    SUBMISSIONS = "submissions"
    OUTLIVING = "outliving"
    ACCOUNTS = "accounts"
    RESEARCH = "research"
    REFRESHED = "refreshed"


@dataclass(frozen=True)
class Bound:
    """A bound table. ``declared``: columns that any binding names."""

    table: str
    part: Part
    declared: frozenset[str]
    said: str


@dataclass(frozen=True)
class Identifier:
    """A column whose values name a record, a conversation, an account or a submission.

    ``declared``: the dataset file says so; otherwise it is a second identifier. ``record``: of the messages themselves.
    """

    table: str
    column: str
    declared: bool
    record: bool = False
    type: str = "uuid"

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def spoken(self) -> str:
        """What other tables are likely to call it: ``message_id`` for ``messages.id``."""
        if self.column.lower() not in _PLAIN_NAMES:
            return self.column
        table = self.table.split(".", 1)[1]
        singular = f"{table[:-3]}y" if table.endswith("ies") else table.removesuffix("s")
        return f"{singular}_{self.column}"


def bound_by(catalog: Catalog) -> dict[str, Bound]:
    """Every bound table, by name. The part that demands most of its columns wins."""
    found: dict[str, Bound] = {}
    for bound in (*_exceptions(catalog), *_datasets(catalog)):
        other = found.get(bound.table)
        declared = bound.declared | (other.declared if other else frozenset())
        found[bound.table] = Bound(bound.table, bound.part, declared, bound.said)
    for child in catalog.accounts.referenced_by if catalog.has_accounts else ():
        bound_child = found.get(child.table)
        if bound_child is not None:
            declared = bound_child.declared | {child.key}
            found[child.table] = Bound(child.table, bound_child.part, declared, bound_child.said)
    return found


def _exceptions(catalog: Catalog) -> Iterator[Bound]:
    exceptions = catalog.exceptions
    for name, part in (
        ("flags", Part.OUTLIVING),
        ("consents", Part.SUBMISSIONS),
        ("cases", Part.OUTLIVING),
        ("agreements", Part.OUTLIVING),
    ):
        facts = getattr(exceptions, name)
        if facts is not None:
            columns = (facts.named, *facts.times, *facts.others)
            yield _bound(facts.table, part, columns, f"exceptions.{name}")


def _datasets(catalog: Catalog) -> Iterator[Bound]:
    if catalog.has_messages:
        yield from _of_messages(catalog.messages)
    for dataset in catalog.tables:
        yield from _beside(dataset)
        columns = (*dataset.key_columns, dataset.subject, column_of(dataset.clock), dataset.tier)
        tiers = dataset.tiers
        told_by = None if tiers is None else tiers.column if tiers.table is None else tiers.by
        more = (dataset.record, dataset.group, dataset.basis, told_by)
        yield _bound(dataset.table, _part(dataset), (*columns, *more), f"dataset {dataset.id}")
    if catalog.has_accounts:
        accounts = catalog.accounts
        named = (accounts.key, accounts.tier, column_of(accounts.clock), *accounts.personal)
        yield _bound(accounts.table, Part.ACCOUNTS, named, f"dataset {accounts.id}")


def _of_messages(messages: Messages) -> Iterator[Bound]:
    yield _bound(messages.research.table, Part.RESEARCH, (), "the research table")
    for child in messages.children:
        yield _bound(child.table, Part.CHILD, (child.key,), f"a child of dataset {messages.id}")
    yield _bound(
        messages.table,
        Part.MESSAGES,
        (
            *(
                messages.tier,
                messages.subject,
                messages.record,
                messages.group,
                column_of(messages.clock),
                messages.role,
            ),
            *(messages.model, messages.body, messages.objects.column),
        ),
        f"dataset {messages.id}",
    )


def _beside(dataset: Records) -> Iterator[Bound]:
    """What goes with a row, and the content of a row that goes before it."""
    for child in all_of(dataset.children):
        yield _bound(child.table, Part.CHILD, (child.key,), f"a child of dataset {dataset.id}")
    for part in dataset.parts:
        cleared = (each.column for each in part.part.clear)
        yield _bound(part.table, _part(dataset), cleared, f"dataset {dataset.id}")
    for view in dataset.refresh:
        yield _bound(view, Part.REFRESHED, (), f"refreshed with dataset {dataset.id}")


def _part(dataset: Records) -> Part:
    match dataset.category:
        case Category.FEEDBACK:
            return Part.SUBMISSIONS
        case Category.TRAINING_USE:
            return Part.CHILD
        case Category.PROMPTS_AND_OUTPUTS:
            # The row is content itself: whatever it says goes with it, at the deadline of content.
            return Part.CHILD
        case _:
            return Part.OUTLIVING


def _bound(table: str, part: Part, columns: Iterable[str | None], said: str) -> Bound:
    return Bound(table, part, frozenset(name for name in columns if name is not None), said)


def identifiers_of(catalog: Catalog, relations: Collection[Relation]) -> tuple[Identifier, ...]:
    """What the dataset file names as identifiers, and the second identifiers that bound tables have beside them."""
    bound = bound_by(catalog)
    tables = {relation.name: relation for relation in relations if relation.name in bound}
    found: dict[tuple[str, str], Identifier] = {}
    for identifier in _declared(catalog):
        column = _column(tables.get(identifier.table), identifier.column)
        if column is not None:
            found[(identifier.table, identifier.column)] = Identifier(
                identifier.table, identifier.column, True, identifier.record, column.type
            )
    named = {identifier.column for identifier in found.values()}
    others = [relation for relation in relations if relation.name not in bound]
    keys = {column.name for relation in others for column in relation.columns if column.unique}
    for table, relation in tables.items():
        if bound[table].part in (Part.RESEARCH, Part.REFRESHED):
            continue
        looked_up = {item.column for item in relation.references if item.table not in bound}
        for column in relation.columns:
            # A column that has the name of a declared identifier only repeats it.
            if column.name in named or (table, column.name) in found or column.type not in _TEXT_OR_UUID:
                continue
            if column.name not in looked_up and is_second(column, keys):
                found[(table, column.name)] = Identifier(table, column.name, False, False, column.type)
    return tuple(found.values())


def is_second(column: Column, keys: Collection[str]) -> bool:
    """Whether a column beside the declared ones identifies its row. The key of a lookup table does not: many rows share
    it. ``keys``: names of unique columns of tables that are not bound."""
    if column.unique:
        return True
    if column.type != "uuid" and not identifying(column.name):
        return False
    return column.name not in keys if column.distinct is None else column.distinct >= _MOSTLY_DIFFERENT


def _declared(catalog: Catalog) -> Iterator[Identifier]:
    if catalog.has_messages:
        messages = catalog.messages
        yield Identifier(messages.table, messages.record, True, record=True)
        yield Identifier(messages.table, messages.group, True)
        # The subject of a message need not have an account row.
        yield Identifier(messages.table, messages.subject, True)
    if catalog.has_accounts:
        yield Identifier(catalog.accounts.table, catalog.accounts.key, True)
    for dataset in catalog.tables:
        if isinstance(dataset.key, str):
            # A part of a key names no row by itself.
            yield Identifier(dataset.table, dataset.key, True)


def _column(relation: Relation | None, name: str) -> Column | None:
    if relation is None:
        return None
    return next((column for column in relation.columns if column.name == name), None)
