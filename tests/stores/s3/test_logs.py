"""Many-record objects: due records leave in all versions, everything else stays, whenever it is interrupted."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lifecycle.demo.servers import S3Server
from lifecycle.errors import DispositionError, FencedOutError, VerificationError
from lifecycle.stores.s3 import packing, requests
from lifecycle.stores.s3.locks import set_legal_hold
from lifecycle.stores.s3.logs import RewriteResult, inspect_object, rewrite_object
from lifecycle.stores.s3.versions import ObjectVersion, key_versions
from stores.s3 import LOCKED, LOGS, PLAIN
from stores.s3.log_objects import FIELDS, FORMS, Form, due_if_d
from support.permits import CountingPermit, Killed, altered, fenced_out, killed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EACH_FORM = pytest.mark.parametrize("form", FORMS, ids=[form.suffix for form in FORMS])
JSONL, GZIP, PARQUET = FORMS
MIXED = ["d1", "k1", "e1", "d2", "k2", "d3", "d4"]
RESULT = RewriteResult("rewritten", 7, 2, {"beta_default": 4, "erasure_request": 1}, 0, 1)


def rewrite(s3: S3Client, form: Form, permit: CountingPermit | None = None, bucket: str = LOGS) -> RewriteResult:
    return rewrite_object(s3, permit or CountingPermit(), bucket, form.key(), FIELDS, due_if_d)


def inspect(s3: S3Client, form: Form, bucket: str = LOGS) -> RewriteResult:
    return inspect_object(s3, bucket, form.key(), FIELDS, due_if_d)


def versions(s3: S3Client, form: Form, bucket: str = LOGS) -> list[ObjectVersion]:
    return key_versions(s3, bucket, form.key())


@EACH_FORM
def test_due_records_leave_and_the_rest_stays(s3: S3Client, form: Form) -> None:
    form.put(s3, MIXED)
    assert inspect(s3, form) == RESULT
    assert rewrite(s3, form) == RESULT
    assert form.ids(s3) == ["k1", "k2"]
    (only,) = versions(s3, form)
    assert only.is_latest
    head = s3.head_object(Bucket=LOGS, Key=form.key())
    assert (head["ContentType"], head["Metadata"]) == (form.content_type, {"written-by": "app"})
    tags = s3.get_object_tagging(Bucket=LOGS, Key=form.key())["TagSet"]
    assert tags == [{"Key": "kind", "Value": "log lines"}]


@EACH_FORM
def test_an_object_without_due_records_is_not_touched(s3: S3Client, form: Form) -> None:
    form.put(s3, ["k1", "k2"])
    before = versions(s3, form)
    permit = CountingPermit()
    assert inspect(s3, form) == rewrite(s3, form, permit) == RewriteResult("unchanged", 2, 2)
    assert versions(s3, form) == before
    assert permit.checks == 0


@EACH_FORM
def test_an_object_of_which_nothing_is_left_goes(s3: S3Client, form: Form) -> None:
    form.put(s3, ["d1", "k9"])
    s3.delete_object(Bucket=LOGS, Key=form.key())
    form.put(s3, ["d1", "d2"], name="part-00")
    assert form.put(s3, ["d1"])
    form.put(s3, ["k1"], name="part-1")
    # The older, hidden version keeps k9, which stands nowhere else: that is not ours to destroy.
    with pytest.raises(VerificationError, match="older version"):
        rewrite(s3, form)
    for version in versions(s3, form)[1:]:
        s3.delete_object(Bucket=LOGS, Key=form.key(), VersionId=version.version_id)
    assert inspect(s3, form) == RewriteResult("removed", 1, 0, {"beta_default": 1}, 0, 1)
    assert rewrite(s3, form) == RewriteResult("removed", 1, 0, {"beta_default": 1}, 0, 1)
    assert versions(s3, form) == []
    assert form.ids(s3, "part-00") == ["d1", "d2"]
    assert form.ids(s3, "part-1") == ["k1"]


def test_an_absent_object_counts_as_removed(s3: S3Client) -> None:
    assert inspect(s3, GZIP) == rewrite(s3, GZIP) == RewriteResult("removed")


@EACH_FORM
def test_a_rerun_changes_nothing(s3: S3Client, form: Form) -> None:
    form.put(s3, MIXED)
    rewrite(s3, form)
    before = versions(s3, form)
    assert rewrite(s3, form) == RewriteResult("unchanged", 2, 2)
    assert versions(s3, form) == before


@pytest.mark.parametrize("form", [JSONL, PARQUET], ids=["jsonl", "parquet"])
@pytest.mark.parametrize("step", ["put_object", "get_object", "delete_objects"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_killed_at_each_step_and_run_again(s3: S3Client, form: Form, step: str, late: bool) -> None:
    """Promise 4: whichever request was the last, the rerun ends in the same state and tells the same counts."""
    form.put(s3, MIXED)
    wrote = False

    def dying(real: Callable[..., Any], **kwargs: Any) -> Any:
        nonlocal wrote
        # get_object is also how the object is read at first; here the reading back of what was written is meant.
        if step == "get_object" and not wrote:
            return real(**kwargs)
        answer = real(**kwargs) if late else None
        killed()
        return answer

    def write(real: Callable[..., Any], **kwargs: Any) -> Any:
        nonlocal wrote
        wrote = True
        return real(**kwargs)

    with pytest.raises(Killed):
        rewrite(altered(s3, **{"put_object": write, step: dying}), form)
    done_already = step == "delete_objects" and late
    # Nothing that must stay was ever out of sight.
    assert {"k1", "k2"} <= set(form.ids(s3))
    assert inspect(s3, form) == (RewriteResult("unchanged", 2, 2) if done_already else RESULT)
    assert rewrite(s3, form) == (RewriteResult("unchanged", 2, 2) if done_already else RESULT)
    assert form.ids(s3) == ["k1", "k2"]
    assert len(versions(s3, form)) == 1


def test_case_18_older_versions_that_still_hold_due_records_go(s3: S3Client) -> None:
    """Case 18: noncurrent versions are not erased by a rewrite of the current one."""
    GZIP.put(s3, ["d1", "k1"])
    s3.delete_object(Bucket=LOGS, Key=GZIP.key())
    GZIP.put(s3, ["d1", "d2", "k1"])
    GZIP.put(s3, ["k1", "k2"])
    result = rewrite(s3, GZIP)
    assert result == RewriteResult("rewritten", 3, 1, {"beta_default": 2}, 0, 2)
    assert GZIP.ids(s3) == ["k1", "k2"]
    assert len(versions(s3, GZIP)) == 1


def test_case_18_what_a_plain_delete_hid_goes_too(s3: S3Client) -> None:
    """Case 18: under a marker, due records are not erased; they go with their marker."""
    GZIP.put(s3, ["d1", "d2"])
    s3.delete_object(Bucket=LOGS, Key=GZIP.key())
    assert rewrite(s3, GZIP) == RewriteResult("removed", 2, 0, {"beta_default": 2}, 0, 1)
    assert versions(s3, GZIP) == []


def test_older_versions_without_due_records_stay(s3: S3Client) -> None:
    GZIP.put(s3, ["k1"])
    GZIP.put(s3, ["k1", "k2"])
    assert rewrite(s3, GZIP) == RewriteResult("unchanged", 2, 2)
    assert len(versions(s3, GZIP)) == 2


@pytest.mark.parametrize("latest", [["k1"], ["k1", "d5"]])
def test_never_early_records_that_stand_only_in_an_older_version_stay(s3: S3Client, latest: list[str]) -> None:
    """Promise 1: an overwrite dropped k2, which may be under hold; the version that has it is not destroyed."""
    GZIP.put(s3, ["d1", "k1", "k2"])
    GZIP.put(s3, latest)
    before = versions(s3, GZIP)
    with pytest.raises(VerificationError, match="older version"):
        rewrite(s3, GZIP)
    assert versions(s3, GZIP) == before


# -- case 15: overwritten between reading and writing


@EACH_FORM
def test_case_15_an_overwrite_before_the_write_is_seen(s3: S3Client, form: Form) -> None:
    """Case 15: the write carries If-Match, so it fails, and the newer content is rewritten instead."""
    form.put(s3, MIXED)
    longer = [*MIXED, "k3", "d9"]
    permit = CountingPermit({1: lambda: form.put(s3, longer)})
    result = rewrite(s3, form, permit)
    assert result == RewriteResult("rewritten", 9, 3, {"beta_default": 5, "erasure_request": 1}, 0, 2)
    assert form.ids(s3) == ["k1", "k2", "k3"]
    assert len(versions(s3, form)) == 1


def test_case_15_an_overwrite_before_the_destruction_stays(s3: S3Client) -> None:
    """Case 15: only the versions that were read are destroyed; what was written since is for the next call."""
    GZIP.put(s3, MIXED)
    newer: list[str | None] = []
    permit = CountingPermit({2: lambda: newer.append(GZIP.put(s3, [*MIXED, "k3"]))})
    assert rewrite(s3, GZIP, permit) == RESULT
    assert GZIP.ids(s3) == [*MIXED, "k3"]
    assert versions(s3, GZIP)[0].version_id == newer[0]
    assert rewrite(s3, GZIP).action == "rewritten"
    assert GZIP.ids(s3) == ["k1", "k2", "k3"]


def test_case_15_an_overwrite_before_a_removal_stays(s3: S3Client) -> None:
    """Case 15: an object of which all is due is removed by version, not by key."""
    GZIP.put(s3, ["d1"])
    assert rewrite(s3, GZIP, CountingPermit({1: lambda: GZIP.put(s3, ["k1"])})).action == "removed"
    assert GZIP.ids(s3) == ["k1"]


def test_case_15_an_unversioned_object_overwritten_before_its_removal_stays(s3: S3Client) -> None:
    """Case 15: "null" names whatever stands there; it goes only while it has the ETag that was read."""
    GZIP.put(s3, ["d1"], bucket=PLAIN)
    permit = CountingPermit({1: lambda: GZIP.put(s3, ["k1"], bucket=PLAIN)})
    with pytest.raises(DispositionError):
        rewrite(s3, GZIP, permit, PLAIN)
    assert GZIP.ids(s3, bucket=PLAIN) == ["k1"]


def test_case_15_an_overwrite_between_listing_and_reading_is_seen(s3: S3Client) -> None:
    """Case 15: "null" is read only while it has the ETag that was listed; otherwise the object is looked at again."""
    GZIP.put(s3, ["d1"], bucket=PLAIN)
    overwritten: list[str | None] = []

    def get(real: Callable[..., Any], **kwargs: Any) -> Any:
        if not overwritten:
            overwritten.append(GZIP.put(s3, ["d2", "d3"], bucket=PLAIN))
        return real(**kwargs)

    racing = altered(s3, get_object=get)
    assert rewrite(racing, GZIP, bucket=PLAIN) == RewriteResult("removed", 2, 0, {"beta_default": 2}, 0, 1)


def test_case_15_an_object_that_never_stands_still(s3: S3Client) -> None:
    """Case 15: tries are bounded, and nothing is lost."""
    GZIP.put(s3, MIXED)

    class Busy(CountingPermit):
        def check(self) -> None:
            super().check()
            GZIP.put(s3, [*MIXED, *(f"k{number}x" for number in range(self.checks + 1))])

    permit = Busy()
    with pytest.raises(VerificationError, match="kept changing"):
        rewrite(s3, GZIP, permit)
    assert permit.checks == 5
    assert "k5x" in GZIP.ids(s3)


def test_an_object_that_is_removed_meanwhile(s3: S3Client) -> None:
    GZIP.put(s3, MIXED)
    (version,) = versions(s3, GZIP)

    def remove() -> None:
        s3.delete_object(Bucket=LOGS, Key=GZIP.key(), VersionId=version.version_id)

    assert rewrite(s3, GZIP, CountingPermit({1: remove})) == RewriteResult("removed")
    assert versions(s3, GZIP) == []


# -- unversioned and suspended buckets


@EACH_FORM
def test_unversioned(s3: S3Client, form: Form) -> None:
    form.put(s3, MIXED, bucket=PLAIN)
    assert rewrite(s3, form, bucket=PLAIN) == RESULT
    assert form.ids(s3, bucket=PLAIN) == ["k1", "k2"]
    form.put(s3, ["d1"], bucket=PLAIN)
    assert rewrite(s3, form, bucket=PLAIN).action == "removed"
    assert versions(s3, form, PLAIN) == []


def test_case_2_suspended(s3: S3Client, suspended: str, s3_server: S3Server) -> None:
    """Case 2: the rewritten object is the new "null" version, and is not taken for the one it replaced."""
    s3.put_bucket_versioning(Bucket=suspended, VersioningConfiguration={"Status": "Enabled"})
    GZIP.put(s3, ["d1", "k1"], bucket=suspended)
    s3.put_bucket_versioning(Bucket=suspended, VersioningConfiguration={"Status": "Suspended"})
    if s3_server.pid is None:
        # Ceph compares If-Match with the null version, which is not there yet: refused, and nothing is lost.
        with pytest.raises(VerificationError, match="suspended versioning"):
            rewrite(s3, GZIP, bucket=suspended)
        assert GZIP.ids(s3, bucket=suspended) == ["d1", "k1"]
    else:
        assert rewrite(s3, GZIP, bucket=suspended) == RewriteResult("rewritten", 2, 1, {"beta_default": 1}, 0, 1)
    older = len(versions(s3, GZIP, suspended)) - (s3_server.pid is not None)
    GZIP.put(s3, ["d1", "k1", "d2"], bucket=suspended)
    result = rewrite(s3, GZIP, bucket=suspended)
    assert result == RewriteResult("rewritten", 3, 1, {"beta_default": 2}, 0, 1 + older)
    (only,) = versions(s3, GZIP, suspended)
    assert only.version_id == "null"
    assert GZIP.ids(s3, bucket=suspended) == ["k1"]


# -- holds, fences, failures


def test_case_3_a_held_version_keeps_the_object_as_it_is(s3: S3Client) -> None:
    """Case 3: the lock is read before anything is written."""
    GZIP.put(s3, MIXED, bucket=LOCKED)
    set_legal_hold(s3, LOCKED, GZIP.key(), on=True)
    before = versions(s3, GZIP, LOCKED)
    held = RewriteResult("held", 7, 7, {}, 0, 0, withheld=5)
    permit = CountingPermit()
    assert inspect(s3, GZIP, LOCKED) == rewrite(s3, GZIP, permit, LOCKED) == held
    assert versions(s3, GZIP, LOCKED) == before
    assert permit.checks == 0
    set_legal_hold(s3, LOCKED, GZIP.key(), on=False)
    assert rewrite(s3, GZIP, bucket=LOCKED) == RESULT


def test_case_3_a_lock_placed_meanwhile_fails_the_call(s3: S3Client) -> None:
    """Cases 3 and 6: written, but the former version could not go; counts say so, and a rerun settles it."""
    GZIP.put(s3, MIXED, bucket=LOCKED)
    permit = CountingPermit({2: lambda: set_legal_hold(s3, LOCKED, GZIP.key(), on=True)})
    with pytest.raises(DispositionError, match=r"quarantine/requests/date=2026-06-01: 1 item.*keys_held 1") as failure:
        rewrite(s3, GZIP, permit, LOCKED)
    assert "part-0" not in str(failure.value)
    assert rewrite(s3, GZIP, bucket=LOCKED).action == "held"
    set_legal_hold(s3, LOCKED, GZIP.key(), on=False)
    assert rewrite(s3, GZIP, bucket=LOCKED) == RESULT


@pytest.mark.parametrize("at", [1, 2])
def test_case_27_a_fenced_out_try_stops(s3: S3Client, at: int) -> None:
    """Case 27: the permit is asked before the write and before the destruction."""
    GZIP.put(s3, MIXED)
    with pytest.raises(FencedOutError):
        rewrite(s3, GZIP, CountingPermit({at: fenced_out}))
    assert len(versions(s3, GZIP)) == at
    assert rewrite(s3, GZIP) == RESULT


def test_case_6_a_version_that_cannot_be_destroyed_fails_the_call(
    s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 6: an error inside the HTTP 200."""
    monkeypatch.setattr(requests, "BACKOFF", (0.0,))
    GZIP.put(s3, MIXED)

    def refuse(real: Any, *, Bucket: str, Delete: dict[str, Any]) -> Any:
        return {"Errors": [{**entry, "Code": "InternalError"} for entry in Delete["Objects"]]}

    with pytest.raises(DispositionError, match="keys_failed 1"):
        rewrite(altered(s3, delete_objects=refuse), GZIP)
    assert rewrite(s3, GZIP) == RESULT


