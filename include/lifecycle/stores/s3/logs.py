"""Many-record objects: take out the records that are due, or of these what ``clear`` of their fields names, and leave
every other byte's meaning as it was.

Write the rest as a new version under a condition, read it back, and only then destroy the versions it replaces
(promise 3). Each step may be interrupted: the next call sees what is left to do and reports the same counts.
"""

from __future__ import annotations

import logging
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from lifecycle.errors import DispositionError, VerificationError
from lifecycle.stores.permit import Permit
from lifecycle.stores.s3 import cutting, jsonl, parquet
from lifecycle.stores.s3.arrays import number_array
from lifecycle.stores.s3.contents import Contents, checksum_of
from lifecycle.stores.s3.destroy import Locks, destroy_versions
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.forms import Form, form_of
from lifecycle.stores.s3.outline import Known, Outline
from lifecycle.stores.s3.reconciliation import Reconciliation
from lifecycle.stores.s3.records import Decide, LogFields, Tally, UnreadableObjectError
from lifecycle.stores.s3.remote import NO_RANGES, RemoteFile
from lifecycle.stores.s3.transfer import Content, read
from lifecycle.stores.s3.versions import ObjectVersion, key_versions, newest_etag
from lifecycle.stores.s3.written import write_proven

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Decide", "LogFields", "RewriteResult", "inspect_object", "rewrite_object"]
log = logging.getLogger(__name__)
# How often a rewrite begins anew because the object was overwritten meanwhile.
TRIES = 5
# From this size on, only the columns of a Parquet object that decide are read to find what is due.
REMOTE_FROM = 16 << 20
# Told the counts and the ETag of the newest content before anything is changed.
Announce = Callable[["RewriteResult", str], None]
# Told what is known of the only version of an object; see `Known`.
Learn = Callable[[ObjectVersion, Known], None]
# Told of the only version of an object what is due in it, and the checksum of what stays; see `Contents`.
Prove = Callable[[ObjectVersion, Tally, str], None]


@dataclass(frozen=True)
class RewriteResult:
    """What was done to an object, or by `inspect_object` what would be. ``removed`` counts by rule the records that
    went or, where fields are emptied, lost content; ``kept`` those left as they were.

    ``held``: a version is under retention or legal hold, so nothing of the object was touched, nothing counts as
    removed, and ``withheld`` counts the records that would have been due.
    ``versions_deleted`` counts versions without markers; it is 0 exactly if there was nothing to destroy, or held.
    """

    action: Literal["unchanged", "rewritten", "removed", "held"]
    records_before: int = 0
    kept: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    unclassified: int = 0
    versions_deleted: int = 0
    withheld: int = 0


@dataclass(frozen=True)
class _Seen:
    """What an object holds: its versions, the latest one's content (if read whole) and tally, what is due."""

    versions: Sequence[ObjectVersion]
    latest: ObjectVersion | None
    content: Content | None
    path: Path
    tally: Tally
    replaced: Tally
    uncovered: bool

    @property
    def due(self) -> bool:
        """Whether any version, the latest or an older one, still holds a record that is due."""
        return self.replaced.due > 0

    @property
    def obsolete(self) -> list[ObjectVersion]:
        """What goes: everything but a latest version that has nothing due."""
        return [version for version in self.versions if version is not self.latest or self.tally.due > 0]

    def held(self) -> RewriteResult:
        """All records are kept, though some are due."""
        told = self.replaced
        return RewriteResult("held", told.before, told.before, {}, told.unclassified, 0, told.due)

    def result(self, action: Literal["unchanged", "rewritten", "removed"], deleted: int) -> RewriteResult:
        """The counts are those of the version that is replaced, also if a former call had replaced it already."""
        told = self.replaced if self.due else self.tally
        return RewriteResult(action, told.before, told.kept, dict(told.removed), told.unclassified, deleted)

    @property
    def action(self) -> Literal["rewritten", "removed"]:
        return "rewritten" if self.latest is not None and (self.tally.left or not self.tally.due) else "removed"


def inspect_object(
    s3: S3Client,
    bucket: str,
    key: str,
    fields: LogFields,
    decide: Decide,
    learn: Learn | None = None,
    prove: Prove | None = None,
) -> RewriteResult:
    """What `rewrite_object` would do now. Reads only. An object that is absent counts as removed, with no records.

    Args:
        learn: called with what may be remembered of an object of one version in which nothing is due.
        prove: called with what a rest that is made elsewhere will be held to, of one version in which something is.

    Raises:
        StoreError: it cannot be read.
    """
    with _seen(s3, bucket, key, fields, decide, learn, prove) as seen:
        if seen is None:
            return RewriteResult("removed")
        if not seen.due:
            return seen.result("unchanged", 0)
        if Locks.of(s3, bucket).hold_any(seen.obsolete):
            return seen.held()
        return seen.result(seen.action, sum(not version.is_marker for version in seen.obsolete))


