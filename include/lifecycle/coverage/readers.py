"""Reads what copies rows elsewhere by itself: publications, triggers and rules. Metadata only."""

from __future__ import annotations

from lifecycle.coverage.bindings import OWN_SCHEMA
from lifecycle.coverage.facts import Copier, Publication
from lifecycle.stores.postgres.connect import Connection

# Partitions are folded into their root. The view names the root where a publication publishes through it.
_PUBLICATIONS = """
    SELECT p.pubname::text, rn.nspname || '.' || r.relname, r.relkind = 'p', p.pubdelete, p.pubupdate,
           bool_or(c.relispartition)
      FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
      JOIN pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
      JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
      JOIN pg_namespace rn ON rn.oid = r.relnamespace
     WHERE p.pubinsert OR p.pubupdate
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2
"""
# Only who sees rows can copy them: a trigger for each row, or one with a table of all that were changed. Those of
# partitions that come from their table are told of there. The source of other languages than these is not read.
_TRIGGERS = """
    SELECT rn.nspname || '.' || r.relname, t.tgname::text, fn.nspname || '.' || f.proname,
           (t.tgtype & 4) <> 0, (t.tgtype & 16) <> 0, (t.tgtype & 8) <> 0,
           CASE WHEN l.lanname = 'plpgsql' THEN f.prosrc END
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
      JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
      JOIN pg_namespace rn ON rn.oid = r.relnamespace
      JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
      JOIN pg_language l ON l.oid = f.prolang
     WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('O', 'A')
       AND ((t.tgtype & 1) <> 0 OR t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL)
       AND fn.nspname NOT IN ('pg_catalog', %s)
     ORDER BY 1, 2
"""
_RULES = """
    SELECT rn.nspname || '.' || r.relname, w.rulename::text, w.ev_type = '3', w.ev_type = '2', w.ev_type = '4',
           array(SELECT DISTINCT n.nspname || '.' || c.relname FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid <> w.ev_class ORDER BY 1)
      FROM pg_rewrite w JOIN pg_class r ON r.oid = w.ev_class JOIN pg_namespace rn ON rn.oid = r.relnamespace
     WHERE w.ev_type IN ('2', '3', '4') AND w.ev_enabled IN ('O', 'A') AND r.relkind IN ('r', 'p')
     ORDER BY 1, 2
"""
_TABLES = """
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'm') AND NOT c.relispartition AND left(n.nspname, 3) <> 'pg_'
"""
# A setting of a role or of a database counts for its sessions, whatever ours has.
_LOGGED = r"""
    SELECT DISTINCT said FROM (
        SELECT name || ' = ' || setting AS said, name, setting FROM pg_settings
        UNION ALL
        SELECT replace(s, '=', ' = ') || ' (of a role or database)', split_part(s, '=', 1), split_part(s, '=', 2)
          FROM pg_db_role_setting d, unnest(d.setconfig) s
         WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ) f WHERE name = 'log_statement' AND setting IN ('mod', 'all')
           OR name = 'pgaudit.log' AND setting ~* '\m(write|all)\M'
     ORDER BY 1
"""
_EVENTS = ("INSERT", "UPDATE", "DELETE")


def read_publications(conn: Connection) -> tuple[Publication, ...]:
    """Which tables are sent to subscribers, once per publication and table."""
    return tuple(Publication(*row) for row in conn.execute(_PUBLICATIONS.encode()).fetchall())


def read_table_names(conn: Connection) -> list[str]:
    """Every table, but partitions and the system's."""
    return [name for (name,) in conn.execute(_TABLES.encode()).fetchall()]


def has_large_objects(conn: Connection) -> bool:
    """Whether the database has any large object."""
    row = conn.execute("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)").fetchone()
    return bool(row and row[0])


def read_logged(conn: Connection) -> tuple[str, ...]:
    """The settings by which the server writes statements that change rows, values and all, to its own log."""
    return tuple(said for (said,) in conn.execute(_LOGGED.encode()).fetchall())


def read_copiers(conn: Connection) -> tuple[Copier, ...]:
    """The triggers and rules that see rows of tables, but the server's own and this project's."""
    triggers = [
        Copier("trigger", table, name, _events(*events), function, source)
        for table, name, function, *events, source in conn.execute(_TRIGGERS.encode(), (OWN_SCHEMA,)).fetchall()
    ]
    rules = [
        Copier("rule", table, name, _events(*events), writes=tuple(targets))
        for table, name, *events, targets in conn.execute(_RULES.encode()).fetchall()
    ]
    return (*triggers, *rules)


def _events(*happens: bool) -> tuple[str, ...]:
    return tuple(event for event, does in zip(_EVENTS, happens, strict=True) if does)