@EACH_FORM
@pytest.mark.parametrize("damage", ["lost", "kept", "cut"])
def test_what_does_not_read_back_is_taken_away_again(s3: S3Client, form: Form, damage: str) -> None:
    """Promise 3: the former version is destroyed only after the new one has been proven."""
    form.put(s3, MIXED)
    before = versions(s3, form)
    wrong = {"lost": form.encode(["k1"]), "kept": form.encode(["k1", "d1"]), "cut": form.encode(["k1", "k2"])[:-5]}

    def tamper(real: Callable[..., Any], **kwargs: Any) -> Any:
        return real(**{**kwargs, "Body": wrong[damage]})

    with pytest.raises(VerificationError, match="did not read back"):
        rewrite(altered(s3, put_object=tamper), form)
    assert versions(s3, form) == before
    assert form.ids(s3) == MIXED


def test_what_a_decision_raises_is_not_taken_for_a_broken_file(s3: S3Client) -> None:
    """A lost database connection is an OSError too; it must not make records unclassified."""

    def decide(*_: object) -> str | None:
        raise ConnectionResetError

    for form in FORMS:
        form.put(s3, MIXED)
        with pytest.raises(ConnectionResetError):
            rewrite_object(s3, CountingPermit(), LOGS, form.key(), FIELDS, decide)


