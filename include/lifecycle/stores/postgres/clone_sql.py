"""What makes up a table, as statements that give another one the same. Read from the catalogue with ``pg_get_*def``.

Every query binds ``source`` (the oid of the table) and ``target`` (the quoted name that the statements are for), and
gives statements in order, one a row. One that is NULL means that something could not be expressed; that is refused.
"""

from __future__ import annotations

# The clone has the source's own name, in another schema: definitions that mention the table by its bare name hold there
# too, and nothing has to be renamed when it takes the source's place.

_TABLE_OPTIONS = """
SELECT format('ALTER TABLE %%s SET (%%s)', %(target)s::text, string_agg(format('%%s = %%L', o.name, o.value), ', '))
FROM (
    SELECT quote_ident(split_part(x, '=', 1)) AS name, substr(x, strpos(x, '=') + 1) AS value
    FROM pg_class c, unnest(c.reloptions) x WHERE c.oid = %(source)s
    UNION ALL
    SELECT 'toast.' || quote_ident(split_part(x, '=', 1)), substr(x, strpos(x, '=') + 1)
    FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid, unnest(t.reloptions) x WHERE c.oid = %(source)s
) o HAVING count(*) > 0
"""

# LIKE copies every NOT NULL as valid; one that is not must not refuse the rows that it did not refuse in the source.
_LOOSE_NOT_NULL = """
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I DROP NOT NULL', %(target)s::text, a.attname)
FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.conrelid = %(source)s AND k.contype = 'n' AND NOT k.convalidated
"""

_COLUMN_SETTINGS = """
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %(target)s::text, a.attname, a.attstattarget)
FROM pg_attribute a WHERE a.attrelid = %(source)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
UNION ALL
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET (%%s)', %(target)s::text, a.attname,
    (SELECT string_agg(format('%%I = %%L', split_part(x, '=', 1), substr(x, strpos(x, '=') + 1)), ', ')
     FROM unnest(a.attoptions) x))
FROM pg_attribute a WHERE a.attrelid = %(source)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attoptions IS NOT NULL
"""

_CHECKS = """
SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %(target)s::text, k.conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k WHERE k.conrelid = %(source)s
AND (k.contype = 'c' OR (k.contype = 'n' AND NOT k.convalidated)) ORDER BY k.conname
"""

# In the order of the parent's indexes, so that of two alike ATTACH takes the one that was attached before.
_INDEXES = """
SELECT coalesce(s.spcname, ''), 'CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END
    || format('INDEX %%I ON %%s ', x.relname, %(target)s::text)
    || CASE WHEN starts_with(d.def, d.head) THEN substr(d.def, length(d.head) + 1) END
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_tablespace s ON s.oid = x.reltablespace
LEFT JOIN pg_inherits h ON h.inhrelid = x.oid,
LATERAL (SELECT pg_get_indexdef(i.indexrelid) AS def, 'CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END
    || format('INDEX %%I ON %%I.%%I ', x.relname, n.nspname, c.relname) AS head) d
WHERE i.indrelid = %(source)s AND i.indisvalid AND NOT i.indisexclusion
ORDER BY h.inhparent NULLS LAST, x.oid
"""

_OWN_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = %(source)s AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
"""

_KIND = """
SELECT format('%%s %%s %%s %%s', relpersistence, relam, reltablespace, relreplident)
FROM pg_class WHERE oid = %(source)s
"""

_REQUIRED = """
SELECT format('%%I NOT NULL', attname) FROM pg_attribute
WHERE attrelid = %(source)s AND attnum > 0 AND NOT attisdropped AND attnotnull
"""

_COLUMNS = """
SELECT format('%%I %%s %%s %%s', a.attname, a.attstorage, a.attcompression, pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(source)s AND a.attnum > 0 AND NOT a.attisdropped
"""

_EXCLUSIONS = """
SELECT coalesce(s.spcname, ''),
    format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %(target)s::text, k.conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_tablespace s ON s.oid = x.reltablespace LEFT JOIN pg_inherits h ON h.inhrelid = x.oid
WHERE k.conrelid = %(source)s AND k.contype IN ('p', 'u', 'x') AND i.indisexclusion
ORDER BY h.inhparent NULLS LAST, x.oid
"""

_KEYS = """
SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s USING INDEX %%I%%s', %(target)s::text, k.conname,
    CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, k.conname,
    CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END
    || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END)
FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid
WHERE k.conrelid = %(source)s AND k.contype IN ('p', 'u') AND NOT i.indisexclusion ORDER BY k.conname
"""

_INDEX_SETTINGS = """
SELECT format('ALTER INDEX %%s.%%I SET (%%s)', %(schema)s::text, x.relname,
    (SELECT string_agg(format('%%I = %%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ')
     FROM unnest(x.reloptions) o))
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = %(source)s AND i.indisvalid AND i.indisexclusion AND x.reloptions IS NOT NULL
UNION ALL
SELECT format('ALTER INDEX %%s.%%I ALTER COLUMN %%s SET STATISTICS %%s', %(schema)s::text, x.relname, a.attnum,
    a.attstattarget)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = x.oid
WHERE i.indrelid = %(source)s AND i.indisvalid AND a.attnum > 0 AND a.attstattarget >= 0
UNION ALL
SELECT format('ALTER TABLE %%s CLUSTER ON %%I', %(target)s::text, x.relname)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = %(source)s AND i.indisclustered
UNION ALL
SELECT format('ALTER TABLE %%s REPLICA IDENTITY USING INDEX %%I', %(target)s::text, x.relname)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = %(source)s AND i.indisreplident
UNION ALL
SELECT format('ALTER TABLE %%s REPLICA IDENTITY %%s', %(target)s::text,
    CASE relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END)
FROM pg_class WHERE oid = %(source)s AND relreplident IN ('f', 'n')
"""

_STATISTICS = """
SELECT CASE WHEN starts_with(d.def, d.head) AND right(d.def, length(d.tail)) = d.tail THEN
    format('CREATE STATISTICS %%s.%%I ', %(schema)s::text, s.stxname)
    || substr(d.def, length(d.head) + 1, length(d.def) - length(d.head) - length(d.tail))
    || format(' FROM %%s', %(target)s::text) END
FROM pg_statistic_ext s JOIN pg_namespace z ON z.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid
JOIN pg_namespace n ON n.oid = c.relnamespace,
LATERAL (SELECT pg_get_statisticsobjdef(s.oid) AS def,
    format('CREATE STATISTICS %%I.%%I ', z.nspname, s.stxname) AS head,
    CASE WHEN pg_table_is_visible(c.oid) THEN format(' FROM %%I', c.relname)
    ELSE format(' FROM %%I.%%I', n.nspname, c.relname) END AS tail) d
WHERE s.stxrelid = %(source)s
UNION ALL
SELECT format('ALTER STATISTICS %%s.%%I SET STATISTICS %%s', %(schema)s::text, s.stxname, s.stxstattarget)
FROM pg_statistic_ext s WHERE s.stxrelid = %(source)s AND s.stxstattarget >= 0
"""

# A clone is unlogged while it is filled where all tables are published.
LOGGED = """
SELECT format('ALTER TABLE %%s SET LOGGED', %(target)s::text) FROM pg_class s JOIN pg_class c
ON c.oid = to_regclass(%(target)s) WHERE s.oid = %(source)s AND s.relpersistence = 'p' AND c.relpersistence = 'u'
"""

# So that ATTACH need not read the rows once more while it holds its locks.
BOUNDS = """
SELECT format('ALTER TABLE %%s ADD CONSTRAINT lifecycle_bounds CHECK (%%s)', %(target)s::text, d.def)
FROM (SELECT pg_get_partition_constraintdef(%(source)s) AS def) d WHERE d.def IS NOT NULL
"""

# -- from here on the statements are for the clone in the source's place ---------------------------------------------

_FREE_SEQUENCES = """
SELECT format('ALTER SEQUENCE %%s OWNED BY NONE', d.objid::regclass)
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
AND d.refobjid = %(source)s AND d.deptype = 'a'
"""

_OWN_SEQUENCES = """
SELECT format('ALTER SEQUENCE %%s OWNED BY %%s.%%I', d.objid::regclass, %(target)s::text, a.attname)
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
AND d.refobjid = %(source)s AND d.deptype = 'a'
"""

_MOVE_STATISTICS = """
SELECT format('ALTER STATISTICS %%s.%%I SET SCHEMA %%I', %(schema)s::text, s.stxname, n.nspname)
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(source)s
UNION ALL
SELECT format('ALTER STATISTICS %%I.%%I OWNER TO %%I', n.nspname, s.stxname, pg_get_userbyid(s.stxowner))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(source)s
"""

_OWNER = """
SELECT format('ALTER TABLE %%s OWNER TO %%I', %(target)s::text, pg_get_userbyid(relowner))
FROM pg_class WHERE oid = %(source)s
"""

_FOREIGN_KEYS = """
SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %(target)s::text, k.conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k WHERE k.conrelid = %(source)s AND k.contype = 'f' ORDER BY k.conname
"""

_TRIGGERS = """
SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t
WHERE t.tgrelid = %(source)s AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY t.tgname
"""

_RULES = """
SELECT pg_get_ruledef(r.oid) FROM pg_rewrite r WHERE r.ev_class = %(source)s ORDER BY r.rulename
"""

_POLICIES = """
SELECT format('CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s', p.polname, %(target)s::text,
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
    ELSE 'ALL' END, (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
    FROM unnest(p.polroles) r))
    || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
    || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
FROM pg_policy p WHERE p.polrelid = %(source)s
UNION ALL
SELECT format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', %(target)s::text) FROM pg_class
WHERE oid = %(source)s AND relrowsecurity
UNION ALL
SELECT format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', %(target)s::text) FROM pg_class
WHERE oid = %(source)s AND relforcerowsecurity
"""

_PUBLICATIONS = """
SELECT format('ALTER PUBLICATION %%I ADD TABLE ONLY %%s', p.pubname, %(target)s::text)
    || coalesce((SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')'
        FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs::int2[])), '')
    || coalesce(' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')', '')
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %(source)s
"""

_PUBLICATIONS_14 = """
SELECT format('ALTER PUBLICATION %%I ADD TABLE ONLY %%s', p.pubname, %(target)s::text)
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %(source)s
"""

# A right is given by whom it was given, so that it goes when his own goes. NULL: this role may not act for him.
_GRANTS = """
SELECT format('REVOKE ALL ON TABLE %%s FROM %%I', %(target)s::text, pg_get_userbyid(relowner))
FROM pg_class WHERE oid = %(source)s AND relacl IS NOT NULL
UNION ALL (
SELECT CASE WHEN g.grantor = g.relowner THEN d.def
    WHEN pg_has_role(session_user, g.grantor,
            CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
        AND has_schema_privilege(g.grantor, g.relnamespace, 'USAGE')
    THEN format('SET LOCAL ROLE %%I; %%s; SET LOCAL ROLE %%I', pg_get_userbyid(g.grantor), d.def, current_user) END
FROM (
    SELECT c.relowner, c.relnamespace, '' AS columns, x.*
    FROM pg_class c, aclexplode(c.relacl) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place)
    WHERE c.oid = %(source)s
    UNION ALL
    SELECT c.relowner, c.relnamespace, format(' (%%I)', a.attname), x.*
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid,
        aclexplode(a.attacl) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place)
    WHERE c.oid = %(source)s AND a.attnum > 0 AND NOT a.attisdropped
) g, LATERAL (SELECT format('GRANT %%s%%s ON TABLE %%s TO %%s%%s', g.privilege_type, g.columns, %(target)s::text,
    CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
    CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS def) d
ORDER BY g.grantor <> g.relowner, NOT g.is_grantable, g.place)
"""

# Once it is a partition again: what comes from the parent has its own state, and everything has its comment.
# In version 14 a trigger that came from the parent counts as internal, as those of foreign keys do in all versions.
_STATES = """
SELECT format('ALTER TABLE %%s %%s TRIGGER %%I', %(target)s::text, CASE t.tgenabled WHEN 'D' THEN 'DISABLE'
    WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, t.tgname)
