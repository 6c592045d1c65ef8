"""A server that misbehaves, by a proxy before the real one: nothing early, nothing unrecorded, red or complete."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

import pytest

from lifecycle.demo.servers import S3Server
from lifecycle.errors import FencedOutError
from lifecycle.stores.s3 import destroy, requests
from lifecycle.stores.s3.copy import copy_verified
from lifecycle.stores.s3.destroy import destroy_keys
from lifecycle.stores.s3.reconciliation import Reconciliation
from lifecycle.stores.s3.requests import abort_upload, delete_versions, iter_uploads
from lifecycle.stores.s3.versions import ObjectVersion, iter_versions
from oracle.s3proxy import Proxy, Reply, Request, error_reply, proxied
from stores.s3 import VERSIONED
from support.permits import CountingPermit, fenced_out

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Mode = Literal["legacy", "standard", "adaptive"]
KEYS = tuple(f"day/{number:03}" for number in range(40))
DUE = tuple(key for key in KEYS if not key.endswith("7"))
STAYS = frozenset(KEYS) - frozenset(DUE)
VERSIONS_OF_FIRST = 3


def impatient(server: S3Server, patience: float = 60, tries: int = 1, mode: Mode = "standard") -> S3Client:
    """A client that leaves trying again to us unless told otherwise, and does not wait for long."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=32,
            read_timeout=patience,
            retries={"mode": mode, "total_max_attempts": tries},
        ),
    )


@dataclass
class Faulty:
    """The way through the proxy, what went over it, and what stood in the bucket afterwards."""

    proxy: Proxy
    client: S3Client
    direct: S3Client
    struck: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def nth(self, counter: Callable[[Request], bool], *numbers: int) -> Callable[[Request], bool]:
        """Whether this request is one of those by number, counting only those of a kind; counts its strikes."""
        seen = 0

        def strikes(request: Request) -> bool:
            nonlocal seen
            if not counter(request):
                return False
            with self._lock:
                seen += 1
                hit = not numbers or seen in numbers
                self.struck += hit
            return hit

        return strikes

    def reset(self) -> None:
        fresh = Proxy(self.proxy.upstream)
        self.proxy.before, self.proxy.after = fresh.before, fresh.after
        self.proxy.instead, self.proxy.change = fresh.instead, fresh.change
        self.proxy.seen.clear()
        self.struck = 0

    def left(self) -> frozenset[str]:
        return frozenset(version.key for version in iter_versions(self.direct, VERSIONED, ""))


@pytest.fixture(scope="module")
def way(s3_server: S3Server) -> Iterator[tuple[Proxy, S3Client]]:
    with proxied(s3_server) as (proxy, endpoint):
        yield proxy, impatient(endpoint)


@pytest.fixture
def hasty(faulty: Faulty, s3_server: S3Server) -> Faulty:
    """A client that gives an answer up after a second."""
    endpoint = replace(s3_server, endpoint_url=faulty.client.meta.endpoint_url)
    faulty.client = impatient(endpoint, 1.0)
    return faulty


