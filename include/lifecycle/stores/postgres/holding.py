"""Who holds tables for so long that nobody else gets at them: sessions, and prepared transactions without one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import psycopg
from psycopg import sql

from lifecycle.errors import LifecycleError
from lifecycle.stores.postgres.connect import Connection

_MOST = 3
# A prepared transaction holds its locks without a process; among them is one on its own number.
_HOLDERS = """
SELECT l.pid, x.gid, coalesce(x.owner, a.usename)::text,
    CASE WHEN a.backend_type <> 'client backend' THEN a.backend_type ELSE a.state END,
    coalesce(x.prepared, a.xact_start) AS since
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN (pg_locks t JOIN pg_prepared_xacts x ON x.transaction = t.transactionid)
    ON l.pid IS NULL AND t.pid IS NULL AND t.granted AND t.virtualtransaction = l.virtualtransaction
WHERE l.granted AND l.locktype = 'relation' AND l.pid IS DISTINCT FROM pg_backend_pid()
AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
AND l.relation >= 16384 AND (%s::text[] IS NULL OR l.relation IN (SELECT to_regclass(n) FROM unnest(%s::text[]) n
    UNION ALL SELECT t.relid FROM unnest(%s::text[]) n, pg_partition_tree(to_regclass(n)) t))
GROUP BY 1, 2, 3, 4, 5 ORDER BY since NULLS LAST, 1 LIMIT %s
"""


class TablesBusyError(LifecycleError, psycopg.errors.LockNotAvailable):
    """Tables were in use for as long as a unit waits for them; nothing of that step was done. Names who holds them.

    Where nobody is named, it was somebody new each time. It is a driver's error too: worth another try.
    """

    def __init__(self, unit: str, seconds: float, holders: Iterable[str]) -> None:
        self.unit, self.holders = unit, tuple(holders)
        by = f" by {'; by '.join(self.holders)}" if self.holders else ""
        super().__init__(f"{unit}: its tables were in use for {seconds:.0f} s{by}. Nothing of this step was done")


def holders_of(conn: Connection, tables: Iterable[str] | None) -> list[str]:
    """Who holds locks on tables (``schema.table``) or their partitions: the longest first, three at most.

    Args:
        tables: None for all of the database.
    """
    names = None if tables is None else [sql.Identifier(*name.split(".", 1)).as_string(conn) for name in tables]
    return [_told(*row) for row in conn.execute(_HOLDERS.encode(), (names, names, names, _MOST)).fetchall()]


def _told(pid: int | None, gid: str | None, role: str | None, state: str | None, since: datetime | None) -> str:
    whom = f" of {role}" if role else ""
    long = f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
    if pid is not None:
        return f"session {pid}{whom}{f' ({state})' if state else ''}{long}"
    name = "an unnamed one" if gid is None else repr(gid)
    return f"prepared transaction {name}{whom}{long}, which holds until COMMIT PREPARED or ROLLBACK PREPARED"
