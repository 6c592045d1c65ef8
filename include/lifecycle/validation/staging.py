"""Facts that PostgreSQL cannot see by itself, loaded into tables for the time of one audit: S3 listings, log lines,"
" counts.

The listing is the auditor's own. It goes from S3's pages straight into COPY: nothing holds all keys in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.scene import Stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TIER = re.compile(r"(?:^|/)tier=([^/]+)/")
_DAY = re.compile(r"(?:^|/)date=(\d{4}-\d{2}-\d{2})/")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DEFINITIONS = {
    "objects": sql.SQL(
        "(bucket text NOT NULL, key text NOT NULL, version text, latest boolean NOT NULL, marker boolean NOT NULL,"
        " modified timestamptz NOT NULL, tier text, day date, record text)"
    ),
    "logs": sql.SQL(
        "(dataset text NOT NULL, message text, account text, account_id uuid, tier text, clock timestamptz NOT NULL,"
        " broken boolean NOT NULL)"
    ),
    "facts": sql.SQL("(name text NOT NULL, violations bigint NOT NULL)"),
}
_INDEX = sql.SQL("CREATE INDEX ON {} (bucket, key)")


@dataclass(frozen=True)
class Listed:
    """One version or delete marker."""

    key: str
    version: str | None
    latest: bool
    marker: bool
    modified: datetime


@contextmanager
def temporary_stage(conn: Connection) -> Iterator[Stage]:
    """Tables that only this session sees; for the auditor, which leaves no trace in the database."""
    stage = Stage(
        objects=sql.Identifier("pg_temp", "audit_objects"),
        logs=sql.Identifier("pg_temp", "audit_logs"),
        facts=sql.Identifier("pg_temp", "audit_facts"),
    )
    with _created(conn, stage, sql.SQL("CREATE TEMPORARY TABLE {} {}")):
        yield stage


@contextmanager
def shared_stage(conn: Connection) -> Iterator[Stage]:
    """Tables that another connection of the same validation can read (Great Expectations opens its own). Named after
    this session; dropped at the end, and those of sessions that died are dropped at the beginning."""
    _drop_orphans(conn)
    pid = conn.info.backend_pid
    stage = Stage(*(sql.Identifier("lifecycle", f"audit_{pid}_{name}") for name in _DEFINITIONS))
    with _created(conn, stage, sql.SQL("CREATE UNLOGGED TABLE {} {}")):
        yield stage


def _tables(stage: Stage) -> dict[str, sql.Identifier]:
    return {"objects": stage.objects, "logs": stage.logs, "facts": stage.facts}


@contextmanager
def _created(conn: Connection, stage: Stage, create: sql.SQL) -> Iterator[None]:
    for name, table in _tables(stage).items():
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        conn.execute(create.format(table, _DEFINITIONS[name]))
    try:
        yield
    finally:
        for table in _tables(stage).values():
            conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))


def _drop_orphans(conn: Connection) -> None:
    left = conn.execute(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'lifecycle'::regnamespace AND c.relkind = 'r'"
        " AND c.relname ~ '^audit_[0-9]+_(objects|logs|facts)$'"
        " AND split_part(c.relname, '_', 2)::int NOT IN (SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL)"
    ).fetchall()
    for (name,) in left:
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("lifecycle", name)))


def listing(s3: S3Client, bucket: str, prefix: str) -> Iterator[Listed]:
    """Every version and delete marker under a prefix, a page at a time."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for version in page.get("Versions", []):
            yield Listed(version["Key"], version.get("VersionId"), version["IsLatest"], False, version["LastModified"])
        for marker in page.get("DeleteMarkers", []):
            yield Listed(marker["Key"], marker.get("VersionId"), marker["IsLatest"], True, marker["LastModified"])


def top_prefixes(s3: S3Client, bucket: str) -> list[str]:
    """The first level of a bucket: ``tier=consumer/``, ``landing/`` and whatever else there is."""
    found: list[str] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Delimiter="/"):
        found.extend(entry["Prefix"] for entry in page.get("CommonPrefixes", []))
        # Objects of no folder: each is its own prefix.
        found.extend(entry["Key"] for entry in (*page.get("Versions", []), *page.get("DeleteMarkers", [])))
    return sorted(set(found))


def _read_key(key: str) -> tuple[str | None, date | None, str | None]:
    tier, day, records = _TIER.search(key), _DAY.search(key), _UUID.findall(key)
    try:
        parsed = date.fromisoformat(day[1]) if day else None
    except ValueError:
        parsed = None
    return (tier[1] if tier else None), parsed, (records[-1].lower() if records else None)


def write_objects(conn: Connection, stage: Stage, bucket: str, listed: Iterable[Listed]) -> int:
    """Write listed versions into the stage. Returns how many there were."""
    copy = sql.SQL("COPY {} (bucket, key, version, latest, marker, modified, tier, day, record) FROM STDIN").format(
        stage.objects
    )
    written = 0
    with conn.cursor() as cursor, cursor.copy(copy) as sink:
        for found in listed:
            sink.write_row(
                (bucket, found.key, found.version, found.latest, found.marker, found.modified, *_read_key(found.key))
            )
            written += 1
    return written


def load_objects(conn: Connection, s3: S3Client, stage: Stage, places: Iterable[tuple[str, str]]) -> int:
    """List some (bucket, prefix) pairs into the stage. Returns how many versions and markers were found."""
    loaded = sum(
        write_objects(conn, stage, bucket, listing(s3, bucket, prefix)) for bucket, prefix in sorted(set(places))
    )
    conn.execute(_INDEX.format(stage.objects))
    conn.execute(sql.SQL("ANALYZE {}").format(stage.objects))
    return loaded


def add_fact(conn: Connection, stage: Stage, name: str, violations: int) -> None:
    conn.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(stage.facts), (name, violations))
