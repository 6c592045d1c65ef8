"""What others do while a run is under way: holds, a second run, other clocks, an application that still writes."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from faults.steps import kill, runs_begun, wait_for
from oracle.busy import AS_OF, busy_world
from oracle.compare import place_of
from oracle.facts import Flag, Message, StoredObject, World, ident
from oracle.ledger import last_seq
from oracle.load import DATA, LOGS, QUARANTINE, app_content
from oracle.observe import changed, fingerprint
from oracle.oracle import Place
from oracle.s3proxy import Proxy, Request, proxied
from oracle.stores import Servers, full_run, look, run, run_process
from support.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BUCKETS = (DATA, LOGS, QUARANTINE, "research")
DAY = timedelta(days=1)


@contextmanager
def through_proxy(store: Store) -> Iterator[tuple[Proxy, Store]]:
    """The same store, whose S3 requests pass by us."""
    with proxied(store.s3_server) as (proxy, endpoint):
        env = {**store.env, "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(endpoint.airflow_connection())}
        yield proxy, replace(store, env=env)


# Case 4 -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """A hold that was committed, and where its message was seen after that."""

    message_id: UUID
    place: Place


def place_hold(conn: Connection[tuple[object, ...]], message: Message) -> Witness | None:
    """Commit a hold as another system would, and look where the message is; None when it was gone already."""
    conn.execute(
        """INSERT INTO lifecycle.legal_holds (hold_id, scope, target, reason, placed_by, placed_at)
           VALUES (%s, 'message', %s, 'litigation', 'counsel', clock_timestamp())""",
        (uuid4(), str(message.message_id)),
    )
    if conn.execute("SELECT FROM app.messages WHERE message_id = %s", (message.message_id,)).fetchall():
        return Witness(message.message_id, Place.APP)
    if conn.execute("SELECT FROM lifecycle.quarantine WHERE message_id = %s", (message.message_id,)).fetchall():
        return Witness(message.message_id, Place.QUARANTINE)
    return None


@pytest.mark.parametrize("seed", range(3))
def test_a_hold_that_commits_during_a_run_wins_case_4(servers: Servers, seed: int) -> None:
    """No message that was there once its hold had committed is missing, moved or without its object afterwards."""
    world, dice = busy_world(), random.Random(seed)
    targets = [m for m in world.messages if m.received_at < AS_OF - DAY * 26]
    dice.shuffle(targets)
    with servers.store(world) as store, store.connect() as conn:
        process = run_process(store, AS_OF)
        assert wait_for(lambda: runs_begun(conn), process)
        witnesses = []
        pause = threading.Event()
        for target in targets:
            if process.poll() is not None:
                break
            witnesses.append(place_hold(conn, target))
            pause.wait(dice.uniform(0, 0.04))
        stdout, stderr = process.communicate()
        seen = look(store)
    assert process.returncode == 0, stdout[-2000:] + stderr[-2000:]
    kept = [witness for witness in witnesses if witness is not None]
    assert kept, "no hold was committed in time; the test saw nothing"
    moved = [w for w in kept if place_of(w.message_id, seen) is not w.place]
    assert moved == []
    for m in world.messages:
        if m.stored is not None and m.message_id in {w.message_id for w in kept if w.place is Place.APP}:
            stored = seen.app[m.message_id].stored
            assert stored is not None and stored.content == m.stored.content


@pytest.mark.embedded_s3
@pytest.mark.parametrize("flagged", [False, True])
def test_a_hold_placed_as_the_first_object_is_about_to_go_wins_or_waits_case_4(servers: Servers, flagged: bool) -> None:
    """The hold is sent when the run's destroying request is already on its way: it may wait, it may not be ignored."""
    m = _stored("held", AS_OF - DAY * 100)
    flags = (Flag(m.message_id, m.account_id, m.received_at),) if flagged else ()
    with servers.store(World(messages=(m,), flags=flags)) as plain, through_proxy(plain) as (proxy, store):
        witnesses: list[Witness | None] = []
        threads: list[threading.Thread] = []

        def hold() -> None:
            with plain.connect() as conn:
                witnesses.append(place_hold(conn, m))

        def step_in(request: Request) -> None:
            if request.destroys and request.bucket == DATA and not threads:
                threads.append(threading.Thread(target=hold))
                threads[0].start()
                threads[0].join(timeout=1.0)

        proxy.before = step_in
        done = run(store, AS_OF)
        for thread in threads:
            thread.join(timeout=30)
        seen = look(plain)
    assert threads, "the run destroyed nothing; the test saw nothing"
    assert done.code == 0, str(done)
    for witness in filter(None, witnesses):
        assert place_of(m.message_id, seen) is witness.place
        if witness.place is Place.APP:
            assert seen.data[m.partitioned_key].content == m.stored.content if m.stored else True


