"""Copies: proven before anything trusts them, never over something else, safe to repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lifecycle.errors import VerificationError
from lifecycle.stores.s3.copy import CopyProof, copy_verified, exists, put_verified, read_verified, sha256_of
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.requests import iter_uploads
from lifecycle.stores.s3.versions import key_versions
from stores.s3 import LOCKED, PLAIN, VERSIONED
from support.permits import Killed, altered, killed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
BODY = b"\x00\xff byte for byte"
# Small enough to be written at once, or copied by the server in parts.
WAYS = pytest.mark.parametrize("inline_bytes", [8 * MIB, 0], ids=["inline", "parts"])


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def put_source(s3: S3Client, body: bytes = BODY, key: str = "source é+&") -> str:
    s3.put_object(
        Bucket=VERSIONED,
        Key=key,
        Body=body,
        ContentType="application/x-odd",
        ContentEncoding="identity",
        ContentDisposition="inline",
        ContentLanguage="de",
        CacheControl="max-age=7",
        StorageClass="STANDARD_IA",
        Metadata={"kept": "yes", "flagged-at": "2026-01-02T03:04:05Z"},
        Tagging="tier=consumer&odd=a%20b%2Bc",
    )
    return key


def tags(s3: S3Client, bucket: str, key: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


@WAYS
def test_case_17_all_that_describes_an_object_travels_with_it(s3: S3Client, inline_bytes: int) -> None:
    """Case 17: the clock is not reset and no metadata is lost."""
    key = put_source(s3)
    source = s3.head_object(Bucket=VERSIONED, Key=key)
    proof = copy_verified(
        s3, VERSIONED, key, LOCKED, "t/object", metadata={"Received-At": "2026-01-01"}, inline_bytes=inline_bytes
    )
    there = s3.get_object(Bucket=LOCKED, Key="t/object")
    assert there["Body"].read() == BODY
    names = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl", "StorageClass")
    assert [there[name] for name in names] == [source[name] for name in names]  # type: ignore[literal-required]
    assert there["Metadata"] == {
        "kept": "yes",
        "flagged-at": "2026-01-02T03:04:05Z",
        "received-at": "2026-01-01",
        "original-last-modified": source["LastModified"].isoformat(),
    }
    assert tags(s3, LOCKED, "t/object") == {"tier": "consumer", "odd": "a b+c"}
    assert proof == CopyProof(sha(BODY), len(BODY), there["VersionId"])


@pytest.mark.parametrize("kind", ["SHA256", "CRC32"])
def test_case_17_the_kind_of_checksum_travels_too(s3: S3Client, kind: Any) -> None:
    """Case 17: whoever relies on the store's own checksum finds it at the copy, and without another request."""
    name = f"Checksum{kind}"
    s3.put_object(Bucket=VERSIONED, Key="summed", Body=BODY, ChecksumAlgorithm=kind)
    source: Any = s3.head_object(Bucket=VERSIONED, Key="summed", ChecksumMode="ENABLED")
    for target, by_checksum in (("1", False), ("2", True), ("3", True)):
        copy_verified(s3, VERSIONED, "summed", LOCKED, target, by_checksum=by_checksum)
        there: Any = s3.head_object(Bucket=LOCKED, Key=target, ChecksumMode="ENABLED")
        assert there[name] == source[name]
    copy_verified(s3, VERSIONED, "summed", LOCKED, "parts", inline_bytes=0)


def test_case_17_a_second_copy_does_not_reset_the_clock_either(s3: S3Client) -> None:
    """Case 17: into quarantine and back, the first time of writing is still told."""
    original = "2020-02-29T12:00:00+00:00"
    s3.put_object(Bucket=VERSIONED, Key="copied-once", Body=BODY, Metadata={"original-last-modified": original})
    copy_verified(s3, VERSIONED, "copied-once", LOCKED, "q")
    copy_verified(s3, LOCKED, "q", VERSIONED, "back")
    assert s3.head_object(Bucket=VERSIONED, Key="back")["Metadata"] == {"original-last-modified": original}


