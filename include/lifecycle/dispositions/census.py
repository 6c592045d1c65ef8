"""Counts of a tier's messages by partition and fate, exactly, without asking every row where its partition answers.

Behind the cut-off large partitions are judged from their exceptions; past it only partitions are looked at in which an
exception makes something due. So a plan costs what is due and what is excepted, not what the table holds (promise 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Accounts, Records
from lifecycle.dispositions.context import ERASURE_SCOPE, RunContext
from lifecycle.planning.units import Tally
from lifecycle.policy.decide import UNCLASSIFIED, horizon
from lifecycle.policy.models import Disposition, Tier
from lifecycle.stores.postgres import exceptional
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.candidates import AS_OF, Source, of_records, own_rule
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.messages import tallies
from lifecycle.stores.postgres.present import present
from lifecycle.stores.postgres.tree import Partition
from lifecycle.stores.postgres.windows import TOGETHER

# A smaller partition is read faster than its exceptions are looked up.
LARGE = 64 * 1024**2
# More partitions than this are not taken out of a pass through all by conditions.
MANY = 50
_EVER = "-infinity"


def census(
    context: RunContext, tier: Tier, root: sql.Identifier, leaves: Iterable[Partition]
) -> dict[str, list[Tally]]:
    """Every partition of a tier in which this run may have something to do, by name: its records by fate.

    Others may be left out: what is not due in them is not counted.
    """
    leaves = list(leaves)
    source = exceptional.leaf_source(context.policy, context.catalog, tier, root)
    if context.guard is not None or exceptional.is_held_whole(context.conn, source, context.params):
        return _row_by_row(context, tier, root, leaves)
    if context.run.scope == ERASURE_SCOPE:
        old, bound = list[Partition](), None
    else:
        bound = exceptional.waiting_from(context.policy, tier, context.messages, context.run.as_of)
        old = [leaf for leaf in leaves if leaf.earliest is None or leaf.default or leaf.earliest < bound]
    names = {leaf.name for leaf in old}
    params = context.params | {"bound": bound or _EVER, "look": context.run.as_of}
    only = context.narrowed(sql.SQL("g.fate"))
    named = exceptional.touched(context.conn, source, params, only)
    found = _old(context, tier, root, old)
    for leaf in leaves:
        if leaf.name in named and leaf.name not in names:
            found[leaf.name] = leaf_tallies(context, tier, leaf)
    return found


def _arrived(context: RunContext) -> sql.Composable:
    return ClockSql.of(context.messages.clock, "m").before(AS_OF)


def _old(context: RunContext, tier: Tier, root: sql.Identifier, old: list[Partition]) -> dict[str, list[Tally]]:
    """The small ones in one pass through the tier, the large ones and those without bounds one by one."""
    large = large_of(context, old)
    apart = [leaf for leaf in old if not leaf.bounded or leaf.name in large]
    small = [leaf for leaf in old if leaf.bounded and leaf.name not in large]
    if len(apart) > MANY:
        apart, small = old, []
    found = _together(context, tier, root, small, apart)
    return found | _one_by_one(context, tier, apart)


def _one_by_one(context: RunContext, tier: Tier, leaves: Iterable[Partition]) -> dict[str, list[Tally]]:
    return {leaf.name: counted for leaf in leaves if (counted := leaf_tallies(context, tier, leaf))}


def _row_by_row(
    context: RunContext, tier: Tier, root: sql.Identifier, leaves: list[Partition]
) -> dict[str, list[Tally]]:
    """Every row of every partition: where nothing but the row itself tells its fate."""
    apart = [leaf for leaf in leaves if not leaf.bounded]
    found = _together(context, tier, root, [leaf for leaf in leaves if leaf.bounded], apart)
    return found | _one_by_one(context, tier, apart)


def _together(
    context: RunContext, tier: Tier, root: sql.Identifier, small: list[Partition], apart: list[Partition]
) -> dict[str, list[Tally]]:
    """So many at a time, in the order of the clock."""
    ordered, found = sorted(small, key=_lower), dict[str, list[Tally]]()
    for start in range(0, len(ordered), TOGETHER):
        found |= _in_one_pass(context, tier, root, ordered[start : start + TOGETHER], apart)
    return found


def _lower(leaf: Partition) -> datetime:
    if leaf.lower is None:
        raise ValueError(f"{leaf.name} has no lower bound")
    return leaf.lower


def _in_one_pass(
    context: RunContext, tier: Tier, root: sql.Identifier, some: Sequence[Partition], apart: list[Partition]
) -> dict[str, list[Tally]]:
    """Neighbours, by conditions on the clock, by which PostgreSQL leaves all other partitions out."""
    bounds = Bounds(context.messages.clock)
    first, last = _lower(some[0]), max(leaf.upper for leaf in some if leaf.upper is not None)
    conditions = [_arrived(context), bounds.inside(first, last)]
    conditions += [
        bounds.outside(leaf.lower, leaf.upper)
        for leaf in apart
        if leaf.lower is not None and leaf.upper is not None and leaf.bounded and first <= leaf.lower < last
    ]
    where, names = sql.SQL(" AND ").join(conditions), {leaf.name for leaf in some}
    found = tallies(context.conn, context.messages, root, context.fate(tier), where, context.params)
    return {name: counted for name, counted in found.items() if name in names}


def large_of(context: RunContext, leaves: Iterable[Partition]) -> set[str]:
    """Which partitions are too large to be asked row by row, by name."""
    named = {leaf.identifier.as_string(context.conn): leaf.name for leaf in leaves}
    rows = context.conn.execute(
        "SELECT n FROM unnest(%s::text[]) n WHERE pg_relation_size(to_regclass(n)) >= %s", (list(named), LARGE)
    ).fetchall()
    return {named[name] for (name,) in rows}


def exceptions_of(context: RunContext, tier: Tier, leaf: Partition) -> tuple[Source, str] | None:
    """How to judge a large partition from its exceptions: where they are, and the fate of all other rows.

    None where it has to be asked row by row.
    """
    ordinary = exceptional.ordinary_fate(context.policy, tier, context.messages, leaf, context.run.as_of)
    if context.guard is not None or ordinary is None or not large_of(context, [leaf]):
        return None
    source = exceptional.leaf_source(context.policy, context.catalog, tier, leaf.identifier)
    held = exceptional.is_held_whole(context.conn, source, context.params)
    return None if held else (source, ordinary)


def leaf_tallies(context: RunContext, tier: Tier, leaf: Partition) -> list[Tally]:
    """One partition's records by fate, of those that had arrived."""
    known = exceptions_of(context, tier, leaf)
    if known is not None:
        return exceptional.tallies_by_exceptions(context.conn, *known, context.params)
    dataset, fate = context.messages, context.fate(tier)
    counted = tallies(context.conn, dataset, leaf.identifier, fate, _arrived(context), context.params)
    return counted.get(leaf.name, [])


