"""Move bytes in bounded memory: read with a running checksum, write under a condition, in parts where it is large."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.lean import get_object
from lifecycle.stores.s3.legible import legible

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 1 << 20
MIB = 1 << 20
GIB = 1 << 30
# The most a single PutObject takes.
LARGEST_PUT = 5 * GIB
# Parts of a multipart write: at most 10,000 of them, so this carries the largest object S3 knows (5 TiB).
PART_BYTES = 640 * MIB
# What describes an object and must travel with its bytes.
_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "StorageClass",
    "WebsiteRedirectLocation",
)
# How the store encrypts it. A key that only the client has (SSE-C) is not among what can be read at all.
_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
# Checksums that the store keeps of an object and that can be computed without further libraries.
_CHECKSUMS = {"ChecksumSHA256": "SHA256", "ChecksumSHA1": "SHA1", "ChecksumCRC32": "CRC32"}


@dataclass(frozen=True)
class Content:
    """What was read: checksum (hex), size in bytes, the version it belongs to, and what describes it."""

    sha256: str
    size: int
    etag: str
    version_id: str | None
    content_type: str
    tag_count: int
    headers: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)
    last_modified: str
    body: bytes | None = field(default=None, repr=False)
    encryption: Mapping[str, Any] = field(default_factory=dict, repr=False)
    checksum: Mapping[str, Any] = field(default_factory=dict)


def pinned(version_id: str | None, etag: str | None = None) -> dict[str, Any]:
    """The arguments that make a read return this version, or nothing if the ETag has changed (hard case 15)."""
    wanted: dict[str, Any] = {}
    if version_id is not None:
        wanted["VersionId"] = version_id
    if etag:
        wanted["IfMatch"] = etag
    return wanted


def read(
    s3: S3Client,
    bucket: str,
    key: str,
    *,
    version_id: str | None = None,
    etag: str | None = None,
    into: Path | None = None,
    keep_below: int = 0,
    small: bool = False,
    checksums: bool = False,
) -> Content:
    """Read an object once, in pieces, with its checksum.

    Args:
        version_id: this version; otherwise the latest.
        etag: fail with a conflict unless it is this one.
        into: also write the bytes to this file.
        keep_below: keep the bytes in the result if there are at most so many.
        small: it is likely to be; the shorter way of asking is tried first (see `lean`).
        checksums: ask which kind of checksum the store keeps of it, and have the client compare that, too.

    Raises:
        StoreError: absent, changed or unreadable.
    """
    digest, size, pieces = hashlib.sha256(), 0, list[bytes]()
    with translated("GetObject"):
        get: Callable[..., Any] = partial(get_object, s3) if small else s3.get_object
        told = {"ChecksumMode": "ENABLED"} if checksums else {}
        answer = get(Bucket=bucket, Key=key, **pinned(version_id, etag), **told)
        keep = answer["ContentLength"] <= keep_below
        with into.open("wb") if into else _nowhere() as target, closing(answer["Body"]) as stream:
            for piece in stream.iter_chunks(CHUNK_BYTES):
                digest.update(piece)
                size += len(piece)
                if target is not None:
                    target.write(piece)
                if keep:
                    pieces.append(piece)
    return described_by(answer, digest.hexdigest(), size, b"".join(pieces) if keep else None)


def described_by(answer: Any, sha256: str, size: int, body: bytes | None = None) -> Content:
    """What an answer to GetObject says of the object."""
    described: Mapping[str, Any] = answer
    return Content(
        sha256=sha256,
        size=size,
        etag=described["ETag"],
        version_id=described.get("VersionId"),
        content_type=described.get("ContentType", ""),
        tag_count=int(described.get("TagCount") or 0),
        headers={name: described[name] for name in _HEADERS if described.get(name)},
        metadata=dict(described.get("Metadata", {})),
        last_modified=described["LastModified"].isoformat(),
        body=body,
        encryption={name: described[name] for name in _ENCRYPTION if described.get(name)},
        checksum=_kind_of(described),
    )


@contextmanager
def _nowhere() -> Iterator[None]:
    yield None


def tagging(s3: S3Client, bucket: str, key: str, content: Content, *, ask: bool = False) -> dict[str, str]:
    """The tags of what was read, as an argument for writing it elsewhere. No request if it has none.

    Args:
        ask: do not believe that there are none; not every server tells so of a "null" version that is read by its id.
    """
    if content.tag_count == 0 and not ask:
        return {}
    with translated("GetObjectTagging"):
        answer = s3.get_object_tagging(Bucket=bucket, Key=key, **pinned(content.version_id))
    if not answer["TagSet"]:
        return {}
    # Spaces as %20: Ceph would take a "+" for what it is.
    tags = sorted((tag["Key"], tag["Value"]) for tag in answer["TagSet"])
    return {"Tagging": urlencode(tags, quote_via=quote)}


def checksum_kind(s3: S3Client, bucket: str, key: str, content: Content) -> dict[str, Any]:
    """The kind of checksum that the store keeps of what was read, as an argument for writing its successor."""
    with translated("HeadObject"):
        told: Mapping[str, Any] = s3.head_object(
            Bucket=bucket, Key=key, ChecksumMode="ENABLED", **pinned(content.version_id)
        )
    return _kind_of(told)


def _kind_of(told: Mapping[str, Any]) -> dict[str, Any]:
    return next(({"ChecksumAlgorithm": kind} for name, kind in _CHECKSUMS.items() if told.get(name)), {})


class MultipartWrite:
    """An object written part by part. Nothing is visible until `complete`, which is where the condition counts."""

    def __init__(self, s3: S3Client, bucket: str, key: str, upload_id: str) -> None:
        self._s3 = s3
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
        self._parts: list[Any] = []

    def put(self, body: bytes) -> None:
        """Append bytes; all parts but the last need 5 MiB."""
        number = len(self._parts) + 1
        with translated("UploadPart"):
            answer = self._s3.upload_part(**self._target, PartNumber=number, Body=body)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def copy(self, source: Mapping[str, str], etag: str, first: int, last: int) -> None:
        """Append bytes ``first`` to ``last`` (inclusive) of another object, if its ETag still holds."""
        number = len(self._parts) + 1
        copied: Any = dict(source)
        with translated("UploadPartCopy"):
            answer = self._s3.upload_part_copy(
                **self._target,
                PartNumber=number,
                CopySource=copied,
                CopySourceRange=f"bytes={first}-{last}",
                CopySourceIfMatch=etag,
            )
        self._parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})

    def complete(self, **condition: Any) -> str | None:
        """Make the object appear, or fail with a conflict. Returns its version id where the server tells it."""
        with translated("CompleteMultipartUpload"), legible(self._s3, "CompleteMultipartUpload"):
            answer = self._s3.complete_multipart_upload(
                **self._target, MultipartUpload={"Parts": self._parts}, **condition
            )
        return answer.get("VersionId")

    def abort(self) -> None:
        """Give the parts back. What has ended already is no error."""
        try:
            with translated("AbortMultipartUpload"):
                self._s3.abort_multipart_upload(**self._target)
        except StoreError as refusal:
            if refusal.code != "NoSuchUpload" and not refusal.absent:
                raise


@contextmanager
def multipart_write(s3: S3Client, bucket: str, key: str, **description: Any) -> Iterator[MultipartWrite]:
    """Begin a multipart write; aborted if the block fails, so that no invisible parts are left (hard case 14)."""
    with translated("CreateMultipartUpload"), legible(s3, "CreateMultipartUpload"):
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **description)
    write = MultipartWrite(s3, bucket, key, upload["UploadId"])
    try:
        yield write
    except BaseException:
        write.abort()
        raise


def write_file(
    s3: S3Client,
    bucket: str,
    key: str,
    path: Path,
    *,
    description: Mapping[str, Any],
    condition: Mapping[str, Any],
    checksum: Mapping[str, Any] | None = None,
    single_below: int = LARGEST_PUT,
    part_bytes: int = 64 * MIB,
) -> str | None:
    """Write a file as an object under a condition (IfMatch or IfNoneMatch). Returns its version id if told.

    Args:
        checksum: see `checksum_kind`; left out of what is written in parts.

    Raises:
        StoreError: the condition does not hold (``conflict``), or the server refuses.
    """
    if path.stat().st_size <= single_below:
        with path.open("rb") as body, translated("PutObject"):
            told = {**description, **condition, **(checksum or {})}
            return s3.put_object(Bucket=bucket, Key=key, Body=body, **told).get("VersionId")
    with multipart_write(s3, bucket, key, **description) as write, path.open("rb") as body:
        while piece := body.read(part_bytes):
            write.put(piece)
        return write.complete(**condition)
