"""What logical replication tells others of a table: moving a row inside the tree must not read as deleting it.

It never tells of a table that is dropped or attached. A subscriber that is told of a row of a table that it does not
have stops there, for good (`tests/stores/postgres/test_subscriber.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql

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

# A publication that publishes through the root names the root alone, unless it has the partition by its own name.
_BY_NAME = """
SELECT t.pubname FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename WHERE c.oid = to_regclass(%s) ORDER BY 1
"""
_NEW_TABLES = """
SELECT EXISTS (SELECT FROM pg_publication p WHERE p.pubinsert AND (p.puballtables
    OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = to_regnamespace(%s))))
"""
_ONE_LEAF = """
SELECT n.nspname, c.relname FROM (SELECT to_regclass(%s) AS oid) r
CROSS JOIN LATERAL (SELECT r.oid UNION ALL SELECT t.relid FROM pg_partition_tree(r.oid) t WHERE t.isleaf) l (oid)
JOIN pg_class c ON c.oid = l.oid AND c.relkind = 'r' JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.oid DESC LIMIT 1
"""
# Since this version a publication can have whole schemas.
_WHOLE_SCHEMAS = 150000


def everything_is_published(conn: Connection) -> bool:
    """Whether a row written to any table may concern subscribers, as the rows of a clone must not.

    They know its rows already, and no table of its name: replication would stop there. An unlogged table is published
    nowhere, and making it a logged one is told to nobody. Version 14 remembers of a table, whose rows it met while that
    was in no publication, that it is in none: what is written to it later, as a partition, would never be told. So
    there any publication counts.
    """
    if conn.info.server_version < _WHOLE_SCHEMAS:
        return bool(one(conn, "SELECT EXISTS (SELECT FROM pg_publication)"))
    return bool(one(conn, "SELECT EXISTS (SELECT FROM pg_publication WHERE puballtables AND pubinsert)"))


def deletes_are_published(conn: Connection, leaf: Partition) -> bool:
    """Whether subscribers are told of a row that is deleted from a partition.

    Who moves it to a table that is no partition yet tells them of its end, and nobody of where it went.
    """
    return bool(one(conn, _DELETES, (leaf.identifier.as_string(conn),)))


def new_tables_are_published(conn: Connection, schema: str) -> bool:
    """Whether a row written to a table that is new in a schema, and no partition yet, is told to subscribers."""
    if conn.info.server_version < _WHOLE_SCHEMAS:
        return everything_is_published(conn)
    return bool(one(conn, _NEW_TABLES, (sql.Identifier(schema).as_string(conn),)))


def published_by_name(conn: Connection, leaf: Partition) -> list[str]:
    """The publications that tell subscribers of a partition's rows under the partition's own name."""
    rows = conn.execute(_BY_NAME.encode(), (leaf.identifier.as_string(conn),)).fetchall()
    return [name for (name,) in rows]


def undeletable(conn: Connection, tables: Iterable[str]) -> list[str]:
    """Tables (``schema.table``) from which PostgreSQL lets nobody delete, because a publication could not tell of it.

    It is asked by the plan of a deletion that nobody carries out; of a partitioned table for one of its partitions.
    """
    found = []
    for name in tables:
        leaf = conn.execute(_ONE_LEAF.encode(), (sql.Identifier(*name.split(".", 1)).as_string(conn),)).fetchone()
        if leaf is None:
            continue
        try:
            with conn.transaction():
                conn.execute(sql.SQL("EXPLAIN DELETE FROM ONLY {} WHERE false").format(sql.Identifier(*leaf)))
        except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidColumnReference) as error:
            said = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
            found.append(f"{name}: {said}; ALTER TABLE ... REPLICA IDENTITY, or a publication without its deletions")
        except psycopg.errors.InsufficientPrivilege:
            continue
    return found
