"""Makes rests of log objects in staging, beside the originals, which it only reads. Runs on Spark's executors, too."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.prepared.inputs import Inputs
from lifecycle.prepared.notes import Item, Note, note_key, rest_key
from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.records import Tally, UnreadableObjectError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def read_text(s3: S3Client, bucket: str, key: str) -> bytes:
    with translated("GetObject"):
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def items_of(s3: S3Client, bucket: str, key: str) -> Iterator[Item]:
    """The objects that one file of `export` names."""
    for line in read_text(s3, bucket, key).splitlines():
        yield Item.of_line(line)


def prepare_all(s3: S3Client, inputs: Inputs, items: Iterable[Item]) -> dict[str, int]:
    """Prepare some objects. Returns counts by outcome: prepared, unchanged, already, changed, unreadable."""
    done: Counter[str] = Counter()
    for item in items:
        done[prepare(s3, inputs, item)] += 1
    return dict(done)


def prepare(s3: S3Client, inputs: Inputs, item: Item) -> str:
    """Write rest and note of one object, the note last. Safe to repeat, and to be done by two at once."""
    from lifecycle.stores.s3.forms import form_of
    from lifecycle.stores.s3.transfer import read, write_file

    note = note_key(inputs.prefix, item.key)
    if _noted(s3, inputs, note, item):
        return "already"
    decide = inputs.judge(item.day)
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as folder:
        source, rest = Path(folder, "source"), Path(folder, "rest")
        tally, written = Tally(decide), Tally(decide)
        try:
            read(s3, inputs.bucket, item.key, version_id=item.version_id, etag=item.etag, into=source)
            form = form_of(item.key)
            form.scan(source, inputs.fields, tally)
            if not tally.due:
                return "unchanged"
            if tally.kept:
                form.rewrite(source, rest, inputs.fields, written)
        except UnreadableObjectError:
            return "unreadable"
        except StoreError as refusal:
            if refusal.absent or refusal.conflict:
                return "changed"
            raise
        checksum = ""
        if tally.kept:
            with rest.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            write_file(s3, inputs.staging, rest_key(inputs.prefix, item.key), rest, description={}, condition={})
        told = Note(
            digest=inputs.digest,
            version_id=item.version_id,
            etag=item.etag,
            before=tally.before,
            kept=tally.kept,
            unclassified=tally.unclassified,
            removed=dict(tally.removed),
            sha256=checksum,
        )
        with translated("PutObject"):
            s3.put_object(Bucket=inputs.staging, Key=note, Body=told.to_json())
    return "prepared"


def _noted(s3: S3Client, inputs: Inputs, note: str, item: Item) -> bool:
    try:
        found = Note.of_json(read_text(s3, inputs.staging, note))
    except StoreError as refusal:
        if not refusal.absent:
            raise
        return False
    return (found.digest, found.etag, found.version_id) == (inputs.digest, item.etag, item.version_id)
