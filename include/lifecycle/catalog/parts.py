"""What the parts of a dataset file must not be to each other: one column for two things, one table for two parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from lifecycle.catalog.clocks import column_of, is_id
from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category
from lifecycle.yaml_source import Path_

if TYPE_CHECKING:
    from pydantic import BaseModel

    from lifecycle.catalog.models import Catalog, Dataset

_COLUMNS = ("key", "tier", "subject", "record", "group", "clock", "role", "model", "body", "basis")
_LONGEST_AHEAD = timedelta(days=366)
_EXCEPTIONS = {
    "flags": ("record", "flagged", "cleared"),
    "consents": ("group", "given", "withdrawn"),
    "cases": ("subject", "opened", "closed"),
    "agreements": ("subject", "category", "retain", "effective_from", "effective_to"),
}


def part_contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    for index, dataset in enumerate(catalog.datasets):
        yield from _columns(dataset, ("datasets", index))
    for name, columns in _EXCEPTIONS.items():
        if (facts := getattr(catalog.exceptions, name)) is not None:
            yield from _distinct(facts, columns, ("exceptions", name))
    yield from _exceptions(catalog)
    if catalog.has_messages:
        yield from _children(catalog)
    yield from _ahead(catalog)
    if catalog.has_accounts:
        yield from _personal(catalog)
    yield from _log_paths(catalog)


def _index(catalog: Catalog, dataset: Dataset) -> int:
    return next(index for index, item in enumerate(catalog.datasets) if item is dataset)


def _columns(dataset: Dataset, where: Path_) -> Iterator[Contradiction]:
    names = tuple(name for name in _COLUMNS if getattr(dataset, name, None) is not None)
    # A table may have one row per message, or per conversation, and then that is its key.
    if dataset.type == "table":
        names = tuple(
            name for name in names if name not in ("record", "group") or getattr(dataset, name) != dataset.key
        )
    if dataset.type == "table" and not isinstance(dataset.key, str):
        # What a key of several columns is made of is often the subject or the clock too.
        names = tuple(name for name in names if name != "key")
        yield from _twice_in(dataset.key_columns, (*where, "key"))
    # An id that tells the time is the clock and a name at once.
    clock = getattr(dataset, "clock", None)
    if clock is not None and dataset.type != "logs" and is_id(clock):
        names = tuple(name for name in names if name != "clock")
    yield from _distinct(dataset, names, where)


def _twice_in(keys: Sequence[str], where: Path_) -> Iterator[Contradiction]:
    twice = sorted({name for name in keys if keys.count(name) > 1})
    if twice:
        yield Contradiction(where, f"{', '.join(twice)} is listed twice", "List each column of the key once")


def _distinct(model: BaseModel, names: Sequence[str], where: Path_) -> Iterator[Contradiction]:
    seen: dict[str, str] = {}
    for name in names:
        column = column_of(getattr(model, name))
        if column in seen:
            yield Contradiction(
                (*where, name),
                f"column {column} is already the {seen[column]!r}",
                "Name the column that holds this",
            )
        seen.setdefault(column, name)


def _exceptions(catalog: Catalog) -> Iterator[Contradiction]:
    taken = {catalog.messages.table: "the messages"} if catalog.has_messages else {}
    taken |= {catalog.accounts.table: "the accounts"} if catalog.has_accounts else {}
    for name in _EXCEPTIONS:
        facts = getattr(catalog.exceptions, name)
        if facts is None:
            continue
        table = facts.table
        if table in taken:
            yield Contradiction(
                ("exceptions", name, "table"),
                f"{table} already holds {taken[table]}: each row of it would count as an exception",
                "Name the table whose rows are these exceptions",
            )
        taken[table] = f"the {name}"


def _children(catalog: Catalog) -> Iterator[Contradiction]:
    """A child goes with its message, so it must be nothing that stays longer or that keeps others."""
    messages = catalog.messages
    where = ("datasets", _index(catalog, messages), "children")
    exceptions = catalog
    keeping = {exceptions.cases.table: "enforcement cases", exceptions.agreements.table: "agreements"}
    longer = {
        dataset.table: dataset.id
        for dataset in catalog.tables
        if dataset.category in (Category.SAFETY_SCORES, Category.FEEDBACK)
    }
    for index, child in enumerate(messages.children):
        if child.table in keeping:
            yield Contradiction(
                (*where, index, "table"),
                f"{child.table} holds {keeping[child.table]}, which are about accounts and outlive a message",
                "Remove it from 'children'",
            )
        elif child.table in longer:
            yield Contradiction(
                (*where, index, "table"),
                f"{child.table} is dataset {longer[child.table]!r}, which has a period of its own",
                "Remove it from 'children'",
            )
    of_accounts = ("cases", "agreements") if messages.subject_ids != "uuid" else ()
    for name in ("flags", "consents", "cases", "agreements"):
        if getattr(exceptions.exceptions, name).ids == "bigint" and name not in of_accounts:
            yield Contradiction(
                ("exceptions", name, "ids"),
                "messages and their accounts are uuids, which no number names",
                "Write `ids: text` if the column holds them as text, or leave it out",
            )
    if catalog.has_accounts and catalog.accounts.ids != messages.subject_ids:
        yield Contradiction(
            ("datasets", _index(catalog, catalog.accounts), "ids"),
            f"the accounts of {messages.id!r} are {messages.subject_ids} there, and {catalog.accounts.ids} here",
            "Say the same in both places: `subject_ids` of the messages, `ids` of the accounts",
        )
    told = next((child.ids for child in messages.children if child.table == exceptions.flags.table), None)
    if told is not None and exceptions.flags.ids not in (told, "bigint"):
        yield Contradiction(
            ("exceptions", "flags", "ids"),
            f"ids of {exceptions.flags.table} are {exceptions.flags.ids} here, and {told} among the children of"
            f" {messages.id!r}",
            "Say the same in both places",
        )
    if exceptions.flags.table not in {child.table for child in messages.children}:
        yield Contradiction(
            ("exceptions", "flags", "table"),
            f"{exceptions.flags.table} is not among the children of {messages.id!r}, so flags would outlive messages",
            f"Add `- {{table: {exceptions.flags.table}, key: {exceptions.flags.record}}}` to its children",
        )


def _personal(catalog: Catalog) -> Iterator[Contradiction]:
    accounts = catalog.accounts
    twice = sorted({name for name in accounts.personal if accounts.personal.count(name) > 1})
    if twice:
        yield Contradiction(
            ("datasets", _index(catalog, accounts), "personal"),
            f"{', '.join(twice)} is listed twice",
            "List each column once",
        )


def _ahead(catalog: Catalog) -> Iterator[Contradiction]:
    for dataset in (*((catalog.messages,) if catalog.has_messages else ()), *catalog.tables):
        ahead = dataset.create_ahead
        if ahead is not None and (ahead.seconds or not timedelta(days=1) <= ahead.longest() <= _LONGEST_AHEAD):
            yield Contradiction(
                ("datasets", _index(catalog, dataset), "create_ahead"),
                f"{ahead} is not a number of days between one and 366: there is a partition for each day",
                "Write for example P7D",
            )


def _log_paths(catalog: Catalog) -> Iterator[Contradiction]:
    for dataset in catalog.logs:
        parts = dataset.prefix.split("/")
        if "." in parts or ".." in parts:
            yield Contradiction(
                ("datasets", _index(catalog, dataset), "prefix"),
                f"{dataset.prefix!r} has a part '.' or '..', which no key of the store begins with",
                "Write the whole prefix, for example requests/",
            )
