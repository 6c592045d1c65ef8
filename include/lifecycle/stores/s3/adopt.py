"""Puts a rest that was made elsewhere in the place of its object, as `rewrite_object` does with one made here.

Taken over is exactly what the plan, which read the object, found to stay: the same records in the same order and form.
Written under a condition, read back, and only then is the old version destroyed (promise 3). Anything else is
refused by name and left to `rewrite_object`, which looks for itself.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import DispositionError
from lifecycle.prepared.notes import Note, Proof
from lifecycle.stores.permit import Permit
from lifecycle.stores.s3.contents import Contents
from lifecycle.stores.s3.destroy import Locks, destroy_versions
from lifecycle.stores.s3.entries import ObjectVersion
from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.forms import form_of
from lifecycle.stores.s3.logs import Announce, RewriteResult, some_counts
from lifecycle.stores.s3.records import Decide, LogFields, Tally, UnreadableObjectError
from lifecycle.stores.s3.transfer import Content, described_by, pinned
from lifecycle.stores.s3.versions import key_versions
from lifecycle.stores.s3.written import file_sha256, write_proven

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Refusal(StrEnum):
    """Why a rest is not taken over. ``wrong`` says whether it is not what an honest cluster makes."""

    FACTS = "made by other facts or code than those in force"
    VERSION = "the object was written again or has other versions"
    LOCKED = "the object is locked"
    OVERWRITTEN = "the object was overwritten meanwhile"
    NOTE = "the note cannot be read"
    COUNTS = "the note counts otherwise than the plan"
    BYTES = "the rest is not the one of the note"
    UNREADABLE = "the rest cannot be read"
    DUE = "the rest holds records that are due"
    CONTENTS = "the rest is not what the plan found to stay"

    @property
    def wrong(self) -> bool:
        return self not in (Refusal.FACTS, Refusal.VERSION, Refusal.LOCKED, Refusal.OVERWRITTEN)


def adopt_rest(
    s3: S3Client,
    permit: Permit,
    bucket: str,
    key: str,
    proof: Proof,
    note: Note,
    rest: Path | None,
    fields: LogFields,
    decide: Decide,
    announce: Announce,
) -> RewriteResult | Refusal:
    """Replace an object by its rest, or remove it where nothing stays. Where it is refused, nothing was done.

    Args:
        proof: made by the facts of now, as the note was.
        decide: by the facts of now; the rest is judged once more.

    Raises:
        FencedOutError: another try has taken over.
        VerificationError: what was written does not read back as it should; it was taken away again.
        DispositionError: the rest is written, but the old version could not be destroyed; run again.
    """
    versions = key_versions(s3, bucket, key)
    if not _only(versions, proof) or (note.version_id, note.etag) != (proof.version_id, proof.etag):
        return Refusal.VERSION
    if Locks.of(s3, bucket).hold_any(versions):
        return Refusal.LOCKED
    told = (note.before, note.kept, note.unclassified, note.removed)
    if told != (proof.before, proof.kept, proof.unclassified, proof.removed):
        return Refusal.COUNTS
    if proof.kept and (refusal := _refusal(key, rest, note, proof, fields, decide)) is not None:
        return refusal
    done = RewriteResult(
        "rewritten" if proof.kept else "removed", proof.before, proof.kept, dict(proof.removed), proof.unclassified
    )
    announce(done, proof.etag)
    written: str | None = None
    if proof.kept and rest is not None:
        try:
            content = _description(s3, bucket, key, proof)
            written = write_proven(s3, permit, bucket, key, rest, content, proof.version_id)
        except StoreError as refusal:
            if not (refusal.conflict or refusal.absent):
                raise
            return Refusal.OVERWRITTEN
    obsolete = [version for version in versions if version.version_id != written]
    gone = destroy_versions(s3, permit, bucket, {key: obsolete}, Locks.of(s3, bucket))
    if gone.keys_failed or gone.keys_held:
        raise DispositionError(f"{bucket}/{key.rpartition('/')[0]}", 1, some_counts(gone))
    return RewriteResult(done.action, done.records_before, done.kept, done.removed, done.unclassified, 1)


def _only(versions: list[ObjectVersion], proof: Proof) -> bool:
    """Whether the version that was read is all there is of the object; older ones may hold what is due, too."""
    return [(one.version_id, one.etag, one.is_marker) for one in versions] == [(proof.version_id, proof.etag, False)]


def _refusal(
    key: str, rest: Path | None, note: Note, proof: Proof, fields: LogFields, decide: Decide
) -> Refusal | None:
    """Why a rest is not what the plan found to stay; None if it is."""
    if rest is None or file_sha256(rest) != note.sha256:
        return Refusal.BYTES
    contents = Contents()
    check = Tally(decide, contents=contents)
    try:
        form_of(key).scan(rest, fields, check)
    except UnreadableObjectError:
        return Refusal.UNREADABLE
    if check.due:
        return Refusal.DUE
    same = check.before == check.kept == proof.kept
    return None if same and contents.checksum == proof.contents else Refusal.CONTENTS


def _description(s3: S3Client, bucket: str, key: str, proof: Proof) -> Content:
    """What describes the object, without its bytes."""
    with translated("GetObject"):
        answer = s3.get_object(Bucket=bucket, Key=key, Range="bytes=0-0", **pinned(proof.version_id, proof.etag))
        answer["Body"].close()
    return described_by(answer, sha256="", size=0)
