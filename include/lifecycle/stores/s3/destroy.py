"""Destroy every version and marker of named keys, or named versions, and account for each (hard cases 2, 3, 6, 14)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.stores.permit import Permit
from lifecycle.stores.s3.buckets import server_time
from lifecycle.stores.s3.concurrency import Concurrency, Turns
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.locks import bucket_has_object_lock, version_lock
from lifecycle.stores.s3.reconciliation import Reconciliation
from lifecycle.stores.s3.requests import (
    LARGEST_BATCH,
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
# So many neighbouring keys are listed in one go; two windows are held in memory.
WINDOW = 10_000
WINDOWS = 2
# Requests at the same time, at most; how many are made is for the server to say.
WORKERS = 16
# What is less goes in one request, though others could be made beside it.
SMALLEST_JOB = 100
# How often a key is looked at again because something new appeared under it while it was being destroyed.
ROUNDS = 3
_DENIED = frozenset({"AccessDenied", "403", "ObjectLocked", "InvalidRequest", "Forbidden"})
_CHANGED = frozenset({"PreconditionFailed", "412"})

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


@dataclass(frozen=True)
class _Engine:
    """What the windows of one call share."""

    s3: S3Client
    permit: Permit
    bucket: str
    locks: Locks
    turns: Turns
    requests: ThreadPoolExecutor

    @property
    def workers(self) -> int:
        return self.turns.concurrency.ceiling


@dataclass
class _Done:
    """What became of some keys."""

    held: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    versions: int = 0
    markers: int = 0
    size: int = 0
    aborted: int = 0

    def add(self, other: _Done) -> None:
        self.held |= other.held
        self.failed |= other.failed
        self.versions += other.versions
        self.markers += other.markers
        self.size += other.size
        self.aborted += other.aborted

    def count(self, destroyed: Iterable[ObjectVersion]) -> None:
        for version in destroyed:
            self.versions += not version.is_marker
            self.markers += version.is_marker
            self.size += version.size


@dataclass(frozen=True)
class _Job:
    """Whole keys with what they hold, about as much as one request can name."""

    found: Versions
    uploads: Mapping[str, Sequence[Upload]]


class _Window:
    """The work on neighbouring keys, and its account.

    One listing of their stretch runs ahead; what it finds is destroyed beside it, request by request. Then the stretch
    is listed again, until it is empty of them.
    """

    def __init__(self, engine: _Engine, keys: Sequence[str]) -> None:
        self.engine = engine
        self.keys = frozenset(keys)
        self.found_keys: set[str] = set()
        self.rewritten: set[str] = set()
        self.done = _Done()

    def run(self) -> Reconciliation:
        open_keys, expected = self.keys, len(self.keys)
        for again in range(ROUNDS):
            touched = self._round(open_keys, expected)
            self.rewritten |= touched if again else set()
            # What completed or was written meanwhile shows itself now (hard cases 14 and 15).
            open_keys, expected = touched - self.done.held - self.done.failed, 0
            if not open_keys:
                break
        else:
            uploads = self._uploads(open_keys)
            self.done.failed |= uploads.keys() | {key for key, _ in self._versions(open_keys, 0)}
        return self._account()

    def _round(self, keys: frozenset[str], expected: int) -> frozenset[str]:
        """Destroy what these keys hold now. Returns those that held something."""
        # Uploads first: one that completes in between is then found among the versions.
        uploads = self._uploads(keys)
        keys -= self.done.failed
        touched: set[str] = set()
        pending: set[Future[_Done]] = set()
        try:
            for job in self._jobs(keys, uploads, expected):
                touched |= job.found.keys() | job.uploads.keys()
                pending.add(self.engine.requests.submit(self._work, job))
                if len(pending) >= 2 * self.engine.workers:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self.done.add(future.result())
            for future in pending:
                self.done.add(future.result())
        finally:
            for future in pending:
                future.cancel()
        return frozenset(touched)

    def _uploads(self, keys: frozenset[str]) -> dict[str, list[Upload]]:
        found: dict[str, list[Upload]] = {}
        if not keys:
            return found
        try:
            for upload in iter_uploads(self.engine.s3, self.engine.bucket, shared_prefix(keys)):
                if upload.key in keys:
                    found.setdefault(upload.key, []).append(upload)
        except StoreError as refusal:
            log.warning("the unfinished uploads of %d keys cannot be read: %s", len(keys), refusal)
            self.done.failed |= keys
            return {}
        return found

    def _versions(self, keys: frozenset[str], expected: int) -> Iterator[tuple[str, list[ObjectVersion]]]:
        """What these keys hold, in key order; keys behind the point at which the listing broke off are failed."""
        reached = ""
        try:
            for key, versions in versions_of(self.engine.s3, self.engine.bucket, keys, expected=expected):
                reached = key
                self.found_keys.add(key)
                yield key, versions
        except StoreError as refusal:
            unread = {key for key in keys if key > reached}
            log.warning("a stretch with %d keys cannot be read: %s", len(unread), refusal)
            self.done.failed |= unread

    def _jobs(self, keys: frozenset[str], uploads: dict[str, list[Upload]], expected: int) -> Iterator[_Job]:
        size = max(SMALLEST_JOB, min(LARGEST_BATCH, -(-expected // self.engine.workers)))
        found: Versions = {}
        named = 0
        for key, versions in self._versions(keys, expected):
            if found and named + len(versions) > size:
                yield _Job(found, {key: uploads.pop(key) for key in found.keys() & uploads.keys()})
                found, named = {}, 0
            found[key] = versions
            named += len(versions)
        uploads = {key: those for key, those in uploads.items() if key not in self.done.failed}
        if found or uploads:
            yield _Job(found, uploads)

    def _work(self, job: _Job) -> _Done:
        """In a thread of its own: locks, uploads, versions."""
        engine, done = self.engine, _Done()
        with engine.turns.take() as turn:
            self._keep_held(job, done)
            self._abort(job, done)
            spared = done.held | done.failed
            ordered = (v for key in sorted(job.found.keys() - spared) for v in oldest_first(job.found[key]))
            deletions = delete_versions(engine.s3, engine.permit, engine.bucket, ordered, unchanged=True)
            turn.busy = deletions.busy
        done.count(deletions.done)
        # What was written meanwhile is listed in the next round, and goes as what it is.
        deletions.refused = {v: code for v, code in deletions.refused.items() if code not in _CHANGED}
        held, failed = sort_refusals(deletions, engine.locks)
        done.held |= held
        done.failed |= failed
        return done

    def _keep_held(self, job: _Job, done: _Done) -> None:
        for key, versions in job.found.items():
            try:
                if self.engine.locks.hold_any(versions):
                    done.held.add(key)
            except StoreError as refusal:
                # A lock that cannot be read may be there.
                log.warning("the locks of a key cannot be read: %s", refusal)
                done.failed.add(key)

    def _abort(self, job: _Job, done: _Done) -> None:
        for key in job.uploads.keys() - done.held - done.failed:
            for upload in job.uploads[key]:
                try:
                    done.aborted += abort_upload(self.engine.s3, self.engine.permit, self.engine.bucket, upload)
                except StoreError as refusal:
                    log.warning("an unfinished upload cannot be aborted: %s", refusal)
                    done.failed.add(key)

    def _account(self) -> Reconciliation:
        held, failed = frozenset(self.done.held), frozenset(self.done.failed - self.done.held)
        if self.rewritten:
            log.warning("%d key(s) were written to while they were being destroyed", len(self.rewritten))
        deleted = self.found_keys - held - failed
        return Reconciliation(
            requested_keys=len(self.keys),
            keys_deleted=len(deleted),
            keys_absent=len(self.keys - deleted - held - failed),
            keys_held=len(held),
            keys_failed=len(failed),
            versions_deleted=self.done.versions,
            markers_deleted=self.done.markers,
            bytes_deleted=self.done.size,
            uploads_aborted=self.done.aborted,
            keys_rewritten=len(self.rewritten),
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


def destroy_keys(
    s3: S3Client, permit: Permit, bucket: str, keys: Iterable[str], *, workers: int = WORKERS
) -> Reconciliation:
    """Destroy every version, marker and unfinished upload of exactly these keys.

    A key of which any version is under retention or legal hold is reported as held, and nothing of it is touched.
    A "null" version goes only while it has the ETag that was listed, as other versions go by an id that is not used
    again: so what somebody writes in between is noticed, and counted for itself (hard case 15).
    Memory is bounded by the window, not by the number of keys; keys in sorted order need the fewest requests. Safe to
    repeat: what is gone counts as absent. A key named twice within a few thousand counts once.

    Args:
        workers: requests made at the same time at most; the client must allow as many connections.

    Raises:
        FencedOutError: another try has taken over; no request is made after that.
        StoreError: the bucket cannot be used at all.
    """
    shared, locks = SharedPermit(permit), Locks.of(s3, bucket)
    total = Reconciliation()
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="s3-destroy") as requests,
        ThreadPoolExecutor(WINDOWS, thread_name_prefix="s3-window") as windows,
    ):
        engine = _Engine(s3, shared, bucket, locks, Turns(Concurrency.starting(workers)), requests)
        pending: deque[Future[Reconciliation]] = deque()
        try:
            for window in batched(keys, WINDOW):
                # While one is listed for the last time, the next is at work.
                if len(pending) == WINDOWS:
                    total += pending.popleft().result()
                pending.append(windows.submit(_Window(engine, sorted(set(window))).run))
            while pending:
                total += pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            if pending:
                requests.shutdown(wait=False, cancel_futures=True)
    return total


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