@pytest.fixture
def faulty(way: tuple[Proxy, S3Client], s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A partition of which most is due, in several windows and jobs."""
    monkeypatch.setattr(requests, "BACKOFF", (0.0, 0.0, 0.0))
    monkeypatch.setattr(destroy, "WINDOW", 12)
    monkeypatch.setattr(destroy, "SMALLEST_JOB", 5)
    with ThreadPoolExecutor(8) as pool:
        for key in (*KEYS, *[DUE[0]] * (VERSIONS_OF_FIRST - 1)):
            pool.submit(s3.put_object, Bucket=VERSIONED, Key=key, Body=b"x")
    s3.delete_object(Bucket=VERSIONED, Key=DUE[1])
    found = Faulty(*way, s3)
    found.reset()
    yield found
    found.reset()


def destroys(request: Request) -> bool:
    return request.destroys


def lists(request: Request) -> bool:
    return "versions" in request.query


def anything(request: Request) -> bool:
    return True


def named_in(request: Request) -> list[dict[str, str]]:
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    root = ElementTree.fromstring(request.body)
    return [{field.tag.removeprefix(space): field.text or "" for field in one} for one in root.iter(f"{space}Object")]


def judge(faulty: Faulty, done: Reconciliation) -> None:
    """What holds whatever the server does."""
    left = faulty.left()
    assert left >= STAYS, "something went that was not due"
    assert done.balanced
    assert done.requested_keys == len(DUE)
    assert done.held == frozenset()
    assert left - STAYS <= done.failed, "a key is there that was not reported"
    assert done.keys_deleted + done.keys_absent + done.keys_failed == len(DUE)
    for request in filter(destroys, faulty.proxy.seen):
        assert request.method == "POST"
        objects = named_in(request)
        assert 0 < len(objects) <= 1000
        assert all(one.get("VersionId") for one in objects), "a request that could place a marker"
        assert {one["Key"] for one in objects} <= set(DUE)
        assert "x-amz-bypass-governance-retention" not in request.headers


def run(faulty: Faulty) -> Reconciliation:
    done = destroy_keys(faulty.client, CountingPermit(), VERSIONED, DUE, workers=4)
    assert faulty.struck, "the fault was never injected"
    judge(faulty, done)
    return done


def complete(faulty: Faulty) -> None:
    """A clean run finishes what a red one left."""
    faulty.reset()
    done = destroy_keys(faulty.client, CountingPermit(), VERSIONED, DUE)
    judge(faulty, done)
    assert (done.keys_failed, faulty.left()) == (0, STAYS)


def test_the_same_without_faults(faulty: Faulty) -> None:
    faulty.struck = 1
    done = run(faulty)
    assert (done.keys_deleted, done.keys_failed, faulty.left()) == (len(DUE), 0, STAYS)
    assert (done.versions_deleted, done.markers_deleted) == (len(DUE) + VERSIONS_OF_FIRST - 1, 1)


def test_case_6_a_storm_of_slow_down_that_passes(faulty: Faulty) -> None:
    """Case 6: the first requests of every job are refused; in the end all is done."""
    strikes = faulty.nth(destroys, 1, 2, 3)
    faulty.proxy.instead = lambda request: error_reply(503, "SlowDown") if strikes(request) else None
    done = run(faulty)
    assert (done.keys_failed, faulty.left()) == (0, STAYS)


def test_case_6_a_storm_of_slow_down_that_stays_is_red(faulty: Faulty) -> None:
    strikes = faulty.nth(destroys)
    faulty.proxy.instead = lambda request: error_reply(503, "SlowDown") if strikes(request) else None
    done = run(faulty)
    assert done.failed == frozenset(DUE)
    complete(faulty)


@pytest.mark.parametrize("code", ["InternalError", "AccessDenied", "SlowDown"])
def test_case_6_errors_of_single_keys_in_a_good_answer(faulty: Faulty, code: str) -> None:
    """Case 6: HTTP 200 with errors inside; what can be tried again is, the rest is named and goes with the next run."""
    strikes = faulty.nth(destroys, 1, 3)

    def refuse(request: Request) -> Reply | None:
        if not strikes(request):
            return None
        errors = "".join(
            f"<Error><Key>{one['Key']}</Key><VersionId>{one['VersionId']}</VersionId><Code>{code}</Code></Error>"
            for one in named_in(request)
        )
        return Reply(200, f"<DeleteResult>{errors}</DeleteResult>".encode())

    faulty.proxy.instead = refuse
    done = run(faulty)
    assert bool(done.keys_failed) == (code == "AccessDenied")
    complete(faulty)


@pytest.mark.parametrize("share", [0.0, 0.9])
@pytest.mark.parametrize("kind", [lists, destroys])
def test_a_connection_that_breaks_within_an_answer(
    faulty: Faulty, kind: Callable[[Request], bool], share: float
) -> None:
    """The server has acted, and nobody heard of all of it."""
    strikes = faulty.nth(kind, 1, 4)

    def cut(request: Request, reply: Reply) -> Reply:
        return Reply(reply.status, reply.body, int(len(reply.body) * share)) if strikes(request) else reply

    faulty.proxy.change = cut
    done = run(faulty)
    # What was asked to be destroyed is asked again; a listing is for the client to repeat, and here it may not.
    assert bool(done.keys_failed) == (kind is lists)
    complete(faulty)


@pytest.mark.parametrize("kind", [lists, destroys])
def test_xml_that_ends_too_early(faulty: Faulty, kind: Callable[[Request], bool]) -> None:
    """A listing that seems whole by its length, and is not, must not pass for a short one."""
    strikes = faulty.nth(kind, 2, 5)

    def halve(request: Request, reply: Reply) -> Reply:
        return Reply(reply.status, reply.body[: len(reply.body) // 2]) if strikes(request) else reply

    faulty.proxy.change = halve
    done = run(faulty)
    assert bool(done.keys_failed) == (kind is lists)
    complete(faulty)


def test_an_answer_without_a_body_proves_nothing(faulty: Faulty) -> None:
    """DeleteObjects answers 200 and nothing else, and has done nothing: the second listing tells."""
    strikes = faulty.nth(destroys, 1, 2, 3)
    faulty.proxy.instead = lambda request: Reply(200, b"") if strikes(request) else None
    run(faulty)
    complete(faulty)


def test_a_server_that_lies_for_good_is_red(faulty: Faulty) -> None:
    """Case 7: every deletion is confirmed, none is made."""
    strikes = faulty.nth(destroys)
    faulty.proxy.instead = lambda request: Reply(200, b"<DeleteResult/>") if strikes(request) else None
    assert run(faulty).failed == frozenset(DUE)
    complete(faulty)


def test_a_time_out_after_the_server_has_acted(hasty: Faulty) -> None:
    faulty = hasty
    strikes, over = faulty.nth(destroys, 1), threading.Event()

    def hang(request: Request) -> None:
        if strikes(request):
            over.wait(60)

    faulty.proxy.after = hang
    try:
        run(faulty)
    finally:
        over.set()
    complete(faulty)


@pytest.mark.parametrize(("status", "code"), [(403, "RequestTimeTooSkewed"), (400, "ExpiredToken")])
def test_credentials_or_clocks_that_fail_in_the_middle(
    faulty: Faulty, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """From some request on everything is refused: what was done is counted, the rest is red and goes next time."""
    late, strikes = faulty.nth(anything, *range(12, 2000)), faulty.nth(anything)
    faulty.proxy.instead = lambda request: error_reply(status, code) if late(request) and strikes(request) else None
    with caplog.at_level(logging.DEBUG, logger="lifecycle"):
        done = run(faulty)
    assert done.keys_failed
    assert code in caplog.text
    assert "canary" not in caplog.text
    assert "day/" not in caplog.text
    complete(faulty)


def test_uploads_that_cannot_be_listed_stop_the_deletion_of_their_keys(faulty: Faulty) -> None:
    """Case 14: what may complete behind our back must be known first."""
    strikes = faulty.nth(lambda request: "uploads" in request.query, 1)
    faulty.proxy.instead = lambda request: error_reply(403, "AccessDenied") if strikes(request) else None
    done = run(faulty)
    assert done.keys_failed == 12
    complete(faulty)


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize("key", ["odd/1", "odd/\x01"], ids=["DeleteObjects", "DeleteObject"])
def test_case_27_further_tries_of_the_client_itself_need_the_permit_too(
    faulty: Faulty, s3: S3Client, key: str, mode: Mode
) -> None:
    """The client meets a 503 and would try again by itself; meanwhile another try of the run has taken over."""
    patient = impatient(S3Server(faulty.client.meta.endpoint_url), tries=4, mode=mode)
    named = s3.put_object(Bucket=VERSIONED, Key=key, Body=b"x")["VersionId"]
    strikes = faulty.nth(destroys)
    faulty.proxy.instead = lambda request: error_reply(503, "SlowDown") if strikes(request) else None
    version = ObjectVersion(key, named, False, True, 1, "", datetime.now(UTC))
    with pytest.raises(FencedOutError):
        delete_versions(patient, CountingPermit({2: fenced_out}), VERSIONED, [version])
    assert sum(map(destroys, faulty.proxy.seen)) == 1
    assert s3.head_object(Bucket=VERSIONED, Key=key)["VersionId"] == named
    # Whoever empties the bucket for the next test names keys in XML.
    s3.delete_object(Bucket=VERSIONED, Key=key, VersionId=named)


def test_case_27_an_abort_that_the_client_tries_again_needs_the_permit_too(faulty: Faulty, s3: S3Client) -> None:
    """As above, for an unfinished upload."""
    patient = impatient(S3Server(faulty.client.meta.endpoint_url), tries=4)
    s3.create_multipart_upload(Bucket=VERSIONED, Key="odd/1")
    (upload,) = iter_uploads(s3, VERSIONED, "odd/")
    strikes = faulty.nth(destroys)
    faulty.proxy.instead = lambda request: error_reply(503, "SlowDown") if strikes(request) else None
    with pytest.raises(FencedOutError):
        abort_upload(patient, CountingPermit({2: fenced_out}), VERSIONED, upload)
    assert sum(map(destroys, faulty.proxy.seen)) == 1
    assert list(iter_uploads(s3, VERSIONED, "odd/")) == [upload]


def test_case_27_a_permit_may_use_the_client_itself(faulty: Faulty, s3: S3Client) -> None:
    """What it asks needs no permit; otherwise it would wait for itself."""
    s3.put_object(Bucket=VERSIONED, Key="odd/1", Body=b"x")
    permit = CountingPermit({1: faulty.client.list_buckets})
    assert destroy_keys(faulty.client, permit, VERSIONED, ["odd/1"]).keys_deleted == 1
    assert permit.checks == 1


def test_a_copy_of_a_small_object_is_two_requests_and_waits_for_no_leave(faulty: Faulty, s3: S3Client) -> None:
    """The body goes with the request; who writes otherwise with the same client still asks first."""
    s3.put_object(Bucket=VERSIONED, Key="odd/1", Body=b"x")
    copy_verified(faulty.client, VERSIONED, "odd/1", VERSIONED, "odd/2", by_checksum=True)
    faulty.proxy.seen.clear()
    copy_verified(faulty.client, VERSIONED, "odd/1", VERSIONED, "odd/3", by_checksum=True)
    assert [(request.method, "expect" in request.headers) for request in faulty.proxy.seen] == [
        ("GET", False),
        ("PUT", False),
    ]
    faulty.client.put_object(Bucket=VERSIONED, Key="odd/4", Body=b"x")
    assert "expect" in faulty.proxy.seen[-1].headers
