"""The least-privilege role that a run needs, as a script: pure text, made from the dataset file.

Runs in psql or anything else; what a server before PostgreSQL 17 lacks (MAINTAIN) it works out by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Catalog, Child, Records, StagedRecords
from lifecycle.catalog.stages import all_of
from lifecycle.stores.postgres.belongings import keyed_tables

_HEADER = """\
-- The role that `lifecycle` runs as: no superuser, nothing on tables that the dataset file does not name.
-- Made by `lifecycle postgres grants`. Run it once as the owner of the database (on a managed service: its
-- administrator), and again after every change of the dataset file. It is one transaction and may be repeated.
-- Then give the role a password or a certificate of its own:  ALTER ROLE {role} PASSWORD '...';
BEGIN;
"""
_CREATE = """\
DO $do$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN
        CREATE ROLE {role} {how};
    END IF;
END $do$;
"""
_CONNECT = """\
DO $do$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {role}', current_database());
END $do$;
"""
_TREE_WHY = """
-- A run creates, attaches and drops partitions, and only an owner may. The group {owner}
-- owns the tree of messages; the run is a member, and so is whoever owned the tree before, whose rights stay what they
-- were. It may create tables beside the tree. The application reaches partitions through the parent, and needs no
-- grants on them.
"""
_GRANT_BESIDE = "GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner}, {role};\n"
_TREE = """\
DO $do$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT c.oid::regclass AS name, c.relowner AS owner FROM pg_partition_tree({tree}) t
                JOIN pg_class c ON c.oid = t.relid WHERE c.relowner <> {owner_name}::regrole LOOP
        IF NOT pg_has_role(part.owner, {owner_bare}, 'MEMBER') THEN
            EXECUTE format('GRANT {owner} TO %s', part.owner::regrole);
        END IF;
        EXECUTE format('ALTER TABLE %s OWNER TO {owner}', part.name);
    END LOOP;
END $do$;
"""
_REFERRED_WHY = """
-- What the tree refers to by a foreign key: a partition that is replaced refers to it as before.
"""
_REFERRED = """\
DO $do$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT DISTINCT k.confrelid::regclass FROM pg_partition_tree({tree}) t
                JOIN pg_constraint k ON k.conrelid = t.relid AND k.contype = 'f' AND k.conparentid = 0
                WHERE k.confrelid NOT IN (SELECT relid FROM pg_partition_tree({tree})) LOOP
        EXECUTE format('GRANT REFERENCES ON %s TO {role}', name);
    END LOOP;
END $do$;
"""
_DIVIDED_WHY = """
-- An ordinary table that its clock alone divides loses whole partitions, if the group {owner}
-- owns it, as above; otherwise its rows go one by one. What refers to its rows is set aside while one is replaced.
"""
_DIVIDED = """\
DO $do$
DECLARE
    tree record;
    part record;
BEGIN
    FOR tree IN SELECT c.oid, c.relnamespace::regnamespace AS schema, t.children
                FROM jsonb_to_recordset({tables}) t (name text, clock text, children jsonb)
                JOIN pg_class c ON c.oid = to_regclass(t.name)
                JOIN pg_partitioned_table p ON p.partrelid = c.oid AND p.partstrat = 'r' AND p.partnatts = 1
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.attname = t.clock LOOP
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %s TO {owner}, {role}', tree.schema);
        FOR part IN SELECT c.oid::regclass AS name, c.relowner AS owner FROM pg_partition_tree(tree.oid) t
                    JOIN pg_class c ON c.oid = t.relid WHERE c.relowner <> {owner_name}::regrole LOOP
            IF NOT pg_has_role(part.owner, {owner_bare}, 'MEMBER') THEN
                EXECUTE format('GRANT {owner} TO %s', part.owner::regrole);
            END IF;
            EXECUTE format('ALTER TABLE %s OWNER TO {owner}', part.name);
        END LOOP;
        FOR part IN SELECT DISTINCT k.confrelid::regclass AS name FROM pg_partition_tree(tree.oid) t
                    JOIN pg_constraint k ON k.conrelid = t.relid AND k.contype = 'f' AND k.conparentid = 0
                    WHERE k.confrelid NOT IN (SELECT relid FROM pg_partition_tree(tree.oid)) LOOP
            EXECUTE format('GRANT REFERENCES ON %s TO {role}', part.name);
        END LOOP;
        FOR part IN SELECT DISTINCT k.conrelid::regclass AS name FROM pg_constraint k
                    JOIN jsonb_array_elements_text(tree.children) c (name) ON k.conrelid = to_regclass(c.name)
                    WHERE k.contype = 'f' AND k.confrelid = tree.oid LOOP
            EXECUTE format('GRANT INSERT ON %s TO {role}', part.name);
        END LOOP;
    END LOOP;