def test_case_17_a_large_object_is_copied_in_parts(s3: S3Client) -> None:
    """Case 17: beyond what one request can copy (5 GB; here 5 MiB), the parts add up to the same bytes."""
    body = bytes(range(256)) * (12 * MIB // 256) + b"tail"
    put_source(s3, body, "large")
    proof = copy_verified(s3, VERSIONED, "large", LOCKED, "large", inline_bytes=MIB, part_bytes=5 * MIB)
    assert (proof.sha256, proof.size) == (sha(body), len(body))
    assert s3.head_object(Bucket=LOCKED, Key="large")["ETag"].strip('"').endswith("-3")
    assert tags(s3, LOCKED, "large")["tier"] == "consumer"
    assert list(iter_uploads(s3, LOCKED, "")) == []


@WAYS
def test_a_repeated_copy_is_a_success_and_changes_nothing(s3: S3Client, inline_bytes: int) -> None:
    key = put_source(s3)
    first = copy_verified(s3, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes)
    assert copy_verified(s3, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes) == first
    assert len(key_versions(s3, LOCKED, "t")) == 1


@WAYS
@pytest.mark.parametrize("content_type", ["application/x-odd", "text/plain"])
def test_case_17_something_else_at_the_target_is_not_overwritten(
    s3: S3Client, inline_bytes: int, content_type: str
) -> None:
    """Case 17: other bytes, or the same bytes under another content type, are not our copy."""
    key = put_source(s3)
    other = BODY if content_type == "text/plain" else b"other"
    s3.put_object(Bucket=LOCKED, Key="t", Body=other, ContentType=content_type)
    with pytest.raises(VerificationError, match="a different object stands at the target"):
        copy_verified(s3, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes)
    assert s3.get_object(Bucket=LOCKED, Key="t")["Body"].read() == other
    assert len(key_versions(s3, LOCKED, "t")) == 1
    assert exists(s3, VERSIONED, key)


ORIGINAL = "original-last-modified"
# What a copy found standing may be told apart by, though its bytes and their type are the source's.
OTHER: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "metadata": lambda there: {"Metadata": there["Metadata"] | {"kept": "no"}},
    "metadata more": lambda there: {"Metadata": there["Metadata"] | {"more": "1"}},
    "metadata none": lambda there: {"Metadata": {}},
    "metadata later": lambda there: {"Metadata": there["Metadata"] | {ORIGINAL: "2999-01-01T00:00:00+00:00"}},
    "CacheControl": lambda there: {"CacheControl": "no-store"},
    "ContentLanguage": lambda there: {"ContentLanguage": "en"},
    "StorageClass": lambda there: {"StorageClass": "STANDARD"},
    "tags": lambda there: {"Tagging": "tier=other&odd=a%20b%2Bc"},
}
DESCRIPTION = (
    "ContentType",
    "ContentEncoding",
    "ContentDisposition",
    "ContentLanguage",
    "CacheControl",
    "StorageClass",
)


def described_otherwise(s3: S3Client, key: str, **change: Any) -> None:
    """Put an object like the one that stands there, but for one thing, in its place."""
    there: dict[str, Any] = dict(s3.get_object(Bucket=LOCKED, Key=key))
    same = {name: there[name] for name in (*DESCRIPTION, "Metadata") if name in there}
    body = there["Body"].read()
    s3.put_object(Bucket=LOCKED, Key=key, Body=body, **{"Tagging": "tier=consumer&odd=a%20b%2Bc", **same, **change})


@pytest.mark.parametrize("other", OTHER)
def test_case_17_a_copy_that_is_described_otherwise_is_not_ours(s3: S3Client, other: str) -> None:
    """Case 17: the same bytes under other metadata, headers, class or tags: nothing is overwritten."""
    key = put_source(s3)
    copy_verified(s3, VERSIONED, key, LOCKED, "t")
    described_otherwise(s3, "t", **OTHER[other](dict(s3.head_object(Bucket=LOCKED, Key="t"))))
    standing = key_versions(s3, LOCKED, "t")
    for by_checksum in (False, True):
        with pytest.raises(VerificationError, match=other.split()[0]):
            copy_verified(s3, VERSIONED, key, LOCKED, "t", by_checksum=by_checksum)
    assert key_versions(s3, LOCKED, "t") == standing
    assert exists(s3, VERSIONED, key)


