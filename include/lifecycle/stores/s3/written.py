"""A file as the new version of an object, read back; what is not as it should be is taken away again (promise 3)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import VerificationError
from lifecycle.stores.permit import Permit
from lifecycle.stores.s3.destroy import Locks, destroy_versions
from lifecycle.stores.s3.transfer import Content, checksum_kind, read, tagging, write_file
from lifecycle.stores.s3.versions import key_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def write_proven(
    s3: S3Client, permit: Permit, bucket: str, key: str, rest: Path, content: Content, version_id: str | None
) -> str:
    """Write a file as the new version of an object, with all that describes it, and read it back.

    Args:
        content: what describes the version that it takes the place of; nothing is written if that is not the latest.
        version_id: of that version.

    Returns:
        The id of the new version.

    Raises:
        VerificationError: what was written is not as it should be; it was taken away again.
        StoreError: another version is the latest by now (``conflict``).
    """
    tags = tagging(s3, bucket, key, content, ask=version_id == "null")
    description = {**content.headers, **content.encryption, **tags, "Metadata": dict(content.metadata)}
    kind, condition = checksum_kind(s3, bucket, key, content), {"IfMatch": content.etag}
    permit.check()
    version = write_file(s3, bucket, key, rest, description=description, condition=condition, checksum=kind)
    there = read(s3, bucket, key, version_id=version)
    if there.sha256 != file_sha256(rest):
        take_back(s3, permit, bucket, key, there.version_id)
        raise VerificationError(
            f"an object of bucket {bucket!r} did not read back as it was rewritten; "
            "its former version was left in place"
        )
    lost = _lost(content, there)
    if tags and tagging(s3, bucket, key, there, ask=True) != tags:
        lost.append("tags")
    if lost:
        take_back(s3, permit, bucket, key, there.version_id)
        raise VerificationError(
            f"an object of bucket {bucket!r} would have lost its {', '.join(lost)} by being rewritten: the server or "
            "the bucket's settings give another; its former version was left in place"
        )
    return there.version_id or "null"


def _lost(content: Content, there: Content) -> list[str]:
    """What describes an object and is not carried over, by kind."""
    same = {
        # More than it had is no loss: the bucket's default may have come later.
        "encryption": content.encryption.items() <= there.encryption.items(),
        "metadata": there.metadata == content.metadata,
    }
    return [kind for kind, kept in same.items() if not kept]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take_back(s3: S3Client, permit: Permit, bucket: str, key: str, version_id: str | None) -> None:
    """Destroy a bad new version so that the former one is the latest again. An unversioned one cannot be taken back."""
    if version_id in (None, "null"):
        return
    bad = [version for version in key_versions(s3, bucket, key) if version.version_id == version_id]
    destroy_versions(s3, permit, bucket, {key: bad}, Locks.of(s3, bucket))
