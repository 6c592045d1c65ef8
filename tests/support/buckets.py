"""The five buckets of the reference store, emptied before each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from lifecycle.demo.servers import S3Server, reset_s3
from reference_store.create import BucketSpec, create_buckets

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_DELETE_LIMIT = 1000
_NEVER_LOCKED = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError")


class Version(NamedTuple):
    """One version of an object, or a delete marker."""

    key: str
    version_id: str
    is_latest: bool
    is_marker: bool


def fresh_buckets(server: S3Server, client: S3Client, specs: tuple[BucketSpec, ...]) -> None:
    """All buckets present and empty, with no lifecycle rule left: by a reset of the embedded server, or one by one."""
    if server.pid is not None:
        reset_s3(server)
    else:
        for spec in specs:
            _empty(client, spec)
    create_buckets(client, specs)


def list_versions(client: S3Client, bucket: str, prefix: str = "") -> Iterator[Version]:
    """Every version and delete marker under a prefix."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Versions", []):
            yield Version(found["Key"], found["VersionId"], found["IsLatest"], False)
        for marker in page.get("DeleteMarkers", []):
            yield Version(marker["Key"], marker["VersionId"], marker["IsLatest"], True)


def _empty(client: S3Client, spec: BucketSpec) -> None:
    try:
        found = list(list_versions(client, spec.name))
    except client.exceptions.NoSuchBucket:
        return
    client.delete_bucket_lifecycle(Bucket=spec.name)
    for version in found:
        if spec.locked and not version.is_marker:
            _release(client, spec.name, version)
    for start in range(0, len(found), _DELETE_LIMIT):
        named = [{"Key": each.key, "VersionId": each.version_id} for each in found[start : start + _DELETE_LIMIT]]
        answer = client.delete_objects(Bucket=spec.name, Delete={"Objects": named, "Quiet": True})  # type: ignore[typeddict-item]
        assert not answer.get("Errors"), f"bucket {spec.name} could not be emptied"
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=spec.name):
        for upload in page.get("Uploads", []):
            client.abort_multipart_upload(Bucket=spec.name, Key=upload["Key"], UploadId=upload["UploadId"])


def _release(client: S3Client, bucket: str, version: Version) -> None:
    """Lift a legal hold of an earlier test; what was never locked answers with an error that means just that."""
    from botocore.exceptions import ClientError

    try:
        status = client.get_object_legal_hold(Bucket=bucket, Key=version.key, VersionId=version.version_id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NEVER_LOCKED:
            raise
        return
    if status.get("LegalHold", {}).get("Status") == "ON":
        client.put_object_legal_hold(
            Bucket=bucket, Key=version.key, VersionId=version.version_id, LegalHold={"Status": "OFF"}
        )
