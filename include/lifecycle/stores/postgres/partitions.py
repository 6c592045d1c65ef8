"""Partitions of the messages table: created ahead, drained of strays. Found by `tree`, replaced by `swap`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import psycopg
from psycopg import sql

from lifecycle.catalog.models import Messages, Records
from lifecycle.errors import PreconditionError, VerificationError
from lifecycle.planning.spans import free_spans, start_of
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.clone import columns_of
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.locks import EXCLUSIVE, QUIET, at_a_free_moment
from lifecycle.stores.postgres.published import deletes_are_published, new_tables_are_published, published_by_name
from lifecycle.stores.postgres.references import Carried, can_be_carried, carry_away, carry_back, incoming
from lifecycle.stores.postgres.refused import NotSwappableError, unless_forbidden
from lifecycle.stores.postgres.timed import leaves_of, tree_of
from lifecycle.stores.postgres.tree import Branch, Partition, partitions_of

__all__ = ["NameTakenError", "Partition", "create_ahead", "drain_default", "partitions_of", "vacuum"]

log = logging.getLogger(__name__)
DAY = timedelta(days=1)
_VACUUM_BEFORE_16 = "VERBOSE, INDEX_CLEANUP ON"
# The oldest transaction of a database is found by reading its whole catalogue, once for each table that is vacuumed:
# autovacuum does that anyway.
_VACUUM = "VERBOSE, INDEX_CLEANUP ON, SKIP_DATABASE_STATS"
_FIRST_TO_SKIP_STATS = 160_000
# What day partitions are called by ourselves, and by pg_partman 4 and 5; a new one is called like its siblings.
_NAMES = ("{parent}_{day:%Y%m%d}", "{parent}_p{day:%Y%m%d}", "{parent}_p{day:%Y_%m_%d}")


class NameTakenError(PreconditionError):
    """A table has the name that a new partition needs, and is no part of the tree."""

    def __init__(self, table: str, parent: str) -> None:
        self.table, self.parent = table, parent
        super().__init__(
            f"table {table} exists and is no partition of {parent}. If it was detached on purpose, rename it;"
            f" otherwise attach it again: ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES FROM (...) TO (...)"
        )


def create_ahead(conn: Connection, dataset: Messages | Records, tier: Tier | None, as_of: datetime) -> int:
    """Create the partitions of today and of the days to come, so that no insert has to land in the default.

    A day of which other partitions cover a part already is left to them and to `drain_default`.
    """
    tree = tree_of(conn, dataset, tier)
    if not isinstance(tree, Branch) or dataset.create_ahead is None:
        return 0
    today = Bounds(dataset.clock).today(as_of)
    days = [today + DAY * n for n in range(dataset.create_ahead.longest().days + 1)]
    taken = [(leaf.lower, leaf.upper) for leaf in tree.leaves() if not leaf.default]
    made, newest = 0, None
    for day in days:
        span = (start_of(day), start_of(day + DAY))
        parent = _parent_of(tree, *span)
        if free_spans(*span, taken) != [span] or parent is None:
            continue
        if adopt(conn, dataset, tier, parent, span) is not None:
            made, newest = made + 1, _partition_of(parent, *span)
    if newest is not None:
        _tell_of_new_names(conn, made, newest)
    return made


def _tell_of_new_names(conn: Connection, made: int, newest: Partition) -> None:
    names = published_by_name(conn, newest)
    if names:
        log.warning(
            "publication %s tells subscribers of rows under the names of their partitions: a subscriber stops at the"
            " first row of one that it does not have. Create the %d new one(s) there, up to %s.%s, and refresh the"
            " subscription, or let it publish through the table: ALTER PUBLICATION ... SET"
            " (publish_via_partition_root = true)",
            ", ".join(names),
            made,
            newest.schema,
            newest.name,
        )


def drain_default(conn: Connection, dataset: Messages | Records, tier: Tier | None) -> int:
    """Move the rows of a tier's default partitions to partitions of their days (hard case 12).

    Returns:
        the number of rows moved. One transaction per day, so that a kill loses nothing and a rerun goes on.
    """
    tree = tree_of(conn, dataset, tier)
    if not isinstance(tree, Branch):
        return 0
    moved = 0
    for branch in tree.branches():
        default = _default_of(branch)
        if default is None:
            continue
        days = _days_in(conn, dataset, default)
        hindrance = _hindrance(conn, dataset, branch, default) if days else None
        if hindrance is not None:
            log.warning(
                "%s.%s: rows of %d day(s) stay in its default partition until they are due: %s",
                branch.schema,
                branch.name,
                len(days),
                hindrance,
            )
            continue
        moved += sum(_drain_day(conn, dataset, tier, branch, day) for day in days)
    return moved


def _hindrance(conn: Connection, dataset: Messages | Records, branch: Branch, default: Partition) -> str | None:
    """Why rows cannot leave a default partition for one of their day."""
    if not _takes_days(branch):
        return "the partitions beside it are partitioned themselves, and whoever makes those has not made theirs"
    children = {child.table for child in dataset.children}
    for reference in incoming(conn, default.schema, default.name):
        if reference.table not in children or not can_be_carried(conn, reference):
            return f"{reference} would act on it"
    return None


def _days_in(conn: Connection, dataset: Messages | Records, default: Partition) -> list[date]:
    rows = conn.execute(
        sql.SQL("SELECT DISTINCT {day} FROM {default} m WHERE {day} >= {first} AND {day} < {last} ORDER BY 1").format(
            day=Bounds(dataset.clock).day(),
            default=default.identifier,
            first=sql.Literal(date.min),
            last=sql.Literal(date.max - DAY),
        )
    ).fetchall()
    return [day for (day,) in rows]


def _drain_day(conn: Connection, dataset: Messages | Records, tier: Tier | None, branch: Branch, day: date) -> int:
    taken = [(child.lower, child.upper) for child in branch.children if not child.default]
    spans = free_spans(
        max(start_of(day), branch.lower or start_of(day)),
        min(start_of(day + DAY), branch.upper or start_of(day + DAY)),
        taken,
    )
    return sum(adopt(conn, dataset, tier, branch, span) or 0 for span in spans)


def _parent_of(tree: Branch, lower: datetime, upper: datetime) -> Branch | None:
    """The lowest partitioned table that covers a span and takes partitions of days; None where another level misses."""
    fitting = [
        branch
        for branch in tree.branches()
        if not branch.default
        and (branch.lower is None or branch.lower <= lower)
        and (branch.upper is None or upper <= branch.upper)
    ]
    return fitting[-1] if fitting and _takes_days(fitting[-1]) else None


def _takes_days(branch: Branch) -> bool:
    """Whether the newest partition below is one of rows; else whoever made it makes the next."""
    bounded = [child for child in branch.children if not child.default]
    return not bounded or isinstance(bounded[-1], Partition)


def _default_of(branch: Branch) -> Partition | None:
    return next((child for child in branch.children if child.default and isinstance(child, Partition)), None)


def _name_of(branch: Branch, lower: datetime, upper: datetime) -> str:
    if (lower, upper) != (start_of(lower.date()), start_of(lower.date() + DAY)):
        return f"{branch.name}_{lower:%Y%m%dT%H%M%S}"
    siblings = [child for child in branch.children if isinstance(child, Partition) and child.lower is not None]
    for sibling in reversed(siblings):
        for pattern in _NAMES:
            if pattern.format(parent=branch.name, day=sibling.lower) == sibling.name:
                return pattern.format(parent=branch.name, day=lower)
    return _NAMES[0].format(parent=branch.name, day=lower)


def _partition_of(branch: Branch, lower: datetime, upper: datetime) -> Partition:
    return Partition(branch.schema, _name_of(branch, lower, upper), branch.name, lower, upper)


def adopt(
    conn: Connection, dataset: Messages | Records, tier: Tier | None, branch: Branch, span: tuple[datetime, datetime]
) -> int | None:
    """Give a span a partition, and move there what the default partition holds of it.

    Returns:
        how many rows were moved; None when another run was quicker, where rows of the default partition must stay,
        where a partition beside it ends inside the unit of the clock at which this one would begin, and where
        somebody's event trigger forbids it.

    Raises:
        NameTakenError: a table outside the tree has its name.
    """
    lower, upper = span
    partition = _partition_of(branch, lower, upper)
    default = _default_of(branch)
    tables: list[tuple[sql.Composable, str]] = [(branch.identifier, EXCLUSIVE)]
    references = incoming(conn, default.schema, default.name) if default is not None else []
    tables += [(default.identifier, EXCLUSIVE)] if default is not None else []
    tables += [(reference.identifier, QUIET) for reference in references]

    def attach() -> int | None:
        if not _is_free(conn, dataset, tier, span) or _must_stay(conn, dataset, default, partition):
            return None
        # What is written to an unlogged table, and making it a logged one, is told to nobody.
        unheard = default is not None and new_tables_are_published(conn, partition.schema)
        _create(conn, branch, partition, unlogged=unheard)
        moved, carried = 0, list[Carried]()
        if default is not None:
            moved = _copy(conn, dataset, default, partition)
            carried = carry_away(conn, references, partition.identifier) if moved else []
            _cut(conn, dataset, default, partition, moved)
        if unheard:
            conn.execute(sql.SQL("ALTER TABLE {} SET LOGGED").format(partition.identifier))
        conn.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                branch.identifier, partition.identifier, *map(Bounds(dataset.clock).write, span)
            )
        )
        carry_back(conn, carried)
        return moved

    try:
        with unless_forbidden(conn, f"{partition.schema}.{partition.name}"):
            return at_a_free_moment(conn, tables, attach)
    except psycopg.errors.InvalidObjectDefinition:
        # Identifiers of one millisecond: whoever made the next partition ended it at another one than we would.
        log.warning("%s.%s: %s would overlap a partition beside it", branch.schema, branch.name, partition.name)
        return None
    except NotSwappableError as error:
        log.warning("%s.%s is not made: %s", partition.schema, partition.name, "; ".join(error.holders))
        return None


def _must_stay(conn: Connection, dataset: Messages | Records, default: Partition | None, partition: Partition) -> bool:
    """Whether rows of a span stay in the default partition until they are due: a move would be told as a deletion."""
    if default is None:
        return False
    rows = one(
        conn,
        sql.SQL("SELECT count(*) FROM {} m WHERE {}").format(default.identifier, _span(dataset, partition)),
    )
    if not rows or not deletes_are_published(conn, default):
        return False
    log.warning(
        "%s.%s: %d row(s) stay in its default partition until they are due: a publication tells subscribers of what is"
        " deleted from it, and %s is no part of it yet",
        default.schema,
        default.name,
        rows,
        partition.name,
    )
    return True


def _is_free(conn: Connection, dataset: Messages | Records, tier: Tier | None, span: tuple[datetime, datetime]) -> bool:
    """Whether still nothing covers a span: a merge or another run may have come first."""
    leaves = leaves_of(conn, dataset, tier, within=span)
    return free_spans(*span, [(leaf.lower, leaf.upper) for leaf in leaves if not leaf.default]) == [span]


def _create(conn: Connection, branch: Branch, partition: Partition, *, unlogged: bool) -> None:
    if one(conn, "SELECT to_regclass(%s) IS NOT NULL", (partition.identifier.as_string(conn),)):
        raise NameTakenError(f"{partition.schema}.{partition.name}", f"{branch.schema}.{branch.name}")
    conn.execute(
        sql.SQL("CREATE {} TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY)").format(
            sql.SQL("UNLOGGED" if unlogged else ""), partition.identifier, branch.identifier
        )
    )
    owner = one(
        conn,
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass(%s)",
        (branch.identifier.as_string(conn),),
    )
    conn.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(partition.identifier, sql.Identifier(owner)))


def _span(dataset: Messages | Records, partition: Partition) -> sql.Composable:
    return Bounds(dataset.clock).inside(partition.lower, partition.upper)


def _copy(conn: Connection, dataset: Messages | Records, default: Partition, partition: Partition) -> int:
    """Rows go by the names of their columns, which may be in another order in each partition."""
    oid = one(conn, "SELECT to_regclass(%s)::oid", (partition.identifier.as_string(conn),))
    columns = columns_of(conn, oid)
    return conn.execute(
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} m WHERE {}").format(
            partition.identifier, columns, columns, default.identifier, _span(dataset, partition)
        )
    ).rowcount


def _cut(conn: Connection, dataset: Messages | Records, default: Partition, partition: Partition, copied: int) -> None:
    gone = conn.execute(
        sql.SQL("DELETE FROM {} m WHERE {}").format(default.identifier, _span(dataset, partition))
    ).rowcount
    if gone != copied:
        raise VerificationError(
            f"{default.schema}.{default.name}: {copied} row(s) were copied to {partition.name} and {gone} would go"
        )


def vacuum(conn: Connection, tables: Sequence[sql.Identifier]) -> None:
    """Take deleted rows out of tables, their indexes and TOAST (hard case 18). Notices say how far that went.

    Measured in docs/benchmarks.md: INDEX_CLEANUP always, for by itself PostgreSQL leaves the entries of few deleted
    rows, with their keys, in the indexes. No FREEZE: where it adds anything it writes survivors' pages again. TRUNCATE
    is as the table's owner has it (``vacuum_truncate``, on unless set), and pace as ``vacuum_cost_delay`` of the role.
    """
    options = sql.SQL(_VACUUM if conn.info.server_version >= _FIRST_TO_SKIP_STATS else _VACUUM_BEFORE_16)
    for name in tables:
        conn.execute(sql.SQL("VACUUM ({}) {}").format(options, name))
