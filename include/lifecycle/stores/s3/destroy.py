"""Destroy every version and marker of named keys, or named versions, and account for each (hard cases 2, 3, 6, 14)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.stores.permit import Permit
from lifecycle.stores.s3.buckets import server_time
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.locks import bucket_has_object_lock, version_lock
from lifecycle.stores.s3.reconciliation import Reconciliation
from lifecycle.stores.s3.requests import (
    Deletions,
    SharedPermit,
    Upload,
    abort_upload,
    batched,
    delete_versions,
    iter_uploads,
)
from lifecycle.stores.s3.versions import ObjectVersion, shared_prefix, versions_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
KEYS_PER_BATCH = 500
# Smaller batches than this would trade one listing of a directory for many.
SMALLEST_BATCH = 100
# How often a key is looked at again because something new appeared under it while it was being destroyed.
ROUNDS = 3
_DENIED = frozenset({"AccessDenied", "403", "ObjectLocked", "InvalidRequest", "Forbidden"})

Versions = dict[str, list[ObjectVersion]]


@dataclass(frozen=True)
class Locks:
    """Answers whether a version is locked, without a request where the bucket knows no locks."""

    s3: S3Client
    bucket: str
    now: datetime | None

    @classmethod
    def of(cls, s3: S3Client, bucket: str) -> Locks:
        """Ask the bucket, and if it has Object Lock the store's clock, once."""
        return cls(s3, bucket, server_time(s3) if bucket_has_object_lock(s3, bucket) else None)

    def hold(self, version: ObjectVersion) -> bool:
        """Whether retention or a legal hold protects this version now. Markers cannot be locked."""
        if self.now is None or version.is_marker:
            return False
        return version_lock(self.s3, self.bucket, version.key, version.version_id).holds(self.now)

    def hold_any(self, versions: Iterable[ObjectVersion]) -> bool:
        """Whether any of these versions is protected."""
        return any(self.hold(version) for version in versions)


class _Batch:
    """The work on one batch of keys, and its account."""

    def __init__(self, s3: S3Client, permit: Permit, bucket: str, locks: Locks, keys: Sequence[str]) -> None:
        self.s3, self.permit, self.bucket, self.locks = s3, permit, bucket, locks
        self.keys = frozenset(keys)
        self.found_keys: set[str] = set()
        self.held: set[str] = set()
        self.failed: set[str] = set()
        self.destroyed: list[ObjectVersion] = []
        self.aborted = 0

    def run(self) -> Reconciliation:
        open_keys = self.keys
        for _ in range(ROUNDS):
            found, uploads = self._look(open_keys)
            self._keep_held(found)
            touched = (found.keys() | {upload.key for upload in uploads}) - self.held - self.failed
            if not touched:
                break
            self._abort([upload for upload in uploads if upload.key in touched])
            self._destroy({key: found[key] for key in found.keys() & touched})
            # What completed or was written meanwhile shows itself now (hard cases 14 and 15).
            open_keys = frozenset(touched - self.held - self.failed)
        else:
            found, uploads = self._look(open_keys)
            self.failed |= (found.keys() | {upload.key for upload in uploads}) - self.held
        return self._account()

    def _look(self, keys: frozenset[str]) -> tuple[Versions, list[Upload]]:
        if not keys:
            return {}, []
        try:
            prefix = shared_prefix(keys)
            # Uploads first: one that completes in between is then found among the versions.
            uploads = [upload for upload in iter_uploads(self.s3, self.bucket, prefix) if upload.key in keys]
            found = dict(versions_of(self.s3, self.bucket, keys))
        except StoreError as refusal:
            log.warning("a batch of %d keys cannot be read: %s", len(keys), refusal)
            self.failed |= keys
            return {}, []
        self.found_keys |= found.keys()
        return found, uploads

    def _keep_held(self, found: Versions) -> None:
        for key, versions in found.items():
            try:
                if self.locks.hold_any(versions):
                    self.held.add(key)
            except StoreError as refusal:
                # A lock that cannot be read may be there.
                log.warning("the locks of a key cannot be read: %s", refusal)
                self.failed.add(key)

    def _abort(self, uploads: Iterable[Upload]) -> None:
        for upload in uploads:
            try:
                self.aborted += abort_upload(self.s3, self.permit, self.bucket, upload)
            except StoreError as refusal:
                log.warning("an unfinished upload cannot be aborted: %s", refusal)
                self.failed.add(upload.key)

    def _destroy(self, found: Versions) -> None:
        ordered = (version for key in sorted(found) for version in oldest_first(found[key]))
        deletions = delete_versions(self.s3, self.permit, self.bucket, ordered)
        self.destroyed += deletions.done
        held, failed = sort_refusals(deletions, self.locks)
        self.held |= held
        self.failed |= failed

    def _account(self) -> Reconciliation:
        held, failed = frozenset(self.held), frozenset(self.failed - self.held)
        deleted = self.found_keys - held - failed
        return Reconciliation(
            requested_keys=len(self.keys),
            keys_deleted=len(deleted),
            keys_absent=len(self.keys - deleted - held - failed),
            keys_held=len(held),
            keys_failed=len(failed),
            versions_deleted=sum(not version.is_marker for version in self.destroyed),
            markers_deleted=sum(version.is_marker for version in self.destroyed),
            bytes_deleted=sum(version.size for version in self.destroyed),
            uploads_aborted=self.aborted,
            held=held,
            failed=failed,
        )


