"""Large generated worlds for the differential test: many records, every exception, every boundary at ±1 µs.

What befalls whom is kept beside the rows, so that the core can be asked without reading a store back.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dateutil.relativedelta import relativedelta

from lifecycle.policy.decide import Fact
from lifecycle.policy.models import Category, Trigger
from lifecycle.policy.periods import Period

TIERS = ("consumer", "beta", "evaluation", "business")
UNKNOWN = "enterprise"
TICK = timedelta(microseconds=1)
LEAD = timedelta(days=3)
# The calendar and PostgreSQL's own order of intervals disagree about some of these (a year against 365 days).
RETAINS: dict[str, Period] = {
    "0": Period(),
    "1 day": Period(days=1),
    "7 days": Period(days=7),
    "30 days": Period(days=30),
    "1 month": Period(months=1),
    "365 days": Period(days=365),
    "1 year": Period(months=12),
    "13 months": Period(months=13),
    "2 years": Period(months=24),
    "1 month 5 days": Period(months=1, days=5),
    "36 hours": Period(seconds=36 * 3600),
}
COLLIDING = ("30 days", "1 month", "365 days", "1 year")
Row = tuple[Any, ...]
Facts = dict[str, list[Fact]]


@dataclass(frozen=True)
class Record:
    """One record as the core sees it."""

    table: str
    key: UUID
    category: Category
    tier: str
    clock: datetime
    account: UUID
    conversation: UUID | None = None
    message: UUID | None = None


@dataclass
class Crowd:
    """Rows by table, and the facts by what they name (``<scope>:<target>``)."""

    as_of: datetime
    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    records: list[Record] = field(default_factory=list)
    facts: Facts = field(default_factory=lambda: defaultdict(list))
    conversation_of: dict[UUID, UUID] = field(default_factory=dict)

    def facts_of(self, record: Record) -> list[Fact]:
        """Everything that names the record, its message, its conversation, its account or its dataset."""
        names = [f"account:{record.account}", f"dataset:{_DATASET[record.table]}"]
        conversation = record.conversation
        if record.message is not None:
            names.append(f"message:{record.message}")
            if conversation is None:
                # Only a hold reaches a record by way of its message's conversation.
                known = self.conversation_of.get(record.message)
                names.append(f"held conversation:{known}")
        if conversation is not None:
            names += [f"conversation:{conversation}", f"held conversation:{conversation}"]
        return [fact for name in names for fact in self.facts.get(name, ())]


_DATASET = {
    "app.messages": "messages",
    "lifecycle.quarantine": "messages",
    "app.safety_scores": "app.safety_scores",
    "app.feedback": "feedback",
    "app.accounts": "accounts",
}


def around(edges: Sequence[datetime]) -> list[datetime]:
    return [edge + shift for edge in edges for shift in (-TICK, timedelta(0), TICK)]


def _receipts(as_of: datetime) -> list[datetime]:
    """Clocks beside every boundary of every maximum, 29 February, both sides of clock changes, and now."""
    ahead = as_of + LEAD
    days = [0, 1, 7, 28, 30, 35, 36, 90, 365, 366, 396]
    edges = [ahead - timedelta(days=n) for n in days] + [as_of, as_of - timedelta(days=1), ahead - timedelta(hours=36)]
    edges += [ahead - relativedelta(months=n) for n in (1, 12, 13, 24)]
    edges += [datetime(year, 2, day, hour, tzinfo=UTC) for year in (2024, 2023) for day in (28,) for hour in (0, 18)]
    edges += [datetime(2024, 2, 29, hour, tzinfo=UTC) for hour in (0, 6, 12)] + [datetime(2024, 3, 1, tzinfo=UTC)]
    # New York falls back at 06:00 UTC and springs ahead at 07:00, Berlin at 01:00 UTC.
    edges += [datetime(2025, 11, 2, 6, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC)]
    edges += [datetime(2025, 10, 26, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)]
    edges += [as_of - timedelta(days=n, minutes=30) for n in (2, 26, 40, 100, 400, 800)]
    return around(edges)


def _starts(as_of: datetime, years: int) -> list[datetime]:
    """Clocks whose period of so many years is over, or not, at as-of; 29 February where it exists."""
    start = as_of - relativedelta(years=years)
    edges = [start, start - timedelta(days=1), start + timedelta(days=1)]
    edges += [datetime(year, 2, 29, hour, tzinfo=UTC) for year in (2016, 2020, 2024) for hour in (0, 10, 12)]
    return [edge for edge in around(edges) if edge < as_of] + [as_of - timedelta(days=1), as_of, as_of + TICK]


class Generator:
    """Fills a crowd from one seed."""

    def __init__(self, seed: str, as_of: datetime) -> None:
        self.rng = random.Random(seed)
        self.crowd = Crowd(as_of)
        self.receipts = _receipts(as_of)
        self.ends = [None, None, as_of - timedelta(hours=1), as_of - TICK, as_of, as_of + TICK, as_of + timedelta(9)]

    def uuid(self) -> UUID:
        return UUID(int=self.rng.getrandbits(128), version=4)

    def began(self) -> datetime:
        """Seconds to years ago, or (what is dated ahead) soon."""
        as_of = self.crowd.as_of
        back = self.rng.choice([timedelta(0), TICK, -TICK, timedelta(1), timedelta(30), timedelta(400), timedelta(-2)])
        return as_of - back

    def ended(self) -> datetime | None:
        return self.rng.choice(self.ends)

    def happens(self, share: float) -> bool:
        return self.rng.random() < share

    def fill(self, accounts: int) -> Crowd:
        for _ in range(accounts):
            self._account()
        return self.crowd

    def _account(self) -> None:
        crowd, rng = self.crowd, self.rng
        account, tier = self.uuid(), rng.choice(TIERS)
        last = rng.choice(_starts(crowd.as_of, 3))
        crowd.rows["app.accounts"].append((account, tier, "a@example.org", "A", last, last))
        crowd.records.append(Record("app.accounts", account, Category.ACCOUNT_DATA, tier, last, account))
        self._exceptions("account", account, 0.05, 0.08)
        if self.happens(0.12):
            for _ in range(rng.choice([1, 1, 2])):
                began, ended = self.began(), self.ended()
                crowd.rows["app.enforcement_cases"].append((self.uuid(), account, began, ended))
                crowd.facts[f"account:{account}"].append(Fact(Trigger.CASE, began, ended))
        if self.happens(0.4):
            self._agreements(account)
        for _ in range(rng.randrange(1, 4)):
            self._conversation(account, tier)

    def _agreements(self, account: UUID) -> None:
        """Several at once, often from the same instant: then the one that ends first counts."""
        since = self.began()
        for _ in range(self.rng.choice([1, 2, 3])):
            began = since if self.happens(0.6) else self.began()
            text, ended = self.rng.choice([*RETAINS, *COLLIDING, *COLLIDING]), self.ended()
            category = "prompts_and_outputs" if self.happens(0.85) else "feedback"
            self.crowd.rows["app.agreements"].append((self.uuid(), account, category, text, began, ended))
            if category == "prompts_and_outputs":
                self.crowd.facts[f"account:{account}"].append(Fact(Trigger.AGREEMENT, began, ended, RETAINS[text]))

    def _conversation(self, account: UUID, tier: str) -> None:
        conversation = self.uuid()
        self._exceptions("conversation", conversation, 0.04, 0.06)
        messages = [self._message(account, conversation, tier) for _ in range(self.rng.randrange(3, 9))]
        for _ in range(self.rng.choice([0, 0, 0, 1, 2])):
            self._feedback(account, conversation, self.rng.choice([None, *messages]))

    def _message(self, account: UUID, conversation: UUID, tier: str) -> UUID:
        crowd, rng = self.crowd, self.rng
        message, clock = self.uuid(), rng.choice(self.receipts)
        shown = tier if self.happens(0.96) else UNKNOWN
        if tier != "business" and self.happens(0.12):
            where = "lifecycle.quarantine"
            crowd.rows[where].append((message, conversation, account, tier, clock, clock, "p/", "0"))
            shown = tier
        else:
            where = "app.messages"
            crowd.rows[where].append((message, conversation, account, shown, "prompt", clock, "m", "x"))
        crowd.conversation_of[message] = conversation
        crowd.records.append(
            Record(where, message, Category.PROMPTS_AND_OUTPUTS, shown, clock, account, conversation, message)
        )
        self._exceptions("message", message, 0.03, 0.05)
        if self.happens(0.2):
            began, ended = self.began(), self.ended()
            crowd.rows["app.safety_flags"].append((message, account, "c", began, ended))
            crowd.facts[f"message:{message}"].append(Fact(Trigger.FLAG, began, ended))
        if self.happens(0.15):
            self._score(account, message, tier)
        return message

    def _score(self, account: UUID, message: UUID, tier: str) -> None:
        key, clock = self.uuid(), self.rng.choice(_starts(self.crowd.as_of, 7))
        self.crowd.rows["app.safety_scores"].append((key, message, account, tier, clock))
        self.crowd.records.append(
            Record("app.safety_scores", key, Category.SAFETY_SCORES, tier, clock, account, None, message)
        )

    def _feedback(self, account: UUID, conversation: UUID, message: UUID | None) -> None:
        key, given, withdrawn = self.uuid(), self.rng.choice(_starts(self.crowd.as_of, 10)), self.ended()
        self.crowd.rows["app.feedback"].append((key, account, conversation, message, 1, given, withdrawn))
        self.crowd.records.append(
            Record("app.feedback", key, Category.FEEDBACK, "consumer", given, account, conversation, message)
        )
        self.crowd.facts[f"conversation:{conversation}"].append(Fact(Trigger.CONSENT, given, withdrawn))

    def _exceptions(self, scope: str, target: UUID, held: float, erased: float) -> None:
        """Holds and erasure requests on one target, written as people write them."""
        spell: Callable[[], str] = lambda: self.rng.choice([str(target), f" {target} ", str(target).upper()])  # noqa: E731
        holds, requests = self.crowd.rows["lifecycle.legal_holds"], self.crowd.rows["lifecycle.erasure_requests"]
        if self.happens(held):
            for _ in range(self.rng.choice([1, 1, 2])):
                began, ended = self.began(), self.ended()
                holds.append((self.uuid(), scope, spell(), began, ended, "r", "p"))
                name = f"held conversation:{target}" if scope == "conversation" else f"{scope}:{target}"
                self.crowd.facts[name].append(Fact(Trigger.HOLD, began, ended))
        if self.happens(erased):
            for _ in range(self.rng.choice([1, 1, 2])):
                began = self.began()
                ended = self.rng.choice([None, None, *self.receipts])
                requests.append((self.uuid(), scope, spell(), began, ended))
                self.crowd.facts[f"{scope}:{target}"].append(Fact(Trigger.ERASURE, began, ended))

    def hold_dataset(self, name: str, ended: datetime | None) -> None:
        began = self.began()
        self.crowd.rows["lifecycle.legal_holds"].append((self.uuid(), "dataset", f" {name}", began, ended, "r", "p"))
        self.crowd.facts[f"dataset:{name}"].append(Fact(Trigger.HOLD, began, ended))


COLUMNS: dict[str, tuple[str, ...]] = {
    "app.accounts": ("account_id", "tier", "email", "display_name", "created_at", "last_interaction_at"),
    "app.messages": (
        "message_id", "conversation_id", "account_id", "tier", "role", "received_at", "model", "body",
    ),
    "lifecycle.quarantine": (
        "message_id", "conversation_id", "account_id", "tier", "received_at", "quarantined_at", "prefix",
        "record_sha256",
    ),
    "app.safety_flags": ("message_id", "account_id", "classifier", "flagged_at", "cleared_at"),
    "app.safety_scores": ("score_id", "message_id", "account_id", "tier", "scored_at"),
    "app.feedback": (
        "feedback_id", "account_id", "conversation_id", "message_id", "rating", "submitted_at", "withdrawn_at",
    ),
    "app.enforcement_cases": ("case_id", "account_id", "opened_at", "closed_at"),
    "app.agreements": ("agreement_id", "account_id", "category", "retain", "effective_from", "effective_to"),
    "lifecycle.legal_holds": (
        "hold_id", "scope", "target", "placed_at", "released_at", "reason", "placed_by",
    ),
    "lifecycle.erasure_requests": ("request_id", "scope", "target", "requested_at", "completed_at"),
}  # fmt: skip


def by_table(crowd: Crowd) -> Iterator[tuple[str, Sequence[str], list[Row]]]:
    """What to COPY: table, columns, rows."""
    for table, rows in crowd.rows.items():
        yield table, COLUMNS[table], rows
