"""What people ask for: legal holds and erasure requests, in the project's own tables.

A run locks these tables while it destroys (dispositions/gate.py), so every write here waits for it, for a bounded time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from lifecycle.errors import LifecycleError, PreconditionError
from lifecycle.stores.postgres.connect import Connection


class HoldScope(StrEnum):
    ACCOUNT = "account"
    CONVERSATION = "conversation"
    MESSAGE = "message"
    DATASET = "dataset"


class ErasureScope(StrEnum):
    ACCOUNT = "account"
    CONVERSATION = "conversation"
    MESSAGE = "message"


class RequestError(LifecycleError):
    """A hold or a request cannot be changed as asked: it is unknown, or has already ended."""


@dataclass(frozen=True)
class Hold:
    """A legal hold; open until ``released_at``, which may lie ahead."""

    hold_id: UUID
    scope: str
    target: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_at: datetime | None


@dataclass(frozen=True)
class Erasure:
    """An erasure request; ``outcome`` is 'done', or 'kept: ' and the rules that kept something."""

    request_id: UUID
    scope: str
    target: str
    requested_at: datetime
    completed_at: datetime | None
    outcome: str | None


def place_hold(
    conn: Connection,
    scope: HoldScope,
    target: str,
    reason: str,
    placed_by: str,
    placed_at: datetime,
    wait: timedelta,
    hold_id: UUID | None = None,
) -> Hold:
    """Place a hold. Once this returns nothing in its scope is destroyed, de-identified or moved.

    Args:
        hold_id: the id that it has in several stores; one of its own if not given.

    Raises:
        PreconditionError: a run did not let go of its locks within ``wait``; nothing was placed.
    """
    with _write(conn, "the hold was not placed", wait), conn.cursor(row_factory=class_row(Hold)) as cursor:
        placed = cursor.execute(
            "INSERT INTO lifecycle.legal_holds (hold_id, scope, target, reason, placed_by, placed_at)"
            " VALUES (coalesce(%s, gen_random_uuid()), %s, %s, %s, %s, %s) RETURNING *",
            (hold_id, scope.value, target, reason, placed_by, placed_at),
        ).fetchone()
        assert placed is not None
        return placed


def open_hold(conn: Connection, scope: HoldScope, target: str, reason: str) -> Hold | None:
    """The hold that stands for the same reason on the same thing, the oldest of them, if there is one."""
    with _schema(), conn.cursor(row_factory=class_row(Hold)) as cursor:
        return cursor.execute(
            "SELECT * FROM lifecycle.legal_holds WHERE (scope, target, reason) = (%s, %s, %s) AND released_at IS NULL"
            " ORDER BY placed_at, hold_id LIMIT 1",
            (scope.value, target, reason),
        ).fetchone()


def find_hold(conn: Connection, hold_id: UUID) -> Hold | None:
    """A hold by its id, released or not."""
    with _schema(), conn.cursor(row_factory=class_row(Hold)) as cursor:
        return cursor.execute("SELECT * FROM lifecycle.legal_holds WHERE hold_id = %s", (hold_id,)).fetchone()


def release_hold(conn: Connection, hold_id: UUID, released_at: datetime, wait: timedelta) -> Hold:
    """End a hold. What it alone kept is due at once and goes first in the next run (hard case 5).

    Raises:
        RequestError: no such hold, or it has been released before.
        PreconditionError: a run did not let go of its locks within ``wait``; nothing was released.
    """
    with _write(conn, "the hold was not released", wait), conn.cursor(row_factory=class_row(Hold)) as cursor:
        released = cursor.execute(
            "UPDATE lifecycle.legal_holds SET released_at = %s WHERE hold_id = %s AND released_at IS NULL RETURNING *",
            (released_at, hold_id),
        ).fetchone()
        if released is not None:
            return released
        earlier = cursor.execute("SELECT * FROM lifecycle.legal_holds WHERE hold_id = %s", (hold_id,)).fetchone()
    if earlier is None or earlier.released_at is None:
        raise RequestError("there is no hold with that id; `lifecycle hold list` shows the open ones")
    raise RequestError(f"that hold has already been released, at {earlier.released_at.isoformat()}")


def list_holds(conn: Connection, at: datetime, *, ended: bool = False) -> list[Hold]:
    """Holds open at an instant, oldest first; with ``ended`` also those that no longer count."""
    with _schema(), conn.cursor(row_factory=class_row(Hold)) as cursor:
        return cursor.execute(
            "SELECT * FROM lifecycle.legal_holds WHERE %s OR released_at IS NULL OR released_at > %s"
            " ORDER BY placed_at, hold_id",
            (ended, at),
        ).fetchall()


def request_erasure(
    conn: Connection,
    scope: ErasureScope,
    target: str,
    requested_at: datetime,
    wait: timedelta,
    request_id: UUID | None = None,
) -> Erasure:
    """Enter an erasure request; the next run carries it out.

    Args:
        request_id: the id that it has in several stores; one of its own if not given.

    Raises:
        PreconditionError: a run did not let go of its locks within ``wait``; nothing was entered.
    """
    with _write(conn, "the request was not entered", wait), conn.cursor(row_factory=class_row(Erasure)) as cursor:
        entered = cursor.execute(
            "INSERT INTO lifecycle.erasure_requests (request_id, scope, target, requested_at)"
            " VALUES (coalesce(%s, gen_random_uuid()), %s, %s, %s) RETURNING *",
            (request_id, scope.value, target, requested_at),
        ).fetchone()
        assert entered is not None
        return entered


def open_erasure(conn: Connection, scope: ErasureScope, target: str) -> Erasure | None:
    """The request for the same thing that is still to be carried out, the oldest of them, if there is one."""
    with _schema(), conn.cursor(row_factory=class_row(Erasure)) as cursor:
        return cursor.execute(
            "SELECT * FROM lifecycle.erasure_requests WHERE (scope, target) = (%s, %s) AND completed_at IS NULL"
            " ORDER BY requested_at, request_id LIMIT 1",
            (scope.value, target),
        ).fetchone()


def find_erasure(conn: Connection, request_id: UUID) -> Erasure:
    """One request.

    Raises:
        RequestError: there is none with that id.
    """
    with _schema(), conn.cursor(row_factory=class_row(Erasure)) as cursor:
        found = cursor.execute(
            "SELECT * FROM lifecycle.erasure_requests WHERE request_id = %s", (request_id,)
        ).fetchone()
    if found is None:
        raise RequestError("there is no erasure request with that id; `lifecycle erase status` lists all")
    return found


def list_erasures(conn: Connection) -> list[Erasure]:
    """All requests, oldest first."""
    with _schema(), conn.cursor(row_factory=class_row(Erasure)) as cursor:
        return cursor.execute("SELECT * FROM lifecycle.erasure_requests ORDER BY requested_at, request_id").fetchall()


@contextmanager
def _write(conn: Connection, undone: str, wait: timedelta) -> Iterator[None]:
    """A transaction that waits for locks at most ``wait``; whatever fails, nothing is written."""
    try:
        with _schema(), conn.transaction():
            milliseconds = max(1, round(wait.total_seconds() * 1000))
            conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{milliseconds}ms",))
            yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise PreconditionError(
            f"{undone}: a run is destroying data right now and did not finish within {wait.total_seconds():g} s. "
            "Try again, or give it longer with --wait"
        ) from None


@contextmanager
def _schema() -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise PreconditionError(
            "this database has no schema 'lifecycle'. Create it with `lifecycle store create`"
        ) from None