def test_case_17_a_copy_of_an_earlier_writing_of_the_same_bytes_is_ours(s3: S3Client) -> None:
    """The application wrote the same again between a kill and the next try; the older clock is the one that counts."""
    key = put_source(s3)
    copy_verified(s3, VERSIONED, key, LOCKED, "t")
    told = s3.head_object(Bucket=LOCKED, Key="t")["Metadata"]
    described_otherwise(s3, "t", Metadata=told | {ORIGINAL: "2020-02-29T12:00:00+00:00"})
    standing = key_versions(s3, LOCKED, "t")
    copy_verified(s3, VERSIONED, key, LOCKED, "t")
    assert key_versions(s3, LOCKED, "t") == standing


@WAYS
def test_a_delete_marker_at_the_target_is_no_obstacle(s3: S3Client, inline_bytes: int) -> None:
    key = put_source(s3)
    s3.put_object(Bucket=LOCKED, Key="t", Body=b"gone")
    s3.delete_object(Bucket=LOCKED, Key="t")
    assert copy_verified(s3, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes).sha256 == sha(BODY)


def _first(act: Callable[[], object]) -> Callable[..., Any]:
    """A replacement that does something else before the real request."""

    def request(real: Callable[..., Any], **kwargs: Any) -> Any:
        act()
        return real(**kwargs)

    return request


@WAYS
@pytest.mark.parametrize("twin", [BODY, b"other"], ids=["same", "different"])
def test_a_twin_that_writes_between_look_and_write(s3: S3Client, inline_bytes: int, twin: bytes) -> None:
    """The look found nothing, but the condition of the write does."""
    key = put_source(s3)

    def write() -> None:
        if twin == BODY:
            copy_verified(s3, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes)
        else:
            s3.put_object(Bucket=LOCKED, Key="t", Body=twin, ContentType="application/x-odd")

    race = _first(write)
    racing = altered(s3, put_object=race, complete_multipart_upload=race)
    if twin == BODY:
        assert copy_verified(racing, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes).sha256 == sha(BODY)
    else:
        with pytest.raises(VerificationError):
            copy_verified(racing, VERSIONED, key, LOCKED, "t", inline_bytes=inline_bytes)
    assert s3.get_object(Bucket=LOCKED, Key="t")["Body"].read() == twin
    assert len(key_versions(s3, LOCKED, "t")) == 1
    assert list(iter_uploads(s3, LOCKED, "")) == []


@WAYS
def test_case_15_the_version_that_was_named_is_copied(s3: S3Client, inline_bytes: int) -> None:
    """Case 15: an overwrite after planning does not change what is copied."""
    key = put_source(s3)
    version = s3.head_object(Bucket=VERSIONED, Key=key)["VersionId"]
    put_source(s3, b"newer")
    proof = copy_verified(s3, VERSIONED, key, LOCKED, "t", source_version=version, inline_bytes=inline_bytes)
    assert proof.sha256 == sha(BODY)


@pytest.mark.parametrize("bucket", [VERSIONED, PLAIN])
def test_case_15_an_overwrite_during_the_copy_is_not_mixed_in(s3: S3Client, bucket: str) -> None:
    """Case 15: a versioned source is copied as it was read; an unversioned one is refused, and nothing is left over."""
    s3.put_object(Bucket=bucket, Key="source", Body=BODY)
    change = _first(lambda: s3.put_object(Bucket=bucket, Key="source", Body=b"changed meanwhile"))
    racing = altered(s3, upload_part_copy=change)
    if bucket == VERSIONED:
        assert copy_verified(racing, bucket, "source", LOCKED, "t", inline_bytes=0).sha256 == sha(BODY)
    else:
        with pytest.raises(StoreError) as refusal:
            copy_verified(racing, bucket, "source", LOCKED, "t", inline_bytes=0)
        assert refusal.value.conflict
        assert not exists(s3, LOCKED, "t")
    assert list(iter_uploads(s3, LOCKED, "")) == []


