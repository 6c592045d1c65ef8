"""Puts the loaded configuration in force without asking: for tests that are about something else."""

from __future__ import annotations

from datetime import datetime

from lifecycle.config import load_configuration
from lifecycle.ledger import approvals
from lifecycle.ledger.approvals import Key, Request
from lifecycle.orchestration.approval import plain
from lifecycle.stores.postgres.connect import connect


def approve_loaded(at: datetime, by: str = "board") -> Key:
    """Approve what LIFECYCLE_POLICY and LIFECYCLE_DATASETS name, in the store that the environment names."""
    config = load_configuration()
    key = Key(config.policy_hash, config.catalog_hash)
    with connect() as conn, conn.transaction():
        if approvals.in_force(conn) != key:
            approvals.remember(conn, key, *plain(config), at)
            number = approvals.ask(conn, Request(approvals.POLICY, key, {"affected": 0}, by, at))
            approvals.decide(conn, number, approvals.APPROVED, by=by, at=at)
    return key
