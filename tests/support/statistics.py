"""PostgreSQL's own statistics, up to date when a test looks at them."""

from __future__ import annotations

from typing import Any

import psycopg

_FIRST_WITH_FLUSH = 150_000
# Version 14 sends its counts on half a second after it last did, and its collector writes them down later.
_KEPT_BACK_SECONDS = 1.2


def flush_statistics(conn: psycopg.Connection[Any]) -> None:
    """Have what this session did counted."""
    if conn.info.server_version >= _FIRST_WITH_FLUSH:
        conn.execute("SELECT pg_stat_force_next_flush()")
        return
    conn.execute("SELECT pg_sleep(%s)", (_KEPT_BACK_SECONDS,))
    conn.execute("SELECT 1")
    conn.execute("SELECT pg_sleep(%s)", (_KEPT_BACK_SECONDS,))
