"""A stage that is disturbed in the middle: killed, cancelled, overtaken by a hold, kept from its views (4, 13, 19).

One table of 400 calls per test, in three batches; a trigger holds the clearing of one row up until it is told.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml

from faults.steps import wait_for
from lifecycle.dispositions import views
from lifecycle.errors import DispositionError
from lifecycle.orchestration import steps
from lifecycle.stores.postgres import requests
from lifecycle.stores.postgres.connect import connect
from lifecycle.stores.postgres.requests import HoldScope
from oracle.stores import Servers
from support.store import Store

pytestmark = [pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROWS, PAUSED_AT = 400, 150  # a batch looks at 100 rows, the next at up to 200, and the last at the rest
BESIDE, ALONE = "public.call_texts", "public.call_count"
TABLES = """
DROP SCHEMA app CASCADE;
DROP SCHEMA research CASCADE;
CREATE TABLE public.calls (call_id text PRIMARY KEY, person text, session text, at timestamptz NOT NULL, said text);
CREATE INDEX ON public.calls (at);
CREATE INDEX ON public.calls (person);
CREATE INDEX ON public.calls (session);
CREATE TABLE public.calls_last (call_id text PRIMARY KEY, text text);
CREATE TABLE public.pause (call_id text PRIMARY KEY);
CREATE MATERIALIZED VIEW public.call_texts AS SELECT call_id, said FROM public.calls;
CREATE UNIQUE INDEX ON public.call_texts (call_id);
CREATE MATERIALIZED VIEW public.call_count AS SELECT count(said) AS texts FROM public.calls;
CREATE FUNCTION public.pausing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    WHILE EXISTS (SELECT FROM public.pause p WHERE p.call_id = OLD.call_id) LOOP PERFORM pg_sleep(0.02); END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER pausing BEFORE UPDATE ON public.calls FOR EACH ROW EXECUTE FUNCTION public.pausing();
"""
DATASETS = {
    "version": 1,
    "evidence_bucket": "lifecycle-evidence",
    "datasets": [
        {
            "id": "calls",
            "type": "table",
            "category": "usage_records",
            "table": "public.calls",
            "key": "call_id",
            "record": "call_id",
            "group": "session",
            "subject": "person",
            "ids": "text",
            "clock": "at",
            "tier_is": "business",
            "stages": [
                {
                    "name": "content",
                    "category": "prompts_and_outputs",
                    "clear": ["said"],
                    "copies": [{"table": "public.calls_last", "key": "call_id", "column": "text"}],
                }
            ],
            "refresh": [BESIDE, ALONE],
        }
    ],
}


class Calls:
    """The calls of one test, all past the end of their content, numbered from the oldest."""

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, uuid4().hex[:8]
        store.sql("TRUNCATE public.calls, public.calls_last, public.pause")
        store.sql("DELETE FROM lifecycle.legal_holds")
        store.sql(
            "INSERT INTO public.calls SELECT %s || n, 'person ' || n, 'session ' || n,"
            " %s::timestamptz + n * interval '1 minute', 'something' FROM generate_series(1, %s) n",
            *(self.name, AS_OF - timedelta(days=60), ROWS),
        )
        store.sql("INSERT INTO public.calls_last SELECT call_id, said FROM public.calls")

    def call(self, number: int) -> str:
        return f"{self.name}{number}"

    def left(self) -> set[int]:
        """The calls that still say something."""
        rows = self.store.sql("SELECT call_id FROM public.calls WHERE said IS NOT NULL")
        return {int(call.removeprefix(self.name)) for (call,) in rows}

    def copies(self) -> int:
        found: int = self.store.value("SELECT count(*) FROM public.calls_last WHERE text IS NOT NULL")
        return found

    def told(self, since: int) -> int:
        """Records that ledger rows after ``since`` say are gone."""
        found: int = self.store.value(
            "SELECT coalesce(sum((counts ->> 'records')::int), 0)::int FROM lifecycle.ledger"
            " WHERE entry = 'outcome' AND dataset = 'calls.content' AND disposition = 'delete' AND seq > %s",
            since,
        )
        return found

    def seq(self) -> int:
        found: int = self.store.value("SELECT coalesce(max(seq), 0) FROM lifecycle.ledger")
        return found

    def pause(self, number: int) -> None:
        self.store.sql("INSERT INTO public.pause VALUES (%s)", self.call(number))

    def go_on(self) -> None:
        self.store.sql("DELETE FROM public.pause")

    def paused(self) -> list[int]:
        """Backends in the middle of the paused row."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            " AND application_name = 'lifecycle'"
        )
        return [pid for (pid,) in self.store.sql(query)]


