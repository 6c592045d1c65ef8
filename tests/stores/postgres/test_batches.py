"""Keyset batches on a real table: each begins where the last ended, whatever stays, ties, changes or is locked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.batches import Position, Span, Step, Walk, are_placed, left_due, take_batch
from lifecycle.stores.postgres.connect import Connection
from support.servers import fresh_database, with_database
from support.statistics import flush_statistics

ROWS = sql.Identifier("rows")
WALK = Walk(
    relation=ROWS,
    source=ROWS,
    clock="at",
    keys=("id",),
    where=sql.SQL("m.at < %(as_of)s"),
    fate=sql.SQL("('delete:' || m.rule)"),
    due=sql.SQL("(d.fate <> 'delete:kept')"),
    params={"as_of": "2026-01-01Z"},
)
# The same, but no row is judged twice.
PLACED = replace(WALK, placed=True)
either = pytest.mark.parametrize("walk", [WALK, PLACED], ids=["by_key", "by_place"])


@pytest.fixture(scope="module")
def conninfo(postgres_server: Postgres) -> Iterator[str]:
    with fresh_database(postgres_server) as name:
        found = with_database(postgres_server, name)
        with psycopg.connect(found, autocommit=True) as conn:
            conn.execute("CREATE TABLE rows (id bigint PRIMARY KEY, at timestamptz, rule text NOT NULL, note text)")
            conn.execute("CREATE INDEX ON rows (at, id)")
        yield found


@pytest.fixture
def conn(conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("TRUNCATE rows")
        conn.execute("SET lock_timeout = '300ms'")
        yield conn


def fill(conn: Connection, count: int, rule: str = "CASE n % 3 WHEN 0 THEN 'kept' ELSE 'old' END") -> None:
    """Rows in an order unlike that of their keys, four to an instant."""
    query = (
        f"INSERT INTO rows SELECT n, timestamptz '2020-01-01Z' + (n * 7919 % {count} / 4) * interval '1 s', {rule}"
        f" FROM generate_series(1, {count}) n"
    )
    conn.execute(query.encode())
    conn.execute("ANALYZE rows")


def walk_on(conn: Connection, walk: Walk, size: int, *, wait: bool = False) -> list[Step]:
    steps: list[Step] = []
    after: Position | None = None
    while True:
        with conn.transaction():
            steps.append(take_batch(conn, walk, Span(after), size, wait=wait))
        after = steps[-1].last
        if steps[-1].examined < size:
            return steps


def ids(conn: Connection, where: str = "true") -> set[int]:
    return {row[0] for row in conn.execute(f"SELECT id FROM rows WHERE {where}".encode())}


@either
@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_every_due_row_goes_once_and_every_row_is_looked_at_once(conn: Connection, walk: Walk, size: int) -> None:
    """Survivors at the beginning are not read again by the batches that follow (case 8: it ends)."""
    fill(conn, 200)
    steps = walk_on(conn, walk, size)
    assert sum(step.examined for step in steps) == 200
    assert sum(step.total for step in steps) == 200 - 66
    assert ids(conn) == {n for n in range(1, 201) if n % 3 == 0}
    assert all(step.gone.keys() <= {"delete:old"} for step in steps)


@either
def test_the_oldest_go_first(conn: Connection, walk: Walk) -> None:
    fill(conn, 40, rule="'old'")
    with conn.transaction():
        take_batch(conn, walk, Span(), 10, wait=False)
    oldest = conn.execute("SELECT count(*), min(at) >= timestamptz '2020-01-01 00:00:02Z' FROM rows").fetchone()
    assert oldest == (30, True)


@either
def test_a_span_ends_with_its_last_position(conn: Connection, walk: Walk) -> None:
    fill(conn, 40, rule="'old'")
    with conn.transaction():
        first = take_batch(conn, replace(walk, due=sql.SQL("false")), Span(), 10, wait=False)
    with conn.transaction():
        step = take_batch(conn, walk, Span(None, first.last), 100, wait=False)
    assert (step.examined, step.total, step.last) == (10, 10, first.last)


@either
def test_odd_clocks_neither_stop_the_walk_nor_go_unseen_case_23(conn: Connection, walk: Walk) -> None:
    """Case 23: infinity, years before Christ and no clock at all; Python knows none of these instants."""
    conn.execute(
        "INSERT INTO rows VALUES (1, '-infinity', 'old'), (2, '0044-03-15 BC', 'old'), (3, 'infinity', 'old'),"
        " (4, NULL, 'old'), (5, '2020-01-01Z', 'old')"
    )
    steps = walk_on(conn, walk, 1)
    assert sum(step.total for step in steps) == 3
    assert ids(conn) == {3, 4}


@either
def test_locked_rows_are_passed_over_and_counted_and_then_waited_for(
    conn: Connection, walk: Walk, conninfo: str
) -> None:
    """Case 19: nobody who works with a row makes us hold up the others, and no row is left unsaid."""
    fill(conn, 30, rule="'old'")
    with psycopg.connect(conninfo) as other:
        other.execute("UPDATE rows SET note = 'in use' WHERE id IN (4, 9)")
        (*_, last) = steps = walk_on(conn, walk, 10)
        assert sum(step.locked for step in steps) == 2
        assert ids(conn) == {4, 9}
        with pytest.raises(psycopg.errors.LockNotAvailable), conn.transaction():
            take_batch(conn, walk, Span(), 10, wait=True)
        assert left_due(conn, walk, Span(None, last.last)) == 2
    walk_on(conn, walk, 10, wait=True)
    assert ids(conn) == set()


@dataclass(frozen=True)
class Change:
    """What somebody does to row 5 between our look at it and its turn; whether it goes all the same."""

    does: str
    goes: bool


# The clock of a row that moved lies outside of the batch; the rows of a batch lie in the order of their clocks.
CHANGES = {
    "spared": Change("UPDATE rows SET rule = 'kept' WHERE id = 5", goes=False),
    "touched": Change("UPDATE rows SET note = 'touched' WHERE id = 5", goes=True),
    "touched in a new place": Change("UPDATE rows SET note = repeat('x', 8000), id = id WHERE id = 5", goes=True),
    "moved to the past": Change("UPDATE rows SET at = '2019-01-01Z' WHERE id = 5", goes=True),
    "moved on, and due": Change("UPDATE rows SET at = '2021-01-01Z' WHERE id = 5", goes=True),
    "deleted": Change("DELETE FROM rows WHERE id = 5", goes=False),
    "made anew": Change("DELETE FROM rows WHERE id = 5; INSERT INTO rows VALUES (5, now(), 'kept')", goes=False),
}


@either
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_row_that_changes_while_we_wait_is_judged_as_it_is_now(
    conn: Connection, walk: Walk, conninfo: str, change: Change
) -> None:
    """Never early: what made it due may be gone by the time we hold its lock. What is still due goes, and is counted
    once, with the others of its batch."""
    fill(conn, 10, rule="'old'")
    conn.execute("SET lock_timeout = '20s'")
    with psycopg.connect(conninfo) as other:
        other.execute(change.does.encode())
        done: list[Step] = []
        thread = threading.Thread(target=lambda: done.extend(walk_on(conn, walk, 100, wait=True)))
        thread.start()
        with psycopg.connect(conninfo, autocommit=True) as watch:
            while not watch.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone():
                assert thread.is_alive()
        other.commit()
        thread.join(timeout=20)
    assert ids(conn) == ({5} if "kept" in change.does else set())
    assert done[0].gone == {"delete:old": 9 + change.goes} and done[0].examined == 10


def test_a_new_version_is_never_taken_for_the_one_that_was_judged(conn: Connection, conninfo: str) -> None:
    """Promise 1: in a table of some size rows are fetched by their place, which servers like 16.4 do not look at again
    when somebody changed a row while we waited for it (later ones of each major version do). All look at the xmin."""
    fill(conn, 20_000, rule="'old'")
    conn.execute("SET lock_timeout = '20s'")
    with psycopg.connect(conninfo) as other:
        other.execute("UPDATE rows SET rule = 'kept' WHERE id = (SELECT id FROM rows ORDER BY at, id OFFSET 5 LIMIT 1)")
        done: list[Step] = []

        def take() -> None:
            with conn.transaction():
                done.append(take_batch(conn, PLACED, Span(), 50, wait=True))

        thread = threading.Thread(target=take)
        thread.start()
        with psycopg.connect(conninfo, autocommit=True) as watch:
            while not watch.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone():
                assert thread.is_alive()
        other.commit()
        thread.join(timeout=20)
    assert done[0].gone == {"delete:old": 49} and len(ids(conn, "rule = 'kept'")) == 1


@either
def test_a_row_that_was_changed_and_is_still_due_goes_in_its_new_version(
    conn: Connection, walk: Walk, conninfo: str
) -> None:
    fill(conn, 10, rule="'old'")
    with psycopg.connect(conninfo, autocommit=True) as other:
        for _ in range(3):
            other.execute("UPDATE rows SET note = 'touched' WHERE id = 5")
    walk_on(conn, walk, 3)
    assert ids(conn) == set()


@either
def test_a_change_instead_of_a_deletion(conn: Connection, walk: Walk) -> None:
    fill(conn, 30)
    emptied = replace(walk, change=sql.SQL("note = 'emptied'"), where=sql.SQL("m.note IS NULL AND m.at < %(as_of)s"))
    steps = walk_on(conn, emptied, 7)
    assert sum(step.total for step in steps) == 20
    assert ids(conn, "note = 'emptied'") == ids(conn, "rule = 'old'")


def test_rows_looked_for_elsewhere_are_taken_out_of_the_table(conn: Connection) -> None:
    fill(conn, 30, rule="'old'")
    named = sql.SQL("(SELECT r.at, r.id FROM rows r WHERE r.id = ANY (ARRAY[3, 7, 11]))")
    steps = walk_on(conn, replace(WALK, source=named, where=sql.SQL("true")), 2)
    assert sum(step.total for step in steps) == 3
    assert not ids(conn) & {3, 7, 11}


@either
@pytest.mark.parametrize("keys", [("b", "a"), ("c",)])
def test_keys_of_several_columns_and_of_text(conn: Connection, walk: Walk, keys: tuple[str, ...]) -> None:
    conn.execute("DROP TABLE IF EXISTS pairs")
    conn.execute("CREATE TABLE pairs (a int, b text, c text UNIQUE, at timestamptz, rule text, PRIMARY KEY (a, b))")
    conn.execute(
        "INSERT INTO pairs SELECT n % 5, 'k' || n, n || ' ''quoted'' \"text\"', '2020-01-01Z', 'old'"
        " FROM generate_series(1, 40) n"
    )
    pairs = sql.Identifier("pairs")
    steps = walk_on(conn, replace(walk, relation=pairs, source=pairs, keys=keys), 7)
    assert [step.total for step in steps] == [7, 7, 7, 7, 7, 5]
    assert conn.execute("SELECT count(*) FROM pairs").fetchone() == (0,)


@either
def test_a_batch_costs_the_same_wherever_it_is_in_the_table(conn: Connection, walk: Walk) -> None:
    """Promise 8: with most of the table staying, no batch reads more than its own rows, and none reads the table."""
    fill(conn, 20_000, rule="CASE WHEN n % 10 > 0 THEN 'kept' ELSE 'old' END")
    before = _reads(conn)
    steps = walk_on(conn, walk, 500)
    assert len(steps) == 41
    sequential, by_index = (now - then for now, then in zip(_reads(conn), before, strict=True))
    assert sequential == 0
    # Found, locked, deleted, and counted again for rows that were locked: some probes a row, whatever the position.
    assert by_index < 20_000 * 6


def test_no_row_is_judged_twice_nor_one_of_the_next_batch(conn: Connection) -> None:
    """What a fate costs is most of what we add to a bare DELETE. Rows of one instant, so that many come next."""
    fill(conn, 300)
    conn.execute("UPDATE rows SET at = '2020-01-01Z'")
    # Said to be stable, as fates are: nothing keeps PostgreSQL from asking it as often as it is written.
    conn.execute("CREATE SEQUENCE judgements")
    conn.execute(
        "CREATE FUNCTION judged(id bigint, rule text) RETURNS text STABLE LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM nextval('judgements'); RETURN 'delete:' || rule; END$$"
    )
    steps = walk_on(conn, replace(WALK, fate=sql.SQL("judged(m.id, m.rule)"), placed=True), 50)
    assert sum(step.total for step in steps) == 200
    assert conn.execute("SELECT last_value FROM judgements").fetchone() == (300,)


@either
def test_what_a_fate_looks_up_is_probed_for_and_not_read_for_each_batch(conn: Connection, walk: Walk) -> None:
    """Promise 8: a batch costs its rows, not what the tables of exceptions hold."""
    fill(conn, 5_000, rule="'old'")
    conn.execute("DROP TABLE IF EXISTS flags; CREATE TABLE flags (id bigint PRIMARY KEY)")
    conn.execute("INSERT INTO flags SELECT n * 2 FROM generate_series(1, 5000) n")
    conn.execute("ANALYZE flags")
    flagged = sql.SQL("(CASE WHEN EXISTS (SELECT FROM flags f WHERE f.id = m.id) THEN 'delete:kept' ELSE {} END)")
    steps = walk_on(conn, replace(walk, fate=flagged.format(WALK.fate)), 1_000)
    assert sum(step.total for step in steps) == 2_500
    flush_statistics(conn)
    read = conn.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'flags'").fetchone()
    assert read == (0,), "read whole"


def test_rows_lie_in_one_heap_or_are_told_by_their_keys(conn: Connection) -> None:
    conn.execute(
        "CREATE TABLE of_days (id int, at date) PARTITION BY RANGE (at); CREATE TABLE above (id int);"
        "CREATE TABLE below () INHERITS (above); CREATE VIEW seen AS SELECT * FROM rows"
    )
    placed = {name: are_placed(conn, sql.Identifier(name)) for name in ("rows", "below", "above", "of_days", "seen")}
    assert placed == {"rows": True, "below": True, "above": False, "of_days": False, "seen": False}


def _reads(conn: Connection) -> tuple[int, int]:
    flush_statistics(conn)
    row = conn.execute("SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'rows'").fetchone()
    assert row is not None
    return row[0], row[1]
