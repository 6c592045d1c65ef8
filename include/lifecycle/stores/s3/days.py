"""The days of many-record objects, from names alone: prefixes by a listing with a delimiter, objects by their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from lifecycle.stores.s3.versions import iter_versions

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
    return sum(1 for _ in groupby(iter_versions(s3, bucket, prefix), key=attrgetter("key")))
