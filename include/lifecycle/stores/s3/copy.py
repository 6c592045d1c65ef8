"""Copies that are proven before anything trusts them: never over something else, never unverified (hard case 17)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lifecycle.errors import VerificationError
from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.lean import put_object
from lifecycle.stores.s3.proven import Written, is_proven, prove
from lifecycle.stores.s3.transfer import PART_BYTES, Content, multipart_write, pinned, read, tagging
from lifecycle.stores.s3.wire import LARGEST_BODY

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Up to here the bytes that were read for the checksum are written at once; beyond, the server copies them itself.
INLINE_BYTES = LARGEST_BODY
# When the source was last written; a copy's own date would reset the clock.
ORIGINAL_TIME = "original-last-modified"


@dataclass(frozen=True)
class CopyProof:
    """What the target was proven to be: checksum (hex), size in bytes, version where the bucket keeps versions."""

    sha256: str
    size: int
    version_id: str | None


def copy_verified(
    s3: S3Client,
    source_bucket: str,
    source_key: str,
    target_bucket: str,
    target_key: str,
    *,
    metadata: Mapping[str, str] | None = None,
    source_version: str | None = None,
    by_checksum: bool = False,
    inline_bytes: int = INLINE_BYTES,
    part_bytes: int = PART_BYTES,
) -> CopyProof:
    """Copy one version of an object, with all that describes it, and prove the copy by reading it back.

    Content type, encoding, cache control, storage class, tags, user metadata and (of what is written at once) the kind
    of checksum are kept; ``metadata`` is added, and so is the time of the source. A target that holds the same object
    already, description included, is a success, so that the call can be repeated. Both ways of writing end in a request
    with If-None-Match; CopyObject is not used, because some servers ignore that condition there, lose the tags or do
    not tell the version (ministack, Ceph).

    Within a bucket encryption is kept too. In another bucket that bucket's own default applies: it may have a key of
    its own because it is another bucket, and the source's key may be out of reach there.

    Args:
        by_checksum: where the server's own checksum of the copy is that of the bytes that were sent, and no tags have
            to be seen, this is proof enough, and two requests do. A server that has not been seen to keep descriptions
            and conditions is not taken at its word (see `proven`).

    Raises:
        VerificationError: something else stands at the target, or the copy differs from its source.
        StoreError: the source is absent (``absent``) or was overwritten while it was being copied (``conflict``).
    """
    source = read(
        s3,
        source_bucket,
        source_key,
        version_id=source_version,
        keep_below=inline_bytes,
        small=inline_bytes > 0,
        checksums=True,
    )
    encryption = source.encryption if source_bucket == target_bucket else {}
    known = by_checksum and source.body is not None and is_proven(s3, target_bucket, encryption)
    told = {ORIGINAL_TIME: source.last_modified, **source.metadata, **_lower(metadata)}
    there = None if known else _standing(s3, target_bucket, target_key, source, told)
    if there is None:
        tags = tagging(s3, source_bucket, source_key, source)
        described = {**source.headers, **encryption, **tags, "Metadata": told}
        try:
            if source.body is not None:
                described = {**source.checksum, **described}
                written = _put(s3, target_bucket, target_key, source.body, described)
            else:
                origin = _Origin(source_bucket, source_key, source)
                written = Written(_copy_parts(s3, origin, target_bucket, target_key, described, part_bytes))
        except StoreError as refusal:
            # Either a twin was faster, or the source changed; only the first leaves the right bytes at the target.
            there = _standing(s3, target_bucket, target_key, source, told) if refusal.conflict else None
            if there is None:
                raise
        else:
            if known and written.same and source.tag_count == 0:
                return CopyProof(source.sha256, source.size, written.version_id)
            there = _read_back(s3, target_bucket, target_key, written.version_id, source, told)
            _refuse_other_encryption(target_bucket, there, encryption)
            if by_checksum and written.same and not known:
                _learn(s3, target_bucket, target_key, source, described, encryption)
    # Asked of a copy that stood there already too: a former try may have been refused for it.
    _refuse_other_encryption(target_bucket, there, encryption)
    _carry_tags(s3, (source_bucket, source_key, source), (target_bucket, target_key, there))
    return _proof(there)


def put_verified(
    s3: S3Client,
    bucket: str,
    key: str,
    body: bytes,
    *,
    content_type: str,
    metadata: Mapping[str, str] | None = None,
) -> CopyProof:
    """Write bytes where nothing stands, and prove it by reading them back. The same bytes there already: a success.

    Raises:
        VerificationError: something else stands there, or what was read back differs.
    """
    expected, told = _content_of(body, content_type), _lower(metadata)
    there = _standing(s3, bucket, key, expected)
    if there is None:
        try:
            version = _put(s3, bucket, key, body, {"ContentType": content_type, "Metadata": told}).version_id
        except StoreError as refusal:
            there = _standing(s3, bucket, key, expected) if refusal.conflict else None
            if there is None:
                raise
        else:
            there = _read_back(s3, bucket, key, version, expected, told)
    return _proof(there)


def read_verified(s3: S3Client, bucket: str, key: str, sha256: str, *, version_id: str | None = None) -> bytes:
    """The bytes of an object, if they are the ones that were written.

    Raises:
        VerificationError: the checksum differs.
        StoreError: it is absent.
    """
    with translated("GetObject"):
        body = s3.get_object(Bucket=bucket, Key=key, **pinned(version_id))["Body"].read()
    if hashlib.sha256(body).hexdigest() != sha256:
        raise VerificationError(f"an object of bucket {bucket!r} does not have the checksum that was recorded for it")
    return body


def sha256_of(s3: S3Client, bucket: str, key: str, version_id: str | None = None) -> str:
    """The checksum of an object's bytes (hex), read as a stream.

    Raises:
        StoreError: it is absent.
    """
    return read(s3, bucket, key, version_id=version_id).sha256


def exists(s3: S3Client, bucket: str, key: str, version_id: str | None = None) -> bool:
    """Whether an object (or this version of it) can be read; one hidden by a delete marker cannot."""
    try:
        with translated("HeadObject"):
            s3.head_object(Bucket=bucket, Key=key, **pinned(version_id))
    except StoreError as refusal:
        # 405: the version is a delete marker.
        if refusal.absent or refusal.code == "405":
            return False
        raise
    return True


def _lower(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Names as S3 keeps them."""
    return {name.lower(): value for name, value in (metadata or {}).items()}


