"""What no row names goes page by page and is counted by what is left; what it consists of says who calls.

Objects without a row (orphans.py, hard case 13) and unfinished uploads (uploads.py, hard case 14).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.plan_store import close_unit, load_unit, mark, record_progress, write_intents
from lifecycle.errors import DispositionError
from lifecycle.planning.units import Progress, Tally

HELD = "keep:hold"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Left = tuple[int, int]
"""How many may go, and how many a hold keeps."""


@dataclass(frozen=True)
class Sweep:
    """How one kind of it goes.

    Args:
        what: it in the plural, for the error.
        counts: the counts of the ledger that each of them is one of.
        pages: what to do inside the gate for each page, which gives how many failed. Read one after the other, so that
            a listing may go on behind what went.
        left: counts what is there now.
    """

    fate: str
    what: str
    counts: tuple[str, ...]
    pages: Callable[[UnitRow], Iterable[Callable[[Gate], int]]]
    left: Callable[[UnitRow], Left]


def tallies(fate: str, left: Left, *, objects: bool) -> tuple[Tally, ...]:
    """What a plan says of a unit: what goes, and what a hold keeps, where there is any."""
    return tuple(
        Tally(name, count, count if objects else 0) for name, count in zip((fate, HELD), left, strict=True) if count
    )


def sweep(context: RunContext, unit: str, kind: Sweep) -> Progress:
    """Destroy what the plan counted, page by page, each page judged once more inside the gate.

    Raises:
        DispositionError: some could not be destroyed.
    """
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    write_intents(context, row)
    failed = 0
    for act in kind.pages(row):
        failed += through_gate(context.conn, context.catalog, lease, act, reads_only=True)
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {f"{kind.what} failed": failed})
    gone = _gone(row, kind.left(row))

    def close(gate: Gate) -> None:
        record_progress(gate.conn, context.run.run_id, unit, {kind.fate: dict.fromkeys(kind.counts, gone)})
        close_unit(context, unit)

    through_gate(context.conn, context.catalog, lease, close)
    return load_unit(context.conn, context.run.run_id, unit).progress


def with_records(keys: Iterable[str]) -> list[tuple[str, str | None]]:
    """Keys, each with the record id that it contains."""
    return [(key, found.group(0) if (found := _UUID.search(key)) else None) for key in keys]


def _gone(row: UnitRow, left: Left) -> int:
    """How many of what was planned are gone.

    Counted by what is left, so that a kill between a request and its commit loses no count (promise 4); what came
    under a hold since the plan is left too (promise 5).
    """
    planned = sum(counts["records"] for counts in row.planned.values())
    return max(0, planned - sum(left))
