"""What of a row is still there to go: personal columns of an account, the content of a stage, or the row itself; and
whether the row is one of those that the dataset speaks of.

Told by the columns themselves: nothing marks a row as emptied, so emptying it twice changes nothing.
"""

from __future__ import annotations

from psycopg import sql

from lifecycle.catalog.models import Accounts, OrphanRecords, Records, StagedRecords
from lifecycle.catalog.stages import Cleared

TRUE = sql.SQL("true")


def present(dataset: Records | Accounts, alias: str = "m") -> sql.Composable:
    """Whether a row of the table is of the dataset, and still holds what the dataset disposes of.

    Args:
        alias: of the table; empty in the definition of an index, which has none.
    """
    left, mine = _left(dataset, alias), of_share(dataset, alias)
    if mine == TRUE:
        return left
    return mine if left == TRUE else sql.SQL("({} AND {})").format(mine, left)


def of_share(dataset: object, alias: str = "m") -> sql.Composable:
    """Whether a row is of the tier whose share of the table the dataset is.

    The column stays bare and its values take its own type, so that an index on it serves. True of every row for
    exactly one of the shares: what is null, or no declared value, is of no known tier.
    """
    share = dataset.share_of if isinstance(dataset, Records) else None
    if share is None:
        return TRUE
    of_row = (alias,) if alias else ()
    tiers, column = share.tiers, sql.Identifier(*of_row, share.tiers.column)
    told: sql.Composable = column
    if tiers.table is not None:
        told = sql.SQL("(SELECT t.{} FROM {} t WHERE t.{} = {})").format(
            sql.Identifier(tiers.column),
            sql.Identifier(*tiers.table.split(".", 1)),
            sql.Identifier(tiers.key or ""),
            sql.Identifier(*of_row, share.by),
        )
    if share.tier is None:
        return sql.SQL("({} = ANY ({})) IS NOT TRUE").format(told, sql.Literal(list(tiers.known)))
    held = tiers.held_for(share.tier)
    if len(held) == 1:
        return sql.SQL("{} = {}").format(told, sql.Literal(held[0]))
    return sql.SQL("{} = ANY ({})").format(told, sql.Literal(list(held)))


def _left(dataset: Records | Accounts, alias: str) -> sql.Composable:
    if isinstance(dataset, Accounts):
        return sql.SQL("num_nonnulls({}) > 0").format(
            sql.SQL(", ").join(sql.Identifier(alias, name) for name in dataset.personal)
        )
    if isinstance(dataset, StagedRecords):
        return holds_any(dataset.part.clear, (alias,) if alias else ())
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