END $do$;
"""
_SCHEMA_WHY = """
-- Its own schema: plans, ledger, holds, requests. Who places holds and requests keeps the rights that it has.
"""
_SCHEMA = """\
DO $do$
DECLARE
    item record;
BEGIN
    IF to_regnamespace('lifecycle') IS NULL THEN
        CREATE SCHEMA lifecycle;
    END IF;
    EXECUTE format('ALTER SCHEMA lifecycle OWNER TO %I', {bare});
    FOR item IN SELECT c.oid::regclass AS name FROM pg_class c WHERE c.relnamespace = 'lifecycle'::regnamespace
                AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relowner <> quote_ident({bare})::regrole LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', item.name, {bare});
    END LOOP;
    FOR item IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'lifecycle'::regnamespace
                AND p.proowner <> quote_ident({bare})::regrole LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO %I', item.name, {bare});
    END LOOP;
END $do$;
"""
_MAINTAIN_WHY = """
-- To vacuum what it deleted from, and to lock exceptions against change while it destroys: MAINTAIN. A server before
-- PostgreSQL 17 has no such right: there the group owns what is vacuumed, and locking takes the right to update.
"""
_MAINTAIN = """\
DO $do$
DECLARE
    name text;
    old oid;
BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN
        FOREACH name IN ARRAY {vacuumed}::text[] || {locked}::text[] LOOP
            EXECUTE format('GRANT MAINTAIN ON %s TO {role}', name);
        END LOOP;
        RETURN;
    END IF;
    FOREACH name IN ARRAY {vacuumed}::text[] LOOP
        SELECT relowner INTO old FROM pg_class WHERE oid = name::regclass;
        IF old <> {owner_name}::regrole THEN
            IF NOT pg_has_role(old, {owner_bare}, 'MEMBER') THEN
                EXECUTE format('GRANT {owner} TO %s', old::regrole);
            END IF;
            EXECUTE format('ALTER TABLE %s OWNER TO {owner}', name);
        END IF;
    END LOOP;
    FOREACH name IN ARRAY {locked}::text[] LOOP
        EXECUTE format('GRANT UPDATE ON %s TO {role}', name);
    END LOOP;
END $do$;
"""
_VIEWS = """
-- To refresh what is made from disposed data. Before PostgreSQL 17 only the owner of a view may.
DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY {views}::text[] LOOP
        EXECUTE format('GRANT SELECT ON %s TO {role}', name);
        IF current_setting('server_version_num')::int >= 170000 THEN
            EXECUTE format('GRANT MAINTAIN ON %s TO {role}', name);
        ELSE
            RAISE WARNING 'make {role} a member of the owner of %, so that it may be refreshed', name;
        END IF;
    END LOOP;
END $do$;
"""
_FOOTER = """
-- Not needed, and useful: with it the run sees how far replicas are behind and whose old snapshots keep deleted rows
-- (`lifecycle postgres physical`); without it these are shown as unknown.
-- GRANT pg_monitor TO {role};

