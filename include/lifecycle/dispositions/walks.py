"""Where in a table the due rows are: past the cut-off in clock order, and among younger rows that exceptions name.

So that a run costs what it takes out and what exceptions concern, and not what the table holds (promise 8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Records, StagedRecords
from lifecycle.dispositions.context import ERASURE_SCOPE, RunContext
from lifecycle.policy.decide import horizon
from lifecycle.stores.postgres.batches import Walk, are_placed
from lifecycle.stores.postgres.belongings import all_indexed, belongings_of
from lifecycle.stores.postgres.candidates import AS_OF, BOUND, few_of, of_records, own_rule
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.messages import is_due
from lifecycle.stores.postgres.present import TRUE, emptied, present

_EVER = "-infinity"


def walks_of(
    context: RunContext,
    dataset: Records | Accounts,
    *,
    which: sql.Composable | None = None,
    only: sql.Composable = TRUE,
    change: sql.Composable | None = None,
) -> Iterator[Walk]:
    """The ways through a table that together come by every due row.

    Args:
        which: narrows the rows that are looked at, cheap to evaluate; unless given, to those with something to dispose.
        only: narrows the due rows.
        change: see `Walk`; for a stage the emptying of its columns.
    """
    which = present(dataset) if which is None else which
    rule = own_rule(context.policy, dataset)
    whole = whole_table(context, dataset, which=which, only=only, change=change)
    if rule is None or rule.period is None:
        yield whole  # no clock decides, so any row may be due
        return
    whole = replace(whole, clock=column_of(dataset.clock))
    bound = min(rule.period.cutoff_bound(horizon(context.policy, context.run.as_of)), context.run.as_of)
    erasing = context.run.scope == ERASURE_SCOPE
    params: dict[str, Any] = {**whole.params, "bound": _EVER if erasing else bound}
    if not erasing:
        past = sql.SQL("{} AND {}").format(which, ClockSql.of(dataset.clock, "m").before(BOUND))
        yield replace(whole, where=past, params=params)
    source = replace(of_records(context.policy, context.catalog, dataset, rule), which=which)
    named = [source.look_up(column, ids) for column, ids in few_of(source)]
    if named:
        candidates = sql.SQL("({})").format(sql.SQL(" UNION ").join(named))
        yield replace(whole, source=candidates, where=TRUE, params=params, placed=False)


def whole_table(
    context: RunContext,
    dataset: Records | Accounts,
    *,
    which: sql.Composable | None = None,
    only: sql.Composable = TRUE,
    change: sql.Composable | None = None,
) -> Walk:
    """Every row that had arrived: once through the table, in the order of its key, which always has an index."""
    which = present(dataset) if which is None else which
    if change is None and isinstance(dataset, StagedRecords):
        change = emptied(dataset)
    fate, relation = context.record_fate(dataset), table(dataset.table)
    told = sql.SQL("d.fate")
    return Walk(
        relation=relation,
        source=relation,
        clock=dataset.key_columns[0],
        keys=dataset.key_columns,
        where=sql.SQL("{} AND {}").format(which, ClockSql.of(dataset.clock, "m").before(AS_OF)),
        fate=fate,
        due=sql.SQL("({} AND {})").format(is_due(told), context.narrowed(told)),
        besides=sql.SQL("({} AND {})").format(which, only),
        params=context.params,
        change=change,
        belongings=belongings_of(context.catalog, dataset) if isinstance(dataset, Records) else (),
        probing=all_indexed(context.conn, dataset) if isinstance(dataset, Records) else True,
        placed=are_placed(context.conn, relation),
    )
