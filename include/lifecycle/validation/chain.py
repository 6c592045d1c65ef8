"""The auditor's own walk along the ledger's hash chain. Written from the format, not from the code that writes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row

from lifecycle.stores.postgres.connect import Connection

BEGINNING = "0" * 64
_FIELDS = (
    *("seq", "run_id", "run_key", "as_of", "entry", "scope", "dataset", "unit", "disposition", "rule", "counts"),
    *("cutoff", "policy_hash", "started_at", "recorded_at", "prev_hash"),
)


@dataclass(frozen=True)
class Chain:
    """How many rows the ledger has, how many do not stand, and the hash it ends with."""

    rows: int
    broken: int
    head: str


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def digest(row: Mapping[str, Any]) -> str:
    """SHA-256, hex, of a row's fields: JSON with sorted keys and no spaces, times in UTC with microseconds."""
    document = {name: _plain(row[name]) for name in _FIELDS}
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def walk(conn: Connection) -> Chain:
    """Read the whole ledger in a stream. A row is broken when it was changed, does not follow, or its number jumps."""
    rows = broken = expected = 0
    head = BEGINNING
    with conn.transaction(), conn.cursor(name="audit_chain", row_factory=dict_row) as cursor:
        cursor.itersize = 5_000
        cursor.execute("SELECT * FROM lifecycle.ledger ORDER BY seq")
        for row in cursor:
            rows, expected = rows + 1, expected + 1
            stands = row["seq"] == expected and row["prev_hash"] == head and row["hash"] == digest(row)
            broken += not stands
            expected, head = row["seq"], row["hash"]
    return Chain(rows, broken, head)
