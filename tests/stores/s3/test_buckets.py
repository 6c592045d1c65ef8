"""What a run demands of its buckets, their locks, and the store's clock."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from lifecycle.errors import PreconditionError
from lifecycle.stores.s3.buckets import bucket_exists, check_bucket, ensure_bucket, server_time
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.locks import VersionLock, bucket_has_object_lock, set_legal_hold, version_lock
from stores.s3 import LOCKED, PLAIN, VERSIONED
from support.permits import altered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_buckets_that_will_do(s3: S3Client) -> None:
    check_bucket(s3, PLAIN)
    check_bucket(s3, VERSIONED, versioned=True)
    check_bucket(s3, LOCKED, versioned=True, object_lock=True)


def test_each_refusal_names_the_bucket_and_the_remedy(s3: S3Client) -> None:
    with pytest.raises(PreconditionError, match=r"'no-such-bucket-here' does not exist. Create it"):
        check_bucket(s3, "no-such-bucket-here")
    with pytest.raises(PreconditionError, match=r"'research' does not keep versions.* Enable versioning"):
        check_bucket(s3, PLAIN, versioned=True)
    with pytest.raises(PreconditionError, match=r"'product-data' has no Object Lock.* Create it anew"):
        check_bucket(s3, VERSIONED, object_lock=True)


def test_a_suspended_bucket_is_refused(s3: S3Client, suspended: str) -> None:
    """Case 2: suspended versioning overwrites unseen."""
    with pytest.raises(PreconditionError, match="does not keep versions"):
        check_bucket(s3, suspended, versioned=True)


def test_ensure_bucket_creates_and_is_safe_to_repeat(s3: S3Client) -> None:
    name = f"ensured-{uuid.uuid4().hex[:12]}"
    try:
        for _ in range(2):
            ensure_bucket(s3, name, versioned=True)
        check_bucket(s3, name, versioned=True)
        with pytest.raises(PreconditionError, match="has no Object Lock"):
            ensure_bucket(s3, name, object_lock=True)
    finally:
        s3.delete_bucket(Bucket=name)
    assert not bucket_exists(s3, name)


def test_ensure_bucket_with_object_lock(s3: S3Client) -> None:
    name = f"ensured-{uuid.uuid4().hex[:12]}"
    ensure_bucket(s3, name, versioned=True, object_lock=True)
    assert bucket_has_object_lock(s3, name)
    s3.delete_bucket(Bucket=name)


def test_case_10_the_stores_clock(s3: S3Client) -> None:
    """Case 10: aware, UTC, and here the same machine's clock."""
    found = server_time(s3)
    assert found.tzinfo is UTC
    assert abs(found - datetime.now(UTC)) < timedelta(seconds=5)


def test_case_10_a_refusal_carries_the_date_too(s3: S3Client) -> None:
    """Case 10: who may not list buckets still sees the clock."""
    headers = {"HTTPHeaders": {"date": "Mon, 01 Jun 2026 00:00:00 GMT"}}
    denied: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": headers}

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise ClientError(denied, "ListBuckets")

    assert server_time(altered(s3, list_buckets=refuse)) == NOW


def test_case_10_no_answer_is_an_error(s3: S3Client) -> None:
    def fail(real: Any, **kwargs: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="http://server")

    with pytest.raises(StoreError, match="S3 ListBuckets failed: EndpointConnectionError"):
        server_time(altered(s3, list_buckets=fail))
    undated = altered(s3, list_buckets=lambda real, **kwargs: {"ResponseMetadata": {"HTTPHeaders": {}}})
    with pytest.raises(PreconditionError, match="no Date header"):
        server_time(undated)


def test_object_lock_of_a_bucket(s3: S3Client) -> None:
    assert [bucket_has_object_lock(s3, bucket) for bucket in (LOCKED, VERSIONED, PLAIN)] == [True, False, False]
    with pytest.raises(StoreError, match="NoSuchBucket"):
        bucket_has_object_lock(s3, "no-such-bucket-here")


def test_case_3_the_lock_of_a_version(s3: S3Client) -> None:
    """Case 3: read per version; none, a hold, and a retention date."""
    first = s3.put_object(Bucket=LOCKED, Key="a", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=LOCKED, Key="a", Body=b"2")["VersionId"]
    assert version_lock(s3, LOCKED, "a", first) == VersionLock(None, False)
    s3.put_object_legal_hold(Bucket=LOCKED, Key="a", VersionId=first, LegalHold={"Status": "ON"})
    assert version_lock(s3, LOCKED, "a", first) == VersionLock(None, True)
    assert version_lock(s3, LOCKED, "a", second) == VersionLock(None, False)
    until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    s3.put_object_retention(
        Bucket=LOCKED, Key="a", VersionId=second, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}
    )
    assert version_lock(s3, LOCKED, "a", second) == VersionLock(until, False)
    assert version_lock(s3, LOCKED, "gone", second) == VersionLock(None, False)
    s3.put_object_legal_hold(Bucket=LOCKED, Key="a", VersionId=first, LegalHold={"Status": "OFF"})
    assert version_lock(s3, LOCKED, "a", first) == VersionLock(None, False)
    s3.delete_object(Bucket=LOCKED, Key="a", VersionId=second, BypassGovernanceRetention=True)


def test_a_retention_ends_at_its_instant() -> None:
    tick = timedelta(microseconds=1)
    assert VersionLock(NOW, False).holds(NOW - tick)
    assert not VersionLock(NOW, False).holds(NOW)
    assert VersionLock(NOW, True).holds(NOW + tick)
    assert not VersionLock(None, False).holds(NOW)


def test_case_2_a_legal_hold_covers_all_versions_of_exactly_the_key(s3: S3Client) -> None:
    """Case 2: a hold on user/1 is none on user/10; markers cannot be held."""
    versions = [s3.put_object(Bucket=LOCKED, Key="user/1", Body=b"x")["VersionId"] for _ in range(2)]
    other = s3.put_object(Bucket=LOCKED, Key="user/10", Body=b"x")["VersionId"]
    s3.delete_object(Bucket=LOCKED, Key="user/1")
    assert set_legal_hold(s3, LOCKED, "user/1", on=True) == 2
    assert [version_lock(s3, LOCKED, "user/1", version).legal_hold for version in versions] == [True, True]
    assert not version_lock(s3, LOCKED, "user/10", other).legal_hold
    assert set_legal_hold(s3, LOCKED, "user/1", on=False) == 2
    assert [version_lock(s3, LOCKED, "user/1", version).legal_hold for version in versions] == [False, False]
