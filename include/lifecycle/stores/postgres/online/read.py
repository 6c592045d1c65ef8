"""Reads the facts of a table from the catalogue. Takes no lock on the table and reads no row of it.

Run with an empty search_path, so that every definition comes with its names qualified.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, LiteralString

import psycopg

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.online.facts import (
    Column,
    Constraint,
    Dependant,
    Grant,
    InboundKey,
    Index,
    Name,
    Policy,
    Publication,
    SequenceFacts,
    TableFacts,
    Trigger,
)

_TABLE: LiteralString = """
    SELECT c.relkind::text, c.relpersistence::text, pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'),
           has_schema_privilege(c.relnamespace, 'CREATE'), r.rolsuper OR r.rolbypassrls,
           obj_description(c.oid, 'pg_class'),
           coalesce(c.reloptions, '{}')
               || coalesce((SELECT array_agg('toast.' || o) FROM pg_class t, unnest(t.reloptions) o
                            WHERE t.oid = c.reltoastrelid), '{}'),
           c.relreplident::text, c.relrowsecurity, c.relforcerowsecurity,
           coalesce(a.amname, 'heap') = 'heap' AND c.reloftype = 0 AND c.reltablespace = 0,
           EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid OR (i.inhparent = c.oid AND c.relkind = 'r')),
           greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
    FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam JOIN pg_roles r ON r.rolname = current_user
    WHERE c.oid = %(oid)s"""

_COLUMNS: LiteralString = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END, a.attgenerated <> '',
           a.attidentity::text,
           s.nspname, s.relname, col_description(a.attrelid, a.attnum), nullif(a.attstattarget, -1)::int
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN LATERAL (
        SELECT n.nspname, c.relname FROM pg_depend p JOIN pg_class c ON c.oid = p.objid AND c.relkind = 'S'
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid
          AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i') LIMIT 1) s ON true
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""

_CONSTRAINTS: LiteralString = """
    SELECT k.conname, k.contype::text, pg_get_constraintdef(k.oid),
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, i)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i),
           k.convalidated, k.condeferrable, obj_description(k.oid, 'pg_constraint')
    FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype IN ('p', 'u', 'c', 'f', 'x') ORDER BY k.conname"""

_INDEXES: LiteralString = """
    SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisunique, i.indisvalid, i.indpred IS NOT NULL, m.amname,
           ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(n, p)
                 LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n AND u.n > 0
                 WHERE u.p <= i.indnkeyatts ORDER BY u.p),
           ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(n, p)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n
                 WHERE u.p > i.indnkeyatts ORDER BY u.p),
           k.conname, obj_description(i.indexrelid, 'pg_class')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = %(oid)s ORDER BY c.relname"""

# Our own mirrors are left out: they are what moves the table, not what has to move with it.
_TRIGGERS: LiteralString = """
    SELECT t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text, (t.tgtype & 1) = 1,
           t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL, obj_description(t.oid, 'pg_trigger')
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal AND n.nspname <> 'lifecycle' ORDER BY t.tgname"""

_POLICIES: LiteralString = """
    SELECT polname, polpermissive, polcmd::text,
           ARRAY(SELECT coalesce(r.rolname::text, '') FROM unnest(polroles) u(o) LEFT JOIN pg_roles r ON r.oid = u.o),
           pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
    FROM pg_policy WHERE polrelid = %(oid)s ORDER BY polname"""

_GRANTS: LiteralString = """
    SELECT pg_get_userbyid(nullif(x.grantee, 0)), x.privilege_type, x.is_grantable, NULL::text
    FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = %(oid)s AND x.grantee <> c.relowner
    UNION ALL
    SELECT pg_get_userbyid(nullif(x.grantee, 0)), x.privilege_type, x.is_grantable, a.attname
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) x
    WHERE c.oid = %(oid)s AND x.grantee <> c.relowner AND NOT a.attisdropped ORDER BY 4 NULLS FIRST, 1, 2"""

_VIEWS: LiteralString = """
    SELECT DISTINCT n.nspname, v.relname, v.relkind::text, pg_get_viewdef(v.oid), coalesce(v.reloptions, '{}'),
           pg_has_role(v.relowner, 'USAGE')
    FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
    JOIN pg_namespace n ON n.oid = v.relnamespace
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
      AND v.oid <> %(oid)s AND v.relkind IN ('v', 'm') ORDER BY 1, 2"""

_FUNCTIONS: LiteralString = """
    SELECT DISTINCT n.nspname, p.proname, pg_get_functiondef(p.oid), pg_has_role(p.proowner, 'USAGE')
    FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
      AND p.prokind IN ('f', 'p') ORDER BY 1, 2"""

_INBOUND: LiteralString = """
    SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid),
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, i)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i),
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, i)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.i),
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           c.relkind = 'p' OR c.relispartition, k.conrelid = k.confrelid, pg_has_role(c.relowner, 'USAGE')
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.confrelid = %(oid)s AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 3"""

# to_jsonb tells what a publication has without naming columns that older servers lack.
_PUBLICATIONS: LiteralString = """
    SELECT p.pubname, coalesce((to_jsonb(p) ->> 'pubviaroot')::boolean, false), p.puballtables,
           coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') IS NOT NULL, pg_has_role(p.pubowner, 'USAGE')
    FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(oid)s
    WHERE p.puballtables OR r.oid IS NOT NULL
       OR EXISTS (SELECT 1 FROM pg_publication_tables t JOIN pg_class c ON c.relname = t.tablename
                  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname
                  WHERE t.pubname = p.pubname AND c.oid = %(oid)s) ORDER BY 1"""

# Since version 15 a publication can have whole schemas, new tables in them included.
_PUBLISHED_WITH_ITS_SCHEMA: LiteralString = """
    SELECT p.pubname FROM pg_publication_namespace s JOIN pg_publication p ON p.oid = s.pnpubid
    JOIN pg_class c ON c.relnamespace = s.pnnspid WHERE c.oid = %(oid)s"""

_SEQUENCE_OPTIONS: LiteralString = """
    SELECT c.oid, s.last_value, q.seqstart::text, q.seqincrement::text, q.seqmin::text, q.seqmax::text,
           q.seqcache::text,
           CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence q ON q.seqrelid = c.oid
    JOIN pg_sequences s ON s.schemaname = n.nspname AND s.sequencename = c.relname
    WHERE n.nspname = %(schema)s AND c.relname = %(name)s"""

_STATISTICS: LiteralString = """
    SELECT n.nspname, s.stxname, pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s
    JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(oid)s ORDER BY 1, 2"""

# Whatever hangs on the table, its row type or its constraints and is not one of the kinds that are carried over.
_IN_THE_WAY: LiteralString = """
    SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
    JOIN pg_class t ON t.oid = %(oid)s LEFT JOIN pg_type y ON y.oid = t.reltype
    WHERE ((d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
            AND NOT (d.classid = 'pg_rewrite'::regclass
                     AND EXISTS (SELECT 1 FROM pg_rewrite w JOIN pg_class v ON v.oid = w.ev_class
                                 WHERE w.oid = d.objid AND v.relkind = 'v'))
            AND NOT (d.classid = 'pg_proc'::regclass AND EXISTS (SELECT 1 FROM pg_proc p WHERE p.oid = d.objid
                                                                 AND p.prokind IN ('f', 'p')))
            AND NOT (d.classid = 'pg_policy'::regclass AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.oid = d.objid
                                                                   AND p.polrelid = t.oid))
            AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT 1 FROM pg_attrdef p WHERE p.oid = d.objid
                                                                    AND p.adrelid = t.oid))
            AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT 1 FROM pg_trigger p WHERE p.oid = d.objid
                                                                    AND (p.tgrelid = t.oid OR p.tgisinternal)))
            AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT 1 FROM pg_class p WHERE p.oid = d.objid
                                                                  AND (p.oid = t.oid
                                                                       OR p.relkind IN ('i', 'I', 'S', 't')
                                                                       OR (p.relispartition AND t.relkind = 'p'))))
            AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_publication_rel'::regclass,
                                  'pg_statistic_ext'::regclass, 'pg_type'::regclass))
        OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray) AND y.oid <> 0
            AND NOT (d.classid = 'pg_type'::regclass AND d.objid = y.typarray))
        OR (d.refclassid = 'pg_constraint'::regclass AND d.classid <> 'pg_class'::regclass
            AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_trigger'::regclass)
            AND d.refobjid IN (SELECT k.oid FROM pg_constraint k WHERE k.conrelid = t.oid)))
    ORDER BY 1"""

_TAKEN: LiteralString = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND starts_with(c.relname, %(prefix)s)"""


