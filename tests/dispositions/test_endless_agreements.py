"""One account's agreement, however absurd, stops neither the runs of a store nor its alarm."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from oracle.stores import Servers, full_run

pytestmark = pytest.mark.timeout(120)
AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEPT, GONE = ("10000 years", "300000 years", "infinity"), ("-300000 years", "-infinity", "-1 mon +31 days")


def test_an_agreement_for_ever_keeps_and_one_from_the_past_does_not(servers: Servers) -> None:
    """Case 11: what is kept has a deadline in the year 9999, and is explained."""
    with servers.store() as store:
        endless = int(store.value("SHOW server_version_num")) >= 170_000
        accounts = {text: uuid4() for text in (*KEPT, *GONE) if endless or "infinity" not in text}
        for text, account in accounts.items():
            store.insert_message(tier="business", received_at=AS_OF - 9 * DAY, message_id=uuid4(), account_id=account)
            store.insert("app.agreements", agreement_id=uuid4(), account_id=account, category="prompts_and_outputs",
                         retain=text, effective_from=AS_OF - 10 * DAY)  # fmt: skip
        done = full_run(store, AS_OF)
        assert done.code == 0, str(done)
        left = {account for (account,) in store.sql("SELECT account_id FROM app.messages")}
        assert {text for text, account in accounts.items() if account in left} == set(accounts) - set(GONE)
        told = store.cli("status", "--json", "--as-of", "2026-06-01T12:00:00Z")
        assert "9999-12-31T00:00:00Z" in {each["at_risk"] for each in json.loads(told.stdout)["datasets"]}
        for text in set(accounts) - set(GONE):
            store.cli("explain", "account", str(accounts[text]), "--as-of", "2026-06-01T12:00:00Z")
