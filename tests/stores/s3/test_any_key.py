"""Every key that S3 knows goes whole and alone: no client, gateway or XML on the way changes it (hard case 2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from lifecycle.demo.servers import S3Server
from lifecycle.stores.s3.copy import copy_verified
from lifecycle.stores.s3.destroy import destroy_keys
from lifecycle.stores.s3.requests import iter_uploads
from lifecycle.stores.s3.versions import iter_versions, key_versions
from lifecycle.validation.uploads import begun
from stores.s3 import LOCKED, VERSIONED
from support.permits import CountingPermit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The embedded server does not tell these from their neighbours.
NOT_EMBEDDED = ("a//b", "a/./b", "a/../b", "/a", "a/", "cr\r", "\x01", "bell\x07")
KEYS = (
    *NOT_EMBEDDED,
    "a.",
    "a..",
    "a%2Fb",
    "a%",
    "a%25",
    "a+b",
    "a b",
    " a",
    "a ",
    "a\\b",
    "a?versions&x=1#y",
    "<a>&amp;'\"",
    "ü\u0308/\u00e4",
    "\U0001f600",
    "\ufffd",
    "tab\t",
    "line\n",
    "x" * 1024,
    "é" * 512,
    "\U0001f600" * 256,
)


def keys_of(s3_server: S3Server) -> list[str]:
    return [key for key in KEYS if s3_server.pid is None or key not in NOT_EMBEDDED]


def neighbours_of(key: str) -> list[str]:
    """A key that is this one and more, and one that is this one and less, where the server knows such keys."""
    found = {f"{key}1"[-1024:], key[:-1] or "0"} - {key} - set(NOT_EMBEDDED)
    return sorted(each for each in found if len(each.encode()) <= 1024 and each.strip("./") and each[-1] != "/")


def test_case_2_a_key_with_its_versions_markers_and_uploads(s3: S3Client, s3_server: S3Server) -> None:
    """Case 2: all of a key goes, and its neighbours stay."""
    for key in keys_of(s3_server):
        neighbours = neighbours_of(key)
        for each in (key, key, *neighbours):
            s3.put_object(Bucket=VERSIONED, Key=each, Body=b"x")
        s3.delete_object(Bucket=VERSIONED, Key=key)
        try:
            s3.create_multipart_upload(Bucket=VERSIONED, Key=key)
        except s3.exceptions.ClientError:
            # Made, as often as the client tried; but the answer names a key that XML cannot carry.
            assert not key.isprintable()
        assert set(begun(s3, VERSIONED, ("",), datetime.max.replace(tzinfo=UTC))) == {key}  # as the auditor lists them
        assert [version.is_marker for version in key_versions(s3, VERSIONED, key)] == [True, False, False], key
        done = destroy_keys(s3, CountingPermit(), VERSIONED, [key])
        assert (done.keys_deleted, done.versions_deleted, done.markers_deleted) == (1, 2, 1), key
        assert done.uploads_aborted == 1 or not key.isprintable(), key
        assert sorted({version.key for version in iter_versions(s3, VERSIONED, "")}) == neighbours, key
        assert list(iter_uploads(s3, VERSIONED, "")) == [], key
        destroy_keys(s3, CountingPermit(), VERSIONED, neighbours)


@pytest.mark.parametrize("inline_bytes", [1 << 20, 0], ids=["by us", "by the server"])
def test_case_17_a_key_is_copied_as_it_is(s3: S3Client, s3_server: S3Server, inline_bytes: int) -> None:
    """Case 17: also where the source is named in a header (CopySource)."""
    for key in keys_of(s3_server):
        s3.put_object(Bucket=VERSIONED, Key=key, Body=key.encode())
        copy_verified(s3, VERSIONED, key, LOCKED, key, inline_bytes=inline_bytes)
        assert s3.get_object(Bucket=LOCKED, Key=key)["Body"].read() == key.encode(), key
        for bucket in (VERSIONED, LOCKED):
            assert destroy_keys(s3, CountingPermit(), bucket, [key]).keys_deleted == 1, key


@pytest.mark.ceph  # the embedded server's listings break on these
@pytest.mark.parametrize("page", [1, 2])
def test_case_8_pages_that_end_with_a_key_that_xml_cannot_carry(s3: S3Client, page: int) -> None:
    """Case 8: one odd key must not hide all others from every run. Ceph names it raw where a page begins."""
    keys = ["\x01a", "\x01b", "\x1f%41+", "a%41", "aA", "z\x07"]
    for key in keys:
        s3.put_object(Bucket=VERSIONED, Key=key, Body=b"")
    try:
        assert [version.key for version in iter_versions(s3, VERSIONED, "", page=page)] == keys
    finally:
        destroy_keys(s3, CountingPermit(), VERSIONED, keys)
