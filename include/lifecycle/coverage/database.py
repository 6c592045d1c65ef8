"""Reads what exists in the product database: relations, columns, foreign keys, what views read. Metadata only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources

from psycopg import sql

from lifecycle.catalog.clocks import TimestampClock, column_of
from lifecycle.catalog.models import Catalog, Logs
from lifecycle.coverage.bindings import OWN_SCHEMA
from lifecycle.coverage.content import read_content
from lifecycle.coverage.facts import NO_CONTENT, Column, Content, Form, Reference, Relation
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.clocks import reading
from lifecycle.validation.queries.stages import of_its_tier

# Of fewer rows nobody can tell whether a column's values are different by nature.
FEW_ROWS = 100
_FORMS = {"r": Form.TABLE, "p": Form.TABLE, "v": Form.VIEW, "m": Form.COPY, "f": Form.FOREIGN}
_OWN_TABLE = re.compile(rb"CREATE TABLE IF NOT EXISTS (lifecycle\.\w+)")
_STAGED = re.compile(r"lifecycle\.audit_\d+_(objects|logs|facts)")
# Partitions are folded into their root, through which they are read. One whose DETACH ... CONCURRENTLY did not end is
# a partition in name only: nobody who reads the root sees its rows. What an extension made is the extension's.
_RELATIONS = """
    SELECT c.oid::bigint, n.nspname || '.' || c.relname, c.relkind::text,
           (SELECT coalesce(sum(CASE WHEN p.reltuples >= 0 THEN p.reltuples ELSE pg_relation_size(p.oid) / 100 END), 0)
              FROM pg_class p WHERE p.oid = c.oid
                 OR (c.relkind = 'p' AND p.oid IN (SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE t.isleaf))
           )::bigint,
           has_any_column_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND (NOT c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending))
       AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e')
     ORDER BY 2
"""
_COLUMNS = """
    SELECT a.attrelid::bigint, a.attname::text, format_type(a.atttypid, NULL), t.typcategory::text,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indnkeyatts = 1
                      AND i.indkey[0] = a.attnum),
           (SELECT CASE WHEN s.n_distinct < 0 THEN -s.n_distinct ELSE s.n_distinct / c.reltuples END
              FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
               AND c.reltuples >= %s ORDER BY s.inherited DESC LIMIT 1)::float
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
      JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attrelid, a.attnum
"""
# Of a partition's foreign key the root of the table it refers to.
_REFERENCES = """
    SELECT f.conrelid::bigint, a.attname::text, n.nspname || '.' || c.relname, b.attname::text
      FROM pg_constraint f
      CROSS JOIN LATERAL unnest(f.conkey, f.confkey) AS k (own, other)
      JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.own
      JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.other
      JOIN pg_class c ON c.oid = coalesce(pg_partition_root(f.confrelid), f.confrelid)
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE f.contype = 'f' AND f.conrelid = ANY (%s::bigint[]::oid[])
     ORDER BY 1, 2
"""
_READS = """
    WITH RECURSIVE direct AS (
        SELECT DISTINCT r.ev_class AS view, coalesce(pg_partition_root(d.refobjid), d.refobjid) AS source
          FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), through AS (
        SELECT view, source FROM direct
        UNION
        SELECT t.view, d.source FROM through t JOIN direct d ON d.view = t.source
    )
    SELECT t.view::bigint, n.nspname || '.' || c.relname
      FROM through t JOIN pg_class c ON c.oid = t.source JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE t.view = ANY (%s::bigint[]::oid[])
     ORDER BY 1, 2
"""


def own_tables() -> frozenset[str]:
    """The project's own tables: what the SQL files of its package create."""
    files = (file for file in resources.files("lifecycle.stores.postgres").iterdir() if file.name.endswith(".sql"))
    return frozenset(name.decode() for file in files for name in _OWN_TABLE.findall(file.read_bytes()))