@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ({"Body": b"\x00\xff byte for bytE"}, "checksum"),
        ({"Body": b"short"}, "checksum, size"),
        ({"ContentType": "text/plain"}, "content type"),
        ({"Metadata": {}}, "metadata"),
        ({"CacheControl": "no-store"}, "CacheControl"),
        ({"StorageClass": "STANDARD"}, "StorageClass"),
    ],
)
def test_case_17_a_copy_that_differs_is_not_trusted(s3: S3Client, tampering: dict[str, Any], told: str) -> None:
    """Case 17: what the server stored is read back and compared with the source."""
    key = put_source(s3)
    broken = altered(s3, put_object=lambda real, **kwargs: real(**{**kwargs, **tampering}))
    with pytest.raises(VerificationError, match=f"differs from its source in {told};"):
        copy_verified(broken, VERSIONED, key, LOCKED, "t")
    assert exists(s3, VERSIONED, key)


@pytest.mark.parametrize("interrupted", [False, True])
def test_case_17_tags_that_the_server_dropped_follow(s3: S3Client, interrupted: bool) -> None:
    """Case 17: also when the first try ended between writing the bytes and the tags."""
    key = put_source(s3)
    forgetful = altered(s3, put_object=lambda real, **kwargs: real(**{**kwargs, "Tagging": ""}))
    if interrupted:
        dying = altered(forgetful, put_object_tagging=lambda real, **kwargs: killed())
        with pytest.raises(Killed):
            copy_verified(dying, VERSIONED, key, LOCKED, "t")
    copy_verified(forgetful, VERSIONED, key, LOCKED, "t")
    assert tags(s3, LOCKED, "t") == {"tier": "consumer", "odd": "a b+c"}
    assert len(key_versions(s3, LOCKED, "t")) == 1


def test_an_absent_source_is_told(s3: S3Client) -> None:
    with pytest.raises(StoreError) as refusal:
        copy_verified(s3, VERSIONED, "nothing-here", LOCKED, "t")
    assert refusal.value.absent
    assert "nothing-here" not in str(refusal.value)


def test_put_verified_writes_once(s3: S3Client) -> None:
    proof = put_verified(s3, LOCKED, "r.json", b"{}", content_type="application/json", metadata={"record": "1"})
    assert (proof.sha256, proof.size) == (sha(b"{}"), 2)
    there = s3.head_object(Bucket=LOCKED, Key="r.json")
    assert (there["ContentType"], there["Metadata"], there["VersionId"]) == (
        "application/json",
        {"record": "1"},
        proof.version_id,
    )
    assert put_verified(s3, LOCKED, "r.json", b"{}", content_type="application/json", metadata={"record": "1"}) == proof
    with pytest.raises(VerificationError, match="not overwritten"):
        put_verified(s3, LOCKED, "r.json", b"[]", content_type="application/json")
    assert len(key_versions(s3, LOCKED, "r.json")) == 1


@pytest.mark.parametrize("twin", [b"{}", b"[]"], ids=["same", "different"])
def test_put_verified_beside_a_twin(s3: S3Client, twin: bytes) -> None:
    write = _first(lambda: s3.put_object(Bucket=LOCKED, Key="r", Body=twin, ContentType="application/json"))
    racing = altered(s3, put_object=write)
    if twin == b"{}":
        assert put_verified(racing, LOCKED, "r", b"{}", content_type="application/json").sha256 == sha(b"{}")
    else:
        with pytest.raises(VerificationError):
            put_verified(racing, LOCKED, "r", b"{}", content_type="application/json")
    assert len(key_versions(s3, LOCKED, "r")) == 1


def test_put_verified_reads_back(s3: S3Client) -> None:
    broken = altered(s3, put_object=lambda real, **kwargs: real(**{**kwargs, "Body": b"{"}))
    with pytest.raises(VerificationError, match="checksum, size"):
        put_verified(broken, LOCKED, "r", b"{}", content_type="application/json")


