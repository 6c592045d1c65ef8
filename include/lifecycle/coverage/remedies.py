"""What to paste into the dataset file so that a difference goes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from lifecycle.catalog.models import Catalog
from lifecycle.coverage.bindings import Part
from lifecycle.coverage.differences import Remedy
from lifecycle.coverage.facts import Stray
from lifecycle.coverage.suspicions import Suspicion

# Sound as it stands, so that it can be pasted; a warning reminds of it until somebody has written the true one.
UNWRITTEN_REASON = "say why no rule is needed, and who decided"
_A_YEAR = timedelta(days=365)


def excluding(as_of: datetime, **target: str) -> Remedy:
    """An exclusion that runs for a year."""
    named = ", ".join(f"{key}: {_scalar(value)}" for key, value in target.items())
    until: date = (as_of + _A_YEAR).date()
    entry = f'- {{{named}, reason: "{UNWRITTEN_REASON}", until: {until.isoformat()}}}'
    return Remedy("or, where no rule is needed, below exclusions:", entry)


def for_table(name: str, suspicions: Sequence[Suspicion], catalog: Catalog, as_of: datetime) -> tuple[Remedy, ...]:
    """A child of the messages where the table names their record; an account's keeper; or an exclusion."""
    record = next((item.column for item in suspicions if item.target is not None and item.target.record), None)
    accounts = catalog.accounts.table if catalog.has_accounts else None
    account = next((item.column for item in suspicions if item.target and item.target.table == accounts), None)
    found = []
    if record is not None:
        found.append(
            Remedy(
                f"below children of dataset {catalog.messages.id}, so that its rows go with their message:",
                f"- {{table: {name}, key: {record}}}",
            )
        )
    if account is not None:
        found.append(
            Remedy(
                f"below referenced_by of dataset {catalog.accounts.id}, so that an account outlives these rows:",
                f"- {{table: {name}, key: {account}}}",
            )
        )
    return (*found, excluding(as_of, table=name))


def for_column(table: str, column: str, part: Part, catalog: Catalog, as_of: datetime) -> tuple[Remedy, ...]:
    excluded = excluding(as_of, table=table, column=column)
    if part is not Part.ACCOUNTS:
        return (Remedy("move it to a table that is a child of the messages, or drop it"), excluded)
    personal = ", ".join((*catalog.accounts.personal, column))
    return (
        Remedy(f"in dataset {catalog.accounts.id}, so that it is nulled with the rest:", f"personal: [{personal}]"),
        excluded,
    )


def for_large_object(table: str, column: str, as_of: datetime) -> tuple[Remedy, ...]:
    return (
        Remedy("keep the content in the row (bytea, text), or run PostgreSQL's vacuumlo after each run and say so:"),
        excluding(as_of, table=table, column=column),
    )


def for_copy(name: str, as_of: datetime) -> tuple[Remedy, ...]:
    return (
        Remedy("drop it, or replace it by a plain view: what is deleted stays in a copy until somebody refreshes it"),
        Remedy("below the dataset of type table it is made from, so that runs refresh it:", f"refresh: [{name}]"),
        excluding(as_of, table=name),
    )


def for_bucket(name: str, as_of: datetime) -> tuple[Remedy, ...]:
    logs = (
        f"- {{id: {_dataset_id(name)}, type: logs, category: prompts_and_outputs, bucket: {name}, prefix: requests/, "
        "record: message_id, subject: account_id, tier: tier, clock: received_at}"
    )
    return (
        Remedy("where it holds records, many in one object, below datasets (correct prefix and fields):", logs),
        excluding(as_of, bucket=name),
    )


def for_stray(bucket: str, stray: Stray, as_of: datetime) -> tuple[Remedy, ...]:
    move = Remedy("move the objects below a declared prefix, or remove them with all their versions")
    return (move, excluding(as_of, bucket=bucket, prefix=stray.begins)) if stray.begins else (move,)


def _dataset_id(bucket: str) -> str:
    word = "".join(letter if letter.isalnum() else "_" for letter in bucket)
    return word if word[:1].isalpha() else f"bucket_{word}"


def _scalar(text: str) -> str:
    """Quoted where YAML would read something else, for example a number."""
    plain = text.replace("_", "").replace("-", "").replace("/", "").replace(".", "").isalnum() and text[0].isalpha()
    return text if plain else f'"{text}"'
