"""How the server is doing: replication lag, write-ahead log, forced checkpoints, and how fast a small query answers.

Everything here is readable without special privileges, or is reported as not to be seen: a managed service that denies
a view must not stop a run.
"""

from __future__ import annotations

import time
from statistics import median

import psycopg
from psycopg import sql

from lifecycle.planning.pacing import Reading
from lifecycle.stores.postgres.connect import Connection

_PROBES = 3
# Of a replica that others' eyes may not see, the lag is null; of one that has caught up and is idle, too. Before that
# it is for some seconds the last one that was measured, whatever has been replayed since.
_LAG = (
    "SELECT extract(epoch FROM max(CASE WHEN replay_lsn >= pg_current_wal_lsn() THEN interval '0'"
    " ELSE coalesce(replay_lag, flush_lag, write_lag) END))::float8 FROM pg_stat_replication"
)
_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
_CHECKPOINTS = "SELECT num_requested FROM pg_stat_checkpointer"
_CHECKPOINTS_BEFORE_17 = "SELECT checkpoints_req FROM pg_stat_bgwriter"
_FIRST_WITH_CHECKPOINTER = 170_000


def read(conn: Connection, canary: sql.Composed) -> Reading:
    """The server's state now. Some milliseconds; the canary is timed as the caller sees it."""
    checkpoints = _CHECKPOINTS if conn.info.server_version >= _FIRST_WITH_CHECKPOINTER else _CHECKPOINTS_BEFORE_17
    wal, asked = _number(conn, _WAL), _number(conn, checkpoints)
    return Reading(
        at=time.monotonic(),
        canary=probe(conn, canary),
        replication_lag=_number(conn, _LAG),
        wal=None if wal is None else int(wal),
        checkpoints=None if asked is None else int(asked),
    )


def baseline(conn: Connection, canary: sql.Composed) -> float:
    """What the canary takes before we have done anything: the median of some tries, after one that warms it up."""
    probe(conn, canary)
    return median(probe(conn, canary) for _ in range(_PROBES))


def probe(conn: Connection, canary: sql.Composed) -> float:
    began = time.monotonic()
    conn.execute(canary).fetchall()
    return time.monotonic() - began


def canary_of(relation: sql.Composable, clock: str, *, indexed: bool) -> sql.Composed:
    """The application's newest row, by the index on the clock; without that index only a round trip to the server."""
    if not indexed:
        return sql.Composed([sql.SQL("SELECT 1")])
    return sql.SQL("SELECT 1 FROM {} ORDER BY {} DESC LIMIT 1").format(relation, sql.Identifier(clock))


def _number(conn: Connection, query: str) -> float | None:
    try:
        row = conn.execute(query.encode()).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable):
        return None
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return None  # a server in recovery writes no log of its own
    return None if row is None or row[0] is None else float(row[0])
