"""What `test_clone` leaves out of a partition's definition: its place, its storage, who gave which right (case 12)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import unified_diff
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.clone import CloneError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.swap import keep_still, swap_in
from lifecycle.stores.postgres.tree import Partition
from support.catalogue import dumped, scratch_database

NASTIER = Path(__file__).with_name("nastier.sql").read_text(encoding="utf-8")
# What PostgreSQL 18 is the first to have.
OF_18 = """
ALTER TABLE mart.events ADD twice int GENERATED ALWAYS AS (tenant * 2) VIRTUAL;
ALTER TABLE parts."Day one" ADD CONSTRAINT "not enforced" CHECK (points > 500) NOT ENFORCED,
    ADD CONSTRAINT "body later" NOT NULL body NOT VALID,
    ADD CONSTRAINT "known somewhere" FOREIGN KEY (points, region) REFERENCES mart.tenants NOT ENFORCED;
"""
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_ONE = Partition("parts", "Day one", "events_gold", START, START + timedelta(days=1), parent_schema="mart")
ROLES = ("owner", "reader", "writer", "friend", "runner")


@pytest.fixture(scope="module")
def nastier(postgres_server: Postgres) -> Iterator[tuple[str, Connection]]:
    """A database with a partition that has one of everything else. Each test swaps it once more."""
    with scratch_database(postgres_server) as conninfo, psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET allow_in_place_tablespaces = on")
        conn.execute("CREATE TABLESPACE nastier_space LOCATION ''")
        try:
            conn.execute(NASTIER.encode())
            if conn.info.server_version >= 180000:
                conn.execute(OF_18.encode())
            yield conninfo, conn
        finally:
            conn.execute("DROP SCHEMA IF EXISTS mart, parts, other CASCADE")
            for role in ROLES:
                conn.execute(f"DROP OWNED BY nastier_{role} CASCADE; DROP ROLE nastier_{role}".encode())
            conn.execute("DROP TABLESPACE nastier_space")


def swap(conn: Connection, keep: str = "m.tenant = 1") -> int:
    with conn.transaction():
        keep_still(conn, DAY_ONE)
        return swap_in(conn, DAY_ONE, sql.SQL(keep), {})


def oid(conn: Connection) -> tuple[int, ...] | None:
    return conn.execute("""SELECT 'parts."Day one"'::regclass::oid""").fetchone()


def test_where_it_lies_how_it_is_stored_and_who_gave_which_right_is_what_it_was(
    nastier: tuple[str, Connection],
) -> None:
    """Case 12: tablespaces, access method, every kind of index, publications with and without columns, grantors."""
    conninfo, conn = nastier
    before, old = dumped(conninfo), oid(conn)
    for line in (
        "SET default_tablespace = nastier_space;",
        "SET default_table_access_method = heap_too;",
        "SET SESSION AUTHORIZATION nastier_writer;",
        'ALTER PUBLICATION nastier_part ADD TABLE ONLY parts."Day one";',
        'ALTER SEQUENCE parts."Own line" OWNED BY parts."Day one".points;',
    ):
        assert line in before, "the partition has lost what makes the test worth it"
    kept = swap(conn)
    assert (kept > 0, oid(conn) != old) == (True, True)
    assert "\n".join(unified_diff(before, dumped(conninfo), lineterm="", n=3)) == ""


def test_a_number_of_its_own_goes_on_where_it_stood(nastier: tuple[str, Connection]) -> None:
    _, conn = nastier
    write = """INSERT INTO parts."Day one" (tier, at, tenant, body) VALUES ('gold', '2026-01-01', 1, '{}')
               RETURNING points"""
    (first,) = conn.execute(write.encode()).fetchone() or (0,)
    swap(conn)
    (second,) = conn.execute(write.encode()).fetchone() or (0,)
    assert second == first + 7


def test_a_right_given_by_somebody_for_whom_we_may_not_act_is_not_given_by_us_instead(
    nastier: tuple[str, Connection],
) -> None:
    """Else it would outlive the right of who gave it. Nor is a publication left that is not ours to change.

    The rows can still be taken out one by one."""
    _, conn = nastier
    with conn.transaction(force_rollback=True):
        conn.execute(
            """GRANT nastier_owner TO nastier_runner;
               GRANT ALL ON SCHEMA lifecycle, mart, parts, other TO nastier_owner, nastier_runner;
               GRANT CREATE ON TABLESPACE nastier_space TO nastier_runner;
               ALTER TABLE mart.events_gold OWNER TO nastier_owner;
               ALTER TABLE mart.events_rest OWNER TO nastier_owner;
               GRANT SELECT ON mart.events TO nastier_runner;
               GRANT REFERENCES ON mart.tenants TO nastier_owner, nastier_runner;
               ALTER TABLE parts."Day one" NO FORCE ROW LEVEL SECURITY"""
        )
        old = oid(conn)
        conn.execute("SET SESSION AUTHORIZATION nastier_runner")
        with pytest.raises(CloneError, match="must be owner of publication nastier_part"), conn.transaction():
            swap(conn)
        conn.execute("RESET SESSION AUTHORIZATION; DROP PUBLICATION nastier_part")
        conn.execute("SET SESSION AUTHORIZATION nastier_runner")
        with pytest.raises(CloneError, match="given by a role for which this one may not act"), conn.transaction():
            swap(conn)
        conn.execute("RESET SESSION AUTHORIZATION")
        assert oid(conn) == old


def test_a_security_label_is_never_lost_in_silence(nastier: tuple[str, Connection]) -> None:
    """No provider of labels is loaded here, so the server says what it was told: that is the label."""
    _, conn = nastier
    with conn.transaction(force_rollback=True):
        conn.execute(
            "SET LOCAL allow_system_table_mods = on;"
            """INSERT INTO pg_seclabel VALUES ('parts."Day one"'::regclass, 'pg_class'::regclass, 0, 'own', 'secret')"""
        )
        with pytest.raises(psycopg.Error, match='provider "own" is not loaded'), conn.transaction():
            swap(conn)


def test_rows_are_not_read_once_more_while_the_tables_are_locked(nastier: tuple[str, Connection]) -> None:
    """Issue 4: the locked moment costs what the catalogue costs. PostgreSQL says so where it need not look at rows."""
    _, conn = nastier
    said: list[str] = []

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        said.append(notice.message_primary or "")

    conn.add_notice_handler(listen)
    conn.execute("SET client_min_messages = debug1")
    try:
        swap(conn)
    finally:
        conn.execute("RESET client_min_messages")
        conn.remove_notice_handler(listen)
    assert 'partition constraint for table "Day one" is implied by existing constraints' in said
