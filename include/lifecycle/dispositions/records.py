"""Records in ordinary tables (scores, feedback, training examples) and account rows: keyset batches, then vacuum."""

from __future__ import annotations

from functools import partial

from psycopg import sql

from lifecycle.catalog.models import Accounts, Records
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.plan_store import close_unit, load_unit, record_progress
from lifecycle.planning.units import Progress
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.messages import is_due
from lifecycle.stores.postgres.partitions import vacuum

BATCH = 5_000


def expire_records(context: RunContext, unit: str) -> Progress:
    """Delete the due rows of one table, a bounded batch per transaction."""
    dataset = next(item for item in context.catalog.records if item.id == unit)
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    while through_gate(context.conn, context.catalog, lease, partial(_delete_batch, context, dataset, unit)):
        pass
    vacuum(context.conn, [table(dataset.table)])
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _delete_batch(context: RunContext, dataset: Records, unit: str, gate: Gate) -> int:
    fate = context.record_fate(dataset)
    rows = gate.conn.execute(
        sql.SQL(
            "WITH going AS (SELECT m.{key}, {fate} AS fate FROM {t} m WHERE {due} AND {only}"
            " ORDER BY m.{clock} LIMIT %(limit)s FOR UPDATE),"
            " gone AS (DELETE FROM {t} d USING going g WHERE d.{key} = g.{key} RETURNING g.fate)"
            " SELECT fate, count(*) FROM gone GROUP BY 1"
        ).format(
            key=sql.Identifier(dataset.key),
            clock=sql.Identifier(dataset.clock),
            fate=fate,
            t=table(dataset.table),
            due=is_due(fate),
            only=context.narrowed(fate),
        ),
        context.params | {"limit": BATCH},
    ).fetchall()
    if rows:
        record_progress(gate.conn, context.run.run_id, unit, {name: {"records": count} for name, count in rows})
    return sum(count for _, count in rows)


def expire_accounts(context: RunContext, unit: str) -> Progress:
    """Empty the personal columns of due accounts; remove rows that nothing refers to any more."""
    dataset = context.catalog.accounts
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    while through_gate(context.conn, context.catalog, lease, partial(_empty_batch, context, dataset, unit)):
        pass
    through_gate(context.conn, context.catalog, lease, partial(_remove_unreferenced, context, dataset, unit))
    vacuum(context.conn, [table(dataset.table)])
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _personal(dataset: Accounts, alias: str) -> sql.Composable:
    return sql.SQL("num_nonnulls({})").format(
        sql.SQL(", ").join(sql.Identifier(alias, column) for column in dataset.personal)
    )


def _empty_batch(context: RunContext, dataset: Accounts, unit: str, gate: Gate) -> int:
    """Null the personal columns of a batch of accounts that an inactivity period or an erasure request has reached."""
    fate = context.record_fate(dataset)
    rows = gate.conn.execute(
        sql.SQL(
            "WITH going AS (SELECT m.{key}, {fate} AS fate FROM {t} m WHERE {personal} > 0 AND {due} AND {only}"
            " LIMIT %(limit)s FOR UPDATE), gone AS (UPDATE {t} d SET {emptied} FROM going g WHERE d.{key} = g.{key}"
            " RETURNING g.fate) SELECT fate, count(*) FROM gone GROUP BY 1"
        ).format(
            key=sql.Identifier(dataset.key),
            fate=fate,
            t=table(dataset.table),
            personal=_personal(dataset, "m"),
            due=is_due(fate),
            only=context.narrowed(fate),
            emptied=sql.SQL(", ").join(sql.SQL("{} = NULL").format(sql.Identifier(c)) for c in dataset.personal),
        ),
        context.params | {"limit": BATCH},
    ).fetchall()
    done = {f"deidentify:{name.split(':', 1)[1]}": {"records": count} for name, count in rows}
    if done:
        record_progress(gate.conn, context.run.run_id, unit, done)
    return sum(count for _, count in rows)


def _remove_unreferenced(context: RunContext, dataset: Accounts, unit: str, gate: Gate) -> None:
    """Delete due accounts whose personal columns are empty and which no other table names any more."""
    fate = context.record_fate(dataset)
    unreferenced = sql.SQL(" AND ").join(
        sql.SQL("NOT EXISTS (SELECT FROM {} r WHERE r.{} = m.{})").format(
            table(child.table), sql.Identifier(child.key), sql.Identifier(dataset.key)
        )
        for child in dataset.referenced_by
    )
    rows = gate.conn.execute(
        sql.SQL(
            "WITH gone AS (DELETE FROM {t} d USING (SELECT m.{key}, {fate} AS fate FROM {t} m WHERE {personal} = 0"
            " AND {due} AND {only} AND {unreferenced}) g WHERE d.{key} = g.{key} RETURNING g.fate)"
            " SELECT fate, count(*) FROM gone GROUP BY 1"
        ).format(
            t=table(dataset.table),
            key=sql.Identifier(dataset.key),
            fate=fate,
            personal=_personal(dataset, "m"),
            due=is_due(fate),
            only=context.narrowed(fate),
            unreferenced=unreferenced if dataset.referenced_by else sql.SQL("true"),
        ),
        context.params,
    ).fetchall()
    done = {f"delete:{name.split(':', 1)[1]}": {"records": count} for name, count in rows}
    if done:
        record_progress(gate.conn, context.run.run_id, unit, done)
