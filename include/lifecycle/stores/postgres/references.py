"""What else in the database holds on to a partition: foreign keys in both directions, and objects made from it.

A foreign key of a table that the dataset file does not name is never left to fire: its ON DELETE action would destroy
or change what no rule was asked about. Rows of tables that are named go first, and survivors keep theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Accounts, Catalog, Records, StagedRecords
from lifecycle.catalog.stages import all_of
from lifecycle.errors import DispositionError, VerificationError
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.fates import HOLDS
from lifecycle.stores.postgres.tree import Partition

log = logging.getLogger(__name__)
# The triggers of a foreign key on what it refers to are found by index, however many constraints there are. Up to
# PostgreSQL 14 a partitioned table has none, and those of its partitions belong to constraints made from the key's own:
# so one of its partitions is asked.
_INCOMING = """
WITH RECURSIVE up AS (
    SELECT k.oid, k.conparentid FROM pg_constraint k WHERE k.contype = 'f' AND k.oid IN (
        SELECT t.tgconstraint FROM (SELECT %(target)s::regclass AS relid UNION SELECT p.relid
            FROM pg_partition_ancestors(%(target)s::regclass) p UNION (SELECT t.relid
            FROM pg_partition_tree(%(target)s::regclass) t WHERE t.isleaf LIMIT 1)) r
        JOIN pg_trigger t ON t.tgrelid = r.relid WHERE t.tgisinternal AND t.tgconstraint <> 0)
    UNION SELECT k.oid, k.conparentid FROM up JOIN pg_constraint k ON k.oid = up.conparentid)
SELECT k.conname, n.nspname, c.relname, f.oid::regclass::text, k.confdeltype::text, k.confrelid = %(target)s::regclass,
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, place) JOIN pg_attribute a
        ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.place),
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(attnum, place) JOIN pg_attribute a
        ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.place)
FROM up JOIN pg_constraint k ON k.oid = up.oid AND up.conparentid = 0
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class f ON f.oid = k.confrelid WHERE k.confrelid = %(target)s::regclass
    OR k.confrelid IN (SELECT p.relid FROM pg_partition_ancestors(%(target)s::regclass) p)
ORDER BY 2, 3, 1
"""
_OUTGOING = """
SELECT DISTINCT n.nspname, c.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.conrelid = %(target)s::regclass AND k.contype = 'f'
AND NOT c.relispartition AND (has_table_privilege(c.oid, 'UPDATE') OR has_table_privilege(c.oid, 'DELETE')
    OR CASE WHEN current_setting('server_version_num')::int >= 170000
        THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END)
