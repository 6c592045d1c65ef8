"""Physical erasure: recorded when a vacuum has left nothing, and only then (hard case 18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres import reclaim as reclaim_module
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.partitions import vacuum
from lifecycle.stores.postgres.physical import facts, last_deletion
from lifecycle.stores.postgres.reclaim import _SPOTLESS, _Said, note_deleted, reclaim, reclaim_pending
from support.servers import fresh_database, with_database
from support.statistics import flush_statistics

TABLE = sql.Identifier("app", "feedback")
NAME = '"app"."feedback"'


@pytest.fixture(scope="module")
def conninfo(postgres_server: Postgres) -> Iterator[str]:
    with fresh_database(postgres_server) as name:
        yield with_database(postgres_server, name)


@pytest.fixture
def conn(conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("TRUNCATE app.feedback, lifecycle.physical_erasure")
        conn.execute(
            "INSERT INTO app.feedback (feedback_id, account_id, conversation_id, submitted_at, comment)"
            " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(), n::text"
            " FROM generate_series(1, 50) n"
        )
        yield conn


def reclaimed(conn: Connection) -> list[bool]:
    return [row[0] for row in conn.execute("SELECT reclaimed_at >= deleted_at FROM lifecycle.physical_erasure")]


def dead(conn: Connection) -> bool:
    """Whether the pages still have dead rows: asked of the files, not of statistics."""
    conn.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
    row = conn.execute("SELECT dead_tuple_count FROM pgstattuple('app.feedback')").fetchone()
    return row is not None and row[0] > 0


def has_pgstattuple(conn: Connection) -> bool:
    return bool(conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgstattuple'").fetchone())


def test_what_a_vacuum_removed_is_recorded_as_reclaimed(conn: Connection) -> None:
    conn.execute("DELETE FROM app.feedback")
    assert reclaim(conn, 1, "feedback", [TABLE])
    assert reclaimed(conn) == [True]
    assert not has_pgstattuple(conn) or not dead(conn)
    found = last_deletion(conn)
    assert found is not None and found.lsn is not None and found.tables_pending == 0


def test_an_old_snapshot_keeps_rows_and_nothing_is_recorded_until_it_has_ended(conn: Connection, conninfo: str) -> None:
    """Deleted is not erased: somebody can still read it."""
    with psycopg.connect(conninfo) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute("SELECT count(*) FROM app.feedback").fetchone() == (50,)
        conn.execute("DELETE FROM app.feedback")
        assert not reclaim(conn, 1, "feedback", [TABLE])
        assert reclaimed(conn) == [None]
        assert reclaim_pending(conn) == 1
        assert reader.execute("SELECT count(*) FROM app.feedback").fetchone() == (50,)
        seen, found = facts(conn), last_deletion(conn)
        assert seen.oldest_snapshot is not None and found is not None and found.tables_pending == 1
    assert reclaim_pending(conn) == 0
    assert reclaimed(conn) == [True]


def test_content_in_toast_counts_as_well(conn: Connection, conninfo: str) -> None:
    """The row's own page is clean, and its long text is not: the reader began between the two."""
    conn.execute("ALTER TABLE app.feedback ALTER comment SET STORAGE EXTERNAL")
    conn.execute("UPDATE app.feedback SET comment = repeat('x', 9000)")
    conn.execute("VACUUM app.feedback")
    with psycopg.connect(conninfo) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1").fetchone()
        conn.execute("DELETE FROM app.feedback")
        assert not reclaim(conn, 1, "feedback", [TABLE])
        flush_statistics(conn)
        toast = conn.execute(
            "SELECT s.n_dead_tup FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.reltoastrelid"
            " WHERE c.oid = 'app.feedback'::regclass"
        ).fetchone()
        assert toast is not None and toast[0] > 0
    assert reclaim(conn, 1, "feedback", [TABLE])


def test_a_table_whose_toast_was_not_vacuumed_is_not_spotless(conn: Connection) -> None:
    began = conn.execute("SELECT clock_timestamp()").fetchone()
    assert began is not None
    params = {"since": began[0], "relation": NAME}
    conn.execute("DELETE FROM app.feedback")
    flush_statistics(conn)
    conn.execute("VACUUM (PROCESS_TOAST FALSE) app.feedback")
    flush_statistics(conn)
    assert conn.execute(_SPOTLESS, params).fetchone() == (False,)
    conn.execute("VACUUM app.feedback")
    flush_statistics(conn)
    assert conn.execute(_SPOTLESS, params).fetchone() == (True,)


def test_a_later_vacuum_settles_what_earlier_runs_left(conn: Connection, conninfo: str) -> None:
    with psycopg.connect(conninfo) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1").fetchone()
        conn.execute("DELETE FROM app.feedback")
        reclaim(conn, 1, "feedback", [TABLE])
    assert reclaim(conn, 2, "feedback", [TABLE], deleted=False)
    assert reclaimed(conn) == [True]


