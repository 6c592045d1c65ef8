"""Reads what lies in quarantine: are the bytes those that were moved there, and is what is held locked?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.queries.quarantine import OBJECT, RECORD
from lifecycle.validation.scene import Scene
from lifecycle.validation.staging import add_fact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Everything that came with the judged run is read, and of the rest so much a day that all of it is read in turn.
DAILY_SHARE = 2_000
READERS = 8
_EPOCH = date(2020, 1, 1)
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound", "MethodNotAllowed", "405"})
_UNLOCKED = frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest"})


@dataclass(frozen=True)
class Copy:
    """One object in quarantine and the checksum that the index has of it."""

    key: str
    sha256: str


def check_copies(conn: Connection, s3: S3Client, scene: Scene, tier: Tier) -> int:
    """Stage the facts about a tier's quarantine. Returns how many objects were read."""
    bucket = scene.catalog.messages.quarantine.bucket
    read = wrong = 0
    with ThreadPoolExecutor(READERS) as pool:
        for batch in _to_read(conn, scene, tier):
            verdicts = list(pool.map(partial(_differs, s3, bucket), batch))
            read, wrong = read + len(verdicts), wrong + sum(verdicts)
    add_fact(conn, scene.stage, f"quarantine_checksums.{tier.value}", wrong)
    add_fact(conn, scene.stage, f"quarantine_hold_not_locked.{tier.value}", _unlocked_holds(conn, s3, scene, tier))
    add_fact(conn, scene.stage, f"quarantine_lock_hidden.{tier.value}", _hidden_locks(conn, s3, scene, tier))
    return read


def _to_read(conn: Connection, scene: Scene, tier: Tier, size: int = 500) -> Iterator[list[Copy]]:
    rows = conn.execute("SELECT count(*) FROM lifecycle.quarantine q WHERE q.tier = %s", (tier.value,)).fetchone()
    slices = max(1, -(-(rows[0] if rows else 0) // DAILY_SHARE))
    today = (scene.as_of.date() - _EPOCH).days % slices
    with conn.transaction(), conn.cursor(name="audit_copies") as cursor:
        cursor.execute(
            "SELECT q.prefix, q.record_sha256, q.object_sha256 FROM lifecycle.quarantine q WHERE q.tier = %(tier)s"
            " AND (q.quarantined_at >= %(as_of)s"
            " OR mod(hashtext(q.message_id::text) & 2147483647, %(slices)s::int) = %(today)s::int)",
            {"tier": tier.value, "as_of": scene.as_of, "slices": slices, "today": today},
        )
        while found := cursor.fetchmany(size):
            copies = [Copy(prefix + RECORD, record) for prefix, record, _ in found]
            copies += [Copy(prefix + OBJECT, content) for prefix, _, content in found if content is not None]
            yield copies


def _differs(s3: S3Client, bucket: str, copy: Copy) -> bool:
    """Whether the object's bytes are others than the index says. A missing one is counted by another check."""
    from botocore.exceptions import ClientError

    try:
        body = s3.get_object(Bucket=bucket, Key=copy.key)["Body"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            return False
        raise
    found = hashlib.sha256()
    for chunk in body.iter_chunks(1 << 20):
        found.update(chunk)
    return found.hexdigest() != copy.sha256


def _locked(s3: S3Client, bucket: str, key: str, at: datetime, version: str | None = None) -> bool | None:
    """Whether a version is under legal hold, or under retention at an instant; None when it is not there."""
    from botocore.exceptions import ClientError

    which = {"VersionId": version} if version is not None else {}
    try:
        hold = s3.get_object_legal_hold(Bucket=bucket, Key=key, **which)  # type: ignore[arg-type]
        if hold.get("LegalHold", {}).get("Status") == "ON":
            return True
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            return None
        if code not in _UNLOCKED:
            raise
    try:
        kept = s3.get_object_retention(Bucket=bucket, Key=key, **which)["Retention"]  # type: ignore[arg-type]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _UNLOCKED or code in _MISSING:
            return False
        raise
    return kept["RetainUntilDate"] > at


def _unlocked_holds(conn: Connection, s3: S3Client, scene: Scene, tier: Tier) -> int:
    """Copies that the index marks as held and that the bucket would let anybody delete."""
    bucket = scene.catalog.messages.quarantine.bucket
    rows = conn.execute(
        "SELECT q.prefix, q.object_sha256 IS NOT NULL FROM lifecycle.quarantine q WHERE q.tier = %s AND q.legal_hold",
        (tier.value,),
    ).fetchall()
    keys = [prefix + name for prefix, whole in rows for name in ((RECORD, OBJECT) if whole else (RECORD,))]
    return sum(_locked(s3, bucket, key, scene.as_of) is False for key in keys)


def _hidden_locks(conn: Connection, s3: S3Client, scene: Scene, tier: Tier) -> int:
    """Delete markers that make a locked version look gone (hard case 3)."""
    bucket = scene.catalog.messages.quarantine.bucket
    rows = conn.execute(
        sql.SQL(
            "SELECT v.key, v.version FROM {objects} d JOIN {objects} v ON v.bucket = d.bucket AND v.key = d.key"
            " AND NOT v.marker WHERE d.bucket = %s AND d.tier = %s AND d.latest AND d.marker"
        ).format(objects=scene.stage.objects),
        (bucket, tier.value),
    ).fetchall()
    return sum(_locked(s3, bucket, key, scene.as_of, version) is True for key, version in rows)
