"""Day partitions of the messages table: found, created ahead, drained of strays, swapped for their survivors."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from lifecycle.catalog.models import Messages
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import LOCK_TIMEOUT_MS, Connection

log = logging.getLogger(__name__)
_BOUNDS = re.compile(r"FROM \('([^']+)'\) TO \('([^']+)'\)")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Partition:
    """A leaf of the messages tree; a default partition has no bounds."""

    schema: str
    name: str
    parent: str
    lower: datetime | None
    upper: datetime | None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def is_default(self) -> bool:
        return self.lower is None


def leaf_name(dataset: Messages, tier: Tier) -> str:
    return f"{dataset.table.split('.', 1)[1]}_{tier.value}"


def _parse_bounds(text: str) -> tuple[datetime, datetime] | None:
    found = _BOUNDS.search(text)
    if found is None:
        return None
    lower, upper = (datetime.fromisoformat(value).astimezone(UTC) for value in found.groups())
    return lower, upper


def partitions_of(conn: Connection, dataset: Messages, tier: Tier) -> list[Partition]:
    """Every leaf of a tier, in clock order, its default partition last. Reads the catalogue, not the table."""
    schema = dataset.table.split(".", 1)[0]
    parent = leaf_name(dataset, tier)
    rows = conn.execute(
        "SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE i.inhparent = to_regclass(format('%%I.%%I', %s::text, %s::text))",
        (schema, parent),
    ).fetchall()
    found = []
    for nspname, relname, bound in rows:
        if bound is None:
            continue  # another shard dropped it while the catalogue was being read
        bounds = _parse_bounds(bound)
        found.append(Partition(nspname, relname, parent, *(bounds or (None, None))))
    return sorted(found, key=lambda p: (p.lower is None, p.lower or datetime.max.replace(tzinfo=UTC)))


def unknown_tier_partition(dataset: Messages) -> Partition:
    """Where rows of a tier that nobody declared end up."""
    schema, name = dataset.table.split(".", 1)
    return Partition(schema, f"{name}_default", name, None, None)


def day_partition(dataset: Messages, tier: Tier, day: date) -> Partition:
    schema = dataset.table.split(".", 1)[0]
    lower = datetime(day.year, day.month, day.day, tzinfo=UTC)
    parent = leaf_name(dataset, tier)
    return Partition(schema, f"{parent}_{day:%Y%m%d}", parent, lower, lower + DAY)


def _attach(conn: Connection, partition: Partition) -> None:
    conn.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(partition.schema, partition.parent),
            partition.identifier,
            sql.Literal(partition.lower),
            sql.Literal(partition.upper),
        )
    )


def _create_like(conn: Connection, name: sql.Identifier, template: sql.Identifier) -> None:
    conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(name, template))


def create_ahead(conn: Connection, dataset: Messages, tier: Tier, as_of: datetime) -> int:
    """Create the partitions of today and of the days to come, so that no insert has to land in the default."""
    have = {p.lower for p in partitions_of(conn, dataset, tier)}
    today = as_of.date()
    days = [today + DAY * n for n in range(dataset.create_ahead.longest().days + 1)]
    wanted = [day_partition(dataset, tier, day) for day in days]
    missing = [p for p in wanted if p.lower not in have]
    for partition in missing:
        _adopt_day(conn, dataset, partition)
    return len(missing)


def drain_default(conn: Connection, dataset: Messages, tier: Tier) -> int:
    """Move the rows of a tier's default partition to the partition of their day (hard case 12).

    Returns:
        the number of rows moved. One transaction per day, so that a kill loses nothing and a rerun goes on.
    """
    default = next((p for p in partitions_of(conn, dataset, tier) if p.is_default), None)
    if default is None:
        return 0
    clock = sql.Identifier(dataset.clock)
    days = conn.execute(
        sql.SQL("SELECT DISTINCT ({} AT TIME ZONE 'UTC')::date FROM {} ORDER BY 1").format(clock, default.identifier)
    ).fetchall()
    return sum(_adopt_day(conn, dataset, day_partition(dataset, tier, day)) for (day,) in days)


def _adopt_day(conn: Connection, dataset: Messages, partition: Partition) -> int:
    """Make sure a day has its partition, and move there what the default partition holds of that day."""
    parent = sql.Identifier(partition.schema, partition.parent)
    default = sql.Identifier(partition.schema, f"{partition.parent}_default")
    with conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_TIMEOUT_MS * 10}ms",))
        exists = conn.execute("SELECT to_regclass(%s)", (f"{partition.schema}.{partition.name}",)).fetchone()
        fresh = exists is None or exists[0] is None
        if fresh:
            conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(parent))
            _create_like(conn, partition.identifier, parent)
        moved = conn.execute(
            sql.SQL(
                "WITH stray AS (DELETE FROM {default} WHERE {clock} >= {lower} AND {clock} < {upper} RETURNING *)"
                " INSERT INTO {target} SELECT * FROM stray"
            ).format(
                default=default,
                clock=sql.Identifier(dataset.clock),
                lower=sql.Literal(partition.lower),
                upper=sql.Literal(partition.upper),
                target=partition.identifier,
            )
        ).rowcount
        if fresh:
            _attach(conn, partition)
    return moved


def swap_in(conn: Connection, partition: Partition, survivors: sql.Composable, params: dict[str, object]) -> int:
    """Replace a partition by a fresh table that holds only its survivors, inside the caller's transaction.

    Args:
        survivors: a query for the rows to keep, over the old partition.

    Returns:
        the number of rows carried over. Without survivors the partition is dropped and not replaced.
    """
    fresh = sql.Identifier(partition.schema, f"{partition.name}_swap")
    _create_like(conn, fresh, partition.identifier)
    kept = conn.execute(sql.SQL("INSERT INTO {} {}").format(fresh, survivors), params).rowcount
    conn.execute(sql.SQL("DROP TABLE {}").format(partition.identifier))
    if kept == 0:
        conn.execute(sql.SQL("DROP TABLE {}").format(fresh))
        return 0
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(fresh, sql.Identifier(partition.name)))
    _attach(conn, partition)
    return kept


def lock_for_swap(conn: Connection, partition: Partition) -> None:
    """Take the locks a swap needs, parent first as the application does; gives up after the session's lock_timeout."""
    parent = sql.Identifier(partition.schema, partition.parent)
    conn.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(parent))
    conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(partition.identifier))


def vacuum(conn: Connection, tables: Sequence[sql.Identifier]) -> None:
    """Give back the space of deleted rows, so that "deleted" becomes "erased" (hard case 18). Notices say how far."""
    for name in tables:
        conn.execute(sql.SQL("VACUUM (VERBOSE, INDEX_CLEANUP ON, TRUNCATE ON) {}").format(name))
