"""The SQL of the messages table: counted by fate, read in keyset batches, disposed of with its children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from lifecycle.catalog.models import Catalog, Child, Messages
from lifecycle.planning.units import Tally
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.fates import HOLDS, quarantined_subject, table
from lifecycle.stores.postgres.ids import own
from lifecycle.stores.postgres.suppressed import suppressed

Params = dict[str, Any]
GOING = ("delete", "deidentify")
DUE = sql.SQL("(split_part({fate}, ':', 1) IN ('delete', 'deidentify'))")


@dataclass(frozen=True)
class DueRow:
    """One record that goes: its id (never logged), its fate, and where its object lies."""

    record: UUID
    fate: str
    object_key: str | None
    tier: str
    clock: datetime


def is_due(fate: sql.Composable) -> sql.Composable:
    return DUE.format(fate=fate)


def tallies(
    conn: Connection,
    dataset: Messages,
    source: sql.Composable,
    fate: sql.Composable,
    where: sql.Composable,
    params: Params,
) -> dict[str, list[Tally]]:
    """Counts by leaf partition (bare table name) and fate."""
    rows = conn.execute(
        sql.SQL(
            "SELECT c.relname, g.fate, g.n, g.objects, g.oldest FROM (SELECT m.tableoid AS leaf, {fate} AS fate,"
            " count(*) AS n, count(m.{key}) AS objects, min({clock}) AS oldest FROM {source} m WHERE {where}"
            " GROUP BY 1, 2) g JOIN pg_class c ON c.oid = g.leaf ORDER BY 1, 2"
        ).format(
            fate=fate,
            key=sql.Identifier(dataset.objects.column),
            clock=ClockSql.of(dataset.clock, "m").instant,
            source=source,
            where=where,
        ),
        params,
    ).fetchall()
    found: dict[str, list[Tally]] = {}
    for leaf, name, records, objects, oldest in rows:
        found.setdefault(leaf, []).append(Tally(name, records, objects, oldest))
    return found


def due_rows(
    conn: Connection,
    dataset: Messages,
    leaf: sql.Composable,
    fate: sql.Composable,
    params: Params,
    *,
    after: UUID | None,
    limit: int,
    objects_only: bool,
    only: sql.Composable,
) -> list[DueRow]:
    """The next due records of a leaf in key order, locked against change."""
    clock = ClockSql.of(dataset.clock, "m")
    rows = conn.execute(
        sql.SQL(
            "SELECT m.{record}, {fate}, m.{key}, m.{tier}, {clock} FROM {leaf} m"
            " WHERE (%(after)s::uuid IS NULL OR m.{record} > %(after)s)"
            " AND {has} AND {arrived} AND {due} AND {only} ORDER BY m.{record} LIMIT %(limit)s"
            " FOR UPDATE OF m"
        ).format(
            record=sql.Identifier(dataset.record),
            fate=fate,
            key=sql.Identifier(dataset.objects.column),
            leaf=leaf,
            tier=sql.Identifier(dataset.tier),
            has=sql.SQL("m.{} IS NOT NULL" if objects_only else "m.{} IS NULL").format(
                sql.Identifier(dataset.objects.column)
            ),
            clock=clock.instant,
            arrived=clock.before(sql.SQL("%(as_of)s")),
            due=is_due(fate),
            only=only,
        ),
        params | {"after": after, "limit": limit},
    ).fetchall()
    return [DueRow(*row) for row in rows]


def _child_columns(child: Child) -> dict[str, sql.Composable]:
    as_key = sql.SQL("::text[]" if child.ids == "text" else "")
    return {"child": table(child.table), "key": sql.Identifier(child.key), "as_key": as_key}


def _not_held(catalog: Catalog, child: Child) -> sql.Composable:
    """A hold on the child's own table or dataset keeps its rows, whatever becomes of the records they belong to."""
    named = [child.table, *(name for item in catalog.records if item.table == child.table for name in item.names)]
    return sql.SQL(
        "NOT EXISTS (SELECT FROM {holds} h WHERE h.scope = 'dataset' AND btrim(h.target) = ANY({names})"
        " AND (h.released_at IS NULL OR h.released_at > %(as_of)s))"
    ).format(holds=HOLDS, names=sql.Literal(named))


