"""Whose a row of an ordinary table is, where its rows are of several tiers: what tells the tier, and one tier's share.

A tier's share of a table is a dataset of its own, as a stage is: with its own rule, cut-off, unit and counts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from lifecycle.catalog.identifiers import Identifier, TableName
from lifecycle.policy.models import Frozen, Tier

UNKNOWN = "unclassified"
"""The name of the share of rows whose tier nobody declared: under the strictest default (hard case 23)."""
TIER_VALUES_ERROR = "tier_values"
_LISTED = ", ".join(tier.value for tier in Tier)


class TierValue(Frozen):
    """What the column holds for rows of a tier."""

    value: str
    tier: Tier


def _values(value: Any) -> Any:
    """A mapping from what the column holds to tiers."""
    if not isinstance(value, dict):
        return value
    for held, tier in value.items():
        if not isinstance(held, str):
            raise PydanticCustomError(TIER_VALUES_ERROR, f"{held!r} is no text: write it in quotes")
        if tier not in set(Tier):
            raise PydanticCustomError(TIER_VALUES_ERROR, f"the tier of {held!r} is not one of {_LISTED}")
    return [{"value": held, "tier": tier} for held, tier in value.items()]


_Values = Annotated[
    tuple[TierValue, ...],
    Field(min_length=1),
    BeforeValidator(_values),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"enum": [tier.value for tier in Tier]},
            "minProperties": 1,
            "examples": [{"free": "consumer", "team": "business"}],
        }
    ),
]


class Tiers(Frozen):
    """Where a row's tier is written: in a column of its own, or of the one row of another table that it refers to.

    ``values``: what the column holds for which tier; without it, the tiers' own names. Anything else is no known tier.
    ``table``, ``key``: the other table and its unique key. ``by``: the column that refers to it; the subject if not
    given.
    """

    column: Identifier
    values: Annotated[_Values | None, Field(examples=["{free: consumer, team: business}"])] = None
    table: TableName | None = None
    key: Identifier | None = None
    by: Identifier | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """Everything that the column may hold for a tier."""
        return tuple(each.value for each in self.values) if self.values else tuple(tier.value for tier in Tier)

    def held_for(self, tier: Tier) -> tuple[str, ...]:
        """What the column holds for one tier."""
        if self.values is None:
            return (tier.value,)
        return tuple(each.value for each in self.values if each.tier is tier)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers that rows can be of."""
        return tuple(tier for tier in Tier if self.held_for(tier))


class TierShare(Frozen):
    """Which rows of which dataset of the file: those of one tier, or (None) of none that is known."""

    of: str
    names: tuple[str, ...]
    tiers: Tiers
    by: Identifier
    tier: Tier | None

    @property
    def name(self) -> str:
        return self.tier.value if self.tier is not None else UNKNOWN