-- Whoever runs this script was a member only to hand things over.
{leave}COMMIT;
"""
_JOIN = """
-- Only a member of a role may hand things over to it.
GRANT {role}, {owner} TO CURRENT_USER;
"""


def grants_script(catalog: Catalog, role: str) -> str:
    """The script for a role of that name. ``<role>_owner`` is the group that owns the tree of messages."""
    owner = f"{role}_owner"
    inside = {"role": _in_format(_name(role)), "owner": _in_format(_name(owner))}
    names = {
        "role": _name(role),
        "owner": _name(owner),
        "bare": _text(role),
        "owner_bare": _text(owner),
        "owner_name": _text(_name(owner)),
        "vacuumed": _array(vacuumed_tables(catalog)),
        "locked": _array(locked_tables(catalog)),
    }
    parts = [
        _HEADER.format(**names),
        _CREATE.format(name=_text(role), role=_name(role), how="LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE"),
        _CREATE.format(name=_text(owner), role=_name(owner), how="NOLOGIN"),
        _JOIN.format(**names),
        _CONNECT.format(**inside),
        *(f"GRANT USAGE ON SCHEMA {_name(schema)} TO {names['role']};\n" for schema in schemas(catalog)),
        *_tree(catalog, names, inside),
        *_divided(catalog, names | inside),
        _SCHEMA_WHY,
        _SCHEMA.format(**names),
        "\n-- To find, lock and delete what is due; to read what decides.\n",
        *_tables(catalog, names["role"]),
        _MAINTAIN_WHY.format(**names),
        _MAINTAIN.format(**names | inside),
        *_views(catalog, inside),
        _FOOTER.format(**names, leave=f"REVOKE {names['role']}, {names['owner']} FROM CURRENT_USER;\n"),
    ]
    return "".join(parts)


def _tree(catalog: Catalog, names: dict[str, str], inside: dict[str, str]) -> Iterator[str]:
    """The rights on the tree of messages; before PostgreSQL 17 the group owns what is vacuumed in any case."""
    member = f"GRANT {names['owner']} TO {names['role']};\n"
    if not catalog.has_messages:
        yield f"\n-- Who owns what is vacuumed on a server before PostgreSQL 17; the run is a member.\n{member}"
        return
    yield _TREE_WHY.format(**names)
    yield member
    yield _GRANT_BESIDE.format(**names, schema=_name(_schema(catalog.messages.table)))
    tree = names | inside | {"tree": _text(_table(catalog.messages.table))}
    yield _TREE.format(**tree)
    yield _REFERRED_WHY
    yield _REFERRED.format(**tree)


def _divided(catalog: Catalog, names: dict[str, str]) -> Iterator[str]:
    """The rights on ordinary tables that time alone may divide; whether it does the server says."""
    tables = [
        {
            "name": _table(each.table),
            "clock": column_of(each.clock),
            "children": [_table(child.table) for child in each.children],
        }
        for each in catalog.tables
        if each.by_partition
    ]
    if tables:
        yield _DIVIDED_WHY.format(owner=names["owner"])
        yield _DIVIDED.format(**names | {"tables": f"{_text(json.dumps(tables, ensure_ascii=False))}::jsonb"})


def _views(catalog: Catalog, inside: dict[str, str]) -> Iterator[str]:
    views = [view for dataset in catalog.tables for view in dataset.refresh]
    if views:
        yield _VIEWS.format(views=_array(views), role=inside["role"])


def vacuumed_tables(catalog: Catalog) -> list[str]:
    """Tables outside the tree that a run vacuums, or locks against its own kind before it deletes from them."""
    found = [
        *(child.table for child in _children_of_messages(catalog)),
        *(dataset.table for dataset in catalog.tables),
        *(name for dataset in catalog.tables for name, _ in keyed_tables(dataset)),
        *(dataset.table for dataset in _accounts(catalog)),
    ]
    return list(dict.fromkeys(found))


def locked_tables(catalog: Catalog) -> list[str]:
    """Exceptions that are only read and locked."""
    return [name for name in catalog.exceptions.tables if name not in vacuumed_tables(catalog)]


def _children_of_messages(catalog: Catalog) -> tuple[Child, ...]:
    return catalog.messages.children if catalog.has_messages else ()


def _accounts(catalog: Catalog) -> tuple[Accounts, ...]:
    return (catalog.accounts,) if catalog.has_accounts else ()


def _telling_tiers(catalog: Catalog) -> list[str]:
    """Tables in which the tier of other tables' rows is looked up."""
    return [each.tiers.table for each in catalog.tables if each.tiers is not None and each.tiers.table is not None]