@contextmanager
def qualified(conn: Connection) -> Iterator[None]:
    """A transaction in which definitions come out fully qualified, and row security never hides a row silently."""
    with conn.transaction():
        conn.execute("SELECT set_config('search_path', 'pg_catalog', true), set_config('row_security', 'off', true)")
        yield


def resolve(conn: Connection, text: str) -> Name:
    """The table that somebody wrote as ``schema.table``, quoted or not.

    Raises:
        PreconditionError: it is no such name, or there is no such table.
    """
    try:
        parts = one(conn, "SELECT parse_ident(%s)", (text,))
    except psycopg.errors.InvalidParameterValue:
        parts = []
    if len(parts) != 2:
        raise PreconditionError(
            f"{text!r} is not the name of a table; write schema.table, with double quotes around a part that has "
            'capitals or special characters: app."Messages"'
        )
    name = Name(*parts)
    if oid_of(conn, name) is None:
        raise PreconditionError(
            f"there is no table {name} that this role can see; is the connection the right database, "
            "and are capitals quoted?"
        )
    return name


def oid_of(conn: Connection, name: Name) -> int | None:
    row = conn.execute(
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        (name.schema, name.name),
    ).fetchone()
    return row[0] if row else None


def read_facts(conn: Connection, name: Name) -> TableFacts:
    """Everything about a table that matters for moving it.

    Raises:
        PreconditionError: it is gone.
    """
    oid = oid_of(conn, name)
    if oid is None:
        raise PreconditionError(f"there is no table {name} any more")
    with qualified(conn):
        return _Reader(conn, name, oid).read()


