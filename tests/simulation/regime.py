"""A policy and the oracle's own idea of it, edited side by side: one as YAML would say it, one by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

import yaml

from lifecycle.policy.models import Policy
from lifecycle.shipped import SHIPPED_POLICY, shipped
from oracle.facts import Retain
from oracle.terms import Terms

# What a rule's period may become, and what that means in the oracle's terms.
PERIODS: dict[str, tuple[str, dict[str, Any]]] = {
    "consumer_default": (
        "consumer",
        {
            "P90D": Retain(days=90),
            "P60D": Retain(days=60),
            "P120D": Retain(days=120),
            "P3M": Retain(months=3),
            "P6M": Retain(months=6),
        },
    ),
    "business_default": (
        "business",
        {"P28D": Retain(days=28), "P14D": Retain(days=14), "P45D": Retain(days=45), "P1M": Retain(months=1)},
    ),
    "safety_flagged": ("flag_months", {"P2Y": 24, "P1Y": 12, "P18M": 18, "P3Y": 36}),
    "feedback": ("consent_months", {"P10Y": 120, "P5Y": 60, "P1Y": 12}),
    "safety_scores": ("score_months", {"P7Y": 84, "P3Y": 36, "P1Y": 12}),
    "account_data": ("idle_months", {"P3Y": 36, "P1Y": 12, "P2Y": 24}),
}
LEADS = {"P1D": timedelta(days=3), "P2D": timedelta(days=4), "P0D": timedelta(days=2)}
FAILED_RUNS = "failed_runs"


@dataclass(frozen=True)
class Edit:
    """One line of the policy file: a rule's period, or the lead's margin for failed runs."""

    name: str
    text: str


EDITS: tuple[Edit, ...] = (
    *(Edit(rule, text) for rule, (_, choices) in PERIODS.items() for text in choices),
    *(Edit(FAILED_RUNS, text) for text in LEADS),
)


@dataclass(frozen=True)
class Regime:
    """The approved policy of a day, and the terms by which the oracle judges that day."""

    edits: tuple[tuple[str, str], ...]
    terms: Terms

    @property
    def document(self) -> dict[str, Any]:
        """The policy file as plain data."""
        return _document(self.edits)

    @property
    def policy(self) -> Policy:
        return _policy(self.edits)

    def edited(self, edit: Edit) -> Regime:
        """The regime after one edit."""
        kept: Mapping[str, str] = dict(self.edits) | {edit.name: edit.text}
        if edit.name == FAILED_RUNS:
            terms = replace(self.terms, lead=LEADS[edit.text])
        else:
            field, choices = PERIODS[edit.name]
            changed: dict[str, Any] = {field: choices[edit.text]}
            terms = replace(self.terms, **changed)
        return Regime(tuple(sorted(kept.items())), terms)


SHIPPED_REGIME = Regime((), Terms())


@cache
def _shipped() -> str:
    return shipped(SHIPPED_POLICY).read_text(encoding="utf-8")


def _document(edits: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(_shipped())
    for name, text in edits:
        if name == FAILED_RUNS:
            data["lead"][name] = text
        else:
            next(rule for rule in data["rules"] if rule["id"] == name)["period"] = text
    return data


@cache
def _policy(edits: tuple[tuple[str, str], ...]) -> Policy:
    return Policy.model_validate(_document(edits))
