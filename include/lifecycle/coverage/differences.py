"""What the comparison says: differences with their suspicions and remedies, warnings, and what was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class What(StrEnum):
    """Kinds of differences."""

    TABLE = "table"
    COLUMN = "column"
    COPY = "materialized view"
    BUCKET = "bucket"
    PREFIX = "prefix"
    RECORDS = "records"


@dataclass(frozen=True)
class Remedy:
    """What to write, and where in the dataset file; ``yaml`` is None where the file is not the place."""

    say: str
    yaml: str | None = None


@dataclass(frozen=True)
class Difference:
    """Something that exists and that nobody configured. Names of tables, columns and buckets; never a value."""

    kind: What
    name: str
    suspected: tuple[str, ...]
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class Coverage:
    """The verdict. ``warnings`` do not fail it: exclusions that match nothing, what could not be looked at, copies.

    ``second_copies``: how many of the warnings are of what sends rows elsewhere and is not declared.
    """

    as_of: datetime
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    unused_exclusions: int
    views: tuple[str, ...] = ()
    second_copies: int = 0
    looked_at: dict[str, int] = field(default_factory=dict)
    unclassified: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.differences

    @property
    def counts(self) -> dict[str, int]:
        """Differences per kind."""
        return {
            kind.value: count
            for kind in What
            if (count := sum(difference.kind is kind for difference in self.differences))
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            "as_of": self.as_of.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "passed": self.passed,
            "counts": self.counts,
            "differences": [
                {
                    "kind": item.kind.value,
                    "name": item.name,
                    "suspected": list(item.suspected),
                    "remedies": [{"say": remedy.say, "yaml": remedy.yaml} for remedy in item.remedies],
                }
                for item in self.differences
            ],
            "warnings": list(self.warnings),
            "views": list(self.views),
            "second_copies": self.second_copies,
            "looked_at": self.looked_at,
            "unclassified": self.unclassified,
        }
