"""Puts a rest that was made elsewhere in the place of its object, as `rewrite_object` does with one made here.

Written under a condition, read back, and only then is the old version destroyed (promise 3). Whatever is not exactly as
the note says is left to `rewrite_object`, which looks for itself.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import DispositionError
from lifecycle.prepared.notes import Note
from lifecycle.stores.permit import Permit
from lifecycle.stores.s3.destroy import Locks, destroy_versions
from lifecycle.stores.s3.entries import ObjectVersion
from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.forms import form_of
from lifecycle.stores.s3.logs import Announce, RewriteResult, file_sha256, some_counts, write_proven
from lifecycle.stores.s3.records import Decide, LogFields, Tally, UnreadableObjectError
from lifecycle.stores.s3.transfer import Content, described_by, pinned
from lifecycle.stores.s3.versions import key_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)


def adopt_rest(
    s3: S3Client,
    permit: Permit,
    bucket: str,
    key: str,
    note: Note,
    rest: Path | None,
    fields: LogFields,
    decide: Decide,
    announce: Announce,
) -> RewriteResult | None:
    """Replace an object by its rest, or remove it where nothing stays. None: the note does not fit, nothing was done.

    Args:
        decide: by the facts of now; the note's were the same, and the rest is judged once more.

    Raises:
        FencedOutError: another try has taken over.
        VerificationError: what was written does not read back as it should; it was taken away again.
        DispositionError: the rest is written, but the old version could not be destroyed; run again.
    """
    versions = key_versions(s3, bucket, key)
    if not _only(versions, note) or Locks.of(s3, bucket).hold_any(versions):
        return None
    if note.kept and (rest is None or not _proven(key, rest, note, fields, decide)):
        return None
    done = RewriteResult(
        "rewritten" if note.kept else "removed", note.before, note.kept, dict(note.removed), note.unclassified
    )
    announce(done, note.etag)
    written: str | None = None
    if note.kept and rest is not None:
        try:
            content = _description(s3, bucket, key, note)
            written = write_proven(s3, permit, bucket, key, rest, content, note.version_id)
        except StoreError as refusal:
            if not (refusal.conflict or refusal.absent):
                raise
            return None
    obsolete = [version for version in versions if version.version_id != written]
    gone = destroy_versions(s3, permit, bucket, {key: obsolete}, Locks.of(s3, bucket))
    if gone.keys_failed or gone.keys_held:
        raise DispositionError(f"{bucket}/{key.rpartition('/')[0]}", 1, some_counts(gone))
    return RewriteResult(done.action, done.records_before, done.kept, done.removed, done.unclassified, 1)


def _only(versions: list[ObjectVersion], note: Note) -> bool:
    """Whether the version that was read is all there is of the object; older ones may hold what is due, too."""
    return [(one.version_id, one.etag, one.is_marker) for one in versions] == [(note.version_id, note.etag, False)]


def _proven(key: str, rest: Path, note: Note, fields: LogFields, decide: Decide) -> bool:
    """Whether the rest is the one of the note, and holds what stays, and nothing that is due."""
    if note.before != note.kept + sum(note.removed.values()) or file_sha256(rest) != note.sha256:
        log.warning("a prepared rest is not what its note says; the object is rewritten here")
        return False
    check = Tally(decide)
    try:
        form_of(key).scan(rest, fields, check)
    except UnreadableObjectError:
        log.warning("a prepared rest cannot be read; the object is rewritten here")
        return False
    return check.due == 0 and check.before == check.kept == note.kept


def _description(s3: S3Client, bucket: str, key: str, note: Note) -> Content:
    """What describes the object, without its bytes."""
    with translated("GetObject"):
        answer = s3.get_object(Bucket=bucket, Key=key, Range="bytes=0-0", **pinned(note.version_id, note.etag))
        answer["Body"].close()
    return described_by(answer, sha256="", size=0)
