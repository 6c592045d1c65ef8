"""What every disposition needs at hand: the frozen configuration, the run, and the two stores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg import sql

from lifecycle.catalog.models import Accounts, Catalog, Messages, Records
from lifecycle.ledger import chain
from lifecycle.ledger.runs import Run
from lifecycle.planning.cutoffs import cutoff_for
from lifecycle.planning.units import KeyRange
from lifecycle.policy.models import Category, Policy, Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import fate_parameters, message_fate, quarantine_fate, record_fate
from lifecycle.stores.postgres.guard import Guard

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RECORDS_SCOPE = "records"
ERASURE_SCOPE = "erasure"
SCOPES: tuple[str, ...] = (*(tier.value for tier in Tier), RECORDS_SCOPE, ERASURE_SCOPE)


@dataclass(frozen=True)
class RunContext:
    """One run at work. ``guard``: the configuration in force, while the loaded one is not approved (hard case 20)."""

    conn: Connection
    s3: S3Client
    policy: Policy
    catalog: Catalog
    run: Run
    guard: Guard | None = None

    @property
    def messages(self) -> Messages:
        return self.catalog.messages

    @property
    def params(self) -> dict[str, Any]:
        guarded = self.guard.params(self.run.as_of) if self.guard else {}
        return fate_parameters(self.policy, self.run.as_of) | guarded

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers whose messages this run may touch; none where the dataset file has no messages."""
        if not self.catalog.has_messages:
            return ()
        if self.run.scope == ERASURE_SCOPE:
            return tuple(Tier)
        return (Tier(self.run.scope),) if self.run.scope != RECORDS_SCOPE else ()

    def fate(self, tier: Tier | None) -> sql.Composable:
        fate = message_fate(self.policy, self.catalog, tier)
        return self.guard.message_fate(fate, self.messages, tier) if self.guard else fate

    def quarantine_fate(self, tier: Tier) -> sql.Composable:
        fate = quarantine_fate(self.policy, self.catalog, tier)
        return self.guard.quarantine_fate(fate, self.policy, self.messages, tier) if self.guard else fate

    def record_fate(self, dataset: Records | Accounts) -> sql.Composable:
        fate = record_fate(self.policy, self.catalog, dataset)
        return self.guard.record_fate(fate, dataset) if self.guard else fate

    def waits(self, dataset: str) -> bool:
        """Whether all of a dataset waits for the approval of its new binding."""
        return self.guard is not None and self.guard.waits(dataset)

    @property
    def erasure_rule(self) -> str:
        return next(rule.id for rule in self.policy.rules if rule.trigger.value == "erasure")

    def narrowed(self, fate: sql.Composable) -> sql.Composable:
        """Narrows what is due to what this run is for: the hourly run carries out erasure requests and nothing else."""
        if self.run.scope != ERASURE_SCOPE:
            return sql.SQL("true")
        return sql.SQL("({} = {})").format(fate, sql.Literal(f"delete:{self.erasure_rule}"))

    def cutoff(self, tier: Tier | None) -> Any:
        """Before which a record is due by its tier's default: under both policies, while one is not approved."""
        policies = [self.policy, *([self.guard.policy] if self.guard and self.guard.policy else [])]
        return min(cutoff_for(each, Category.PROMPTS_AND_OUTPUTS, tier, self.run.as_of).cutoff for each in policies)

    @property
    def orphan_margin(self) -> timedelta:
        policies = [self.policy, *([self.guard.policy] if self.guard and self.guard.policy else [])]
        return max(each.thresholds.orphan_margin.longest() for each in policies)

    def entry(
        self, unit: UnitRow, kind: str, fate: str, counts: dict[str, int], *, rule: str | None = None
    ) -> chain.Entry:
        """A ledger entry for some counts of one fate of a unit."""
        disposition, by = fate.split(":", 1)
        return chain.Entry(
            run_id=self.run.run_id,
            run_key=self.run.run_key,
            as_of=self.run.as_of,
            entry=kind,
            scope=self.run.scope,
            dataset=unit.dataset,
            unit=unit.unit,
            disposition=disposition,
            rule=rule or by,
            counts=counts,
            cutoff=unit.cutoff,
            policy_hash=self.run.policy_hash,
            started_at=unit.started_at or self.run.started_at,
        )


@dataclass(frozen=True)
class UnitRow:
    """One row of lifecycle.plan_units."""

    run_id: int
    unit: str
    dataset: str
    tier: str | None
    day: Any
    method: str
    cutoff: Any
    planned: dict[str, dict[str, int]]
    progress: dict[str, dict[str, int]]
    status: str
    started_at: Any
    keys_after: str | None = None
    keys_until: str | None = None

    @property
    def keys(self) -> KeyRange:
        return KeyRange(self.keys_after or "", self.keys_until)
