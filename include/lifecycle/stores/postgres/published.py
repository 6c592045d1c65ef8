"""What logical replication tells others of a table: moving a row inside the tree must not read as deleting it."""

from __future__ import annotations

from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.tree import Partition

# The view names the leaves of a publication, or, where it publishes through the root, the root.
_DELETES = """
SELECT EXISTS (
    SELECT FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname AND p.pubdelete
    JOIN pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    WHERE c.oid IN (SELECT a.relid FROM pg_partition_ancestors(to_regclass(%s)) a)
)
"""


def everything_is_published(conn: Connection) -> bool:
    """Whether a row written to any table is told to subscribers, as the rows of a clone must not be.

    They know its rows already, and no table of its name: replication would stop there. An unlogged table is published
    nowhere, and making it a logged one is told to nobody.
    """
    return bool(one(conn, "SELECT EXISTS (SELECT FROM pg_publication WHERE puballtables AND pubinsert)"))


def deletes_are_published(conn: Connection, leaf: Partition) -> bool:
    """Whether subscribers are told of a row that is deleted from a partition.

    Who moves it to a table that is no partition yet tells them of its end, and nobody of where it went.
    """
    return bool(one(conn, _DELETES, (leaf.identifier.as_string(conn),)))
