"""A tier, or an ordinary table, of very many partitions, some hundred at a time.

PostgreSQL plans, locks and remembers every partition that a statement may touch, and more than in proportion: one
question to 100,000 of them takes gigabytes. Windows of the clock divide it; each row lies in exactly one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Accounts, Messages
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.candidates import Source
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.timed import leaves_of
from lifecycle.stores.postgres.tree import UnsupportedPartitioningError

# Partitions read in one statement.
TOGETHER = 250
_HOW_MANY = "SELECT count(*) FROM pg_partition_tree(to_regclass(%s)) WHERE isleaf"


def in_windows(conn: Connection, source: Source) -> list[Source]:
    """The same source by windows of its clock, the earliest first; itself where one statement is enough."""
    dataset, tier = source.dataset, source.tier
    if isinstance(dataset, Accounts) or (isinstance(dataset, Messages) and tier is None):
        return [source]
    name = table(source.dataset.table).as_string(conn)
    if source.relation.as_string(conn) != name or one(conn, _HOW_MANY, (name,)) <= TOGETHER:
        return [source]
    try:
        leaves = leaves_of(conn, dataset, tier if isinstance(dataset, Messages) else None)
    except UnsupportedPartitioningError:  # a run refuses it; where it stands can be asked all the same
        return [source]
    starts = sorted(leaf.lower for leaf in leaves if leaf.lower is not None and not leaf.default)
    return _divided(source, starts[TOGETHER::TOGETHER])


def _divided(source: Source, bounds: list[datetime]) -> list[Source]:
    of = Bounds(source.dataset.clock)
    return [
        replace(source, which=sql.SQL("{} AND {}").format(source.which, of.inside(lower, upper)))
        for lower, upper in zip([None, *bounds], [*bounds, None], strict=True)
    ]
