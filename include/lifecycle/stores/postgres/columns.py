"""Columns whose type would make a comparison mean something else than the policy says. Looked for in the catalogue.

Targets of holds and requests are compared as the text of a uuid, which is lower case: an id of another type that has
capitals would not be found, and a held record could go. A clock is what the dataset file says it is: a time without
zone taken for an instant would be read in the session's (case 10).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, TimestampClock, UlidClock, Uuid7Clock, column_of, in_form
from lifecycle.catalog.facts import FactTable
from lifecycle.catalog.models import Accounts, Catalog, Dataset, Logs, Messages, Records, subject_ids_of
from lifecycle.stores.postgres.clocks import ordered_like_bytes
from lifecycle.stores.postgres.connect import Connection

ID, CLOCK = "uuid", "timestamp with time zone"
TIERS, EXCEPTIONS = "tiers", "exceptions"
_LOCAL, _INTEGERS, _TEXTS = "timestamp without time zone", ("bigint", "integer"), ("text", "character varying")
_IDS = {ID: (ID,), "text": _TEXTS, "bigint": _INTEGERS}
_SORTED = "text that sorts like its bytes"
# A domain counts as what it is made from.
_TYPE = (
    "SELECT format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, NULL) FROM pg_attribute a"
    " JOIN pg_type t ON t.oid = a.atttypid"
    " WHERE a.attrelid = to_regclass(%s) AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped"
)

_COLLATION = (
    "SELECT n.nspname, c.collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation"
    " JOIN pg_namespace n ON n.oid = c.collnamespace WHERE a.attrelid = to_regclass(%s) AND a.attname = %s"
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
    told: bool = True
    """Whether the dataset file can say what the column is."""
    alone: bool = False
    """Whether it can say so of the subject only."""

    @property
    def message(self) -> str:
        named = f"{self.table}.{self.column} ({self.field} of {self.dataset})"
        return f"{named} does not exist" if self.found is None else f"{named} is {self.found}, not {self.wanted}"

    @property
    def remedy(self) -> str:
        if self.found is None:
            return "Name another column in the dataset file, or make this one"
        if self.field == TIERS:
            return "Name another column, say what it holds (`values: {free: consumer}` below `tiers`), or make it so"
        if self.field == EXCEPTIONS and (line := _line_of_exceptions(self.found, ids=ID in self.wanted)) is not None:
            return f"Write `{line}` below exceptions.{self.dataset}: all its columns of that kind are of one type"
        if self.field == "referenced_by":
            return "Name the column that has the account's id; it must be of the same type as the accounts' key"
        if self.field == "copies":
            return "Name a column that can be emptied, a jsonb one where there is a path, or leave it out of the copies"
        if self.field == "clear":
            return (
                "Clear it to a value that it takes (null, '', '{}', '[]', '0' or 'false'), or leave it out of the stage"
            )
        if self.wanted == _SORTED:
            return f'Give {self.column} the collation "C": its order must be that of time'
        told = (self._clock if self.field == "clock" else self._ids) if self.told else None
        if told is not None:
            return told
        if self.wanted == ID:
            return "Bind a column of type uuid: holds and requests are compared as uuids, and one might not be found"
        return f"Store it as {self.wanted}: without a zone it would be acted on hours early or late"

    @property
    def _clock(self) -> str | None:
        line = _line(self.column, self.found or "")
        return None if line is None else f"Write `{line}`{_WHICH.get(self.found or '', '')}"

    @property
    def _ids(self) -> str | None:
        kinds = [kind for kind, types in _IDS.items() if self.found in types]
        if not kinds:
            return None
        if self.field == "key":
            return f"Write `ids: {kinds[0]}` for the accounts, and `subject_ids: {kinds[0]}` for their messages"
        if self.alone:
            return f"Write `subject_ids: {kinds[0]}` in this dataset, and `ids: {kinds[0]}` for its accounts"
        said = (
            "in this dataset: its record and group are of one type, and its subject unless `subject_ids` says another"
        )
        return f"Write `ids: {kinds[0]}` {said}"

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"


_UNITS = (
    ", with the unit that the application writes (a time of today has 10 digits in s, 13 in ms, 16 in us, 19 in ns)"
)
_WHICH = {
    _LOCAL: ", with the zone in which the application writes: without one it would be acted on hours early or late",
    "bigint": _UNITS,
    "integer": _UNITS,
    "uuid": " if all of its ids are of version 7, or name another column",
    "text": " if it holds ULIDs in upper case, or name another column",
    "character varying": " if it holds ULIDs in upper case, or name another column",
}


def _line(column: str, found: str) -> str | None:
    """What to write into the dataset file for a column of a type; None where nothing reads it."""
    name = column if column.isidentifier() and column.isascii() else f"'{column.replace(chr(39), chr(39) * 2)}'"
    match found:
        case "timestamp with time zone":
            return f"clock: {name}"
        case "timestamp without time zone":
            return f"clock: {{column: {name}, is: timestamp, zone: UTC}}"
        case "bigint" | "integer":
            return f"clock: {{column: {name}, is: epoch, unit: ms}}"
        case "uuid":
            return f"clock: {{column: {name}, is: uuid7}}"
        case "text" | "character varying":
            return f"clock: {{column: {name}, is: ulid}}"
        case _:
            return None


def _line_of_exceptions(found: str, *, ids: bool) -> str | None:
    """What to write for the ids, or for all times, of a table of exceptions."""
    if ids:
        return next((f"ids: {kind}" for kind, types in _IDS.items() if found in types), None)
    if found == _LOCAL:
        return "clocks: {is: timestamp, zone: UTC}"
    return "clocks: {is: epoch, unit: ms}" if found in _INTEGERS else None


def _types_of(clock: Clock) -> tuple[str, ...]:
    match clock:
        case TimestampClock():
            return (_LOCAL,)
        case EpochClock():
            return _INTEGERS
        case UlidClock():
            return _TEXTS
        case Uuid7Clock():
            return (ID,)
        case _:
            return (CLOCK,)


def misfits(conn: Connection, catalog: Catalog) -> list[Misfit]:
    """Ids and clocks of the dataset file, and of its exceptions, that runs must not work with."""
    found = []
    for dataset, field, table, column, wanted in _columns(catalog):
        kind = type_of(conn, table, column)
        if kind not in wanted:
            alone = field == "subject" and not _is_told(catalog, dataset)
            told = field == "clock" or alone or _is_told(catalog, dataset)
            found.append(Misfit(dataset, field, table, column, " or ".join(wanted), kind, told, alone))
        elif wanted == _TEXTS and field == "clock" and not _sorted_like_bytes(conn, table, column):
            found.append(Misfit(dataset, field, table, column, _SORTED, "text of another collation"))
    return found


def type_of(conn: Connection, table: str, column: str) -> str | None:
    """The type of a column, as the catalogue writes it; None where there is none of that name."""
    row = conn.execute(_TYPE, (sql.Identifier(*table.split(".", 1)).as_string(conn), column)).fetchone()
    return None if row is None else str(row[0])


def _is_told(catalog: Catalog, name: str) -> bool:
    return any(dataset.id == name and isinstance(dataset, Records | Accounts) for dataset in _bound(catalog))


def _bound(catalog: Catalog) -> tuple[Dataset, ...]:
    """The datasets of the file, and children whose orphans have a clock of their own."""
    return (*catalog.datasets, *(each for dataset in catalog.tables for each in dataset.swept))


def _sorted_like_bytes(conn: Connection, table: str, column: str) -> bool:
    row = conn.execute(_COLLATION, (sql.Identifier(*table.split(".", 1)).as_string(conn), column)).fetchone()
    if row is None:
        return False
    answer = conn.execute(ordered_like_bytes((str(row[0]), str(row[1])))).fetchone()
    return bool(answer and answer[0])


def _columns(catalog: Catalog) -> Iterator[tuple[str, str, str, str, tuple[str, ...]]]:
    for dataset in _bound(catalog):
        if isinstance(dataset, Logs):
            continue
        for field, column, wanted in _fields(dataset):
            if column is not None:
                yield dataset.id, field, dataset.table, column, wanted
    for name in ("flags", "consents", "cases", "agreements"):
        facts: FactTable | None = getattr(catalog.exceptions, name)
        if facts is None:
            continue
        yield name, EXCEPTIONS, facts.table, facts.named, _IDS[facts.ids]
        for column in facts.times:
            wanted = _types_of(in_form(column, facts.clocks))
            if facts.clocks is None and column != facts.ends:
                wanted = (CLOCK, _LOCAL)  # sessions are in UTC, and a beginning decides about no deadline
            yield name, EXCEPTIONS, facts.table, column, wanted
    for child in catalog.accounts.referenced_by if catalog.has_accounts else ():
        if not child.table.startswith("lifecycle."):
            yield catalog.accounts.id, "referenced_by", child.table, child.key, _IDS[catalog.accounts.ids]
    for child in catalog.messages.children if catalog.has_messages else ():
        if child.ids != ID:
            yield catalog.messages.id, "children", child.table, child.key, _IDS[child.ids]


def _fields(dataset: Messages | Records | Accounts) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
    yield "clock", column_of(dataset.clock), _types_of(dataset.clock)
    if isinstance(dataset, Accounts):
        yield "key", dataset.key, _IDS[dataset.ids]
        return
    wanted = _IDS[dataset.ids if isinstance(dataset, Records) else ID]
    yield "subject", dataset.subject, _IDS[subject_ids_of(dataset)]
    yield "record", dataset.record, wanted
    yield "group", dataset.group, wanted
