"""Ordinary tables that time alone divides: what of their rows lies in a partition, and whether it may be replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from psycopg import sql

from lifecycle.catalog.clocks import Clock
from lifecycle.catalog.models import Messages, Records
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.units import Tally
from lifecycle.policy.models import Policy, Rule, Tier
from lifecycle.stores.postgres.bounds import Bounds, Mark
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.present import TRUE
from lifecycle.stores.postgres.tree import Branch, Partition, tier_tree, time_tree

Span = tuple[Mark, Mark]
# Where months differ in length, a cut-off is exact within four days only.
_MONTHS_DIFFER = timedelta(days=5)
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


def ordinary_fate(policy: Policy, rule: Rule, tier: Tier, clock: Clock, leaf: Partition, as_of: datetime) -> str | None:
    """The fate of every row of a partition that no exception names; None unless the rule ends all of them.

    An identifier that tells no time may lie between two that do, so of those each is asked.
    """
    if rule.period is None or leaf.latest is None or not leaf.bounded or not Bounds(clock).tells_all:
        return None
    slack = _MONTHS_DIFFER if rule.period.months else timedelta()
    if leaf.latest > cutoff_of(policy, rule, as_of) - slack:
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
    named = {(leaf.schema, leaf.name): leaf for leaf in leaves}
    found: dict[Partition, list[Tally]] = {}
    for source, which in _sources(dataset, leaves):
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


def _sources(dataset: Records, leaves: Sequence[Partition]) -> list[tuple[sql.Composable, sql.Composable]]:
    """Where to read: the table, by conditions by which PostgreSQL leaves other partitions out, or each by itself."""
    bounds = Bounds(dataset.clock)
    spans = [(leaf.lower, leaf.upper) for leaf in leaves if leaf.lower is not None and leaf.upper is not None]
    if not bounds.tells_all or len(spans) < len(leaves):
        return [(leaf.identifier, TRUE) for leaf in leaves]
    within = sql.SQL(" OR ").join(bounds.inside(*span) for span in _joined(spans))
    return [(table(dataset.table), sql.SQL("({})").format(within))]


def outside(clock: Clock, spans: Iterable[Span]) -> sql.Composable:
    """Which rows ``m`` lie in none of some spans; PostgreSQL leaves out partitions in which none does."""
    parts = [Bounds(clock).outside(*span) for span in _joined(spans)]
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
