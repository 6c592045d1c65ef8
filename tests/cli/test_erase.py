"""``lifecycle erase``, against a real store."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from support.store import Store

TARGET = "0190a5d2-7c1e-7a41-9d7c-2f6f0c1b2a3d"


@pytest.mark.parametrize("scope", ["account", "conversation", "message"])
def test_request_and_status(store: Store, scope: str) -> None:
    entered = json.loads(
        store.cli(
            "erase", "request", "--scope", scope, "--target", TARGET.upper(), "--at", "2026-08-01", "--json"
        ).stdout
    )
    assert entered == {
        "request_id": entered["request_id"],
        "scope": scope,
        "target": TARGET,
        "requested_at": "2026-08-01T00:00:00Z",
        "completed_at": None,
        "outcome": None,
    }
    assert json.loads(store.cli("erase", "status", entered["request_id"], "--json").stdout) == entered
    assert json.loads(store.cli("erase", "status", "--json").stdout) == [entered]


def test_status_tells_the_outcome(store: Store) -> None:
    assert store.cli("erase", "status").stdout == "no erasure requests\n"
    store.cli("erase", "request", "--scope", "account", "--target", TARGET)
    request_id = store.value("SELECT request_id FROM lifecycle.erasure_requests")
    assert "open" in store.cli("erase", "status", request_id).stdout
    store.sql(
        "UPDATE lifecycle.erasure_requests SET completed_at = %s, outcome = %s",
        datetime(2026, 8, 3, tzinfo=UTC),
        "kept: safety_flagged",
    )
    found = json.loads(store.cli("erase", "status", request_id, "--json").stdout)
    assert (found["completed_at"], found["outcome"]) == ("2026-08-03T00:00:00Z", "kept: safety_flagged")
    assert "kept: safety_flagged" in store.cli("erase", "status").stdout


def test_without_a_time_it_is_now(store: Store) -> None:
    before = datetime.now(UTC)
    store.cli("erase", "request", "--scope", "account", "--target", TARGET)
    assert before <= store.value("SELECT requested_at FROM lifecycle.erasure_requests") <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("request", "--scope", "account", "--target", "somebody@example.com"), 2, "not a UUID"),
        (("request", "--scope", "dataset", "--target", TARGET), 2, "dataset"),
        (("request", "--target", TARGET), 2, "--scope"),
        (("status", "somebody@example.com"), 2, "not a UUID"),
        (("status", str(uuid4())), 1, "there is no erasure request with that id"),
    ],
)
def test_what_cannot_be_asked_is_refused(store: Store, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = store.cli("erase", *arguments, check=False)
    assert done.returncode == code
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "somebody@example.com" not in done.stderr
    assert store.value("SELECT count(*) FROM lifecycle.erasure_requests") == 0


def test_a_request_waits_for_a_run_but_not_for_ever(store: Store) -> None:
    with store.connect() as run, run.transaction():
        run.execute("LOCK TABLE lifecycle.erasure_requests IN SHARE MODE")
        done = store.cli("erase", "request", "--scope", "account", "--target", TARGET, "--wait", "0.2", check=False)
    assert done.returncode == 1
    assert "the request was not entered: a run is destroying data right now" in done.stderr
    assert store.value("SELECT count(*) FROM lifecycle.erasure_requests") == 0
