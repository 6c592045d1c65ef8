"""`lifecycle explain` for a message, an account, an object, a partition and a record; the old form still works."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from support.store import Store
from validation.healthy import (
    AS_OF,
    Healthy,
    ago,
    agreement,
    build,
    erasure,
    flag,
    hold,
    log_line,
    put_log,
    put_message,
    quarantined,
)


@pytest.fixture
def world(store: Store) -> Healthy:
    return build(store)


def ask(store: Store, *what: object, code: int = 0) -> dict[str, Any]:
    done = store.cli("explain", *what, "--as-of", AS_OF.isoformat(), "--json", check=False)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_message_by_its_id_alone_or_by_its_kind(world: Healthy, caplog: pytest.LogCaptureFixture) -> None:
    """The form of the first slice is a contract; nothing that is asked or told is logged (case 25)."""
    caplog.set_level(logging.DEBUG, logger="lifecycle")
    message = world.fresh["consumer"]
    old, new = ask(world.store, message), ask(world.store, "message", message)
    assert old == new
    assert (old["location"], old["tier"], old["deciding_rule"]) == ("app", "consumer", "consumer_default")
    assert old["lead"]["total"] == "P3D" and old["lead"]["failed_runs"] == "P1D"
    assert datetime.fromisoformat(old["taken_after"]) == ago(hours=2) + timedelta(days=87)
    assert str(message) not in caplog.text
    people = world.store.cli("explain", message, "--as-of", AS_OF.isoformat()).stdout
    assert "Kept until" in people and "(rule consumer_default, 'maximum of 90 days')" in people


REFUSED = (
    "message nonsense", "nonsense", "account", "object bucket-only", "partition nowhere/1", "record messages/1",
    "partition messages/consumer/yesterday", "record feedback/1", "account nonsense b",
)  # fmt: skip


def test_what_is_not_a_name_is_refused_without_repeating_it(store: Store) -> None:
    for what in REFUSED:
        done = store.cli("explain", *what.split(), check=False)
        assert done.returncode == 2, what
        assert "nonsense" not in done.stderr


def test_what_is_not_there_is_said_and_ends_with_1(world: Healthy) -> None:
    for what in (
        (uuid4(),), ("message", uuid4()), ("object", f"product-data/landing/{uuid4()}.json"),
        ("partition", "messages/consumer/2001-01-01"), ("record", f"feedback/{uuid4()}"),
    ):  # fmt: skip
        assert ask(world.store, *what, code=1)["location"] == "absent"


def test_an_account_with_everything_that_concerns_it(world: Healthy) -> None:
    store, account = world.store, world.account["business"]
    hold(store, "account", str(account).upper(), released_at=ago(days=1))
    agreement(store, account, "365 days")
    erasure(store, "account", account, requested_at=ago(days=2))
    store.insert("app.enforcement_cases", case_id=uuid4(), account_id=account, opened_at=ago(days=3), closed_at=None)
    put_message(store, tier="business", received_at=ago(days=30), account_id=account, body="old")
    found = ask(store, "account", account)
    assert (found["location"], found["tier"], found["personal_data"]) == ("app", "business", True)
    assert found["deciding_rule"] == "erasure_request", "account data are not messages: no case keeps them"
    assert {kind: len(entries) for kind, entries in found["about"].items()} == {
        "holds": 1, "cases": 1, "agreements": 1, "requests": 1,
    }  # fmt: skip
    kept = found["messages"]["business"]
    assert [(row["disposition"], row["rule"], row["records"]) for row in kept] == [
        ("keep", "usage_policy_enforcement", 2)
    ]
    for words in ("Legal hold of", "Usage-policy case of", "Agreement of", "Erasure request of", ": open."):
        assert words in found["text"]
    assert "example.com" not in found["text"], "what the account holds is not shown"


def test_objects_of_the_store_and_of_quarantine(world: Healthy) -> None:
    store = world.store
    found = ask(store, "object", f"product-data/{world.fresh_key['beta']}")
    assert (found["versions"], found["delete_markers"], found["locked"]) == (1, 0, False)
    assert found["deciding_rule"] == "consumer_default"
    assert found["message_id"] == str(world.fresh["beta"])
    copy = ask(store, "object", f"quarantine/{world.quarantine_prefix}object")
    assert (copy["deciding_rule"], copy["where"]) == ("safety_flagged", "quarantine")
    store.put_object("product-data", f"tier=beta/date=2026-01-01/{uuid4()}.json", b"{}")
    stray = next(key for key in store.keys("product-data", "tier=beta/date=2026-01-01/"))
    assert "it is an orphan" in ask(store, "object", f"product-data/{stray}")["text"]
    assert "No dataset" in ask(store, "object", "somewhere/else", code=1)["text"]


def test_an_object_of_many_records(world: Healthy) -> None:
    day = datetime(*ago(days=27).timetuple()[:3], tzinfo=UTC)
    lines = [log_line("business", day), log_line("business", day), log_line("consumer", day)]
    key = put_log(world.store, day, lines)
    put_log(world.store, day, lines, name="part-0.jsonl.gz.jsonl.gz")
    found = ask(world.store, "object", f"product-logs/{key}")
    assert (found["objects"], found["records"], found["due"], found["kept"]) == (1, 3, {"business_default": 2}, 1)
    whole = ask(world.store, "partition", f"request_logs/{day:%Y-%m-%d}")
    assert (whole["objects"], whole["records"]) == (2, 6)
    assert "2 to be taken out by the next run, by rule business_default, 'maximum of 28 days'" in found["text"]


def test_partitions_with_their_survivors(world: Healthy) -> None:
    store, day = world.store, ago(days=300)
    old = put_message(store, tier="consumer", received_at=day, body="due")
    flagged = put_message(store, tier="consumer", received_at=day, body="flagged")
    flag(store, flagged, uuid4())
    held = put_message(store, tier="consumer", received_at=day, body="held")
    hold(store, "message", held)
    found = ask(store, "partition", f"messages/consumer/{day:%Y-%m-%d}")
    assert found["records"] == 4
    assert {(row["disposition"], row["rule"]): row["records"] for row in found["fates"]} == {
        ("delete", "consumer_default"): 1, ("quarantine", "safety_flagged"): 1, ("keep", "legal_obligation"): 1,
        ("keep", "feedback"): 1,
    }  # fmt: skip
    assert found["survivors"] == {"safety_flagged": 1, "legal_obligation": 1, "feedback": 1}
    assert datetime.fromisoformat(found["earliest_deadline"]) == day + timedelta(days=90)
    assert "1 record to be deleted by rule consumer_default, 'maximum of 90 days'" in found["text"]
    assert "1 record kept by rule legal_obligation, 'as long as it lasts', without an end yet." in found["text"]
    assert str(old) not in json.dumps(found), "a partition is told in counts"
    assert ask(store, "partition", f"quarantine/consumer/{ago(days=600):%Y-%m-%d}")["records"] == 1
    assert ask(store, "partition", "safety_scores")["records"] == 1
    assert ask(store, "partition", "messages/beta/default", code=1)["location"] == "absent"
    put_message(store, tier="prototype", received_at=day, body="whose is it")
    assert ask(store, "partition", "messages/unclassified")["fates"][0]["rule"] == "unclassified"


def test_rows_of_ordinary_tables(world: Healthy) -> None:
    store = world.store
    score = store.value("SELECT score_id FROM app.safety_scores")
    found = ask(store, "record", f"safety_scores/{score}")
    assert (found["deciding_rule"], found["due"]) == ("safety_scores", False)
    feedback, conversation = store.sql("SELECT feedback_id, conversation_id FROM app.feedback LIMIT 1")[0]
    erasure(store, "conversation", conversation)
    found = ask(store, "record", f"feedback/{feedback}")
    assert (found["deciding_rule"], found["disposition"]) == ("erasure_request", "delete")
    message, _ = quarantined(store, "beta", ago(days=3))
    for basis, fate in (("permission", "keep"), ("safety_review", "keep"), ("curiosity", "delete")):
        example = uuid4()
        store.insert("app.training_examples", example_id=example, message_id=message, account_id=uuid4(), basis=basis,
                     added_at=ago(days=2))  # fmt: skip
        assert ask(store, "record", f"training_examples/{example}")["disposition"] == fate
