"""The index on the clock: without it every batch reads the whole table. Looked for in the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Catalog, Messages, Records
from lifecycle.policy.models import Category
from lifecycle.stores.postgres.connect import Connection

# Keys of the whole, valid B-tree indexes of a table, in order; an expression has no name. Partial ones do not serve.
_KEYS = (
    "SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_am am ON am.oid = c.relam CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)"
    " LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum"
    " WHERE i.indrelid = to_regclass(%s) AND i.indisvalid AND i.indpred IS NULL AND am.amname = 'btree'"
    " AND k.place <= i.indnkeyatts GROUP BY i.indexrelid"
)


@dataclass(frozen=True)
class MissingIndex:
    """A table without an index that begins with its clock, and the statement that makes one while people write."""

    dataset: str
    table: str
    clock: str
    statement: str
    which: str = ""
    """What else the index must do."""

    def __str__(self) -> str:
        begins = f"begins with {self.clock}{self.which}"
        return f"{self.table} of dataset {self.dataset} has no index that {begins}: {self.statement}"


def missing_indexes(conn: Connection, catalog: Catalog) -> list[MissingIndex]:
    """Tables of the dataset file that are taken apart row by row and have no index on their clock."""
    found = []
    for dataset in (*catalog.datasets, *(each for table in catalog.tables for each in table.swept)):
        if dataset.category is Category.TRAINING_USE:
            continue  # what it stands on decides, not its clock
        if isinstance(dataset, Messages | Records | Accounts) and _exists(conn, dataset.table):
            tier = _fixed(dataset)
            if not has_clock_index(conn, dataset.table, column_of(dataset.clock), filtered_by=tier):
                found.append(_missing(conn, dataset))
    return found


def _fixed(dataset: Messages | Records | Accounts) -> str | None:
    """The column of its own whose value each query of a tier fixes."""
    if isinstance(dataset, Records):
        return dataset.tiers.column if dataset.tiers is not None and dataset.tiers.table is None else None
    return dataset.tier if isinstance(dataset, Messages) else None


def has_clock_index(
    conn: Connection, table: str, clock: str, *, filtered_by: str | None = None, always: bool = False
) -> bool:
    """Whether rows can be found in the order of their clock by an index.

    Args:
        filtered_by: a column that queries fix to one value; an index may begin with it.
        always: it must.
    """
    rows = conn.execute(_KEYS, (_quoted(table),)).fetchall()
    return any(serves(keys, clock, filtered_by) for (keys,) in rows if not always or keys[:1] == [filtered_by])


def serves(keys: list[str | None], clock: str, filtered_by: str | None) -> bool:
    """Whether an index on these columns gives rows in the order of the clock."""
    if filtered_by is not None and keys[:1] == [filtered_by]:
        keys = keys[1:]
    return keys[:1] == [clock]


def _missing(conn: Connection, dataset: Messages | Records | Accounts) -> MissingIndex:
    name = sql.Identifier(*dataset.table.split(".", 1))
    names = [column_of(dataset.clock), *(dataset.key_columns if isinstance(dataset, Records | Accounts) else ())]
    columns = [sql.Identifier(name) for name in dict.fromkeys(names)]
    # A partitioned table takes no CONCURRENTLY; writers of one partition at a time wait for theirs.
    partitioned = _kind(conn, dataset.table) == "p"
    text = "CREATE INDEX ON {} ({});" if partitioned else "CREATE INDEX CONCURRENTLY ON {} ({});"
    statement = sql.SQL(text).format(name, sql.SQL(", ").join(columns)).as_string(conn)
    return MissingIndex(dataset.id, dataset.table, column_of(dataset.clock), statement)


def _quoted(table: str) -> str:
    return sql.Identifier(*table.split(".", 1)).as_string(None)


def _exists(conn: Connection, table: str) -> bool:
    return _kind(conn, table) is not None


def _kind(conn: Connection, table: str) -> str | None:
    row = conn.execute("SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", (_quoted(table),)).fetchone()
    return None if row is None else str(row[0])