def _frozen(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row whose arrays are tuples."""
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


class _Reader:
    def __init__(self, conn: Connection, name: Name, oid: int) -> None:
        self.conn, self.name, self.oid = conn, name, oid

    def rows(self, query: LiteralString, **more: object) -> list[tuple[Any, ...]]:
        return self.conn.execute(query, {"oid": self.oid, **more}).fetchall()

    def read(self) -> TableFacts:
        columns = self.columns()
        return TableFacts(
            name=self.name,
            oid=self.oid,
            **self.table(),
            columns=columns,
            constraints=tuple(Constraint(*_frozen(row)) for row in self.rows(_CONSTRAINTS)),
            indexes=self.indexes(),
            triggers=tuple(Trigger(*row) for row in self.rows(_TRIGGERS)),
            policies=tuple(Policy(*_frozen(row)) for row in self.rows(_POLICIES)),
            grants=self.grants(self.oid),
            dependants=self.dependants(),
            inbound=self.inbound(),
            publications=self.publications(),
            sequences=tuple(self.sequence(column, found) for column in columns if (found := column.sequence)),
            statistics=tuple((Name(row[0], row[1]), row[2]) for row in self.rows(_STATISTICS)),
            in_the_way=tuple(row[0] for row in self.rows(_IN_THE_WAY)),
            taken=frozenset(row[0] for row in self.rows(_TAKEN, schema=self.name.schema, prefix=f"{self.name.name}_")),
        )

    def table(self) -> dict[str, Any]:
        names = [found.name for found in fields(TableFacts)][2:]
        return dict(zip(names, _frozen(self.rows(_TABLE)[0]), strict=False))

    def publications(self) -> tuple[Publication, ...]:
        asked = self.conn.info.server_version >= 150000
        whole = {row[0] for row in self.rows(_PUBLISHED_WITH_ITS_SCHEMA)} if asked else set()
        return tuple(
            Publication(name, via_root, everything or name in whole, narrowed, ours)
            for name, via_root, everything, narrowed, ours in self.rows(_PUBLICATIONS)
        )

    def columns(self) -> tuple[Column, ...]:
        found = []
        for row in self.rows(_COLUMNS):
            sequence = Name(row[6], row[7]) if row[7] else None
            values: tuple[Any, ...] = (*row[:6], sequence, *row[8:])
            found.append(Column(*values))
        return tuple(found)

    def indexes(self) -> tuple[Index, ...]:
        return tuple(self.index(*row) for row in self.rows(_INDEXES))

    def index(self, name: str, definition: str, unique: bool, *rest: Any) -> Index:
        """PostgreSQL writes CREATE [UNIQUE] INDEX name ON [ONLY] table USING ...; what follows the table is kept."""
        table = self.name.identifier.as_string(self.conn)
        plain = one(self.conn, "SELECT format('%%I.%%I', %s::text, %s::text)", (self.name.schema, self.name.name))
        for shown in (plain, table):
            _, found, tail = definition.partition(f" {shown} USING ")
            if found:
                break
        else:
            raise PreconditionError(f"the definition of index {name} of {self.name} is not understood")
        valid, partial, method, columns, included, constraint, comment = rest
        return Index(
            name, f"USING {tail}", unique, valid, partial, method, tuple(columns), tuple(included), constraint, comment
        )

    def grants(self, oid: int) -> tuple[Grant, ...]:
        return tuple(Grant(*row) for row in self.conn.execute(_GRANTS, {"oid": oid}).fetchall())

    def dependants(self) -> tuple[Dependant, ...]:
        views = [
            Dependant(Name(schema, name), kind, text.rstrip().rstrip(";"), tuple(options), ours)
            for schema, name, kind, text, options, ours in self.rows(_VIEWS)
        ]
        functions = [
            Dependant(Name(schema, name), "f", text, (), ours) for schema, name, text, ours in self.rows(_FUNCTIONS)
        ]
        return (*views, *functions)

    def inbound(self) -> tuple[InboundKey, ...]:
        return tuple(
            InboundKey(
                Name(row[0], row[1]),
                row[2],
                row[3],
                tuple(row[4]),
                tuple(row[5]),
                tuple(zip(row[6], row[7], strict=True)),
                *row[8:],
            )
            for row in self.rows(_INBOUND)
        )

    def sequence(self, column: Column, name: Name) -> SequenceFacts:
        oid, last, *options = self.rows(_SEQUENCE_OPTIONS, schema=name.schema, name=name.name)[0]
        keys = ("start", "increment", "minimum", "maximum", "cache", "cycle")
        pairs = tuple(zip(keys, options, strict=True))
        return SequenceFacts(name, column.name, last, pairs, self.grants(oid))
