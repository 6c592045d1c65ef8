"""The policy as frozen objects. Parsed once from YAML (policy/load.py); nothing here reads a clock or does I/O."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from lifecycle.contradiction import refuse
from lifecycle.policy.periods import Period


class Frozen(BaseModel):
    """Base of every configuration object: immutable, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Tier(StrEnum):
    CONSUMER = "consumer"
    BETA = "beta"
    EVALUATION = "evaluation"
    BUSINESS = "business"


class Category(StrEnum):
    PROMPTS_AND_OUTPUTS = "prompts_and_outputs"
    SAFETY_SCORES = "safety_scores"
    FEEDBACK = "feedback"
    ACCOUNT_DATA = "account_data"
    TRAINING_USE = "training_use"
    USAGE_RECORDS = "usage_records"
    RESEARCH = "research"


class Kind(StrEnum):
    """What a period promises: gone by its end, kept until its end, or both."""

    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    BOTH = "both"


class Disposition(StrEnum):
    DELETE = "delete"
    DEIDENTIFY = "deidentify"
    QUARANTINE = "quarantine"
    KEEP = "keep"


class Clock(StrEnum):
    """The event a period counts from. Which column holds it for a dataset is said in the dataset file."""

    PLACED = "placed"
    OPENED = "opened"
    RECEIVED = "received"
    REQUESTED = "requested"
    SUBMITTED = "submitted"
    SCORED = "scored"
    LAST_INTERACTION = "last_interaction"
    ADDED = "added"


class Trigger(StrEnum):
    """The exception that brings a rule into play; ``default`` is the tier's ordinary rule."""

    HOLD = "hold"
    CASE = "case"
    FLAG = "flag"
    ERASURE = "erasure"
    CONSENT = "consent"
    AGREEMENT = "agreement"
    DEFAULT = "default"


def _period(value: Any) -> Any:
    if value is None or isinstance(value, Period):
        return value
    if not isinstance(value, str):
        raise ValueError("a period is an ISO 8601 duration in text, for example P28D or P2Y; a bare number has no unit")
    return Period.parse(value)


# For editors; Period.parse is what counts.
ISO_DURATION = r"^P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?$"
PeriodField = Annotated[
    Period,
    BeforeValidator(_period),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": ISO_DURATION, "examples": ["P28D", "P2Y", "PT4H"]}),
]
Version = Annotated[int, Field(strict=True, ge=1, le=1)]
RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")]


class Lead(Frozen):
    """How far a maximum's cut-off runs ahead of its deadline, term by term (RULES.md; hard case 1)."""

    schedule_interval: PeriodField
    longest_run: PeriodField
    failed_runs: PeriodField
    store_lag: PeriodField
    backup_retention: PeriodField
    s3_expiry: PeriodField = Period()
    """What S3 gets to empty a prefix by itself (`expire: native`), before a run does it."""

    @property
    def without_s3(self) -> Period:
        """The lead of a run that leaves nothing to S3."""
        return self.schedule_interval + self.longest_run + self.failed_runs + self.store_lag + self.backup_retention

    @property
    def total(self) -> Period:
        return self.without_s3 + self.s3_expiry


class Thresholds(Frozen):
    """Limits that stop a run or make it speak up."""

    clock_skew: PeriodField
    k_anonymity: Annotated[int, Field(ge=1, strict=True)]
    orphan_margin: PeriodField


Count = Annotated[int, Field(ge=0, le=10**15, strict=True)]
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Person = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]


class Approval(Frozen):
    """When a change of policy or dataset file approves itself, and who else may approve (hard cases 20, 26, 28).

    A change that touches at most ``records`` records *and* at most ``share`` of all records approves itself. The
    figures of the policy in force count, not those of the policy that asks.
    """

    records: Count = 100
    share: Share = 0.01
    four_eyes: Annotated[bool, Field(strict=True)] = False
    approvers: tuple[Person, ...] = ()
    answer_within: PeriodField = Period(days=1)


class Limits(Frozen):
    """What one run may destroy of one dataset and tier before somebody must say yes (blast radius, hard case 26).

    Nothing at or below ``floor`` records is ever asked about. Above it: at most ``records`` records, at most ``share``
    of the dataset, and, once ``history`` runs have succeeded, at most ``factor`` times their median.
    """

    floor: Count = 10_000
    records: Count = 50_000_000
    share: Share = 0.5
    factor: Annotated[float, Field(ge=1.0, le=1_000_000.0, strict=True)] = 10.0
    history: Annotated[int, Field(ge=1, le=1000, strict=True)] = 7


class Rule(Frozen):
    """One row of RULES.md.

    ``period`` is None where the exception itself says how long (a hold, a case, an agreement). ``instead_of`` names
    the default whose disposition this rule replaces (research: de-identify instead of delete).
    """

    id: RuleId
    category: Annotated[tuple[Category, ...], Field(min_length=1)]
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]
    trigger: Trigger
    kind: Kind
    period: PeriodField | None = None
    clock: Clock
    disposition: Disposition
    instead_of: RuleId | None = None
    basis: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10)]

    def covers(self, category: Category, tier: Tier) -> bool:
        return category in self.category and tier in self.tiers

    @property
    def round_up(self) -> bool:
        """A minimum rounds up, a maximum rounds down (RULES.md, periods)."""
        return self.kind is not Kind.MAXIMUM

    def end(self, clock: datetime) -> datetime | None:
        """When the rule's period for a record ends; None when the rule has no period of its own."""
        return None if self.period is None else self.period.end(clock, round_up=self.round_up)


class Policy(Frozen):
    """A whole policy file. ``precedence`` lists triggers, highest first; the code knows no other order."""

    version: Version
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{1,62}$")]
    lead: Lead
    thresholds: Thresholds
    approval: Approval = Approval()
    limits: Limits = Limits()
    locked: Annotated[bool, Field(strict=True)] = False
    precedence: Annotated[tuple[Trigger, ...], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Policy:
        from lifecycle.policy.checks import contradictions

        refuse(contradictions(self))
        return self

    def rule(self, rule_id: str) -> Rule:
        for rule in self.rules:
            if rule.id == rule_id:
                return rule
        raise KeyError(rule_id)

    def rule_for(self, trigger: Trigger, category: Category, tier: Tier) -> Rule | None:
        """The rule that a trigger brings into play for a category and tier; the research variant is not a default."""
        for rule in self.rules:
            if rule.trigger is trigger and rule.instead_of is None and rule.covers(category, tier):
                return rule
        return None

    def variant_of(self, rule: Rule, tier: Tier) -> Rule | None:
        """The rule that replaces the disposition of ``rule`` for a tier, if the policy allows one."""
        for other in self.rules:
            if other.instead_of == rule.id and tier in other.tiers:
                return other
        return None

    def defaults(self, category: Category) -> list[Rule]:
        """The default rules of a category that have a period; variants are none."""
        return [
            rule
            for rule in self.rules
            if rule.trigger is Trigger.DEFAULT
            and rule.instead_of is None
            and rule.period is not None
            and category in rule.category
        ]

    def strictest(self, category: Category) -> Rule:
        """The default with the shortest period: what unclassified records fall under (hard case 23).

        Raises:
            ValueError: the category has no default with a period.
        """
        return min(self.defaults(category), key=lambda rule: rule.period.longest() if rule.period else timedelta.max)
