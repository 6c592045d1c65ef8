"""What is left of deleted rows where no vacuum looks: column statistics, and bytes in free space (hard case 18)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.planning.physical import Facts, outlook
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.physical import facts, last_deletion
from lifecycle.stores.postgres.reclaim import note_deleted, reclaim
from lifecycle.stores.postgres.samples import renew_above, stale
from support.servers import fresh_database, with_database

TABLE = sql.Identifier("app", "notes")
NAME = '"app"."notes"'
ROOT = '"app"."days"'
SHOWN = "SELECT count(*) FROM pg_stats WHERE schemaname = 'app' AND histogram_bounds::text LIKE %s"


@pytest.fixture(scope="module")
def conninfo(postgres_server: Postgres) -> Iterator[str]:
    with fresh_database(postgres_server) as name:
        yield with_database(postgres_server, name)


@pytest.fixture
def conn(conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("TRUNCATE lifecycle.physical_erasure")
        conn.execute("DROP TABLE IF EXISTS app.notes, app.days")
        conn.execute("CREATE TABLE app.notes (id int PRIMARY KEY, word text) WITH (autovacuum_enabled = false)")
        conn.execute("CREATE INDEX ON app.notes (word)")
        conn.execute("INSERT INTO app.notes SELECT n, 'secret' || n FROM generate_series(1, 500) n")
        conn.execute("INSERT INTO app.notes SELECT n, 'public' || n FROM generate_series(501, 1000) n")
        conn.execute("ANALYZE app.notes")
        yield conn


def shown(conn: Connection) -> bool:
    return bool(one(conn, SHOWN, ("%secret%",)))


def test_statistics_do_not_show_what_was_taken_out(conn: Connection) -> None:
    assert shown(conn)
    conn.execute("DELETE FROM app.notes WHERE id <= 500")
    note_deleted(conn, 1, "notes", NAME)
    found = last_deletion(conn)
    assert found is not None and found.sampled == 1
    assert reclaim(conn, 1, "notes", [TABLE])
    assert not shown(conn)
    assert stale(conn, []) == []


def test_nor_what_was_emptied(conn: Connection) -> None:
    conn.execute("UPDATE app.notes SET word = NULL WHERE id <= 500")
    assert reclaim(conn, 1, "notes", [TABLE])
    assert not shown(conn)


def test_an_analyze_of_an_empty_table_changes_nothing_and_is_not_believed(conn: Connection) -> None:
    conn.execute("DELETE FROM app.notes")
    note_deleted(conn, 1, "notes", NAME)
    conn.execute("VACUUM (ANALYZE) app.notes")
    assert shown(conn)
    assert [inherited for _, inherited in stale(conn, [])] == [False]
    assert reclaim(conn, 1, "notes", [TABLE])
    can_clear = conn.info.server_version >= 180_000
    assert shown(conn) is not can_clear
    assert (stale(conn, []) == []) is can_clear, "before 18 nothing clears them, and it is said"


def test_a_partition_that_went_is_in_its_parents_statistics_until_they_are_taken_again(conn: Connection) -> None:
    """Autovacuum analyses no partitioned table."""
    conn.execute("CREATE TABLE app.days (id int, word text) PARTITION BY RANGE (id)")
    conn.execute("CREATE TABLE app.days_1 PARTITION OF app.days FOR VALUES FROM (0) TO (1000)")
    conn.execute("CREATE TABLE app.days_2 PARTITION OF app.days FOR VALUES FROM (1000) TO (2000)")
    conn.execute(
        "INSERT INTO app.days SELECT n, CASE WHEN n < 1000 THEN 'secret' ELSE 'public' END || n"
        " FROM generate_series(1, 1999) n"
    )
    conn.execute("ANALYZE app.days")
    conn.execute("DROP TABLE app.days_1, app.notes")
    note_deleted(conn, 1, "days_1", '"app"."days_1"', dropped=True)
    assert shown(conn)
    found = last_deletion(conn, [ROOT])
    assert found is not None and found.sampled == 1
    assert outlook(facts(conn), found, Period()).unreachable is False
    can_renew = conn.info.server_version >= 180_000
    assert renew_above(conn, [ROOT]) == can_renew
    if not can_renew:
        conn.execute("ANALYZE app.days")
    assert not shown(conn)
    assert stale(conn, [ROOT]) == []


def bytes_of(conn: Connection, *relations: str) -> bytes:
    """What the files of tables and indexes hold on disk."""
    conn.execute("CHECKPOINT")
    folder = Path(one(conn, "SHOW data_directory"))
    paths = [one(conn, "SELECT pg_relation_filepath(%s)", (name,)) for name in relations]
    return b"".join((folder / path).read_bytes() for path in paths)


def test_a_vacuum_leaves_bytes_in_the_file_and_a_rewrite_does_not_and_we_say_which(conn: Connection) -> None:
    """ "Erased" is said when the file that had the bytes is gone, not when a vacuum has freed them."""
    conn.execute("DELETE FROM app.notes WHERE id <= 500")
    assert reclaim(conn, 1, "notes", [TABLE])
    files = ("app.notes", "app.notes_word_idx")
    assert b"secret" in bytes_of(conn, *files), "VACUUM overwrites: then this is all too careful"
    found = last_deletion(conn)
    assert found is not None and (found.tables_pending, found.free_space) == (0, 1)
    quiet = Facts(now=facts(conn).now, position=found.lsn, oldest_on_disk=found.lsn)
    freed = outlook(quiet, found, Period())
    assert (freed.unreachable, freed.erased) == (True, False)
    conn.execute("VACUUM FULL app.notes")
    assert b"secret" not in bytes_of(conn, *files)
    found = last_deletion(conn)
    assert found is not None and found.free_space == 0
    assert outlook(quiet, found, Period()).erased


def test_a_table_that_went_has_no_free_space(conn: Connection) -> None:
    note_deleted(conn, 1, "notes", NAME, dropped=True)
    conn.execute("INSERT INTO lifecycle.physical_erasure VALUES (2, 'u', '\"app\".\"gone\"', now(), NULL, '1', now())")
    found = last_deletion(conn)
    assert found is not None and found.free_space == 0
    conn.execute("UPDATE lifecycle.physical_erasure SET filenode = NULL")
    unknown = last_deletion(conn)
    assert unknown is not None and unknown.free_space == 1, "recorded by an older version: nobody can tell"


def test_a_table_that_took_the_place_of_another_has_statistics_of_its_own(conn: Connection) -> None:
    """A swapped partition is analysed before its predecessor goes, and the ledger knows both by one name."""
    note_deleted(conn, 1, "notes", NAME, dropped=True)
    assert shown(conn)
    assert stale(conn, []) == []
