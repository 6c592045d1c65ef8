"""The append-only, hash-chained record of what was disposed of (promise 5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from lifecycle.errors import LedgerError
from lifecycle.stores.postgres.connect import Connection

GENESIS = "0" * 64
# Any constant works as long as every appender uses the same one.
_APPEND_LOCK = 0x6C656467


@dataclass(frozen=True)
class Entry:
    """What is to be written down; `append` adds the place in the chain."""

    run_id: int
    run_key: str
    as_of: datetime
    entry: str
    scope: str
    dataset: str
    unit: str
    disposition: str
    rule: str
    counts: Mapping[str, int | str]
    cutoff: datetime | None
    policy_hash: str
    started_at: datetime


@dataclass(frozen=True)
class Row:
    """One row of lifecycle.ledger."""

    seq: int
    run_id: int
    run_key: str
    as_of: datetime
    entry: str
    scope: str
    dataset: str
    unit: str
    disposition: str
    rule: str
    counts: dict[str, Any]
    cutoff: datetime | None
    policy_hash: str
    started_at: datetime
    recorded_at: datetime
    prev_hash: str
    hash: str


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def canonical(row: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed: every field but the hash, keys sorted, times as UTC ISO 8601 with microseconds."""
    body = {key: _plain(value) for key, value in row.items() if key != "hash"}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def row_hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(row)).hexdigest()


def append(conn: Connection, entry: Entry) -> None:
    """Write one row at the end of the chain, in the caller's transaction; appenders take turns until they commit."""
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (_APPEND_LOCK,))
    last = conn.execute("SELECT seq, hash FROM lifecycle.ledger ORDER BY seq DESC LIMIT 1").fetchone()
    seq, prev_hash = (last[0] + 1, last[1]) if last else (1, GENESIS)
    recorded = conn.execute("SELECT clock_timestamp()").fetchone()
    row: dict[str, Any] = asdict(entry) | {
        "seq": seq,
        "recorded_at": recorded[0] if recorded else None,
        "prev_hash": prev_hash,
    }
    row["hash"] = row_hash(row)
    conn.execute(
        "INSERT INTO lifecycle.ledger (seq, run_id, run_key, as_of, entry, scope, dataset, unit, disposition, rule,"
        " counts, cutoff, policy_hash, started_at, recorded_at, prev_hash, hash) VALUES"
        " (%(seq)s, %(run_id)s, %(run_key)s, %(as_of)s, %(entry)s, %(scope)s, %(dataset)s, %(unit)s, %(disposition)s,"
        " %(rule)s, %(counts)s, %(cutoff)s, %(policy_hash)s, %(started_at)s, %(recorded_at)s, %(prev_hash)s, %(hash)s)",
        row | {"counts": Jsonb(dict(entry.counts))},
    )


def has_entry(conn: Connection, run_id: int, unit: str, entry: str, disposition: str, rule: str) -> bool:
    found = conn.execute(
        "SELECT 1 FROM lifecycle.ledger WHERE run_id = %s AND unit = %s AND entry = %s"
        " AND disposition = %s AND rule = %s",
        (run_id, unit, entry, disposition, rule),
    ).fetchone()
    return found is not None


def rows(conn: Connection, run_id: int | None = None) -> Iterator[Row]:
    """The ledger in order, streamed; of one run when ``run_id`` is given."""
    with conn.transaction(), conn.cursor(name="ledger", row_factory=class_row(Row)) as cursor:
        cursor.execute(
            "SELECT * FROM lifecycle.ledger WHERE %(run)s::bigint IS NULL OR run_id = %(run)s ORDER BY seq",
            {"run": run_id},
        )
        yield from cursor


@dataclass(frozen=True)
class Verdict:
    """The outcome of a chain check: how many rows stand, and the hash a copy elsewhere must end with."""

    rows: int
    head: str


def verify(conn: Connection) -> Verdict:
    """Walk the whole chain.

    Raises:
        LedgerError: a row is missing, was changed, or does not follow from the one before it.
    """
    expected, prev_hash = 1, GENESIS
    for row in rows(conn):
        fields = asdict(row)
        if row.seq != expected:
            raise LedgerError(f"row {expected} of the ledger is missing (found row {row.seq})")
        if row.prev_hash != prev_hash:
            raise LedgerError(f"row {row.seq} does not follow from row {row.seq - 1}")
        if row_hash(fields) != row.hash:
            raise LedgerError(f"row {row.seq} was changed after it was written")
        expected, prev_hash = expected + 1, row.hash
    return Verdict(expected - 1, prev_hash)
