"""What cannot be partitioned is refused before anything is touched, with what to do."""

from __future__ import annotations

import pytest

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.refusals import CannotPartitionError
from support.online import begin, layout_of, plain_table, work_on

_CASES = {
    "no primary key": ('ALTER TABLE {t} DROP CONSTRAINT "Events_pkey"', "no primary key"),
    "deferrable key": (
        'ALTER TABLE {t} DROP CONSTRAINT "Events_pkey", ADD PRIMARY KEY (id) DEFERRABLE',
        "primary key is deferrable",
    ),
    "exclusion": (
        "ALTER TABLE {t} ADD CONSTRAINT apart EXCLUDE USING btree (id WITH =)",
        "exclusion constraint apart",
    ),
    "materialized view": (
        "CREATE MATERIALIZED VIEW {s}.made AS SELECT count(*) FROM {t}",
        "made is made from it and cannot be replaced",
    ),
    "row type": ("CREATE FUNCTION {s}.one() RETURNS {t} LANGUAGE sql AS 'SELECT (NULL::{t}).*'", "function"),
    "column of its type": ("CREATE TABLE {s}.keeps (e {t})", "column"),
    "inherited": ("CREATE TABLE {s}.child () INHERITS ({t})", "inherit"),
    "rule": ("CREATE RULE nothing AS ON DELETE TO {t} DO INSTEAD NOTHING", "rule nothing"),
    "child without the columns": (
        "CREATE TABLE {s}.notes (id bigint CONSTRAINT about REFERENCES {t})",
        "--accept-lost-foreign-keys",
    ),
    "refers to itself": ("ALTER TABLE {t} ADD COLUMN reply bigint REFERENCES {t}", "refers to its own table"),
    "invalid foreign key": (
        "CREATE TABLE {s}.o (id int PRIMARY KEY); ALTER TABLE {t} ADD COLUMN o int;"
        " ALTER TABLE {t} ADD CONSTRAINT later FOREIGN KEY (o) REFERENCES {s}.o NOT VALID",
        "VALIDATE CONSTRAINT later",
    ),
    "policy elsewhere": (
        "CREATE TABLE {s}.o (id int); CREATE POLICY p ON {s}.o USING (id IN (SELECT id FROM {t}))",
        "policy p on table",
    ),
    "group by key": ("CREATE VIEW {s}.v AS SELECT id, body FROM {t} GROUP BY id", "hangs on it"),
    "unlogged": ("ALTER TABLE {t} SET UNLOGGED", "SET LOGGED"),
    "taken name": ('CREATE TABLE {s}."Events_beta" ()', "Events_beta"),
    "generated clock": (
        "ALTER TABLE {t} RENAME at TO was;"
        " ALTER TABLE {t} ADD at timestamp GENERATED ALWAYS AS (was AT TIME ZONE 'UTC') STORED",
        "is generated",
    ),
    "text clock": ("ALTER TABLE {t} ALTER at TYPE text", "of type text"),
    "transition tables": (
        "CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER tr AFTER"
        " INSERT ON {t} REFERENCING NEW TABLE AS n FOR EACH ROW EXECUTE FUNCTION {s}.f()",
        "transition tables",
    ),
    "published by leaf": ('CREATE PUBLICATION "{p}" FOR TABLE {t}', "publish_via_partition_root = true"),
    "replica identity index": (
        'ALTER TABLE {t} REPLICA IDENTITY USING INDEX "Events_pkey"',
        "REPLICA IDENTITY DEFAULT",
    ),
}


@pytest.mark.parametrize("case", _CASES)
def test_what_cannot_be_done_is_refused_with_its_remedy(conn: Connection, table: Name, case: str) -> None:
    script, says = _CASES[case]
    plain_table(conn, table, rows=5)
    t, s = table.identifier.as_string(conn), f'"{table.schema}"'
    script = script.replace("{t}", t).replace("{s}", s).replace("{p}", table.schema)
    conn.execute(script.encode())
    with pytest.raises(CannotPartitionError, match="nothing was changed") as refused:
        begin(work_on(conn), layout_of(table))
    assert says in str(refused.value)
    left = "SELECT to_regclass(%s) IS NULL"
    assert conn.execute(left, (f'{s}."Events_partitioned"',)).fetchone() == (True,)
    conn.execute(f"DROP SCHEMA {s} CASCADE".encode())
    conn.execute(f'DROP PUBLICATION IF EXISTS "{table.schema}"'.encode())


def test_every_reason_is_named_at_once(conn: Connection, table: Name) -> None:
    plain_table(conn, table, rows=5)
    t = table.identifier.as_string(conn)
    conn.execute(f"CREATE UNIQUE INDEX said ON {t} (body); ALTER TABLE {t} SET UNLOGGED".encode())
    with pytest.raises(CannotPartitionError) as refused:
        begin(work_on(conn), layout_of(table), weaker_uniqueness=False)
    assert len(refused.value.refusals) == 2
    assert "Events_pkey (id); said (body)" in str(refused.value)
    assert "The primary key becomes (id, at, tier)" in str(refused.value)


def test_a_key_that_has_the_columns_needs_no_consent(conn: Connection, table: Name) -> None:
    plain_table(conn, table, rows=5)
    t = table.identifier.as_string(conn)
    conn.execute(f'ALTER TABLE {t} DROP CONSTRAINT "Events_pkey", ADD PRIMARY KEY (tier, at, id)'.encode())
    begin(work_on(conn), layout_of(table), weaker_uniqueness=False)


def test_rows_without_a_clock_are_counted_and_stop_it(conn: Connection, table: Name) -> None:
    """Case 23: they have no place in a key; nothing is guessed for them."""
    from lifecycle.stores.postgres.online.convert import advance
    from lifecycle.stores.postgres.online.state import Phase, open_partitioning
    from lifecycle.stores.postgres.online.switch import revert

    plain_table(conn, table, rows=5)
    t = table.identifier.as_string(conn)
    conn.execute(f"ALTER TABLE {t} ALTER at DROP NOT NULL; UPDATE {t} SET at = NULL WHERE id < 3".encode())
    with pytest.raises(PreconditionError, match=r"2 row\(s\) .* have no at"):
        advance(work_on(conn), begin(work_on(conn), layout_of(table)))
    found = open_partitioning(conn, table)
    assert found is not None
    conn.execute(f"UPDATE {t} SET at = '2026-06-01' WHERE id < 3".encode())
    assert advance(work_on(conn), found).phase is Phase.SWITCHED
    found = open_partitioning(conn, table)
    assert found is not None
    revert(work_on(conn), found)
    checks = conn.execute("SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", (t,))
    assert checks.fetchall() == []