def _content_of(body: bytes, content_type: str) -> Content:
    return Content(
        sha256=hashlib.sha256(body).hexdigest(),
        size=len(body),
        etag="",
        version_id=None,
        content_type=content_type,
        tag_count=0,
        headers={},
        metadata={},
        last_modified="",
        body=body,
    )


def _proof(there: Content) -> CopyProof:
    return CopyProof(there.sha256, there.size, there.version_id)


def _standing(
    s3: S3Client, bucket: str, key: str, expected: Content, told: Mapping[str, str] | None = None
) -> Content | None:
    """What stands at the target already: nothing, the same object, or (an error) something that must not be lost.

    Without ``told`` only the bytes and their type are compared. Tags are compared where they are carried.
    """
    if not exists(s3, bucket, key):
        return None
    there = read(s3, bucket, key, small=expected.size <= INLINE_BYTES)
    differing = _differing(there, expected)
    if told is not None:
        differing += _other_description(there, expected) + (
            [] if _same_metadata(there.metadata, told) else ["metadata"]
        )
    if differing:
        raise VerificationError(
            f"a different object stands at the target in bucket {bucket!r} (other {', '.join(differing)}); it was not "
            "overwritten, and the source was left in place"
        )
    return there


def _differing(there: Content, expected: Content) -> list[str]:
    pairs = (
        ("checksum", there.sha256, expected.sha256),
        ("size", there.size, expected.size),
        ("content type", there.content_type, expected.content_type),
    )
    return [name for name, found, wanted in pairs if found != wanted]


def _other_description(there: Content, expected: Content) -> list[str]:
    """Which of the headers that describe an object differ, by name. No storage class means the standard one."""
    names = sorted((there.headers.keys() | expected.headers.keys()) - {"ContentType"})
    defaults = {"StorageClass": "STANDARD"}
    return [
        name
        for name in names
        if there.headers.get(name, defaults.get(name)) != expected.headers.get(name, defaults.get(name))
    ]


def _same_metadata(found: Mapping[str, str], told: Mapping[str, str]) -> bool:
    """Whether a copy is described as ours would be; it may have been made of an earlier writing of the same bytes."""
    if dict(found) == dict(told):
        return True
    times = [metadata.get(ORIGINAL_TIME, "") for metadata in (found, told)]
    try:
        earlier, later = map(datetime.fromisoformat, times)
        return earlier <= later and {**told, ORIGINAL_TIME: times[0]} == dict(found)
    except (ValueError, TypeError):
        return False


