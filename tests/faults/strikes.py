"""How often kill tests strike, how long they may take for it, and what they say of it meanwhile."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

import pytest

# LIFECYCLE_KILL_POINTS=50: so many strikes at each of four kinds of work. Without it `make test` strikes a few times.
ASKED = os.environ.get("LIFECYCLE_KILL_POINTS")
POINTS = int(ASKED or "5")
# A strike, the next try and looking at both take 2 seconds, and ten times that on a busy machine.
SECONDS_A_STRIKE = 60
TIMEOUT = pytest.mark.timeout(300 + SECONDS_A_STRIKE * POINTS)
_TELL_EVERY = 10


@dataclass
class Strikes:
    """An account of one kind of work: told while it goes on if somebody asked for a number of strikes."""

    work: str
    planned: int
    made: int = 0
    alive: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, where: str, *, struck: bool, wrong: list[str]) -> None:
        """One more: whether it met a process that was still alive, and what was wrong then and in the end."""
        self.made += 1
        self.alive += struck
        self.wrong += [f"{where}: {what}" for what in wrong]
        if ASKED and (self.made % _TELL_EVERY == 0 or self.made == self.planned):
            # Seen with pytest -s, by who waits.
            sys.stderr.write(f"\n{self}\n")

    def __str__(self) -> str:
        return (
            f"{self.work}: {self.made} of {self.planned} strikes, {self.alive} at a living process, "
            f"{len(self.wrong)} with something wrong"
        )