ORDER BY 1, 2
"""
_DEPENDENTS = """
SELECT DISTINCT pg_describe_object(o.classid, o.objid, 0) FROM (
    SELECT CASE WHEN d.classid = 'pg_rewrite'::regclass THEN 'pg_class'::regclass ELSE d.classid END AS classid,
        CASE WHEN d.classid = 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = d.objid)
        ELSE d.objid END AS objid
    FROM pg_depend d WHERE d.deptype = 'n' AND (
        d.refclassid = 'pg_class'::regclass AND d.refobjid = %(target)s::regclass
            AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)
        OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT t.oid FROM pg_class c JOIN pg_type t
            ON t.oid = c.reltype OR t.typelem = c.reltype AND t.typcategory = 'A' WHERE c.oid = %(target)s::regclass)
            AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass))
    UNION ALL
    SELECT 'pg_subscription'::regclass, r.srsubid FROM pg_subscription_rel r WHERE r.srrelid = %(target)s::regclass
) o WHERE o.objid IS NOT NULL AND o.objid <> %(target)s::regclass::oid ORDER BY 1
"""
_SIMPLE = """
SELECT NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = %(target)s::regclass AND t.tgenabled <> 'D'
    AND (NOT t.tgisinternal OR t.tgparentid <> 0 AND NOT EXISTS
        (SELECT FROM pg_constraint k WHERE k.oid = t.tgconstraint AND k.contype <> 't')))
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = %(target)s::regclass AND k.contype = 'f')
AND NOT EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = %(target)s::regclass)
AND has_table_privilege(%(target)s::regclass, 'INSERT')
"""
_ACTS = {"c": "ON DELETE CASCADE", "n": "ON DELETE SET NULL", "d": "ON DELETE SET DEFAULT"}


@dataclass(frozen=True)
class Reference:
    """A foreign key of ``table`` to a partition or to a table above it. ``direct``: to the partition itself."""

    constraint: str
    schema: str
    name: str
    target: str
    on_delete: str
    direct: bool
    columns: tuple[str, ...]
    referenced: tuple[str, ...]

    @property
    def table(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        act = f" {_ACTS[self.on_delete]}" if self.on_delete in _ACTS else ""
        return f"constraint {self.constraint} of table {self.table}{act}, which refers to {self.target}"


class ReferencedError(DispositionError):
    """A foreign key refers to what would be destroyed; nothing was. Names constraints and tables, never a key."""

    def __init__(
        self, unit: str, references: Sequence[Reference], remedy: str, what: str = "nothing was destroyed"
    ) -> None:
        self.references = tuple(references)
        named = "; ".join(str(reference) for reference in references)
        super().__init__(unit, 1, {"foreign keys": len(self.references)})
        self.args = (f"{unit}: {what}, because of {named}. {remedy}",)


def violated(unit: str, error: psycopg.errors.ForeignKeyViolation, *, batch: bool = False) -> ReferencedError:
    """The same for a key that still refers to what was about to go; PostgreSQL's own message shows its value.

    Args:
        batch: batches before this one are done.
    """
    found = error.diag
    reference = Reference(
        found.constraint_name or "?", found.schema_name or "?", found.table_name or "?", "it", "a", False, (), ()
    )
    if batch:
        return ReferencedError(unit, [reference], _remedy(reference), "the batches from this one on were not destroyed")
    return ReferencedError(unit, [reference], "Rows that are younger than the plan refer to it; run again")


def incoming(conn: Connection, schema: str, name: str) -> list[Reference]:
    """Foreign keys to a table, or to a partitioned table that it is a part of."""
    target = sql.Identifier(schema, name).as_string(conn)
    rows = conn.execute(_INCOMING.encode(), {"target": target}).fetchall()
    return [
        Reference(constraint, schema, name, above, act, direct, tuple(columns), tuple(referenced))
        for constraint, schema, name, above, act, direct, columns, referenced in rows
    ]


def refuse_references(
    conn: Connection, catalog: Catalog, leaf: Partition, unit: str, as_of: datetime, *, moving: bool = False
) -> None:
    """Refuse to take anything out of a partition, or out of the child tables, that a table nobody configured refers to.

    Args:
        moving: records go into quarantine; children that do not move with them must not refer to them.

    Raises:
        ReferencedError: see there.
    """
    dataset = catalog.messages
    to_records = incoming(conn, leaf.schema, leaf.name)
    found = strangers(conn, catalog, to_records, direct=True)
    if found:
        raise ReferencedError(unit, found, _remedy(found[0]))
    staying = {child.table for child in dataset.children if not child.moves}
    left = [reference for reference in to_records if moving and reference.table in staying]
    if left:
        raise ReferencedError(
            unit, left, f"Rows of {left[0].table} stay when a record moves into quarantine; let them move, or drop it"
        )
    held = [reference for reference in to_records if _is_held(conn, catalog, reference.table, as_of)]
    if held:
        raise ReferencedError(unit, held, _remedy_of_held(held[0]))


def refuse_acting(
    conn: Connection, catalog: Catalog, dataset: Records | Accounts, unit: str, as_of: datetime, *, begun: bool = False
) -> None:
    """Refuse to delete rows of an ordinary table to which a foreign key would react, by a cascade or by emptying
    columns, other than that of a child whose rows go with theirs. One that only forbids stops the batch by itself.

    The rows of a table with a rule of its own, and those of the table itself, have a fate of their own: none may go by
    a cascade. They may lose what they refer to, unless their fate depends on it.

    Args:
        begun: batches before this one are done.

    Raises:
        ReferencedError: see there.
    """
    if isinstance(dataset, StagedRecords):
        return
    what = "the batches from this one on were not destroyed" if begun else "nothing was destroyed"
    tables = _declared(dataset)
    children, keys = tables.keys() - {dataset.table}, {pair for declared in tables.values() for pair in declared}
    for name, declared in tables.items():
        acting = [each for each in incoming(conn, *name.split(".", 1)) if each.on_delete in _ACTS]
        odd = [
            each
            for each in acting
            if not any((each.table, column) in declared for column in each.columns)
            and not _spared(catalog, each)
            and not (each.table in children and _only_empties(each, keys))
        ]
        if odd:
            remedy = _remedy_of_accounts(odd[0]) if isinstance(dataset, Accounts) else _remedy(odd[0])
            raise ReferencedError(unit, odd, remedy, what)
        if isinstance(dataset, Accounts):
            continue  # an account goes once no row of a declared table refers to it
        held = [each for each in acting if _is_held(conn, catalog, each.table, as_of)]
        if held:
            raise ReferencedError(unit, held, _remedy_of_held(held[0]), what)


def _declared(dataset: Records | Accounts) -> dict[str, set[tuple[str, str]]]:
    """The tables that rows are deleted from, each with the tables, and their keys, whose rows are asked about first."""
    if isinstance(dataset, Accounts):
        return {dataset.table: {(child.table, child.key) for child in dataset.referenced_by}}
    found = {dataset.table: {(child.table, child.key) for child in dataset.children}}
    for child in all_of(dataset.children):
        found.setdefault(child.table, set()).update((each.table, each.key) for each in child.children)
    return found


def _only_empties(reference: Reference, keys: set[tuple[str, str]]) -> bool:
    """Whether a foreign key of a child only empties columns by which no row of it is asked for."""
    return reference.on_delete != "c" and not any((reference.table, column) in keys for column in reference.columns)


def _spared(catalog: Catalog, reference: Reference) -> bool:
    """Whether a foreign key only empties columns, of a table with a rule of its own, that tell nothing about a row."""
    bound = [each for each in catalog.tables if each.table == reference.table]
    if reference.on_delete == "c" or not bound:
        return False
    telling = {
        name
        for each in bound
        for name in (*each.key_columns, column_of(each.clock), each.subject, each.record, each.group, each.basis)
    }
    telling |= {name for each in bound if (tiers := each.tiers) for name in (tiers.column, tiers.by)}
    return not telling & set(reference.columns)


def strangers(
    conn: Connection, catalog: Catalog, to_records: Sequence[Reference], *, direct: bool = False
) -> list[Reference]:
    """Of the foreign keys to messages, and to their children, those of tables that nobody configured.

    Args:
        direct: those to the table itself count whoever has them: it is a partition, which may be replaced.
    """
    dataset = catalog.messages
    children = {child.table: child.key for child in dataset.children}
    to_children = [each for child in dataset.children for each in incoming(conn, *child.table.split(".", 1))]
    return [
        each
        for each in to_records
        if (direct and each.direct) or not _belongs(each, children.get(each.table), dataset.record)
    ] + [each for each in to_children if each.table not in children]


def strangers_to_leaf(conn: Connection, dataset: Records, leaf: Partition) -> list[Reference]:
    """Foreign keys to a partition of an ordinary table, or to the table, other than those of its children to its key:
    where there is one, rows go one by one, and what it forbids or does is met row by row."""
    keys = {child.table: (child.key, child.parent_key or dataset.referred_key) for child in dataset.children}
    return [
        each
        for each in incoming(conn, leaf.schema, leaf.name)
        if each.direct or each.table not in keys or not _belongs(each, *keys[each.table])
    ]


def warn_of_strangers(conn: Connection, catalog: Catalog) -> None:
    """Say at planning time what units of messages will be refused for."""
    found = strangers(conn, catalog, incoming(conn, *catalog.messages.table.split(".", 1)))
    for reference in found:
        log.error(
            "nothing of %s will be destroyed, because of %s. %s", catalog.messages.table, reference, _remedy(reference)
        )


def _belongs(reference: Reference, key: str | None, record: str) -> bool:
    """Whether a foreign key is that of a configured child: then its rows go first, found by the child's key."""
    return key is not None and (key, record) in zip(reference.columns, reference.referenced, strict=True)