def schemas(catalog: Catalog) -> list[str]:
    of_messages = (catalog.messages.table, catalog.messages.research.table) if catalog.has_messages else ()
    names = [
        *of_messages,
        *vacuumed_tables(catalog),
        *locked_tables(catalog),
        *_telling_tiers(catalog),
        *(child.table for dataset in _accounts(catalog) for child in dataset.referenced_by),
    ]
    names += [view for dataset in catalog.tables for view in dataset.refresh]
    return sorted({_schema(name) for name in names} - {"lifecycle"})


def _tables(catalog: Catalog, role: str) -> Iterator[str]:
    """The rights on each table; those of one that is named twice add up."""
    rights: dict[str, dict[str, None]] = {}

    def need(name: str, *what: str) -> None:
        if not name.startswith("lifecycle."):
            rights.setdefault(name, {}).update(dict.fromkeys(what))

    for name in locked_tables(catalog):
        need(name, "SELECT")
    for child in _children_of_messages(catalog):
        # What moved into quarantine comes back when its flag is cleared.
        need(child.table, "SELECT", "DELETE", *(["INSERT"] if child.moves else []))
    for dataset in catalog.row_by_row:
        need(dataset.table, *_row_by_row(dataset))
        for name, what in _beside(dataset):
            need(name, "SELECT", what)
    for name in _telling_tiers(catalog):
        need(name, "SELECT")
    for each in _accounts(catalog):
        for child in each.referenced_by:
            need(child.table, "SELECT")
    if catalog.has_messages:
        need(catalog.messages.research.table, "SELECT", "INSERT")
        rights.pop(catalog.messages.table, None)
    for name in rights:
        yield f"GRANT {', '.join(rights[name])} ON {_table(name)} TO {role};\n"


def _row_by_row(dataset: Records | Accounts) -> tuple[str, ...]:
    """Locking a row takes the right to update one of its columns; the key's is the one that no run uses."""
    columns = dataset.personal if isinstance(dataset, Accounts) else dataset.key_columns
    if isinstance(dataset, StagedRecords):
        columns = (*dataset.key_columns, *(each.column for each in dataset.part.clear))
    return "SELECT", "DELETE", f"UPDATE ({', '.join(_name(column) for column in columns)})"


def _beside(dataset: Records | Accounts) -> Iterator[tuple[str, str]]:
    """What goes with a record, beside its own table."""
    if isinstance(dataset, Records):
        yield from ((child.table, "DELETE") for child in all_of(dataset.children))
        yield from ((copy.table, f"UPDATE ({_name(copy.column)})") for copy in dataset.copies)


def _schema(table: str) -> str:
    return table.split(".", 1)[0]


def _name(identifier: str) -> str:
    return sql.Identifier(identifier).as_string(None)


def _table(name: str) -> str:
    return sql.Identifier(*name.split(".", 1)).as_string(None)


def _text(value: str) -> str:
    return sql.Literal(value).as_string(None)


def _array(tables: list[str]) -> str:
    return f"ARRAY[{', '.join(_text(_table(name)) for name in tables)}]"


def _in_format(text: str) -> str:
    """Inside the first argument of format(), within quotes."""
    return text.replace("%", "%%").replace("'", "''")
