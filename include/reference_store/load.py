"""Writes a stream of rows into PostgreSQL: one COPY per table, all open at once, committed when all have ended well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifecycle.errors import PreconditionError
from reference_store.rows import TABLES, Row

Connection = psycopg.Connection[TupleRow]
Kind = type[tuple[object, ...]]


class Loader:
    """Rows go to the COPY of their table; ``counts`` says how many went where."""

    def __init__(self, copies: dict[Kind, psycopg.Copy]) -> None:
        self._copies = copies
        self.counts: Counter[str] = Counter()

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            kind = type(row)
            self._copies[kind].write_row(row)
            self.counts[TABLES[kind]] += 1


@contextmanager
def loader(conninfo: str) -> Iterator[Loader]:
    """A loader for a block. Nothing is visible before the block ends well; if it fails, nothing is left.

    Each table has a connection of its own, since a connection carries one COPY at a time.

    Raises:
        PreconditionError: the server has too few locks for so many partitions.
    """
    with ExitStack() as connections:
        opened: list[Connection] = []
        try:
            with ExitStack() as copies:
                started: dict[Kind, psycopg.Copy] = {}
                for kind, table in TABLES.items():
                    conn = psycopg.connect(conninfo, options="-c TimeZone=UTC")
                    connections.callback(conn.close)
                    opened.append(conn)
                    started[kind] = copies.enter_context(conn.cursor().copy(_statement(kind, table)))
                yield Loader(started)
        except psycopg.errors.OutOfMemory as error:
            raise PreconditionError(
                "PostgreSQL ran out of locks for so many day partitions; "
                "raise max_locks_per_transaction, or seed fewer days"
            ) from error
        for conn in opened:
            conn.commit()


def _statement(kind: Kind, table: str) -> sql.Composed:
    columns: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    return sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