# Two runs at once -------------------------------------------------------------------------------------------------


def test_of_two_runs_at_once_the_second_is_refused(servers: Servers) -> None:
    with servers.store(busy_world()) as store, store.connect() as conn:
        with store.connect() as blocker, blocker.transaction():
            # The first run cannot get past the exceptions while we hold this; both wait for nothing else.
            blocker.execute("LOCK TABLE app.safety_flags IN ACCESS EXCLUSIVE MODE")
            process = run_process(store, AS_OF)
            assert wait_for(lambda: runs_begun(conn), process)
            second = run(store, AS_OF)
        stdout, stderr = process.communicate()
    assert second.code == 1, str(second)
    assert "under way" in second.stderr + second.stdout
    assert "Traceback" not in second.stderr
    assert process.returncode == 0, stdout[-2000:] + stderr[-2000:]


def test_a_run_after_a_killed_one_is_not_refused_case_27(servers: Servers) -> None:
    with servers.store(busy_world(accounts_per_tier=2)) as store, store.connect() as conn:
        process = run_process(store, AS_OF)
        assert wait_for(lambda: runs_begun(conn), process)
        kill(process)
        assert run(store, AS_OF).code == 0


def test_a_later_as_of_after_a_killed_run_takes_over(servers: Servers) -> None:
    """The day after: nobody ever repeats the killed run, and its half-done work must not stay half done."""
    from oracle.compare import differences, report
    from oracle.endstate import judge_run

    world, tomorrow = busy_world(accounts_per_tier=3), AS_OF + DAY
    with servers.store(world) as store, store.connect() as conn:
        process = run_process(store, AS_OF)
        assert wait_for(lambda: runs_begun(conn), process)
        wait_for(lambda: conn.execute("SELECT FROM lifecycle.ledger").fetchone() is not None, process)
        kill(process)
        done = run(store, tomorrow)
        research = {m.message_id for m in world.messages if m.tier == "evaluation"}
        found = differences(judge_run(world, tomorrow), look(store))
    assert done.code == 0, str(done)
    assert research
    assert not found, report(found)


# Clocks -----------------------------------------------------------------------------------------------------------


def test_an_as_of_in_the_future_is_refused_case_9(servers: Servers) -> None:
    with servers.store(busy_world(accounts_per_tier=2)) as store, store.connect() as conn:
        before = fingerprint(conn, store.s3, BUCKETS)
        done = run(store, datetime.now(UTC) + timedelta(hours=1))
        after = fingerprint(conn, store.s3, BUCKETS)
    assert done.code == 1, str(done)
    assert "future" in (done.stderr + done.stdout).lower()
    assert changed(before, after) == {}


def test_an_as_of_in_the_past_only_makes_cutoffs_older_case_9(servers: Servers) -> None:
    """After today's run, a run for last week destroys nothing more. It may quarantine what was flagged then."""
    with servers.store(busy_world(accounts_per_tier=3)) as store, store.connect() as conn:
        assert run(store, AS_OF).code == 0
        before = look(store)
        seq = last_seq(conn)
        assert run(store, AS_OF - DAY * 7).code == 0
        after = look(store)
        deeds = conn.execute("SELECT DISTINCT disposition FROM lifecycle.ledger WHERE seq > %s", (seq,)).fetchall()
    assert after.app.keys() | after.index.keys() == before.app.keys() | before.index.keys()
    assert (after.scores, after.feedback, after.logs, after.research) == (
        before.scores,
        before.feedback,
        before.logs,
        before.research,
    )
    assert {disposition for (disposition,) in deeds} <= {"quarantine", "restore"}


