"""Killed at every statement and taken up again: forth, back, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.convert import advance
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.layout import Interval
from lifecycle.stores.postgres.online.locks import AlreadyRunningError, alone
from lifecycle.stores.postgres.online.state import Phase, open_partitioning
from lifecycle.stores.postgres.online.switch import finish, revert
from lifecycle.stores.postgres.online.work import Work, session
from support.online import begin, bounds_of, connected, convert, layout_of, plain_table, rows_of, work_on

BEFORE_THE_END = (Phase.BUILDING, Phase.BUILT, Phase.MIRRORED, Phase.COPIED, Phase.VERIFIED, Phase.SWITCHED)


class KilledError(Exception):
    """The process died here."""


class Dying(psycopg.Connection[Any]):
    """A connection that breaks before its n-th statement that acts, whatever transaction is open."""

    left: int = 10**9

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(query, sql.Composed) or query.lstrip().startswith(("UPDATE", "INSERT", "LOCK")):
            self.left -= 1
        if self.left < 0:
            self.pgconn.finish()
            raise KilledError
        return super().execute(query, *args, **kwargs)


@contextmanager
def dying(conninfo: str, after: int) -> Iterator[Work]:
    with Dying.connect(conninfo, autocommit=True) as conn:
        session(conn)
        conn.left = after
        yield work_on(conn)


def again_and_again(conninfo: str, check: Callable[[], None], act: Callable[[Work], None], steps: range) -> int:
    """Kill after ever more statements, until it gets through; the rows are all there after every death."""
    for deaths, after in enumerate(steps):
        try:
            with dying(conninfo, after) as work:
                act(work)
                return deaths
        except KilledError:
            check()
    raise AssertionError("it never got through")


def test_killed_at_every_statement(conn: Connection, conninfo: str, table: Name) -> None:
    plain_table(conn, table, rows=40)
    layout = layout_of(table, tier=None, interval=Interval.MONTH)
    before = rows_of(conn, table)

    def whole() -> None:
        assert rows_of(conn, table) == before

    def forth(work: Work) -> None:
        done = open_partitioning(work.conn, table) or begin(work, layout)
        advance(work, done)

    def back(work: Work) -> None:
        if (found := open_partitioning(work.conn, table)) is not None:
            revert(work, found)

    def end(work: Work) -> None:
        if (found := open_partitioning(work.conn, table)) is not None:
            finish(work, found)

    assert again_and_again(conninfo, whole, forth, range(600)) > 10
    assert len(bounds_of(conn, table)) == 1 + 1
    assert again_and_again(conninfo, whole, back, range(60)) > 10
    assert bounds_of(conn, table) == {} and rows_of(conn, table) == before
    assert again_and_again(conninfo, whole, forth, range(3, 600, 5)) > 3
    assert again_and_again(conninfo, whole, end, range(60)) > 5
    assert rows_of(conn, table) == before
    left = conn.execute(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s"
        " AND relname LIKE '%%partitioned%%'",
        (table.schema,),
    ).fetchall()
    assert left == []


@pytest.mark.parametrize(
    "phase", [Phase.BUILDING, Phase.BUILT, Phase.MIRRORED, Phase.COPIED, Phase.VERIFIED, Phase.SWITCHED]
)
def test_the_way_back_from_every_phase(conn: Connection, table: Name, phase: Phase) -> None:
    plain_table(conn, table, rows=40)
    oid = conn.execute("SELECT %s::regclass::oid", (table.identifier.as_string(conn),)).fetchone()
    before = rows_of(conn, table)
    half = advance(work_on(conn), begin(work_on(conn), layout_of(table, interval=Interval.MONTH)), upto=phase)
    assert half.phase is phase
    conn.execute(f"DELETE FROM {table.identifier.as_string(conn)} WHERE id = 7".encode())
    revert(work_on(conn), half)
    assert rows_of(conn, table) == [row for row in before if row[0] != 7]
    assert conn.execute("SELECT %s::regclass::oid", (table.identifier.as_string(conn),)).fetchone() == oid
    assert open_partitioning(conn, table) is None
    left = conn.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind IN"
        " ('r', 'p')",
        (table.schema,),
    ).fetchone()
    assert left == (1,)


def test_a_terminated_backend_loses_nothing(conn: Connection, conninfo: str, table: Name) -> None:
    """Its own backend is ended by somebody else in the middle of the copy."""
    plain_table(conn, table)
    before = rows_of(conn, table)
    with connected(conninfo) as victim:

        def report(step: str, _count: int) -> None:
            if step == "copied":
                conn.execute("SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,))

        work = work_on(victim, report)
        with pytest.raises(psycopg.OperationalError):
            convert(work, layout_of(table, tier=None))
    found = open_partitioning(conn, table)
    assert found is not None and found.phase is Phase.MIRRORED and 0 < found.copied <= len(before)
    assert advance(work_on(conn), found).phase is Phase.SWITCHED
    assert rows_of(conn, table) == before


def test_two_at_once_are_refused(conn: Connection, conninfo: str, table: Name) -> None:
    with connected(conninfo) as other, alone(other, table), pytest.raises(AlreadyRunningError), alone(conn, table):
        raise AssertionError("both hold it")
