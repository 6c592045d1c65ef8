"""A partition that was swapped is the partition that it was, but for the rows that went (case 12)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import unified_diff
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.swap import NotSwappableError, keep_still, swap_in
from lifecycle.stores.postgres.tree import Partition
from support.catalogue import dumped, scratch_database

NASTY = Path(__file__).with_name("nasty.sql").read_text(encoding="utf-8")
START = datetime(2026, 1, 1, tzinfo=UTC)
GOLD = Partition("shop", "Gold 1", "mess_gold", START, START + timedelta(days=1), parent_schema="shop")
EVERY_TENTH = sql.SQL("(m.id %% 10 = 0 OR m.id = 1)")


@pytest.fixture(scope="module")
def nasty(postgres_server: Postgres) -> Iterator[tuple[str, Connection]]:
    """A database with a partition that has one of everything. Each test swaps it once more."""
    with scratch_database(postgres_server) as conninfo, psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(of_this_version(conn, NASTY).encode())
        yield conninfo, conn
        conn.execute(
            "DROP SCHEMA shop CASCADE; DROP PUBLICATION nasty_pub;"
            " DROP ROLE nasty_owner; DROP ROLE nasty_reader; DROP ROLE nasty_writer"
        )


def of_this_version(conn: Connection, script: str) -> str:
    """Without what PostgreSQL 14 does not have."""
    if conn.info.server_version >= 150000:
        return script
    script = script.replace("NULLS NOT DISTINCT", "")
    return re.sub(r"(CREATE PUBLICATION nasty_pub FOR TABLE [^(]*)\(.*;", r"\1;", script)


def swap(conn: Connection, keep: sql.Composable = EVERY_TENTH) -> int:
    with conn.transaction():
        keep_still(conn, GOLD)
        return swap_in(conn, GOLD, keep, {})


def difference(before: list[str], after: list[str]) -> str:
    return "\n".join(unified_diff(before, after, lineterm="", n=3))


def test_the_definition_of_a_swapped_partition_is_what_it_was(nasty: tuple[str, Connection]) -> None:
    """Case 12: columns, constraints, indexes, statistics, triggers, policies, grants, comments, publication, all."""
    conninfo, conn = nasty
    before = dumped(conninfo)
    assert sum("Gold 1" in line for line in before) > 60, "the partition has lost what makes the test worth it"
    oid = conn.execute("""SELECT 'shop."Gold 1"'::regclass::oid""").fetchone()
    kept = swap(conn)
    assert oid != conn.execute("""SELECT 'shop."Gold 1"'::regclass::oid""").fetchone()
    assert kept > 0
    assert difference(before, dumped(conninfo)) == ""


def test_rows_are_carried_by_the_names_of_their_columns(nasty: tuple[str, Connection]) -> None:
    """Generated columns are computed anew, identity values stay, and what a NOT VALID check would refuse stays too."""
    _, conn = nasty
    query = (
        """SELECT id, at, body, size, owner_id, note FROM shop."Mess ages" WHERE id % 100 = 0 OR id = 1 ORDER BY id"""
    )
    before = conn.execute(query.encode()).fetchall()
    assert before[0][0] == 1, "the row that 'later only' would refuse is not there"
    swap(conn, sql.SQL("(m.id %% 100 = 0 OR m.id = 1)"))
    assert conn.execute(query.encode()).fetchall() == before
    assert conn.execute("""SELECT count(*) FROM shop."Mess ages" """).fetchone() == (len(before),)


def test_a_row_written_after_a_swap_goes_on_where_the_identity_stood(nasty: tuple[str, Connection]) -> None:
    _, conn = nasty
    insert = """INSERT INTO shop."Mess ages" ("Tier", at, note, owner_id) VALUES ('gold', '2026-01-01 12:00+00', 'x', 1)
                RETURNING id"""
    (first,) = conn.execute(insert.encode()).fetchone() or (0,)
    swap(conn, sql.SQL("true"))
    (second,) = conn.execute(insert.encode()).fetchone() or (0,)
    assert second == first + 1


def test_no_trigger_fires_for_rows_that_are_carried_over(nasty: tuple[str, Connection]) -> None:
    _, conn = nasty
    with conn.transaction(force_rollback=True):
        conn.execute(
            "CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;"
            """CREATE TRIGGER refuses BEFORE INSERT OR DELETE ON shop."Gold 1"
               FOR EACH ROW EXECUTE FUNCTION shop.refuse()"""
        )
        swap(conn, sql.SQL("true"))


def test_what_is_made_from_the_partition_itself_is_named_and_nothing_is_changed(nasty: tuple[str, Connection]) -> None:
    """A view on the partition would not let it be dropped; one on its parent does not matter."""
    conninfo, conn = nasty
    conn.execute("""CREATE VIEW shop.on_parent AS SELECT * FROM shop."Mess ages";
                    CREATE VIEW shop.on_gold AS SELECT id FROM shop."Gold 1" """)
    try:
        before = dumped(conninfo)
        with pytest.raises(NotSwappableError, match=r"view shop.on_gold") as caught:
            swap(conn)
        assert caught.value.holders == ("view shop.on_gold",)
        assert difference(before, dumped(conninfo)) == ""
        conn.execute("DROP VIEW shop.on_gold")
        swap(conn)
    finally:
        conn.execute("DROP VIEW IF EXISTS shop.on_gold; DROP VIEW shop.on_parent")


def test_row_security_that_would_hide_rows_is_an_error_and_never_a_loss(nasty: tuple[str, Connection]) -> None:
    """An owner who is subject to the table's policies sees a part of it: swapping that part would destroy the rest."""
    _, conn = nasty
    (before,) = conn.execute("""SELECT count(*) FROM shop."Gold 1" """).fetchone() or (0,)
    with conn.transaction(force_rollback=True):
        conn.execute(
            """GRANT ALL ON SCHEMA lifecycle TO nasty_owner; ALTER TABLE shop.mess_gold OWNER TO nasty_owner;
               GRANT SELECT ON shop.owners, shop."Mess ages" TO nasty_owner;
               ALTER TABLE shop."Gold 1" FORCE ROW LEVEL SECURITY; SET LOCAL ROLE nasty_owner"""
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"), conn.transaction():
            swap(conn, sql.SQL("true"))
        conn.execute("RESET ROLE")
        assert conn.execute("""SELECT count(*) FROM shop."Gold 1" """).fetchone() == (before,)


def test_a_partition_without_survivors_is_dropped(nasty: tuple[str, Connection]) -> None:
    _, conn = nasty
    with conn.transaction(force_rollback=True):
        assert swap(conn, sql.SQL("false")) == 0
        assert conn.execute("""SELECT to_regclass('shop."Gold 1"')""").fetchone() == (None,)
