"""Standings as metrics: names, labels and values, once for OpenMetrics and once for Airflow's gauges. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from lifecycle.planning.risk import Standing

HELP = {
    "at_risk_seconds": "Seconds until a deadline would be broken if no further run succeeded; negative once it is.",
    "due": "Records past the cut-off: to go in the next run.",
    "overdue": "Records past their deadline, by why: late, hold (or case), exception (flag, consent, agreement).",
    "kept_overdue": "Records past their deadline that a hold or an open case keeps.",
    "awaiting_approval": "Records past their deadline that wait for an approval.",
    "last_success_seconds": "Seconds since the as-of of the last successful run of the scope.",
}


@dataclass(frozen=True)
class Sample:
    """One value of one metric; ``labels`` name dataset and tier, never a record."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    value: float


def samples(standings: Iterable[Standing], as_of: datetime, more: Mapping[str, str] | None = None) -> Iterator[Sample]:
    """Every value of every standing. ``more``: labels of all of them, as the store where there are several."""
    for standing in standings:
        labels = (("dataset", standing.dataset), ("tier", standing.tier), *sorted((more or {}).items()))
        left = standing.time_left(as_of)
        if left is not None:
            yield Sample("at_risk_seconds", labels, left.total_seconds())
        yield Sample("due", labels, standing.due)
        late = standing.late
        for why, count in (("late", late.overdue), ("hold", late.after_hold), ("exception", late.after_exception)):
            yield Sample("overdue", (*labels, ("why", why)), count)
        yield Sample("kept_overdue", labels, late.kept)
        yield Sample("awaiting_approval", labels, late.awaiting_approval)
        if standing.last_success is not None:
            yield Sample("last_success_seconds", labels, (as_of - standing.last_success).total_seconds())


def open_metrics(standings: Iterable[Standing], as_of: datetime, more: Mapping[str, str] | None = None) -> str:
    """OpenMetrics text: families in a fixed order, each with its help, ended by EOF."""
    by_metric: dict[str, list[Sample]] = {name: [] for name in HELP}
    for sample in samples(standings, as_of, more):
        by_metric[sample.metric].append(sample)
    lines: list[str] = []
    for name, found in by_metric.items():
        lines += [f"# TYPE lifecycle_{name} gauge", f"# HELP lifecycle_{name} {HELP[name]}"]
        lines += [f"lifecycle_{name}{{{_labels(sample)}}} {sample.value:.15g}" for sample in found]
    return "\n".join([*lines, "# EOF", ""])


def _labels(sample: Sample) -> str:
    return ",".join(f'{name}="{value}"' for name, value in sample.labels)
