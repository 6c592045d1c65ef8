"""The SQL of moving messages into quarantine and of the index of what lies there (lifecycle.quarantine)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from lifecycle.catalog.models import Catalog, Messages
from lifecycle.policy.models import Policy, Tier, Trigger
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import quarantine_fate, table
from lifecycle.stores.postgres.ids import own
from lifecycle.stores.postgres.suppressed import suppressed
from lifecycle.stores.postgres.told import read_from

Params = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A flagged message as it stands in its table, with the document that will represent it in quarantine."""

    record: UUID
    conversation: UUID
    account: UUID | str | int
    tier: str
    clock: datetime
    object_key: str | None
    fate: str
    flagged_at: datetime
    document: bytes


@dataclass(frozen=True)
class Entry:
    """One row of lifecycle.quarantine, with the fate its message has now."""

    message_id: UUID
    conversation_id: UUID
    account_id: UUID | None
    tier: str
    received_at: datetime
    prefix: str
    record_sha256: str
    object_sha256: str | None
    legal_hold: bool
    published: bool
    fate: str


def document_of(row: Mapping[str, Any], children: Mapping[str, Any], name: str) -> bytes:
    """record.json: the row and the children that move with it, in one canonical form."""
    body = {"version": 1, "table": name, "row": row, "children": children}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _children(dataset: Messages) -> sql.Composable:
    """A JSON object of the moving children of row m: table name -> rows in a stable order."""
    parts: list[sql.Composable] = []
    for child in dataset.children:
        if child.moves:
            parts.append(
                sql.SQL(
                    "{name}, coalesce((SELECT jsonb_agg(to_jsonb(c) ORDER BY to_jsonb(c)::text) FROM {t} c"
                    " WHERE c.{key} = {record}), '[]'::jsonb)"
                ).format(
                    name=sql.Literal(child.table),
                    t=table(child.table),
                    key=sql.Identifier(child.key),
                    record=own(sql.Identifier("m", dataset.record), child.ids),
                )
            )
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(parts))


def _select(catalog: Catalog, fate: sql.Composable) -> sql.Composable:
    dataset, flags = catalog.messages, catalog.flags
    return sql.SQL(
        "SELECT m.{record}, m.{group}, m.{subject}, m.{tier}, {clock}, m.{key}, {fate},"
        " (SELECT min(f.{flagged_at}) FROM {flags} f WHERE f.{flag} = m.{record}), row_to_json(m), {children}"
        " FROM {t} m"
    ).format(
        record=sql.Identifier(dataset.record),
        group=sql.Identifier(dataset.group),
        subject=sql.Identifier(dataset.subject),
        tier=sql.Identifier(dataset.tier),
        clock=ClockSql.of(dataset.clock, "m").instant,
        key=sql.Identifier(dataset.objects.column),
        fate=fate,
        flagged_at=sql.Identifier(flags.flagged),
        flags=read_from(flags),
        flag=sql.Identifier(flags.record),
        children=_children(dataset),
        t=table(dataset.table),
    )


def of_day(dataset: Messages, tier: Tier) -> sql.Composable:
    """Narrows messages m to one tier and receipt day (parameter ``day``), so that one partition is read."""
    clock = ClockSql.of(dataset.clock, "m")
    return sql.SQL("m.{tier} = {name} AND {since} AND {before}").format(
        tier=sql.Identifier(dataset.tier),
        name=sql.Literal(tier.value),
        since=clock.since(sql.SQL("(%(day)s::date::timestamp AT TIME ZONE 'UTC')")),
        before=clock.before(sql.SQL("((%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC')")),
    )


def _is_quarantine(fate: sql.Composable) -> sql.Composable:
    return sql.SQL("split_part({}, ':', 1) = 'quarantine'").format(fate)


