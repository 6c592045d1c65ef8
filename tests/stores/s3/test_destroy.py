"""Every version and marker of exactly the named keys, and an account that adds up."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.demo.servers import S3Server
from lifecycle.errors import FencedOutError
from lifecycle.stores.s3 import destroy, requests
from lifecycle.stores.s3 import versions as versions_module
from lifecycle.stores.s3.destroy import Locks, destroy_keys, destroy_versions
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.locks import set_legal_hold
from lifecycle.stores.s3.reconciliation import Reconciliation
from lifecycle.stores.s3.requests import iter_uploads
from lifecycle.stores.s3.versions import iter_versions, key_versions
from stores.s3 import LOCKED, PLAIN, VERSIONED
from support.permits import CountingPermit, altered, fenced_out

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between tries; gives what would have been waited."""
    waits = (0.0,) * len(requests.BACKOFF)
    monkeypatch.setattr(requests, "BACKOFF", waits)
    return list(waits)


@contextmanager
def sent(s3: S3Client, *operations: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The requests of these operations as they leave the client."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        seen.append((model.name, dict(params)))

    name = f"note-{uuid.uuid4().hex}"
    for operation in operations:
        s3.meta.events.register(f"provide-client-params.s3.{operation}", note, unique_id=f"{name}-{operation}")
    try:
        yield seen
    finally:
        for operation in operations:
            s3.meta.events.unregister(f"provide-client-params.s3.{operation}", unique_id=f"{name}-{operation}")


def left(s3: S3Client, bucket: str = VERSIONED, prefix: str = "") -> list[str]:
    return sorted({version.key for version in iter_versions(s3, bucket, prefix)})


def put(s3: S3Client, *keys: str, bucket: str = VERSIONED) -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"12345")


def test_case_2_every_version_and_marker_of_exactly_these_keys(s3: S3Client) -> None:
    """Case 2: user/1 goes with all its versions and markers, user/10 stays."""
    put(s3, "user/1", "user/1", "user/10", "user/1/x", "user/2")
    s3.delete_object(Bucket=VERSIONED, Key="user/1")
    put(s3, "user/1")
    done = destroy_keys(s3, CountingPermit(), VERSIONED, ["user/1", "user/2", "user/3"])
    assert left(s3) == ["user/1/x", "user/10"]
    assert done == Reconciliation(
        requested_keys=3, keys_deleted=2, keys_absent=1, versions_deleted=4, markers_deleted=1, bytes_deleted=20
    )
    assert done.balanced


def test_case_2_a_hidden_object_is_found_and_destroyed(s3: S3Client) -> None:
    """Case 2: what a plain delete has hidden already is destroyed under its marker."""
    put(s3, "a")
    s3.delete_object(Bucket=VERSIONED, Key="a")
    done = destroy_keys(s3, CountingPermit(), VERSIONED, ["a"])
    assert (done.keys_deleted, done.versions_deleted, done.markers_deleted) == (1, 1, 1)
    assert left(s3) == []


