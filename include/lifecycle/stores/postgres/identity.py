"""Which store a database belongs to, as the database itself says: two names of one database would share a ledger."""

from __future__ import annotations

import psycopg

from lifecycle.deployment import current_store
from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection


class WrongStoreError(PreconditionError):
    """The connection of one store leads to the database of another; nothing was done."""

    def __init__(self, store: str, owner: str) -> None:
        self.store, self.owner = store, owner
        super().__init__(
            f"the connection of store {store!r} leads to the database of store {owner!r}: correct the connection, or if"
            f" the store was renamed, run `lifecycle stores adopt --store {store}`"
        )


def owner(conn: Connection) -> str | None:
    """The store that this database belongs to; None where none has said so, or there is no schema ``lifecycle``."""
    try:
        row = conn.execute("SELECT name FROM lifecycle.store_identity").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return row[0] if row else None


def claim(conn: Connection, store: str) -> None:
    """Take a database that belongs to no store yet; two that ask at once cannot both have it.

    Raises:
        WrongStoreError: it belongs to another one.
    """
    conn.execute("INSERT INTO lifecycle.store_identity (name) VALUES (%s) ON CONFLICT DO NOTHING", (store,))
    found = owner(conn)
    if found is not None and found != store:
        raise WrongStoreError(store, found)


def refuse_other(conn: Connection) -> None:
    """Refuse to write what people ask for into another store's database.

    Raises:
        WrongStoreError: it belongs to another one.
    """
    store = current_store()
    found = owner(conn) if store.declared else None
    if found is not None and found != store.name:
        raise WrongStoreError(store.name, found)


def adopt(conn: Connection, store: str) -> str | None:
    """Give the database to this store, whoever had it. Returns who had."""
    with conn.transaction():
        before = owner(conn)
        conn.execute("DELETE FROM lifecycle.store_identity")
        conn.execute("INSERT INTO lifecycle.store_identity (name) VALUES (%s)", (store,))
    return before
