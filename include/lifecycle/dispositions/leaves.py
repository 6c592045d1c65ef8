"""Partitions of an ordinary table that go whole: planned, each as a unit of its own, beside the rows of the rest.

A table that time alone divides loses partitions, as messages do. What lies across the cut-off, in a default partition
or in a partition most of which stays, goes in batches with the rows of the table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Records
from lifecycle.dispositions.census import large_of
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import all_units
from lifecycle.dispositions.rollup import roll_up
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.spans import span_of
from lifecycle.planning.units import Method, Tally, Unit, choose_method
from lifecycle.policy.models import Rule, Tier
from lifecycle.stores.postgres import exceptional
from lifecycle.stores.postgres.belongings import belongings_of
from lifecycle.stores.postgres.candidates import Source, own_rule
from lifecycle.stores.postgres.messages import GOING
from lifecycle.stores.postgres.online.unfinished import is_unfinished
from lifecycle.stores.postgres.partitions import create_ahead, drain_default
from lifecycle.stores.postgres.timed import Span, not_ours, ordinary_fate, outside, tallies_of
from lifecycle.stores.postgres.tree import Branch, Partition, UnsupportedPartitioningError, time_tree
from lifecycle.stores.postgres.windows import TOGETHER

log = logging.getLogger(__name__)
# What belongs to rows goes in the transaction that drops their partition, and holds have to wait for it: so many rows
# of children and copies, one of each for a row, take a good half second.
MOST_WITH_BELONGINGS = 250_000


def is_of_a_table(context: RunContext, dataset: str) -> bool:
    """Whether a unit's dataset is an ordinary table."""
    return any(each.id == dataset for each in context.catalog.tables)


def leaf_units(context: RunContext, dataset: Records) -> list[Unit]:
    """The partitions of a table that this run replaces or drops."""
    rule = own_rule(context.policy, dataset)
    leaves = _behind(context, dataset, rule)
    if rule is None or not leaves:
        return []
    counted = _counted(context, dataset, rule, leaves)
    return [
        _unit(context, dataset, rule, leaf, counted[leaf])
        for leaf in leaves
        if leaf in counted and _goes_whole(context, dataset, leaf, counted[leaf])
    ]


def spans_of(units: Iterable[Unit]) -> list[Span]:
    """The spans of the partitions of some units."""
    return _spans(unit.unit for unit in units)


def planned_spans(context: RunContext, dataset: Records) -> list[Span]:
    """The spans of the partitions that are units of their own in the plan of this run."""
    units = all_units(context.conn, context.run.run_id)
    return _spans(each.unit for each in units if each.dataset == dataset.id and each.method == Method.SWAP)


def _spans(units: Iterable[str]) -> list[Span]:
    return [span for unit in units if (span := span_of(unit.rsplit("/", 1)[1])) is not None]


def outside_of(dataset: Records, spans: Sequence[Span]) -> sql.Composable:
    """Which rows ``m`` are none of those partitions' business."""
    return outside(dataset.clock, spans)


def exceptions_of(context: RunContext, dataset: Records, leaf: Partition) -> tuple[Source, str] | None:
    """How to judge a large partition from its exceptions: where they are, and the fate of all other rows.

    None where it has to be asked row by row.
    """
    rule = own_rule(context.policy, dataset)
    if context.guard is not None or rule is None:
        return None
    tier = dataset.ruled_as or Tier.CONSUMER
    ordinary = ordinary_fate(context.policy, rule, tier, dataset.clock, leaf, context.run.as_of)
    if ordinary is None or not large_of(context, [leaf]):
        return None
    source = exceptional.source_of(context.policy, context.catalog, dataset, rule, leaf.identifier)
    held = exceptional.is_held_whole(context.conn, source, context.params)
    return None if held else (source, ordinary)


def asked(context: RunContext, dataset: Records, leaves: Sequence[Partition]) -> dict[Partition, list[Tally]]:
    """Every row of some partitions, by fate."""
    found: dict[Partition, list[Tally]] = {}
    fate = context.record_fate(dataset)
    for start in range(0, len(leaves), TOGETHER):
        found |= tallies_of(context.conn, dataset, leaves[start : start + TOGETHER], fate, context.params)
    return found


