"""Blast radius: whether what a plan would destroy of one dataset and tier is more than usual, or than allowed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from lifecycle.planning.units import Method, Unit
from lifecycle.policy.models import Limits

DESTROYING = ("delete", "deidentify")


@dataclass(frozen=True)
class Part:
    """What limits apply to: records of one dataset and tier, and apart from them its quarantine and its orphans."""

    dataset: str
    tier: str | None
    kind: str

    @classmethod
    def of(cls, unit: Unit) -> Part:
        kind = unit.method.value if unit.method in (Method.QUARANTINE, Method.ORPHANS) else "records"
        return cls(unit.dataset, unit.tier, kind)

    def __str__(self) -> str:
        kind = "" if self.kind == "records" else f" ({self.kind})"
        return f"{self.dataset}{f' of tier {self.tier}' if self.tier else ''}{kind}"


@dataclass(frozen=True)
class OverLimit:
    """A part of a plan that waits, with the numbers that say why."""

    part: Part
    units: tuple[str, ...]
    records: int
    limit: int
    reason: str
    deadline: datetime | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "dataset": self.part.dataset,
            "tier": self.part.tier,
            "kind": self.part.kind,
            "units": len(self.units),
            "records": self.records,
            "limit": self.limit,
            "reason": self.reason,
            "deadline": self.deadline.isoformat() if self.deadline else None,
        }


def destroyed(unit: Unit) -> int:
    """How many records a unit would destroy; what only moves is not counted."""
    return sum(tally.records for tally in unit.tallies if tally.disposition in DESTROYING)


def disputed(units: Iterable[Unit], covered: Mapping[str, int]) -> dict[Part, list[Unit]]:
    """Units that destroy something and that no approval covers, by part.

    Args:
        covered: records per unit that somebody has approved; more than that is not covered.
    """
    found: dict[Part, list[Unit]] = {}
    for unit in units:
        count = destroyed(unit)
        if count > covered.get(unit.unit, 0):
            found.setdefault(Part.of(unit), []).append(unit)
    return found


def over_limit(
    part: Part, units: Sequence[Unit], history: Sequence[int], total: int | None, limits: Limits
) -> OverLimit | None:
    """The first limit that a part exceeds.

    Args:
        history: records that earlier successful runs destroyed of it, the latest first.
        total: records there are of the dataset; None where that is not known without reading it.
    """
    records = sum(destroyed(unit) for unit in units)
    if records <= limits.floor:
        return None
    found: tuple[int, str] | None = None
    everything = max(total or 0, records)
    if records > limits.records:
        found = limits.records, "limits.records"
    elif total is not None and records > limits.share * everything:
        found = int(limits.share * everything), f"limits.share, {limits.share:.0%} of about {everything}"
    elif len(history) >= limits.history and records > limits.factor * median(history):
        usual = int(median(history))
        limit = max(limits.floor, int(limits.factor * usual))
        found = limit, f"limits.factor, {limits.factor:g} times {usual} as usual"
    if found is None:
        return None
    deadlines = [unit.deadline for unit in units if unit.deadline is not None]
    return OverLimit(part, tuple(unit.unit for unit in units), records, *found, min(deadlines, default=None))
