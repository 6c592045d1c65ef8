"""What fault tests share: waiting for a run to show itself, and a ledger without what differs between two runs."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from psycopg import Connection

from oracle.observe import Observed, Stored
from oracle.stores import look
from support.store import Store

# A run that has not shown itself after this long never will.
PATIENCE = 60.0
POLL = 0.01


class Process(Protocol):
    """A command line that runs by itself: a Popen, or one forked from what is loaded."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def communicate(self) -> tuple[str, str]: ...


def wait_for(condition: Callable[[], Any], process: Process | None = None) -> bool:
    """True once ``condition`` holds; False when the process has ended before it did."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        if process is not None and process.poll() is not None:
            return False
        time.sleep(POLL)
    raise AssertionError("nothing happened for a minute")


def runs_begun(conn: Connection[Any]) -> int:
    row = conn.execute("SELECT count(*) FROM lifecycle.runs").fetchone()
    assert row is not None
    return int(row[0])


def kill(process: Process) -> None:
    """SIGKILL: no handler, no clean-up, no last words."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def plain_ledger(conn: Connection[Any]) -> Counter[str]:
    """The ledger's rows without sequence, times, hashes, run ids and keys."""
    rows = conn.execute(
        """SELECT as_of, entry, scope, dataset, unit, disposition, rule, counts::text, cutoff, policy_hash
           FROM lifecycle.ledger"""
    ).fetchall()
    return Counter("|".join(map(str, row)) for row in rows)


def end_state(store: Store) -> dict[str, Any]:
    """The stores at the end, without the times at which copies were made."""
    seen = look(store)
    return {
        "rows": seen.app,
        "copies": seen.copies,
        "data": _plain(seen.data),
        "quarantine": _plain(seen.quarantine),
        "index": seen.index,
        "records": (seen.tools, seen.flags, seen.scores, seen.feedback, seen.training),
        "accounts": seen.accounts,
        "erasures": seen.erasures,
        "others": seen.others,
        "logs": seen.logs,
        "log versions": _counts(seen),
        "research": seen.research,
    }


def _plain(stored: Any) -> dict[str, tuple[bytes | None, str | None, int, int]]:
    return {key: _entry(value) for key, value in stored.items()}


def _entry(stored: Stored) -> tuple[bytes | None, str | None, int, int]:
    return stored.content, stored.content_type, stored.versions, stored.markers


def _counts(seen: Observed) -> dict[str, tuple[int, int]]:
    return {key: (stored.versions, stored.markers) for key, stored in seen.log_objects.items()}


def unlike(one: dict[str, Any], other: dict[str, Any]) -> dict[str, str]:
    """Per part of the end state that differs: how, in counts."""
    found = {}
    for name in one:
        if one[name] == other[name]:
            continue
        if isinstance(one[name], dict):
            keys = [k for k in one[name].keys() | other[name].keys() if one[name].get(k) != other[name].get(k)]
            found[name] = f"{len(keys)} differ: " + "; ".join(
                f"{k}: {_short(one[name].get(k))} -> {_short(other[name].get(k))}" for k in keys[:4]
            )
        else:
            found[name] = f"{_short(one[name])} -> {_short(other[name])}"
    return found


def _short(value: object) -> str:
    return repr(value)[:300]
