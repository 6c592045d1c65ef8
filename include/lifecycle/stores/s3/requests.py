"""The only requests that destroy. Each asks for its permit directly before it is sent (hard cases 4 and 27)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from lifecycle.stores.permit import Permit
from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.legible import legible, restored
from lifecycle.stores.s3.permitted import permitted
from lifecycle.stores.s3.versions import ObjectVersion, fits_xml, listable_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
# The most that one DeleteObjects request may name. Real S3 refuses more; emulators do not.
LARGEST_BATCH = 1000
# Seconds to wait before each further try of what the server could not do just now.
BACKOFF = (0.1, 0.4, 1.6, 3.2)
_BUSY = (
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "OperationAborted",
    "RequestTimeout",
    "Throttling",
    "500",
    "503",
)
_UNREACHED = ("ConnectionClosedError", "ConnectTimeoutError", "EndpointConnectionError", "ReadTimeoutError")
_TRY_AGAIN = frozenset(_BUSY + _UNREACHED)


class SharedPermit:
    """Lets several threads ask one permit, one at a time: it may sit on a database connection."""

    def __init__(self, permit: Permit) -> None:
        self._permit = permit
        self._one_at_a_time = threading.Lock()

    def check(self) -> None:
        """As the permit's own check."""
        with self._one_at_a_time:
            self._permit.check()


@dataclass
class Deletions:
    """What became of versions that were to be destroyed: done, or refused with which code.

    ``busy``: the server could not do something at once, whatever became of it in the end.
    """

    done: list[ObjectVersion] = field(default_factory=list)
    refused: dict[ObjectVersion, str] = field(default_factory=dict)
    busy: bool = False


def delete_versions(
    s3: S3Client,
    permit: Permit,
    bucket: str,
    versions: Iterable[ObjectVersion],
    *,
    unchanged: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Deletions:
    """Destroy exactly these versions and markers, in this order, in batches of at most 1,000.

    Never places a marker, since each is named by its version id, and never bypasses governance retention. What the
    server could not do just now is tried again, a bounded number of times; a version that is gone already is done.
    With ``unchanged``, a "null" version goes only while it still has the ETag that was read: unlike other version ids
    that one is reused by an overwrite (hard case 15).

    Raises:
        FencedOutError: another try has taken over; earlier batches are done.
    """
    result = Deletions()
    for batch in _batches(versions):
        refused = _delete_batch(s3, permit, bucket, batch, unchanged, result)
        for wait in BACKOFF:
            again = [version for version in batch if refused.get(version) in _TRY_AGAIN]
            if not again:
                break
            result.busy = True
            log.info("%d version(s) could not be deleted just now, trying again in %.1f s", len(again), wait)
            pause(wait)
            settled = {version: code for version, code in refused.items() if code not in _TRY_AGAIN}
            refused = settled | _delete_batch(s3, permit, bucket, again, unchanged, result)
        result.done += [version for version in batch if version not in refused]
        result.refused |= refused
    return result


def _batches(versions: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
    """Runs of at most 1,000; one whose key no XML can carry goes alone."""
    run: list[ObjectVersion] = []
    for version in versions:
        alone = not fits_xml(version.key)
        if run and (alone or len(run) == LARGEST_BATCH):
            yield run
            run = []
        if alone:
            yield [version]
        else:
            run.append(version)
    if run:
        yield run


def _delete_batch(
    s3: S3Client, permit: Permit, bucket: str, batch: Sequence[ObjectVersion], unchanged: bool, result: Deletions
) -> dict[ObjectVersion, str]:
    """One request. Returns what was refused and why; an error of the whole request refuses all of it."""
    try:
        if len(batch) == 1 and not fits_xml(batch[0].key):
            return _delete_one(s3, permit, bucket, batch[0], unchanged)
        named: list[Any] = [_name(version, unchanged) for version in batch]
        with translated("DeleteObjects"), permitted(s3, permit):
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})
    except StoreError as refusal:
        return {} if refusal.absent else dict.fromkeys(batch, refusal.code)
    # The client has tries of its own, for answers like 503.
    result.busy |= bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))
    by_name = {(version.key, version.version_id): version for version in batch}
    refused: dict[ObjectVersion, str] = {}
    for error in answer.get("Errors", []):
        code = str(error.get("Code", "unknown"))
        named_version = by_name.get((error.get("Key", ""), error.get("VersionId") or "null"))
        if code not in ("NoSuchKey", "NoSuchVersion") and named_version is not None:
            refused[named_version] = code
    return refused


def _delete_one(
    s3: S3Client, permit: Permit, bucket: str, version: ObjectVersion, unchanged: bool
) -> dict[ObjectVersion, str]:
    condition: dict[str, Any] = {"IfMatch": version.etag} if _conditional(version, unchanged) else {}
    with translated("DeleteObject"), permitted(s3, permit):
        s3.delete_object(Bucket=bucket, Key=version.key, VersionId=version.version_id, **condition)
    return {}


def _name(version: ObjectVersion, unchanged: bool) -> dict[str, str]:
    named = {"Key": version.key, "VersionId": version.version_id}
    if _conditional(version, unchanged):
        named["ETag"] = version.etag
    return named


def _conditional(version: ObjectVersion, unchanged: bool) -> bool:
    return unchanged and version.version_id == "null" and not version.is_marker


@dataclass(frozen=True)
class Upload:
    """One unfinished multipart upload: invisible to listings, and able to complete at any time (hard case 14)."""

    key: str
    upload_id: str
    begun_at: datetime


def iter_uploads(s3: S3Client, bucket: str, prefix: str) -> Iterator[Upload]:
    """Stream the unfinished uploads whose keys begin with ``prefix``; one may come twice.

    Raises:
        StoreError: the uploads cannot be listed.
    """
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": listable_prefix(prefix)}
    while True:
        with translated("ListMultipartUploads"), legible(s3, "ListMultipartUploads"):
            page = s3.list_multipart_uploads(**request)
        for entry in page.get("Uploads", []):
            key = restored(entry["Key"])
            if key.startswith(prefix):
                yield Upload(key, entry["UploadId"], entry["Initiated"])
        if not page.get("IsTruncated"):
            return
        request["KeyMarker"] = restored(page["NextKeyMarker"])
        request["UploadIdMarker"] = page["NextUploadIdMarker"]


def abort_upload(s3: S3Client, permit: Permit, bucket: str, upload: Upload) -> bool:
    """Destroy an unfinished upload and its parts. False if it ended by itself meanwhile.

    Raises:
        FencedOutError: another try has taken over.
        StoreError: the server refuses.
    """
    try:
        with translated("AbortMultipartUpload"), permitted(s3, permit):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload.key, UploadId=upload.upload_id)
    except StoreError as refusal:
        if refusal.code == "NoSuchUpload" or refusal.absent:
            return False
        raise
    return True


def batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of at most ``size`` items, in order."""
    iterator = iter(items)
    while run := list(islice(iterator, size)):
        yield run
