"""Cut-offs of a run: for each tier's default rule, the clock value before which records are due. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dateutil.relativedelta import relativedelta

from lifecycle.policy.decide import horizon
from lifecycle.policy.models import Category, Policy, Rule, Tier, Trigger


@dataclass(frozen=True)
class Cutoff:
    """Records of this tier and category whose clock lies before ``cutoff`` are due by ``rule``."""

    category: Category
    tier: str
    rule: str
    cutoff: datetime
    exact: bool

    def as_dict(self) -> dict[str, str]:
        return {
            "category": self.category.value,
            "tier": self.tier,
            "rule": self.rule,
            "cutoff": self.cutoff.isoformat(),
        }


def _before(at: datetime, rule: Rule) -> datetime:
    if rule.period is None:
        raise ValueError(f"rule {rule.id} has no period of its own")
    months = relativedelta(months=rule.period.months)
    return at - timedelta(days=rule.period.days, seconds=rule.period.seconds) - months


def cutoff_of(policy: Policy, rule: Rule, as_of: datetime) -> datetime:
    """As-of, plus the lead for a maximum, minus the period; never after as-of itself."""
    at = as_of if rule.round_up else horizon(policy, as_of)
    return min(_before(at, rule), as_of)


def cutoff_for(policy: Policy, category: Category, tier: Tier | None, as_of: datetime) -> Cutoff:
    """The default's cut-off for a tier; the strictest one for records of an unknown tier.

    ``exact`` tells that the cut-off alone decides by the default rule, which holds for periods of days. A month can
    lack a day, so periods of months and years are decided record by record near their cut-off.
    """
    rule = policy.rule_for(Trigger.DEFAULT, category, tier) if tier else policy.strictest(category)
    if rule is None:
        raise ValueError(f"no default rule covers {category.value} of tier {tier}")
    exact = rule.period is not None and rule.period.months == 0
    return Cutoff(category, tier.value if tier else "unclassified", rule.id, cutoff_of(policy, rule, as_of), exact)
