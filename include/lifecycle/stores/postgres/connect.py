"""Connections to PostgreSQL: UTC, autocommit (transactions are opened explicitly), named in pg_stat_activity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from lifecycle.connections import postgres_conninfo

Connection = psycopg.Connection[TupleRow]
# Below PostgreSQL's deadlock_timeout (1 s): in a deadlock with the application it is we who give way.
LOCK_TIMEOUT_MS = 800
# Read committed: what was committed while we waited for a lock is seen. No row security: a row that a policy would hide
# from us is an error, never a row overlooked. Bounds of partitions, types and keys of rows are read as text, so their
# form must not vary. And whatever is found by a bare name is PostgreSQL's own first: a role's path may name another
# schema before it, with another `lower` in it.
_FORMS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "application_name": "lifecycle",
    "row_security": "off",
    "default_transaction_isolation": "read committed",
}
_PATH = (
    "pg_catalog.set_config('search_path', CASE WHEN 'pg_catalog' OPERATOR(pg_catalog.=) ANY"
    " (pg_catalog.current_schemas(false)) THEN 'pg_catalog, ' ELSE '' END"
    " OPERATOR(pg_catalog.||) pg_catalog.current_setting('search_path'), false)"
)
_SETTINGS = sql.SQL("SELECT {}, {}").format(
    sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
        for name, value in _FORMS.items()
    ),
    sql.SQL(_PATH),
)


# What DISCARD ALL leaves is what a new session has to learn anew: where the tables are. Before 15, statistics could not
# be asked for at once, and those of a session that goes on come late (physical erasure waits for them).
_FIRST_TO_KEEP = 150_000
_idle: ContextVar[_Idle | None] = ContextVar("idle", default=None)


@dataclass(frozen=True)
class _Idle:
    """Sessions of one target that nobody uses at the moment."""

    conninfo: str
    sessions: list[Connection]


@contextmanager
def connect() -> Iterator[Connection]:
    """Open the product database. Sessions run in UTC whatever the server's setting (hard case 10)."""
    conninfo, idle = postgres_conninfo(), _idle.get()
    if idle is None or idle.conninfo != conninfo:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            yield prepared(conn)
        return
    conn = _taken(idle) or _new(conninfo)
    with _closed_on_error(conn):
        yield conn
        if _as_new(conn):
            idle.sessions.append(conn)
        else:
            conn.close()


@contextmanager
def sessions_reused() -> Iterator[None]:
    """Within this block of this thread, whoever connects gets a session that is done with, as good as new.

    For a process that takes many steps: a new session costs the server more than most of what is asked of it.
    """
    idle = _Idle(postgres_conninfo(), [])
    token = _idle.set(idle)
    try:
        yield
    finally:
        _idle.reset(token)
        for conn in idle.sessions:
            conn.close()


def _new(conninfo: str) -> Connection:
    # Without prepared statements, of which DISCARD ALL would leave the client's half.
    conn = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    with _closed_on_error(conn):
        return prepared(conn)


def _taken(idle: _Idle) -> Connection | None:
    """An idle session that still lives: a server that was started again, or an administrator, may have ended it."""
    while idle.sessions:
        conn = idle.sessions.pop()
        try:
            return prepared(conn)
        except psycopg.OperationalError:
            conn.close()
    return None


def _as_new(conn: Connection) -> bool:
    """Let go of locks, settings and temporary tables; False when there is no session to go on with."""
    if conn.closed or conn.info.transaction_status != TransactionStatus.IDLE:
        return False
    if conn.info.server_version < _FIRST_TO_KEEP:
        return False
    try:
        conn.execute("DISCARD ALL")
        conn.execute("SELECT pg_stat_force_next_flush()")
    except psycopg.Error:
        return False  # ended, or not allowed; its work is done, and ending is what would have happened to it anyway
    return True


@contextmanager
def _closed_on_error(conn: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        conn.close()
        raise


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
