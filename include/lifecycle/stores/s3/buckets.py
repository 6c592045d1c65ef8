"""Buckets: what a run demands of them, and the store's own clock (hard case 10)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from lifecycle.errors import PreconditionError
from lifecycle.stores.s3.errors import StoreError, code_of, translated
from lifecycle.stores.s3.locks import bucket_has_object_lock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def bucket_exists(s3: S3Client, bucket: str) -> bool:
    """Whether the bucket is there. A bucket of somebody else (403) raises StoreError."""
    try:
        with translated("HeadBucket"):
            s3.head_bucket(Bucket=bucket)
    except StoreError as refusal:
        if refusal.absent or refusal.code == "NoSuchBucket":
            return False
        raise
    return True


def check_bucket(s3: S3Client, bucket: str, *, versioned: bool = False, object_lock: bool = False) -> None:
    """Refuse a bucket on which promises could not be kept.

    Raises:
        PreconditionError: it is missing, not versioned or without Object Lock; says what to do.
    """
    if not bucket_exists(s3, bucket):
        raise PreconditionError(f"bucket {bucket!r} does not exist. Create it, or correct its name in the datasets.")
    if versioned and _versioning(s3, bucket) != "Enabled":
        raise PreconditionError(
            f"bucket {bucket!r} does not keep versions, so a copy could be overwritten unseen. "
            "Enable versioning (PutBucketVersioning, Status=Enabled)."
        )
    if object_lock and not bucket_has_object_lock(s3, bucket):
        raise PreconditionError(
            f"bucket {bucket!r} has no Object Lock, so legal holds cannot bite there. "
            "Create it anew with Object Lock enabled; most stores cannot add it later."
        )


def ensure_bucket(s3: S3Client, bucket: str, *, versioned: bool = False, object_lock: bool = False) -> None:
    """Create the bucket where it is missing, switch its versioning on if asked for, then check it.

    Raises:
        PreconditionError: it exists without Object Lock, which cannot be added.
    """
    if not bucket_exists(s3, bucket):
        with translated("CreateBucket"):
            s3.create_bucket(Bucket=bucket, **_creation(s3, object_lock))
    if versioned and _versioning(s3, bucket) != "Enabled":
        with translated("PutBucketVersioning"):
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    check_bucket(s3, bucket, versioned=versioned, object_lock=object_lock)


def _creation(s3: S3Client, object_lock: bool) -> dict[str, Any]:
    wanted: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if object_lock else {}
    region = s3.meta.region_name
    # us-east-1 is the one region that must not be named; other servers accept only their own zone names.
    if region not in (None, "us-east-1") and "amazonaws.com" in s3.meta.endpoint_url:
        wanted["CreateBucketConfiguration"] = {"LocationConstraint": region}
    return wanted


def keeps_versions(s3: S3Client, bucket: str) -> bool:
    """Whether a deletion without a version id only hides: versioning is on, or was and is suspended."""
    return _versioning(s3, bucket) is not None


def _versioning(s3: S3Client, bucket: str) -> str | None:
    with translated("GetBucketVersioning"):
        return s3.get_bucket_versioning(Bucket=bucket).get("Status")


def server_time(s3: S3Client) -> datetime:
    """The store's clock, to the second, from the Date header of an answer; a refusal carries it too.

    Raises:
        StoreError: the server does not answer.
        PreconditionError: its answer bears no date.
    """
    from botocore.exceptions import ClientError

    with translated("ListBuckets"):
        try:
            answer: Any = s3.list_buckets(MaxBuckets=1)
        except ClientError as refusal:
            answer = refusal.response
            if "HTTPHeaders" not in answer.get("ResponseMetadata", {}):
                raise StoreError("ListBuckets", code_of(refusal)) from None
    stamp = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not stamp:
        raise PreconditionError("the S3 server's answers bear no Date header, so its clock cannot be compared")
    return parsedate_to_datetime(stamp).astimezone(UTC)