def _remedy(reference: Reference) -> str:
    return (
        f"Declare {reference.table} among the children of the dataset, if its rows go with the record, or drop the"
        f' constraint: ALTER TABLE {reference.table} DROP CONSTRAINT "{reference.constraint}"'
    )


def _remedy_of_accounts(reference: Reference) -> str:
    return (
        f"List {reference.table} under referenced_by, so that an account stays while a row of it refers to it, or drop"
        f' the constraint: ALTER TABLE {reference.table} DROP CONSTRAINT "{reference.constraint}"'
    )


def _remedy_of_held(reference: Reference) -> str:
    return f"A hold keeps the rows of {reference.table}, and so the records they refer to; release it first"


def _is_held(conn: Connection, catalog: Catalog, table: str, as_of: datetime) -> bool:
    named = [table, *(name for item in catalog.records if item.table == table for name in item.names)]
    return bool(
        one(
            conn,
            sql.SQL(
                "SELECT EXISTS (SELECT FROM {} h WHERE h.scope = 'dataset' AND btrim(h.target) = ANY(%s)"
                " AND (h.released_at IS NULL OR h.released_at > %s))"
            ).format(HOLDS),
            (named, as_of),
        )
    )


def partners(conn: Connection, leaf: Partition) -> tuple[list[sql.Identifier], list[sql.Identifier]]:
    """The tables whose foreign keys refer to a partition, and those that it refers to.

    Of the latter only what this role may lock; the others are locked by the statement that needs them.
    """
    target = {"target": leaf.identifier.as_string(conn)}
    referring = {(reference.schema, reference.name) for reference in incoming(conn, leaf.schema, leaf.name)}
    referred = conn.execute(_OUTGOING.encode(), target).fetchall()
    return (
        [sql.Identifier(*name) for name in sorted(referring)],
        [sql.Identifier(*name) for name in referred if tuple(name) not in referring],
    )


