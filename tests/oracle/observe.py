"""Reads the real stores back, with queries of its own, into the shape the oracle speaks."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import Connection, sql

from .facts import LogRecord, Message, ResearchRow, StoredObject
from .load import DATA, LOGS, QUARANTINE, THREADS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Stored:
    """What a key of a versioned bucket holds: its readable content, and how many versions and markers lie under it."""

    content: bytes | None
    content_type: str | None
    metadata: Mapping[str, str]
    versions: int
    markers: int


@dataclass(frozen=True)
class IndexEntry:
    """A row of lifecycle.quarantine."""

    account_id: UUID
    conversation_id: UUID
    tier: str
    received_at: datetime
    prefix: str
    record_sha256: str
    object_sha256: str | None


@dataclass(frozen=True)
class Observed:
    """The stores at one instant."""

    app: Mapping[UUID, Message]
    copies: Counter[UUID]
    data: Mapping[str, Stored]
    quarantine: Mapping[str, Stored]
    index: Mapping[UUID, IndexEntry]
    tools: frozenset[UUID]
    flags: frozenset[UUID]
    scores: frozenset[UUID]
    feedback: frozenset[UUID]
    training: frozenset[UUID]
    accounts: Mapping[UUID, tuple[str | None, str | None]]
    erasures: Mapping[UUID, tuple[datetime | None, str | None]]
    others: Mapping[str, int]
    logs: Counter[LogRecord]
    log_objects: Mapping[str, Stored]
    research: Counter[ResearchRow]

    def held_by(self, message_id: UUID) -> bool:
        return message_id in self.index


def observe(conn: Connection[Any], s3: S3Client) -> Observed:
    """The whole of both stores; reads contents, so it is for small worlds only."""
    data = bucket(s3, DATA)
    log_objects = bucket(s3, LOGS)
    tools: dict[UUID, list[str]] = {}
    for message_id, tool in _rows(conn, "SELECT message_id, tool_name FROM app.message_tools ORDER BY 1, 2"):
        tools.setdefault(message_id, []).append(tool)
    rows = [_message(row, tools, data) for row in _rows(conn, _MESSAGES)]
    return Observed(
        app={m.message_id: m for m in rows},
        copies=Counter(m.message_id for m in rows),
        data=data,
        quarantine=bucket(s3, QUARANTINE),
        index={row[0]: IndexEntry(*row[1:]) for row in _rows(conn, _INDEX)},
        tools=frozenset(tools),
        flags=_ids(conn, "SELECT message_id FROM app.safety_flags"),
        scores=_ids(conn, "SELECT score_id FROM app.safety_scores"),
        feedback=_ids(conn, "SELECT feedback_id FROM app.feedback"),
        training=_ids(conn, "SELECT example_id FROM app.training_examples"),
        accounts={row[0]: (row[1], row[2]) for row in _rows(conn, _ACCOUNTS)},
        erasures={row[0]: (row[1], row[2]) for row in _rows(conn, _ERASURES)},
        others={row[0]: row[1] for row in _rows(conn, _OTHERS)},
        logs=Counter(record for key, stored in log_objects.items() for record in _log_records(key, stored)),
        log_objects=log_objects,
        research=Counter(ResearchRow(*row) for row in _rows(conn, _RESEARCH)),
    )


_MESSAGES = """SELECT message_id, conversation_id, account_id, tier, role, received_at, model, host(client_ip), body,
                      object_key FROM app.messages"""
_INDEX = """SELECT message_id, account_id, conversation_id, tier, received_at, prefix, record_sha256, object_sha256
            FROM lifecycle.quarantine"""
_ACCOUNTS = "SELECT account_id, email, display_name FROM app.accounts"
_ERASURES = "SELECT request_id, completed_at, outcome FROM lifecycle.erasure_requests"
_OTHERS = """SELECT 'agreements', count(*) FROM app.agreements
             UNION ALL SELECT 'cases', count(*) FROM app.enforcement_cases
             UNION ALL SELECT 'holds', count(*) FROM lifecycle.legal_holds"""
_RESEARCH = """SELECT tier, coalesce(model, ''), role, received_month, body_chars::int FROM research.messages"""


def _rows(conn: Connection[Any], query: str) -> list[tuple[Any, ...]]:
    with conn.transaction():
        return conn.execute(sql.SQL(query)).fetchall()


def _ids(conn: Connection[Any], query: str) -> frozenset[UUID]:
    return frozenset(row[0] for row in _rows(conn, query))


def _message(row: tuple[Any, ...], tools: Mapping[UUID, list[str]], data: Mapping[str, Stored]) -> Message:
    (
        message_id,
        conversation,
        account,
        tier,
        role,
        received_at,
        model,
        client_ip,
        body,
        key,
    ) = row
    stored = None
    if key is not None:
        found = data.get(key)
        # A row whose object cannot be read is shown with no content, which equals no world's message.
        content = found.content if found is not None and found.content is not None else b"\0missing"
        stored = StoredObject(key, (content,), (found.content_type if found else None) or "missing")
    return Message(
        message_id,
        conversation,
        account,
        tier,
        role,
        received_at,
        model,
        client_ip,
        body,
        stored,
        tuple(tools.get(message_id, ())),
    )


def bucket(s3: S3Client, name: str) -> dict[str, Stored]:
    """Every key that has any version or delete marker, with the content that a reader gets."""
    versions: Counter[str] = Counter()
    markers: Counter[str] = Counter()
    readable: set[str] = set()
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for version in page.get("Versions", []):
            versions[version["Key"]] += 1
            if version["IsLatest"]:
                readable.add(version["Key"])
        for marker in page.get("DeleteMarkers", []):
            markers[marker["Key"]] += 1

    def read(key: str) -> tuple[str, Stored]:
        if key not in readable:
            return key, Stored(None, None, {}, versions[key], markers[key])
        answer = s3.get_object(Bucket=name, Key=key)
        content = answer["Body"].read()
        return key, Stored(
            content,
            answer["ContentType"],
            answer["Metadata"],
            versions[key],
            markers[key],
        )

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(pool.map(read, sorted(versions | markers)))


def _log_records(key: str, stored: Stored) -> Iterable[LogRecord]:
    if stored.content is None:
        return []
    reader: Callable[[bytes], list[dict[str, Any]]] = _from_parquet if key.endswith(".parquet") else _from_lines
    return [
        LogRecord(
            key,
            UUID(line["message_id"]),
            UUID(line["account_id"]),
            line["tier"],
            _instant(line["received_at"]),
            line["line"],
        )
        for line in reader(stored.content)
    ]


def _from_lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(content).splitlines()]


def _from_parquet(content: bytes) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
    return rows


def _instant(value: object) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


# Whole-store fingerprints ------------------------------------------------------------------------------------------

# What a run may write although it changes nothing: that it ran, what it planned and found, and its evidence.
BOOKKEEPING = frozenset({"runs", "plan_units", "validations", "leases", "services"})
PRODUCT_SCHEMAS = ("app", "research", "lifecycle")


def fingerprint(conn: Connection[Any], s3: S3Client, buckets: Iterable[str]) -> dict[str, Counter[str]]:
    """Every row of every table and every version of every object, byte by byte, as digests."""
    found: dict[str, Counter[str]] = {}
    tables = _rows(
        conn,
        """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind = 'r' AND n.nspname IN ('app', 'research', 'lifecycle')""",
    )
    for schema, table in sorted(tables):
        if schema == "lifecycle" and table in BOOKKEEPING:
            continue
        with conn.transaction():
            rows = conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))).fetchall()
        found[f"{schema}.{table}"] = Counter(_digest(row[0].encode()) for row in rows)
    for name in buckets:
        found[f"s3:{name}"] = Counter(_versions(s3, name))
    return found


def _versions(s3: S3Client, name: str) -> Iterable[str]:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for v in page.get("Versions", []):
            answer = s3.get_object(Bucket=name, Key=v["Key"], VersionId=v["VersionId"])
            head = f"{v['Key']} {v['VersionId']} {v['IsLatest']} {v['LastModified']} {answer['ContentType']}"
            yield f"{head} {sorted(answer['Metadata'].items())} {_digest(answer['Body'].read())}"
        for m in page.get("DeleteMarkers", []):
            yield f"{m['Key']} {m['VersionId']} marker"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def changed(before: Mapping[str, Counter[str]], after: Mapping[str, Counter[str]]) -> dict[str, tuple[int, int]]:
    """Per store: how many entries went and how many came. Empty when nothing changed."""
    empty: Counter[str] = Counter()
    moves = {
        name: (
            (before.get(name, empty) - after.get(name, empty)).total(),
            (after.get(name, empty) - before.get(name, empty)).total(),
        )
        for name in sorted(before.keys() | after.keys())
    }
    return {name: counts for name, counts in moves.items() if counts != (0, 0)}
