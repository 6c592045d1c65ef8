"""A hold on a child table's own dataset keeps its rows although the records they belong to go; and once it is released,
what it kept goes too (cases 4 and 5). The simulation of ten years found both missing.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from oracle.stores import run
from support.store import NOON as NOW
from support.store import Store

DAY = timedelta(days=1)
HOLD = UUID("6f1d1f3e-0000-4000-8000-000000000001")


def example(store: Store, message: UUID) -> UUID:
    """A training example of a message, by permission."""
    made = uuid4()
    columns = {"account_id": store.insert_account(), "basis": "permission", "added_at": NOW - 90 * DAY}
    store.insert("app.training_examples", example_id=made, message_id=message, **columns)
    return made


def hold(store: Store, target: str) -> None:
    facts = {"scope": "dataset", "target": target, "reason": "litigation", "placed_by": "counsel"}
    store.insert("lifecycle.legal_holds", hold_id=HOLD, placed_at=NOW - DAY, **facts)


def examples(store: Store) -> set[UUID]:
    return {row[0] for row in store.sql("SELECT example_id FROM app.training_examples")}


@pytest.mark.parametrize("target", ["training_examples", "app.training_examples"])
@pytest.mark.parametrize("way", ["swap", "rows", "object", "quarantine"])
def test_a_held_example_outlives_its_message_until_the_hold_is_released(store: Store, target: str, way: str) -> None:
    """Whichever way the message goes: with its partition, by itself, with its object, or out of quarantine."""
    old = NOW - (800 if way == "quarantine" else 100) * DAY
    if way in ("swap", "rows"):
        day = old.date()
        store.sql(
            f"CREATE TABLE app.messages_consumer_{day:%Y%m%d} PARTITION OF app.messages_consumer"
            f" FOR VALUES FROM ('{day}') TO ('{day + DAY}')"
        )
    message = store.insert_message(received_at=old, object_body="text" if way == "object" else None)
    if way == "rows":
        for _ in range(3):
            conversation = uuid4()
            kept = store.insert_message(received_at=old, conversation_id=conversation)
            store.insert("lifecycle.legal_holds", scope="message", target=str(kept), reason="r", placed_by="p")
    if way == "quarantine":
        account = store.value("SELECT account_id FROM app.messages WHERE message_id = %s", message)
        store.insert("app.safety_flags", message_id=message, account_id=account, classifier="c", flagged_at=old)
        assert run(store, old + DAY).code == 0
        assert store.value("SELECT count(*) FROM lifecycle.quarantine") == 1
    made = example(store, message)
    hold(store, target)

    assert run(store, NOW).code == 0
    assert store.value("SELECT count(*) FROM app.messages WHERE message_id = %s", message) == 0
    assert store.value("SELECT count(*) FROM lifecycle.quarantine") == 0
    assert examples(store) == {made}

    store.sql("UPDATE lifecycle.legal_holds SET released_at = %s WHERE hold_id = %s", NOW + DAY, HOLD)
    assert run(store, NOW + 2 * DAY).code == 0
    assert examples(store) == set()


def test_an_example_whose_message_is_there_or_in_quarantine_stays_after_a_hold(store: Store) -> None:
    here = store.insert_message(received_at=NOW - DAY)
    flagged = store.insert_message(received_at=NOW - DAY)
    account = store.value("SELECT account_id FROM app.messages WHERE message_id = %s", flagged)
    store.insert("app.safety_flags", message_id=flagged, account_id=account, classifier="c", flagged_at=NOW - DAY)
    made = {example(store, here), example(store, flagged)}
    hold(store, "training_examples")
    store.sql("UPDATE lifecycle.legal_holds SET released_at = %s WHERE hold_id = %s", NOW, HOLD)
    for day in range(2):
        assert run(store, NOW + day * DAY).code == 0
    assert store.value("SELECT count(*) FROM lifecycle.quarantine") == 1
    assert examples(store) == made
