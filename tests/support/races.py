"""Somebody else acts between two statements of ours: before each of them in turn, if asked often enough."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from lifecycle.stores.postgres.connect import prepared

REPEATS = "LIFECYCLE_RACE_REPEATS"
# An act that waits for our locks goes on by itself; this long we look whether it is one that does not.
_LOOK_SECONDS = 0.15


def repeats(few: int) -> int:
    """How many moments of a swap to strike at: a few in the suite, hundreds when the environment says so."""
    return int(os.environ.get(REPEATS, str(few)))


def moments(steps: int, wanted: int) -> Sequence[int]:
    """So many moments, spread evenly over the steps of one swap; every one of them if as many are wanted."""
    if wanted >= steps:
        return [1 + n % steps for n in range(wanted)]
    return sorted({1 + round(n * (steps - 1) / max(1, wanted - 1)) for n in range(wanted)})


class Stepping(psycopg.Connection[TupleRow]):
    """A connection that tells before each of its statements how many there have been."""

    before: Callable[[int], None] | None = None
    steps = 0

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        self.steps += 1
        if self.before is not None:
            self.before(self.steps)
        return super().execute(*args, **kwargs)


def stepping(conninfo: str) -> Stepping:
    conn = Stepping.connect(conninfo, autocommit=True)
    prepared(conn)
    conn.steps = 0
    return conn


@dataclass
class Strike:
    """An act of somebody else, begun right before one statement of ours; it may have to wait for us."""

    at: int
    act: Callable[[], None]
    failed: list[Exception] = field(default_factory=list)
    thread: threading.Thread | None = None

    def __call__(self, step: int) -> None:
        if step == self.at and self.thread is None:
            self.thread = threading.Thread(target=self._run, daemon=True)
            self.thread.start()
            self.thread.join(timeout=_LOOK_SECONDS)

    def at_last(self) -> None:
        """If it was not its turn yet: where a lock was free at once, there are fewer statements than were counted."""
        if self.thread is None:
            self(self.at)

    def _run(self) -> None:
        try:
            self.act()
        except psycopg.Error as error:
            self.failed.append(error)

    def settle(self) -> None:
        """Wait for its end; it has to have been done."""
        assert self.thread is not None, f"there was no statement {self.at}"
        self.thread.join(timeout=60)
        assert not self.thread.is_alive(), "it still waits for a lock that nobody can hold any more"
        if self.failed:
            raise AssertionError(f"the act before statement {self.at} was refused: {self.failed!r}")
