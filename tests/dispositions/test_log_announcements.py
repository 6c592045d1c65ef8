"""What is said of a log object before it is changed is counted afterwards only if it happened (promises 4 and 5).

A run that dies between the change and its own record leaves only the announcement; each test dies there, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle.dispositions import log_announcements
from lifecycle.errors import DispositionError, LifecycleError
from lifecycle.orchestration import steps
from lifecycle.stores.s3 import logs as engine
from oracle.facts import LogRecord, World, ident
from oracle.load import LOGS
from oracle.named import AS_OF, DAY
from oracle.stores import Servers
from support.store import Store

KEY = "requests/date=2023-01-01/part-0.jsonl.gz"
UNIT = "request_logs/2023-01-01"


def due(name: str) -> LogRecord:
    return LogRecord(KEY, ident("log", name), ident("account", name), "consumer", AS_OF - DAY * 100, f"GET {name}")


@pytest.fixture
def store(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with servers.store(World(logs=(due("one"), due("two")))) as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


def die_once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """The next call of a function fails before it does anything."""
    real = getattr(module, name)

    def fail(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        raise LifecycleError("the process is gone")

    monkeypatch.setattr(module, name, fail)


def planned() -> int:
    number = steps.begin("records", AS_OF)
    steps.plan(number)
    return number


def hold(store: Store, scope: str, target: str) -> None:
    store.insert("lifecycle.legal_holds", scope=scope, target=target, reason="case", placed_by="counsel")


def gone(store: Store, number: int) -> int:
    """Lines that the ledger says left the object."""
    return int(
        store.value(
            "SELECT coalesce(sum((counts ->> 'records')::int), 0) FROM lifecycle.ledger"
            " WHERE run_id = %s AND unit = %s AND entry = 'outcome'",
            number,
            UNIT,
        )
    )


def test_a_hold_between_two_tries_changes_what_is_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try announced two lines and touched nothing; one is held by the time of the second, which dies too."""
    number = planned()
    die_once(monkeypatch, engine, "destroy_versions")
    with pytest.raises(DispositionError):
        steps.expire(number, UNIT)
    hold(store, "message", str(ident("log", "one")))
    die_once(monkeypatch, log_announcements, "record_progress")
    with pytest.raises(DispositionError):
        steps.expire(number, UNIT)
    assert steps.expire(number, UNIT) == {"delete:consumer_default": 1}
    assert gone(store, number) == 1


@pytest.mark.parametrize("held", [False, True])
def test_what_a_marker_hides_is_counted_if_it_went(store: Store, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """Held by the second try, nothing went; else it went in the first, which died before it could say so."""
    number = planned()
    store.s3.delete_object(Bucket=LOGS, Key=KEY)
    die_once(monkeypatch, *((engine, "destroy_versions") if held else (log_announcements, "record_progress")))
    with pytest.raises(DispositionError):
        steps.expire(number, UNIT)
    if held:
        hold(store, "dataset", "request_logs")
    steps.expire(number, UNIT)
    assert gone(store, number) == (0 if held else 2)


def test_an_object_that_is_gone_is_counted_by_the_next_try(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is listed under its key any more, so only the announcement can tell."""
    number = planned()
    die_once(monkeypatch, log_announcements, "record_progress")
    with pytest.raises(DispositionError):
        steps.expire(number, UNIT)
    assert store.versions(LOGS) == []
    assert steps.expire(number, UNIT) == {"delete:consumer_default": 2}
    assert gone(store, number) == 2


@pytest.mark.parametrize(
    ("module", "name", "count"),
    [(log_announcements, "record_progress", 2), (engine, "destroy_versions", 0)],
    ids=["after the act", "before it"],
)
def test_what_a_dead_run_did_is_written_down_by_the_run_that_takes_over(
    store: Store, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, count: int
) -> None:
    number = planned()
    die_once(monkeypatch, module, name)
    with pytest.raises(DispositionError):
        steps.expire(number, UNIT)
    store.sql("UPDATE lifecycle.runs SET lease_until = now() - interval '1 day' WHERE run_id = %s", number)
    steps.begin("records", AS_OF + DAY)
    assert gone(store, number) == count
    assert store.value("SELECT count(*) FROM lifecycle.log_intents") == 0