def test_others_at_work_in_the_table_do_not_hide_that_ours_is_gone(conn: Connection, conninfo: str) -> None:
    """A busy table is never without dead rows; how far the vacuum got is what tells."""
    conn.execute("DELETE FROM app.feedback WHERE comment::int <= 25")
    note_deleted(conn, 1, "feedback", NAME)
    with psycopg.connect(conninfo) as busy:
        busy.execute("UPDATE app.feedback SET rating = 1")  # under way, and begun after ours had ended
        with psycopg.connect(conninfo, autocommit=True) as other:
            other.execute("DELETE FROM app.agreements")
        assert reclaim(conn, 2, "feedback", [TABLE], deleted=False)
        flush_statistics(busy)  # else the statistics come some time after the commit
    assert reclaimed(conn) == [True]
    stats = "SELECT n_dead_tup > 0 FROM pg_stat_user_tables WHERE relname = 'feedback'"
    assert conn.execute(stats).fetchone() == (True,), "the test saw a table without dead rows"


def test_a_transaction_older_than_ours_is_waited_for_a_little_and_not_believed_away(
    conn: Connection, conninfo: str
) -> None:
    with psycopg.connect(conninfo) as older:
        older.execute("UPDATE app.agreements SET category = 'x'")
        older.execute("SELECT pg_current_xact_id()").fetchone()
        conn.execute("DELETE FROM app.feedback")
        assert not reclaim(conn, 1, "feedback", [TABLE])
    assert reclaim_pending(conn) == 0


def test_what_a_vacuum_says_is_read_as_the_last_half_of_a_long_number() -> None:
    said = _Said(cutoffs=[5, 2**32 - 3])
    assert said.cutoff(2**32 + 10) == 2**32 - 3
    assert _Said(cutoffs=[7]).cutoff(3 * 2**32 + 7) == 3 * 2**32 + 7
    assert _Said().cutoff(10) is None
    assert _Said(cutoffs=[5], missed=True).cutoff(10) is None


def test_a_table_that_is_gone_holds_nothing(conn: Connection) -> None:
    conn.execute("CREATE TABLE app.short_lived (id int)")
    note_deleted(conn, 1, "u", '"app"."short_lived"')
    note_deleted(conn, 1, "swapped", '"app"."other"', dropped=True)
    conn.execute("DROP TABLE app.short_lived")
    assert reclaim_pending(conn) == 0
    assert reclaimed(conn) == [True, True]


@pytest.fixture
def bare(conn: Connection, conninfo: str) -> Iterator[Connection]:
    """A role that may delete, and neither vacuum nor see what others do."""
    name = f"bare_{uuid4().hex[:8]}"
    role = sql.Identifier(name)
    for statement in (
        "CREATE ROLE {} LOGIN PASSWORD 'x'",
        "GRANT USAGE ON SCHEMA app, lifecycle TO {}",
        "GRANT ALL ON lifecycle.physical_erasure TO {}",
        "GRANT SELECT, DELETE ON app.feedback TO {}",
    ):
        conn.execute(sql.SQL(statement).format(role))
    try:
        with psycopg.connect(conninfo, user=name, password="x", autocommit=True) as found:
            yield found
    finally:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(role))
        conn.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_vacuum_that_we_may_not_do_is_not_taken_for_done(conn: Connection, bare: Connection) -> None:
    """PostgreSQL only warns, and skips the table."""
    bare.execute("DELETE FROM app.feedback")
    assert not reclaim(bare, 1, "feedback", [TABLE])
    assert reclaimed(conn) == [None]


def test_what_a_role_may_not_see_is_unknown_and_raises_nothing(bare: Connection, conninfo: str) -> None:
    with psycopg.connect(conninfo):
        seen = facts(bare)
    assert seen.oldest_on_disk is None
    assert seen.hidden_sessions > 0
    assert seen.position is not None


def test_where_the_server_tells_everything(conn: Connection) -> None:
    """The oldest segment on disk begins at or before the last checkpoint's redo, and the log has gone on since."""
    seen = facts(conn)
    assert seen.oldest_on_disk is not None and seen.redo is not None and seen.position is not None
    assert seen.oldest_on_disk <= seen.redo <= seen.position
    assert (seen.slots, seen.replicas, seen.hidden_sessions) == ((), 0, 0)


def few_rows(conn: Connection) -> None:
    """So few that reading a page does not clean it up on the way."""
    conn.execute("DELETE FROM app.feedback WHERE comment::int > 10")
    conn.execute("VACUUM app.feedback")


@contextmanager
def page_in_use(conninfo: str) -> Iterator[Callable[[], None]]:
    """A reader that began after the deletion and stands on a page: it can see nothing deleted, and keeps the page."""
    with psycopg.connect(conninfo) as reader:
        reader.execute("DECLARE standing CURSOR FOR SELECT * FROM app.feedback")
        reader.execute("FETCH 1 FROM standing")
        yield reader.rollback


