"""What a bucket really holds: versions, markers, null versions, keys compared whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lifecycle.stores.s3 import versions
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.versions import ObjectVersion, iter_versions, key_versions, listable_prefix, versions_of
from stores.s3 import PLAIN, VERSIONED
from support.permits import altered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def _put(s3: S3Client, key: str, times: int = 1, bucket: str = VERSIONED) -> None:
    for number in range(times):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * (number + 1))


def _shape(found: list[ObjectVersion]) -> list[tuple[bool, bool, int]]:
    return [(version.is_latest, version.is_marker, version.size) for version in found]


def test_case_2_a_prefix_is_not_a_key(s3: S3Client) -> None:
    """Case 2: listing user/1 also returns user/10; the versions of a key are those of exactly this key."""
    for key in ("user/1", "user/10", "user/1/x", "user/1.json"):
        _put(s3, key)
    assert {version.key for version in iter_versions(s3, VERSIONED, "user/1")} == {
        "user/1", "user/10", "user/1/x", "user/1.json",
    }  # fmt: skip
    assert [version.key for version in key_versions(s3, VERSIONED, "user/1")] == ["user/1"]
    assert key_versions(s3, VERSIONED, "user") == []


def test_case_2_markers_and_versions_come_in_one_stream(s3: S3Client) -> None:
    """Case 2: what a plain delete hides is still there, under a marker."""
    _put(s3, "a", times=2)
    s3.delete_object(Bucket=VERSIONED, Key="a")
    _put(s3, "b")
    found = key_versions(s3, VERSIONED, "a")
    assert _shape(found)[0] == (True, True, 0)
    assert sorted(size for _, marker, size in _shape(found) if not marker) == [1, 2]
    assert [version.key for version in iter_versions(s3, VERSIONED, "")] == ["a", "a", "a", "b"]


def test_an_unversioned_bucket_gives_null_versions(s3: S3Client) -> None:
    _put(s3, "a", times=2, bucket=PLAIN)
    (found,) = iter_versions(s3, PLAIN, "")
    assert (found.version_id, found.is_latest, found.size) == ("null", True, 2)


def test_case_2_a_suspended_bucket_gives_null_and_older_versions(s3: S3Client, suspended: str) -> None:
    """Case 2: after versioning was suspended, "null" is one version beside the older ones."""
    s3.put_object(Bucket=suspended, Key="old", Body=b"over")
    found = key_versions(s3, suspended, "old")
    assert [version.version_id == "null" for version in found] == [True, False]
    s3.delete_object(Bucket=suspended, Key="old")
    newest, oldest = key_versions(s3, suspended, "old")
    assert (newest.version_id, newest.is_marker) == ("null", True)
    assert not oldest.is_marker


def test_all_pages_are_read(s3: S3Client) -> None:
    """Pages are followed by both markers, the key's and the version's."""
    _put(s3, "many", times=7)
    _put(s3, "more", times=3)
    small = altered(
        s3,
        get_paginator=lambda real, name: altered(
            real(name), paginate=lambda pages, **kwargs: pages(**kwargs, PaginationConfig={"PageSize": 2})
        ),
    )
    assert len(key_versions(small, VERSIONED, "many")) == 7
    assert [version.key for version in iter_versions(small, VERSIONED, "m")] == ["many"] * 7 + ["more"] * 3
    assert [version.key for version in iter_versions(small, VERSIONED, "m", after="many")] == ["more"] * 3


@pytest.mark.parametrize("wanted", [10, 120])
def test_versions_of_reads_exactly_the_named_keys(s3: S3Client, wanted: int) -> None:
    """One listing of the directory or one per key: the same answer, neighbours left out, absent keys too."""
    keys = [f"day/{number:04}" for number in range(0, wanted * 2, 2)]
    for key in keys[:-2]:
        _put(s3, key)
        _put(s3, f"{key}0")
    _put(s3, keys[0])
    found = dict(versions_of(s3, VERSIONED, keys))
    assert list(found) == keys[:-2]
    assert [len(versions) for versions in found.values()] == [2] + [1] * (wanted - 3)


def test_a_shared_listing_is_given_up_when_too_much_lies_between(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "SHARED_LISTING", 3)
    monkeypatch.setattr(versions, "PASSED_BY_PER_KEY", -330)  # leaves room for 10 foreign versions
    keys = ["d/a", "d/m", "d/z"]
    for key in keys:
        _put(s3, key)
    for number in range(30):
        _put(s3, f"d/b{number}")
    asked: list[str] = []

    def paginate(real: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["Prefix"])
        return real(**kwargs)

    watched = altered(s3, get_paginator=lambda real, name: altered(real(name), paginate=paginate))
    assert [key for key, _ in versions_of(watched, VERSIONED, keys)] == keys
    assert asked == ["d/", "d/m", "d/z"]


def test_a_prefix_is_cut_before_what_no_answer_can_carry() -> None:
    assert listable_prefix("a/é b+&<\U0001f600") == "a/é b+&<\U0001f600"
    assert listable_prefix("a/b\x01c") == "a/b"
    assert listable_prefix("a\rb") == "a"


def test_a_refusal_names_no_key(s3: S3Client) -> None:
    """Case 25: the client's own message may name what it was asked for; ours says operation and code."""
    with pytest.raises(StoreError, match=r"^S3 ListObjectVersions failed: NoSuchBucket$") as refusal:
        key_versions(s3, "no-such-bucket-here", "secret-key")
    assert refusal.value.__suppress_context__
