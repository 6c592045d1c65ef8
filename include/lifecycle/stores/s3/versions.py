"""What a bucket really holds: every version and every delete marker, in key order (hard case 2)."""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.entries import ObjectVersion
from lifecycle.stores.s3.errors import translated
from lifecycle.stores.s3.listing import lean_pages

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ObjectVersion"]
# What a server gives at most for one request.
LARGEST_PAGE = 1000
SMALLEST_PAGE = 100
# From so many keys of one directory on, one listing of the directory is cheaper than one listing per key.
SHARED_LISTING = 4
# A shared listing may pass by this many foreign versions per wanted key before it is given up for listings per key.
PASSED_BY_PER_KEY = 100
# What XML 1.0 cannot carry (or would change): such a key can be neither echoed as a prefix nor named in DeleteObjects.
_NOT_XML = re.compile("[^\\u0020-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def fits_xml(key: str) -> bool:
    """Whether a key can be named in an XML request or answer."""
    return _NOT_XML.search(key) is None


def listable_prefix(prefix: str) -> str:
    """The longest part of a prefix that servers can echo; what is listed too many is left out by comparing keys."""
    found = _NOT_XML.search(prefix)
    return prefix if found is None else prefix[: found.start()]


def shared_prefix(keys: Collection[str]) -> str:
    """The longest text with which all of these keys begin."""
    return os.path.commonprefix(list(keys))  # noqa: RUF071 - by character is what is meant: keys are not paths


def _newest_first(version: ObjectVersion) -> tuple[str, bool, float]:
    return (version.key, not version.is_latest, -version.last_modified.timestamp())


def iter_versions(
    s3: S3Client, bucket: str, prefix: str, *, after: str = "", page: int = LARGEST_PAGE, ahead: bool = True
) -> Iterator[ObjectVersion]:
    """Stream versions and delete markers of all keys that begin with ``prefix``, by key, page by page.

    Unversioned and suspended buckets give their "null" versions. ``after`` leaves out keys up to and including it;
    ``page`` is worth giving where fewer entries are expected than a page holds, and ``ahead`` is to be switched off by
    who will not read to the end: the next page is asked for while this one is worked on.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": listable_prefix(prefix)}
    request |= {"KeyMarker": after} if after else {}
    request |= {"MaxKeys": page} if page < LARGEST_PAGE else {}
    with translated("ListObjectVersions"):
        for entries in lean_pages(s3, request, ahead=ahead):
            for version in sorted(entries, key=_newest_first):
                # Ceph begins with the versions of ``after`` itself, S3 behind them.
                if version.key > after and version.key.startswith(prefix):
                    yield version


def newest_etag(versions: Iterable[ObjectVersion]) -> str:
    """The ETag of the newest content among one key's versions, the latest first; "" when there are markers only."""
    return next((version.etag for version in versions if not version.is_marker), "")


def key_versions(s3: S3Client, bucket: str, key: str) -> list[ObjectVersion]:
    """Every version and marker of exactly this key, the latest first. ``user/1`` does not include ``user/10``."""
    found: list[ObjectVersion] = []
    for version in iter_versions(s3, bucket, key, ahead=False):
        if version.key != key:
            break  # the exact key sorts before every longer one
        found.append(version)
    return sorted(found, key=_newest_first)


def versions_of(
    s3: S3Client, bucket: str, keys: Collection[str], *, expected: int = LARGEST_PAGE
) -> Iterator[tuple[str, list[ObjectVersion]]]:
    """Each of these keys that has any version or marker, with all of them. Keys are compared whole.

    Many keys of one directory are read with one listing, which is given up when too much else lies between them;
    ``expected`` says how many keys are likely to hold anything, so that no page reaches far behind the last.
    """
    page = max(SMALLEST_PAGE, min(LARGEST_PAGE, expected + expected // 20))
    for _, group in groupby(sorted(keys), key=_directory):
        wanted = list(group)
        if len(wanted) >= SHARED_LISTING and all(map(fits_xml, wanted)):
            yield from _listed_together(s3, bucket, wanted, page)
        else:
            yield from _listed_singly(s3, bucket, wanted)


def _directory(key: str) -> str:
    return key.rpartition("/")[0]


def _listed_singly(s3: S3Client, bucket: str, keys: list[str]) -> Iterator[tuple[str, list[ObjectVersion]]]:
    for key in keys:
        if versions := key_versions(s3, bucket, key):
            yield key, versions


def _listed_together(
    s3: S3Client, bucket: str, wanted: list[str], page: int
) -> Iterator[tuple[str, list[ObjectVersion]]]:
    keys, prefix = set(wanted), shared_prefix((wanted[0], wanted[-1]))
    # Strictly before the first key, and nothing but its near neighbours in between.
    after = wanted[0][:-1] if len(wanted[0]) > len(prefix) else ""
    budget = 1000 + PASSED_BY_PER_KEY * len(wanted)
    reached = ""
    stretch = iter_versions(s3, bucket, prefix, after=after, page=page, ahead=False)
    for key, group in groupby(stretch, key=attrgetter("key")):
        reached = key
        if key > wanted[-1]:
            return
        if key in keys:
            yield key, sorted(group, key=_newest_first)
            continue
        budget -= sum(1 for _ in group)
        if budget < 0:
            yield from _listed_singly(s3, bucket, [rest for rest in wanted if rest > reached])
            return