@pytest.fixture(scope="module")
def store(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    file = tmp_path_factory.mktemp("faults") / "datasets.yaml"
    file.write_text(yaml.safe_dump(DATASETS))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        patch.setenv("LIFECYCLE_POLICY", str(ROOT / "include/policies/litellm.yaml"))
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        with store.connect() as conn:
            conn.execute(TABLES)
        yield store


@pytest.fixture
def calls(store: Store) -> Calls:
    return Calls(store)


@contextmanager
def planned() -> Iterator[int]:
    """A run whose plan is frozen and of which nothing has been carried out; closed at the end."""
    run_id = steps.begin("records", AS_OF, run_key=uuid4().hex)
    try:
        steps.plan(run_id)
        yield run_id
    finally:
        steps.fail(run_id)


def carry_out(run_id: int) -> None:
    for shard in steps.shards(run_id):
        steps.expire_shard(run_id, shard)


def beside(act: Callable[[], Any]) -> Future[Any]:
    """Something that goes on in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(act)
    pool.shutdown(wait=False)
    return done


def test_killed_in_the_middle_of_a_stage_and_run_again(calls: Calls) -> None:
    """Promise 4: what was done before is done once, the batch that was under way not at all, and nothing is missing."""
    since = calls.seq()
    calls.pause(PAUSED_AT)
    with planned() as run_id:
        # Forked as it stands: a fresh interpreter would be importing for longer than all of this takes.
        process = multiprocessing.get_context("fork").Process(target=carry_out, args=(run_id,))
        process.start()
        wait_for(calls.paused)
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        calls.go_on()
        wait_for(lambda: not calls.paused())
        assert calls.left() == set(range(101, ROWS + 1)), "a batch is whole or not at all"
        assert calls.copies() == ROWS - 100
        carry_out(run_id)
        steps.settle(run_id)
    assert (calls.left(), calls.copies(), calls.told(since)) == (set(), 0, ROWS)


def test_a_batch_that_is_cancelled_is_taken_in_smaller_ones(calls: Calls) -> None:
    since = calls.seq()
    calls.pause(PAUSED_AT)
    with planned() as run_id:
        done = beside(lambda: carry_out(run_id))
        wait_for(calls.paused)
        [pid] = calls.paused()
        calls.store.sql("SELECT pg_cancel_backend(%s)", pid)
        calls.go_on()
        done.result(60)
        steps.settle(run_id)
    assert (calls.left(), calls.copies(), calls.told(since)) == (set(), 0, ROWS)


def test_a_backend_that_is_terminated_fails_the_run_and_the_same_run_goes_on(calls: Calls) -> None:
    since = calls.seq()
    calls.pause(PAUSED_AT)
    with planned() as run_id:
        done = beside(lambda: carry_out(run_id))
        wait_for(calls.paused)
        [pid] = calls.paused()
        calls.store.sql("SELECT pg_terminate_backend(%s)", pid)
        calls.go_on()
        with pytest.raises(psycopg.OperationalError):
            done.result(60)
        assert len(calls.left()) == ROWS - 100
        carry_out(run_id)
        steps.settle(run_id)
    assert (calls.left(), calls.copies(), calls.told(since)) == (set(), 0, ROWS)


@pytest.mark.parametrize(
    ("scope", "target"),
    [(HoldScope.ACCOUNT, "person 7"), (HoldScope.CONVERSATION, "session 7"), (HoldScope.MESSAGE, None)],
)
def test_case_4_a_hold_between_the_plan_and_the_stage_wins(calls: Calls, scope: HoldScope, target: str | None) -> None:
    since = calls.seq()
    with planned() as run_id, connect() as conn:
        requests.place_hold(conn, scope, target or calls.call(7), "case 4", "p", AS_OF, timedelta(seconds=30))
        carry_out(run_id)
        steps.settle(run_id)
    assert calls.left() == {7}
    assert calls.copies() == 1, "the copy of what is held is held"
    assert calls.told(since) == ROWS - 1


def test_case_4_a_hold_on_the_whole_stage_stops_all_of_it(calls: Calls) -> None:
    since = calls.seq()
    with planned() as run_id, connect() as conn:
        requests.place_hold(conn, HoldScope.DATASET, "calls", "case 4", "p", AS_OF, timedelta(seconds=30))
        carry_out(run_id)
        steps.settle(run_id)
    assert (len(calls.left()), calls.told(since)) == (ROWS, 0)


def test_case_4_a_hold_between_two_batches_waits_for_the_one_and_wins_against_the_next(calls: Calls) -> None:
    """The paused batch is the second: what it holds is not the hold's any more, what comes after it is."""
    calls.pause(PAUSED_AT)

    def hold_on(number: int) -> None:
        with connect() as conn:
            requests.place_hold(conn, HoldScope.MESSAGE, calls.call(number), "r", "p", AS_OF, timedelta(seconds=30))

    with planned() as run_id:
        done = beside(lambda: carry_out(run_id))
        wait_for(calls.paused)
        held = beside(lambda: hold_on(ROWS))
        wait_for(lambda: waiting_for("lifecycle.legal_holds", calls.store))
        assert not held.done(), "while a batch is being destroyed a hold waits"
        calls.go_on()
        held.result(60)
        done.result(60)
        steps.settle(run_id)
    assert calls.left() == {ROWS}


def waiting_for(relation: str, store: Store) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = %s::regclass AND NOT granted)"
    return bool(store.value(query, relation))


