"""Indexes and columns that stages, children and second copies need. Looked for in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Catalog, Records, StagedRecords
from lifecycle.catalog.stages import all_of
from lifecycle.stores.postgres.belongings import keyed_tables
from lifecycle.stores.postgres.columns import Misfit
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.indexes import MissingIndex, has_clock_index
from lifecycle.stores.postgres.present import holds_any
from lifecycle.stores.postgres.tier_columns import own_tiers

_KNOWS_INPUT = 160_000
_PARTIAL = (
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
    " WHERE i.indrelid = to_regclass(%s) AND i.indisvalid AND i.indpred IS NOT NULL AND a.attname = %s)"
)
_COLUMN = (
    "SELECT format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '', EXISTS (SELECT FROM pg_operator o"
    " WHERE o.oprname = '<>' AND o.oprleft = a.atttypid AND o.oprright = a.atttypid) OR t.typcategory IN ('S', 'A')"
    " FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
    " WHERE a.attrelid = to_regclass(%s) AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped"
)


_TYPE = (
    "SELECT n.nspname, t.typname, a.atttypmod, g.nspname, f.proname, f.pronargs FROM pg_attribute a"
    " JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace"
    " LEFT JOIN pg_cast c ON c.castsource = t.oid AND c.casttarget = t.oid AND a.atttypmod >= 0"
    " LEFT JOIN pg_proc f ON f.oid = c.castfunc LEFT JOIN pg_namespace g ON g.oid = f.pronamespace"
    " WHERE a.attrelid = to_regclass(%s) AND a.attname = %s"
)


def missing_for_stages(conn: Connection, catalog: Catalog) -> Iterator[MissingIndex]:
    """What is missing: for each stage an index of the rows that still hold something, for each child one on its key."""
    for dataset in catalog.tables:
        for part in dataset.parts:
            column = column_of(part.clock)
            if any(each.id.startswith(f"{part.id}.") for each in own_tiers(dataset)):
                continue  # each tier's rows have one
            if not _has_partial(conn, part.table, column):
                yield MissingIndex(part.id, part.table, column, _partial(conn, part), _WHERE)
        for name, key in keyed_tables(dataset):
            if not has_clock_index(conn, name, key):
                statement = sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({});").format(_table(name), sql.Identifier(key))
                yield MissingIndex(dataset.id, name, key, statement.as_string(conn))


_WHERE = " and leaves out emptied rows"


def _has_partial(conn: Connection, name: str, column: str) -> bool:
    row = conn.execute(_PARTIAL, (_table(name).as_string(conn), column)).fetchone()
    return bool(row and row[0])


def _partial(conn: Connection, part: StagedRecords) -> str:
    return (
        sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({}) WHERE {};")
        .format(
            _table(part.table),
            sql.SQL(", ").join(map(sql.Identifier, (column_of(part.clock), *part.key_columns))),
            holds_any(part.part.clear),
        )
        .as_string(conn)
    )


def _table(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


def unfit_for_stages(conn: Connection, catalog: Catalog) -> Iterator[Misfit]:
    """Columns that cannot be emptied as the dataset file says, and those that children and copies are found by."""
    for dataset in catalog.tables:
        for part in dataset.parts:
            yield from _cleared(conn, part)
        yield from _keys(conn, dataset)


def _cleared(conn: Connection, part: StagedRecords) -> Iterator[Misfit]:
    for each in part.part.clear:
        found = conn.execute(_COLUMN, (_table(part.table).as_string(conn), each.column)).fetchone()
        wanted = "a column that may be null" if each.value is None else f"a column that can hold {each.value!r}"
        if found is None:
            yield Misfit(part.id, "clear", part.table, each.column, wanted, None)
            continue
        kind, required, generated, comparable = found
        if generated:
            yield Misfit(part.id, "clear", part.table, each.column, wanted, "a generated column")
        elif each.value is None and required:
            yield Misfit(part.id, "clear", part.table, each.column, wanted, f"{kind} NOT NULL")
        elif each.value is not None and not (comparable and _takes(conn, each.value, part.table, each.column, kind)):
            yield Misfit(part.id, "clear", part.table, each.column, wanted, kind)


def _takes(conn: Connection, value: str, name: str, column: str, kind: str) -> bool:
    """Whether a column takes a value, and all of it. No row is read."""
    if conn.info.server_version >= _KNOWS_INPUT:
        return bool(one(conn, "SELECT pg_input_is_valid(%s, %s)", (value, kind)))
    found = conn.execute(_TYPE, (_table(name).as_string(conn), column)).fetchone()
    if found is None:
        return False
    schema, kind, length, home, function, arguments = found
    query = sql.SQL("CAST(%s AS {})").format(sql.Identifier(schema, kind))
    if function is not None:
        # As an assignment does: a cast that is written out cuts off what is too long without a word.
        implicit = sql.SQL(", false" if arguments > 2 else "")
        query = sql.SQL("{}({}, {}{})").format(sql.Identifier(home, function), query, sql.Literal(length), implicit)
    try:
        with conn.transaction():
            conn.execute(sql.SQL("SELECT {}").format(query), (value,))
    except (psycopg.errors.DataError, psycopg.errors.CheckViolation):
        return False
    return True


def _keys(conn: Connection, dataset: Records) -> Iterator[Misfit]:
    wanted = [(child.table, child.key, "children") for child in all_of(dataset.children)]
    copies = [copy for part in (*dataset.parts, dataset) for copy in part.copies]
    wanted += [(copy.table, copy.key, "copies") for copy in copies]
    for name, column, field in dict.fromkeys(wanted):
        if conn.execute(_COLUMN, (_table(name).as_string(conn), column)).fetchone() is None:
            yield Misfit(dataset.id, field, name, column, "a column", None)
    for copy in copies:
        found = conn.execute(_COLUMN, (_table(copy.table).as_string(conn), copy.column)).fetchone()
        kind = None if found is None else f"{found[0]}{' NOT NULL' if found[1] and not copy.path else ''}"
        fits = kind == "jsonb" if copy.path else kind is not None and not kind.endswith(" NOT NULL")
        if not fits:
            asked = "jsonb, as a path needs" if copy.path else "a column that may be null"
            yield Misfit(dataset.id, "copies", copy.table, copy.column, asked, kind)
