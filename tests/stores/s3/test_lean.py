"""Requests made without the client: the very ones it would send, the same answers, and its own way when in doubt."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import FlexibleChecksumError
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.demo.servers import S3Server
from lifecycle.errors import FencedOutError
from lifecycle.stores.s3 import lean
from lifecycle.stores.s3.copy import copy_verified
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.permitted import permitted
from lifecycle.stores.s3.versions import key_versions
from lifecycle.stores.s3.wire import LARGEST_BODY, UnexpectedAnswerError, Wire
from oracle.s3proxy import Proxy, Reply, Request, error_reply, proxied
from stores.s3 import VERSIONED
from stores.s3.test_faults import impatient
from support.permits import CountingPermit, altered, fenced_out

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = b"\x00\xff byte for byte"
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
PLAIN = Config(
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
KEYS: dict[str, Any] = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "eu-west-1"}
DUALSTACK = {"use_dualstack_endpoint": True, "payload_signing_enabled": True}
# How clients are made: servers of others, Amazon's own with their checksums, and odder addresses and credentials.
CLIENTS: dict[str, dict[str, Any]] = {
    "path": KEYS | {"endpoint_url": "http://127.0.0.1:1", "config": PLAIN},
    "aws": KEYS,
    "token": KEYS | {"aws_session_token": "token", "config": Config(retries={"mode": "adaptive"})},
    "dualstack": KEYS | {"config": Config(s3=cast(Any, DUALSTACK))},
}
BUCKETS = ("some-bucket", "arn:aws:s3:eu-west-1:123456789012:accesspoint/point")
# The client's own marks of a try, and what it asks before it sends a body; none of it is signed.
UNSIGNED = {"amz-sdk-invocation-id", "amz-sdk-request", "user-agent", "expect"}
# A body whose checksum is sent before it instead of behind it is signed as one.
OF_BODY = {
    "authorization",
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "x-amz-content-sha256",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-checksum-crc32",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
}


class Stopped(Exception):
    """Instead of sending."""


@contextmanager
def unsent(client: S3Client) -> Iterator[list[Any]]:
    """Requests as they are about to be sent, and are not."""
    requests: list[Any] = []

    def stop(request: Any, **_: Any) -> None:
        requests.append(request)
        raise Stopped

    client.meta.events.register("before-send.s3", stop, unique_id="stop")
    try:
        yield requests
    finally:
        client.meta.events.unregister("before-send.s3", unique_id="stop")


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def told(request: Any) -> dict[str, str]:
    return {name.lower(): text(value) for name, value in request.headers.items() if name.lower() not in UNSIGNED}


@pytest.fixture(scope="module", params=CLIENTS)
def offline(request: pytest.FixtureRequest) -> S3Client:
    client: S3Client = boto3.client("s3", **CLIENTS[request.param])
    return client


VALUES = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=8)
NAMES = st.text("abcXYZ09-._", min_size=1, max_size=8)
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "ContentType": VALUES,
    "CacheControl": VALUES,
    "ContentLanguage": VALUES,
    "StorageClass": st.sampled_from(["STANDARD_IA", "GLACIER"]),
    "Tagging": st.just("a=b%20c"),
    "ServerSideEncryption": st.sampled_from(["aws:kms", "AES256"]),
    "SSEKMSKeyId": VALUES,
    "BucketKeyEnabled": st.booleans(),
    "Metadata": st.dictionaries(NAMES, VALUES, max_size=3),
    "ChecksumAlgorithm": st.sampled_from(["SHA256", "SHA1", "CRC32"]),
    "Expires": st.just(AT),
}
PUTS = st.fixed_dictionaries({"IfNoneMatch": st.just("*")}, optional=OPTIONAL)
ANY_KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VERSIONS = st.one_of(st.none(), st.text("abc.-_~/+ 09", min_size=1, max_size=9))


def both(client: S3Client, operation: str, request: dict[str, Any]) -> tuple[Any, Any, bool]:
    """What the client sends, what we send, and whether that was by ourselves."""
    method: Callable[..., Any] = getattr(client, operation)
    ours: Callable[..., Any] = partial(getattr(lean, operation), client)
    if (senders := lean._senders.get(client)) is not None:
        senders.forms.clear()
    with unsent(client) as requests, pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda *_: AT)
        for call in (method, ours, ours):
            with pytest.raises(Stopped):
                call(**request)
        by_itself = bool(lean._senders[client].forms)
    return requests[0], requests[-1], by_itself


@given(
    key=ANY_KEY,
    bucket=st.sampled_from(BUCKETS),
    version=VERSIONS,
    etag=st.sampled_from(["", '"0123"']),
    checksums=st.sampled_from([{}, {"ChecksumMode": "ENABLED"}]),
)
@settings(max_examples=25)
def test_a_reading_is_the_client_s_own_request(
    offline: S3Client, key: str, bucket: str, version: str | None, etag: str, checksums: dict[str, str]
) -> None:
    request = {"Bucket": bucket, "Key": key, **checksums}
    request |= ({} if version is None else {"VersionId": version}) | ({"IfMatch": etag} if etag else {})
    if bucket.startswith("arn:") and "127.0.0.1" in offline.meta.endpoint_url:
        return
    theirs, ours, by_itself = both(offline, "get_object", request)
    assert (ours.method, ours.url, told(ours), ours.body) == (theirs.method, theirs.url, told(theirs), theirs.body)
    assert by_itself or not key.isascii() or not key.isprintable() or key.startswith("/") or "/" in key


@given(key=ANY_KEY, described=PUTS, body=st.binary(max_size=40))
@settings(max_examples=25)
def test_a_writing_is_the_client_s_own_request(
    offline: S3Client, key: str, described: dict[str, Any], body: bytes
) -> None:
    request = {"Bucket": BUCKETS[0], "Key": key, "Body": body, **described}
    theirs, ours, by_itself = both(offline, "put_object", request)
    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    apart = OF_BODY if by_itself and "x-amz-trailer" in told(theirs) else set()
    assert {name: value for name, value in told(ours).items() if name not in apart} == {
        name: value for name, value in told(theirs).items() if name not in apart
    }
    if by_itself:
        assert (ours.body or b"") == body


def test_what_is_sent_by_itself_is_most_of_it(offline: S3Client) -> None:
    """The comparisons above would also hold of a way that is never taken."""
    for operation in ("get_object", "put_object"):
        body = {"Body": BODY, "Metadata": {"a": "b"}} if operation == "put_object" else {}
        _, ours, by_itself = both(offline, operation, {"Bucket": BUCKETS[0], "Key": "a b/é+&=~.json", **body})
        assert by_itself
        assert "amz-sdk-invocation-id" not in {name.lower() for name in ours.headers}


def test_a_checksum_is_sent_with_the_body(offline: S3Client) -> None:
    if "127.0.0.1" in offline.meta.endpoint_url:
        return
    _, ours, _ = both(offline, "put_object", {"Bucket": BUCKETS[0], "Key": "a", "Body": b"123456789"})
    assert told(ours)["x-amz-checksum-crc32"] == "y/Q5Jg=="


@pytest.mark.parametrize("added", ["x-odd", "content-type"])
def test_a_client_that_says_more_than_was_asked_is_left_alone(added: str) -> None:
    client = boto3.client("s3", **CLIENTS["path"])
    client.meta.events.register("before-call.s3", lambda params, **_: params["headers"].update({added: "x/y"}))
    theirs, ours, by_itself = both(client, "put_object", {"Bucket": BUCKETS[0], "Key": "a", "Body": BODY})
    assert not by_itself
    assert told(theirs)[added] == told(ours)[added] == "x/y"


@pytest.mark.parametrize(
    "config",
    [Config(proxies={"http": "http://127.0.0.1:9"}), Config(client_cert="x.pem"), Config(signature_version="s3")],
    ids=["proxy", "client certificate", "old signature"],
)
def test_a_place_that_only_the_client_can_reach_is_left_to_it(config: Config) -> None:
    client = boto3.client("s3", **CLIENTS["path"] | {"config": PLAIN.merge(config)})
    assert not both(client, "get_object", {"Bucket": BUCKETS[0], "Key": "a"})[2]


# -- answers ---------------------------------------------------------------------------------------------------------


def read(answer: Any) -> dict[str, Any]:
    body = {"Body": answer["Body"].read()} if "Body" in answer else {}
    kept = {name: value for name, value in answer.items() if name not in ("ResponseMetadata", "Body")}
    return kept | body | {"status": answer["ResponseMetadata"]["HTTPStatusCode"]}


def put_twice(s3: S3Client, **request: Any) -> None:
    for key in ("first", "second"):
        lean.put_object(s3, Bucket=VERSIONED, Key=key, Body=BODY, **request)


def test_an_answer_is_told_as_the_client_tells_it(s3: S3Client) -> None:
    before = lean.answered(s3)
    put_twice(s3, ContentType="x/odd", CacheControl="max-age=7", Metadata={"Kept": "yes"}, Tagging="a=b")
    versions: list[dict[str, Any]] = [
        {},
        {"VersionId": s3.head_object(Bucket=VERSIONED, Key="second")["VersionId"]},
    ]
    for version in versions:
        lean.get_object(s3, Bucket=VERSIONED, Key="second")
        theirs = s3.get_object(Bucket=VERSIONED, Key="second", **version)
        assert read(lean.get_object(s3, Bucket=VERSIONED, Key="second", **version)) == read(theirs)
    assert read(theirs)["Metadata"] == {"kept": "yes"}
    assert lean.answered(s3) >= before + 3
    written = s3.put_object(Bucket=VERSIONED, Key="third", Body=BODY)
    ours = lean.put_object(s3, Bucket=VERSIONED, Key="third", Body=BODY)
    assert ours.keys() == written.keys()
    assert ours["ETag"] == written["ETag"] and ours["VersionId"] == key_versions(s3, VERSIONED, "third")[0].version_id


def test_case_17_copies_go_the_short_way(s3: S3Client) -> None:
    """Two requests a copy, none of them the client's own."""
    put_twice(s3, ContentType="x/odd")
    copy_verified(s3, VERSIONED, "first", VERSIONED, "there/1", by_checksum=True)
    copy_verified(s3, VERSIONED, "first", VERSIONED, "there/2", by_checksum=True)
    before = lean.answered(s3)
    copy_verified(s3, VERSIONED, "second", VERSIONED, "there/3", by_checksum=True)
    assert lean.answered(s3) == before + 2


