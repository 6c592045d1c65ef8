"""Fills the reference store with a world of any size, in a stream and from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from lifecycle.errors import PreconditionError
from reference_store.load import Loader, loader
from reference_store.partitions import create_partitions
from reference_store.request_logs import LogWriter, Part
from reference_store.rows import StoredObject
from reference_store.uploads import Uploader, uploader
from reference_store.world import Size, World

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The generator writes the reference store and no other, so the names of its buckets are fixed.
DATA_BUCKET, LOGS_BUCKET = "product-data", "product-logs"
MESSAGES_PER_ACCOUNT = 100
OBJECT_SHARE = 0.05
UPLOAD_THREADS = 8
_REPORT_EVERY = 500

# stage ("partitions", "messages", "objects"), how many are done, how many there will be
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SeedReport:
    """What was written, as counts: rows per table, keys of product-data (objects) and of product-logs (parts)."""

    partitions: int
    rows: dict[str, int]
    objects: int
    parts: int
    log_lines: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def seed_store(
    conninfo: str,
    s3: S3Client,
    *,
    accounts: int,
    days: int,
    as_of: datetime,
    seed: int,
    messages: int | None = None,
    objects: int | None = None,
    progress: Progress | None = None,
) -> SeedReport:
    """Write a world; the same arguments give the same one. Rows appear all together, after their objects.

    Args:
        accounts: number of accounts; from 60 on every rule and exception is there, from 280 on in every tier.
        days: length of the traffic before ``as_of``; some kept things are older.
        as_of: an aware instant that everything lies before.
        messages: about so many messages, accounts * 100 by default.
        objects: so many of them have their body in S3, 5% by default.

    Raises:
        PreconditionError: an argument makes no sense, or there is no store, or the same world is in it already.
    """
    size = _size(accounts, days, messages, objects, as_of)
    world = World(size, as_of.astimezone(UTC), seed)
    report: Progress = progress or (lambda _stage, _done, _total: None)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        _require_store(conn, s3)
        _refuse_second_time(conn, world)
        report("partitions", 0, 1)
        partitions = create_partitions(conn, world.timeline.partition_days)
        report("partitions", 1, 1)
    with loader(conninfo) as rows, uploader(s3, UPLOAD_THREADS) as upload:
        logs = LogWriter()
        parts = _write(world, rows, upload, logs, report)
        data_objects = upload.keys - parts
        report("objects", upload.keys, upload.keys)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("ANALYZE")
    return SeedReport(partitions, dict(rows.counts), data_objects, parts, logs.lines)


def _write(world: World, rows: Loader, upload: Uploader, logs: LogWriter, report: Progress) -> int:
    """Send every batch to the stores; gives the number of log objects."""
    parts, reported, expected = 0, 0, world.size.messages
    for batch in world.batches():
        rows.write(batch.rows)
        for stored in batch.objects:
            upload.put(DATA_BUCKET, stored)
        for part in logs.add(batch.log_lines):
            parts += _put_part(upload, part)
        written = rows.counts["app.messages"]
        if written - reported >= _REPORT_EVERY:
            reported = written
            report("messages", min(written, expected), expected)
    for part in logs.rest():
        parts += _put_part(upload, part)
    report("messages", expected, expected)
    return parts


def _put_part(upload: Uploader, part: Part) -> int:
    upload.put(LOGS_BUCKET, StoredObject(part.key, part.content), part.content_type)
    return 1


def _size(accounts: int, days: int, messages: int | None, objects: int | None, as_of: datetime) -> Size:
    if as_of.tzinfo is None:
        raise PreconditionError("as-of needs a time zone, for example 2026-09-01T00:00:00Z")
    total = accounts * MESSAGES_PER_ACCOUNT if messages is None else messages
    in_s3 = round(total * OBJECT_SHARE) if objects is None else objects
    if accounts < 1 or days < 1 or total < 0 or not 0 <= in_s3 <= max(total, 0):
        raise PreconditionError("accounts and days must be at least 1, and objects at most the number of messages")
    return Size(accounts, days, total, in_s3)


def _require_store(conn: psycopg.Connection[tuple[object, ...]], s3: S3Client) -> None:
    """The generator must not fail halfway because somebody forgot the first command."""
    found = conn.execute("SELECT to_regclass('app.messages'), to_regclass('lifecycle.legal_holds')").fetchone()
    buckets = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    if found is None or None in found or not {DATA_BUCKET, LOGS_BUCKET} <= buckets:
        raise PreconditionError("there is no reference store to fill; run `lifecycle store create` first")


def _refuse_second_time(conn: psycopg.Connection[tuple[object, ...]], world: World) -> None:
    known = conn.execute("SELECT FROM app.accounts WHERE account_id = %s", (world.first_account(),)).fetchone()
    if known is not None:
        raise PreconditionError("the store already holds a world of this seed; take another seed, or an empty store")
