"""Removing exactly what was copied: a version that was written meanwhile is noticed and stays (hard case 15)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle.dispositions.gate import Gate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lifecycle.stores.s3.versions import ObjectVersion


@dataclass(frozen=True)
class Removed:
    """Keys that stay after all, and why: under a lock, refused by the server, or overwritten since they were copied."""

    held: frozenset[str]
    failed: frozenset[str]
    changed: frozenset[str]

    def gone(self, key: str) -> bool:
        return key not in self.held and key not in self.failed and key not in self.changed


def versions_at(s3: S3Client, bucket: str, key: str) -> tuple[ObjectVersion, ...]:
    """Every version of a key now, the latest first; empty when the key is absent or a delete marker hides it."""
    from lifecycle.stores.s3.versions import key_versions

    return _standing(key_versions(s3, bucket, key))


def versions_of_each(s3: S3Client, bucket: str, keys: Collection[str]) -> dict[str, tuple[ObjectVersion, ...]]:
    """As `versions_at`, for many keys: those of one directory by one listing. A key that is left out is not there.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    from lifecycle.stores.s3.versions import versions_of

    found = versions_of(s3, bucket, keys, expected=len(keys))
    return {key: standing for key, versions in found if (standing := _standing(versions))}


def _standing(versions: Sequence[ObjectVersion]) -> tuple[ObjectVersion, ...]:
    return tuple(versions) if versions and not versions[0].is_marker else ()


def version_to_copy(versions: Sequence[ObjectVersion]) -> str | None:
    """The latest version's id, or None where the bucket has no versions to name."""
    return versions[0].version_id if versions and versions[0].version_id != "null" else None


def remove_copied(s3: S3Client, gate: Gate, bucket: str, copied: Mapping[str, Sequence[ObjectVersion]]) -> Removed:
    """Destroy these versions of these keys, and tell which keys have others by now."""
    from lifecycle.stores.s3.destroy import Locks, destroy_versions
    from lifecycle.stores.s3.versions import versions_of

    done = destroy_versions(s3, gate, bucket, copied, Locks.of(s3, bucket))
    left = {key for key, _ in versions_of(s3, bucket, list(copied))} if copied else set()
    return Removed(done.held, done.failed, frozenset(left) - done.held - done.failed)
