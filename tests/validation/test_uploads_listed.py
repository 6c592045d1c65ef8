"""The auditor's own listing of unfinished uploads goes on whatever a key is (hard cases 8 and 14)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders

from lifecycle.validation.uploads import begun

_PAGE = (
    '<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{more}</IsTruncated>'
    "<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>2~x</NextUploadIdMarker><Upload><Key>{key}</Key>"
    "<UploadId>2~x</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"
)


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: object, **__: object) -> list[bytes]:
        return [self._body]


@pytest.mark.parametrize(
    ("sent", "key"),
    [("r/\x01x", "r/\x01x"), ("r/&#x7;", "r/\x07"), ("r/&#31;%41+", "r/\x1f%41+"), ("r/a&#13;b", "r/a\rb")],
)
def test_case_8_pages_that_end_with_a_key_that_xml_cannot_carry(sent: str, key: str) -> None:
    """Case 8: one odd key hides no others, and the next page begins behind it. Ceph names it raw at a page's end."""
    s3 = boto3.client(
        "s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b", endpoint_url="http://s3.test"
    )
    markers: list[str | None] = []

    def answer(request: AWSRequest, **_: object) -> Any:
        markers.append(parse_qs(urlsplit(str(request.url)).query).get("key-marker", [None])[0])
        body = _PAGE.format(more="true" if len(markers) == 1 else "false", key=sent if len(markers) == 1 else "r/z")
        return AWSResponse(str(request.url), 200, HTTPHeaders(), _Raw(body.encode()))

    s3.meta.events.register("before-send.s3.ListMultipartUploads", answer)
    assert list(begun(s3, "logs", ("r/",), datetime(2026, 2, 1, tzinfo=UTC))) == [key, "r/z"]
    assert markers == [None, key]
