"""The auditor's own reading of the tables of exceptions, whatever their ids and times are: see `clocks.reading`."""

from __future__ import annotations

from psycopg import sql

from lifecycle.catalog.clocks import in_form
from lifecycle.catalog.facts import FactTable
from lifecycle.catalog.models import Ids
from lifecycle.validation.clocks import reading

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def id_of(column: sql.Composable, ids: Ids) -> sql.Composable:
    """The uuid that a column names, whatever it is; null where it reads as none."""
    if ids == "uuid":
        return column
    return sql.SQL("substring(lower(trim({}::text)) FROM {})::uuid").format(column, sql.Literal(_UUID))


def as_read(facts: FactTable, ids: Ids = "uuid") -> sql.Composable:
    """A table of exceptions, or what shows it with its times as instants and its ids as what they are compared with."""
    schema, name = facts.table.split(".", 1)
    table = sql.Identifier(schema, name)
    if facts.ids == "uuid" and facts.clocks is None:
        return table
    shown: list[sql.Composable] = [
        sql.SQL("{} AS {}").format(reading(in_form(column, facts.clocks), "e"), sql.Identifier(column))
        for column in dict.fromkeys(facts.times)
    ]
    shown += [sql.Identifier("e", column) for column in facts.others]
    named = sql.Identifier("e", facts.named)
    shown_as = id_of(named, facts.ids) if ids == "uuid" else named
    shown.append(sql.SQL("{} AS {}").format(shown_as, sql.Identifier(facts.named)))
    return sql.SQL("(SELECT {} FROM {} e)").format(sql.SQL(", ").join(shown), table)
