"""Messages whose accounts are text or whole numbers: every exception that names an account, from the plan to the audit.

Case 4 (a hold wins), 15 and 16: whoever is named is found by whatever type the product's ids have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from lifecycle.catalog.buckets import Backstop
from lifecycle.config import load_configuration
from lifecycle.dispositions import census
from lifecycle.dispositions.shield import shield_hold
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.columns import misfits
from oracle.quick import only
from oracle.stores import Servers, at, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(240)

AS_OF = datetime(2026, 6, 24, 12, tzinfo=UTC)  # consumers' content of before 29 March, 12:00 UTC is due
DAY = timedelta(days=1)
OLD, YOUNG = AS_OF - 95 * DAY, AS_OF - 30 * DAY
TABLES = ("accounts", "messages", "safety_flags", "safety_scores", "feedback", "agreements", "enforcement_cases",
          "training_examples")  # fmt: skip
# Capitals, what SQL and format strings would take for their own, and ids that differ in case only.
NAMES: dict[str, dict[str, Any]] = {
    "text": {"held": "Bob", "other": "bob-2", "asked": "carol'; --", "twin": "CAROL'; --", "case": "%s{0}",
             "short": "ünal/7", "flagged": "Eve"},
    "bigint": {"held": 7, "other": 8, "asked": 9007199254740993, "twin": 9007199254740992, "case": -5, "short": 0,
               "flagged": 2**62},
}  # fmt: skip


@dataclass
class People:
    """A store whose accounts have ids of another type, by the parts that they play."""

    store: Store
    ids: str

    def __getitem__(self, part: str) -> Any:
        return NAMES[self.ids][part]

    def write(self, part: str, when: datetime, tier: str = "consumer") -> UUID:
        message = uuid4()
        if not self.store.sql("SELECT 1 FROM app.accounts WHERE account_id = %s", self[part]):
            self.store.insert(
                "app.accounts", account_id=self[part], tier=tier, email="e", display_name="d", created_at=OLD,
                last_interaction_at=YOUNG,
            )  # fmt: skip
        self.store.insert(
            "app.messages", message_id=message, conversation_id=uuid4(), account_id=self[part], tier=tier,
            role="prompt", received_at=when, body="words",
        )  # fmt: skip
        return message

    def left(self) -> set[UUID]:
        return {row for (row,) in self.store.sql("SELECT message_id FROM app.messages")}


@pytest.fixture(params=NAMES)
def people(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[People]:
    ids = request.param
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    document["exceptions"]["cases"]["ids"] = document["exceptions"]["agreements"]["ids"] = ids
    for dataset in document["datasets"]:
        if dataset["type"] == "accounts":
            dataset["ids"] = ids
        elif dataset["type"] != "logs":
            dataset["subject_ids"] = ids
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        patch.setattr(census, "LARGE", 0)  # judged from exceptions, however small
        for table in TABLES:
            store.sql(f"ALTER TABLE app.{table} ALTER account_id TYPE {ids} USING NULL::{ids}")
        with store.connect() as conn:
            assert misfits(conn, load_configuration().catalog) == []
        yield People(store, ids)


def test_whoever_an_exception_names_is_found_and_nobody_else(people: People) -> None:
    """Promises 1, 2, 5: holds, erasures, cases and terms by account; quarantine and back; rows of tables; log lines."""
    store = people.store
    staying = [people.write("held", OLD), people.write("twin", YOUNG), people.write("case", OLD, "business")]
    people.write("other", OLD)
    asked = [people.write("asked", YOUNG), people.write("asked", OLD)]
    agreed = people.write("short", AS_OF - 20 * DAY, "business")
    flagged = people.write("flagged", YOUNG)
    store.insert("app.safety_flags", message_id=flagged, account_id=people["flagged"], flagged_at=AS_OF - DAY)
    store.insert("app.enforcement_cases", case_id=uuid4(), account_id=people["case"], opened_at=OLD)
    store.insert(
        "app.agreements", agreement_id=uuid4(), account_id=people["short"], category="prompts_and_outputs",
        retain=timedelta(days=14), effective_from=OLD,
    )  # fmt: skip
    scores = {
        part: store.sql(
            "INSERT INTO app.safety_scores VALUES (gen_random_uuid(), gen_random_uuid(), %s, 'consumer', 'c', 1, %s)"
            " RETURNING score_id",
            people[part],
            AS_OF - 3000 * DAY,
        )[0][0]
        for part in ("held", "other")
    }
    lines = [
        {"message_id": str(uuid4()), "account_id": str(people[part]), "tier": tier, "received_at": OLD.isoformat()}
        for part, tier in (("held", "consumer"), ("other", "consumer"), ("case", "business"))
    ]
    log = f"requests/date={OLD:%Y-%m-%d}/part-1.jsonl"
    store.put_object("product-logs", log, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    recent = f"requests/date={YOUNG:%Y-%m-%d}/part-1.jsonl"
    both = [
        {
            "message_id": str(uuid4()),
            "account_id": str(people[part]),
            "tier": "consumer",
            "received_at": YOUNG.isoformat(),
        }
        for part in ("asked", "twin")
    ]
    store.put_object("product-logs", recent, "".join(f"{json.dumps(line)}\n" for line in both).encode())
    # A hold counts in whatever case it is typed, an erasure to the letter.
    store.cli("hold", "place", "--scope", "account", "--target", str(people["held"]).upper(), "--reason", "r")
    store.cli("erase", "request", "--scope", "account", "--target", str(people["asked"]))

    done = full_run(store, AS_OF)
    assert done.code == 0, str(done)
    assert people.left() == set(staying)
    assert agreed not in people.left() and not set(asked) & people.left()
    assert {row for (row,) in store.sql("SELECT score_id FROM app.safety_scores")} == {scores["held"]}
    rest = [json.loads(line)["account_id"] for line in store.read_object("product-logs", log).splitlines()]
    assert rest == [str(people["held"]), str(people["case"])]
    rest = [json.loads(line)["account_id"] for line in store.read_object("product-logs", recent).splitlines()]
    assert rest == [str(people["twin"])], "lines of somebody else went by an erasure, or those asked for stayed"
    assert store.sql("SELECT account_id, account FROM lifecycle.quarantine") == [(None, str(people["flagged"]))]
    assert store.sql("SELECT outcome FROM lifecycle.erasure_requests") == [("done",)]

    audited = store.cli("audit", "--as-of", at(AS_OF + timedelta(hours=1)), "--json", check=False)
    assert json.loads(audited.stdout)["broken"] == {}
    told = store.cli("explain", "account", people["held"], "--as-of", at(AS_OF + DAY), "--json").stdout
    assert "legal_obligation" in told and "Legal hold" in told
    store.cli("status", "--as-of", at(AS_OF))
    store.cli("explain", "message", staying[2], "--as-of", at(AS_OF))

    # A hold on somebody whose message is in quarantine keeps it there after the flag is cleared; then it comes back.
    hold = store.cli("hold", "place", "--scope", "account", "--target", people["flagged"], "--reason", "r", "--json")
    store.sql("UPDATE app.safety_flags SET cleared_at = %s", AS_OF + timedelta(hours=2))
    with only("consumer"):
        assert full_run(store, AS_OF + timedelta(hours=3)).code == 0
        assert store.value("SELECT legal_hold FROM lifecycle.quarantine") and flagged not in people.left()
        released = json.loads(hold.stdout)["hold_id"]
        store.sql("UPDATE lifecycle.legal_holds SET released_at = %s WHERE hold_id = %s", AS_OF + DAY / 2, released)
        assert full_run(store, AS_OF + DAY).code == 0
    assert flagged in people.left()
    assert store.value("SELECT account_id FROM app.messages WHERE message_id = %s", flagged) == people["flagged"]


def test_the_audit_tells_of_each_account_that_was_overlooked(people: People) -> None:
    """A test of the auditor's own reading: what should be gone and is not, by account."""
    store = people.store
    people.write("asked", YOUNG)
    people.write("short", AS_OF - 20 * DAY, "business")
    store.insert(
        "app.agreements", agreement_id=uuid4(), account_id=people["short"], category="prompts_and_outputs",
        retain=timedelta(days=14), effective_from=OLD,
    )  # fmt: skip
    store.insert(
        "lifecycle.erasure_requests", request_id=uuid4(), scope="account", target=str(people["asked"]),
        requested_at=AS_OF - 10 * DAY,
    )  # fmt: skip
    people.write("held", OLD)
    people.write("case", OLD, "business")
    store.insert(
        "lifecycle.legal_holds", scope="account", target=str(people["held"]).lower(), reason="r", placed_by="p"
    )
    store.insert("app.enforcement_cases", case_id=uuid4(), account_id=people["case"], opened_at=OLD)
    audited = store.cli("audit", "--as-of", at(AS_OF), "--json", check=False)
    assert audited.stdout, audited.stderr
    broken = json.loads(audited.stdout)["broken"]
    late = {name: count for name, count in broken.items() if not name.startswith("run_missing")}
    assert late == {"messages_past_agreement.business": 1, "erased_messages_remain.consumer": 1,
                    "erased_accounts_remain": 1, "erasure_requests_open": 1}  # fmt: skip