@contextmanager
def reader(store: Store, view: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who has read a view and has not ended the transaction."""
    with psycopg.connect(store.conninfo) as conn:
        conn.execute(f"SELECT * FROM {view}".encode())
        yield conn


@contextmanager
def cleared(calls: Calls) -> Iterator[int]:
    """A run that is done but for what comes last: its views."""
    for view in (BESIDE, ALONE):
        calls.store.sql(f"REFRESH MATERIALIZED VIEW {view}")
    with planned() as run_id:
        carry_out(run_id)
        yield run_id


def shown(store: Store) -> tuple[int, int]:
    """How many texts each view still shows."""
    beside_ = store.value(f"SELECT count(said) FROM {BESIDE}")
    return beside_, store.value(f"SELECT texts FROM {ALONE}")


def test_a_view_with_a_unique_index_is_refreshed_beside_its_readers(calls: Calls) -> None:
    with cleared(calls) as run_id, reader(calls.store, BESIDE):
        assert shown(calls.store) == (ROWS, ROWS)
        assert steps.settle(run_id)["views refreshed"] == 2
        assert shown(calls.store) == (0, 0)


def test_a_view_that_somebody_reads_is_tried_again_until_the_reader_is_done(calls: Calls) -> None:
    with cleared(calls) as run_id, ThreadPoolExecutor(1) as pool:
        with reader(calls.store, ALONE):
            settled = pool.submit(steps.settle, run_id)
            wait_for(lambda: waiting_for(ALONE, calls.store))
            assert not settled.done()
        assert settled.result(60)["views refreshed"] == 2
    assert shown(calls.store) == (0, 0)


def test_case_19_who_asks_behind_a_waiting_refresh_is_let_past(calls: Calls) -> None:
    """The first reader never ends; the second must not wait for it only because we stand between."""
    with cleared(calls) as run_id, reader(calls.store, ALONE) as first, ThreadPoolExecutor(1) as pool:
        settled = pool.submit(steps.settle, run_id)
        wait_for(lambda: waiting_for(ALONE, calls.store))
        with psycopg.connect(calls.store.conninfo) as second:
            second.execute("SET lock_timeout = '20s'")
            assert second.execute(f"SELECT texts FROM {ALONE}".encode()).fetchone() == (ROWS,)
        first.rollback()
        settled.result(60)


def test_a_view_that_stays_locked_fails_the_run_and_the_next_one_refreshes_it(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PATIENCE_SECONDS", 0.0)
    with cleared(calls) as run_id:
        with reader(calls.store, ALONE), pytest.raises(DispositionError) as caught:
            steps.settle(run_id)
        assert caught.value.counts == {"views not refreshed": 1, "views refreshed": 1}
        assert shown(calls.store) == (0, ROWS), "the other view was refreshed all the same"
        assert steps.settle(run_id)["views refreshed"] == 1
    assert shown(calls.store) == (0, 0)
