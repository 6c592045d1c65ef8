"""What goes with a row of an ordinary table, in the statement that takes the row out: rows of children at any depth,
and content that other tables repeat. Each is one more part of the batch's statement, so all of it goes or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from lifecycle.catalog.models import Catalog, Logs, Records
from lifecycle.catalog.stages import Copy, Descendant
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import HOLDS, table
from lifecycle.stores.postgres.indexes import has_clock_index
from lifecycle.stores.postgres.tree import Partition

CHILDREN, COPIES = "children", "copies"


@dataclass(frozen=True)
class Belonging:
    """Rows ``b`` of a relation that go with rows of another: where ``key`` is the other's ``parent_key``.

    ``above``: the place, in the list of all belongings, of what they belong to; None: the record itself.
    ``returned``: columns that what belongs to these rows refers to. ``change``: None deletes them, else a SET clause.
    ``free``: which of them may go.
    """

    relation: sql.Composable
    key: str
    parent_key: str
    above: int | None
    counted_as: str
    free: sql.Composable
    returned: tuple[str, ...] = ()
    change: sql.Composable | None = None


def belongings_of(catalog: Catalog, dataset: Records) -> tuple[Belonging, ...]:
    """Everything that goes with a record of a dataset, whatever it belongs to before it."""
    found: list[Belonging] = []
    _children(catalog, dataset.children, dataset.referred_key, None, found)
    return (*found, *(_copy(catalog, dataset, each) for each in dataset.copies))


def _children(
    catalog: Catalog, children: tuple[Descendant, ...], parent_key: str, above: int | None, found: list[Belonging]
) -> None:
    for child in children:
        below = tuple(dict.fromkeys(each.parent_key or "" for each in child.children))
        found.append(
            Belonging(
                table(child.table),
                child.key,
                child.parent_key or parent_key,
                above,
                CHILDREN,
                _not_held(catalog, child.table),
                below,
            )
        )
        _children(catalog, child.children, "", len(found) - 1, found)


def _copy(catalog: Catalog, dataset: Records, copy: Copy) -> Belonging:
    column = sql.Identifier(copy.column)
    free = sql.SQL("b.{} IS NOT NULL AND {}").format(column, _not_held(catalog, copy.table))
    change = sql.SQL("{} = NULL").format(column)
    if copy.path:
        path = sql.SQL("{}::text[]").format(sql.Literal(list(copy.path)))
        free = sql.SQL("b.{} #> {} IS NOT NULL AND {}").format(column, path, _not_held(catalog, copy.table))
        change = sql.SQL("{} = b.{} #- {}").format(column, column, path)
    return Belonging(table(copy.table), copy.key, dataset.referred_key, None, COPIES, free, (), change)


def _not_held(catalog: Catalog, name: str) -> sql.Composable:
    """A hold on the table itself, or on its dataset, keeps its rows, whatever becomes of what they belong to."""
    ids = (each.id for each in catalog.datasets if not isinstance(each, Logs) and each.table == name)
    return sql.SQL(
        "NOT EXISTS (SELECT FROM {holds} h WHERE h.scope = 'dataset' AND btrim(h.target) = ANY({names})"
        " AND (h.released_at IS NULL OR h.released_at > %(as_of)s))"
    ).format(holds=HOLDS, names=sql.Literal([name, *ids]))


def needed_by(belongings: tuple[Belonging, ...]) -> tuple[str, ...]:
    """The columns of the record itself that something refers to."""
    return tuple(dict.fromkeys(each.parent_key for each in belongings if each.above is None))


def parts(belongings: tuple[Belonging, ...]) -> Iterator[sql.Composable]:
    """The parts of a statement whose part ``gone`` returns the fate, and what is needed, of each row that went."""
    for number, each in enumerate(belongings):
        above = sql.Identifier("gone" if each.above is None else f"with_{each.above}")
        head = sql.SQL("DELETE FROM {} b USING {} g").format(each.relation, above)
        if each.change is not None:
            head = sql.SQL("UPDATE {} b SET {} FROM {} g").format(each.relation, each.change, above)
        yield sql.SQL("{name} AS ({head} WHERE b.{key} = g.{parent} AND {free} RETURNING {returned})").format(
            name=sql.Identifier(f"with_{number}"),
            head=head,
            key=sql.Identifier(each.key),
            parent=sql.Identifier(each.parent_key),
            free=each.free,
            returned=sql.SQL(", ").join(
                [sql.SQL("g.fate"), *(sql.Identifier("b", column) for column in each.returned)]
            ),
        )


def counted(belongings: tuple[Belonging, ...]) -> sql.Composable:
    """How much went with the rows, by fate and by what it is counted as."""
    if not belongings:
        return sql.SQL("SELECT NULL::text AS fate, NULL::text AS kind, 0::bigint AS n WHERE false")
    every = [
        sql.SQL("SELECT w.fate, {} AS kind FROM {} w").format(
            sql.Literal(each.counted_as), sql.Identifier(f"with_{number}")
        )
        for number, each in enumerate(belongings)
    ]
    return sql.SQL("SELECT fate, kind, count(*) AS n FROM ({}) every GROUP BY 1, 2").format(
        sql.SQL(" UNION ALL ").join(every)
    )


def remove(
    conn: Connection,
    belongings: tuple[Belonging, ...],
    leaf: Partition,
    gone: sql.Composable,
    params: Mapping[str, Any],
) -> dict[str, int]:
    """Take out what goes with the rows of a partition for which a condition holds. Returns how much, by what it is.

    Args:
        gone: a condition on a row ``m``, which stays where it is.
    """
    if not belongings:
        return {}
    needed = sql.SQL(", ").join([sql.SQL("''::text AS fate"), *(sql.Identifier("m", n) for n in needed_by(belongings))])
    query = sql.SQL(
        "WITH gone AS MATERIALIZED (SELECT {needed} FROM ONLY {leaf} m WHERE {gone}), {parts}"
        " SELECT h.kind, h.n FROM ({counted}) h"
    ).format(
        needed=needed,
        leaf=leaf.identifier,
        gone=gone,
        parts=sql.SQL(", ").join(parts(belongings)),
        counted=counted(belongings),
    )
    return dict(conn.execute(query, dict(params)).fetchall())


def keyed_tables(dataset: Records) -> Iterator[tuple[str, str]]:
    """The tables that are looked into by a key for each record that goes, with that key: each needs an index on it."""
    from lifecycle.catalog.stages import all_of

    yield from ((child.table, child.key) for child in all_of(dataset.children))
    for part in (*dataset.parts, dataset):
        yield from ((copy.table, copy.key) for copy in part.copies)


def all_indexed(conn: Connection, dataset: Records) -> bool:
    """Whether what goes with a record is found by index; otherwise a batch may read whole tables, once each."""
    return all(has_clock_index(conn, name, key) for name, key in keyed_tables(dataset))


def touched(dataset: Records, counts: Mapping[str, Mapping[str, int]]) -> list[sql.Identifier]:
    """The tables beside its own in which a unit left dead rows."""
    from lifecycle.catalog.stages import all_of

    found: list[str] = []
    if any(each.get(CHILDREN) for each in counts.values()):
        found += [child.table for child in all_of(dataset.children)]
    if any(each.get(COPIES) for each in counts.values()):
        found += [copy.table for copy in dataset.copies]
    return [table(name) for name in dict.fromkeys(found)]