def count_records(context: RunContext, dataset: Records | Accounts, which: sql.Composable | None = None) -> list[Tally]:
    """The rows of an ordinary table by fate, of those that still hold what the dataset disposes of.

    Of a stage younger rows count as they are, whether or not they hold anything: to look would read their content.

    Args:
        which: narrows the rows that count, instead.
    """
    which = present(dataset) if which is None else which
    rule = own_rule(context.policy, dataset)
    if isinstance(dataset, Records) and rule is not None and rule.period is not None and context.guard is None:
        source = of_records(context.policy, context.catalog, dataset, rule)
        source = replace(source, names=("ctid", *source.names))
        if not exceptional.is_held_whole(context.conn, source, context.params):
            bound = min(rule.period.cutoff_bound(horizon(context.policy, context.run.as_of)), context.run.as_of)
            ordinary = f"{Disposition.KEEP.value}:{rule.id if source.tier is not None else UNCLASSIFIED}"
            params = context.params | {"bound": bound}
            return exceptional.record_tallies(context.conn, source, ordinary, params, which)
    rows = context.conn.execute(
        sql.SQL("SELECT {fate}, count(*), min({clock}) FROM {t} m WHERE {which} GROUP BY 1").format(
            fate=context.record_fate(dataset),
            clock=ClockSql.of(dataset.clock, "m").instant,
            t=table(dataset.table),
            which=which,
        ),
        context.params,
    ).fetchall()
    return [Tally(fate, records, 0, oldest) for fate, records, oldest in rows]
