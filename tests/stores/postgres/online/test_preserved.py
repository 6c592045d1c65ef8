"""What hangs on the table is there afterwards, under the same names, and again after the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.state import Phase
from lifecycle.stores.postgres.online.switch import finish, revert
from support.online import convert, layout_of, rows_of, work_on

_RICH = """
CREATE TABLE {s}.owners (owner_id int PRIMARY KEY);
INSERT INTO {s}.owners SELECT generate_series(1, 9);
CREATE FUNCTION {s}.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.seen := NEW.seen + 1; RETURN NEW; END $$;
CREATE FUNCTION {s}.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO {s}.told VALUES (TG_OP, coalesce(NEW.id, OLD.id)); RETURN NULL; END $$;
CREATE TABLE {s}.told (what text, id bigint);
CREATE TABLE {t} (
    gone      int,
    id        bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 5) PRIMARY KEY,
    "Tier"    varchar(20) COLLATE "C" NOT NULL DEFAULT 'beta',
    at        timestamptz NOT NULL DEFAULT now(),
    owner_id  int REFERENCES {s}.owners ON DELETE CASCADE,
    number    serial,
    seen      int NOT NULL DEFAULT 0 CHECK (seen >= 0),
    body      text,
    size      int GENERATED ALWAYS AS (length(body)) STORED,
    CONSTRAINT named UNIQUE (at, "Tier", number)
) WITH (fillfactor = 80, toast.autovacuum_enabled = false);
ALTER TABLE {t} DROP COLUMN gone;
ALTER TABLE {t} ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN body SET STATISTICS 33;
INSERT INTO {t} ("Tier", at, owner_id, seen, body)
    SELECT (ARRAY['consumer', 'beta', 'odd'])[1 + n % 3], timestamptz '2026-06-01 00:00Z' + n * interval '1 hour',
           1 + n % 9, CASE WHEN n < 5 THEN 50 ELSE 1 END, repeat('x', n) FROM generate_series(1, 120) n;
ALTER TABLE {t} ADD CONSTRAINT small CHECK (seen < 40) NOT VALID;
CREATE INDEX by_at ON {t} (at DESC NULLS LAST) INCLUDE (seen);
CREATE INDEX "by Lower" ON {t} (lower(body)) WHERE seen > 0;
CREATE UNIQUE INDEX once ON {t} (number);
CREATE STATISTICS {s}.together (dependencies) ON seen, owner_id FROM {t};
CREATE TRIGGER a_stamp BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {s}.stamp();
CREATE TRIGGER b_tell AFTER INSERT OR UPDATE OR DELETE ON {t} FOR EACH ROW EXECUTE FUNCTION {s}.tell();
CREATE TRIGGER c_off AFTER INSERT ON {t} FOR EACH STATEMENT EXECUTE FUNCTION {s}.tell();
ALTER TABLE {t} DISABLE TRIGGER c_off;
ALTER TABLE {t} REPLICA IDENTITY FULL;
COMMENT ON TABLE {t} IS 'what happened';
COMMENT ON COLUMN {t}.body IS 'in words';
COMMENT ON INDEX {s}.by_at IS 'newest first';
COMMENT ON CONSTRAINT small ON {t} IS 'since May';
COMMENT ON TRIGGER a_stamp ON {t} IS 'counts';
ALTER TABLE {t} ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {t} FOR SELECT TO {reader}
    USING (seen > 0 AND EXISTS (SELECT 1 FROM {s}.owners o WHERE o.owner_id = owner_id));
CREATE POLICY strict ON {t} AS RESTRICTIVE FOR ALL USING (true) WITH CHECK (seen < 99);
GRANT SELECT, INSERT ON {t} TO {reader};
GRANT UPDATE (body, seen) ON {t} TO {reader} WITH GRANT OPTION;
GRANT USAGE ON SCHEMA {s} TO {reader};
CREATE VIEW {s}.recent WITH (security_barrier = true) AS
    SELECT id, "Tier", e.body FROM {t} e WHERE at > timestamptz '2026-06-02 00:00Z';
CREATE VIEW {s}.counted AS SELECT "Tier", count(*) AS n FROM {s}.recent GROUP BY 1;
GRANT SELECT ON {s}.counted TO {reader};
COMMENT ON VIEW {s}.recent IS 'a view';
CREATE FUNCTION {s}.how_many() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM {t}; END;
CREATE TABLE {s}.notes (note_id int PRIMARY KEY, id bigint, at timestamptz, "Tier" varchar(20),
    CONSTRAINT about FOREIGN KEY (id) REFERENCES {t} (id) ON DELETE CASCADE);
