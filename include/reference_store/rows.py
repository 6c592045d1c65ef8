"""The rows and objects of the reference store as the generator makes them, in the column order of schema.sql."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple


class Account(NamedTuple):
    account_id: str
    tier: str
    email: str | None
    display_name: str | None
    created_at: datetime
    last_interaction_at: datetime


class Message(NamedTuple):
    message_id: str
    conversation_id: str
    account_id: str
    tier: str
    role: str
    received_at: datetime
    model: str
    client_ip: str
    body: str | None
    object_key: str | None


class Tool(NamedTuple):
    message_id: str
    tool_name: str


class Flag(NamedTuple):
    message_id: str
    account_id: str
    classifier: str
    flagged_at: datetime
    cleared_at: datetime | None


class Score(NamedTuple):
    score_id: str
    message_id: str
    account_id: str
    tier: str
    classifier: str
    score: float
    scored_at: datetime


class Feedback(NamedTuple):
    feedback_id: str
    account_id: str
    conversation_id: str
    message_id: str | None
    rating: int
    comment: str
    submitted_at: datetime
    withdrawn_at: datetime | None


class Agreement(NamedTuple):
    agreement_id: str
    account_id: str
    category: str
    retain: timedelta
    effective_from: datetime
    effective_to: datetime | None


class Case(NamedTuple):
    case_id: str
    account_id: str
    opened_at: datetime
    closed_at: datetime | None


class Training(NamedTuple):
    example_id: str
    message_id: str
    account_id: str
    basis: str
    added_at: datetime


class Hold(NamedTuple):
    hold_id: str
    scope: str
    target: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_at: datetime | None


class Erasure(NamedTuple):
    request_id: str
    scope: str
    target: str
    requested_at: datetime
    completed_at: datetime | None
    outcome: str | None


class LogLine(NamedTuple):
    """One request in product-logs."""

    message_id: str
    account_id: str
    tier: str
    received_at: datetime
    path: str
    status: int
    latency_ms: int


class StoredObject(NamedTuple):
    """An object of product-data. ``history`` happens to its key first, oldest first; None is a plain delete."""

    key: str
    content: bytes | None
    history: tuple[bytes | None, ...] = ()


Row = Account | Message | Tool | Flag | Score | Feedback | Agreement | Case | Training | Hold | Erasure
TABLES: dict[type[tuple[object, ...]], str] = {
    Account: "app.accounts",
    Message: "app.messages",
    Tool: "app.message_tools",
    Flag: "app.safety_flags",
    Score: "app.safety_scores",
    Feedback: "app.feedback",
    Agreement: "app.agreements",
    Case: "app.enforcement_cases",
    Training: "app.training_examples",
    Hold: "lifecycle.legal_holds",
    Erasure: "lifecycle.erasure_requests",
}


@dataclass
class Batch:
    """What one conversation, or one account, adds to the store. Short-lived: written, then forgotten."""

    rows: list[Row] = field(default_factory=list)
    objects: list[StoredObject] = field(default_factory=list)
    log_lines: list[LogLine] = field(default_factory=list)

    def messages(self) -> Iterator[Message]:
        return (row for row in self.rows if isinstance(row, Message))
