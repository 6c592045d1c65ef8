"""Bucket states that the reference store does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stores.s3 import VERSIONED

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@contextmanager
def _versioning(s3: S3Client, bucket: str) -> Iterator[str]:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    try:
        yield bucket
    finally:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@pytest.fixture
def suspended(s3: S3Client) -> Iterator[str]:
    """A bucket that kept versions until now, of ``old`` one; from here on it overwrites "null"."""
    s3.put_object(Bucket=VERSIONED, Key="old", Body=b"first")
    with _versioning(s3, VERSIONED) as bucket:
        yield bucket
