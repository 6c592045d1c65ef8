"""What keeps a partition from being replaced; among it, event triggers of others that refuse DDL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from lifecycle.errors import LifecycleError
from lifecycle.stores.postgres.connect import Connection

_ENABLED = "SELECT e.evtname FROM pg_event_trigger e WHERE e.evtenabled IN ('O', 'A') ORDER BY 1"
# Of the connection, of rows and their values, of locks and transactions, of resources and of the server: no refusals.
_NOT_REFUSED = ("08", "22", "23", "40", "53", "55P03", "57", "58", "XX")


class NotSwappableError(LifecycleError):
    """Something in the database holds on to the partition itself; its rows can still be taken out one by one."""

    def __init__(self, table: str, holders: Sequence[str]) -> None:
        self.table, self.holders = table, tuple(holders)
        super().__init__(f"{table} cannot be replaced because of {'; '.join(holders)}")


@contextmanager
def unless_forbidden(conn: Connection, table: str) -> Iterator[None]:
    """Do DDL in a savepoint. A refusal that speaks of no row and no lock is an event trigger's, if there are any.

    Raises:
        NotSwappableError: names them, and what was said; what was done is undone, and the transaction goes on.
    """
    try:
        with conn.transaction():
            yield
    except psycopg.Error as error:
        refused = refused_by(conn, error)
        if refused is None:
            raise
        raise NotSwappableError(table, [refused]) from None


def refused_by(conn: Connection, error: psycopg.Error) -> str | None:
    """The event triggers of which one may have refused DDL, and what was said; None where there are none, or the error
    speaks of rows, locks, resources or the server. Its transaction or savepoint is over."""
    if conn.closed or (error.sqlstate or "08").startswith(_NOT_REFUSED):
        return None
    triggers = [name for (name,) in conn.execute(_ENABLED.encode()).fetchall()]
    said = error.diag.message_primary or type(error).__name__
    return f"event trigger {' or '.join(triggers)}, by which it seems: {said}" if triggers else None