@pytest.mark.parametrize("kind", ["SHA256", "CRC32"])
def test_a_checksum_that_the_store_keeps_is_compared(way: tuple[Proxy, S3Client], kind: Any) -> None:
    """As the client does when it is asked for it: what was altered on the way is not taken for the object."""
    proxy, client = way
    for key in ("first", "second"):
        client.put_object(Bucket=VERSIONED, Key=key, Body=BODY, ChecksumAlgorithm=kind)
    before = lean.answered(client)
    for _ in range(2):
        answer = lean.get_object(client, Bucket=VERSIONED, Key="first", ChecksumMode="ENABLED")
        assert answer["Body"].read() == BODY
        assert f"Checksum{kind}" in answer
    assert lean.answered(client) == before + 1
    proxy.alter = lambda content: content[::-1]
    altered_answer = lean.get_object(client, Bucket=VERSIONED, Key="first", ChecksumMode="ENABLED")
    with pytest.raises(FlexibleChecksumError):
        altered_answer["Body"].read()


def test_a_client_with_changed_methods_is_asked_by_them(s3: S3Client) -> None:
    put_twice(s3)
    changed = altered(s3, get_object=lambda real, **request: real(**request) | {"ETag": "changed"})
    assert lean.get_object(changed, Bucket=VERSIONED, Key="first")["ETag"] == "changed"


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def way(s3: S3Client, s3_server: S3Server) -> Iterator[tuple[Proxy, S3Client]]:
    """A proxy, and a client of which nothing is known yet but how it writes and reads."""
    with proxied(s3_server) as (proxy, endpoint):
        client = impatient(endpoint, patience=2, tries=2)
        put_twice(client)
        lean.get_object(client, Bucket=VERSIONED, Key="first")
        proxy.seen.clear()
        assert lean.answered(client) == 1
        yield proxy, client


