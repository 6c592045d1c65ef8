"""A whole prefix at a time: what lies there, whether anything is left, and what a delete marker hides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from lifecycle.stores.s3.entries import ObjectVersion
from lifecycle.stores.s3.requests import delete_versions, iter_uploads
from lifecycle.stores.s3.versions import iter_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Contents:
    """Counts of one listing: keys with at least one version, versions, markers, bytes, and the newest time."""

    objects: int = 0
    versions: int = 0
    markers: int = 0
    bytes: int = 0
    newest: datetime | None = None

    def with_key(self, versions: Iterable[ObjectVersion]) -> Contents:
        found = self
        had = self.versions
        for version in versions:
            newest = version.last_modified if found.newest is None else max(found.newest, version.last_modified)
            found = replace(
                found,
                versions=found.versions + (not version.is_marker),
                markers=found.markers + version.is_marker,
                bytes=found.bytes + version.size,
                newest=newest,
            )
        return replace(found, objects=found.objects + (found.versions > had))


def keys_below(s3: S3Client, bucket: str, prefix: str) -> Iterator[tuple[str, list[ObjectVersion]]]:
    """Every key that begins with a prefix, with all of its versions, the newest first; one listing."""
    for key, versions in groupby(iter_versions(s3, bucket, prefix), key=attrgetter("key")):
        yield key, list(versions)


def contents(s3: S3Client, bucket: str, prefix: str) -> Contents:
    """What lies below a prefix; one listing."""
    found = Contents()
    for _, versions in keys_below(s3, bucket, prefix):
        found = found.with_key(versions)
    return found


def is_empty(s3: S3Client, bucket: str, prefix: str) -> bool:
    """Whether no version, no delete marker and no unfinished upload is left below a prefix; two requests."""
    if next(iter_versions(s3, bucket, prefix, page=1, ahead=False), None) is not None:
        return False
    return next(iter_uploads(s3, bucket, prefix), None) is None


class _NoData:
    """A delete marker holds no data: to take it away destroys nothing, and brings a version back (promise 1)."""

    def check(self) -> None:
        return


def uncover(s3: S3Client, bucket: str, prefix: str, since: datetime) -> int:
    """Take away delete markers, as young as ``since``, that hide a version below a prefix. Returns how many went.

    Raises:
        StoreError: the prefix cannot be listed.
    """
    below = keys_below(s3, bucket, prefix)
    hiding = (marker for _, versions in below for marker in _hiding(versions) if marker.last_modified >= since)
    return len(delete_versions(s3, _NoData(), bucket, hiding).done)


def _hiding(versions: list[ObjectVersion]) -> Iterator[ObjectVersion]:
    """The markers above the newest version of one key; none where there are markers only."""
    if all(version.is_marker for version in versions):
        return
    for version in versions:
        if not version.is_marker:
            return
        yield version
