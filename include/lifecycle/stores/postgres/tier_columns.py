"""Columns that tell the tier of a row, and indexes by which each tier's rows are found. Looked for in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Catalog, Records, StagedRecords
from lifecycle.catalog.tiers import Tiers
from lifecycle.stores.postgres.columns import TIERS, Misfit, type_of
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.indexes import MissingIndex, has_clock_index
from lifecycle.stores.postgres.present import present

_UNIQUE = (
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
    " WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL"
    " AND i.indnkeyatts = 1 AND a.attname = %s)"
)
# The server writes a predicate in its own words; these must be among them.
_PARTIAL = (
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0],"
    " pg_get_expr(i.indpred, i.indrelid) p WHERE i.indrelid = to_regclass(%s) AND i.indisvalid AND a.attname = %s"
    " AND p LIKE '%%IS NOT TRUE%%' = %s AND (SELECT bool_and(strpos(p, w) > 0) FROM unnest(%s::text[]) w))"
)
_HOLDS_ONLY = " and holds only rows of this tier"
_ALIKE = (("text", "character varying"), ("bigint", "integer", "smallint"))


def unfit_for_tiers(conn: Connection, catalog: Catalog) -> Iterator[Misfit]:
    """Tiers that could not be told: a column that cannot hold what the file says, a key that is not unique."""
    for dataset in catalog.tables:
        if dataset.tiers is not None:
            yield from _unfit(conn, dataset, dataset.tiers)


def _unfit(conn: Connection, dataset: Records, tiers: Tiers) -> Iterator[Misfit]:
    told = tiers.table or dataset.table
    kind = type_of(conn, told, tiers.column)
    odd = [value for value in tiers.known if kind is not None and not _holds(conn, value, told, tiers.column)]
    if kind is None or odd:
        wanted = f"a column that can hold {', '.join(map(repr, odd or tiers.known))}"
        yield Misfit(dataset.id, TIERS, told, tiers.column, wanted, kind)
    if tiers.table is None or tiers.key is None:
        return
    by = tiers.by or dataset.subject
    own, other = type_of(conn, dataset.table, by), type_of(conn, tiers.table, tiers.key)
    if own is None or (other is not None and own != other and not any({own, other} <= set(each) for each in _ALIKE)):
        yield Misfit(dataset.id, TIERS, dataset.table, by, f"{other}, as {tiers.table}.{tiers.key} is", own)
    if other is None or not one(conn, _UNIQUE, (_quoted(tiers.table), tiers.key)):
        found = None if other is None else f"{other} without a unique index of its own"
        yield Misfit(dataset.id, TIERS, tiers.table, tiers.key, "a unique key", found)


def _holds(conn: Connection, value: str, named: str, column: str) -> bool:
    """Whether a column takes a value, and writes it just so. No row of it is read."""
    query = sql.SQL("SELECT u.c::text FROM (SELECT {c} AS c FROM {t} WHERE false UNION ALL SELECT %s) u")
    try:
        with conn.transaction():
            return bool(one(conn, query.format(c=sql.Identifier(column), t=table(named)), (value,)) == value)
    except psycopg.errors.DataError:
        return False


def own_tiers(dataset: Records) -> list[Records]:
    """The shares of a table that holds its rows' tier itself, so that an index can tell them apart."""
    if dataset.tiers is None or dataset.tiers.table is not None:
        return []
    return [each for each in dataset.unfolded if each.share_of is not None]


def missing_for_tiers(conn: Connection, catalog: Catalog) -> Iterator[MissingIndex]:
    """Of tables that hold their rows' tier themselves: without these, a run looks at the rows of longer-lived tiers
    too whenever it looks for those of one that goes sooner."""
    for dataset in catalog.tables:
        for share in own_tiers(dataset):
            if not _served(conn, share):
                clock = column_of(share.clock)
                yield MissingIndex(share.id, share.table, clock, _statement(conn, share), _HOLDS_ONLY)


def _served(conn: Connection, share: Records) -> bool:
    """By a partial index on the clock, or where a tier is one value by an index on it and the clock."""
    if (told := share.share_of) is None:
        return True
    clock, column = column_of(share.clock), told.tiers.column
    held = told.tiers.held_for(told.tier) if told.tier is not None else told.tiers.known
    emptied = [each.column for each in share.part.clear] if isinstance(share, StagedRecords) else []
    if (
        told.tier is not None
        and len(held) == 1
        and not emptied
        and has_clock_index(conn, share.table, clock, filtered_by=column, always=True)
    ):
        return True
    words = [column, *held, *emptied]
    return bool(one(conn, _PARTIAL, (_quoted(share.table), clock, told.tier is None, words)))


def _statement(conn: Connection, share: Records) -> str:
    columns = dict.fromkeys((column_of(share.clock), *share.key_columns))
    return (
        sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({}) WHERE {};")
        .format(_table(share.table), sql.SQL(", ").join(map(sql.Identifier, columns)), present(share, ""))
        .as_string(conn)
    )


def _table(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


def _quoted(name: str) -> str:
    return _table(name).as_string(None)