def once(answer: Callable[[Request], Reply | None]) -> Callable[[Request], Reply | None]:
    struck: list[Request] = []

    def instead(request: Request) -> Reply | None:
        struck.append(request)
        return answer(request) if len(struck) == 1 else None

    return instead


def test_after_trouble_the_client_takes_over_for_a_while(way: tuple[Proxy, S3Client]) -> None:
    """A server that is too busy is asked again by the client, at its pace, and not by two who know nothing of it."""
    proxy, client = way
    proxy.instead = once(lambda request: error_reply(503, "SlowDown"))
    assert read(lean.get_object(client, Bucket=VERSIONED, Key="first"))["Body"] == BODY
    before = lean.answered(client)
    for _ in range(lean.RESTING - 1):
        lean.get_object(client, Bucket=VERSIONED, Key="first")
    assert lean.answered(client) == before
    lean.get_object(client, Bucket=VERSIONED, Key="first")
    assert lean.answered(client) == before + 1


def test_a_truncated_answer_is_asked_for_again(way: tuple[Proxy, S3Client]) -> None:
    proxy, client = way
    proxy.instead = once(lambda request: Reply(200, BODY, sent=3))
    assert read(lean.get_object(client, Bucket=VERSIONED, Key="first"))["Body"] == BODY


def test_case_17_a_write_whose_answer_is_lost_is_found_standing(way: tuple[Proxy, S3Client], s3: S3Client) -> None:
    """The server has acted; who repeats it meets the condition, and then the same bytes."""
    proxy, client = way
    for target in ("there/1", "there/2"):
        copy_verified(client, VERSIONED, "first", VERSIONED, target, by_checksum=True)
    lost: list[Request] = []

    def lose(request: Request, reply: Reply) -> Reply:
        if request.method != "PUT" or lost:
            return reply
        lost.append(request)
        return Reply(200, b"x" * 10, sent=0)

    proxy.change = lose
    copy_verified(client, VERSIONED, "first", VERSIONED, "there/3", by_checksum=True)
    assert lost
    assert len(key_versions(s3, VERSIONED, "there/3")) == 1


