"""Records in ordinary tables (scores, feedback, training examples) and account rows: paced batches, then vacuum."""

from __future__ import annotations

import logging
from collections.abc import Callable

from psycopg import sql

from lifecycle.catalog.models import Accounts, Child, Records, StagedRecords
from lifecycle.dispositions.batching import RowWork
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import UnitLease, take_lease, through_gate
from lifecycle.dispositions.leaves import outside_of, planned_spans
from lifecycle.dispositions.plan_store import all_units, close_unit, has_disposed, load_unit
from lifecycle.dispositions.walks import walks_of, whole_table
from lifecycle.planning.units import Progress
from lifecycle.stores.postgres.belongings import touched
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.reclaim import reclaim
from lifecycle.stores.postgres.references import ReferencedError, refuse_acting

log = logging.getLogger(__name__)


def expire_records(context: RunContext, unit: str) -> Progress:
    """Delete the due rows of one table.

    Raises:
        DispositionError: rows stayed locked by somebody else; everything else was done.
        ReferencedError: a foreign key that nobody configured would act; nothing was destroyed.
        StatementTooSlowError: not even the smallest batch ended in its time.
    """
    dataset = next(item for item in context.catalog.records if item.id == unit)
    refuse_acting(context.conn, context.catalog, dataset, unit, context.run.as_of)

    def work(lease: UnitLease) -> None:
        rows = RowWork(context, lease, dataset, table(dataset.table))
        apart = planned_spans(context, dataset)
        which = outside_of(dataset, apart) if apart else None
        rows.take_out(walks_of(context, dataset, which=which))
        if rows.short_of_plan and not rows.spent and not _rows_went(context, dataset):
            # The plan saw more than was found: nothing may hang on where exceptions are looked for.
            rows.take_out([whole_table(context, dataset, which=which)])
        rows.note_left()

    return _carry_out(context, unit, dataset, work)


def _rows_went(context: RunContext, dataset: Records) -> bool:
    """Whether the same run takes rows out of the table of a stage: then content that the plan saw went with its row."""
    if not isinstance(dataset, StagedRecords):
        return False
    return any(each.dataset == dataset.binding for each in all_units(context.conn, context.run.run_id))


def expire_accounts(context: RunContext, unit: str) -> Progress:
    """Empty the personal columns of due accounts; remove rows that nothing refers to any more.

    Raises:
        DispositionError, StatementTooSlowError: as `expire_records`.
    """
    dataset = context.catalog.accounts
    personal, empty = (sql.SQL("{} " + sign).format(_personal(dataset)) for sign in ("> 0", "= 0"))
    emptied = sql.SQL(", ").join(sql.SQL("{} = NULL").format(sql.Identifier(c)) for c in dataset.personal)

    def work(lease: UnitLease) -> None:
        rows = RowWork(context, lease, dataset, table(dataset.table), _as("deidentify"))
        rows.take_out(walks_of(context, dataset, which=personal, change=emptied))
        if rows.short_of_plan and not rows.spent:
            rows.take_out([whole_table(context, dataset, which=personal, change=emptied)])
        rows.note_left()
        # Rows that wait for their last reference to go are no record any more, so no plan counts them.
        if _free_of_cascades(context, dataset, unit):
            removal = RowWork(context, lease, dataset, table(dataset.table), _as("delete"))
            removal.take_out(walks_of(context, dataset, which=empty, only=_unreferenced(dataset)))

    return _carry_out(context, unit, dataset, work)


def _free_of_cascades(context: RunContext, dataset: Accounts, unit: str) -> bool:
    """Whether emptied rows may be removed. If not, they stay, as those do to which something refers."""
    try:
        refuse_acting(context.conn, context.catalog, dataset, unit, context.run.as_of)
    except ReferencedError as error:
        log.error("emptied rows stay. %s", error)
        return False
    return True


def _carry_out(
    context: RunContext, unit: str, dataset: Records | Accounts, work: Callable[[UnitLease], None]
) -> Progress:
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    work(lease)
    deleted = has_disposed(context, unit)
    tables = [table(dataset.table)]
    if isinstance(dataset, Records):
        tables += touched(dataset, load_unit(context.conn, context.run.run_id, unit).progress)
    reclaim(context.conn, context.run.run_id, unit, tables, deleted=deleted)
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _as(disposition: str) -> Callable[[str], str]:
    """What happens to an account is said by what was done, not by the fate's own word."""
    return lambda fate: f"{disposition}:{fate.split(':', 1)[1]}"


def _personal(dataset: Accounts) -> sql.Composable:
    return sql.SQL("num_nonnulls({})").format(
        sql.SQL(", ").join(sql.Identifier("m", name) for name in dataset.personal)
    )


def _unreferenced(dataset: Accounts) -> sql.Composable:
    """No other table names the account any more."""
    if not dataset.referenced_by:
        return sql.SQL("true")
    return sql.SQL(" AND ").join(
        sql.SQL("NOT EXISTS (SELECT FROM {} r WHERE {})").format(table(child.table), _names_account(dataset, child))
        for child in dataset.referenced_by
    )


def _names_account(dataset: Accounts, child: Child) -> sql.Composable:
    """Whether a row ``r`` of a table names the account ``m``."""
    account = sql.Identifier("m", dataset.key)
    if child.table == "lifecycle.quarantine" and dataset.ids != "uuid":
        return sql.SQL("r.account = {}::text").format(account)
    return sql.SQL("{} = {}").format(sql.Identifier("r", child.key), account)