def tend(context: RunContext, dataset: Records) -> dict[str, int]:
    """Make partitions ahead and empty default ones, where the file says for how long ahead; drop what is empty of what
    the last successful run has been through, and merge the rest of it where the partitions are ours.

    Returns:
        how many partitions were created, dropped and merged, and how many rows were drained.
    """
    tree = _replaceable(context, dataset)
    if tree is None:
        return {}
    counts = {"created": create_ahead(context.conn, dataset, None, context.run.as_of)}
    if context.waits(dataset.id):
        return counts
    if dataset.create_ahead is not None:
        counts["drained"] = drain_default(context.conn, dataset, None)
    return counts | roll_up(context, None, dataset)


def _replaceable(context: RunContext, dataset: Records) -> Branch | None:
    """A table that its clock alone divides, and whose partitions this role may replace."""
    if not dataset.by_partition:
        return None
    try:
        tree = time_tree(context.conn, dataset)
    except UnsupportedPartitioningError as error:
        log.info("rows of %s go in batches, from whatever partition: %s", dataset.table, error)
        return None
    if tree is None:
        return None
    if is_unfinished(context.conn, dataset.table):
        log.warning("rows of %s go in batches: the ordinary table that it was is still kept up", dataset.table)
        return None
    stranger = not_ours(context.conn, dataset.table)
    if stranger is not None:
        log.warning(
            "rows of %s go in batches: this role may not replace %s. `lifecycle postgres grants` gives the ownership"
            " with which its partitions go whole",
            dataset.table,
            stranger,
        )
        return None
    return tree


def _behind(context: RunContext, dataset: Records, rule: Rule | None) -> list[Partition]:
    """The partitions that lie wholly behind the cut-off and may be replaced, in the order of the clock."""
    if context.run.scope != RECORDS_SCOPE or rule is None or rule.period is None:
        return []
    tree, cutoff = _replaceable(context, dataset), cutoff_of(context.policy, rule, context.run.as_of)
    found = [leaf for leaf in tree.leaves() if _is_behind(leaf, cutoff)] if tree is not None else []
    return sorted(found, key=lambda leaf: (leaf.earliest or cutoff, leaf.name))


def _is_behind(leaf: Partition, cutoff: datetime) -> bool:
    return leaf.bounded and leaf.latest is not None and leaf.latest <= cutoff


def _counted(
    context: RunContext, dataset: Records, rule: Rule, leaves: list[Partition]
) -> dict[Partition, list[Tally]]:
    """Large ones from their exceptions, the others row by row."""
    found: dict[Partition, list[Tally]] = {}
    large = large_of(context, leaves)
    for leaf in [leaf for leaf in leaves if leaf.name in large]:
        known = exceptions_of(context, dataset, leaf)
        if known is not None:
            found[leaf] = exceptional.tallies_by_exceptions(context.conn, *known, context.params)
    rest = [leaf for leaf in leaves if leaf not in found]
    return found | asked(context, dataset, rest)


def _goes_whole(context: RunContext, dataset: Records, leaf: Partition, found: Sequence[Tally]) -> bool:
    """Whether most of a partition goes, and what belongs to its rows can go in the same short transaction."""
    if choose_method(found) is not Method.SWAP:
        return False
    going = sum(tally.records for tally in found if tally.disposition in GOING)
    with_them = going * len(belongings_of(context.catalog, dataset))
    if with_them > MOST_WITH_BELONGINGS:
        log.warning(
            "%s.%s: its %d rows go in batches: about %d rows of other tables would go with them at once",
            leaf.schema,
            leaf.name,
            going,
            with_them,
        )
        return False
    return True


def _unit(context: RunContext, dataset: Records, rule: Rule, leaf: Partition, found: Sequence[Tally]) -> Unit:
    # What would move into quarantine stays where it is: an ordinary table has none.
    shown = [tally for tally in found if tally.disposition != "quarantine"]
    oldest = [tally.oldest for tally in shown if tally.disposes and tally.oldest is not None]
    period = rule.period
    return Unit(
        unit=f"{dataset.id}/{leaf.label}",
        dataset=dataset.id,
        method=Method.SWAP,
        tallies=(*(t for t in shown if t.disposes), *(t for t in shown if not t.disposes)),
        day=leaf.lower.date() if leaf.lower is not None else None,
        cutoff=cutoff_of(context.policy, rule, context.run.as_of),
        deadline=period.end(min(oldest), round_up=False) if oldest and period is not None else None,
    )
