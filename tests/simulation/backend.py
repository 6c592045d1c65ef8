"""What a simulation asks of a store and of whoever disposes of its data; two answer: `memory` and `real`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from oracle.ledger import Deed
from oracle.observe import Observed

from .change import Change
from .regime import Regime


class Backend(Protocol):
    """One store, empty at first. Nothing here reads a clock: the simulation says what time it is."""

    def apply(self, change: Change) -> None:
        """Write what the world did."""
        ...

    def run(self, as_of: datetime, regime: Regime) -> Iterator[str]:
        """Carry out a whole run, step by step and unit by unit; each is done when its name is yielded.

        An iterator that is dropped is a run that crashed there. The next one of the same as-of resumes it.
        """
        ...

    def observe(self) -> Observed:
        """Everything the stores hold."""
        ...

    def mark(self) -> int:
        """A point in the ledger."""
        ...

    def recorded(self, since: int) -> Counter[Deed]:
        """What the ledger says was done since a mark."""
        ...

    def at_risk(self, at: datetime, regime: Regime) -> datetime | None:
        """The first instant at which a promise about a message is broken if no run follows; None if nothing waits."""
        ...

    def alarm(self, at: datetime, regime: Regime) -> bool:
        """Whether the product's alarm about messages rings now."""
        ...
