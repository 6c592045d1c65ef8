"""The frozen plan in lifecycle.plan_units: written once, read by unit, progressed in the transaction that acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.errors import PreconditionError
from lifecycle.ledger import chain
from lifecycle.planning.units import DISPOSING, Unit, merge
from lifecycle.stores.postgres.connect import Connection

# What an S3 lock keeps although no hold is recorded for it: shown as kept, and left to the validation to object to.
LOCKED_FATE = "keep:object_lock"
_INSERT = (
    "INSERT INTO lifecycle.plan_units (run_id, unit, dataset, tier, day, method, cutoff, deadline, planned, status,"
    " keys_after, keys_until) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_SELECT = (
    "SELECT run_id, unit, dataset, tier, day, method, cutoff, planned, progress, status, started_at, keys_after,"
    " keys_until FROM lifecycle.plan_units"
)


def freeze(conn: Connection, run_id: int, units: Iterable[Unit]) -> None:
    """Write the plan in one transaction; from here on exactly it is executed."""
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(_INSERT, [_row(run_id, unit) for unit in units])
        conn.execute("UPDATE lifecycle.runs SET planned_at = clock_timestamp() WHERE run_id = %s", (run_id,))


def add_unit(conn: Connection, run_id: int, unit: Unit) -> None:
    """Add a unit that is found by doing (landing objects); a rerun finds it again."""
    conn.execute(_INSERT + " ON CONFLICT (run_id, unit) DO NOTHING", _row(run_id, unit))


def _row(run_id: int, unit: Unit) -> tuple[object, ...]:
    status = "planned" if unit.awaiting is None else "awaiting"
    return (
        run_id,
        unit.unit,
        unit.dataset,
        unit.tier,
        unit.day,
        unit.method.value,
        unit.cutoff,
        unit.deadline,
        Jsonb(unit.planned()),
        status,
        unit.keys.after or None,
        unit.keys.until,
    )


def load_unit(conn: Connection, run_id: int, unit: str) -> UnitRow:
    with conn.cursor(row_factory=class_row(UnitRow)) as cursor:
        row = cursor.execute(
            _SELECT + " WHERE run_id = %s AND unit = %s",
            (run_id, unit),
        ).fetchone()
    if row is None:
        raise PreconditionError(f"unit {unit!r} is not part of the plan of run {run_id}")
    return row


def all_units(conn: Connection, run_id: int) -> list[UnitRow]:
    """The whole plan, the earliest deadline first."""
    with conn.cursor(row_factory=class_row(UnitRow)) as cursor:
        return cursor.execute(
            _SELECT + " WHERE run_id = %s ORDER BY deadline NULLS LAST, unit",
            (run_id,),
        ).fetchall()


def open_units(conn: Connection, run_id: int, methods: Sequence[str]) -> list[str]:
    """Names of the units still to be carried out, the earliest deadline first; none that waits for an approval."""
    rows = conn.execute(
        "SELECT unit FROM lifecycle.plan_units WHERE run_id = %s AND method = ANY(%s)"
        " AND status NOT IN ('done', 'awaiting')"
        " ORDER BY deadline NULLS LAST, unit",
        (run_id, list(methods)),
    ).fetchall()
    return [row[0] for row in rows]


def record_progress(conn: Connection, run_id: int, unit: str, done: Mapping[str, Mapping[str, int]]) -> None:
    """Add counts to a unit, in the transaction that did what they count. The unit's row is locked by the gate."""
    current = load_unit(conn, run_id, unit).progress
    for fate, counts in done.items():
        current = merge(current, fate, counts)
    conn.execute(
        "UPDATE lifecycle.plan_units SET progress = %s WHERE run_id = %s AND unit = %s", (Jsonb(current), run_id, unit)
    )


def has_disposed(context: RunContext, unit: str) -> bool:
    """Whether a unit has taken anything out, in this try or an earlier one."""
    progress = load_unit(context.conn, context.run.run_id, unit).progress
    return any(fate.split(":", 1)[0] in DISPOSING and any(counts.values()) for fate, counts in progress.items())


def write_intents(context: RunContext, unit: UnitRow) -> None:
    """Say in the ledger what is about to be destroyed in S3, before the first request (promise 5)."""
    for fate, counts in sorted(unit.planned.items()):
        disposition, rule = fate.split(":", 1)
        if disposition not in DISPOSING:
            continue
        with context.conn.transaction():
            if not chain.has_entry(context.conn, unit.run_id, unit.unit, "intent", disposition, rule):
                chain.append(context.conn, context.entry(unit, "intent", fate, dict(counts)))


def close_unit(context: RunContext, unit: str) -> None:
    """Write the outcomes of a unit and mark it done, in the caller's transaction."""
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return
    mark(context.conn, context.run.run_id, unit, "done")
    write_outcomes(context, row)


def write_outcomes(context: RunContext, row: UnitRow) -> None:
    """One outcome per fate that something came of, and per intent whatever came of it."""
    for fate in sorted(set(row.planned) | set(row.progress)):
        disposition, rule = fate.split(":", 1)
        if disposition not in DISPOSING:
            continue
        counts = dict(row.progress.get(fate, {}))
        if any(counts.values()) or chain.has_entry(context.conn, row.run_id, row.unit, "intent", disposition, rule):
            chain.append(context.conn, context.entry(row, "outcome", fate, counts or {"records": 0}))


def mark(conn: Connection, run_id: int, unit: str, status: str) -> None:
    conn.execute(
        "UPDATE lifecycle.plan_units SET status = %s,"
        " finished_at = CASE WHEN %s = 'done' THEN clock_timestamp() END WHERE run_id = %s AND unit = %s",
        (status, status, run_id, unit),
    )