@pytest.mark.embedded_s3
@pytest.mark.parametrize("skew", [timedelta(hours=1), -timedelta(hours=1)])
def test_a_clock_of_s3_that_is_off_is_refused_case_10(servers: Servers, skew: timedelta) -> None:
    with servers.store(busy_world(accounts_per_tier=2)) as plain, through_proxy(plain) as (proxy, store):
        proxy.skew = skew
        with plain.connect() as conn:
            before = fingerprint(conn, plain.s3, BUCKETS)
            done = run(store, AS_OF)
            after = fingerprint(conn, plain.s3, BUCKETS)
    assert done.code == 1, str(done)
    assert "clock" in (done.stderr + done.stdout).lower()
    assert changed(before, after) == {}


@pytest.mark.embedded_s3
def test_a_run_through_the_proxy_is_the_same_run(servers: Servers) -> None:
    """The proxy itself disturbs nothing; what the tests above see is what they did."""
    with servers.store(busy_world(accounts_per_tier=2)) as plain, through_proxy(plain) as (proxy, store):
        done = full_run(store, AS_OF)
        assert done.code == 0, str(done)
        assert proxy.writes > 0


# Case 15 ----------------------------------------------------------------------------------------------------------


def _stored(name: str, received_at: datetime, *, landing: bool = False) -> Message:
    m = Message(ident(name), ident(name, "c"), ident(name, "a"), "consumer", "prompt", received_at, body=None)
    key = m.landing_key if landing else m.partitioned_key
    return replace(m, stored=StoredObject(key, (app_content(m, "first"),)))


@pytest.mark.embedded_s3
@pytest.mark.parametrize("moment", ["as it is read", "before it is destroyed"])
def test_a_landing_object_overwritten_during_the_run_is_not_lost_case_15(servers: Servers, moment: str) -> None:
    """The application writes a message again while its first version is being moved: the newest one survives."""
    m = _stored("landing", AS_OF - DAY * 2, landing=True)
    newest = app_content(m, "second, written during the run")
    with servers.store(World(messages=(m,))) as plain, through_proxy(plain) as (proxy, store):
        struck = _overwrite_once(proxy, plain, m, newest, destroying=moment == "before it is destroyed")
        run(store, AS_OF)
        assert struck.is_set(), "the run never touched the object; the test saw nothing"
        final = run(plain, AS_OF)
        seen = look(plain)
    assert final.code == 0, str(final)
    stored = seen.app[m.message_id].stored
    assert stored is not None and stored.content == newest
    assert [key for key in seen.data if key != stored.key] == []


@pytest.mark.embedded_s3
@pytest.mark.parametrize("moment", ["as it is read", "before it is destroyed"])
def test_a_flagged_object_overwritten_during_the_run_is_not_lost_case_15(servers: Servers, moment: str) -> None:
    m = _stored("flagged", AS_OF - DAY * 2)
    newest = app_content(m, "second, written during the run")
    world = World(messages=(m,), flags=(Flag(m.message_id, m.account_id, m.received_at),))
    with servers.store(world) as plain, through_proxy(plain) as (proxy, store):
        struck = _overwrite_once(proxy, plain, m, newest, destroying=moment == "before it is destroyed")
        run(store, AS_OF)
        assert struck.is_set(), "the run never touched the object; the test saw nothing"
        run(plain, AS_OF)
        seen = look(plain)
    contents = [stored.content for stored in (*seen.data.values(), *seen.quarantine.values())]
    assert newest in contents


def _overwrite_once(proxy: Proxy, plain: Store, m: Message, content: bytes, *, destroying: bool) -> threading.Event:
    """Write the object again, behind the proxy's back, right before the run's first request of a kind for it."""
    struck, lock = threading.Event(), threading.Lock()
    assert m.stored is not None
    key = m.stored.key

    def step_in(request: Request) -> None:
        if request.bucket not in (DATA, QUARANTINE):
            return
        touches = str(m.message_id) in request.key or str(m.message_id) in (request.copy_source or "")
        wanted = request.destroys and request.bucket == DATA if destroying else touches
        with lock:
            if not wanted or struck.is_set():
                return
            struck.set()
        plain.put_object(DATA, key, content)

    proxy.before = step_in
    return struck