def test_case_2_a_listing_goes_on_where_its_marker_was_destroyed(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 2: pages go on from a version that is gone by then. A plain loop leaves versions behind on Ceph (seen)."""
    monkeypatch.setattr(destroy, "SMALLEST_JOB", 1)
    monkeypatch.setattr(versions_module, "SMALLEST_PAGE", 2)
    keys = [f"key{number}" for number in range(10)]
    put(s3, *keys, *keys, *keys, "other")
    done = destroy_keys(s3, CountingPermit(), VERSIONED, keys, workers=2)
    assert left(s3) == ["other"]
    assert (done.keys_deleted, done.versions_deleted, done.keys_failed) == (10, 30, 0)


def test_case_2_unversioned(s3: S3Client) -> None:
    """Case 2: the null version of a bucket that never kept versions."""
    put(s3, "a", "ab", bucket=PLAIN)
    assert destroy_keys(s3, CountingPermit(), PLAIN, ["a"]).keys_deleted == 1
    assert left(s3, PLAIN) == ["ab"]


def test_case_2_suspended(s3: S3Client, suspended: str) -> None:
    """Case 2: the null version, the null marker and the versions from before the suspension."""
    put(s3, "new")
    put(s3, "old")
    s3.delete_object(Bucket=suspended, Key="old")
    done = destroy_keys(s3, CountingPermit(), suspended, ["old", "new"])
    assert (done.keys_deleted, done.versions_deleted, done.markers_deleted) == (2, 2, 1)
    assert left(s3) == []


def test_no_request_could_place_a_marker_or_bypass_governance(s3: S3Client) -> None:
    """Every deletion names a version id, also where the key cannot be written in XML."""
    put(s3, "a", "a", "b")
    with sent(s3, "DeleteObjects", "DeleteObject", "PutObject") as seen:
        destroy_keys(s3, CountingPermit(), VERSIONED, ["a", "b", "c"])
    assert [name for name, _ in seen] == ["DeleteObjects"]
    assert all(entry["VersionId"] for _, params in seen for entry in params["Delete"]["Objects"])
    assert not any("BypassGovernanceRetention" in params for _, params in seen)


def test_more_than_a_thousand_versions_go_in_batches_of_a_thousand(s3: S3Client) -> None:
    for number in range(1030):
        s3.put_object(Bucket=VERSIONED, Key="many", Body=b"%d" % number)
    put(s3, "many2")
    permit = CountingPermit()
    with sent(s3, "DeleteObjects") as seen:
        done = destroy_keys(s3, permit, VERSIONED, ["many"])
    assert [len(params["Delete"]["Objects"]) for _, params in seen] == [1000, 30]
    assert permit.checks == 2
    assert (done.keys_deleted, done.versions_deleted) == (1, 1030)
    assert left(s3) == ["many2"]


def test_the_latest_version_goes_last(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is interrupted, no older version has come to light."""
    monkeypatch.setattr(requests, "LARGEST_BATCH", 1)
    put(s3, "a", "a", "a")
    latest = key_versions(s3, VERSIONED, "a")[0]
    with pytest.raises(FencedOutError):
        destroy_keys(s3, CountingPermit({3: fenced_out}), VERSIONED, ["a"])
    assert key_versions(s3, VERSIONED, "a") == [latest]


def test_many_keys_over_several_threads(s3: S3Client) -> None:
    keys = [f"tier=beta/date=2026-06-01/{number:04}.json" for number in range(450)]
    put(s3, *keys, "tier=beta/date=2026-06-01/0000.json.bak", "tier=beta/date=2026-06-02/0000.json")
    absent = "tier=beta/date=2026-06-01/none.json"
    done = destroy_keys(s3, CountingPermit(), VERSIONED, iter([*keys, absent]), workers=4)
    assert (done.requested_keys, done.keys_deleted, done.keys_absent, done.balanced) == (451, 450, 1, True)
    assert len(left(s3)) == 2


def test_a_rerun_finds_nothing_left_to_do(s3: S3Client) -> None:
    put(s3, "a", "b")
    destroy_keys(s3, CountingPermit(), VERSIONED, ["a", "b"])
    permit = CountingPermit()
    assert destroy_keys(s3, permit, VERSIONED, ["a", "b"]) == Reconciliation(requested_keys=2, keys_absent=2)
    assert permit.checks == 0
    assert destroy_keys(s3, permit, VERSIONED, []) == Reconciliation()


def test_case_27_the_permit_is_asked_before_each_request(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 27: a try that was overtaken makes no further request."""
    monkeypatch.setattr(requests, "LARGEST_BATCH", 2)
    put(s3, *"abcdef")
    upload = s3.create_multipart_upload(Bucket=VERSIONED, Key="a")
    order: list[str] = []

    class Permit:
        def check(self) -> None:
            order.append("check")
            if len(order) >= 7:
                fenced_out()

    def noted(real: Callable[..., Any], **kwargs: Any) -> Any:
        answer = real(**kwargs)
        order.append("answer")
        return answer

    watched = altered(s3, delete_objects=noted, abort_multipart_upload=noted)
    with pytest.raises(FencedOutError):
        destroy_keys(watched, Permit(), VERSIONED, "abcdef")
    assert order == ["check", "answer"] * 3 + ["check"]
    assert left(s3) == ["e", "f"]
    assert upload["UploadId"]


# -- case 3: Object Lock


def test_case_3_nothing_of_a_held_key_is_touched(s3: S3Client) -> None:
    """Case 3: one old version under hold keeps the whole key: its markers, its other versions, its uploads."""
    put(s3, "held", bucket=LOCKED)
    set_legal_hold(s3, LOCKED, "held", on=True)
    put(s3, "held", "free", "held2", bucket=LOCKED)
    s3.delete_object(Bucket=LOCKED, Key="held")
    s3.create_multipart_upload(Bucket=LOCKED, Key="held")
    before = key_versions(s3, LOCKED, "held")
    done = destroy_keys(s3, CountingPermit(), LOCKED, ["held", "free"])
    assert key_versions(s3, LOCKED, "held") == before
    assert [upload.key for upload in iter_uploads(s3, LOCKED, "")] == ["held"]
    assert (done.keys_deleted, done.keys_held, done.held, done.balanced) == (1, 1, frozenset({"held"}), True)
    assert left(s3, LOCKED) == ["held", "held2"]
    set_legal_hold(s3, LOCKED, "held", on=False)
    assert destroy_keys(s3, CountingPermit(), LOCKED, ["held"]).keys_deleted == 1


def test_case_3_retention_holds_until_it_ends_by_the_stores_clock(s3: S3Client) -> None:
    """Case 3: a version under retention is held; never with governance bypass; one whose retention ended goes."""
    put(s3, "retained", "ended", bucket=LOCKED)
    now = datetime.now(UTC)
    for key, seconds in (("retained", 3600), ("ended", 2)):
        s3.put_object_retention(
            Bucket=LOCKED,
            Key=key,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": now + timedelta(seconds=seconds)},
        )
    try:
        while s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"]["date"] < _http_date(now + timedelta(seconds=3)):
            pass
        done = destroy_keys(s3, CountingPermit(), LOCKED, ["retained", "ended"])
        assert (done.keys_deleted, done.held) == (1, frozenset({"retained"}))
        assert left(s3, LOCKED) == ["retained"]
    finally:
        version = key_versions(s3, LOCKED, "retained")[0].version_id
        s3.delete_object(Bucket=LOCKED, Key="retained", VersionId=version, BypassGovernanceRetention=True)


def _http_date(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_case_3_a_lock_placed_meanwhile_is_read_out_of_the_http_200(s3: S3Client) -> None:
    """Cases 3 and 4: the hold comes between our reading and the deletion; the server refuses inside its 200."""
    put(s3, "late", "free", bucket=LOCKED)
    permit = CountingPermit({1: lambda: set_legal_hold(s3, LOCKED, "late", on=True)})
    done = destroy_keys(s3, permit, LOCKED, ["late", "free"])
    assert (done.keys_deleted, done.held, done.keys_failed) == (1, frozenset({"late"}), 0)
    assert [version.is_marker for version in key_versions(s3, LOCKED, "late")] == [False]


def test_locks_are_not_read_where_the_bucket_knows_none(s3: S3Client) -> None:
    put(s3, "a", "b", "c")
    operations = ("GetObjectLockConfiguration", "GetObjectRetention", "GetObjectLegalHold")
    with sent(s3, *operations) as seen:
        destroy_keys(s3, CountingPermit(), VERSIONED, ["a", "b", "c"])
    assert [name for name, _ in seen] == ["GetObjectLockConfiguration"]


def test_case_3_a_lock_that_cannot_be_read_keeps(s3: S3Client) -> None:
    """Case 3: unknown is not free."""
    put(s3, "a", bucket=LOCKED)

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "a"}}, "GetObjectLegalHold")

    done = destroy_keys(altered(s3, get_object_legal_hold=refuse), CountingPermit(), LOCKED, ["a"])
    assert (done.keys_failed, done.balanced) == (1, True)
    assert left(s3, LOCKED) == ["a"]


# -- case 6: partial success


def _failing(code: str, key: str, times: int) -> Callable[..., Any]:
    """DeleteObjects that does not do ``key`` the first ``times`` times, and says so inside its 200."""
    tries = iter(range(times))

    def delete_objects(real: Callable[..., Any], *, Bucket: str, Delete: dict[str, Any]) -> Any:
        hit = [entry for entry in Delete["Objects"] if entry["Key"] == key]
        if not hit or next(tries, None) is None:
            return real(Bucket=Bucket, Delete=Delete)
        # A request is sent all the same, since that is what needs a permit.
        rest = [entry for entry in Delete["Objects"] if entry["Key"] != key] or [{"Key": "none", "VersionId": "null"}]
        answer = real(Bucket=Bucket, Delete={**Delete, "Objects": rest})
        return {**answer, "Errors": [{**entry, "Code": code, "Message": "try later"} for entry in hit]}

    return delete_objects


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
def test_case_6_what_can_be_retried_is_retried(s3: S3Client, quick: list[float], code: str) -> None:
    """Case 6: an error for one key inside the HTTP 200 is tried again, by itself."""
    put(s3, "a", "b", "c")
    permit = CountingPermit()
    done = destroy_keys(altered(s3, delete_objects=_failing(code, "b", 2)), permit, VERSIONED, ["a", "b", "c"])
    assert (done.keys_deleted, done.keys_failed, done.balanced) == (3, 0, True)
    assert permit.checks == 3
    assert left(s3) == []


def test_case_6_tries_are_bounded_and_the_rest_is_done(s3: S3Client, quick: list[float]) -> None:
    """Case 6: a key that never goes is counted as failed, and the others are gone."""
    put(s3, "a", "b", "b", "c")
    permit = CountingPermit()
    done = destroy_keys(altered(s3, delete_objects=_failing("SlowDown", "b", 99)), permit, VERSIONED, "abcd")
    assert (done.requested_keys, done.keys_deleted, done.keys_absent, done.keys_failed) == (4, 2, 1, 1)
    assert (done.failed, done.balanced, permit.checks) == (frozenset("b"), True, 1 + len(quick))
    assert left(s3) == ["b"]


def test_case_6_what_cannot_be_retried_fails_at_once(s3: S3Client) -> None:
    """Case 6: a denial without a lock is a failure, not a hold."""
    put(s3, "a", "b", bucket=LOCKED)
    permit = CountingPermit()
    done = destroy_keys(altered(s3, delete_objects=_failing("AccessDenied", "b", 99)), permit, LOCKED, "ab")
    assert (done.keys_deleted, done.keys_held, done.failed, permit.checks) == (1, 0, frozenset("b"), 1)


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "503", "Message": "secret-key"}}, "DeleteObjects"),
        EndpointConnectionError(endpoint_url="http://server/bucket/secret-key"),
    ],
)
def test_case_6_a_whole_request_may_fail(
    s3: S3Client, quick: list[float], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Cases 6 and 25: all keys of a request that never succeeds are failed, and the log names none of them."""
    put(s3, "secret-key")

    def fail(real: Any, **kwargs: Any) -> Any:
        raise error

    with caplog.at_level(logging.DEBUG, logger="lifecycle"):
        done = destroy_keys(altered(s3, delete_objects=fail), CountingPermit(), VERSIONED, ["secret-key"])
    assert (done.keys_failed, done.balanced) == (1, True)
    assert caplog.records
    assert "secret-key" not in caplog.text + repr(done) + str(done.counts())


def test_case_6_a_server_that_says_done_and_is_not(s3: S3Client) -> None:
    """Case 6: what is listed afterwards counts, not what was answered."""
    put(s3, "a", "b")
    lying = altered(s3, delete_objects=lambda real, **kwargs: {})
    done = destroy_keys(lying, CountingPermit(), VERSIONED, ["a", "b"])
    assert (done.keys_deleted, done.keys_failed, done.balanced) == (0, 2, True)
    versions, locks = key_versions(s3, VERSIONED, "a"), Locks.of(s3, VERSIONED)
    assert destroy_versions(lying, CountingPermit(), VERSIONED, {"a": versions}, locks).keys_failed == 1
    assert destroy_versions(s3, CountingPermit(), VERSIONED, {"a": versions}, locks).keys_deleted == 1


def test_case_6_a_window_that_cannot_be_read_is_failed_and_the_others_are_done(
    s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 6: all windows are finished."""
    monkeypatch.setattr(destroy, "WINDOW", 100)
    put(s3, *(f"k{number:03}" for number in range(150)))

    def paginate(real: Callable[..., Any], **kwargs: Any) -> Any:
        if kwargs["Prefix"].startswith("k1"):
            raise EndpointConnectionError(endpoint_url="http://server/bucket/k1")
        return real(**kwargs)

    broken = altered(s3, get_paginator=lambda real, name: altered(real(name), paginate=paginate))
    keys = [f"k{number:03}" for number in range(150)]
    done = destroy_keys(broken, CountingPermit(), VERSIONED, keys, workers=2)
    assert (done.requested_keys, done.keys_deleted, done.keys_failed, done.balanced) == (150, 100, 50, True)


def test_a_bucket_that_is_not_there_is_an_error(s3: S3Client) -> None:
    with pytest.raises(StoreError, match="NoSuchBucket"):
        destroy_keys(s3, CountingPermit(), "no-such-bucket-here", ["a"])


# -- cases 14 and 15: what appears meanwhile


def test_case_14_unfinished_uploads_of_exactly_these_keys_are_aborted(s3: S3Client) -> None:
    """Case 14: an upload can complete after the deletion; it is aborted, that of user/10 is not."""
    put(s3, "user/1")
    for key in ("user/1", "user/10", "user/2", "user/3 +é&%20"):
        s3.create_multipart_upload(Bucket=VERSIONED, Key=key)
    permit = CountingPermit()
    done = destroy_keys(s3, permit, VERSIONED, ["user/1", "user/2", "user/3 +é&%20"])
    assert [upload.key for upload in iter_uploads(s3, VERSIONED, "")] == ["user/10"]
    assert (done.keys_deleted, done.keys_absent, done.uploads_aborted, done.balanced) == (1, 2, 3, True)
    assert permit.checks == 4


def test_case_14_an_upload_that_completes_during_the_deletion_is_found(s3: S3Client) -> None:
    """Case 14: the key is listed again afterwards, and what has appeared is destroyed too."""
    put(s3, "a")
    upload = s3.create_multipart_upload(Bucket=VERSIONED, Key="a")["UploadId"]
    part = s3.upload_part(Bucket=VERSIONED, Key="a", UploadId=upload, PartNumber=1, Body=b"late")

    def complete() -> None:
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(Bucket=VERSIONED, Key="a", UploadId=upload, MultipartUpload=parts)

    done = destroy_keys(s3, CountingPermit({1: complete}), VERSIONED, ["a"])
    assert (done.keys_deleted, done.versions_deleted, done.uploads_aborted) == (1, 2, 0)
    assert left(s3) == []


def test_case_15_a_version_written_meanwhile_is_destroyed_too(s3: S3Client) -> None:
    """Case 15: the key was overwritten between listing and deletion."""
    put(s3, "a")
    done = destroy_keys(s3, CountingPermit({1: lambda: put(s3, "a")}), VERSIONED, ["a"])
    assert (done.keys_deleted, done.versions_deleted, done.keys_rewritten) == (1, 2, 1)
    assert left(s3) == []


def test_case_15_without_versions_an_overwrite_is_noticed_before_it_goes(
    s3: S3Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 15: the id "null" is used again, so the request carries the ETag that was listed, and is refused."""
    put(s3, "a", "b", bucket=PLAIN)

    def overwrite() -> None:
        s3.put_object(Bucket=PLAIN, Key="a", Body=b"another content")

    permit = CountingPermit({1: overwrite})
    with caplog.at_level(logging.WARNING, logger="lifecycle"):
        done = destroy_keys(s3, permit, PLAIN, ["a", "b"])
    assert (done.keys_deleted, done.versions_deleted, done.keys_rewritten, done.keys_failed) == (2, 2, 1, 0)
    assert done.bytes_deleted == len(b"another content") + len(b"12345")
    assert "1 key(s) were written to" in caplog.text
    assert permit.checks == 2
    assert left(s3, PLAIN) == []


def test_case_15_a_key_that_never_comes_to_rest_is_failed(s3: S3Client) -> None:
    """Case 15: as long as somebody keeps writing, the key is not reported as deleted."""
    put(s3, "a")

    class Rewriting(CountingPermit):
        def check(self) -> None:
            super().check()
            put(s3, "a")

    permit = Rewriting()
    done = destroy_keys(s3, permit, VERSIONED, ["a"])
    assert (done.failed, done.keys_deleted, permit.checks) == (frozenset("a"), 0, 3)


# -- keys with odd characters

_XML = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
_ODD = st.text(_XML | st.sampled_from(" +%&<>\"'/.\\\u2028é\U0001f600"), min_size=1, max_size=24)


def _server_takes(key: str) -> bool:
    """Clients and gateways resolve . and .. and double slashes as paths do."""
    return not any(part in ("", ".", "..") for part in key.split("/")) and len(key.encode()) < 200


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(_ODD.filter(_server_takes), min_size=1, max_size=6), data=st.data())
def test_any_key_can_be_destroyed_without_its_neighbours(s3: S3Client, keys: set[str], data: st.DataObject) -> None:
    """Case 2 for every key that S3 knows: what is named goes, what is not stays."""
    folder = uuid.uuid4().hex
    named = {f"{folder}/{key}" for key in keys}
    chosen = data.draw(st.sets(st.sampled_from(sorted(named)), min_size=1))
    for key in sorted(named):
        s3.put_object(Bucket=VERSIONED, Key=key, Body=b"x")
        s3.create_multipart_upload(Bucket=VERSIONED, Key=key)
    s3.delete_object(Bucket=VERSIONED, Key=min(chosen))
    done = destroy_keys(s3, CountingPermit(), VERSIONED, chosen)
    assert (done.keys_deleted, done.versions_deleted, done.markers_deleted) == (len(chosen), len(chosen), 1)
    assert done.uploads_aborted == len(chosen)
    assert set(left(s3, prefix=f"{folder}/")) == named - chosen
    assert {upload.key for upload in iter_uploads(s3, VERSIONED, f"{folder}/")} == named - chosen


def test_keys_with_control_characters(s3: S3Client, s3_server: S3Server) -> None:
    """Such a key goes by a request of its own, since XML would change it or cannot carry it."""
    odd = ["line\nbreak", "tab\tbed"]
    if s3_server.pid is None:  # the embedded server's listings break on these
        odd += ["carriage\rreturn", "bell\x07", "\x01"]
    for key in odd:
        put(s3, key, key, f"{key}s", "line")
        permit = CountingPermit()
        done = destroy_keys(s3, permit, VERSIONED, [key, "line"])
        assert (done.keys_deleted, done.versions_deleted, permit.checks) == (2, 3, 3)
        assert left(s3) == [f"{key}s"]
        destroy_keys(s3, CountingPermit(), VERSIONED, [f"{key}s"])


def test_uploads_under_a_prefix_that_cannot_be_echoed(s3: S3Client) -> None:
    """Case 14: what is listed too many under the shortened prefix is left out."""
    for key in ("line", "line\nb", "line\nbreak", "line\nc"):
        s3.create_multipart_upload(Bucket=VERSIONED, Key=key)
    assert {upload.key for upload in iter_uploads(s3, VERSIONED, "line\nb")} == {"line\nb", "line\nbreak"}


def test_uploads_of_keys_that_no_xml_can_carry(s3: S3Client, s3_server: S3Server) -> None:
    """Case 14: such an upload is found and aborted, and does not hide the others."""
    odd = "\x01 +%20"
    for key in ("a +%20", "b"):
        s3.create_multipart_upload(Bucket=VERSIONED, Key=key)
    if s3_server.pid is None:
        # The upload is made, but the client cannot read the answer, in which its key stands.
        with pytest.raises(ClientError, match="Internal Server Error"):
            s3.create_multipart_upload(Bucket=VERSIONED, Key=odd)
    done = destroy_keys(s3, CountingPermit(), VERSIONED, [odd, "a +%20"])
    assert done.uploads_aborted > (s3_server.pid is None)
    assert [upload.key for upload in iter_uploads(s3, VERSIONED, "")] == ["b"]
