"""Tables without partitions: the run's budget, its pace, rows in use, and what is said of what was left (case 19)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import yaml

from lifecycle.dispositions import gate, pacer, walks
from lifecycle.dispositions.batching import BUDGET_FATE
from lifecycle.errors import DispositionError, StatementTooSlowError, ValidationFailedError
from lifecycle.orchestration import steps
from lifecycle.planning.pacing import TRICKLE, Reading
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from support.store import Store

pytestmark = pytest.mark.timeout(300)
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
RULE = "delete:safety_scores"
UNIT = "safety_scores"


@dataclass(frozen=True)
class Scores:
    """A store with due scores, and a run of them at a pace."""

    store: Store
    file: Path

    def pace(self, **pace: object) -> None:
        data = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
        next(item for item in data["datasets"] if item["id"] == UNIT)["pace"] = pace
        self.file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    def insert(self, count: int) -> None:
        self.store.sql(
            "INSERT INTO app.safety_scores SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'consumer',"
            " 'c', 0.5, timestamptz '2019-01-01Z' + n * interval '1 minute' FROM generate_series(1, %s) n",
            count,
        )

    def planned(self, as_of: datetime = AS_OF) -> int:
        run_id = steps.begin("records", as_of, run_key=f"test/{as_of.isoformat()}")
        steps.partition(run_id)
        steps.plan(run_id)
        return run_id

    @property
    def left(self) -> int:
        count: int = self.store.value("SELECT count(*) FROM app.safety_scores")
        return count

    def progress(self, run_id: int) -> tuple[str, dict[str, Any]]:
        ((status, progress),) = self.store.sql(
            "SELECT status, progress FROM lifecycle.plan_units WHERE run_id = %s AND unit = %s", run_id, UNIT
        )
        return status, progress

    def slowly(self, seconds: float) -> None:
        """Every deletion takes this long."""
        self.store.sql(
            "CREATE FUNCTION app.slow() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN PERFORM pg_sleep({seconds}); RETURN OLD; END'"
        )
        self.store.sql(
            "CREATE TRIGGER slow BEFORE DELETE ON app.safety_scores FOR EACH ROW EXECUTE FUNCTION app.slow()"
        )


@pytest.fixture
def scores(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scores:
    made = Scores(store, tmp_path / "datasets.yaml")
    made.pace()
    monkeypatch.setenv("LIFECYCLE_DATASETS", str(made.file))
    return made


def test_a_budget_of_rows_leaves_the_rest_to_the_next_run_and_says_so(scores: Scores) -> None:
    """Not done is not called done: the validation still finds what is late, and the next run goes on."""
    scores.pace(rows=30)
    scores.insert(100)
    run_id = scores.planned()
    assert steps.expire(run_id, UNIT)[RULE] == 30
    assert scores.left == 70
    assert scores.progress(run_id) == ("done", {RULE: {"records": 30}, BUDGET_FATE: {"records": 70}})
    ledger = "SELECT (counts->>'records')::int FROM lifecycle.ledger WHERE run_id = %s AND entry = 'outcome'"
    assert scores.store.sql(ledger, run_id) == [(30,)]
    assert steps.settle(run_id)["kept"]["run_budget"] == 70
    with pytest.raises(ValidationFailedError) as caught:
        steps.validate(run_id)
    assert caught.value.failures["safety_scores_past_deadline"] == 70
    steps.fail(run_id)
    following = scores.planned(AS_OF + timedelta(hours=1))
    assert steps.expire(following, UNIT)[RULE] == 30
    assert scores.left == 40


def test_a_budget_of_time_ends_the_work_in_good_order(scores: Scores) -> None:
    scores.pace(budget="PT1S", transaction="PT0.1S")
    scores.insert(200)
    scores.slowly(0.02)
    run_id = scores.planned()
    gone = steps.expire(run_id, UNIT)[RULE]
    assert 0 < gone < 200
    assert scores.left == 200 - gone
    status, progress = scores.progress(run_id)
    assert (status, progress[BUDGET_FATE]["records"]) == ("done", 200 - gone)


def test_a_batch_that_is_too_slow_is_tried_with_fewer_rows(scores: Scores) -> None:
    scores.pace(statement_timeout="PT1S", transaction="PT0.5S")
    scores.insert(60)
    scores.slowly(0.03)
    run_id = scores.planned()
    assert steps.expire(run_id, UNIT)[RULE] == 60
    assert scores.left == 0


def test_a_row_that_cannot_go_in_time_is_an_error_with_numbers(scores: Scores) -> None:
    scores.pace(statement_timeout="PT1S")
    scores.insert(2)
    scores.slowly(5)
    run_id = scores.planned()
    with pytest.raises(StatementTooSlowError) as caught:
        steps.expire(run_id, UNIT)
    assert (caught.value.unit, caught.value.rows, caught.value.seconds) == (UNIT, 1, 1.0)
    assert scores.left == 2


def test_rows_in_use_are_left_to_the_end_and_then_waited_for(scores: Scores) -> None:
    """Whoever works with three rows does not hold up the other ninety-seven; once they are done the three go too."""
    scores.insert(100)
    run_id = scores.planned()
    failed: list[psycopg.Error] = []

    def work_until_the_others_are_gone() -> None:
        try:
            with psycopg.connect(scores.store.conninfo) as user, scores.store.connect() as watch:
                user.execute("SELECT 1 FROM app.safety_scores ORDER BY scored_at LIMIT 3 FOR UPDATE")
                locked.set()
                while watch.execute("SELECT count(*) FROM app.safety_scores").fetchone() != (3,):
                    pass
        except psycopg.Error as error:
            failed.append(error)

    locked = threading.Event()
    thread = threading.Thread(target=work_until_the_others_are_gone)
    thread.start()
    assert locked.wait(timeout=20)
    assert steps.expire(run_id, UNIT)[RULE] == 100
    thread.join(timeout=20)
    assert (failed, scores.left) == ([], 0)


def test_rows_that_stay_locked_fail_the_unit_and_go_when_it_is_run_again(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "LOCK_BUDGET_SECONDS", 1.0)
    scores.insert(20)
    run_id = scores.planned()
    with psycopg.connect(scores.store.conninfo) as user:
        user.execute("SELECT 1 FROM app.safety_scores ORDER BY scored_at LIMIT 3 FOR UPDATE")
        with pytest.raises(DispositionError) as caught:
            steps.expire(run_id, UNIT)
    assert (caught.value.failed, scores.left) == (3, 3)
    assert scores.progress(run_id)[0] == "failed"
    assert steps.expire(run_id, UNIT)[RULE] == 20
    assert scores.left == 0


def test_what_the_plan_saw_is_found_even_where_nobody_looked_for_it(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A young submission that an erasure request names, and a search for exceptions that misses it."""
    asked = scores.store.insert_account()
    for account in (asked, scores.store.insert_account()):
        scores.store.insert(
            "app.feedback",
            feedback_id=account,
            account_id=account,
            conversation_id=account,
            submitted_at=AS_OF - timedelta(days=9),
        )
    scores.store.insert(
        "lifecycle.erasure_requests", scope="account", target=str(asked), requested_at=AS_OF - timedelta(hours=1)
    )
    run_id = scores.planned()
    monkeypatch.setattr(walks, "few_of", lambda source: iter(()))
    assert steps.expire(run_id, "feedback") == {"delete:erasure_request": 1}
    assert scores.store.value("SELECT count(*) FROM app.feedback") == 1


