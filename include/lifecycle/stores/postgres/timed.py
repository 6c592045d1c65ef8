"""Ordinary tables that time alone divides: what of their rows lies in a partition, and whether it may be replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from psycopg import sql

from lifecycle.catalog.clocks import Clock, EpochClock, TimestampClock
from lifecycle.catalog.models import Messages, Records
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.units import Tally
from lifecycle.policy.models import Policy, Rule, Tier
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.present import TRUE
from lifecycle.stores.postgres.tree import Branch, Partition, tier_tree, time_tree

Span = tuple[datetime, datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Where months differ in length, a cut-off is exact within four days only.
_MONTHS_DIFFER = timedelta(days=5)
# A wall-clock time that its zone left out is read as a later one.
_CLOCKS_MOVE = timedelta(days=2)
_NOT_OURS = (
    "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_partition_tree(to_regclass(%s)) t"
    " JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE NOT (pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relnamespace, 'CREATE'))"
    " ORDER BY t.level LIMIT 1"
)


def tree_of(
    conn: Connection, dataset: Messages | Records, tier: Tier | None, within: Span | None = None
) -> Branch | Partition | None:
    """What holds a tier of messages, or (None) all of an ordinary table; None where there is no such one.

    Raises:
        UnsupportedPartitioningError: something but time divides it.
    """
    if isinstance(dataset, Records):
        return time_tree(conn, dataset, within)
    return None if tier is None else tier_tree(conn, dataset, tier, within)


def leaves_of(
    conn: Connection, dataset: Messages | Records, tier: Tier | None, within: Span | None = None
) -> list[Partition]:
    """Every leaf of it, in no order."""
    found = tree_of(conn, dataset, tier, within)
    if found is None:
        return []
    return found.leaves() if isinstance(found, Branch) else [found]


def not_ours(conn: Connection, name: str) -> str | None:
    """The first table of a tree that this role may not replace: it is no member of the owner, or may create nothing
    beside it. None where it may replace all of them."""
    row = conn.execute(_NOT_OURS, (table(name).as_string(conn),)).fetchone()
    return None if row is None else str(row[0])


def has_only_times(clock: Clock, leaf: Partition) -> bool:
    """Whether nothing can lie in a bounded partition but rows whose clock tells a time.

    Not where the clock is an identifier: one that tells none may lie between two that do. Numbers tell one from 1 on.
    """
    if isinstance(clock, EpochClock):
        return leaf.lower is not None and leaf.lower > _EPOCH
    return isinstance(clock, str | TimestampClock)


def ordinary_fate(policy: Policy, rule: Rule, tier: Tier, clock: Clock, leaf: Partition, as_of: datetime) -> str | None:
    """The fate of every row of a partition that no exception names; None unless the rule ends all of them."""
    if rule.period is None or leaf.upper is None or not leaf.bounded or not has_only_times(clock, leaf):
        return None
    slack = _MONTHS_DIFFER if rule.period.months else timedelta()
    slack += _CLOCKS_MOVE if isinstance(clock, TimestampClock) else timedelta()
    if leaf.upper > cutoff_of(policy, rule, as_of) - slack:
        return None
    chosen = policy.variant_of(rule, tier) or rule
    return f"{chosen.disposition.value}:{chosen.id}"


def tallies_of(
    conn: Connection,
    dataset: Records,
    leaves: Sequence[Partition],
    fate: sql.Composable,
    params: dict[str, object],
) -> dict[Partition, list[Tally]]:
    """Every row of some partitions by fate, whatever its clock holds, in one pass. Empty partitions are left out.

    Args:
        leaves: neighbours in the order of the clock.
    """
    apart = not all(has_only_times(dataset.clock, leaf) for leaf in leaves)
    named = {(leaf.schema, leaf.name): leaf for leaf in leaves}
    found: dict[Partition, list[Tally]] = {}
    for source, which in _sources(dataset, leaves, apart=apart):
        rows = conn.execute(
            sql.SQL(
                "SELECT n.nspname, c.relname, g.fate, g.n, g.oldest FROM (SELECT m.tableoid AS leaf, {fate} AS fate,"
                " count(*) AS n, min({clock}) AS oldest FROM {source} m WHERE {which} GROUP BY 1, 2) g"
                " JOIN pg_class c ON c.oid = g.leaf JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2, 3"
            ).format(fate=fate, clock=ClockSql.of(dataset.clock, "m").instant, source=source, which=which),
            params,
        ).fetchall()
        for schema, name, what, records, oldest in rows:
            if (leaf := named.get((schema, name))) is not None:
                found.setdefault(leaf, []).append(Tally(what, records, 0, oldest))
    return found


def _sources(
    dataset: Records, leaves: Sequence[Partition], *, apart: bool
) -> Iterable[tuple[sql.Composable, sql.Composable]]:
    """Where to read: the table, by conditions by which PostgreSQL leaves other partitions out, or each by itself."""
    spans = [(leaf.lower, leaf.upper) for leaf in leaves if leaf.lower is not None and leaf.upper is not None]
    if apart or not spans:
        return [(leaf.identifier, TRUE) for leaf in leaves]
    at = ClockSql.of(dataset.clock, "m")
    within = sql.SQL(" OR ").join(inside(at, span) for span in _joined(spans))
    return [(table(dataset.table), sql.SQL("({})").format(within))]


def inside(at: ClockSql, span: Span) -> sql.Composable:
    """True for rows whose clock lies in a span."""
    lower, upper = map(sql.Literal, span)
    return sql.SQL("({} AND {})").format(at.since(lower), at.before(upper))


def outside(at: ClockSql, spans: Iterable[Span]) -> sql.Composable:
    """True for rows whose clock lies in none of some spans; PostgreSQL leaves out partitions in which it cannot."""
    parts = [
        sql.SQL("({} OR {})").format(at.before(sql.Literal(lower)), at.since(sql.Literal(upper)))
        for lower, upper in _joined(spans)
    ]
    return sql.SQL("({})").format(sql.SQL(" AND ").join(parts)) if parts else TRUE


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Neighbours as one."""
    found: list[Span] = []
    for lower, upper in sorted(spans):
        if found and found[-1][1] == lower:
            found[-1] = found[-1][0], upper
        else:
            found.append((lower, upper))
    return found
