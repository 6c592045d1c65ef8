"""What is copied while others dispose of it is not brought back by giving the copy up (hard case 15)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from lifecycle.config import load_configuration
from lifecycle.dispositions import landing, quarantine
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import survey
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
from support.store import Store

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)


@contextmanager
def run_of(store: Store, scope: str) -> Iterator[RunContext]:
    config = load_configuration()
    with store.connect() as conn:
        run = runs.begin(
            conn,
            scope=scope,
            as_of=AS_OF,
            run_key="withdrawn",
            hashes=(config.policy_hash, config.catalog_hash),
            dry_run=False,
            owner=None,
        )
        yield RunContext(conn, store.s3, config.policy, config.catalog, run)


def landed(store: Store) -> UUID:
    return store.insert_message(tier="consumer", received_at=AS_OF - timedelta(days=2), object_body="their words")


def key_of(store: Store, message: UUID) -> str:
    return str(store.value("SELECT object_key FROM app.messages WHERE message_id = %s", message))


def erase(store: Store, message: UUID) -> None:
    """As a person's request would, in a run of its own: the object, then the row."""
    key = key_of(store, message)
    for version in store.s3.list_object_versions(Bucket="product-data", Prefix=key).get("Versions", []):
        store.s3.delete_object(Bucket="product-data", Key=key, VersionId=version["VersionId"])
    store.sql("DELETE FROM app.messages WHERE message_id = %s", message)


def then(monkeypatch: pytest.MonkeyPatch, module: Any, act: Any) -> None:
    """Let something happen when copies are made and the gate is not yet open."""
    copy = module._copy

    def copied(*args: Any) -> Any:
        done = copy(*args)
        act()
        return done

    monkeypatch.setattr(module, "_copy", copied)


def test_case_15_what_is_erased_while_it_moves_to_its_day_comes_back_nowhere(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = landed(store)
    then(monkeypatch, landing, lambda: erase(store, message))
    with run_of(store, "consumer") as context:
        landing.partition_landing(context, Tier.CONSUMER)
    assert store.versions("product-data") == []


def test_promise_3_what_its_row_finds_at_its_day_by_now_stays_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row follows by another hand: the copy that it names is not the one to give up."""
    message = landed(store)
    target = f"tier=consumer/date={(AS_OF - timedelta(days=2)).date()}/{message}.json"

    def followed() -> None:
        store.s3.delete_object(Bucket="product-data", Key=key_of(store, message))
        store.sql("UPDATE app.messages SET object_key = %s WHERE message_id = %s", target, message)

    then(monkeypatch, landing, followed)
    with run_of(store, "consumer") as context:
        landing.partition_landing(context, Tier.CONSUMER)
    assert store.keys("product-data") == [target]


def test_case_15_what_is_erased_while_it_goes_into_quarantine_comes_back_nowhere(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = landed(store)
    account = store.value("SELECT account_id FROM app.messages WHERE message_id = %s", message)
    store.insert("app.safety_flags", message_id=message, account_id=account, classifier="c", flagged_at=AS_OF)
    then(monkeypatch, quarantine, lambda: erase(store, message))
    with run_of(store, "consumer") as context:
        units = [unit for unit in survey(context) if unit.method == "quarantine"]
        freeze(context.conn, context.run.run_id, units)
        quarantine.quarantine_unit(context, units[0].unit)
    assert store.versions("product-data") == []
    assert store.versions("quarantine") == []