FROM pg_trigger t WHERE t.tgrelid = %(source)s AND (NOT t.tgisinternal OR t.tgparentid <> 0 AND NOT EXISTS
    (SELECT FROM pg_constraint k WHERE k.oid = t.tgconstraint AND k.contype <> 't'))
UNION ALL
SELECT format('ALTER TABLE %%s %%s RULE %%I', %(target)s::text, CASE r.ev_enabled WHEN 'D' THEN 'DISABLE'
    WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, r.rulename)
FROM pg_rewrite r WHERE r.ev_class = %(source)s
"""

_COMMENTS = """
SELECT format('COMMENT ON %%s IS %%L', o.what, d.description)
FROM pg_description d JOIN (
    SELECT 'pg_class'::regclass AS class, %(source)s::oid AS oid, 0 AS sub,
        format('TABLE %%s', %(target)s::text) AS what
    UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, format('COLUMN %%s.%%I', %(target)s::text, attname)
    FROM pg_attribute WHERE attrelid = %(source)s AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT 'pg_class'::regclass, x.oid, 0, format('INDEX %%I.%%I', n.nspname, x.relname) FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace WHERE i.indrelid = %(source)s
    AND i.indisvalid
    UNION ALL SELECT 'pg_constraint'::regclass, oid, 0, format('CONSTRAINT %%I ON %%s', conname, %(target)s::text)
    FROM pg_constraint WHERE conrelid = %(source)s
    UNION ALL SELECT 'pg_trigger'::regclass, oid, 0, format('TRIGGER %%I ON %%s', tgname, %(target)s::text)
    FROM pg_trigger t WHERE tgrelid = %(source)s AND (NOT tgisinternal OR tgparentid <> 0 AND NOT EXISTS
        (SELECT FROM pg_constraint k WHERE k.oid = t.tgconstraint AND k.contype <> 't'))
    UNION ALL SELECT 'pg_rewrite'::regclass, oid, 0, format('RULE %%I ON %%s', rulename, %(target)s::text)
    FROM pg_rewrite WHERE ev_class = %(source)s
    UNION ALL SELECT 'pg_policy'::regclass, oid, 0, format('POLICY %%I ON %%s', polname, %(target)s::text)
    FROM pg_policy WHERE polrelid = %(source)s
    UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, 0, format('STATISTICS %%I.%%I', n.nspname, s.stxname)
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(source)s
) o ON d.classoid = o.class AND d.objoid = o.oid AND d.objsubid = o.sub
"""

_LABELS = """
SELECT format('SECURITY LABEL FOR %%I ON %%s IS %%L', l.provider,
    CASE WHEN l.objsubid = 0 THEN format('TABLE %%s', %(target)s::text)
    ELSE format('COLUMN %%s.%%I', %(target)s::text, a.attname) END, l.label)
