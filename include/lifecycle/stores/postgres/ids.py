"""How the ids of a dataset are compared with what holds, requests and exceptions name, whatever type they have.

What people name by hand is text. A uuid is one in any spelling. Other text is an id only letter by letter, so that an
erasure takes nobody else's data; a hold counts in any case of letters, so that it keeps too much and not too little.
"""

from __future__ import annotations

from typing import Literal

from psycopg import sql

Ids = Literal["uuid", "text", "bigint"]
_IS_UUID = sql.Literal("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
# A number of as many digits as a bigint's largest may be too large for one.
_AS_BIGINT = "CASE WHEN {0}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN {0}::bigint END"
_TYPED: dict[Ids, sql.Composable] = {
    "uuid": sql.SQL("CASE WHEN lower(btrim(x.target)) ~ {} THEN lower(btrim(x.target))::uuid END").format(_IS_UUID),
    "text": sql.SQL("unnest(ARRAY[btrim(x.target), lower(btrim(x.target)), upper(btrim(x.target))])"),
    "bigint": sql.SQL("CASE WHEN btrim(x.target) ~ '^-?[0-9]{{1,19}}$' THEN {} END").format(
        sql.SQL(_AS_BIGINT).format(sql.SQL("btrim(x.target)"))
    ),
}


def named_ids(source: sql.Composable, scope: str, condition: sql.Composable, ids: Ids) -> sql.Composed:
    """Every id that rows ``x`` of holds or requests may name, of the column's own type, so that its index is used.

    More than they name: what a row is under is decided by its fate.
    """
    return sql.SQL("(SELECT {} FROM {} x WHERE x.scope = {} AND {})").format(
        _TYPED[ids], source, sql.Literal(scope), condition
    )


def is_named(column: sql.Composable, ids: Ids) -> sql.Composable:
    """Whether the target of one hold (parameter ``target``) is an id: text in any case of letters, else by index."""
    if ids == "text":
        return sql.SQL("{} = lower(btrim(%(target)s::text))").format(folded(column, ids))
    this = sql.SQL("(SELECT %(target)s::text AS target, 'this' AS scope)")
    return sql.SQL("{} IN {}").format(column, named_ids(this, "this", sql.SQL("true"), ids))


def own(column: sql.Composable, ids: Ids) -> sql.Composable:
    """A column of the dataset, to be compared with an `other`."""
    return column if ids == "uuid" else sql.SQL("{}::text").format(column)


def other(column: sql.Composable, ids: Ids) -> sql.Composable:
    """The id column of another table, to be compared with an `own`."""
    return own(column, ids)


def typed(column: sql.Composable, ids: Ids, wanted: Ids) -> sql.Composable:
    """An id column of another table, of the type that it is compared with; null where it cannot name any of those.

    Text and numbers are only turned into uuids: `own` and `other` compare everything else by its text.
    """
    if ids == "uuid" or wanted != "uuid":
        return column
    if ids == "bigint":
        return sql.SQL("NULL::uuid")
    return sql.SQL("CASE WHEN lower(btrim({column})) ~ {uuid} THEN lower(btrim({column}))::uuid END").format(
        column=column, uuid=_IS_UUID
    )


def found_in(query: sql.Composable, ids: Ids, theirs: Ids = "uuid") -> sql.Composable | None:
    """A query of ids, as `typed` makes them, as one of the column's type; None where none of them can be in it."""
    if ids in ("uuid", theirs):
        return query
    if ids == "text":
        return sql.SQL("(SELECT z.id::text FROM {} z(id))").format(query)
    if theirs == "uuid":
        return None
    return sql.SQL(
        "(SELECT CASE WHEN z.id ~ '^(0|-?[1-9][0-9]{{0,18}})$' THEN {number} END FROM {query} z(id))"
    ).format(number=sql.SQL(_AS_BIGINT).format(sql.SQL("z.id")), query=query)


def folded(column: sql.Composable, ids: Ids) -> sql.Composable:
    """A column as holds are compared with it: they are written in lower case."""
    return sql.SQL("lower({}::text)" if ids == "text" else "{}::text").format(column)


def exactly(alias: str, ids: Ids) -> sql.Composable:
    """The texts that the target of a request stands for, as an array."""
    target = sql.Identifier(alias, "target")
    if ids == "uuid":
        return sql.SQL("ARRAY[lower(btrim({}))]").format(target)
    return sql.SQL(
        "ARRAY[btrim({target}), CASE WHEN lower(btrim({target})) ~ {uuid} THEN lower(btrim({target}))"
        " ELSE btrim({target}) END]"
    ).format(target=target, uuid=_IS_UUID)
