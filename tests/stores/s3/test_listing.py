"""The lean reader gives what the client's own gives, leaves other listings alone, takes nothing broken for whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.stores.s3 import listing
from lifecycle.stores.s3.entries import ObjectVersion
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.listing import lean_pages
from lifecycle.stores.s3.versions import iter_versions
from stores.s3 import VERSIONED

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ODD = ("plain", "sp ace", "plus+and%20", "ünïcode/é", "<&>\"'", "tab\tbed", "\U0001f600", "a%2Fb", "dots..", "100%")


def lean(s3: S3Client, *, ahead: bool = False, **more: Any) -> list[ObjectVersion]:
    request: dict[str, Any] = {"Bucket": VERSIONED, **more}
    return [entry for page in lean_pages(s3, request, ahead=ahead) for entry in page]


def boto(s3: S3Client) -> list[ObjectVersion]:
    found: list[ObjectVersion] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=VERSIONED):
        for name in ("Versions", "DeleteMarkers"):
            marker = name == "DeleteMarkers"
            entries: list[Any] = page.get(name, [])  # type: ignore[assignment]
            found += [
                ObjectVersion(
                    key=entry["Key"],
                    version_id=entry["VersionId"],
                    is_marker=marker,
                    is_latest=entry["IsLatest"],
                    size=0 if marker else entry["Size"],
                    etag="" if marker else entry["ETag"],
                    last_modified=entry["LastModified"],
                )
                for entry in entries
            ]
    return found


@pytest.fixture
def odd(s3: S3Client) -> S3Client:
    for number, key in enumerate(ODD):
        for size in range(number % 3 + 1):
            s3.put_object(Bucket=VERSIONED, Key=key, Body=b"x" * size)
    s3.delete_object(Bucket=VERSIONED, Key=ODD[1])
    return s3


def test_every_field_of_every_entry_is_what_the_client_reads(odd: S3Client) -> None:
    """Before ours has ever been called, and after: others go on reading what they read."""
    before = boto(odd)
    found = lean(odd)
    assert boto(odd) == before
    assert set(found) == set(before)
    assert len(found) == len(before) == 20
    assert {entry.key for entry in found} == set(ODD)
    assert all(entry.last_modified.tzinfo is not None for entry in found)


def test_pages_are_followed_and_common_prefixes_are_left_to_the_client(odd: S3Client) -> None:
    assert lean(odd, MaxKeys=2) == lean(odd, MaxKeys=2, ahead=True) == lean(odd)
    assert list(iter_versions(odd, VERSIONED, "", page=3)) == list(iter_versions(odd, VERSIONED, ""))
    prefixes = odd.list_object_versions(Bucket=VERSIONED, Delimiter="/")["CommonPrefixes"]
    assert prefixes == [{"Prefix": "ünïcode/"}]


def test_an_abandoned_listing_leaves_no_trace(odd: S3Client) -> None:
    pages = lean_pages(odd, {"Bucket": VERSIONED, "MaxKeys": 1}, ahead=True)
    assert len(next(pages)) == 1
    assert odd.list_object_versions(Bucket=VERSIONED)["Versions"]


@pytest.mark.parametrize(
    "entry",
    [
        "<Version><VersionId>1</VersionId><LastModified>2026-01-01T00:00:00Z</LastModified></Version>",
        "<Version><Key>a</Key><LastModified>lately</LastModified></Version>",
        "<Version><Key>a</Key><Size>much</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Version>",
    ],
)
def test_an_entry_that_is_none_is_refused(s3: S3Client, entry: str) -> None:
    """Case 23: a listing is not shortened by what cannot be read."""
    body = f"<ListVersionsResult><IsTruncated>false</IsTruncated>{entry}</ListVersionsResult>"

    def replace(response_dict: dict[str, Any], **_: Any) -> None:
        response_dict["body"] = body.encode()

    event = listing._EVENT
    s3.meta.events.unregister(event, unique_id=listing._HANDLER)
    s3.meta.events.register_first(event, replace, unique_id="test-replace")
    try:
        with pytest.raises(StoreError, match=r"^S3 ListObjectVersions failed: MalformedAnswer$"):
            lean(s3)
    finally:
        s3.meta.events.unregister(event, unique_id="test-replace")


@given(text=st.text(alphabet="a b+%2F0é/", max_size=12))
def test_keys_are_decoded_as_the_client_decodes_them(text: str) -> None:
    from botocore.compat import unquote_str

    assert listing._decoded(text) == unquote_str(text)
