"""Columns whose type would make a comparison mean something else than the policy says. Looked for in the catalogue.

Targets of holds and requests are compared as the text of a uuid, which is lower case: an id of another type that has
capitals would not be found, and a held record could go. A clock without zone would be read in the session's (case 10).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from lifecycle.catalog.models import Accounts, Catalog, Logs, Messages, Records
from lifecycle.stores.postgres.connect import Connection

ID, CLOCK = "uuid", "timestamp with time zone"
# A domain counts as what it is made from.
_TYPE = (
    "SELECT format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, NULL) FROM pg_attribute a"
    " JOIN pg_type t ON t.oid = a.atttypid"
    " WHERE a.attrelid = to_regclass(%s) AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped"
)


@dataclass(frozen=True)
class Misfit:
    """A configured column that is missing or of another type than it can have."""

    dataset: str
    field: str
    table: str
    column: str
    wanted: str
    found: str | None

    @property
    def message(self) -> str:
        named = f"{self.table}.{self.column} ({self.field} of {self.dataset})"
        return f"{named} does not exist" if self.found is None else f"{named} is {self.found}, not {self.wanted}"

    @property
    def remedy(self) -> str:
        if self.found is None:
            return "Name another column in the dataset file, or make this one"
        if self.wanted == ID:
            return "Bind a column of type uuid: holds and requests are compared as uuids, and one might not be found"
        return f"Store it as {self.wanted}: without a zone it would be acted on hours early or late"

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"


def misfits(conn: Connection, catalog: Catalog) -> list[Misfit]:
    """Ids and clocks of the dataset file, and of its exceptions, that runs must not work with."""
    found = []
    for dataset, field, table, column, wanted in _columns(catalog):
        row = conn.execute(_TYPE, (sql.Identifier(*table.split(".", 1)).as_string(conn), column)).fetchone()
        kind = None if row is None else str(row[0])
        if kind != wanted:
            found.append(Misfit(dataset, field, table, column, wanted, kind))
    return found


def _columns(catalog: Catalog) -> Iterator[tuple[str, str, str, str, str]]:
    for dataset in catalog.datasets:
        if isinstance(dataset, Logs):
            continue
        for field, column, wanted in _fields(dataset):
            if column is not None:
                yield dataset.id, field, dataset.table, column, wanted
    facts = catalog.exceptions
    if (flags := facts.flags) is not None:
        yield "flags", "exceptions", flags.table, flags.record, ID
        yield "flags", "exceptions", flags.table, flags.cleared, CLOCK
    if (consents := facts.consents) is not None:
        yield "consents", "exceptions", consents.table, consents.group, ID
        yield "consents", "exceptions", consents.table, consents.withdrawn, CLOCK
    if (cases := facts.cases) is not None:
        yield "cases", "exceptions", cases.table, cases.subject, ID
        yield "cases", "exceptions", cases.table, cases.closed, CLOCK
    if (agreements := facts.agreements) is not None:
        yield "agreements", "exceptions", agreements.table, agreements.subject, ID


def _fields(dataset: Messages | Records | Accounts) -> Iterator[tuple[str, str | None, str]]:
    yield "clock", dataset.clock, CLOCK
    if isinstance(dataset, Accounts):
        yield "key", dataset.key, ID
        return
    yield "subject", dataset.subject, ID
    yield "record", dataset.record, ID
    yield "group", dataset.group, ID