def _put(s3: S3Client, bucket: str, key: str, body: bytes, described: Mapping[str, Any]) -> Written:
    with translated("PutObject"):
        answer = put_object(s3, Bucket=bucket, Key=key, Body=body, IfNoneMatch="*", **described)
    # Under a key of its own (KMS, SSE-C) the server's ETag is no checksum, and so never equal by accident.
    own = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Written(answer.get("VersionId"), answer.get("ETag", "").strip('"') == own)


def _refuse_other_encryption(bucket: str, there: Content, encryption: Mapping[str, Any]) -> None:
    if not encryption.items() <= there.encryption.items():
        raise VerificationError(
            f"the copy in bucket {bucket!r} is not encrypted as its source is; the source was left in place. "
            "Let the bucket encrypt what is written under that key, destroy the copy, run again"
        )


def _learn(
    s3: S3Client,
    bucket: str,
    key: str,
    content: Content,
    described: Mapping[str, Any],
    encryption: Mapping[str, Any],
) -> None:
    """Try the condition with the same bytes over themselves: no harm where the server does not keep it."""
    try:
        _put(s3, bucket, key, content.body or b"", described)
    except StoreError as refusal:
        if refusal.conflict:
            prove(s3, bucket, encryption)


@dataclass(frozen=True)
class _Origin:
    """Where the server copies from, and what it must still be."""

    bucket: str
    key: str
    content: Content

    def location(self) -> dict[str, str]:
        version = {} if self.content.version_id is None else {"VersionId": self.content.version_id}
        return {"Bucket": self.bucket, "Key": self.key, **version}


def _copy_parts(
    s3: S3Client, origin: _Origin, bucket: str, key: str, described: Mapping[str, Any], part_bytes: int
) -> str | None:
    size, etag = origin.content.size, origin.content.etag
    with multipart_write(s3, bucket, key, **described) as write:
        for first in range(0, size, part_bytes):
            write.copy(origin.location(), etag, first, min(first + part_bytes, size) - 1)
        # Ceph does not compare the ETag when it copies a part.
        with translated("HeadObject"):
            s3.head_object(Bucket=origin.bucket, Key=origin.key, **pinned(origin.content.version_id, etag))
        return write.complete(IfNoneMatch="*")


def _read_back(
    s3: S3Client, bucket: str, key: str, version: str | None, expected: Content, metadata: Mapping[str, str]
) -> Content:
    there = read(s3, bucket, key, version_id=version, small=expected.size <= INLINE_BYTES)
    differing = _differing(there, expected) + ([] if there.metadata == metadata else ["metadata"])
    # Of bytes that are written for the first time nothing but their type is given.
    differing += _other_description(there, expected) if expected.headers else []
    if differing:
        raise VerificationError(
            f"the copy in bucket {bucket!r} differs from its source in {', '.join(differing)}; "
            "the source was left in place"
        )
    return there


def _carry_tags(s3: S3Client, source: tuple[str, str, Content], target: tuple[str, str, Content]) -> None:
    """Tags are sent with the bytes; where a server dropped them (ministack, from multipart writes) they follow."""
    (from_bucket, from_key, origin), (bucket, key, there) = source, target
    if there.tag_count == origin.tag_count == 0:
        return
    tags = _tags_of(s3, from_bucket, from_key, origin)
    if there.tag_count > 0:
        _refuse_other_tags(bucket, _tags_of(s3, bucket, key, there), tags)
        return
    with translated("PutObjectTagging"):
        s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags}, **pinned(there.version_id))
    _refuse_other_tags(bucket, _tags_of(s3, bucket, key, there), tags)


def _refuse_other_tags(bucket: str, found: list[Any], tags: list[Any]) -> None:
    if found != tags:
        raise VerificationError(f"the copy in bucket {bucket!r} differs from its source in tags; the source stays")


def _tags_of(s3: S3Client, bucket: str, key: str, content: Content) -> list[Any]:
    with translated("GetObjectTagging"):
        tags: list[Any] = s3.get_object_tagging(Bucket=bucket, Key=key, **pinned(content.version_id))["TagSet"]
    return sorted(tags, key=lambda tag: tag["Key"])