def test_a_page_in_use_is_left_by_the_vacuum_and_nothing_is_recorded(conn: Connection, conninfo: str) -> None:
    few_rows(conn)
    conn.execute("DELETE FROM app.feedback WHERE comment::int > 5")
    with page_in_use(conninfo):
        assert not reclaim(conn, 1, "feedback", [TABLE])
        assert reclaimed(conn) == [None]
    assert reclaim_pending(conn) == 0


def test_what_traffic_kept_from_the_first_pass_is_recorded_by_the_same_call(
    conn: Connection, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under steady traffic some page is always in use, and never the same one: passes go on for as long as one took."""
    few_rows(conn)
    conn.execute("DELETE FROM app.feedback WHERE comment::int > 5")
    monkeypatch.setattr(reclaim_module, "PATIENCE_SECONDS", 30.0)
    passes: list[int] = []
    with page_in_use(conninfo) as goes_on:

        def counted(conn: Connection, tables: Sequence[sql.Identifier]) -> None:
            passes.append(len(passes))
            vacuum(conn, tables)
            goes_on()

        monkeypatch.setattr(reclaim_module, "vacuum", counted)
        assert reclaim(conn, 1, "feedback", [TABLE])
    assert len(passes) == 2
    assert reclaimed(conn) == [True]


def test_a_statement_that_outlasts_the_first_pass_is_waited_for(
    conn: Connection, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report, or an ANALYZE by the server itself, that began before the deletion and ends while we vacuum."""
    with psycopg.connect(conninfo) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1").fetchone()
        conn.execute("DELETE FROM app.feedback")
        passes: list[int] = []

        def counted(conn: Connection, tables: Sequence[sql.Identifier]) -> None:
            passes.append(len(passes))
            vacuum(conn, tables)
            reader.rollback()

        monkeypatch.setattr(reclaim_module, "vacuum", counted)
        assert reclaim(conn, 1, "feedback", [TABLE])
    assert len(passes) == 2


def test_the_few_index_entries_that_postgresql_would_leave_are_taken_out(conn: Connection) -> None:
    """They hold the key's content; below 2% of the pages PostgreSQL leaves them by itself."""
    said: list[str] = []
    conn.execute("CREATE TABLE app.wide (id int PRIMARY KEY, word text) WITH (autovacuum_enabled = false)")
    conn.execute("INSERT INTO app.wide SELECT n, repeat('x', 900) FROM generate_series(1, 3000) n")
    conn.execute("VACUUM app.wide")
    conn.add_notice_handler(lambda notice: said.append(f"{notice.message_primary} {notice.message_detail}"))
    try:
        for number, how in enumerate((lambda: conn.execute("VACUUM (VERBOSE) app.wide"), _reclaim_wide(conn))):
            conn.execute("DELETE FROM app.wide WHERE id = %s", (1000 + number,))
            how()
    finally:
        conn.execute("DROP TABLE app.wide")
    whole = "\n".join(said)
    assert whole.count("index scan bypassed") == 1, whole
    assert "index scan needed" in whole.partition("index scan bypassed")[2]


def _reclaim_wide(conn: Connection) -> Callable[[], object]:
    return lambda: reclaim(conn, 1, "wide", [sql.Identifier("app", "wide")])


@pytest.mark.parametrize(("setting", "shrinks"), [("true", True), ("false", False)])
def test_the_end_of_a_table_is_given_back_unless_its_owner_said_not_to(
    conn: Connection, setting: str, shrinks: bool
) -> None:
    """Giving it back takes a lock that replicas repeat; PostgreSQL has a setting for that, which counts for us too."""
    size = "SELECT pg_relation_size('app.feedback')"
    conn.execute(sql.SQL("ALTER TABLE app.feedback SET (vacuum_truncate = {})").format(sql.SQL(setting)))
    before = conn.execute(size).fetchone()
    conn.execute("DELETE FROM app.feedback")
    assert reclaim(conn, 1, "feedback", [TABLE])
    assert (conn.execute(size).fetchone() != before) is shrinks
    conn.execute("ALTER TABLE app.feedback RESET (vacuum_truncate)")


def test_a_table_that_somebody_works_in_does_not_fail_the_unit(conn: Connection, conninfo: str) -> None:
    """Autovacuum, or DDL, while our role has a lock_timeout of its own: what was deleted stays on the list."""
    conn.execute("ANALYZE app.feedback")
    conn.execute("DELETE FROM app.feedback")
    conn.execute("SET lock_timeout = '50ms'")
    with psycopg.connect(conninfo) as other:
        other.execute("LOCK TABLE app.feedback IN SHARE UPDATE EXCLUSIVE MODE")
        assert not reclaim(conn, 1, "feedback", [TABLE])
        assert reclaimed(conn) == [None]
    assert reclaim_pending(conn) == 0
