"""What a change of configuration does to the records there are, in counts. Pure: the shell measures, this judges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from lifecycle.policy.models import Approval

GOING = ("delete", "deidentify")


class Kind(StrEnum):
    """How a record's fate changes."""

    NEWLY_EXPIRE = "newly_expire"
    EXPIRE_LATER = "expire_later"
    CHANGE_DISPOSITION = "change_disposition"


@dataclass(frozen=True)
class Change:
    """Records of one dataset and tier whose fate goes from ``before`` to ``after``, and the oldest and newest clock.

    A fate is ``<disposition>:<rule>``. ``rule`` is the one that the change is about: the new rule by which records
    expire, or the old one by which they no longer do.
    """

    dataset: str
    tier: str
    category: str
    before: str
    after: str
    records: int
    oldest: datetime | None
    newest: datetime | None

    @property
    def kind(self) -> Kind:
        going, went = _disposition(self.after) in GOING, _disposition(self.before) in GOING
        if going and not went:
            return Kind.NEWLY_EXPIRE
        return Kind.EXPIRE_LATER if went and not going else Kind.CHANGE_DISPOSITION

    @property
    def rule(self) -> str:
        return (self.before if self.kind is Kind.EXPIRE_LATER else self.after).split(":", 1)[1]

    def as_dict(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "tier": self.tier,
            "category": self.category,
            "kind": self.kind.value,
            "rule": self.rule,
            "before": self.before,
            "after": self.after,
            "records": self.records,
            "oldest": _text(self.oldest),
            "newest": _text(self.newest),
        }


def _disposition(fate: str) -> str:
    return fate.split(":", 1)[0]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def changes_fate(before: str, after: str) -> bool:
    """Whether a record is treated differently; another rule with the same disposition is no difference."""
    return _disposition(before) != _disposition(after)


@dataclass(frozen=True)
class PolicyDiff:
    """A change of configuration, measured at an instant.

    ``waiting``: datasets that the dataset files bind differently, whose records cannot be compared one by one.
    ``loosened``: safeguards that the change takes away. ``total``: records there are, about. ``already``: records that
    changes touched which have approved themselves since somebody last said yes: many small steps are one large one.
    Lines of log objects are not among any of them: counting those would mean reading them.
    """

    as_of: datetime
    changes: tuple[Change, ...]
    total: int
    waiting: tuple[str, ...] = ()
    loosened: tuple[str, ...] = ()
    already: int = 0

    @property
    def affected(self) -> int:
        return sum(change.records for change in self.changes)

    def count(self, kind: Kind) -> int:
        return sum(change.records for change in self.changes if change.kind is kind)

    @property
    def share(self) -> float:
        """Of all records, with those that earlier changes touched."""
        touched = self.affected + self.already
        return min(1.0, touched / max(1, self.total, touched))

    def needs_a_name(self, approval: Approval) -> str | None:
        """Why somebody has to approve this by name; None when it approves itself."""
        if self.waiting:
            return f"the dataset file binds {', '.join(self.waiting)} differently"
        if self.loosened:
            return f"it takes away safeguards ({', '.join(self.loosened)})"
        if self.affected == 0:
            return None
        earlier = f" with the {self.already} of changes that approved themselves" if self.already else ""
        if self.affected + self.already > approval.records:
            return f"it touches {self.affected} records{earlier}, more than {approval.records}"
        if self.share > approval.share:
            return f"it touches {self.share:.2%} of all records{earlier}, more than {approval.share:.2%}"
        return None

    def as_dict(self) -> dict[str, Any]:
        """JSON: counts, dates and rule ids."""
        return {
            "as_of": _text(self.as_of),
            "affected": self.affected,
            "share": round(self.share, 6),
            "total": self.total,
            "already": self.already,
            **{kind.value: self.count(kind) for kind in Kind},
            "changes": [change.as_dict() for change in self.changes],
            "waiting": list(self.waiting),
            "loosened": list(self.loosened),
        }


def merged(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Changes of the same dataset, tier and fates as one, the largest first."""
    found: dict[tuple[str, str, str, str, str], Change] = {}
    for change in changes:
        key = (change.dataset, change.tier, change.category, change.before, change.after)
        known = found.get(key)
        found[key] = change if known is None else _sum(known, change)
    listed = [change for change in found.values() if change.records and changes_fate(change.before, change.after)]
    return tuple(sorted(listed, key=lambda c: (-c.records, c.dataset, c.tier, c.before, c.after)))


def _sum(one: Change, other: Change) -> Change:
    oldest = [clock for clock in (one.oldest, other.oldest) if clock is not None]
    newest = [clock for clock in (one.newest, other.newest) if clock is not None]
    return Change(
        one.dataset,
        one.tier,
        one.category,
        one.before,
        one.after,
        one.records + other.records,
        min(oldest, default=None),
        max(newest, default=None),
    )
