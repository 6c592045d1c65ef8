"""How fast to take rows out of a live table. Pure: the shell measures, this module decides (hard case 19).

Batches are sized by time: what one row costs depends on indexes, triggers and load, and no count fits all tables.
"""

from __future__ import annotations

from dataclasses import dataclass

SHRINK, GROW = 0.25, 2.0
# Under pressure that does not end, so many rows at most go after each wait.
TRICKLE = 100
# A probe this fast is no sign of trouble, whatever its baseline.
CANARY_FLOOR = 0.02
# Rates over shorter spans say nothing.
SHORTEST_SPAN = 1.0
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Aim:
    """The length that a transaction should have, in seconds, and the bounds of a batch, in rows."""

    seconds: float
    smallest: int = 1
    largest: int = 50_000
    first: int = 100


def next_size(aim: Aim, size: int, examined: int, seconds: float) -> int:
    """How many rows the next batch looks at, after one of ``examined`` rows took so long.

    At most twice as many as the last one and at least a quarter, so that one slow instant does not decide.
    """
    if examined <= 0:
        return size
    wanted = examined * aim.seconds / max(seconds, 1e-6)
    return _clamp(aim, min(max(wanted, size * SHRINK), size * GROW))


def after_timeout(aim: Aim, size: int) -> int | None:
    """The size to try after a statement ran into its time limit; None when there is no smaller one."""
    return None if size <= aim.smallest else _clamp(aim, size * SHRINK)


def _clamp(aim: Aim, size: float) -> int:
    return int(min(max(size, aim.smallest), aim.largest))


def rest_after(locked: float, share: float, longest: float) -> float:
    """Seconds to leave a table alone after locking everybody out of it for ``locked`` seconds.

    The lock and the rest together are 1/``share`` times the lock, so that this share of statements at most meets it.
    """
    return min(locked * (1 / share - 1), longest)


@dataclass(frozen=True)
class Budget:
    """What one run may spend on one dataset: seconds and rows."""

    seconds: float
    rows: int

    def allows(self, elapsed: float, gone: int) -> int:
        """How many rows may still go; 0 when the time or the rows are spent."""
        return max(self.rows - gone, 0) if elapsed < self.seconds else 0


@dataclass(frozen=True)
class Limits:
    """What makes us wait: seconds of replication lag, bytes of log a second, seconds of rest per forced checkpoint, and
    how many times its baseline a probe may take."""

    replication_lag: float
    wal_per_second: float
    checkpoint_rest: float
    canary_factor: float


@dataclass(frozen=True)
class Reading:
    """The server's state at an instant of a monotonic clock. None: not to be seen with our privileges.

    ``replication_lag``: seconds, of the replica that is furthest behind. ``wal``: bytes ever written.
    ``checkpoints``: how many were ever asked for, by the log or by hand. ``canary``: seconds that the probe took.
    """

    at: float
    canary: float
    replication_lag: float | None = None
    wal: int | None = None
    checkpoints: int | None = None


@dataclass(frozen=True)
class Pressure:
    """Why to wait, with its number and its limit, and for about how long (seconds)."""

    reason: str
    measured: float
    limit: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.reason} {self.measured:.3g} (limit {self.limit:.3g})"


def pressure(limits: Limits, baseline: float, before: Reading, now: Reading) -> Pressure | None:
    """The reason to wait that asks for the longest wait; None when the server takes it well.

    Args:
        baseline: what the canary took before the first batch, in seconds.
        before: the reading that rates are counted from.
    """
    found = [one for one in _reasons(limits, baseline, before, now) if one is not None]
    return max(found, key=lambda one: one.seconds, default=None)


def _reasons(limits: Limits, baseline: float, before: Reading, now: Reading) -> list[Pressure | None]:
    return [
        _lag(limits, now),
        _log(limits, before, now),
        _checkpoints(limits, before, now),
        _slow(limits, baseline, now),
    ]


def _lag(limits: Limits, now: Reading) -> Pressure | None:
    if now.replication_lag is None or now.replication_lag <= limits.replication_lag:
        return None
    return Pressure(
        "seconds of replication lag", now.replication_lag, limits.replication_lag, max(limits.replication_lag / 10, 1.0)
    )


def _log(limits: Limits, before: Reading, now: Reading) -> Pressure | None:
    """Wait until the average since the reading before is back at the limit."""
    span = now.at - before.at
    if now.wal is None or before.wal is None or span < SHORTEST_SPAN:
        return None
    written = now.wal - before.wal
    if written <= limits.wal_per_second * span:
        return None
    return Pressure(
        "megabytes of write-ahead log a second",
        written / span / _MEGABYTE,
        limits.wal_per_second / _MEGABYTE,
        written / limits.wal_per_second - span,
    )


def _checkpoints(limits: Limits, before: Reading, now: Reading) -> Pressure | None:
    if now.checkpoints is None or before.checkpoints is None or limits.checkpoint_rest <= 0:
        return None
    asked = now.checkpoints - before.checkpoints
    return Pressure("checkpoints forced", asked, 0, limits.checkpoint_rest) if asked > 0 else None


def _slow(limits: Limits, baseline: float, now: Reading) -> Pressure | None:
    limit = max(limits.canary_factor * baseline, CANARY_FLOOR)
    return Pressure("seconds for the canary query", now.canary, limit, 1.0) if now.canary > limit else None


def base_of(before: Reading, now: Reading) -> Reading:
    """The reading that the next rate is counted from: the old one until it is old enough to tell a rate."""
    return now if now.at - before.at >= SHORTEST_SPAN else before