def candidates(
    conn: Connection,
    catalog: Catalog,
    fate: sql.Composable,
    tier: Tier,
    day: date,
    params: Params,
    after: UUID | None,
    limit: int,
) -> list[Candidate]:
    """The next flagged messages of one receipt day, in key order."""
    dataset, flags = catalog.messages, catalog.flags
    found = conn.execute(
        _select(catalog, fate)
        + sql.SQL(
            " WHERE {of_day}"
            " AND m.{record} IN (SELECT f.{flag} FROM {flags} f)"
            " AND {moving} AND (%(after)s::uuid IS NULL OR m.{record} > %(after)s) ORDER BY m.{record} LIMIT %(limit)s"
        ).format(
            of_day=of_day(dataset, tier),
            record=sql.Identifier(dataset.record),
            flag=sql.Identifier(flags.record),
            flags=read_from(flags),
            moving=_is_quarantine(fate),
        ),
        params | {"day": day, "after": after, "limit": limit},
    ).fetchall()
    return [
        Candidate(
            record=row[0],
            conversation=row[1],
            account=row[2],
            tier=row[3],
            clock=row[4],
            object_key=row[5],
            fate=row[6],
            flagged_at=row[7],
            document=document_of(row[8], row[9], dataset.table),
        )
        for row in found
    ]


def unchanged(
    conn: Connection,
    catalog: Catalog,
    fate: sql.Composable,
    tier: Tier,
    day: date,
    records: Sequence[UUID],
    params: Params,
) -> dict[UUID, str]:
    """Of some messages, those still to be quarantined, with the hash of the document they make now. Locks them."""
    dataset = catalog.messages
    found = conn.execute(
        _select(catalog, fate)
        + sql.SQL(" WHERE {} AND m.{} = ANY(%(ids)s) AND {} FOR UPDATE OF m").format(
            of_day(dataset, tier), sql.Identifier(dataset.record), _is_quarantine(fate)
        ),
        params | {"ids": list(records), "day": day},
    ).fetchall()
    return {row[0]: hashlib.sha256(document_of(row[8], row[9], dataset.table)).hexdigest() for row in found}


def remove(conn: Connection, dataset: Messages, tier: Tier, day: date, records: Sequence[UUID]) -> None:
    """Delete the rows of messages that stand in quarantine now; they are locked.

    Raises:
        DeletionSuppressedError: some are still there.
    """
    gone = conn.execute(
        sql.SQL("DELETE FROM {} m WHERE {} AND m.{} = ANY(%(ids)s)").format(
            table(dataset.table), of_day(dataset, tier), sql.Identifier(dataset.record)
        ),
        {"day": day, "ids": list(records)},
    ).rowcount
    if gone != len(records):
        raise suppressed(conn, table(dataset.table), len(records) - gone)


def enter(conn: Connection, moved: Sequence[Mapping[str, Any]], at: datetime) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO lifecycle.quarantine (message_id, conversation_id, account_id, account, tier, received_at,"
            " quarantined_at, prefix, record_sha256, object_sha256) VALUES (%(message_id)s, %(conversation_id)s,"
            " %(account_id)s, %(account)s, %(tier)s, %(received_at)s, %(at)s, %(prefix)s, %(record_sha256)s,"
            " %(object_sha256)s)"
            " ON CONFLICT (message_id) DO NOTHING",
            [dict(row) | {"at": at} for row in moved],
        )


_ENTRY = sql.SQL(
    "SELECT m.message_id, m.conversation_id, m.account_id, m.tier, m.received_at, m.prefix, m.record_sha256,"
    " m.object_sha256, m.legal_hold, m.published, {fate} AS fate FROM lifecycle.quarantine m"
)