# -- case 23: what cannot be read


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"message_id":"d1"}\n' * 1000)[:-9]),
        ("a.parquet", b"PAR1 not really"),
        ("a.parquet", b""),
        ("a.csv", b"message_id\nd1\n"),
    ],
)
def test_case_23_unreadable_objects_stay_and_are_counted(s3: S3Client, name: str, body: bytes) -> None:
    """Case 23: never ignored, never silently deleted."""
    s3.put_object(Bucket=LOGS, Key=name, Body=body)
    untouched = RewriteResult("unchanged", 1, 1, {}, 1, 0)
    assert inspect_object(s3, LOGS, name, FIELDS, due_if_d) == untouched
    assert rewrite_object(s3, CountingPermit(), LOGS, name, FIELDS, due_if_d) == untouched
    assert s3.get_object(Bucket=LOGS, Key=name)["Body"].read() == body


@pytest.mark.parametrize("form", [JSONL, GZIP], ids=["jsonl", "gz"])
def test_case_23_lines_that_stay_are_carried_over_byte_by_byte(s3: S3Client, form: Form) -> None:
    """Case 23: unparsable lines and blank ones stay where they are; the last needs no line end."""
    due = JSONL.encode(["d1"])
    kept = [b'{"message_id": "k1",   "account_id":"a", "tier":"beta", "received_at":"2026-06-01T12:00:00Z"}\r\n', b"\n"]
    odd = [b"not json\n", b'{"message_id":null}\n', b"\xff\xfe\n", b'{"account_id":"a"}']
    lines = [due, kept[0], due, kept[1], odd[0], odd[1], due, odd[2], odd[3]]
    body = b"".join(lines)
    s3.put_object(Bucket=LOGS, Key=form.key(), Body=body if form is JSONL else gzip.compress(body))
    result = rewrite(s3, form)
    assert result == RewriteResult("rewritten", 8, 5, {"beta_default": 3}, 4, 1)
    after = s3.get_object(Bucket=LOGS, Key=form.key())["Body"].read()
    assert (after if form is JSONL else gzip.decompress(after)) == b"".join([*kept, *odd])


