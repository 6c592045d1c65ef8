"""What a real server refuses and the embedded one accepts: refused by the real one, and never asked by us."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from lifecycle.demo.servers import S3Server
from lifecycle.stores.s3 import requests
from lifecycle.stores.s3.copy import copy_verified
from lifecycle.stores.s3.destroy import destroy_keys
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.transfer import GIB, LARGEST_PUT, MIB, PART_BYTES, write_file
from lifecycle.stores.s3.versions import key_versions
from stores.s3 import LOCKED, VERSIONED
from support.permits import CountingPermit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SMALLEST_PART, MOST_PARTS, LARGEST_OBJECT = 5 * MIB, 10_000, 5 * 1024 * GIB


@pytest.fixture
def seen(s3: S3Client) -> Any:
    """Requests of this client: operation, headers, length of the body."""
    found: list[tuple[str, dict[str, str], int]] = []

    def note(request: Any, **kwargs: Any) -> None:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        found.append((kwargs["event_name"].rpartition(".")[2], headers, int(headers.get("content-length", 0))))

    s3.meta.events.register("before-send.s3", note, unique_id="refusals")
    yield found
    s3.meta.events.unregister("before-send.s3", unique_id="refusals")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.ceph
def test_a_real_server_refuses_more_than_a_thousand_keys(s3: S3Client) -> None:
    """So LARGEST_BATCH is what it is; that we keep to it is asserted in test_destroy.py."""
    named: Any = [{"Key": f"none-{number}"} for number in range(requests.LARGEST_BATCH + 1)]
    assert not s3.delete_objects(Bucket="research", Delete={"Objects": named[1:], "Quiet": True}).get("Errors")
    with pytest.raises(ClientError, match=r"400|MalformedXML"):
        s3.delete_objects(Bucket="research", Delete={"Objects": named, "Quiet": True})


@pytest.mark.ceph
def test_a_real_server_refuses_parts_that_are_too_small(s3: S3Client) -> None:
    upload = s3.create_multipart_upload(Bucket=VERSIONED, Key="small")["UploadId"]
    parts: Any = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(
                Bucket=VERSIONED, Key="small", UploadId=upload, PartNumber=number, Body=b"x" * (SMALLEST_PART - 1)
            )["ETag"],
        }
        for number in (1, 2)
    ]
    with pytest.raises(ClientError, match="EntityTooSmall"):
        s3.complete_multipart_upload(Bucket=VERSIONED, Key="small", UploadId=upload, MultipartUpload={"Parts": parts})
    s3.abort_multipart_upload(Bucket=VERSIONED, Key="small", UploadId=upload)


def test_no_part_of_ours_is_too_small_or_one_too_many(s3: S3Client, seen: Any, tmp_path: Path) -> None:
    """Every part but the last has 5 MiB or more, and 10,000 of them carry the largest object S3 knows."""
    body = tmp_path / "body"
    body.write_bytes(b"x" * (SMALLEST_PART * 2 + 7))
    write_file(s3, VERSIONED, "a", body, description={}, condition={}, single_below=0, part_bytes=SMALLEST_PART)
    assert [size for operation, _, size in seen if operation == "UploadPart"] == [SMALLEST_PART, SMALLEST_PART, 7]
    copy_verified(s3, VERSIONED, "a", LOCKED, "a", inline_bytes=0, part_bytes=SMALLEST_PART)
    ranges = [headers["x-amz-copy-source-range"] for operation, headers, _ in seen if operation == "UploadPartCopy"]
    cuts = [tuple(map(int, each.removeprefix("bytes=").split("-"))) for each in ranges]
    assert [last - first + 1 for first, last in cuts] == [SMALLEST_PART, SMALLEST_PART, 7]
    assert SMALLEST_PART <= PART_BYTES <= LARGEST_PUT
    assert PART_BYTES * MOST_PARTS >= LARGEST_OBJECT
    destroy_keys(s3, CountingPermit(), LOCKED, ["a"])


@pytest.mark.ceph
def test_bad_credentials_destroy_nothing_and_say_so(s3: S3Client, s3_server: S3Server) -> None:
    s3.put_object(Bucket=VERSIONED, Key="a", Body=b"x")
    for wrong in (replace(s3_server, secret_key="wrong"), replace(s3_server, access_key="nobody")):
        with pytest.raises(StoreError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId|403|AccessDenied"):
            destroy_keys(wrong.client(), CountingPermit(), VERSIONED, ["a"])
    assert len(key_versions(s3, VERSIONED, "a")) == 1


def test_every_request_of_ours_is_signed_with_the_credentials_it_was_given(
    s3: S3Client, s3_server: S3Server, seen: Any
) -> None:
    """The embedded server takes any; so it is looked at what is sent."""
    s3.put_object(Bucket=VERSIONED, Key="a", Body=b"x")
    copy_verified(s3, VERSIONED, "a", LOCKED, "b")
    for bucket, key in ((VERSIONED, "a"), (LOCKED, "b")):
        destroy_keys(s3, CountingPermit(), bucket, [key])
    assert len(seen) > 10
    signed = f"AWS4-HMAC-SHA256 Credential={s3_server.access_key}/"
    assert all(headers["authorization"].startswith(signed) for _, headers, _ in seen)
