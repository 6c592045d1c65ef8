"""Keeping the number of partitions bounded: emptied ones are dropped, past days become months, past months years.

Nothing is disposed of here, so nothing is planned and nothing is written to the ledger: every row is copied, counted,
and found where it was, by the same queries. It is done before a run plans, so that a unit's partition has the name that
it is planned under, and only with what the last successful run has been through, so that only survivors are copied.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

import psycopg

from lifecycle.catalog.models import Messages, Records
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import in_turn
from lifecycle.dispositions.native import LEFT_FATE
from lifecycle.errors import LifecycleError
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.rollup import Merge, months_to_merge, years_to_merge
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.candidates import own_rule
from lifecycle.stores.postgres.connect import one
from lifecycle.stores.postgres.merge import drop_if_empty, merge, referred_to_by_others, rows_in
from lifecycle.stores.postgres.timed import tree_of
from lifecycle.stores.postgres.tree import Branch, Partition

log = logging.getLogger(__name__)
BUDGET_SECONDS = 300.0
# Copied in one transaction, during which nobody can write to these partitions.
MOST_ROWS = 2_000_000


def roll_up(context: RunContext, tier: Tier | None, table: Records | None = None) -> dict[str, int]:
    """Drop and merge what the last successful run of a tier, or of an ordinary table, has left of its past.

    Safe to kill and to repeat: each drop and each merge is a transaction of its own. What is busy, or cannot be merged,
    stays as it is and is tried again by the next run.

    Args:
        table: an ordinary table that time alone divides, instead. Where another tool makes its partitions, what holds
            anything stays as that tool made it.

    Returns:
        how many partitions were dropped because nothing was in them, and how many went into a larger one.
    """
    counts = {"dropped": 0, "merged": 0}
    dataset = context.messages if table is None else table
    merging = dataset.create_ahead is not None
    before = _settled(context, dataset, tier)
    if context.run.planned_at is not None or before is None:
        return counts
    settled = Bounds(dataset.clock).settled(before)
    gives_up = time.monotonic() + BUDGET_SECONDS
    for branch in _branches(context, dataset, tier):
        for leaf in _leaves(branch):
            if leaf.latest is not None and leaf.latest <= before and time.monotonic() < gives_up:
                counts["dropped"] += _try(context, leaf.name, partial(drop_if_empty, context.conn, leaf))
    for find, suffix in ((months_to_merge, "%Y%m"), (years_to_merge, "%Y")) if merging else ():
        for branch in _branches(context, dataset, tier):
            for wanted in find([(child.lower, child.upper) for child in _beside(branch)], settled):
                if time.monotonic() < gives_up and not _waits(context, dataset, tier, wanted):
                    name = f"{branch.name}_{wanted.lower.strftime(suffix)}"
                    counts["merged"] += _try(
                        context, name, partial(_merge, context, dataset, tier, branch, wanted, name)
                    )
    return counts


def _merge(
    context: RunContext, dataset: Messages | Records, tier: Tier | None, branch: Branch, wanted: Merge, name: str
) -> int:
    """Returns how many partitions became one; 0 where they are not to be merged."""
    conn = context.conn
    children = [_beside(branch)[place] for place in wanted.parts]
    parts = [child for child in children if isinstance(child, Partition)]
    if len(parts) < len(children) or referred_to_by_others(conn, parts[0], {child.table for child in dataset.children}):
        return 0
    rows = rows_in(conn, parts)
    if rows > MOST_ROWS:
        log.info("%s: its %d partitions hold %d rows; more than %d are not merged", name, len(parts), rows, MOST_ROWS)
        return 0
    found = merge(conn, dataset, tier, parts, (wanted.lower, wanted.upper), name)
    if found is None:
        return 0
    log.info("%s: %d rows of %d partitions", name, found, len(parts))
    return len(parts)


def _try(context: RunContext, name: str, act: Callable[[], int]) -> int:
    """Act when it is our turn; what stands in the way is said, and stays."""
    try:
        with in_turn(context.conn):
            return act()
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        log.info("%s is in use; the next run tries again", name)
    except LifecycleError as error:
        log.warning("%s stays as it is: %s", name, error)
    return 0


def _branches(context: RunContext, dataset: Messages | Records, tier: Tier | None) -> list[Branch]:
    tree = tree_of(context.conn, dataset, tier)
    return tree.branches() if isinstance(tree, Branch) else []


def _beside(branch: Branch) -> list[Partition | Branch]:
    return [child for child in branch.children if not child.default]


def _leaves(branch: Branch) -> list[Partition]:
    return [child for child in branch.children if isinstance(child, Partition) and child.bounded]


def _settled(context: RunContext, dataset: Messages | Records, tier: Tier | None) -> datetime | None:
    """The cut-off of the last successful run: what is older has been judged, and only survivors are left."""
    as_of = one(
        context.conn,
        "SELECT max(r.as_of) FROM lifecycle.runs r WHERE r.scope = %s AND r.status = 'succeeded' AND NOT r.dry_run"
        " AND r.as_of <= %s",
        (context.run.scope, context.run.as_of),
    )
    if as_of is None:
        return None
    if isinstance(dataset, Records):
        rule = own_rule(context.policy, dataset)
        return None if rule is None or rule.period is None else cutoff_of(context.policy, rule, as_of)
    cutoff: datetime = replace(context, run=replace(context.run, as_of=as_of)).cutoff(tier)
    return cutoff


def _waits(context: RunContext, dataset: Messages | Records, tier: Tier | None, wanted: Merge) -> bool:
    """Whether a run that may go on still has units of these days to carry out, or to be approved, or left to S3."""
    return bool(
        one(
            context.conn,
            "SELECT EXISTS (SELECT FROM lifecycle.plan_units u JOIN lifecycle.runs r USING (run_id)"
            " WHERE u.dataset = %s AND u.tier IS NOT DISTINCT FROM %s AND u.day >= %s AND u.day < %s"
            " AND (u.status <> 'done' OR u.progress ? %s)"
            " AND NOT r.dry_run AND (r.status IN ('running', 'failed') OR r.status = 'succeeded' AND r.as_of ="
            " (SELECT max(l.as_of) FROM lifecycle.runs l WHERE l.scope = r.scope AND l.status = 'succeeded')))",
            (dataset.id, None if tier is None else tier.value, wanted.lower.date(), wanted.upper.date(), LEFT_FATE),
        )
    )
