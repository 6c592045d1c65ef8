"""The project's own schema, applied idempotently and only when something of it is missing."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from psycopg import sql

from lifecycle.stores.postgres.connect import Connection

_LOCK = 0x73636865


def ensure_schema(conn: Connection) -> None:
    """Bring schema ``lifecycle`` up to this version: the hash of its DDL, kept as the schema's comment."""
    ddl = files("lifecycle.stores.postgres").joinpath("schema.sql").read_text(encoding="utf-8")
    version = hashlib.sha256(ddl.encode()).hexdigest()
    if _version(conn) == version:
        return
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        conn.execute(ddl.encode())
        conn.execute(sql.SQL("COMMENT ON SCHEMA lifecycle IS {}").format(sql.Literal(version)))


def _version(conn: Connection) -> str | None:
    row = conn.execute("SELECT obj_description(to_regnamespace('lifecycle'), 'pg_namespace')").fetchone()
    return row[0] if row else None