def test_a_hold_takes_the_tickets_of_an_account_in_whatever_case_it_is_typed(people: People) -> None:
    """Case 4: what S3 may expire by itself is taken back at once, by the account's id as it is."""
    store, catalog = people.store, load_configuration().catalog
    messages = catalog.messages
    tagged = messages.model_copy(
        update={"objects": messages.objects.model_copy(update={"backstop": Backstop(tag="t")})}
    )
    catalog = catalog.model_copy(update={"datasets": (tagged, *catalog.datasets[1:])})
    keys = {}
    for part in ("held", "other"):
        message = people.write(part, YOUNG)
        keys[part] = f"tier=consumer/date={YOUNG:%Y-%m-%d}/{message}.json"
        store.put_object("product-data", keys[part], b"{}")
        store.s3.put_object_tagging(
            Bucket="product-data", Key=keys[part], Tagging={"TagSet": [{"Key": "t", "Value": "consumer"}]}
        )
        store.sql("UPDATE app.messages SET object_key = %s WHERE message_id = %s", keys[part], message)
    with store.connect() as conn:
        assert shield_hold(conn, store.s3, catalog, "account", str(people["held"]).swapcase()) == 1
    left = {part: store.s3.get_object_tagging(Bucket="product-data", Key=key)["TagSet"] for part, key in keys.items()}
    assert not left["held"] and left["other"]
