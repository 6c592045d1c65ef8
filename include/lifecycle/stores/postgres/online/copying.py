"""Copies the rows that were there before the mirror, in keyset pages sized by time; then compares both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from lifecycle.errors import VerificationError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name, TableFacts
from lifecycle.stores.postgres.online.layout import Layout
from lifecycle.stores.postgres.online.text import idents, raw, stmt

_SMALLEST, _LARGEST = 50, 100_000


def next_page(rows: int, seconds: float, target: float) -> int:
    """How many rows the next page should have, so that it takes about ``target`` seconds; at most twice as many."""
    if seconds <= 0:
        return min(rows * 2, _LARGEST)
    return int(min(max(rows * min(target / seconds, 2.0), _SMALLEST), _LARGEST))


def clock_index(facts: TableFacts, clock: str) -> str | None:
    """An index by which the table can be read in clock order."""
    for index in facts.indexes:
        if index.method == "btree" and index.valid and not index.partial and index.columns[:1] == (clock,):
            return index.name
    return None


def copy_key(facts: TableFacts, layout: Layout) -> tuple[str, ...]:
    """The columns that order the copy: the clock first where an index has it first, else the primary key's order."""
    primary = facts.primary_key
    own = primary.columns if primary is not None else ()
    if clock_index(facts, layout.clock) is None:
        return own
    return (layout.clock, *(name for name in own if name != layout.clock))


@dataclass(frozen=True)
class Pages:
    """Pages of the ordinary table in key order. A position is the key of a page's last row, as text."""

    table: Name
    tree: Name
    key: tuple[str, ...]
    types: tuple[str, ...]
    columns: tuple[str, ...]
    tree_key: tuple[str, ...]

    @classmethod
    def of(cls, facts: TableFacts, tree: Name, key: Sequence[str], tree_key: Sequence[str]) -> Pages:
        types = tuple(facts.column(name).type for name in key)
        return cls(facts.name, tree, tuple(key), types, facts.writable, tuple(tree_key))

    def _row(self, position: Sequence[str]) -> sql.Composed:
        """A position as a row of typed literals; the types are PostgreSQL's own names of them."""
        parts = [
            stmt("{}::{}", sql.Literal(value), raw(kind)) for value, kind in zip(position, self.types, strict=True)
        ]
        return sql.SQL(", ").join(parts)

    def within(self, after: Sequence[str] | None, upto: Sequence[str] | None) -> sql.Composed:
        conditions: list[sql.Composable] = [sql.SQL("true")]
        if after is not None:
            conditions.append(stmt("({}) > ({})", idents(self.key), self._row(after)))
        if upto is not None:
            conditions.append(stmt("({}) <= ({})", idents(self.key), self._row(upto)))
        return sql.SQL(" AND ").join(conditions)

    def end_of_page(self, conn: Connection, after: Sequence[str] | None, rows: int) -> tuple[str, ...] | None:
        """Where a page of so many rows ends; None when fewer are left.

        Found before the rows are locked: a locked row comes back as it is by then, perhaps with a later clock, and a
        position taken from it would leap over rows that were not copied.
        """
        found = conn.execute(
            stmt(
                "SELECT {} FROM ONLY {} WHERE {} ORDER BY {} OFFSET {} LIMIT 1",
                sql.SQL(", ").join(stmt("{}::text", sql.Identifier(name)) for name in self.key),
                self.table.identifier,
                self.within(after, None),
                idents(self.key),
                sql.Literal(rows - 1),
            )
        ).fetchone()
        return tuple(found) if found is not None else None

    def copy_statement(self, after: Sequence[str] | None, upto: Sequence[str] | None) -> sql.Composed:
        """Locked FOR SHARE: a change that is under way ends first, and one that comes waits until the page is in."""
        return stmt(
            "WITH page AS MATERIALIZED (SELECT {columns} FROM ONLY {table} WHERE {within} FOR SHARE)"
            " INSERT INTO {tree} ({columns}) SELECT {columns} FROM page ON CONFLICT ({key}) DO NOTHING",
            columns=idents(self.columns),
            table=self.table.identifier,
            within=self.within(after, upto),
            tree=self.tree.identifier,
            key=idents(self.tree_key),
        )

    def copy(self, conn: Connection, after: Sequence[str] | None, upto: Sequence[str] | None) -> int:
        return conn.execute(self.copy_statement(after, upto)).rowcount

    def compare(
        self, conn: Connection, left: Name, right: Name, after: Sequence[str] | None, upto: Sequence[str] | None
    ) -> int:
        """Compare both sides of a page in one statement, that is, in one snapshot. Returns the number of rows.

        Raises:
            VerificationError: they differ in number or content.
        """
        sides = [
            stmt(
                "(SELECT count(*) AS n, coalesce(sum(hashtextextended(ROW({})::text, 0)), 0) AS h FROM {} WHERE {})",
                idents(self.columns),
                side.identifier,
                self.within(after, upto),
            )
            for side in (left, right)
        ]
        row: tuple[Any, ...] | None = conn.execute(
            stmt("SELECT l.n, r.n, l.h = r.h FROM {} l, {} r", *sides)
        ).fetchone()
        here, there, same = row if row is not None else (0, 0, False)
        if here != there or not same:
            raise VerificationError(
                f"{left} and {right} differ within a page ({here:,} rows against {there:,}); nothing was switched. "
                "Was one of them changed past the mirror (a disabled trigger, a changed partition)? "
                "Take it back with --revert and begin again"
            )
        return int(here)
