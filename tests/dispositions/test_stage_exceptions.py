"""Content in an ordinary table is under the same exceptions as any prompt: cases, agreements, consents, holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
import yaml

from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from oracle.quick import only
from oracle.stores import Servers, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(120)

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
NAMES = UUID(int=8)
# The age of a row, and whether its content stays. The default takes what is 25 days old: the cut-off runs 3 days ahead.
ROWS = {
    "plain young": (25 * DAY, True),
    "plain": (25 * DAY + TICK, False),
    "case": (300 * DAY, True),
    "case closed": (26 * DAY, False),
    "agreed longer": (26 * DAY, True),
    "agreed longer and over": (57 * DAY + TICK, False),
    "agreed shorter": (DAY, False),
    "agreement ended": (DAY, True),
    "consented": (300 * DAY, True),
    "consent withdrawn": (26 * DAY, False),
    "held": (300 * DAY, True),
    "case and erasure": (DAY, True),
    "agreed longer and erasure": (DAY, False),
}
AGREED = {"agreed longer": 60, "agreed longer and over": 60, "agreed shorter": 1, "agreement ended": 1,
          "agreed longer and erasure": 60}  # fmt: skip


def ident(name: str) -> UUID:
    return uuid5(NAMES, name)


def files() -> tuple[dict[str, Any], dict[str, Any]]:
    """The shipped files, with a table of a business product's conversations."""
    policy, datasets = (yaml.safe_load(shipped(name).read_text()) for name in (SHIPPED_POLICY, SHIPPED_DATASETS))
    next(rule for rule in policy["rules"] if rule["trigger"] == "hold")["category"].append("usage_records")
    tiers = ["consumer", "beta", "evaluation", "business"]
    policy["rules"].append(
        {"id": "usage", "category": ["usage_records"], "tiers": tiers, "trigger": "default", "kind": "maximum",
         "period": "P1Y", "clock": "received", "disposition": "delete", "basis": "at most a year"}
    )  # fmt: skip
    datasets["datasets"].append(
        {"id": "chats", "type": "table", "category": "usage_records", "table": "app.chats", "key": "chat_id",
         "subject": "account_id", "group": "conversation_id", "clock": "at", "tier_is": "business",
         "stages": [{"name": "content", "category": "prompts_and_outputs", "clear": ["said"]}]}
    )  # fmt: skip
    return policy, datasets


@pytest.fixture(scope="module")
def store(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The table after a run of records and one of what was asked to be erased, both validated."""
    folder = tmp_path_factory.mktemp("chats")
    for name, content in zip(("policy", "datasets"), files(), strict=True):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_POLICY", str(folder / "policy.yaml"))
        patch.setenv("LIFECYCLE_DATASETS", str(folder / "datasets.yaml"))
        fill(store)
        for scope in ("records", "erasure"):
            with only(scope):
                done = full_run(store, AS_OF)
            assert done.code == 0, str(done)
        yield store


def fill(store: Store) -> None:
    store.sql("CREATE TABLE app.chats (chat_id uuid, account_id uuid, conversation_id uuid, at timestamptz, said text)")
    store.sql("CREATE INDEX ON app.chats (at)")
    for name, (age, _) in ROWS.items():
        ids = [ident(f"{part} of {name}") for part in ("chat", "account", "conversation")]
        store.sql("INSERT INTO app.chats VALUES (%s, %s, %s, %s, 'something')", *ids, AS_OF - age)
    for name in ("case", "case closed", "case and erasure"):
        store.insert("app.enforcement_cases", case_id=ident(name), account_id=ident(f"account of {name}"),
                     opened_at=AS_OF - DAY, closed_at=AS_OF if name == "case closed" else None)  # fmt: skip
    for name, days in AGREED.items():
        store.insert("app.agreements", agreement_id=ident(name), account_id=ident(f"account of {name}"),
                     category="prompts_and_outputs", retain=days * DAY, effective_from=AS_OF - 100 * DAY,
                     effective_to=AS_OF if name == "agreement ended" else None)  # fmt: skip
    for name in ("consented", "consent withdrawn"):
        store.insert("app.feedback", feedback_id=ident(name), account_id=ident(f"account of {name}"),
                     conversation_id=ident(f"conversation of {name}"), rating=1, submitted_at=AS_OF - DAY,
                     withdrawn_at=AS_OF if name == "consent withdrawn" else None)  # fmt: skip
    store.insert("lifecycle.legal_holds", hold_id=ident("hold"), scope="dataset", target="nothing", reason="r",
                 placed_by="p", placed_at=AS_OF - DAY)  # fmt: skip
    store.insert("lifecycle.legal_holds", hold_id=ident("held"), scope="account", target=str(ident("account of held")),
                 reason="r", placed_by="p", placed_at=AS_OF - DAY)  # fmt: skip
    for name in ("case and erasure", "agreed longer and erasure"):
        store.insert("lifecycle.erasure_requests", request_id=ident(name), scope="account",
                     target=str(ident(f"account of {name}")), requested_at=AS_OF - DAY)  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_content_stays_or_goes_by_the_exception_that_names_it(store: Store, name: str) -> None:
    said = store.value("SELECT said FROM app.chats WHERE chat_id = %s", ident(f"chat of {name}"))
    assert (said is not None) is ROWS[name][1]


def test_a_request_that_a_case_outranks_is_answered_with_what_kept_it(store: Store) -> None:
    query = "SELECT outcome FROM lifecycle.erasure_requests WHERE request_id = %s"
    assert store.value(query, ident("case and erasure")) == "kept: usage_policy_enforcement"
    assert store.value(query, ident("agreed longer and erasure")) == "done"


@pytest.mark.parametrize("name", ["plain", "case", "agreed longer", "consented", "held"])
def test_the_explanation_names_the_rule_that_decides(store: Store, name: str) -> None:
    said = json.loads(store.cli("explain", "record", f"chats.content/{ident(f'chat of {name}')}", "--json",
                                "--as-of", "2026-06-01T12:00:00Z").stdout)  # fmt: skip
    rules = {"case": "usage_policy_enforcement", "agreed longer": "business_agreement", "consented": "feedback",
             "held": "legal_obligation", "plain": "business_default"}  # fmt: skip
    assert said["deciding_rule"] == rules[name] and said["content"] is ROWS[name][1]
    assert ("content is gone" in said["text"]) is not ROWS[name][1]


def test_the_auditor_finds_content_past_its_agreement(store: Store) -> None:
    row = ident("chat of agreed longer and over")
    store.sql("UPDATE app.chats SET said = 'again', at = at - interval '5 days' WHERE chat_id = %s", row)
    done = store.cli("audit", "--as-of", "2026-06-01T12:00:00Z", "--json", check=False)
    broken = {each["name"]: each["violations"] for each in json.loads(done.stdout)["checks"] if not each["success"]}
    assert broken["chats.content_past_agreement"] == 1 and "chats.content_past_deadline" not in broken
