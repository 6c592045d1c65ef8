"""Sessions of a process that takes many steps: used again, and each time as good as new."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import psycopg
import pytest

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.connect import Connection, connect, one, sessions_reused
from support.servers import fresh_database

TARGET = "AIRFLOW_CONN_LIFECYCLE_POSTGRES"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def database(postgres_server: Postgres) -> Iterator[str]:
    with fresh_database(postgres_server) as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv(TARGET, json.dumps(postgres_server.airflow_connection(name)))
        yield name


@pytest.fixture
def reused(database: str) -> Iterator[None]:
    with sessions_reused():
        yield


def backend() -> int:
    with connect() as conn:
        return conn.info.backend_pid


def leave_traces(conn: Connection) -> None:
    conn.execute("SELECT pg_advisory_lock(27)")
    conn.execute("SET statement_timeout = '1s'")
    conn.execute("SET TimeZone = 'Asia/Tokyo'")
    conn.execute("CREATE TEMPORARY TABLE of_the_step_before (id int)")
    conn.execute("LISTEN something")
    for _ in range(10):  # often enough to be prepared, where anything is
        conn.execute("SELECT %s::int", (1,))


def test_every_connection_is_a_new_session_by_itself(database: str) -> None:
    with connect() as one_session, connect() as other:
        assert one_session.info.backend_pid != other.info.backend_pid
    assert one_session.closed


def test_no_setting_of_a_role_or_database_changes_what_a_session_reads(database: str) -> None:
    """Another schema before PostgreSQL's own, with another `lower` in it, would make a hold that nobody finds."""
    hostile = {
        "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "extra_float_digits": "-15", "bytea_output": "escape",
        "quote_all_identifiers": "on", "array_nulls": "off", "transform_null_equals": "on", "row_security": "on",
        "default_transaction_isolation": "serializable", "TimeZone": "Asia/Tokyo",
    }  # fmt: skip
    with connect() as conn:
        conn.execute("CREATE SCHEMA ahead")
        conn.execute("CREATE FUNCTION ahead.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'other' $$")
        for name, value in hostile.items():
            conn.execute(f"ALTER DATABASE {database} SET {name} = '{value}'".encode())
        conn.execute(f"ALTER DATABASE {database} SET search_path = ahead, pg_catalog".encode())
    try:
        with connect() as conn:
            assert not {name for name, value in hostile.items() if one(conn, f"SHOW {name}".encode()) == value}
            assert one(conn, "SELECT lower('A'::text)") == "a"
            assert one(conn, "SHOW search_path") == "pg_catalog, ahead, pg_catalog"
    finally:
        with connect() as conn:
            conn.execute(f"ALTER DATABASE {database} RESET ALL".encode())


@pytest.mark.usefixtures("reused")
def test_the_next_step_has_the_same_session_and_nothing_of_the_step_before() -> None:
    with connect() as conn:
        leave_traces(conn)
        before = conn.info.backend_pid
    with connect() as conn:
        # Before 15 a new session is the rule.
        assert (conn.info.backend_pid == before) == (conn.info.server_version >= 150000)
        assert one(conn, LOCKS) == 0
        assert one(conn, "SHOW statement_timeout") == "0"
        assert (one(conn, "SHOW TimeZone"), one(conn, "SHOW application_name")) == ("UTC", "lifecycle")
        assert one(conn, "SELECT to_regclass('of_the_step_before')") is None
        assert one(conn, "SELECT count(*) FROM pg_listening_channels()") == 0
        for _ in range(10):
            conn.execute("SELECT %s::int", (1,))


@pytest.mark.usefixtures("reused")
def test_two_at_once_are_two_sessions() -> None:
    with connect() as conn, connect() as other:
        assert conn.info.backend_pid != other.info.backend_pid


@pytest.mark.usefixtures("reused")
def test_a_step_that_fails_ends_its_session_and_its_transaction() -> None:
    with pytest.raises(ZeroDivisionError), connect() as conn, conn.transaction():
        conn.execute("CREATE TABLE app.half_done (id int)")
        raise ZeroDivisionError
    assert conn.closed
    with connect() as conn:
        assert one(conn, "SELECT to_regclass('app.half_done')") is None


@pytest.mark.usefixtures("reused")
def test_a_session_that_somebody_ended_is_replaced(postgres_server: Postgres) -> None:
    ended = backend()
    with psycopg.connect(postgres_server.conninfo(), autocommit=True) as admin:
        assert admin.execute("SELECT pg_terminate_backend(%s, 20000)", (ended,)).fetchone() == (True,)
    assert backend() != ended


@pytest.mark.usefixtures("reused")
def test_what_is_deleted_in_one_step_is_counted_for_the_next() -> None:
    """Without asking for it, statistics of a session that goes on come up to a minute later."""
    with connect() as conn:
        conn.execute("CREATE TABLE app.counted AS SELECT generate_series(1, 10) AS id")
    with connect() as conn:
        conn.execute("DELETE FROM app.counted")
    with connect() as conn:
        assert one(conn, "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'app.counted'::regclass") == 10


@pytest.mark.usefixtures("reused")
def test_another_target_is_another_session(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    backend()
    monkeypatch.setenv(TARGET, json.dumps(postgres_server.airflow_connection("postgres")))
    with connect() as conn:
        assert conn.info.dbname == "postgres"


@pytest.mark.usefixtures("reused")
def test_another_thread_has_sessions_of_its_own() -> None:
    mine, theirs = backend(), list[int]()
    thread = threading.Thread(target=lambda: theirs.append(backend()))
    thread.start()
    thread.join(timeout=60)
    assert len(theirs) == 1
    assert mine not in theirs


def test_nothing_stays_open_after_the_block(database: str) -> None:
    with sessions_reused(), connect() as conn:
        pass
    assert conn.closed