def rewrite_object(
    s3: S3Client,
    permit: Permit,
    bucket: str,
    key: str,
    fields: LogFields,
    decide: Decide,
    announce: Announce | None = None,
) -> RewriteResult:
    """Take the due records out of an object, in all its versions. Untouched if none is due; removed if none is left.

    Args:
        announce: called before the first change, with what it will be; must be safe to repeat.

    Raises:
        FencedOutError: another try has taken over.
        VerificationError: what was written does not read back as it should (it was taken away again), the object
            never stood still, or an older version holds records that must stay and stand nowhere else.
        DispositionError: the rest is written, but some older version could not be destroyed; run again.
    """
    for attempt in range(TRIES):
        try:
            with _seen(s3, bucket, key, fields, decide) as seen:
                if seen is None:
                    return RewriteResult("removed")
                return _act(s3, permit, bucket, key, fields, decide, seen, announce)
        except StoreError as refusal:
            # Overwritten or removed between reading and writing (hard case 15): look again.
            if not (refusal.conflict or refusal.absent):
                raise
            log.info("an object changed while it was being rewritten (%s), try %d", refusal.code, attempt + 1)
    raise VerificationError(
        f"an object of bucket {bucket!r} kept changing while it was being rewritten, or the server cannot compare it "
        "before writing (Ceph with suspended versioning); nothing was lost"
    )


def _act(
    s3: S3Client,
    permit: Permit,
    bucket: str,
    key: str,
    fields: LogFields,
    decide: Decide,
    seen: _Seen,
    announce: Announce | None,
) -> RewriteResult:
    if not seen.due:
        return seen.result("unchanged", 0)
    locks = Locks.of(s3, bucket)
    if locks.hold_any(seen.obsolete):
        return seen.held()
    if seen.uncovered:
        raise VerificationError(
            f"an older version of an object of bucket {bucket!r} holds due records beside others that must stay "
            "and are not in its latest version; nothing was touched. Write those back, then run again."
        )
    if announce is not None:
        announce(seen.result(seen.action, 0), newest_etag(seen.versions))
    obsolete = seen.obsolete
    if seen.latest is not None and seen.tally.due and seen.tally.left:
        content = seen.content or _fetch(s3, bucket, seen.latest, seen.path)
        written = _write_rest(s3, permit, bucket, key, fields, decide, seen, content)
        obsolete = [version for version in obsolete if version.version_id != written]
    done = destroy_versions(s3, permit, bucket, {key: obsolete}, locks)
    if done.keys_failed or done.keys_held:
        raise DispositionError(f"{bucket}/{key.rpartition('/')[0]}", 1, some_counts(done))
    # Overwriting a "null" version destroyed it: it counts though no request named it.
    overwritten = sum(not version.is_marker for version in seen.obsolete) - sum(not one.is_marker for one in obsolete)
    return seen.result(seen.action, done.versions_deleted + overwritten)


def some_counts(done: Reconciliation) -> dict[str, int]:
    return {name: count for name, count in done.counts().items() if count}


def _write_rest(
    s3: S3Client,
    permit: Permit,
    bucket: str,
    key: str,
    fields: LogFields,
    decide: Decide,
    seen: _Seen,
    content: Content,
) -> str:
    """Write what stays of the latest version as a new one, and prove it. Returns the id of the new version."""
    rest = seen.path.with_suffix(".rest")
    _make_rest(key, seen, rest, fields, decide)
    assert seen.latest is not None  # it was read
    return write_proven(s3, permit, bucket, key, rest, content, seen.latest.version_id)


def _make_rest(key: str, seen: _Seen, rest: Path, fields: LogFields, decide: Decide) -> None:
    """Write what stays to a file, and prove by reading it that it is that, before the store is touched.

    In a file and not straight into an upload: nothing unproven is ever sent, and what is read back from the store
    needs but the same checksum to be proven too.
    """
    form, tally = form_of(key), seen.tally
    try:
        if tally.gone:
            cutting.cut(seen.path, rest, tally.gone)
            wrong = cutting.wrong(jsonl.blocks(seen.path), rest, tally.gone, tally.due)
        else:
            wrong = _rewritten(form, seen, rest, fields, decide)
        wrong += form.differences(seen.path, rest)
    except UnreadableObjectError as error:
        raise VerificationError(f"{error}; it holds {tally.due} due record(s)") from None
    if wrong:
        raise VerificationError(
            f"an object with {tally.due} due record(s) cannot be rewritten as it is: what was written differs in "
            f"{', '.join(wrong)}; it was left in place"
        )