def delete_children(conn: Connection, catalog: Catalog, records: Sequence[UUID], params: Params) -> int:
    """Delete the child rows of some records that go."""
    gone = 0
    for child in catalog.messages.children:
        gone += conn.execute(
            sql.SQL("DELETE FROM {child} WHERE {key} = ANY(%(records)s::uuid[]{as_key}) AND {free}").format(
                free=_not_held(catalog, child), **_child_columns(child)
            ),
            params | {"records": list(records)},
        ).rowcount
    return gone


def delete_moved_children(conn: Connection, dataset: Messages, records: Sequence[UUID]) -> int:
    """Delete the child rows that have moved with their records."""
    gone = 0
    for child in dataset.children:
        if child.moves:
            query = sql.SQL("DELETE FROM {child} WHERE {key} = ANY(%s::uuid[]{as_key})").format(**_child_columns(child))
            gone += conn.execute(query, (list(records),)).rowcount
    return gone


def delete_rows(conn: Connection, dataset: Messages, leaf: sql.Composable, records: Sequence[UUID]) -> int:
    """Delete rows of a leaf. Returns how many went; fewer than asked for where somebody else took some out meanwhile.

    Raises:
        DeletionSuppressedError: some are still there.
    """
    these = sql.SQL("FROM {} WHERE {} = ANY(%s)").format(leaf, sql.Identifier(dataset.record))
    gone = conn.execute(sql.SQL("DELETE {}").format(these), (list(records),)).rowcount
    if gone != len(records) and (left := one(conn, sql.SQL("SELECT count(*) {}").format(these), (list(records),))):
        raise suppressed(conn, leaf, left)
    return gone


def delete_children_of_dropped(
    conn: Connection, catalog: Catalog, leaf: sql.Composable, going: sql.Composable, params: Params
) -> int:
    """Delete the children of every row of a leaf that goes, by one join."""
    gone = 0
    for child in catalog.messages.children:
        gone += conn.execute(
            sql.SQL("DELETE FROM {child} c USING {leaf} m WHERE c.{key} = {record} AND {going} AND {free}").format(
                leaf=leaf,
                record=own(sql.Identifier("m", catalog.messages.record), child.ids),
                going=going,
                free=_not_held(catalog, child),
                **_child_columns(child),
            ),
            params,
        ).rowcount
    return gone


def publish_deidentified(
    conn: Connection, dataset: Messages, leaf: sql.Composable, going: sql.Composable, params: Params
) -> int:
    """Write the de-identified form of rows with inline bodies: what it is about, never whose it is or what it says."""
    return conn.execute(
        sql.SQL(
            "INSERT INTO {research} (tier, model, role, received_month, body_chars)"
            " SELECT m.{tier}, m.{model}, m.{role}, date_trunc('month', {clock} AT TIME ZONE 'UTC')::date,"
            " coalesce(char_length(m.{body}), 0) FROM {leaf} m WHERE {going}"
        ).format(
            research=table(dataset.research.table),
            tier=sql.Identifier(dataset.tier),
            model=sql.Identifier(dataset.model),
            role=sql.Identifier(dataset.role),
            clock=ClockSql.of(dataset.clock, "m").instant,
            body=sql.Identifier(dataset.body),
            leaf=leaf,
            going=going,
        ),
        params,
    ).rowcount


