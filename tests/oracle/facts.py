"""The facts of a world, record by record, as the contract of the reference store names them (DESIGN.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime
from uuid import UUID, uuid5

# Every identifier of a generated world descends from here, so that a world is the same in every process.
ROOT = UUID("5a1f0f3e-6f0b-4d55-9c3a-2f6a7f3b8a11")
TIERS = ("consumer", "beta", "evaluation", "business")


def ident(*parts: object) -> UUID:
    """A stable identifier for a name: ident("story", 3, "m", 1)."""
    return uuid5(ROOT, "/".join(str(part) for part in parts))


@dataclass(frozen=True)
class StoredObject:
    """An object of product-data: every version oldest first; the last one is what a reader gets."""

    key: str
    versions: tuple[bytes, ...]
    content_type: str = "application/json"

    @property
    def content(self) -> bytes:
        return self.versions[-1]


@dataclass(frozen=True)
class Message:
    """A row of app.messages with its children and its object."""

    message_id: UUID
    conversation_id: UUID
    account_id: UUID
    tier: str
    role: str
    received_at: datetime
    model: str | None = "m-1"
    client_ip: str | None = "192.0.2.1"
    body: str | None = "text"
    stored: StoredObject | None = None
    tools: tuple[str, ...] = ()

    @property
    def landing_key(self) -> str:
        return f"landing/{self.message_id}.json"

    @property
    def partitioned_key(self) -> str:
        return f"tier={self.tier}/date={self.received_at.date().isoformat()}/{self.message_id}.json"

    @property
    def quarantine_prefix(self) -> str:
        return f"tier={self.tier}/date={self.received_at.date().isoformat()}/{self.message_id}/"

    @property
    def in_landing(self) -> bool:
        return self.stored is not None and self.stored.key.startswith("landing/")

    def partitioned(self) -> Message:
        """The same message once its object lies where the day's partition is."""
        if self.stored is None:
            return self
        return replace(self, stored=replace(self.stored, key=self.partitioned_key))


@dataclass(frozen=True)
class Account:
    account_id: UUID
    tier: str
    email: str | None
    display_name: str | None
    created_at: datetime
    last_interaction_at: datetime


@dataclass(frozen=True)
class Flag:
    message_id: UUID
    account_id: UUID
    flagged_at: datetime
    cleared_at: datetime | None = None
    classifier: str = "abuse-1"


@dataclass(frozen=True)
class Score:
    score_id: UUID
    message_id: UUID
    account_id: UUID
    tier: str
    scored_at: datetime
    score: float = 0.5
    classifier: str = "abuse-1"


@dataclass(frozen=True)
class Feedback:
    feedback_id: UUID
    account_id: UUID
    conversation_id: UUID
    message_id: UUID | None
    submitted_at: datetime
    withdrawn_at: datetime | None = None
    rating: int = 1
    comment: str = "fine"


@dataclass(frozen=True)
class Retain:
    """An agreed length: whole months, then whole days."""

    months: int = 0
    days: int = 0


@dataclass(frozen=True)
class Agreement:
    agreement_id: UUID
    account_id: UUID
    retain: Retain
    effective_from: datetime
    effective_to: datetime | None = None
    category: str = "prompts_and_outputs"


@dataclass(frozen=True)
class Case:
    case_id: UUID
    account_id: UUID
    opened_at: datetime
    closed_at: datetime | None = None


@dataclass(frozen=True)
class Training:
    example_id: UUID
    message_id: UUID
    account_id: UUID
    basis: str
    added_at: datetime


@dataclass(frozen=True)
class Hold:
    hold_id: UUID
    scope: str
    target: str
    placed_at: datetime
    released_at: datetime | None = None


@dataclass(frozen=True)
class Erasure:
    request_id: UUID
    scope: str
    target: str
    requested_at: datetime
    completed_at: datetime | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class LogRecord:
    """One record of a many-record object in product-logs; ``key`` names the object."""

    key: str
    message_id: UUID
    account_id: UUID
    tier: str
    received_at: datetime
    line: str = "GET /v1 200"


@dataclass(frozen=True, order=True)
class ResearchRow:
    tier: str
    model: str
    role: str
    received_month: date
    body_chars: int


@dataclass(frozen=True)
class World:
    """Everything the stores hold at one instant. ``partitions`` are the (tier, day) tables that exist beforehand."""

    accounts: tuple[Account, ...] = ()
    messages: tuple[Message, ...] = ()
    quarantined: tuple[Message, ...] = ()
    flags: tuple[Flag, ...] = ()
    scores: tuple[Score, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    cases: tuple[Case, ...] = ()
    training: tuple[Training, ...] = ()
    holds: tuple[Hold, ...] = ()
    erasures: tuple[Erasure, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    research: tuple[ResearchRow, ...] = ()
    partitions: frozenset[tuple[str, date]] = field(default=frozenset())

    def __add__(self, other: World) -> World:
        """Two worlds side by side; their identifiers must not meet."""
        return World(
            *(
                getattr(self, name) | getattr(other, name)
                if name == "partitions"
                else getattr(self, name) + getattr(other, name)
                for name in self.__dataclass_fields__
            )
        )

    def message(self, message_id: UUID) -> Message:
        return next(m for m in (*self.messages, *self.quarantined) if m.message_id == message_id)
