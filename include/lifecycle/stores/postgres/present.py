"""What of a row is still there to go: personal columns of an account, the content of a stage, or the row itself.

Told by the columns themselves: nothing marks a row as emptied, so emptying it twice changes nothing.
"""

from __future__ import annotations

from psycopg import sql

from lifecycle.catalog.models import Accounts, OrphanRecords, Records, StagedRecords
from lifecycle.catalog.stages import Cleared

TRUE = sql.SQL("true")


def present(dataset: Records | Accounts, alias: str = "m") -> sql.Composable:
    """Whether a row of the table still holds what the dataset disposes of."""
    if isinstance(dataset, Accounts):
        return sql.SQL("num_nonnulls({}) > 0").format(
            sql.SQL(", ").join(sql.Identifier(alias, name) for name in dataset.personal)
        )
    if isinstance(dataset, StagedRecords):
        return holds_any(dataset.part.clear, (alias,))
    if isinstance(dataset, OrphanRecords):
        part = dataset.orphan
        return sql.SQL("({key} IS NOT NULL AND NOT EXISTS (SELECT FROM {parent} o WHERE o.{above} = {key}))").format(
            key=sql.Identifier(alias, part.key),
            parent=sql.Identifier(*part.parent.split(".", 1)),
            above=sql.Identifier(part.parent_key),
        )
    return TRUE


def holds_any(columns: tuple[Cleared, ...], prefix: tuple[str, ...] = ()) -> sql.Composable:
    """Whether any of some columns holds something; also the predicate of the index that finds such rows.

    The literal takes the column's own type, so that a jsonb column is compared as jsonb.
    """
    return sql.SQL("({})").format(sql.SQL(" OR ").join(_holds(column, prefix) for column in columns))


def _holds(column: Cleared, prefix: tuple[str, ...]) -> sql.Composable:
    name = sql.Identifier(*prefix, column.column)
    if column.value is None:
        return sql.SQL("{} IS NOT NULL").format(name)
    return sql.SQL("{} <> {}").format(name, sql.Literal(column.value))


def emptied(dataset: Records | Accounts) -> sql.Composable | None:
    """What a row is changed to, as a SET clause; None where the row itself goes."""
    if isinstance(dataset, Accounts):
        return _set([Cleared(column=name) for name in dataset.personal])
    return _set(dataset.part.clear) if isinstance(dataset, StagedRecords) else None


def _set(columns: tuple[Cleared, ...] | list[Cleared]) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL("{} = {}").format(
            sql.Identifier(each.column), sql.SQL("NULL") if each.value is None else sql.Literal(each.value)
        )
        for each in columns
    )
