"""A run in counts: disposed of by disposition and rule, kept and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lifecycle.dispositions.context import UnitRow
from lifecycle.planning.units import DISPOSING
from lifecycle.stores.postgres.guard import AWAITING


def summarise_units(units: Iterable[UnitRow], *, planned: bool) -> dict[str, Any]:
    """Sum up a run's units.

    Returns:
        ``disposed`` (records per disposition), ``by_rule`` (records per fate), ``kept`` (records per rule that keeps
        them in the partitions looked at), ``objects`` and ``units``.
    """
    disposed: dict[str, int] = {}
    by_rule: dict[str, int] = {}
    kept: dict[str, int] = {}
    objects = count = 0
    for unit in units:
        count += 1
        if unit.status == "awaiting":
            waits = sum(counts.get("records", 0) for fate, counts in unit.planned.items() if _disposes(fate))
            kept[AWAITING] = kept.get(AWAITING, 0) + waits
            continue
        for fate, counts in (unit.planned if planned else unit.progress).items():
            disposition = fate.split(":", 1)[0]
            if disposition in DISPOSING and disposition != "move":
                disposed[disposition] = disposed.get(disposition, 0) + counts.get("records", 0)
                by_rule[fate] = by_rule.get(fate, 0) + counts.get("records", 0)
                objects += counts.get("objects", 0)
        kept_by_lock = {fate: counts for fate, counts in unit.progress.items() if fate not in unit.planned}
        for fate, counts in (*unit.planned.items(), *kept_by_lock.items()):
            disposition, rule = fate.split(":", 1)
            if disposition not in DISPOSING:
                kept[rule] = kept.get(rule, 0) + counts.get("records", 0)
    return {"disposed": disposed, "by_rule": by_rule, "kept": kept, "objects": objects, "units": count}


def _disposes(fate: str) -> bool:
    return fate.split(":", 1)[0] in DISPOSING
