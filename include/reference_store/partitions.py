"""Day partitions of app.messages, made in batches before anything is inserted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]
TIERS = ("consumer", "beta", "evaluation", "business")
# One transaction holds a lock on every table and index it makes; this many stay far below the server's default limit.
_BATCH = 60


def create_partitions(conn: Connection, days: Sequence[date]) -> int:
    """Create the partitions of each tier for these days; gives how many are new.

    A day whose rows already sit in the default partition is left out, for PostgreSQL would refuse it.

    Args:
        conn: an autocommit connection.
    """
    missing = [(tier, day) for tier in TIERS for day in _creatable(conn, tier, days)]
    for start in range(0, len(missing), _BATCH):
        conn.execute(sql.SQL(";").join(map(_statement, missing[start : start + _BATCH])))
    return len(missing)


def _creatable(conn: Connection, tier: str, days: Sequence[date]) -> Iterator[date]:
    existing = {
        name
        for (name,) in conn.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass",
            (f"app.messages_{tier}",),
        )
    }
    parked = {
        day
        for (day,) in conn.execute(
            sql.SQL("SELECT DISTINCT (received_at AT TIME ZONE 'UTC')::date FROM {}").format(
                sql.Identifier("app", f"messages_{tier}_default")
            )
        )
    }
    return (day for day in days if _name(tier, day) not in existing and day not in parked)


def _name(tier: str, day: date) -> str:
    return f"messages_{tier}_{day:%Y%m%d}"


def _statement(partition: tuple[str, date]) -> sql.Composable:
    tier, day = partition
    return sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
        sql.Identifier("app", _name(tier, day)),
        sql.Identifier("app", f"messages_{tier}"),
        sql.Literal(f"{day.isoformat()} 00:00:00+00"),
        sql.Literal(f"{(day + timedelta(days=1)).isoformat()} 00:00:00+00"),
    )