INSERT INTO {s}.notes SELECT 1, id, at, "Tier" FROM {t} WHERE id = 1050;
CREATE PUBLICATION {pub} FOR TABLE {t} WITH (publish = 'insert', publish_via_partition_root = true);
"""

# What somebody who uses the table sees of it: names, not the catalogue's numbers.
_SEEN = {
    "columns": """SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
        attgenerated::text, attstorage::text, coalesce(attstattarget, -1), attcollation::regcollation::text,
        pg_get_expr(d.adbin, d.adrelid), col_description(attrelid, attnum)
        FROM pg_attribute LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = %(t)s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
    "table": """SELECT relowner::regrole::text, relrowsecurity, relforcerowsecurity, relreplident::text,
        obj_description(oid, 'pg_class'), (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) x)
        FROM pg_class WHERE oid = %(t)s::regclass""",
    "column grants": """SELECT attname, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(attacl) x)
        FROM pg_attribute
        WHERE attrelid = %(t)s::regclass AND attacl IS NOT NULL ORDER BY 1""",
    "constraints": """SELECT conname, contype::text, pg_get_constraintdef(oid), convalidated,
        obj_description(oid, 'pg_constraint')
        FROM pg_constraint WHERE conrelid = %(t)s::regclass AND contype IN ('c', 'f', 'u') ORDER BY 1""",
    "triggers": """SELECT tgname, pg_get_triggerdef(oid), tgenabled::text, obj_description(oid, 'pg_trigger')
        FROM pg_trigger
        WHERE tgrelid = %(t)s::regclass AND NOT tgisinternal AND tgname NOT LIKE '!%%' ORDER BY 1""",
    "policies": "SELECT polname, polpermissive, polcmd::text, polroles::regrole[]::text,"
    " pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)"
    " FROM pg_policy WHERE polrelid = %(t)s::regclass ORDER BY 1",
    "views": """SELECT c.oid, c.relname, pg_get_viewdef(c.oid), c.reloptions, c.relacl::text,
        obj_description(c.oid, 'pg_class') FROM pg_class c
        WHERE c.relkind = 'v' AND c.relnamespace = %(s)s::regnamespace ORDER BY 1""",
    "functions": "SELECT oid, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %(s)s::regnamespace ORDER BY 1",
    "publications": "SELECT pubname, to_jsonb(t) -> 'attnames' FROM pg_publication_tables t"  # since 15
    " WHERE schemaname = %(schema)s AND tablename = %(name)s",
    "statistics": "SELECT stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = %(t)s::regclass",
    "indexes": """SELECT c.relname, replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON '),
        obj_description(c.oid, 'pg_class')
        FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = %(t)s::regclass
        AND NOT indisprimary AND c.relname <> 'once' ORDER BY 1""",
    "sequences": """SELECT c.relname, s.start_value, s.increment_by, s.last_value, s.min_value, s.max_value,
        c.relacl::text, (SELECT refobjid::regclass::text || '.' || refobjsubid FROM pg_depend d
            WHERE d.objid = c.oid AND deptype IN ('a', 'i') AND classid = 'pg_class'::regclass) IS NOT NULL
        FROM pg_class c JOIN pg_sequences s ON s.schemaname = %(schema)s AND s.sequencename = c.relname
        WHERE c.relnamespace = %(s)s::regnamespace AND c.relname NOT LIKE '%%partitioned%%' ORDER BY 1""",
}


def quoted(conn: Connection, *names: str) -> str:
    return sql.Identifier(*names).as_string(conn)


def seen(conn: Connection, table: Name) -> dict[str, list[tuple[Any, ...]]]:
    values = {
        "t": quoted(conn, table.schema, table.name),
        "s": quoted(conn, table.schema),
        "schema": table.schema,
        "name": table.name,
    }
    return {what: conn.execute(query.encode(), values).fetchall() for what, query in _SEEN.items()}


@pytest.fixture
def rich(conn: Connection, table: Name, postgres_server: Postgres) -> Iterator[Name]:
    reader = f"reader {table.schema}"
    conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(reader)))
    script = _RICH
    for word, value in (
        ("{s}", quoted(conn, table.schema)),
        ("{t}", quoted(conn, table.schema, table.name)),
        ("{reader}", quoted(conn, reader)),
        ("{pub}", quoted(conn, f"pub {table.schema}")),
    ):
        script = script.replace(word, value)
    conn.execute(script.encode())
    yield table
    conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(table.schema)))
    conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(reader)))


