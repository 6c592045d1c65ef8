"""Connections to PostgreSQL: UTC, autocommit (transactions are opened explicitly), named in pg_stat_activity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from lifecycle.connections import postgres_conninfo

Connection = psycopg.Connection[TupleRow]
# Below PostgreSQL's deadlock_timeout (1 s): in a deadlock with the application it is we who give way.
LOCK_TIMEOUT_MS = 800
# Read committed: what was committed while we waited for a lock is seen. No row security: a row that a policy would hide
# from us is an error, never a row overlooked. Bounds of partitions are read as text, so their form must not vary.
_SETTINGS = (
    "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false),"
    " set_config('application_name', 'lifecycle', false), set_config('row_security', 'off', false),"
    " set_config('default_transaction_isolation', 'read committed', false)"
)


@contextmanager
def connect() -> Iterator[Connection]:
    """Open the product database. Sessions run in UTC whatever the server's setting (hard case 10)."""
    with psycopg.connect(postgres_conninfo(), autocommit=True) as conn:
        yield prepared(conn)


def prepared(conn: Connection) -> Connection:
    """A connection of somebody else's making, with the settings that this project relies on."""
    conn.execute(_SETTINGS)
    return conn


def one(conn: Connection, query: Any, params: Any = None) -> Any:
    """The first column of the only row."""
    row = conn.execute(query, params).fetchone()
    if row is None:
        raise LookupError("the query returned no row")
    return row[0]
