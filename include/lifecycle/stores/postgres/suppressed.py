"""Rows that stay although they were deleted: a trigger or a rule of somebody else keeps them (a "soft delete")."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection

# A trigger for each row that acts before it can return NULL; a rule can do something else instead.
_SUPPRESSORS = """
WITH tables AS (SELECT to_regclass(%(table)s)::oid AS oid
    UNION SELECT relid::oid FROM pg_partition_tree(to_regclass(%(table)s)))
SELECT DISTINCT format('trigger %%I', t.tgname) FROM pg_trigger t WHERE t.tgrelid IN (SELECT oid FROM tables)
    AND (NOT t.tgisinternal OR t.tgparentid <> 0) AND t.tgenabled IN ('O', 'A') AND (t.tgtype & 3) = 3
    AND (t.tgtype & 24) <> 0
UNION SELECT format('rule %%I', r.rulename) FROM pg_rewrite r WHERE r.ev_class IN (SELECT oid FROM tables)
    AND r.is_instead AND r.ev_enabled IN ('O', 'A') AND r.ev_type IN ('2', '4')
ORDER BY 1 LIMIT 5
"""


class DeletionSuppressedError(PreconditionError):
    """Rows that were deleted or emptied are as they were. Their transaction is undone, nothing of it recorded."""

    def __init__(self, table: str, rows: int, suppressors: Sequence[str]) -> None:
        self.table, self.rows, self.suppressors = table, rows, tuple(suppressors)
        by = " or ".join(suppressors) or "something that cannot be seen"
        super().__init__(
            f"{table}: {rows} row(s) are as they were after they were deleted or emptied, by {by}. Let it leave alone"
            " what the role of a run does, or drop it"
        )


def suppressed(conn: Connection, relation: sql.Composable, rows: int) -> DeletionSuppressedError:
    """The error that names what may have kept rows of a table."""
    table = relation.as_string(conn)
    found = [name for (name,) in conn.execute(_SUPPRESSORS.encode(), {"table": table}).fetchall()]
    return DeletionSuppressedError(table.replace('"', ""), rows, found)