def use(conn: Connection, table: Name) -> dict[str, Any]:
    """What the application does with it: all of it works, and through the views too."""
    t, s = quoted(conn, table.schema, table.name), quoted(conn, table.schema)
    row = conn.execute(
        f"INSERT INTO {t} (at, body) VALUES ('2026-06-09 10:00Z', 'new')"
        ' RETURNING id, "Tier", seen, size, number'.encode()
    ).fetchone()
    assert row is not None
    conn.execute(f"UPDATE {t} SET body = 'changed', at = at - interval '2 days' WHERE id = %s".encode(), (row[0],))
    found = conn.execute(f"SELECT body FROM {s}.recent WHERE id = %s".encode(), (row[0],)).fetchall()
    told = conn.execute(f"SELECT what FROM {s}.told WHERE id = %s ORDER BY 1".encode(), (row[0],)).fetchall()
    conn.execute(f"DELETE FROM {t} WHERE id = %s".encode(), (row[0],))
    many = conn.execute(f"SELECT {s}.how_many(), (SELECT sum(n) FROM {s}.counted)".encode()).fetchone()
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(f"INSERT INTO {t} (seen) VALUES (41)".encode())
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(f"INSERT INTO {t} (owner_id) VALUES (77)".encode())
    return {"id": row[0], "number": row[4], "rest": row[1:4], "view": found, "told": told, "many": many}


def test_everything_that_hangs_on_the_table_follows_it_and_comes_back(conn: Connection, rich: Name) -> None:
    before, rows = seen(conn, rich), rows_of(conn, rich, "id, t.*")
    done = convert(work_on(conn), layout_of(rich, tier="Tier"))
    after = seen(conn, rich)
    for what, value in before.items():
        assert after[what] == value, what
    assert rows_of(conn, rich, "id, t.*") == rows
    t, s = quoted(conn, rich.schema, rich.name), quoted(conn, rich.schema)
    assert conn.execute(
        "SELECT pg_get_constraintdef(oid), conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'",
        (t,),
    ).fetchall() == [('PRIMARY KEY (id, at, "Tier")', "Events_pkey")]
    assert conn.execute("SELECT relkind::text FROM pg_class WHERE oid = %s::regclass", (t,)).fetchone() == ("p",)
    about = (
        "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint"
        " WHERE conname = 'about' AND conrelid = %s::regclass"
    )
    key = f'FOREIGN KEY (id, at, "Tier") REFERENCES {t}(id, at, "Tier") ON DELETE CASCADE'
    assert conn.execute(about, (f"{s}.notes",)).fetchall() == [(key, True)]
    used = use(conn, rich)
    assert used["rest"] == ("beta", 1, 3) and used["view"] == [("changed",)]
    assert used["id"] == 1000 + 5 * 120 and used["number"] == 121, "the sequences go on where they were"

    revert(work_on(conn), done)
    back = seen(conn, rich)
    for what, value in before.items():
        if what != "sequences":
            assert back[what] == value, what
    assert [(row[0], *row[4:]) for row in back["sequences"]] == [(row[0], *row[4:]) for row in before["sequences"]]
    assert rows_of(conn, rich, "id, t.*") == rows
    assert conn.execute(about, (f"{s}.notes",)).fetchall() == [
        (f"FOREIGN KEY (id) REFERENCES {t}(id) ON DELETE CASCADE", True)
    ]
    again = use(conn, rich)
    assert again["id"] > used["id"] and again["number"] > used["number"]
    left = conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'S')", (s,)
    ).fetchall()
    assert sorted(name for (name,) in left) == [
        "Events",
        "Events_id_seq",
        "Events_number_seq",
        "notes",
        "owners",
        "told",
    ]


def test_the_end_leaves_the_tree_alone(conn: Connection, rich: Name) -> None:
    before, rows = seen(conn, rich), rows_of(conn, rich, "id, t.*")
    finish(work_on(conn), convert(work_on(conn), layout_of(rich, tier="Tier")))
    assert seen(conn, rich) == before
    assert rows_of(conn, rich, "id, t.*") == rows
    assert use(conn, rich)["id"] == 1000 + 5 * 120
    left = conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relname LIKE '%%partitioned%%'",
        (quoted(conn, rich.schema),),
    ).fetchall()
    assert left == []
    assert conn.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'partition\\_%%'").fetchall() == []
    phase = conn.execute("SELECT phase FROM lifecycle.partitionings WHERE table_schema = %s", (rich.schema,)).fetchone()
    assert phase == (Phase.FINISHED.value,)