def test_read_verified_and_checksums(s3: S3Client) -> None:
    s3.put_object(Bucket=PLAIN, Key="a", Body=BODY)
    assert read_verified(s3, PLAIN, "a", sha(BODY)) == BODY
    with pytest.raises(VerificationError, match="checksum"):
        read_verified(s3, PLAIN, "a", sha(b""))
    assert sha256_of(s3, PLAIN, "a") == sha(BODY)
    first = s3.put_object(Bucket=VERSIONED, Key="a", Body=b"1")["VersionId"]
    s3.put_object(Bucket=VERSIONED, Key="a", Body=b"2")
    assert sha256_of(s3, VERSIONED, "a", first) == sha(b"1")
    assert sha256_of(s3, VERSIONED, "a") == sha(b"2")


def test_exists(s3: S3Client) -> None:
    version = s3.put_object(Bucket=VERSIONED, Key="a", Body=b"1")["VersionId"]
    assert exists(s3, VERSIONED, "a") and not exists(s3, VERSIONED, "b")
    marker = s3.delete_object(Bucket=VERSIONED, Key="a")["VersionId"]
    assert not exists(s3, VERSIONED, "a")
    assert exists(s3, VERSIONED, "a", version) and not exists(s3, VERSIONED, "a", marker)


def test_an_empty_object_can_be_copied(s3: S3Client) -> None:
    s3.put_object(Bucket=VERSIONED, Key="empty", Body=b"")
    assert copy_verified(s3, VERSIONED, "empty", LOCKED, "empty").size == 0


KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:us-east-1:000000000000:key/0f"}


@pytest.mark.embedded_s3
@pytest.mark.parametrize("inline_bytes", [1 << 20, 0], ids=["inline", "by the server"])
@pytest.mark.parametrize("how", [KMS, {"ServerSideEncryption": "AES256"}], ids=["kms", "s3"])
def test_case_17_encryption_stays_within_a_bucket_and_is_the_other_bucket_s_own_elsewhere(
    s3: S3Client, inline_bytes: int, how: dict[str, Any]
) -> None:
    s3.put_object(Bucket=VERSIONED, Key="landing/1", Body=b"body", **how)
    for bucket, expected in ((VERSIONED, how), (PLAIN, {})):
        copy_verified(s3, VERSIONED, "landing/1", bucket, "there/1", inline_bytes=inline_bytes)
        head: dict[str, Any] = dict(s3.head_object(Bucket=bucket, Key="there/1"))
        assert {name: head[name] for name in KMS if name in head} == expected


def test_case_17_a_copy_that_lost_its_encryption_is_not_trusted(s3: S3Client) -> None:
    s3.put_object(Bucket=VERSIONED, Key="landing/1", Body=b"body")

    def get(real: Any, **request: Any) -> Any:
        return real(**request) | (KMS if request["Key"] == "landing/1" else {})

    def write(real: Any, **request: Any) -> Any:
        return real(**{name: value for name, value in request.items() if name not in KMS})

    client = altered(s3, get_object=get, put_object=write)
    for _ in ("written now", "found standing there"):
        with pytest.raises(VerificationError, match="not encrypted as its source is"):
            copy_verified(client, VERSIONED, "landing/1", VERSIONED, "there/1")
    assert exists(s3, VERSIONED, "landing/1")


def counted(s3: S3Client, calls: list[str], **replacements: Any) -> Any:
    """A client of its own that tells what is asked of it; nothing is known of it yet."""

    def noted(name: str) -> Callable[..., Any]:
        change = replacements.get(name, lambda real, **kwargs: real(**kwargs))

        def call(real: Callable[..., Any], **kwargs: Any) -> Any:
            calls.append(name)
            return change(real, **kwargs)

        return call

    return altered(s3, **{name: noted(name) for name in ("head_object", "get_object", "put_object")})


