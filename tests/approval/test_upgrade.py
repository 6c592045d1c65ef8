"""A database from before approvals were kept: upgraded in place, and what its last run worked with stays in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle.facts import World
from oracle.named import AS_OF, DAY, message
from oracle.stores import Servers
from support.edits import period, write_policy
from support.scopes import carry_out
from support.store import Store

NEAR, FAR = message("near", age=DAY * 86), message("far", age=DAY * 50)
# What schema.sql said before.
DOWNGRADE = (
    "DROP TABLE lifecycle.approvals, lifecycle.policies",
    "ALTER TABLE lifecycle.runs DROP COLUMN guard_policy, DROP COLUMN guard_catalog",
    "ALTER TABLE lifecycle.plan_units DROP CONSTRAINT plan_units_status_check",
    "ALTER TABLE lifecycle.plan_units ADD CONSTRAINT plan_units_status_check"
    " CHECK (status IN ('planned', 'running', 'done', 'failed'))",
    "ALTER TABLE lifecycle.ledger DROP CONSTRAINT ledger_entry_check, DROP CONSTRAINT ledger_disposition_check",
    "ALTER TABLE lifecycle.ledger ADD CONSTRAINT ledger_entry_check CHECK (entry IN ('intent', 'outcome')) NOT VALID",
    "ALTER TABLE lifecycle.ledger ADD CONSTRAINT ledger_disposition_check"
    " CHECK (disposition IN ('delete', 'deidentify', 'quarantine', 'restore', 'move')) NOT VALID",
    "COMMENT ON SCHEMA lifecycle IS 'an older version'",
)


@pytest.fixture
def old(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that an older version ran on yesterday."""
    gone = message("gone", age=DAY * 95)
    with servers.store(World(messages=(NEAR, FAR, gone))) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        assert carry_out(AS_OF, validated=False).code == 0
        for statement in DOWNGRADE:
            store.sql(statement)
        yield store


def here(store: Store) -> set[str]:
    ids = {str(NEAR.message_id): "near", str(FAR.message_id): "far"}
    return {ids[str(row[0])] for row in store.sql("SELECT message_id FROM app.messages")}


def test_the_configuration_of_the_last_run_stays_in_force(old: Store) -> None:
    assert carry_out(AS_OF + DAY * 2).code == 0
    assert here(old) == {"far"}
    assert old.sql("SELECT status, shown ->> 'status' FROM lifecycle.approvals") == [("automatic", "carried_over")]


def test_another_configuration_waits_as_a_whole_and_can_be_approved(
    old: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left that it could be compared with, so nothing is undisputed."""
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, period("consumer_default", "P30D"))))
    assert carry_out(AS_OF + DAY * 2).code == 0
    assert here(old) == {"near", "far"}
    assert old.sql("SELECT status FROM lifecycle.approvals") == [("pending",)]
    old.cli("policy", "approve", "loaded", "--by", "counsel", "--yes")
    assert carry_out(AS_OF + DAY * 3).code == 0
    assert here(old) == set()
