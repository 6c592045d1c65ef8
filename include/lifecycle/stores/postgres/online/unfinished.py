"""A run drops whole partitions, which no row trigger sees: it may not while the ordinary table is still kept up."""

from __future__ import annotations

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection


def refuse_unfinished(conn: Connection, table: str) -> None:
    """Refuse to destroy in a table whose former self still holds the same rows, and could bring them back.

    Raises:
        PreconditionError: the table has switched, and was neither finished nor taken back.
    """
    phase = _phase(conn, table)
    if phase is not None:
        raise PreconditionError(
            f"{table} has become partitioned, but the ordinary table it was still holds every row (it is {phase}); "
            f"end it with `lifecycle postgres partition {table} --finish`, or go back with --revert"
        )


def is_unfinished(conn: Connection, table: str) -> bool:
    """Whether a table has switched, and was neither finished nor taken back."""
    return _phase(conn, table) is not None


def _phase(conn: Connection, table: str) -> str | None:
    row = conn.execute(
        "SELECT phase FROM lifecycle.partitionings"
        " WHERE table_schema || '.' || table_name = %s AND phase IN ('switched', 'finishing')",
        (table,),
    ).fetchone()
    return None if row is None else str(row[0])
