"""Tags that decide whether a lifecycle rule reaches an object: put on one version, taken from all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.transfer import pinned
from lifecycle.stores.s3.versions import key_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# S3 takes no more tags on one object.
MOST_TAGS = 10


def give_ticket(s3: S3Client, bucket: str, key: str, tag: str, value: str) -> bool:
    """Add a tag to the current version, beside those it has. False when there is no room for it, or no such object."""
    try:
        with translated("GetObjectTagging"):
            found = s3.get_object_tagging(Bucket=bucket, Key=key)
    except StoreError as refusal:
        if refusal.absent:
            return False
        raise
    rest = [each for each in found["TagSet"] if each["Key"] != tag]
    if len(rest) >= MOST_TAGS:
        return False
    with translated("PutObjectTagging"):
        s3.put_object_tagging(
            Bucket=bucket,
            Key=key,
            Tagging={"TagSet": [*rest, {"Key": tag, "Value": value}]},
            **pinned(found.get("VersionId")),
        )
    return True


def take_tickets(s3: S3Client, bucket: str, key: str, tags: Collection[str]) -> int:
    """Take some tags from every version of exactly this key. Returns how many versions had one of them."""
    taken = 0
    for version in key_versions(s3, bucket, key):
        if version.is_marker:
            continue
        try:
            with translated("GetObjectTagging"):
                found = s3.get_object_tagging(Bucket=bucket, Key=key, **pinned(version.version_id))["TagSet"]
            rest = [each for each in found if each["Key"] not in tags]
            if len(rest) == len(found):
                continue
            with translated("PutObjectTagging"):
                s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": rest}, **pinned(version.version_id))
        except StoreError as refusal:
            if not refusal.absent:
                raise
        else:
            taken += 1
    return taken