def _rewritten(form: Form, seen: _Seen, rest: Path, fields: LogFields, decide: Decide) -> list[str]:
    """In which respects what stays, judged and written anew, is not what was found to stay."""
    written, check = (Tally(decide, empties=seen.tally.empties) for _ in range(2))
    form.rewrite(seen.path, rest, fields, written)
    form.scan(rest, fields, check)
    if check.due or not check.before == check.kept == written.left == seen.tally.left:
        return [f"{check.before} record(s) instead of {seen.tally.left}, {check.due} of them due"]
    return form.unlike(seen.path, rest, fields, seen.tally.due) if fields.clear else []


@contextmanager
def _seen(
    s3: S3Client,
    bucket: str,
    key: str,
    fields: LogFields,
    decide: Decide,
    learn: Learn | None = None,
    prove: Prove | None = None,
) -> Iterator[_Seen | None]:
    """Read all versions of an object into temporary files. None if it is absent."""
    versions = key_versions(s3, bucket, key)
    if not versions:
        yield None
        return
    latest = next((version for version in versions if version.is_latest and not version.is_marker), None)
    older = [version for version in versions if version is not latest and not version.is_marker]
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as folder:
        path, content = Path(folder, "latest"), None
        empties, ids = bool(fields.clear), array("Q") if older else None
        tally = Tally(decide, kept_ids=ids, gone=None if empties else array("Q"), empties=empties)
        tally.outline = Outline() if learn is not None and len(versions) == 1 else None
        proving = prove is not None and len(versions) == 1
        # Of rows only the columns that decide are read at first: most objects hold nothing due.
        tally.contents = Contents() if proving and not key.endswith(".parquet") else None
        if latest is not None:
            content = _look(s3, bucket, latest, path, fields, tally)
            if prove is not None and proving and tally.due:
                if content is None:
                    content = _fetch(s3, bucket, latest, path)
                if (checksum := checksum_of(form_of(key), path, fields, tally)) is not None:
                    prove(latest, tally, checksum)
            if learn is not None and (known := tally.known) is not None:
                learn(latest, known)
        replaced, uncovered = tally, False
        for version in older:
            old = Tally(decide, kept_ids=array("Q"), empties=empties)
            _look(s3, bucket, version, Path(folder, "older"), fields, old)
            if old.due and not replaced.due:
                replaced = old
            uncovered = uncovered or not _covered(old, tally)
        yield _Seen(versions, latest, content, path, tally, replaced, uncovered)


def _look(
    s3: S3Client, bucket: str, version: ObjectVersion, path: Path, fields: LogFields, tally: Tally
) -> Content | None:
    """Count what a version holds. Its content only if it was read whole, which a large Parquet file need not be."""
    if version.key.endswith(".parquet") and version.size >= REMOTE_FROM:
        part = tally.beside()
        try:
            seen = parquet.scan_remote(cast(IO[bytes], RemoteFile(s3, bucket, version)), version.size, fields, part)
        except UnreadableObjectError as error:
            _unreadable(error, tally)
            return None
        except StoreError as refusal:
            if refusal.code != NO_RANGES:
                raise
            seen = False
        if seen:
            tally.add(part)
            return None
    content = _fetch(s3, bucket, version, path)
    _scan(version.key, path, fields, tally)
    return content


def _fetch(s3: S3Client, bucket: str, version: ObjectVersion, path: Path) -> Content:
    """Read one version. The ETag is demanded too, because an overwrite reuses the id "null"."""
    return read(s3, bucket, version.key, version_id=version.version_id, etag=version.etag, into=path)


def _scan(key: str, path: Path, fields: LogFields, tally: Tally) -> None:
    """Count a version's records; one that cannot be read holds a single, unclassified one, which stays."""
    try:
        form_of(key).scan(path, fields, tally)
    except UnreadableObjectError as error:
        _unreadable(error, tally)


def _unreadable(error: UnreadableObjectError, tally: Tally) -> None:
    log.warning("%s", error)
    tally.before, tally.kept, tally.unclassified = 1, 1, 1
    tally.removed.clear()
    # The ids of a part would make the whole look as if it stood elsewhere too.
    tally.kept_ids = None if tally.kept_ids is None else array("Q")


def _covered(old: Tally, latest: Tally) -> bool:
    """Whether every record that an older version keeps is kept by the latest one too."""
    if not old.left:
        return True
    if old.kept_ids is None or latest.kept_ids is None or len(old.kept_ids) < old.left:
        return False
    import pyarrow.compute as pc

    wanted, there = number_array(old.kept_ids), number_array(latest.kept_ids)
    return bool(pc.all(pc.is_in(wanted, value_set=there)).as_py())