FROM pg_seclabel l LEFT JOIN pg_attribute a ON a.attrelid = l.objoid AND a.attnum = l.objsubid
WHERE l.classoid = 'pg_class'::regclass AND l.objoid = %(source)s
"""

EMPTY_TABLE = (_TABLE_OPTIONS, _LOOSE_NOT_NULL, _COLUMN_SETTINGS)
"""Before the rows come."""
INDEXES = (_INDEXES, _EXCLUSIONS)
"""After the rows; each row is a tablespace ('' for the default) and a statement."""
FILLED_TABLE = (_CHECKS, _KEYS, _INDEX_SETTINGS, _STATISTICS)
RELEASE = (_FREE_SEQUENCES,)
"""On the source, right before it is dropped."""


def in_place(server_version: int) -> tuple[str, ...]:
    """What the clone gets in the source's place, before it is attached."""
    publications = _PUBLICATIONS if server_version >= 150000 else _PUBLICATIONS_14
    return (
        _MOVE_STATISTICS,
        _OWN_SEQUENCES,
        _FOREIGN_KEYS,
        _TRIGGERS,
        _RULES,
        _POLICIES,
        publications,
    )


def alike(server_version: int) -> tuple[str, ...]:
    """What tells two partitions of one parent apart, beside their rows, bounds and names."""
    own = (_TABLE_OPTIONS, _COLUMN_SETTINGS, _OWN_INDEXES, _KIND, _OWNER, _GRANTS, _CHECKS, _STATES, _COMMENTS, _LABELS)
    return (*own, _REQUIRED, _COLUMNS, _STATISTICS, *in_place(server_version)[2:])


OWNER, GRANTS = _OWNER, _GRANTS
ATTACHED = (_STATES, _COMMENTS, _LABELS)
