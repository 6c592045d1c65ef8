"""A small world in which every promise holds, each exception included: what the auditor must pass."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql

from support.store import Store

TIERS = ("consumer", "beta", "evaluation", "business")
SCOPES = (*TIERS, "records", "erasure")
DAY = timedelta(days=1)
# Objects are as old as the test; seen from three days later they are older than the margin for orphans.
AS_OF = datetime.now(UTC).replace(microsecond=0) + 3 * DAY


def ago(**period: float) -> datetime:
    """A period before the audit."""
    return AS_OF - timedelta(**period)


@dataclass(frozen=True)
class Healthy:
    """What tests break: names of records in the healthy world."""

    store: Store
    runs: Mapping[str, int]
    quarantined: UUID
    quarantine_prefix: str
    fresh: Mapping[str, UUID]
    fresh_key: Mapping[str, str]
    account: Mapping[str, UUID]


def partitioned_key(tier: str, received_at: datetime, message: UUID) -> str:
    return f"tier={tier}/date={received_at.astimezone(UTC).date().isoformat()}/{message}.json"


def register_run(store: Store, scope: str, as_of: datetime = AS_OF, status: str = "succeeded") -> int:
    run_id = store.value(
        "INSERT INTO lifecycle.runs (run_key, scope, as_of, policy_hash, catalog_hash, status, finished_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, now()) RETURNING run_id",
        f"test/{uuid4()}",
        scope,
        as_of,
        "p" * 64,
        "c" * 64,
        status,
    )
    return int(run_id)


def make_partition(store: Store, tier: str, day: date) -> None:
    """The partition of a tier's day, as a run would have made it."""
    parent = f"messages_{tier}"
    with store.connect() as conn:
        conn.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier("app", f"{parent}_{day:%Y%m%d}"),
                sql.Identifier("app", parent),
                sql.Literal(datetime.combine(day, time(), UTC)),
                sql.Literal(datetime.combine(day + DAY, time(), UTC)),
            )
        )


def put_message(store: Store, *, account_id: UUID | None = None, **columns: Any) -> UUID:
    """A message in its day's partition, of a given account or of one of its own."""
    tier = columns.get("tier", "consumer")
    if tier in TIERS:
        make_partition(store, tier, columns["received_at"].astimezone(UTC).date())
    message = store.insert_message(**columns)
    if account_id is not None:
        store.sql("UPDATE app.messages SET account_id = %s WHERE message_id = %s", account_id, message)
    return message


def with_object(store: Store, tier: str, received_at: datetime, **columns: Any) -> tuple[UUID, str]:
    """A message whose object lies under its tier and day."""
    message = uuid4()
    key = partitioned_key(tier, received_at, message)
    put_message(
        store, tier=tier, received_at=received_at, message_id=message, object_body="words", object_key=key, **columns
    )
    return message, key


def flag(store: Store, message: UUID, account: UUID, **columns: Any) -> None:
    row = {"classifier": "abuse", "flagged_at": ago(days=5), "cleared_at": None} | columns
    store.insert("app.safety_flags", message_id=message, account_id=account, **row)


def hold(store: Store, scope: str, target: object, **columns: Any) -> None:
    row = {"reason": "a court order", "placed_by": "counsel", "placed_at": ago(days=30), "released_at": None} | columns
    store.insert("lifecycle.legal_holds", scope=scope, target=str(target), **row)


def quarantined(store: Store, tier: str, received_at: datetime, **columns: Any) -> tuple[UUID, str]:
    """A message as it lies in quarantine, with an uncleared flag; gives its id and prefix."""
    message, account = uuid4(), uuid4()
    prefix = f"tier={tier}/date={received_at.astimezone(UTC).date().isoformat()}/{message}/"
    document = json.dumps({"version": 1, "table": "app.messages", "row": {}, "children": {}}).encode()
    store.put_object("quarantine", f"{prefix}record.json", document)
    store.put_object("quarantine", f"{prefix}object", b"flagged words")
    row = {
        "message_id": message,
        "conversation_id": uuid4(),
        "account_id": account,
        "tier": tier,
        "received_at": received_at,
        "quarantined_at": ago(days=4),
        "prefix": prefix,
        "record_sha256": hashlib.sha256(document).hexdigest(),
        "object_sha256": hashlib.sha256(b"flagged words").hexdigest(),
    }
    store.insert("lifecycle.quarantine", **(row | columns))
    flag(store, message, account)
    return message, prefix