def publish_deidentified_objects(
    conn: Connection, dataset: Messages, leaf: sql.Composable, records: Sequence[UUID]
) -> int:
    """The same for records whose body was an object, from the lengths staged before the object went (promise 3)."""
    return conn.execute(
        sql.SQL(
            "WITH staged AS (DELETE FROM lifecycle.research_staging WHERE record = ANY(%(records)s)"
            " RETURNING record, body_chars)"
            " INSERT INTO {research} (tier, model, role, received_month, body_chars)"
            " SELECT m.{tier}, m.{model}, m.{role}, date_trunc('month', {clock} AT TIME ZONE 'UTC')::date,"
            " s.body_chars"
            " FROM {leaf} m JOIN staged s ON s.record = m.{record}"
        ).format(
            research=table(dataset.research.table),
            tier=sql.Identifier(dataset.tier),
            model=sql.Identifier(dataset.model),
            role=sql.Identifier(dataset.role),
            clock=ClockSql.of(dataset.clock, "m").instant,
            leaf=leaf,
            record=sql.Identifier(dataset.record),
        ),
        {"records": list(records)},
    ).rowcount


def stage_body_chars(conn: Connection, lengths: Sequence[tuple[UUID, int]]) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO lifecycle.research_staging (record, body_chars) VALUES (%s, %s)"
            " ON CONFLICT (record) DO UPDATE SET body_chars = excluded.body_chars",
            lengths,
        )


def staged(conn: Connection, records: Sequence[UUID]) -> set[UUID]:
    rows = conn.execute("SELECT record FROM lifecycle.research_staging WHERE record = ANY(%s)", (list(records),))
    return {row[0] for row in rows}


@dataclass(frozen=True)
class Located:
    """Where a message is, with the facts that its fate depends on."""

    location: str
    tier: str
    clock: datetime
    account: UUID | str | int
    conversation: UUID


def locate(conn: Connection, catalog: Catalog, record: UUID) -> Located | None:
    """Find a message in its table or in quarantine."""
    dataset = catalog.messages
    row = conn.execute(
        sql.SQL("SELECT 'app', m.{}, {}, m.{}, m.{} FROM {} m WHERE m.{} = %(id)s").format(
            sql.Identifier(dataset.tier),
            ClockSql.of(dataset.clock, "m").instant,
            *map(sql.Identifier, (dataset.subject, dataset.group)),
            table(dataset.table),
            sql.Identifier(dataset.record),
        )
        + sql.SQL(
            " UNION ALL SELECT 'quarantine', q.tier, q.received_at, {}, q.conversation_id"
            " FROM lifecycle.quarantine q WHERE q.message_id = %(id)s LIMIT 1"
        ).format(_as_subject(dataset)),
        {"id": record},
    ).fetchone()
    return None if row is None else Located(*row)


def _as_subject(dataset: Messages) -> sql.Composable:
    """The account of a row of lifecycle.quarantine, of the type that the messages have."""
    column = sql.Identifier("q", quarantined_subject(dataset))
    return sql.SQL("{}::bigint").format(column) if dataset.subject_ids == "bigint" else column


def has_objects(conn: Connection, dataset: Messages, leaf: sql.Composable) -> bool:
    """Whether any row of a leaf still names an object: asked of the index on the key before rows are gone through."""
    query = sql.SQL("SELECT 1 FROM {} WHERE {} IS NOT NULL LIMIT 1").format(
        leaf, sql.Identifier(dataset.objects.column)
    )
    return conn.execute(query).fetchone() is not None


def is_empty(conn: Connection, leaf: sql.Composable) -> bool:
    return conn.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(leaf)).fetchone() is None


def keys_named(
    conn: Connection, dataset: Messages, tier: str, rows: Sequence[tuple[UUID, datetime]]
) -> dict[UUID, str | None]:
    """Of some messages (record, clock) those that still have a row, each with the key that it names."""
    found = conn.execute(
        sql.SQL(
            "SELECT m.{record}, m.{key} FROM unnest(%s::uuid[], %s::timestamptz[]) AS k (record, clock) JOIN {t} m"
            " ON m.{record} = k.record AND {clock} = k.clock AND m.{tier} = %s"
        ).format(
            record=sql.Identifier(dataset.record),
            key=sql.Identifier(dataset.objects.column),
            clock=ClockSql.of(dataset.clock, "m").instant,
            tier=sql.Identifier(dataset.tier),
            t=table(dataset.table),
        ),
        ([record for record, _ in rows], [clock for _, clock in rows], tier),
    ).fetchall()
    return dict(found)
