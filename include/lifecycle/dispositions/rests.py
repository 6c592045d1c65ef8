"""Leaving a table alone for a while after everybody was locked out of it, if anybody noticed (hard case 19)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from lifecycle.catalog.pace import Pace
from lifecycle.planning.pacing import rest_after
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.locks import somebody_waits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shut:
    """Tables are locked by this transaction, since a moment of the monotonic clock; whether anybody waits for them."""

    since: float
    noticed: bool

    @classmethod
    def now(cls, conn: Connection, since: float) -> Shut:
        """To be called directly before the transaction ends."""
        return cls(since, somebody_waits(conn))


def rest(unit: str, pace: Pace, shut: Shut) -> float:
    """Rest after the transaction has ended. Returns for how many seconds; none where nobody had to wait."""
    if not shut.noticed:
        return 0.0
    locked = time.monotonic() - shut.since
    pause = rest_after(locked, pace.locked_share, pace.patience.total_seconds())
    log.info("%s: others waited, up to %.0f ms; leaving the table alone for %.2f s", unit, locked * 1000, pause)
    time.sleep(pause)
    return pause