def leaving(
    conn: Connection,
    fate: sql.Composable,
    hold_rule: str,
    tier: Tier,
    day: date,
    params: Params,
    after: UUID | None,
    limit: int,
    *,
    lock: bool = False,
) -> list[Entry]:
    """The next quarantined messages of one receipt day that no longer belong there, in key order."""
    query = _ENTRY.format(fate=fate) + sql.SQL(
        " WHERE m.tier = %(tier)s AND m.received_at >= %(day)s::date::timestamp AT TIME ZONE 'UTC'"
        " AND m.received_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'"
        " AND split_part({fate}, ':', 1) <> 'quarantine' AND {fate} <> %(held)s"
        " AND (%(after)s::uuid IS NULL OR m.message_id > %(after)s) ORDER BY m.message_id LIMIT %(limit)s {lock}"
    ).format(fate=fate, lock=sql.SQL("FOR UPDATE OF m" if lock else ""))
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            query,
            params | {"tier": tier.value, "day": day, "held": f"keep:{hold_rule}", "after": after, "limit": limit},
        ).fetchall()


def still_leaving(
    conn: Connection, fate: sql.Composable, hold_rule: str, records: Sequence[UUID], params: Params
) -> dict[UUID, str]:
    """Of some quarantined messages, those that still leave, with their fate now. Locks their index rows."""
    query = _ENTRY.format(fate=fate) + sql.SQL(
        " WHERE m.message_id = ANY(%(ids)s) AND split_part({fate}, ':', 1) <> 'quarantine' AND {fate} <> %(held)s"
        " FOR UPDATE OF m"
    ).format(fate=fate)
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        rows = cursor.execute(query, params | {"ids": list(records), "held": f"keep:{hold_rule}"}).fetchall()
    return {row.message_id: row.fate for row in rows}


def forget(conn: Connection, records: Sequence[UUID]) -> None:
    conn.execute("DELETE FROM lifecycle.quarantine WHERE message_id = ANY(%s)", (list(records),))


def restore_row(conn: Connection, catalog: Catalog, document: Mapping[str, Any]) -> None:
    """Put a message and its children back into their tables as record.json has them."""
    for name, found in ((catalog.messages.table, [document["row"]]), *document["children"].items()):
        for row in found:
            conn.execute(
                sql.SQL(
                    "INSERT INTO {t} SELECT * FROM jsonb_populate_record(NULL::{t}, %s) ON CONFLICT DO NOTHING"
                ).format(t=table(name)),
                (Jsonb(row),),
            )


def hold_changes(
    conn: Connection, policy: Policy, catalog: Catalog, tier: Tier, params: Params
) -> tuple[list[Entry], list[Entry]]:
    """Quarantined messages that came under hold, and those whose hold ended, since their S3 legal hold was last set."""
    rule = policy.rule_for(Trigger.HOLD, catalog.messages.category, tier)
    fate = quarantine_fate(policy, catalog, tier)
    query = _ENTRY.format(fate=fate) + sql.SQL(
        " WHERE m.tier = %(tier)s AND m.legal_hold <> ({fate} = %(held)s)"
    ).format(fate=fate)
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        found = cursor.execute(
            query, params | {"tier": tier.value, "held": f"keep:{rule.id if rule else ''}"}
        ).fetchall()
    return [entry for entry in found if not entry.legal_hold], [entry for entry in found if entry.legal_hold]


def note_hold(conn: Connection, record: UUID, on: bool) -> None:
    conn.execute("UPDATE lifecycle.quarantine SET legal_hold = %s WHERE message_id = %s", (on, record))


def note_published(conn: Connection, record: UUID) -> None:
    conn.execute("UPDATE lifecycle.quarantine SET published = true WHERE message_id = %s", (record,))


def is_back(conn: Connection, catalog: Catalog, entry: Entry) -> bool:
    """Whether the message's row stands in its table again."""
    dataset = catalog.messages
    found = conn.execute(
        sql.SQL("SELECT 1 FROM {} m WHERE m.{} = %s AND {} = %s").format(
            table(dataset.table), sql.Identifier(dataset.record), ClockSql.of(dataset.clock, "m").instant
        ),
        (entry.message_id, entry.received_at),
    ).fetchone()
    return found is not None
