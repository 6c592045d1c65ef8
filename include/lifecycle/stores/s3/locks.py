"""Object Lock: what the store itself refuses to give up (hard case 3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.versions import key_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Servers differ in how they say "no lock": AWS and ministack by the second, Ceph by the first.
_NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})


@dataclass(frozen=True)
class VersionLock:
    """What protects one version: a retention date, a legal hold, or nothing."""

    retain_until: datetime | None
    legal_hold: bool

    def holds(self, now: datetime) -> bool:
        """Whether the version may not be destroyed at ``now``, the store's own clock."""
        return self.legal_hold or (self.retain_until is not None and self.retain_until > now)


def bucket_has_object_lock(s3: S3Client, bucket: str) -> bool:
    """Whether versions of this bucket can be locked at all."""
    try:
        with translated("GetObjectLockConfiguration"):
            answer = s3.get_object_lock_configuration(Bucket=bucket)
    except StoreError as refusal:
        if refusal.code in _NO_LOCK:
            return False
        raise
    return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"


def version_lock(s3: S3Client, bucket: str, key: str, version_id: str) -> VersionLock:
    """Read the lock of one version; a version that is gone has none.

    Asks for retention and hold by name: HeadObject leaves both out without a word where the caller may not read them.
    """
    return VersionLock(_retain_until(s3, bucket, key, version_id), _legal_hold(s3, bucket, key, version_id))


def _retain_until(s3: S3Client, bucket: str, key: str, version_id: str) -> datetime | None:
    try:
        with translated("GetObjectRetention"):
            answer = s3.get_object_retention(Bucket=bucket, Key=key, VersionId=version_id)
    except StoreError as refusal:
        if refusal.code in _NO_LOCK or refusal.absent:
            return None
        raise
    return answer.get("Retention", {}).get("RetainUntilDate")


def _legal_hold(s3: S3Client, bucket: str, key: str, version_id: str) -> bool:
    try:
        with translated("GetObjectLegalHold"):
            answer = s3.get_object_legal_hold(Bucket=bucket, Key=key, VersionId=version_id)
    except StoreError as refusal:
        if refusal.code in _NO_LOCK or refusal.absent:
            return False
        raise
    return answer.get("LegalHold", {}).get("Status") == "ON"


def set_legal_hold(s3: S3Client, bucket: str, key: str, on: bool) -> int:
    """Put every version of exactly this key under legal hold, or release it. Returns the number of versions."""
    versions = [version for version in key_versions(s3, bucket, key) if not version.is_marker]
    for version in versions:
        with translated("PutObjectLegalHold"):
            s3.put_object_legal_hold(
                Bucket=bucket, Key=key, VersionId=version.version_id, LegalHold={"Status": "ON" if on else "OFF"}
            )
    return len(versions)
