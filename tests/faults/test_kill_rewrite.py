"""Promise 4: a rewrite of one object is killed (SIGKILL) and run again; the end is what the oracle says.

At every request to S3 in turn, before it is made and after it was answered, and at instants at random in between, while
files are read, judged and written. Each try is a process of its own, forked from this one.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults.strikes import ASKED, POINTS, TIMEOUT, Strikes
from lifecycle.demo.servers import S3Server
from lifecycle.stores.s3.logs import RewriteResult, rewrite_object
from lifecycle.stores.s3.records import Judge, LogFields, Ordinary
from lifecycle.stores.s3.versions import key_versions
from support.permits import CountingPermit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = TIMEOUT

BUCKET = "product-logs"
FIELDS = LogFields("message_id", "account_id", "tier", "received_at")
CUTOFF = datetime(2026, 6, 1, tzinfo=UTC)
ROWS = 2000
# So many are made of one object at most.
REQUESTS = 11
# At each request before and after, and the rest of what was asked for at instants; half of it for each form.
INSTANTS = 4 if ASKED is None else max(4, POINTS // 2 - 2 * REQUESTS)
# A process that has not ended after this long never will.
PATIENCE = 60.0


def decide(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
    return "beta_default" if clock is not None and clock < CUTOFF else None


JUDGE = Judge(decide, Ordinary({"beta": (CUTOFF, "beta_default")}, frozenset(), frozenset()))


def records() -> list[dict[str, str]]:
    days = [f"2026-0{5 if n % 10 == 3 else 6}-02T00:00:00Z" for n in range(ROWS)]
    return [
        {"message_id": f"m{n}", "account_id": f"a{n % 7}", "tier": "beta", "received_at": day, "body": "x" * (n % 300)}
        for n, day in enumerate(days)
    ]


def encoded(form: str, some: list[dict[str, str]]) -> bytes:
    if form == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(some), sink, row_group_size=500)
        packed: bytes = sink.getvalue().to_pybytes()
        return packed
    return gzip.compress("".join(json.dumps(one) + "\n" for one in some).encode())


def decoded(form: str, body: bytes) -> list[dict[str, str]]:
    if form == "parquet":
        rows: list[dict[str, str]] = pq.read_table(pa.BufferReader(body)).to_pylist()
        return rows
    return [json.loads(line) for line in gzip.decompress(body).splitlines()]


def key_of(form: str) -> str:
    return f"requests/date=2026-06-01/part-0.{form}"


class Doomed:
    """A client whose process ends at its n-th request (listings aside, which change nothing), before or after it."""

    def __init__(self, client: Any, nth: int, *, served: bool) -> None:
        self._client, self._nth, self._served, self._count = client, nth, served, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name == "get_paginator" or not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            if self._count == self._nth and not self._served:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **kwargs)
            finally:
                # Also after an answer that is an error, as that to a question about locks is.
                if self._count == self._nth:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call


def forked(work: Callable[[], object], *, kill_after: float | None = None) -> int | None:
    """Do it in a process forked from this one. Its exit code; negative if it was killed."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(PATIENCE if kill_after is None else kill_after)
    if process.exitcode is None:
        assert kill_after is not None, "it never ended"
        process.kill()
        process.join(PATIENCE)
    return process.exitcode


def begin(s3: S3Client, form: str, body: bytes) -> None:
    for version in key_versions(s3, BUCKET, key_of(form)):
        s3.delete_object(Bucket=BUCKET, Key=key_of(form), VersionId=version.version_id)
    s3.put_object(Bucket=BUCKET, Key=key_of(form), Body=body)


def rewrite(s3: Any, form: str, clear: tuple[str, ...]) -> RewriteResult:
    fields = replace(FIELDS, clear=clear)
    return rewrite_object(s3, CountingPermit(), BUCKET, key_of(form), fields, JUDGE)


@pytest.mark.parametrize(("form", "clear"), [("jsonl.gz", ()), ("parquet", ()), ("parquet", ("body",))])
def test_a_killed_rewrite_that_is_run_again_ends_as_the_oracle_says(
    s3: S3Client, s3_server: S3Server, form: str, clear: tuple[str, ...]
) -> None:
    body, young = encoded(form, records()), [one for one in records() if one["received_at"] > "2026-06"]
    stays = [one if one in young else one | dict.fromkeys(clear) for one in records() if clear or one in young]
    told = RewriteResult("rewritten", ROWS, len(young), {"beta_default": ROWS - len(young)}, 0, 1)
    done = RewriteResult("unchanged", len(stays), len(stays))

    begin(s3, form, body)
    began = time.monotonic()
    assert forked(lambda: rewrite(s3_server.client(), form, clear)) == 0
    seconds = time.monotonic() - began

    def is_whole() -> list[str]:
        """What is wrong between the two tries, and after the second."""
        there = decoded(form, s3.get_object(Bucket=BUCKET, Key=key_of(form))["Body"].read())
        wrong = [] if [one for one in there if one["received_at"] > "2026-06"] == young else ["early"]
        wrong += [] if there in (stays, records()) else ["neither as it was nor as it shall be"]
        again = rewrite(s3, form, clear)
        wrong += [] if again in (told, done) else [str(again)]
        (last,) = key_versions(s3, BUCKET, key_of(form))
        there = decoded(form, s3.get_object(Bucket=BUCKET, Key=last.key)["Body"].read())
        return wrong + ([] if there == stays else ["the rest differs"])

    points = [(nth, served) for nth in range(1, REQUESTS + 1) for served in (False, True)]
    dice, strikes = random.Random(form), Strikes(f"rewrite of {form}", len(points) + INSTANTS)
    for nth, served in points:
        begin(s3, form, body)
        code = forked(partial(rewrite, Doomed(s3_server.client(), nth, served=served), form, clear))
        where = f"{'after' if served else 'before'} request {nth}"
        strikes.add(where, struck=code == -signal.SIGKILL, wrong=is_whole())
        if code == 0:
            break  # there are no more requests than that
    for _ in range(strikes.planned - strikes.made if ASKED else INSTANTS):
        begin(s3, form, body)
        delay = dice.uniform(0, seconds)
        code = forked(lambda: rewrite(s3_server.client(), form, clear), kill_after=delay)
        strikes.add(f"{delay:.3f} s of {seconds:.3f}", struck=code == -signal.SIGKILL, wrong=is_whole())
    assert strikes.wrong == []
    assert strikes.alive >= 6, "most had ended before they were killed; the test saw little"
    uploads = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert uploads == []
