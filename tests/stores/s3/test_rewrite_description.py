"""What describes an object of many records is what it was after a rewrite: nobody sees from outside that it was one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lifecycle.errors import VerificationError
from lifecycle.stores.s3.logs import RewriteResult, rewrite_object
from lifecycle.stores.s3.versions import key_versions
from stores.s3 import LOGS, PLAIN
from stores.s3.log_objects import FIELDS, FORMS, Form, due_if_d
from support.permits import CountingPermit, altered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EACH_FORM = pytest.mark.parametrize("form", FORMS, ids=[form.suffix for form in FORMS])
GZIP = next(form for form in FORMS if form.suffix == ".jsonl.gz")
KMS = {
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "arn:aws:kms:us-east-1:000000000000:key/0f",
    "BucketKeyEnabled": True,
}
# Of the content, or of the answer.
_ITS_OWN = {"ETag", "LastModified", "ContentLength", "VersionId", "ResponseMetadata"}


def put(s3: S3Client, form: Form, **described: Any) -> None:
    body = form.encode(["k1", "d1", "k2"])
    s3.put_object(Bucket=LOGS, Key=form.key(), Body=body, ContentType=form.content_type, **described)


def rewrite(s3: S3Client, form: Form) -> RewriteResult:
    return rewrite_object(s3, CountingPermit(), LOGS, form.key(), FIELDS, due_if_d)


def described(s3: S3Client, form: Form) -> dict[str, Any]:
    """All that a HEAD tells; of a checksum only its kind. Tags besides."""
    head: dict[str, Any] = dict(s3.head_object(Bucket=LOGS, Key=form.key(), ChecksumMode="ENABLED"))
    kinds = {name: "kept" for name in head if name.startswith("Checksum") and name != "ChecksumType"}
    tags = s3.get_object_tagging(Bucket=LOGS, Key=form.key())["TagSet"]
    return {name: value for name, value in head.items() if name not in _ITS_OWN} | kinds | {"tags": tags}


@EACH_FORM
@pytest.mark.parametrize("kind", ["SHA256", "SHA1", "CRC32", None])
def test_headers_metadata_tags_and_the_kind_of_checksum_are_kept(s3: S3Client, form: Form, kind: str | None) -> None:
    put(
        s3,
        form,
        CacheControl="no-store",
        ContentDisposition="attachment",
        ContentLanguage="en",
        Metadata={"written-by": "app", "schema": "7"},
        Tagging="kind=log%20lines&team=a%2Bb",
        **({"ChecksumAlgorithm": kind} if kind else {}),
    )
    before = described(s3, form)
    assert (f"Checksum{kind}" in before) is (kind is not None)
    assert rewrite(s3, form).action == "rewritten"
    assert form.ids(s3) == ["k1", "k2"]
    assert described(s3, form) == before


def test_a_version_without_an_id_keeps_its_tags(s3: S3Client) -> None:
    """The embedded server does not tell how many a "null" version has when it is read by its id."""
    s3.put_object(Bucket=PLAIN, Key=GZIP.key(), Body=GZIP.encode(["k1", "d1"]), Tagging="kind=log&a=b")
    assert rewrite_object(s3, CountingPermit(), PLAIN, GZIP.key(), FIELDS, due_if_d).action == "rewritten"
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=PLAIN, Key=GZIP.key())["TagSet"]}
    assert (GZIP.ids(s3, bucket=PLAIN), tags) == (["k1"], {"kind": "log", "a": "b"})


@pytest.mark.embedded_s3
@EACH_FORM
@pytest.mark.parametrize(
    "how", [{"ServerSideEncryption": "AES256"}, KMS, {"StorageClass": "STANDARD_IA"}], ids=["s3", "kms", "class"]
)
def test_encryption_and_storage_class_are_kept(s3: S3Client, form: Form, how: dict[str, Any]) -> None:
    put(s3, form, **how)
    before = described(s3, form)
    # The embedded server does not tell of bucket keys; see the next test.
    assert {name: before.get(name) for name in how if name != "BucketKeyEnabled"}.items() <= how.items()
    assert rewrite(s3, form).action == "rewritten"
    assert described(s3, form) == before


def test_the_key_and_its_bucket_key_are_asked_for(s3: S3Client) -> None:
    """Our request, whatever the server knows of keys: it is answered as if it had been asked for nothing."""
    put(s3, GZIP)
    asked: list[dict[str, Any]] = []

    def write(real: Any, **request: Any) -> Any:
        asked.append({name: request.pop(name) for name in list(KMS) if name in request})
        return real(**request)

    client = altered(s3, get_object=lambda real, **request: real(**request) | KMS, put_object=write)
    assert rewrite(client, GZIP).action == "rewritten"
    assert asked == [KMS]


def test_an_object_that_would_lose_its_encryption_stays_as_it_was(s3: S3Client) -> None:
    """A server that ignores what it is asked for: found by reading back, and the new version is taken back."""
    put(s3, GZIP)
    first = key_versions(s3, LOGS, GZIP.key())
    told = iter([KMS, {}])

    def write(real: Any, **request: Any) -> Any:
        return real(**{name: value for name, value in request.items() if name not in KMS})

    client = altered(s3, get_object=lambda real, **request: real(**request) | next(told), put_object=write)
    with pytest.raises(VerificationError, match="would have lost its encryption"):
        rewrite(client, GZIP)
    assert key_versions(s3, LOGS, GZIP.key()) == first


def test_a_default_of_the_bucket_that_came_later_is_no_loss(s3: S3Client) -> None:
    put(s3, GZIP)
    told = iter([{}, KMS])
    client = altered(s3, get_object=lambda real, **request: real(**request) | next(told))
    assert rewrite(client, GZIP).action == "rewritten"