def test_gzip_of_several_members_is_read_whole(s3: S3Client) -> None:
    body = GZIP.encode(["k1", "d1"]) + GZIP.encode(["d2", "k2"])
    s3.put_object(Bucket=LOGS, Key=GZIP.key(), Body=body)
    assert rewrite(s3, GZIP) == RewriteResult("rewritten", 4, 2, {"beta_default": 2}, 0, 1)
    assert GZIP.ids(s3) == ["k1", "k2"]


@pytest.mark.parametrize("form", [JSONL, GZIP], ids=["jsonl", "gz"])
def test_memory_does_not_grow_with_the_object(s3: S3Client, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of lines is read, rewritten and proven a few pieces at a time; of what goes, its place is remembered."""
    monkeypatch.setattr(packing, "READ_BYTES", 128 << 10)
    ids = [f"{'d' if number % 2 else 'k'}{number}" for number in range(120_000)]
    form.put(s3, ids)
    expected = form.encode(one for one in ids if one[0] == "k")
    assert len(JSONL.encode(ids)) > 12_000_000
    tracemalloc.start()
    try:
        result = rewrite(s3, form)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (result.kept, result.removed) == (60_000, {"beta_default": 60_000})
    assert form.decode(expected) == form.ids(s3)
    assert peak < 5_000_000, "more than some pieces, and 16 bytes for each record that went"