def read_relations(conn: Connection, catalog: Catalog) -> tuple[Relation, ...]:
    """Every relation of the product database but the system's and the project's own, with the content of its columns.

    The content of configured tables is read of undeclared columns only.
    """
    own = own_tables()
    rows = [
        row
        for row in conn.execute(_RELATIONS).fetchall()
        if not (row[1] in own or _STAGED.fullmatch(row[1])) or not row[1].startswith(f"{OWN_SCHEMA}.")
    ]
    oids = [row[0] for row in rows]
    references: dict[int, list[Reference]] = defaultdict(list)
    for oid, column, table, target in conn.execute(_REFERENCES, (oids,)).fetchall():
        references[oid].append(Reference(column, table, target))
    reads: dict[int, list[str]] = defaultdict(list)
    for oid, source in conn.execute(_READS, (oids,)).fetchall():
        reads[oid].append(source)
    columns = _columns(conn, oids)
    bare = {
        oid: Relation(
            name, _FORMS[kind], tuple(columns[oid]), count, readable, tuple(references[oid]), tuple(reads[oid])
        )
        for oid, name, kind, count, readable in rows
    }
    content = read_content(conn, bare, catalog)
    return tuple(_with_content(oid, relation, content) for oid, relation in bare.items())


def _columns(conn: Connection, oids: Sequence[int]) -> dict[int, list[Column]]:
    found: dict[int, list[Column]] = defaultdict(list)
    for oid, name, type_name, category, unique, distinct in conn.execute(_COLUMNS, (FEW_ROWS, oids)).fetchall():
        found[oid].append(Column(name, type_name, category, unique, distinct=distinct))
    return found


def _with_content(oid: int, relation: Relation, content: Mapping[tuple[int, str], Content]) -> Relation:
    columns = tuple(replace(item, content=content.get((oid, item.name), NO_CONTENT)) for item in relation.columns)
    return replace(relation, columns=columns)


def count_unclassified(conn: Connection, catalog: Catalog) -> dict[str, int]:
    """Records of no declared tier. Messages of none lie in the default partition, so nothing else is read of them."""
    found = {}
    for dataset in catalog.tables:
        if dataset.tiers is not None:
            unknown = next(each for each in dataset.unfolded if each.share_of is not None and each.ruled_as is None)
            counted = sql.SQL("SELECT count(*) FROM {} r WHERE {}").format(
                sql.Identifier(*dataset.table.split(".", 1)), of_its_tier(unknown, "r")
            )
            rows = conn.execute(counted).fetchone()
            found[dataset.id] = int(rows[0]) if rows else 0
    if not catalog.has_messages:
        return found
    messages = catalog.messages
    query = sql.SQL("SELECT count(*) FROM {} m WHERE {} <> ALL (%s)").format(
        sql.Identifier(*messages.table.split(".", 1)), sql.Identifier("m", messages.tier)
    )
    row = conn.execute(query, ([tier.value for tier in Tier],)).fetchone()
    return found | {messages.id: int(row[0]) if row else 0}


def count_timeless(conn: Connection, catalog: Catalog) -> dict[str, int]:
    """Records without a time. A ``timestamptz`` that cannot be null costs nothing; null ones have an index. What is
    read from a number or an id may hold none although it is not null, and is read whole."""
    found = {}
    for dataset in catalog.datasets:
        if isinstance(dataset, Logs):
            continue
        nulls_only = isinstance(dataset.clock, str | TimestampClock)
        if nulls_only and not _nullable(conn, dataset.table, column_of(dataset.clock)):
            continue
        query = sql.SQL("SELECT count(*) FROM {} r WHERE {} IS NULL").format(
            sql.Identifier(*dataset.table.split(".", 1)), reading(dataset.clock, "r")
        )
        row = conn.execute(query).fetchone()
        found[dataset.id] = int(row[0]) if row else 0
    return found


def _nullable(conn: Connection, table: str, column: str) -> bool:
    row = conn.execute(
        "SELECT NOT a.attnotnull FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname || '.' || c.relname = %s AND a.attname = %s AND NOT a.attisdropped",
        (table, column),
    ).fetchone()
    return bool(row and row[0])
