"""How long things are kept, as the oracle knows it: RULES.md and the shipped lead, or what a policy edit made of them.

Written by hand; it shares nothing with lifecycle.policy and reads no policy file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .dates import LEAD, add_months, agreed_end
from .facts import Retain

_CONSUMER, _BUSINESS = Retain(days=90), Retain(days=28)


@dataclass(frozen=True)
class Terms:
    """The lengths in RULES.md. Months are calendar months."""

    lead: timedelta = LEAD
    consumer: Retain = _CONSUMER
    business: Retain = _BUSINESS
    flag_months: int = 24
    consent_months: int = 120
    score_months: int = 84
    idle_months: int = 36
    erasure_days: int = 7

    def default_end(self, tier: str, received_at: datetime) -> datetime:
        """When the default of a tier strikes; for a tier nobody knows, the strictest of all."""
        if tier == "business":
            return agreed_end(received_at, self.business)
        if tier in ("consumer", "beta", "evaluation"):
            return agreed_end(received_at, self.consumer)
        return min(agreed_end(received_at, self.business), agreed_end(received_at, self.consumer))

    def flag_end(self, received_at: datetime) -> datetime:
        return add_months(received_at, self.flag_months, up=False)

    def consent_end(self, submitted_at: datetime) -> datetime:
        return add_months(submitted_at, self.consent_months, up=True)

    def score_end(self, scored_at: datetime) -> datetime:
        return add_months(scored_at, self.score_months, up=True)

    def idle_end(self, last_interaction_at: datetime) -> datetime:
        return add_months(last_interaction_at, self.idle_months, up=True)


SHIPPED = Terms()
