"""Others in the same database: readers with an old view, sessions that hold locks, people who change the table."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.errors import PreconditionError, VerificationError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.convert import advance
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.layout import Interval
from lifecycle.stores.postgres.online.locks import Patience, TableBusyError
from lifecycle.stores.postgres.online.refusals import CannotPartitionError
from lifecycle.stores.postgres.online.state import Phase, open_partitioning
from lifecycle.stores.postgres.online.switch import revert
from lifecycle.stores.postgres.online.work import StructureChangedError
from support.online import begin, connected, convert, layout_of, plain_table, rows_of, work_on

HASTY = Patience(lock_ms=100, seconds=0.5)
PATIENT = Patience(lock_ms=200, seconds=20)


def half_way(conn: Connection, table: Name, upto: Phase, rows: int = 60) -> str:
    plain_table(conn, table, rows)
    advance(work_on(conn), begin(work_on(conn), layout_of(table, interval=Interval.MONTH)), upto=upto)
    return table.identifier.as_string(conn)


def go_on(conn: Connection, table: Name, patience: Patience = PATIENT) -> Phase:
    found = open_partitioning(conn, table)
    assert found is not None
    return advance(work_on(conn, patience=patience), found).phase


def test_it_waits_for_whoever_still_sees_the_table_before_the_copy(
    conn: Connection, conninfo: str, table: Name
) -> None:
    """Their snapshot shows none of the copied rows: after a switch they would find the table empty."""
    t = half_way(conn, table, Phase.MIRRORED)
    with connected(conninfo) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with reader.transaction():
            reader.execute("SELECT 1")
            with pytest.raises(TableBusyError, match="1 transaction"):
                go_on(conn, table, patience=HASTY)
            assert reader.execute(f"SELECT count(*) FROM {t}".encode()).fetchone() == (60,)
    assert go_on(conn, table) is Phase.SWITCHED


def test_who_idles_in_a_transaction_without_a_snapshot_is_not_waited_for(
    conn: Connection, conninfo: str, table: Name
) -> None:
    half_way(conn, table, Phase.MIRRORED)
    with connected(conninfo) as idle, idle.transaction():
        idle.execute("SELECT 1")
        assert go_on(conn, table, patience=Patience(lock_ms=200, seconds=5)) is Phase.SWITCHED


def test_nobody_queues_behind_a_lock_that_is_not_to_be_had(conn: Connection, conninfo: str, table: Name) -> None:
    """Case 19: a long reader keeps the switch waiting; meanwhile other statements wait one try, not for the reader."""
    t = half_way(conn, table, Phase.VERIFIED)
    waited: list[float] = []
    done = threading.Event()

    def others() -> None:
        with connected(conninfo) as other:
            while not done.is_set():
                began = time.monotonic()
                other.execute(f"UPDATE {t} SET body = body WHERE id = 7".encode())
                waited.append(time.monotonic() - began)

    thread = threading.Thread(target=others)
    with connected(conninfo) as reader, reader.transaction():
        reader.execute(f"SELECT 1 FROM {t} LIMIT 1".encode())
        thread.start()
        try:
            with pytest.raises(TableBusyError, match=rf"session {reader.info.backend_pid} of .*--resume"):
                go_on(conn, table, patience=Patience(lock_ms=100, seconds=4))
        finally:
            done.set()
            thread.join(timeout=30)
    assert len(waited) > 3 and max(waited) < 3, "one try of 0.1 s, with much room for a busy machine"
    assert go_on(conn, table) is Phase.SWITCHED


def test_a_delete_by_an_old_snapshot_leaves_no_ghost(conn: Connection, conninfo: str, table: Name) -> None:
    """It cannot see the copy of its row. It fails as conflicts fail, and the copy does not outlive the row."""
    t = half_way(conn, table, Phase.MIRRORED)
    with connected(conninfo) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.errors.SerializationFailure), old.transaction():
            old.execute("SELECT 1 FROM pg_class LIMIT 1")
            found = open_partitioning(conn, table)
            assert found is not None
            advance(work_on(conn), found, upto=Phase.COPIED)
            old.execute(f"DELETE FROM {t} WHERE id = 7".encode())
        with old.transaction():
            old.execute(f"DELETE FROM {t} WHERE id = 7".encode())
    assert go_on(conn, table) is Phase.SWITCHED
    assert len(rows_of(conn, table)) == 59


def test_a_changed_table_is_not_switched(conn: Connection, table: Name) -> None:
    t = half_way(conn, table, Phase.VERIFIED)
    conn.execute(f"ALTER TABLE {t} ADD COLUMN more int".encode())
    with pytest.raises(StructureChangedError, match="--revert"):
        go_on(conn, table)
    found = open_partitioning(conn, table)
    assert found is not None
    revert(work_on(conn), found)
    assert [len(row) for row in rows_of(conn, table)] == [5] * 60


def test_what_came_to_hang_on_it_meanwhile_is_carried_or_refused(conn: Connection, table: Name) -> None:
    t = half_way(conn, table, Phase.VERIFIED)
    view, made = (table.sibling(name).identifier.as_string(conn) for name in ("late", "made"))
    conn.execute(f"CREATE VIEW {view} AS SELECT id FROM {t}; CREATE MATERIALIZED VIEW {made} AS TABLE {t}".encode())
    with pytest.raises(CannotPartitionError, match="materialized view"):
        go_on(conn, table)
    conn.execute(f"DROP MATERIALIZED VIEW {made}".encode())
    assert go_on(conn, table) is Phase.SWITCHED
    conn.execute(f"INSERT INTO {t} VALUES (999, 'beta', '2026-06-09', '')".encode())
    assert conn.execute(f"SELECT count(*) FROM {view}".encode()).fetchone() == (61,)


def test_a_change_past_the_mirror_is_found_before_the_switch(conn: Connection, table: Name) -> None:
    """Case 17: the source goes only after the comparison."""
    t = half_way(conn, table, Phase.COPIED)
    conn.execute(f'ALTER TABLE {t} DISABLE TRIGGER "!lifecycle_mirror"'.encode())
    conn.execute(f"UPDATE {t} SET body = 'other' WHERE id = 7".encode())
    with pytest.raises(VerificationError, match="60 rows against 60"):
        go_on(conn, table)
    assert rows_of(conn, table)[6][3] == "other"


def test_triggers_that_write_the_same_rows_again_are_mirrored_in_the_end(conn: Connection, table: Name) -> None:
    """A statement changes two rows; a trigger of the first changes the second once more before its own event fires."""
    t = half_way(conn, table, Phase.MIRRORED)
    function = table.sibling("again").identifier.as_string(conn)
    conn.execute(
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.id = 7 AND NEW.body = 'first' THEN UPDATE {t} SET body = 'second' WHERE id IN (7, 8); END IF;"
        f" RETURN NULL; END $$;"
        f" CREATE TRIGGER again AFTER UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {function}()".encode()
    )
    conn.execute(f"UPDATE {t} SET body = 'first' WHERE id IN (7, 8)".encode())
    assert go_on(conn, table) is Phase.SWITCHED
    conn.execute(f"UPDATE {t} SET body = 'first' WHERE id IN (7, 8)".encode())
    assert [row[3] for row in rows_of(conn, table)[6:8]] == ["second", "second"]
    found = open_partitioning(conn, table)
    assert found is not None
    revert(work_on(conn), found)
    assert [row[3] for row in rows_of(conn, table)[6:8]] == ["second", "second"]


def test_truncate_reaches_both_sides(conn: Connection, table: Name) -> None:
    t = half_way(conn, table, Phase.COPIED)
    conn.execute(f"TRUNCATE {t}".encode())
    assert go_on(conn, table) is Phase.SWITCHED
    conn.execute(f"INSERT INTO {t} VALUES (1, 'beta', '2026-06-09', ''); TRUNCATE {t}".encode())
    found = open_partitioning(conn, table)
    assert found is not None
    revert(work_on(conn), found)
    assert rows_of(conn, table) == []


def test_until_it_is_finished_the_old_key_is_enforced(conn: Connection, table: Name) -> None:
    t = half_way(conn, table, Phase.SWITCHED)
    with pytest.raises(psycopg.errors.UniqueViolation, match="until that is finished"):
        conn.execute(f"INSERT INTO {t} VALUES (7, 'beta', '2026-07-09', '')".encode())
    assert len(rows_of(conn, table)) == 60


def test_an_ordinary_role_can_do_it(conn: Connection, conninfo: str, table: Name) -> None:
    """Managed services give no superuser: the owner's rights, and those on the project's own schema, are enough."""
    plain_table(conn, table, rows=60)
    owner, writer = (sql.Identifier(f"{kind} {uuid4().hex[:8]}") for kind in ("owner", "writer"))
    schema = sql.Identifier(table.schema)
    for statement in (
        "CREATE ROLE {owner}; CREATE ROLE {writer}; GRANT {writer} TO {owner}",
        "ALTER TABLE {table} OWNER TO {owner}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner}",
        "GRANT USAGE ON SCHEMA {schema} TO {writer}; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {writer}",
        "GRANT USAGE, CREATE ON SCHEMA lifecycle TO {owner}; GRANT ALL ON lifecycle.partitionings TO {owner}",
    ):
        conn.execute(sql.SQL(statement).format(owner=owner, writer=writer, table=table.identifier, schema=schema))
    t = table.identifier.as_string(conn)
    with connected(conninfo) as mine, connected(conninfo) as theirs:
        mine.execute(sql.SQL("SET ROLE {}").format(owner))
        theirs.execute(sql.SQL("SET ROLE {}").format(writer))
        layout = layout_of(table, interval=Interval.MONTH)
        half = advance(work_on(mine), begin(work_on(mine), layout), upto=Phase.COPIED)
        theirs.execute(f"UPDATE {t} SET body = 'theirs' WHERE id < 5; DELETE FROM {t} WHERE id = 5".encode())
        half = advance(work_on(mine), half)
        theirs.execute(f"UPDATE {t} SET body = 'more' WHERE id < 3; DELETE FROM {t} WHERE id = 6".encode())
        expected = rows_of(conn, table)
        revert(work_on(mine), half)
        assert rows_of(theirs, table) == expected
        convert(work_on(mine), layout)
        assert rows_of(theirs, table) == expected


def test_a_foreign_key_that_cannot_be_extended_is_let_go_and_restored(conn: Connection, table: Name) -> None:
    plain_table(conn, table, rows=10)
    t, notes = table.identifier.as_string(conn), table.sibling("notes").identifier.as_string(conn)
    conn.execute(f"CREATE TABLE {notes} (id bigint CONSTRAINT about REFERENCES {t})".encode())
    conn.execute(f"INSERT INTO {notes} VALUES (7)".encode())
    keys = (
        "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype = 'f'"
    )
    before = conn.execute(keys, (notes,)).fetchall()
    done = convert(work_on(conn), layout_of(table, interval=Interval.MONTH), lost_foreign_keys=True)
    assert conn.execute(keys, (notes,)).fetchall() == []
    revert(work_on(conn), done)
    assert conn.execute(keys, (notes,)).fetchall() == before


def test_a_foreign_key_is_extended_only_where_it_holds_with_the_new_columns(conn: Connection, table: Name) -> None:
    plain_table(conn, table, rows=10)
    t, notes = table.identifier.as_string(conn), table.sibling("notes").identifier.as_string(conn)
    conn.execute(
        f"CREATE TABLE {notes} (id bigint CONSTRAINT about REFERENCES {t}, tier text, at timestamptz);"
        f" INSERT INTO {notes} SELECT id, tier, NULL FROM {t} WHERE id < 3".encode()
    )
    with pytest.raises(PreconditionError, match=r"2 row\(s\) .* have another at or tier"):
        convert(work_on(conn), layout_of(table, interval=Interval.MONTH))
    conn.execute(f"UPDATE {notes} n SET at = t.at FROM {t} t WHERE t.id = n.id".encode())
    assert go_on(conn, table) is Phase.SWITCHED
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(f"DELETE FROM {t} WHERE id = 1".encode())