def log_line(tier: str, received_at: object, account: object | None = None, **fields: Any) -> dict[str, Any]:
    line = {
        "message_id": str(uuid4()),
        "account_id": str(account or uuid4()),
        "tier": tier,
        "received_at": received_at.isoformat() if isinstance(received_at, datetime) else received_at,
        "path": "/v1/messages",
    }
    return line | fields


def put_log(store: Store, day: datetime, lines: Sequence[Mapping[str, Any]], name: str = "part-0.jsonl.gz") -> str:
    key = f"requests/date={day.date().isoformat()}/{name}"
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    store.put_object("product-logs", key, gzip.compress(text), "application/gzip")
    return key


def feedback(store: Store, conversation: UUID, account: UUID, **columns: Any) -> UUID:
    feedback_id = uuid4()
    row = {"rating": 1, "comment": "good", "submitted_at": ago(days=200), "withdrawn_at": None, "message_id": None}
    store.insert(
        "app.feedback",
        feedback_id=feedback_id,
        account_id=account,
        conversation_id=conversation,
        **(row | columns),
    )
    return feedback_id


def agreement(store: Store, account: UUID, retain: str, **columns: Any) -> None:
    row = {"category": "prompts_and_outputs", "effective_from": ago(days=400), "effective_to": None} | columns
    store.insert("app.agreements", agreement_id=uuid4(), account_id=account, retain=retain, **row)


def erasure(store: Store, scope: str, target: object, **columns: Any) -> None:
    row = {"requested_at": ago(days=8), "completed_at": None, "outcome": None} | columns
    store.insert("lifecycle.erasure_requests", scope=scope, target=str(target), **row)


def build(store: Store) -> Healthy:
    """Make the world: runs of every scope, fresh data of every tier, and one of each reason to stay."""
    runs = {scope: register_run(store, scope) for scope in SCOPES}
    fresh, keys, accounts = {}, {}, {}
    for tier in TIERS:
        accounts[tier] = store.insert_account(tier=tier, last_interaction_at=ago(days=1))
        fresh[tier], keys[tier] = with_object(store, tier, ago(hours=2), account_id=accounts[tier])
        put_message(store, tier=tier, received_at=ago(hours=3), body="inline", tools=("search",))
        put_message(store, tier=tier, received_at=ago(hours=1), object_body="in landing")
        held = put_message(store, tier=tier, received_at=ago(days=500), body="held")
        hold(store, "message", str(held).upper())
        conversation, account = uuid4(), uuid4()
        put_message(
            store, tier=tier, received_at=ago(days=300), conversation_id=conversation, account_id=account, body="rated"
        )
        feedback(store, conversation, account)
    message, prefix = quarantined(store, "consumer", ago(days=600))
    _business(store)
    _records(store)
    store.sql("UPDATE app.accounts SET last_interaction_at = %s", ago(days=10))
    put_log(store, ago(days=1), [log_line(tier, ago(days=1, minutes=5)) for tier in TIERS])
    return Healthy(store, runs, message, prefix, fresh, keys, accounts)


def _business(store: Store) -> None:
    """Longer terms, and an open case."""
    longer, accused = uuid4(), uuid4()
    agreement(store, longer, "365 days")
    put_message(store, tier="business", received_at=ago(days=300), account_id=longer, body="agreed")
    put_message(store, tier="business", received_at=ago(days=100), account_id=accused, body="accused")
    store.insert("app.enforcement_cases", case_id=uuid4(), account_id=accused, opened_at=ago(days=50), closed_at=None)
    # Zero days: what came since the last run is not late yet.
    none_at_all = uuid4()
    agreement(store, none_at_all, "0 days")


def _records(store: Store) -> None:
    """Scores and feedback just inside their periods, training examples on both bases."""
    store.insert(
        "app.safety_scores",
        score_id=uuid4(),
        message_id=uuid4(),
        account_id=uuid4(),
        tier="consumer",
        classifier="abuse",
        score=0.5,
        scored_at=ago(days=7 * 365),
    )
    permitted = put_message(store, tier="consumer", received_at=ago(days=2), body="permitted")
    store.insert(
        "app.training_examples",
        example_id=uuid4(),
        message_id=permitted,
        account_id=uuid4(),
        basis="permission",
        added_at=ago(days=1),
    )
    flagged, _ = quarantined(store, "beta", ago(days=100))
    store.insert(
        "app.training_examples",
        example_id=uuid4(),
        message_id=flagged,
        account_id=uuid4(),
        basis="safety_review",
        added_at=ago(days=1),
    )