# -- back-pressure ------------------------------------------------------------------------------------------------


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pacer's waits, without waiting."""
    taken: list[float] = []
    # Not the module `time` itself: others sleep too, and they have to.
    monkeypatch.setattr(pacer, "time", SimpleNamespace(monotonic=time.monotonic, sleep=taken.append))
    return taken


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Iterator[float]], None]]:
    """Let the replication lag be what a test says, reading by reading."""

    def replace(lags: Iterator[float]) -> None:
        clock = iter(range(10_000))
        monkeypatch.setattr(
            pacer, "read", lambda conn, canary: Reading(at=next(clock), canary=0.0, replication_lag=next(lags))
        )

    yield replace


def test_a_replica_behind_makes_us_wait_until_it_has_caught_up(
    scores: Scores, naps: list[float], readings: Callable[[Iterator[float]], None]
) -> None:
    scores.insert(TRICKLE + 50)
    run_id = scores.planned()
    readings(iter([0.0, 90.0, 45.0, 1.0, *[0.0] * 50]))
    assert steps.expire(run_id, UNIT)[RULE] == TRICKLE + 50
    assert len(naps) == 2


def test_a_few_rows_wait_for_nobody(
    scores: Scores, naps: list[float], readings: Callable[[Iterator[float]], None]
) -> None:
    """Whatever presses before we have done anything is none of our doing."""
    scores.insert(50)
    run_id = scores.planned()
    readings(iter([9_999.0] * 100))
    assert steps.expire(run_id, UNIT)[RULE] == 50
    assert naps == []


def test_a_replica_that_never_comes_back_slows_us_down_and_does_not_stop_us(
    scores: Scores, naps: list[float], readings: Callable[[Iterator[float]], None]
) -> None:
    """Never late outranks it: after the first small batch, each bounded wait lets another one go."""
    scores.pace(patience="PT10S")
    scores.insert(TRICKLE * 2 + 50)
    run_id = scores.planned()
    readings(iter([9_999.0] * 10_000))
    assert steps.expire(run_id, UNIT)[RULE] == TRICKLE * 2 + 50
    # On a busy machine batches may be smaller than a trickle, and then there are more of them.
    assert sum(naps) >= 10 * 3
    assert max(naps) <= 5.0