def test_an_error_in_a_good_answer_is_left_to_the_client(way: tuple[Proxy, S3Client]) -> None:
    proxy, client = way
    lean.put_object(client, Bucket=VERSIONED, Key="third", Body=BODY)
    proxy.instead = once(lambda request: Reply(200, b"<Error><Code>InternalError</Code></Error>"))
    lean.put_object(client, Bucket=VERSIONED, Key="third", Body=b"new")
    assert read(client.get_object(Bucket=VERSIONED, Key="third"))["Body"] == b"new"


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
def test_a_refusal_is_named_by_the_client(way: tuple[Proxy, S3Client], code: str) -> None:
    proxy, client = way
    proxy.instead = lambda request: error_reply(403, code)
    with pytest.raises(StoreError) as refusal:
        copy_verified(client, VERSIONED, "first", VERSIONED, "there", by_checksum=True)
    assert refusal.value.code == code


def test_case_27_nothing_is_sent_without_a_permit(way: tuple[Proxy, S3Client]) -> None:
    proxy, client = way
    with permitted(client, CountingPermit({1: fenced_out})), pytest.raises(FencedOutError):
        lean.put_object(client, Bucket=VERSIONED, Key="first", Body=b"new")
    assert proxy.seen == []


def test_the_client_s_pace_hears_of_good_answers(s3: S3Client, s3_server: S3Server) -> None:
    client = impatient(s3_server, mode="adaptive")
    heard: list[int] = []
    client.meta.events.register("needs-retry.s3", lambda response, **_: heard.append(response[0].status_code))
    put_twice(client)
    assert lean.answered(client) == 1
    assert heard == [200, 200]


def test_a_large_object_is_the_client_s_own(s3: S3Client) -> None:
    put_twice(s3)
    s3.put_object(Bucket=VERSIONED, Key="large", Body=bytes(LARGEST_BODY + 1))
    lean.get_object(s3, Bucket=VERSIONED, Key="first")
    before = lean.answered(s3)
    assert len(lean.get_object(s3, Bucket=VERSIONED, Key="large")["Body"].read()) == LARGEST_BODY + 1
    assert lean.answered(s3) == before


# -- connections -----------------------------------------------------------------------------------------------------


def test_connections_are_kept_unless_they_are_closed_or_another_process_s(s3: S3Client, s3_server: S3Server) -> None:
    wire, url = Wire(s3.meta.config, False), f"{s3_server.endpoint_url}/nothing-of-the-kind?location"
    opened: list[Any] = []
    place = url.split("/")[2]

    def taken() -> Any:
        connection = wire._taken("http", place)
        wire._give_back("http", place, connection)
        return connection

    connection = taken()
    connection.connect()
    opened.append(connection)
    assert taken() is connection
    wire._process = os.getpid() + 1
    assert taken() is not connection
    with pytest.raises(UnexpectedAnswerError) as refusal:
        wire.exchange("GET", url, None, {})
    assert not refusal.value.trouble
    with pytest.raises(UnexpectedAnswerError) as refusal:
        wire.exchange("GET", "http://127.0.0.1:1/", None, {})
    assert refusal.value.trouble
    connection.close()


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, signed by itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("trusted", [True, False])
def test_certificates_are_checked_as_the_client_checks_them(
    s3: S3Client, s3_server: S3Server, tmp_path: Path, trusted: bool
) -> None:
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with proxied(s3_server, context) as (proxy, endpoint):
        url = endpoint.endpoint_url.replace("http://127.0.0.1", "https://localhost")
        client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=s3_server.access_key,
            aws_secret_access_key=s3_server.secret_key,
            region_name=s3_server.region,
            verify=str(file),
            config=PLAIN,
        )
        put_twice(client)
        assert lean.answered(client) == 1
        if not trusted:
            wire = replace(lean._senders[client].wire, verify=None, _idle={})
            with pytest.raises(UnexpectedAnswerError):
                wire.exchange("GET", url, None, {})
        assert [request.method for request in proxy.seen] == ["PUT", "PUT"]