def oldest_first(versions: Iterable[ObjectVersion]) -> list[ObjectVersion]:
    """The order in which one key is destroyed: no older version comes to light when it is interrupted."""
    return sorted(versions, key=lambda version: (version.is_latest, version.last_modified))


def sort_refusals(deletions: Deletions, locks: Locks) -> tuple[set[str], set[str]]:
    """Which keys of refused versions are held (the server says a lock was placed meanwhile), and which failed."""
    held: set[str] = set()
    failed: set[str] = set()
    for version, code in deletions.refused.items():
        try:
            locked = code in _DENIED and locks.hold(version)
        except StoreError:
            locked = False
        (held if locked else failed).add(version.key)
    if failed:
        codes = sorted({code for version, code in deletions.refused.items() if version.key in failed})
        log.warning("%d key(s) could not be destroyed: %s", len(failed), ", ".join(codes))
    return held, failed - held


def destroy_keys(s3: S3Client, permit: Permit, bucket: str, keys: Iterable[str], *, workers: int = 8) -> Reconciliation:
    """Destroy every version, marker and unfinished upload of exactly these keys.

    A key of which any version is under retention or legal hold is reported as held, and nothing of it is touched.
    Memory is bounded by the batch, not by the number of keys; keys in sorted order need the fewest requests. Safe to
    repeat: what is gone counts as absent. A key named twice within a few thousand counts once.

    Args:
        workers: batches worked on at the same time; the client must allow as many connections.

    Raises:
        FencedOutError: another try has taken over; no request is made after that.
        StoreError: the bucket cannot be used at all.
    """
    shared, locks = SharedPermit(permit), Locks.of(s3, bucket)

    def work(batch: Sequence[str]) -> Reconciliation:
        return _Batch(s3, shared, bucket, locks, batch).run()

    total = Reconciliation()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="s3-destroy") as pool:
        pending: set[Future[Reconciliation]] = set()
        try:
            for batch in _key_batches(keys, workers):
                pending.add(pool.submit(work, batch))
                if len(pending) >= 2 * workers:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    total = sum((future.result() for future in finished), total)
            total = sum((future.result() for future in pending), total)
        finally:
            for future in pending:
                future.cancel()
    return total


def _key_batches(keys: Iterable[str], workers: int) -> Iterator[list[str]]:
    """Neighbouring keys together, so that a batch reads one stretch of the bucket."""
    for window in batched(keys, KEYS_PER_BATCH * workers):
        distinct = sorted(set(window))
        size = max(SMALLEST_BATCH, min(KEYS_PER_BATCH, -(-len(distinct) // workers)))
        yield from batched(distinct, size)


def destroy_versions(
    s3: S3Client, permit: Permit, bucket: str, named: Mapping[str, Sequence[ObjectVersion]], locks: Locks
) -> Reconciliation:
    """Destroy exactly these versions of these keys, and confirm it. What was written to a key since then stays.

    If any version of a key is locked, none of the key is touched. Memory grows with what is named.

    Raises:
        FencedOutError: another try has taken over.
        StoreError: the bucket cannot be read.
    """
    held = _locked_keys(named, locks)
    ordered = (version for key in sorted(named.keys() - held) for version in oldest_first(named[key]))
    deletions = delete_versions(s3, permit, bucket, ordered, unchanged=True)
    refused, failed = sort_refusals(deletions, locks)
    held |= refused
    asked = {key for key, versions in named.items() if versions} - held
    there = {(key, version.version_id, version.etag) for key, versions in named.items() for version in versions}
    for key, versions in versions_of(s3, bucket, asked):
        if any((key, version.version_id, version.etag) in there for version in versions):
            failed.add(key)
    return Reconciliation(
        requested_keys=len(named),
        keys_deleted=len(asked - failed),
        keys_absent=len(named) - len(asked | held | failed),
        keys_held=len(held),
        keys_failed=len(failed),
        versions_deleted=sum(not version.is_marker for version in deletions.done),
        markers_deleted=sum(version.is_marker for version in deletions.done),
        bytes_deleted=sum(version.size for version in deletions.done),
        held=frozenset(held),
        failed=frozenset(failed),
    )


def _locked_keys(named: Mapping[str, Sequence[ObjectVersion]], locks: Locks, workers: int = 8) -> set[str]:
    """Keys of which some version is locked; side by side, since it costs two requests a version."""
    if locks.now is None:
        return set()
    with ThreadPoolExecutor(workers, thread_name_prefix="s3-locks") as pool:
        return {key for key, locked in zip(named, pool.map(locks.hold_any, named.values()), strict=True) if locked}
