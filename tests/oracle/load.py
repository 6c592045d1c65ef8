"""Writes a world into a real store, fast: COPY for rows, a few threads for objects."""

from __future__ import annotations

import gzip
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg import Connection, sql

from .facts import Hold, LogRecord, Message, World

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DATA, LOGS, QUARANTINE, EVIDENCE = (
    "product-data",
    "product-logs",
    "quarantine",
    "lifecycle-evidence",
)
# S3 answers in parallel; more threads than this only contend for the interpreter.
THREADS = 8


def write_world(conn: Connection[Any], s3: S3Client, world: World) -> None:
    """Put every fact of ``world`` into the store. Only the product puts anything in quarantine."""
    if world.quarantined:
        raise ValueError("a world is loaded before its first run, when nothing is in quarantine")
    write_rows(conn, world)
    put_objects(s3, world.messages)
    put_logs(s3, world.logs)


def write_rows(conn: Connection[Any], world: World) -> None:
    """The part of a world that lies in PostgreSQL."""
    create_partitions(conn, world.partitions)
    _copy_messages(conn, world.messages)
    _copy_exceptions(conn, world)
    _copy_records(conn, world)


def create_partitions(conn: Connection[Any], days: Iterable[tuple[str, date]]) -> None:
    """Day partitions as the product names them; rows of other days land in the tier's default partition."""
    with conn.cursor() as cursor:
        for tier, day in sorted(days):
            cursor.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier("app", f"messages_{tier}_{day:%Y%m%d}"),
                    sql.Identifier("app", f"messages_{tier}"),
                    sql.Literal(datetime(day.year, day.month, day.day, tzinfo=UTC)),
                    sql.Literal(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)),
                )
            )


def _copy(
    conn: Connection[Any],
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _copy_messages(conn: Connection[Any], messages: Sequence[Message]) -> None:
    columns = [
        "message_id",
        "conversation_id",
        "account_id",
        "tier",
        "role",
        "received_at",
        "model",
        "client_ip",
        "body",
        "object_key",
    ]
    _copy(
        conn,
        "app.messages",
        columns,
        (
            (
                m.message_id,
                m.conversation_id,
                m.account_id,
                m.tier,
                m.role,
                m.received_at,
                m.model,
                m.client_ip,
                m.body,
                m.stored.key if m.stored else None,
            )
            for m in messages
        ),
    )
    _copy(
        conn,
        "app.message_tools",
        ("message_id", "tool_name"),
        ((m.message_id, tool) for m in messages for tool in m.tools),
    )


def _copy_exceptions(conn: Connection[Any], world: World) -> None:
    copy_facts(conn, "app.safety_flags", world.flags)
    copy_facts(conn, "app.enforcement_cases", world.cases)
    copy_facts(conn, "app.feedback", world.feedback)
    _copy(
        conn,
        "app.agreements",
        [
            "agreement_id",
            "account_id",
            "category",
            "retain",
            "effective_from",
            "effective_to",
        ],
        (
            (
                a.agreement_id,
                a.account_id,
                a.category,
                f"{a.retain.months} months {a.retain.days} days",
                a.effective_from,
                a.effective_to,
            )
            for a in world.agreements
        ),
    )
    copy_holds(conn, world.holds)
    copy_facts(conn, "lifecycle.erasure_requests", world.erasures)


def copy_holds(conn: Connection[Any], holds: Sequence[Hold]) -> None:
    _copy(
        conn,
        "lifecycle.legal_holds",
        ["hold_id", "scope", "target", "reason", "placed_by", "placed_at", "released_at"],
        ((h.hold_id, h.scope, h.target, "litigation", "counsel", h.placed_at, h.released_at) for h in holds),
    )


def _copy_records(conn: Connection[Any], world: World) -> None:
    copy_facts(conn, "app.accounts", world.accounts)
    copy_facts(conn, "app.safety_scores", world.scores)
    copy_facts(conn, "app.training_examples", world.training)


def copy_facts(conn: Connection[Any], table: str, facts: Sequence[Any]) -> None:
    """Facts whose fields are named as the table's columns."""
    if facts:
        columns = tuple(facts[0].__dataclass_fields__)
        _copy(
            conn,
            table,
            columns,
            ([getattr(fact, name) for name in columns] for fact in facts),
        )


def put_objects(s3: S3Client, messages: Iterable[Message]) -> None:
    """Every version of every object, oldest first."""

    def put(message: Message) -> None:
        assert message.stored is not None
        for content in message.stored.versions:
            s3.put_object(
                Bucket=DATA,
                Key=message.stored.key,
                Body=content,
                ContentType=message.stored.content_type,
            )

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, [m for m in messages if m.stored is not None]))


def app_content(message: Message, body: str) -> bytes:
    """The body of an object as the application writes it."""
    return json.dumps(
        {
            "message_id": str(message.message_id),
            "conversation_id": str(message.conversation_id),
            "account_id": str(message.account_id),
            "role": message.role,
            "received_at": message.received_at.isoformat(),
            "body": body,
        }
    ).encode()


def put_logs(s3: S3Client, records: Iterable[LogRecord]) -> None:
    """Many records in each object, JSON lines or Parquet by the key's ending."""
    by_key: dict[str, list[LogRecord]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(record)
    for key, members in by_key.items():
        content = _parquet(members) if key.endswith(".parquet") else _json_lines(members)
        s3.put_object(Bucket=LOGS, Key=key, Body=content)


def _fields(record: LogRecord) -> dict[str, Any]:
    return {
        "message_id": str(record.message_id),
        "account_id": str(record.account_id),
        "tier": record.tier,
        "received_at": record.received_at,
        "line": record.line,
    }


def _json_lines(records: Sequence[LogRecord]) -> bytes:
    lines = [
        json.dumps(
            {
                **_fields(r),
                "received_at": r.received_at.isoformat(timespec="microseconds"),
            }
        )
        for r in records
    ]
    return gzip.compress("".join(line + "\n" for line in lines).encode(), mtime=0)


def _parquet(records: Sequence[LogRecord]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("message_id", pa.string()),
            ("account_id", pa.string()),
            ("tier", pa.string()),
            ("received_at", pa.timestamp("us", tz="UTC")),
            ("line", pa.string()),
        ]
    )
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_fields(r) for r in records], schema=schema), target)
    return target.getvalue()
