"""Small pieces of SQL that everything here shares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from psycopg import sql

Part = sql.Composable
Statement = sql.Composed


def raw(text: str) -> sql.SQL:
    """A definition as PostgreSQL itself wrote it (``pg_get_*def``), with every name qualified and quoted."""
    return sql.SQL(text)


def idents(names: Iterable[str], prefix: str | None = None) -> sql.Composed:
    """``a, b, c``; with a prefix ``NEW.a, NEW.b``."""
    parts = [sql.Identifier(name) for name in names]
    if prefix is None:
        return sql.SQL(", ").join(parts)
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(raw(prefix), part) for part in parts)


def stmt(text: LiteralString, *args: Part, **kwargs: Part) -> sql.Composed:
    return sql.SQL(text).format(*args, **kwargs)
