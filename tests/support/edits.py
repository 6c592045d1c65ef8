"""Edits of a policy, as people make them: periods, lead, rules, order. Each gives a sound policy."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from lifecycle.policy.models import Policy
from lifecycle.shipped import SHIPPED_POLICY, shipped

Document = dict[str, Any]
Edit = Callable[[Document], None]


_SHIPPED: Document = yaml.safe_load(shipped(SHIPPED_POLICY).read_text(encoding="utf-8"))


def shipped_document() -> Document:
    return deepcopy(_SHIPPED)


def shipped_policy(*edits: Edit) -> Policy:
    """The shipped policy with some edits."""
    document = shipped_document()
    for edit in edits:
        edit(document)
    return Policy.model_validate(document)


def write_policy(folder: Path, *edits: Edit, name: str = "policy.yaml") -> Path:
    """The same as a file."""
    document = shipped_document()
    for edit in edits:
        edit(document)
    Policy.model_validate(document)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def rule(document: Document, name: str) -> Document:
    found: Document = next(item for item in document["rules"] if item["id"] == name)
    return found


def period(name: str, value: str) -> Edit:
    def edit(document: Document) -> None:
        rule(document, name)["period"] = value

    return edit


def lead(term: str, value: str) -> Edit:
    def edit(document: Document) -> None:
        document["lead"][term] = value

    return edit


def without(name: str) -> Edit:
    def edit(document: Document) -> None:
        document["rules"] = [item for item in document["rules"] if item["id"] != name]

    return edit


def narrowed(name: str, *tiers: str) -> Edit:
    def edit(document: Document) -> None:
        found = rule(document, name)
        found["tiers"] = list(tiers)
        found["category"] = ["prompts_and_outputs"]

    return edit


def renamed(name: str, other: str) -> Edit:
    def edit(document: Document) -> None:
        rule(document, name)["id"] = other
        for item in document["rules"]:
            if item.get("instead_of") == name:
                item["instead_of"] = other

    return edit


def order(*triggers: str) -> Edit:
    def edit(document: Document) -> None:
        document["precedence"] = list(triggers)

    return edit


def put(section: str, **values: Any) -> Edit:
    """Set some keys of a section, or a whole key of the file."""

    def edit(document: Document) -> None:
        document.setdefault(section, {}).update(values)

    return edit


def locked(document: Document) -> None:
    document["locked"] = True


PERIODS = {
    "consumer_default": ("P5D", "P30D", "P60D", "P89D", "P91D", "P3M", "P2M", "P1Y", "P400D"),
    "business_default": ("P4D", "P7D", "P27D", "P29D", "P1M", "P60D"),
    "safety_flagged": ("P30D", "P1Y", "P24M", "P3Y"),
    "feedback": ("P1Y", "P9Y", "P11Y", "P120M"),
    "safety_scores": ("P1Y", "P6Y", "P8Y"),
    "account_data": ("P1Y", "P30M", "P4Y"),
    "erasure_request": ("P5D", "P30D"),
}
_CHANGES: tuple[Edit, ...] = (
    *(period(name, value) for name, values in PERIODS.items() for value in values),
    lead("failed_runs", "P0D"),
    lead("failed_runs", "P2D"),
    without("research"),
    without("usage_policy_enforcement"),
    without("safety_flagged"),
    without("business_agreement"),
    narrowed("erasure_request", "consumer", "business"),
    narrowed("legal_obligation", "consumer", "beta"),
    renamed("consumer_default", "users_default"),
    renamed("legal_obligation", "court_order"),
    order("hold", "case", "erasure", "flag", "consent", "agreement", "default"),
    order("hold", "consent", "agreement", "case", "flag", "erasure", "default"),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """The shipped policy after one to three edits that do not undo each other."""
    edits = draw(st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=3, unique=True))
    try:
        return shipped_policy(*edits)
    except (StopIteration, ValueError):  # an edit of a rule that another one removed, or two that contradict
        return shipped_policy(edits[0])
