"""SIGKILL between any two requests of the S3 engine, then once more: as if it had never been killed.

`make test-kill` strikes 50 times at each of four kinds of work: these three, and rewriting (test_kill_rewrite.py).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from multiprocessing.context import ForkServerContext
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest

from faults.strikes import POINTS, TIMEOUT, Strikes
from lifecycle.demo.servers import S3Server
from lifecycle.stores.s3 import destroy
from lifecycle.stores.s3.copy import copy_verified, put_verified
from lifecycle.stores.s3.destroy import Locks, destroy_keys, destroy_versions
from lifecycle.stores.s3.versions import ObjectVersion, iter_versions, key_versions
from oracle.s3proxy import Proxy, Request, proxied
from support.permits import CountingPermit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.kill, TIMEOUT]

BUCKET, QUARANTINE = "product-data", "quarantine"
NAMES = tuple(f"{number:02}.json" for number in range(10))
STAYS = frozenset(name for number, name in enumerate(NAMES) if number % 5 == 3)
STAYING = {name: (2, b"new " + name.encode()) for name in STAYS}
DUE = tuple(name for name in NAMES if name not in STAYS)
TIMES = {"received-at": "2026-06-01T00:00:00+00:00"}
Work = Callable[["S3Client", str], None]


def delete(s3: S3Client, prefix: str) -> None:
    """Everything that is due, in several windows and jobs."""
    done = destroy_keys(s3, CountingPermit(), BUCKET, [prefix + name for name in DUE], workers=2)
    assert not done.failed


def partition(s3: S3Client, prefix: str) -> None:
    """Copy, prove, and only then remove the versions that were copied: as landing objects move to their day."""
    for name in DUE:
        source = key_versions(s3, BUCKET, prefix + name)
        if source:
            target, latest = f"{prefix}moved/{name}", source[0].version_id
            copy_verified(s3, BUCKET, prefix + name, BUCKET, target, source_version=latest, by_checksum=True)
            destroy_versions(s3, CountingPermit(), BUCKET, {prefix + name: source}, Locks.of(s3, BUCKET))


def move(s3: S3Client, prefix: str) -> None:
    """As flagged objects move to quarantine: a record beside the copy, both read back, then the source goes."""
    for name in DUE:
        source, there = key_versions(s3, BUCKET, prefix + name), f"{prefix}{name}/"
        put_verified(s3, QUARANTINE, f"{there}record.json", b"{}", content_type="application/json", metadata=TIMES)
        if source:
            latest = source[0].version_id
            copy_verified(
                s3, BUCKET, prefix + name, QUARANTINE, f"{there}object", metadata=TIMES, source_version=latest
            )
            destroy_versions(s3, CountingPermit(), BUCKET, {prefix + name: source}, Locks.of(s3, BUCKET))


def in_child(work: Work, server: dict[str, Any], prefix: str) -> None:
    destroy.WINDOW, destroy.SMALLEST_JOB = 5, 3  # so that a small world has several windows
    work(S3Server(**server).client(), prefix)


@pytest.fixture(scope="module")
def forked() -> ForkServerContext:
    """Children that start at once, since everything is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boto3", "faults.warm", "faults.test_kill_engine"])
    return context


