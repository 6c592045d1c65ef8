"""What every query of the auditor is written for: the configuration, the instants, and where the staged facts are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg import sql

from lifecycle.catalog.models import Accounts, Catalog, Records
from lifecycle.policy.models import Policy
from lifecycle.validation.clocks import reading
from lifecycle.validation.fragments import Reasons, Subject, relation, subject_of


@dataclass(frozen=True)
class Stage:
    """Tables that hold, for the time of one audit, what PostgreSQL cannot see by itself."""

    objects: sql.Identifier
    """One row per version or delete marker listed in S3."""
    logs: sql.Identifier
    """Lines of many-record objects that may be overdue."""
    facts: sql.Identifier
    """Counts of violations found outside SQL: checksums, locks, hash chain."""


@dataclass(frozen=True)
class Scene:
    """One scope of an audit.

    ``settled``: up to this instant a run must have acted on what had ended; the run's own as-of when a run is judged.
    ``run_id``: the run that is judged; None in an audit of the store as it is.
    ``awaiting``: units of the plan (dataset, tier, day) that wait for an approval and so may be late.
    """

    policy: Policy
    catalog: Catalog
    stage: Stage
    as_of: datetime
    settled: datetime
    scope: str
    run_id: int | None = None
    awaiting: frozenset[tuple[str, str | None, date | None]] = frozenset()

    def awaits(self, day: sql.Composable, dataset: str, tier: str | None) -> sql.Composable:
        """Whether a record of a day lies in a unit that waits for an approval; a table without tiers is one unit."""
        found = {(each_tier, day) for name, each_tier, day in self.awaiting if name == dataset}
        if tier is None and (None, None) in found:
            return sql.SQL("true")
        days = sorted({day for each_tier, day in found if each_tier == tier and day is not None})
        if not days:
            return sql.SQL("false")
        return sql.SQL("({} = ANY ({}))").format(day, sql.Literal(days))

    def awaits_table(self, dataset: Records | Accounts, day: sql.Composable) -> sql.Composable:
        """The same of an ordinary table: one unit, or one for each tier, and one for each partition that goes whole."""
        share = dataset.share_of if isinstance(dataset, Records) else None
        tier = share.tier if share is not None else None
        if (dataset.id, tier, None) in self.awaiting:
            return sql.SQL("true")
        return self.awaits(day, dataset.id, tier)

    @property
    def reasons(self) -> Reasons:
        return Reasons(self.policy, self.catalog)

    @property
    def instants(self) -> dict[str, Any]:
        return {"as_of": self.as_of, "settled": self.settled}

    @property
    def message_subject(self) -> Subject:
        return subject_of(self.catalog.messages, "m")

    def message_names(self) -> dict[str, sql.Composable]:
        """The messages table as ``m`` and its columns, for a query's text."""
        dataset = self.catalog.messages
        return {
            "messages": relation(dataset.table),
            "message": sql.Identifier("m", dataset.record),
            "conversation": sql.Identifier("m", dataset.group),
            "account": sql.Identifier("m", dataset.subject),
            "tier": sql.Identifier("m", dataset.tier),
            "clock": reading(dataset.clock, "m"),
            "object_key": sql.Identifier("m", dataset.objects.column),
        }
