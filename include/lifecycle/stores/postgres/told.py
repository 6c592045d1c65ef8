"""The tables of exceptions as everything else reads them: with times as instants, and ids that can be compared.

A table whose columns are timestamptz and uuid is read as it is. Any other is read through a subquery of the same
columns, which PostgreSQL takes apart again, so that indexes on its ids serve as far as the ids are bare.
"""

from __future__ import annotations

from psycopg import sql

from lifecycle.catalog.clocks import in_form
from lifecycle.catalog.facts import FactTable
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.ids import Ids, typed

_ROW = "t"


def read_from(facts: FactTable, ids: Ids = "uuid") -> sql.Composable:
    """What to read a table of exceptions from.

    Args:
        ids: what the ids are that they are compared with. Text is a uuid or a number only where it reads as one.
    """
    relation = sql.Identifier(*facts.table.split(".", 1))
    if facts.clocks is None and facts.ids == "uuid":
        return relation
    columns: list[sql.Composable] = [sql.Identifier(_ROW, name) for name in facts.others]
    columns += [
        sql.SQL("{} AS {}").format(_instant(facts, name), sql.Identifier(name)) for name in dict.fromkeys(facts.times)
    ]
    named = typed(sql.Identifier(_ROW, facts.named), facts.ids, ids)
    columns.append(sql.SQL("{} AS {}").format(named, sql.Identifier(facts.named)))
    return sql.SQL("(SELECT {} FROM {} t)").format(sql.SQL(", ").join(columns), relation)


def _instant(facts: FactTable, name: str) -> sql.Composable:
    return ClockSql.of(in_form(name, facts.clocks), _ROW).instant
