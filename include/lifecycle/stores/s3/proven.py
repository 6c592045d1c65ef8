"""Which buckets a client has seen to do as they are told, so that it need not look before and after each copy.

A server that ignores If-None-Match, or drops what describes an object, does so always. So the first copy into a bucket
is looked at before and read back after, and the condition is tried on it; until that went well, so is each next one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A bucket, and the encryption that was asked for: keeping one kind says nothing of another.
_Target = tuple[str, frozenset[tuple[str, Any]]]
# Gone with the client: what was seen holds for a run, not for good.
_proven: WeakKeyDictionary[S3Client, set[_Target]] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class Written:
    """What the answer to a write tells: the version, and whether the server's checksum is that of our bytes."""

    version_id: str | None
    same: bool = False


def is_proven(s3: S3Client, bucket: str, encryption: Mapping[str, Any]) -> bool:
    """Whether writes of this client into the bucket respect If-None-Match and keep metadata, type and encryption."""
    with _lock:
        return _target(bucket, encryption) in _proven.get(s3, ())


def prove(s3: S3Client, bucket: str, encryption: Mapping[str, Any]) -> None:
    """Remember a bucket into which a copy went that was read back as it should be, and was not written over."""
    with _lock:
        _proven.setdefault(s3, set()).add(_target(bucket, encryption))


def _target(bucket: str, encryption: Mapping[str, Any]) -> _Target:
    return bucket, frozenset(encryption.items())
