"""The days of many-record objects, from names alone: prefixes by a listing with a delimiter, objects by their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DAY = re.compile(r"date=(\d{4}-\d{2}-\d{2})/$")


def day_prefixes(s3: S3Client, bucket: str, prefix: str) -> Iterator[tuple[date, str]]:
    """Days under a prefix: one entry per day, not per object.

    Versions are listed, so that what a delete marker only hides is found too (hard case 2).
    """
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    for page in pages:
        for found in page.get("CommonPrefixes", []):
            match = _DAY.search(found["Prefix"])
            if match:
                yield date.fromisoformat(match.group(1)), found["Prefix"]


def count_keys(s3: S3Client, bucket: str, prefix: str) -> int:
    """How many keys have at least one version or delete marker under a prefix; a key's versions follow each other."""
    count, last = 0, None
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        keys = [entry["Key"] for entry in page.get("Versions", [])]
        keys += [entry["Key"] for entry in page.get("DeleteMarkers", [])]
        for key in sorted(keys):
            count += key != last
            last = key
    return count
