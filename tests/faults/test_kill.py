"""Promise 4: the run is killed (SIGKILL) at 50 points and run again; end state and ledger are those of one clean run.

Thirty of the points are instants at random within the run, twenty are requests to S3: killed before the request is
served, or after it is and before the run hears of it. Five points lie in a run of everything, forty-five in runs of
one scope, as a DAG's run is.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from subprocess import TimeoutExpired
from typing import Any

import pytest

from faults.steps import end_state, kill, plain_ledger, runs_begun, unlike, wait_for
from lifecycle.demo.servers import S3Server
from oracle.busy import AS_OF, busy_world
from oracle.facts import World
from oracle.forked import Forked
from oracle.s3proxy import Request, proxied
from oracle.stores import Servers, run, run_process
from support.store import Store

pytestmark = [pytest.mark.kill, pytest.mark.slow, pytest.mark.embedded_s3, pytest.mark.timeout(1800)]

SCOPES = ("consumer", "evaluation", "business", "records")
EVERYTHING = pytest.param(None, id="everything")
# By time and by request. A run of everything is long, and what can be hit in it is what its scopes do.
POINTS = {None: (3, 2), "consumer": (7, 5), "evaluation": (7, 4), "business": (7, 4), "records": (6, 5)}
# One of each: fresh, past business, past consumer, past the end of quarantine. A run costs what its days cost.
AGES = (1, 26, 88, 800)


@dataclass(frozen=True)
class Clean:
    """One run that nobody disturbed, and how long its work took from the moment it showed itself."""

    scope: str | None
    world: World
    snapshot: str
    state: dict[str, Any]
    ledger: Counter[str]
    seconds: float
    writes: int


@pytest.fixture(scope="module")
def clean(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Clean]:
    scope: str | None = request.param
    world = busy_world(ages=AGES)
    with servers.snapshot(world) as snapshot:
        with servers.copy_of(snapshot, world) as store, proxied(servers.s3_server) as (proxy, endpoint):
            undisturbed(store, start(store, scope, endpoint_of=endpoint))
            with store.connect() as conn:
                state, ledger, writes = end_state(store), plain_ledger(conn), proxy.writes
        with servers.copy_of(snapshot, world) as store:
            # Once more without the proxy, now that every file it reads is in memory: this is how long it takes.
            seconds = undisturbed(store, start(store, scope))
            assert unlike(state, end_state(store)) == {}, "two clean runs differ; there is nothing to compare with"
        yield Clean(scope, world, snapshot, state, ledger, seconds, writes)


def undisturbed(store: Store, process: Forked) -> float:
    """Let the run end; how many seconds its work took from the moment it showed itself."""
    with store.connect() as conn:
        assert wait_for(lambda: runs_begun(conn), process)
    began = time.monotonic()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stdout[-3000:] + stderr[-3000:]
    return time.monotonic() - began


def start(store: Store, scope: str | None, *, endpoint_of: S3Server | None = None) -> Forked:
    """The run as a process of its own, at the given S3 endpoint."""
    if endpoint_of is not None:
        env = {**store.env, "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(endpoint_of.airflow_connection())}
        store = replace(store, env=env)
    return run_process(store, AS_OF, scope)


def killed_at_instant(store: Store, scope: str | None, seconds: float) -> bool:
    """Kill so long after the run has shown itself; False when it had ended by then."""
    process = start(store, scope)
    with store.connect() as conn:
        wait_for(lambda: runs_begun(conn), process)
    try:
        process.communicate(timeout=seconds)
        return False
    except TimeoutExpired:
        kill(process)
        return True


def killed_at_request(store: Store, scope: str | None, nth: int, *, served: bool) -> bool:
    """Kill at the ``nth`` writing request, before it is forwarded or once it has been served; False if none came."""
    with proxied(store.s3_server) as (proxy, endpoint):
        lock, count = threading.Lock(), 0
        process = start(store, scope, endpoint_of=endpoint)

        def strike(request: Request) -> None:
            nonlocal count
            if not request.writes:
                return
            with lock:
                count += 1
                now = count
            if now == nth:
                os.kill(process.pid, signal.SIGKILL)
            if now >= nth:
                raise ConnectionAbortedError("nobody is left to hear the answer")

        if served:
            proxy.after = strike
        else:
            proxy.before = strike
        process.communicate(timeout=600)
        return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("clean", [EVERYTHING, *SCOPES], indirect=True)
def test_a_killed_run_that_is_run_again_ends_as_one_clean_run(servers: Servers, clean: Clean) -> None:
    dice = random.Random(clean.scope or "everything")
    failures, struck = [], 0
    by_time, by_request = POINTS[clean.scope]
    for n in range(by_time + by_request):
        with servers.copy_of(clean.snapshot, clean.world) as store:
            if n < by_time:
                delay = dice.uniform(0, clean.seconds)
                point = f"{delay:.3f} s into the run"
                struck += killed_at_instant(store, clean.scope, delay)
            else:
                nth, served = dice.randint(1, clean.writes), bool(dice.getrandbits(1))
                point = f"{'after' if served else 'before'} writing request {nth}"
                struck += killed_at_request(store, clean.scope, nth, served=served)
            failures += [f"killed {point}: {what}" for what in rerun(store, clean)]
    assert failures == []
    assert struck >= (by_time + by_request) // 2, "most runs had ended before they were killed; the test saw little"


def rerun(store: Store, clean: Clean) -> list[str]:
    """Run again with the same as-of; every way in which the outcome is not the clean run's."""
    again = run(store, AS_OF, scope=clean.scope)
    if again.code != 0:
        return [f"the second run failed: {again}"]
    with store.connect() as conn:
        ledger = plain_ledger(conn)
    found = [f"{name}: {how}" for name, how in unlike(clean.state, end_state(store)).items()]
    lost, extra = clean.ledger - ledger, ledger - clean.ledger
    if lost or extra:
        found.append(f"ledger lacks {sorted(lost.elements())[:5]} and has besides {sorted(extra.elements())[:5]}")
    if store.cli("ledger", "verify", check=False).returncode != 0:
        found.append("the ledger does not verify")
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("clean", [EVERYTHING], indirect=True)
def test_a_run_killed_many_times_in_a_row_still_ends_as_one_clean_run(servers: Servers, clean: Clean) -> None:
    """Every try is killed a little later than the one before, until one is left alone."""
    with servers.copy_of(clean.snapshot, clean.world) as store:
        for share in (0.1, 0.2, 0.35, 0.5, 0.7, 0.9):
            killed_at_instant(store, clean.scope, clean.seconds * share)
        assert rerun(store, clean) == []
