"""How many requests are made side by side: fewer as soon as the server says that it is too many, more as it bears them.

Additive increase, multiplicative decrease, as TCP does it. The rule is pure; ``Turns`` lets threads obey it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

FIRST = 8


@dataclass(frozen=True)
class Concurrency:
    """The number of requests allowed now, between 1 and ``ceiling``.

    ``episode`` counts the decreases: whatever was sent before the last one was sent at the old rate, and is no reason
    for another.
    """

    ceiling: int
    limit: float = 0.0
    episode: int = 0

    @classmethod
    def starting(cls, ceiling: int) -> Concurrency:
        return cls(ceiling, float(min(FIRST, ceiling)))

    @property
    def allowed(self) -> int:
        return max(1, int(self.limit))

    def after(self, episode: int, *, busy: bool) -> Concurrency:
        """What is allowed once a request of that episode is answered: one more after as many good answers as run."""
        if not busy:
            return replace(self, limit=min(float(self.ceiling), self.limit + 1 / max(1.0, self.limit)))
        if episode < self.episode:
            return self
        return replace(self, limit=max(1.0, self.limit / 2), episode=self.episode + 1)


@dataclass
class Turn:
    """One request at work; whoever makes it says whether the server was too busy."""

    episode: int
    busy: bool = False


@dataclass
class Turns:
    """Gives threads their turns, no more at a time than are allowed."""

    concurrency: Concurrency
    running: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def take(self) -> Iterator[Turn]:
        """Wait for a turn, and give it back with what was learned in it."""
        with self._changed:
            self._changed.wait_for(lambda: self.running < self.concurrency.allowed)
            self.running += 1
            turn = Turn(self.concurrency.episode)
        try:
            yield turn
        finally:
            with self._changed:
                self.running -= 1
                self.concurrency = self.concurrency.after(turn.episode, busy=turn.busy)
                self._changed.notify_all()
