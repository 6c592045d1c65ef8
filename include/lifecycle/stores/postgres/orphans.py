"""The SQL of reconciling object keys with rows, a page of keys at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Messages
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import table


@dataclass(frozen=True)
class Unnamed:
    """Keys that no row names: those that may go, and those that a hold keeps."""

    free: list[str]
    held: list[str]


def unnamed(
    conn: Connection,
    dataset: Messages,
    as_of: datetime,
    keys: Sequence[tuple[str, str | None]],
) -> Unnamed:
    """Of some keys, those that no row names as its object, by whether their record or dataset is under a hold.

    Rows are found by the key alone, whatever their tier, day or id: a row that names an object from the wrong place
    still keeps it. That asks for an index on the key column.

    Args:
        keys: each with the record id that it contains, as text, or None.
    """
    rows = conn.execute(
        sql.SQL(
            "SELECT k.key, EXISTS (SELECT FROM lifecycle.legal_holds h"
            " WHERE (h.released_at IS NULL OR h.released_at > %(as_of)s)"
            " AND ((h.scope = 'dataset' AND btrim(h.target) = ANY(%(names)s))"
            " OR (h.scope = 'message' AND lower(btrim(h.target)) = k.record::text)))"
            " FROM unnest(%(keys)s::text[], %(records)s::text[]::uuid[]) AS k (key, record)"
            " WHERE NOT EXISTS (SELECT FROM {messages} m WHERE m.{object_key} = k.key)"
        ).format(messages=table(dataset.table), object_key=sql.Identifier(dataset.objects.column)),
        {
            "keys": [key for key, _ in keys],
            "records": [record for _, record in keys],
            "as_of": as_of,
            "names": [dataset.id, dataset.table],
        },
    ).fetchall()
    return Unnamed([key for key, held in rows if not held], [key for key, held in rows if held])


def is_held(conn: Connection, names: Sequence[str], as_of: datetime) -> bool:
    """Whether a hold names a dataset as a whole, by any of its names (which are in lower case), in whatever case."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM lifecycle.legal_holds h WHERE (h.released_at IS NULL OR h.released_at > %s)"
        " AND h.scope = 'dataset' AND lower(btrim(h.target)) = ANY(%s))",
        (as_of, list(names)),
    ).fetchone()
    return row is None or bool(row[0])
