"""Looks through the many-record objects of the datasets for those that need a person. Changes and remembers nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.log_index import LogIndex
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lifecycle.stores.s3.doubtful import Doubt
    from lifecycle.stores.s3.versions import ObjectVersion

_DAY = re.compile(r"date=\d{4}-\d{2}-\d{2}/")
_TIERS = tuple(tier.value for tier in Tier)


@dataclass
class Search:
    """What was found so far. ``objects`` holds the first ``most``, the counts are of all."""

    most: int
    objects: list[tuple[Logs, Doubt]] = field(default_factory=list)
    read: int = 0
    known: int = 0
    unreadable: int = 0
    doubtful: int = 0

    def note(self, dataset: Logs, doubt: Doubt) -> None:
        self.unreadable += doubt.fault is not None
        self.doubtful += doubt.fault is None
        if len(self.objects) < self.most:
            self.objects.append((dataset, doubt))


def search(conn: Connection, s3: S3Client, datasets: tuple[Logs, ...], most: int) -> Search:
    """Read every object that is not known to be readable as it stands, in all its versions.

    Raises:
        StoreError: the store refuses to list or to read.
    """
    from lifecycle.stores.s3.doubtful import doubts
    from lifecycle.stores.s3.logs import LogFields
    from lifecycle.stores.s3.versions import key_versions

    found = Search(most)
    for dataset in datasets:
        indexes = [LogIndex(conn, each, writes=False) for each in (dataset, *dataset.parts)]
        clear = tuple(field for part in dataset.parts for field in part.clear)
        fields = LogFields(dataset.record, dataset.subject, dataset.tier, dataset.clock, clear)
        for versions in _objects(s3, dataset):
            if all(index.knows(versions) for index in indexes):
                found.known += 1
                continue
            found.read += 1
            every = versions if len(versions) == 1 else key_versions(s3, dataset.bucket, versions[0].key)
            for doubt in doubts(s3, dataset.bucket, every, fields, _TIERS):
                found.note(dataset, doubt)
    return found


def _objects(s3: S3Client, dataset: Logs) -> Iterator[list[ObjectVersion]]:
    """Every key of a day with its first two versions; what lies beside the days is the coverage check's."""
    from lifecycle.stores.s3.versions import iter_versions

    for key, versions in groupby(iter_versions(s3, dataset.bucket, dataset.prefix), key=attrgetter("key")):
        if _DAY.match(key, len(dataset.prefix)):
            yield list(islice(versions, 2))
