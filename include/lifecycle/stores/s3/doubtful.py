"""Objects of many records that cannot be read, or hold records that cannot be told apart, each with its key.

For the eyes of whoever asks, who may read the bucket anyway. What is found here goes to no log, result or table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.forms import form_of
from lifecycle.stores.s3.records import Judge, LogFields, Ordinary, Tally, UnreadableObjectError
from lifecycle.stores.s3.transfer import read

if TYPE_CHECKING:
    from collections.abc import Collection

    from mypy_boto3_s3 import S3Client

    from lifecycle.stores.s3.versions import ObjectVersion

_COMPLETE = "have the application write what is missing; until then the record goes under the strictest deadline"
# No clock lies before it that is judged by column, so nothing is due.
_NEVER = datetime(1800, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Doubt:
    """One version that needs a person. ``fault``: it cannot be read at all; else some records lack something."""

    key: str
    version_id: str
    latest: bool
    records: int
    unclassified: int
    fault: str | None
    remedy: str


def doubts(
    s3: S3Client, bucket: str, versions: Sequence[ObjectVersion], fields: LogFields, tiers: Collection[str]
) -> Iterator[Doubt]:
    """What is doubtful in the versions of one key. A version that went meanwhile is none of it.

    Raises:
        StoreError: the store refuses to read one.
    """
    for version in versions:
        if version.is_marker:
            continue
        tally = Tally(_judge_of(tiers))
        try:
            _read(s3, bucket, version, fields, tally)
        except UnreadableObjectError as error:
            yield Doubt(version.key, version.version_id, version.is_latest, 0, 0, error.fault, error.remedy)
        except StoreError as refusal:
            if not (refusal.absent or refusal.conflict):
                raise
        else:
            if tally.unclassified:
                counts = tally.before, tally.unclassified
                yield Doubt(version.key, version.version_id, version.is_latest, *counts, None, _COMPLETE)


def _read(s3: S3Client, bucket: str, version: ObjectVersion, fields: LogFields, tally: Tally) -> None:
    form = form_of(version.key)
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as folder:
        path = Path(folder, "version")
        read(s3, bucket, version.key, version_id=version.version_id, etag=version.etag, into=path)
        form.scan(path, fields, tally)


def _judge_of(tiers: Collection[str]) -> Judge:
    def keep(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
        return None

    return Judge(keep, Ordinary(dict.fromkeys(tiers, (_NEVER, "")), frozenset(), frozenset()))