@dataclass
class Ground:
    """Where the work is done, and what stands there."""

    s3: S3Client
    server: S3Server
    forked: ForkServerContext

    def fill(self, prefix: str) -> None:
        """Two versions of each."""
        with ThreadPoolExecutor(8) as pool:
            for version in (b"old ", b"new "):
                list(pool.map(lambda name, v=version: self._put(prefix + name, v + name.encode()), NAMES))

    def _put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def state(self, prefix: str) -> dict[str, tuple[int, bytes]]:
        """Per key how many versions it has, and what the latest says; of copies in quarantine below "quarantine/"."""
        stored = [
            (bucket, key, list(versions))
            for bucket in (BUCKET, QUARANTINE)
            for key, versions in groupby(iter_versions(self.s3, bucket, prefix), key=attrgetter("key"))
        ]

        def read(one: tuple[str, str, list[ObjectVersion]]) -> tuple[str, tuple[int, bytes]]:
            bucket, key, versions = one
            body = self.s3.get_object(Bucket=bucket, Key=key, VersionId=versions[0].version_id)["Body"].read()
            place = "quarantine/" if bucket == QUARANTINE else ""
            return place + key.removeprefix(prefix), (len(versions), body)

        with ThreadPoolExecutor(8) as pool:
            return dict(pool.map(read, stored))

    def requests_of(self, work: Work, prefix: str) -> int:
        """How many requests a run makes that nobody disturbs."""
        self.fill(prefix)
        with proxied(self.server) as (proxy, endpoint):
            self._run(work, prefix, endpoint)
            return len(proxy.seen)

    def _run(self, work: Work, prefix: str, server: S3Server) -> Any:
        process = self.forked.Process(target=in_child, args=(work, asdict(server), prefix))
        process.start()
        process.join(120)
        return process.exitcode

    def strike(self, work: Work, prefix: str, nth: int, *, served: bool) -> bool:
        """Kill at the ``nth`` request, before it reaches the server or after it was served; False if none came."""
        with proxied(self.server) as (proxy, endpoint):
            process = self.forked.Process(target=in_child, args=(work, asdict(endpoint), prefix))
            _kill_at(proxy, nth, served, lambda: os.kill(process.pid or 0, signal.SIGKILL))
            process.start()
            process.join(120)
            return process.exitcode == -signal.SIGKILL


def _kill_at(proxy: Proxy, nth: int, served: bool, kill: Callable[[], None]) -> None:
    count, lock = 0, threading.Lock()

    def strike(_: Request) -> None:
        nonlocal count
        with lock:
            count += 1
            now = count
        if now == nth:
            kill()
        if now >= nth:
            raise ConnectionAbortedError("nobody is left to hear the answer")

    if served:
        proxy.after = strike
    else:
        proxy.before = strike


@pytest.fixture
def ground(s3: S3Client, s3_server: S3Server, forked: ForkServerContext) -> Iterator[Ground]:
    yield Ground(s3, replace(s3_server, pid=None), forked)


def deleted(state: dict[str, tuple[int, bytes]]) -> bool:
    return state == STAYING


def partitioned(state: dict[str, tuple[int, bytes]]) -> bool:
    return state == STAYING | {f"moved/{name}": (1, b"new " + name.encode()) for name in DUE}


def moved(state: dict[str, tuple[int, bytes]]) -> bool:
    records = {f"quarantine/{name}/record.json": (1, b"{}") for name in DUE}
    return state == STAYING | records | {f"quarantine/{name}/object": (1, b"new " + name.encode()) for name in DUE}


def nothing_lost(work: Work, state: dict[str, tuple[int, bytes]]) -> bool:
    """At the instant of death: what stays is whole, and what moves stands somewhere with its latest content."""
    if any(state.get(name) != there for name, there in STAYING.items()):
        return False
    if work is delete:
        # The latest goes last: no older version has come to light.
        return all(body == b"new " + name.encode() for name, (_, body) in state.items())
    copies = "moved/{}" if work is partition else "quarantine/{}/object"
    return all(
        any(state.get(place, (0, b""))[1] == b"new " + name.encode() for place in (name, copies.format(name)))
        for name in DUE
    )


@pytest.mark.parametrize(("work", "finished"), [(delete, deleted), (partition, partitioned), (move, moved)])
def test_killed_at_any_request_and_run_again(ground: Ground, work: Work, finished: Callable[..., bool]) -> None:
    """Promises 3 and 4."""
    total = ground.requests_of(work, "clean/")
    assert finished(ground.state("clean/")), "the clean run itself did not end as it should"
    dice, strikes = random.Random(f"{work.__name__}/{POINTS}"), Strikes(work.__name__, POINTS)
    for point in range(POINTS):
        prefix, nth, served = f"p{point:03}/", dice.randint(1, total), bool(dice.getrandbits(1))
        ground.fill(prefix)
        struck = ground.strike(work, prefix, nth, served=served)
        wrong = [] if nothing_lost(work, ground.state(prefix)) else ["lost"]
        work(ground.s3, prefix)
        wrong += [] if finished(ground.state(prefix)) else ["not finished when run again"]
        where = f"{'after' if served else 'before'} request {nth} of {total}"
        strikes.add(where, struck=struck, wrong=wrong)
    assert strikes.wrong == []
    assert strikes.alive >= POINTS * 0.7, "most had ended before they were killed; the test saw little"