def test_case_17_what_a_bucket_is_known_to_do_is_not_asked_again(s3: S3Client) -> None:
    """The first copy is looked at before, read back and tried again; then two requests each, proven by the ETag."""
    s3.put_object(Bucket=VERSIONED, Key="plain", Body=BODY, Metadata={"kept": "yes"})
    calls: list[str] = []
    client = counted(s3, calls)
    copy_verified(client, VERSIONED, "plain", LOCKED, "first", by_checksum=True)
    assert calls == ["get_object", "head_object", "put_object", "get_object", "put_object"]
    calls.clear()
    proof = copy_verified(client, VERSIONED, "plain", LOCKED, "second", metadata={"More": "1"}, by_checksum=True)
    assert calls == ["get_object", "put_object"]
    there = s3.get_object(Bucket=LOCKED, Key="second")
    assert (proof.sha256, proof.size, proof.version_id) == (sha(there["Body"].read()), len(BODY), there["VersionId"])
    assert there["Metadata"].keys() == {"kept", "more", "original-last-modified"}
    s3.put_object(Bucket=LOCKED, Key="taken", Body=b"something else")
    with pytest.raises(VerificationError, match="not overwritten"):
        copy_verified(client, VERSIONED, "plain", LOCKED, "taken", by_checksum=True)
    again = copy_verified(client, VERSIONED, "plain", LOCKED, "second", metadata={"More": "1"}, by_checksum=True)
    assert again == proof
    assert [len(key_versions(s3, LOCKED, key)) for key in ("first", "second", "taken")] == [1, 1, 1]


def test_case_17_a_checksum_that_differs_is_read_back_and_tags_always_are(s3: S3Client) -> None:
    """Of a bucket that is known too: another ETag proves nothing, and a dropped tag shows only when it is read."""
    s3.put_object(Bucket=VERSIONED, Key="plain", Body=BODY)
    calls: list[str] = []
    spoil: list[dict[str, Any]] = [{}]
    client = counted(s3, calls, put_object=lambda real, **kwargs: real(**kwargs | spoil[-1]))
    copy_verified(client, VERSIONED, "plain", LOCKED, "first", by_checksum=True)
    spoil.append({"Body": BODY[::-1]})
    with pytest.raises(VerificationError, match="checksum"):
        copy_verified(client, VERSIONED, "plain", LOCKED, "second", by_checksum=True)
    spoil.append({"Tagging": ""})
    copy_verified(client, VERSIONED, put_source(s3), LOCKED, "third", by_checksum=True)
    assert tags(s3, LOCKED, "third") == {"tier": "consumer", "odd": "a b+c"}


def test_case_17_a_server_without_the_condition_is_looked_at_each_time(s3: S3Client) -> None:
    """Never over an existing target, also where If-None-Match means nothing."""
    s3.put_object(Bucket=VERSIONED, Key="plain", Body=BODY)
    s3.put_object(Bucket=LOCKED, Key="taken", Body=b"something else")
    calls: list[str] = []

    def heedless(real: Callable[..., Any], **kwargs: Any) -> Any:
        return real(**{name: value for name, value in kwargs.items() if name != "IfNoneMatch"})

    client = counted(s3, calls, put_object=heedless)
    copy_verified(client, VERSIONED, "plain", LOCKED, "first", by_checksum=True)
    with pytest.raises(VerificationError, match="not overwritten"):
        copy_verified(client, VERSIONED, "plain", LOCKED, "taken", by_checksum=True)
    assert s3.get_object(Bucket=LOCKED, Key="taken")["Body"].read() == b"something else"


def test_case_17_what_is_evidence_is_read_back_each_time(s3: S3Client) -> None:
    """Quarantine and its records: nobody takes a server's word for them."""
    s3.put_object(Bucket=VERSIONED, Key="plain", Body=BODY)
    calls: list[str] = []
    client = counted(s3, calls)
    for by_checksum in (True, False):
        calls.clear()
        copy_verified(client, VERSIONED, "plain", LOCKED, f"target-{by_checksum}", by_checksum=by_checksum)
    assert calls == ["get_object", "head_object", "put_object", "get_object"]
    calls.clear()
    put_verified(client, LOCKED, "record", b"{}", content_type="application/json")
    assert calls == ["head_object", "put_object", "get_object"]
