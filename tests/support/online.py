"""Tables to be partitioned while they are in use, and what a catalogue says of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.convert import advance
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.filling import start
from lifecycle.stores.postgres.online.layout import Interval, Layout
from lifecycle.stores.postgres.online.locks import Patience
from lifecycle.stores.postgres.online.refusals import Accepted
from lifecycle.stores.postgres.online.state import Partitioning
from lifecycle.stores.postgres.online.work import Report, Work, session

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
TIERS = tuple(tier.value for tier in Tier)
PLAIN: LiteralString = """
    CREATE TABLE {table} (
        id       bigint PRIMARY KEY,
        tier     text NOT NULL,
        at       timestamptz NOT NULL,
        body     text
    );
    CREATE INDEX ON {table} (at);
    INSERT INTO {table} SELECT n, (ARRAY['consumer', 'beta', 'evaluation', 'business', 'odd'])[1 + n % 5],
        timestamptz '2026-06-01 00:00Z' + n * interval '10 days' / {rows}, 'body ' || n
        FROM generate_series(1, {rows}) n;
"""


@contextmanager
def connected(conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        session(conn)
        yield conn


def plain_table(conn: Connection, name: Name, rows: int = 500) -> None:
    """Rows of ten days and five tiers, one of which nobody knows."""
    conn.execute(sql.SQL(PLAIN).format(table=name.identifier, rows=sql.Literal(rows)))


def layout_of(name: Name, *, tier: str | None = "tier", interval: Interval = Interval.DAY, clock: str = "at") -> Layout:
    return Layout(name, clock, tier, TIERS if tier else (), interval)


def nothing(_step: str, _count: int) -> None:
    """Nobody is listening."""


def work_on(
    conn: Connection,
    report: Report = nothing,
    *,
    patience: Patience = Patience(lock_ms=200, seconds=20),  # frozen
    batch_target: float = 0.05,
) -> Work:
    return Work(conn, NOW, patience, batch_target, report)


def begin(work: Work, layout: Layout, **accepted: bool) -> Partitioning:
    wanted = Accepted(**({"weaker_uniqueness": True} | accepted))
    return start(work, layout, ahead=timedelta(days=3), accepted=wanted)


def convert(work: Work, layout: Layout, **accepted: bool) -> Partitioning:
    return advance(work, begin(work, layout, **accepted))


def rows_of(conn: Connection, name: Name, columns: str = "*") -> list[tuple[Any, ...]]:
    return conn.execute(f"SELECT {columns} FROM {name.identifier.as_string(conn)} t ORDER BY 1".encode()).fetchall()


def bounds_of(conn: Connection, name: Name) -> dict[str, str]:
    """Every leaf and its bound."""
    rows = conn.execute(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_partition_tree(%s::regclass) t"
        " JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf",
        (name.identifier.as_string(conn),),
    ).fetchall()
    return dict(rows)
