"""What the world does to the stores in a day: facts that are new, and facts that are no longer what they were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from oracle.facts import World

# By which field a kind of fact is told apart. Messages, scores, training examples and log lines never change.
KEYS = {
    "accounts": "account_id",
    "flags": "message_id",
    "feedback": "feedback_id",
    "agreements": "agreement_id",
    "cases": "case_id",
    "holds": "hold_id",
}


@dataclass(frozen=True)
class Change:
    """``revised`` holds (kind, the fact as it is now)."""

    added: World = field(default_factory=World)
    revised: tuple[tuple[str, Any], ...] = ()

    def __add__(self, other: Change) -> Change:
        return Change(self.added + other.added, self.revised + other.revised)

    @property
    def empty(self) -> bool:
        return not self.revised and self.added == NOTHING


NOTHING = World()


def changed(world: World, change: Change) -> World:
    """The world after a change."""
    by_kind: dict[str, dict[Any, Any]] = {}
    for kind, fact in change.revised:
        by_kind.setdefault(kind, {})[getattr(fact, KEYS[kind])] = fact
    revised: dict[str, Any] = {
        kind: _revise(getattr(world, kind), KEYS[kind], facts) for kind, facts in by_kind.items()
    }
    return replace(world, **revised) + change.added


def _revise(facts: Iterable[Any], key: str, by_key: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(by_key.get(getattr(fact, key), fact) for fact in facts)
