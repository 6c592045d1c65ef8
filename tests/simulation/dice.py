"""What chance decides, behind one interface: a seeded generator for long runs, Hypothesis for runs that shrink."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Dice(Protocol):
    """Every choice of a simulation is asked for here, so that a seed reproduces it exactly."""

    def pick(self, options: Sequence[Item]) -> Item:
        """One of the options, which must be in an order that does not depend on the process."""
        ...

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        ...

    def chance(self, share: float) -> bool:
        """True for this share of the throws."""
        ...


class RandomDice:
    """The dice of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, options: Sequence[Item]) -> Item:
        return options[self._random.randrange(len(options))]

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def chance(self, share: float) -> bool:
        return self._random.random() < share