def dependents(conn: Connection, leaf: Partition) -> list[str]:
    """Views, functions and columns that are made from the partition itself, and subscriptions that fill it.

    What a subscription fills is known to it by oid: rows for a table in its place would be passed over in silence.
    """
    rows = conn.execute(_DEPENDENTS.encode(), {"target": leaf.identifier.as_string(conn)}).fetchall()
    return [name for (name,) in rows]


# -- rows of children, carried along with the survivors --------------------------------------------------------------


@dataclass(frozen=True)
class Carried:
    """Rows of a child that were set aside while the partition they refer to is replaced."""

    reference: Reference
    aside: sql.Identifier
    columns: sql.Composed
    rows: int


def can_be_carried(conn: Connection, reference: Reference) -> bool:
    """Whether rows can be taken out and put back unnoticed: we may, and no trigger, rule or key would act."""
    return bool(one(conn, _SIMPLE.encode(), {"target": reference.identifier.as_string(conn)}))


def carry_away(conn: Connection, references: Sequence[Reference], survivors: sql.Identifier) -> list[Carried]:
    """Set the rows aside that refer to survivors. The children are locked."""
    return [_carry(conn, number, reference, survivors) for number, reference in enumerate(references)]


def _carry(conn: Connection, number: int, reference: Reference, survivors: sql.Identifier) -> Carried:
    aside = sql.Identifier("pg_temp", f"lifecycle_carried_{number}")
    columns = _columns(conn, reference)
    parts: Mapping[str, sql.Composable] = {
        "aside": aside,
        "columns": columns,
        "child": reference.identifier,
        "survivors": survivors,
        "same": sql.SQL(" AND ").join(
            sql.SQL("c.{} = s.{}").format(sql.Identifier(mine), sql.Identifier(theirs))
            for mine, theirs in zip(reference.columns, reference.referenced, strict=True)
        ),
    }
    conn.execute(
        sql.SQL(
            "CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {columns} FROM {child} c"
            " WHERE EXISTS (SELECT FROM {survivors} s WHERE {same})"
        ).format(name=sql.Identifier(f"lifecycle_carried_{number}"), **parts)
    )
    gone = conn.execute(
        sql.SQL("DELETE FROM {child} c WHERE EXISTS (SELECT FROM {survivors} s WHERE {same})").format(**parts)
    ).rowcount
    return Carried(reference, aside, columns, gone)


def _columns(conn: Connection, reference: Reference) -> sql.Composed:
    rows = conn.execute(
        "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
        (reference.identifier.as_string(conn),),
    ).fetchall()
    return sql.SQL(", ").join(sql.Identifier(name) for (name,) in rows)


def carry_back(conn: Connection, carried: Sequence[Carried]) -> None:
    """Put the rows back; their foreign keys are checked as on any insert."""
    for each in carried:
        back = conn.execute(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
                each.reference.identifier, each.columns, each.columns, each.aside
            )
        ).rowcount
        if back != each.rows:
            raise VerificationError(f"{each.reference.table}: {each.rows} row(s) were set aside, {back} came back")
        conn.execute(sql.SQL("DROP TABLE {}").format(each.aside))
