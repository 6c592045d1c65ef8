"""One busy world, the same every time: every tier at telling ages, each befallen by each exception in turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from .dates import utc
from .facts import (
    TIERS,
    Account,
    Agreement,
    Case,
    Erasure,
    Feedback,
    Flag,
    Hold,
    LogRecord,
    Message,
    Retain,
    Score,
    StoredObject,
    Training,
    World,
    ident,
)
from .load import app_content

AS_OF = utc(2025, 6, 15, 12)
DAY = timedelta(days=1)
# Fresh; past business; near and past consumer; past the end of quarantine.
AGES = (1, 24, 26, 60, 86, 88, 89, 100, 800)
BEFALLS = ("nothing", "hold", "flag", "cleared", "feedback", "agreement", "case", "erasure", "nothing")


def busy_world(accounts_per_tier: int = 9, as_of: datetime = AS_OF, ages: tuple[int, ...] = AGES) -> World:
    """A message of each age per account; with nine accounts every exception befalls one of each tier."""
    world = World()
    for t, tier in enumerate((*TIERS, "prototype")):
        for n in range(accounts_per_tier if tier in TIERS else 2):
            world = world + _account(tier, n, BEFALLS[(n + t) % len(BEFALLS)] if n else BEFALLS[0], as_of, ages)
    return world


def _account(tier: str, n: int, befalls: str, as_of: datetime, ages: tuple[int, ...]) -> World:
    account = ident("busy", tier, n)
    messages = tuple(_message(tier, n, i, account, as_of - DAY * age) for i, age in enumerate(ages))
    last = as_of - (DAY * 1200 if n % 3 == 2 else DAY)
    world = World(
        accounts=(Account(account, tier, f"{account}@example.org", f"Person {n}", last, last),),
        messages=messages,
        scores=tuple(
            Score(ident("score", m.message_id), m.message_id, account, tier, as_of - DAY * (2600 if i % 2 else 10))
            for i, m in enumerate(messages[:4])
        ),
        training=tuple(
            Training(ident("training", m.message_id), m.message_id, account, basis, m.received_at)
            for m, basis in zip(messages, ("permission", "safety_review"), strict=False)
        ),
        logs=tuple(_log(m, i) for i, m in enumerate(messages)),
        partitions=frozenset((tier, m.received_at.date()) for m in messages if tier in TIERS and m.received_at.day % 2),
    )
    return world + _befall(befalls, account, messages, as_of)


def _message(tier: str, n: int, i: int, account: UUID, received: datetime) -> Message:
    m = Message(
        message_id=ident("busy", tier, n, "message", i),
        conversation_id=ident("busy", tier, n, "conversation", i % 2),
        account_id=account,
        tier=tier,
        role="prompt" if i % 2 else "output",
        received_at=received - timedelta(minutes=n * 10 + i),
        model=f"m-{n % 2}",
        body=None,
        tools=("search", "browse") if i % 3 == 0 else (),
    )
    if (n + i) % 3:
        return replace(m, body=f"text {n} {i}")
    content = app_content(m, f"object {n} {i}")
    key = m.landing_key if i % 2 else m.partitioned_key
    versions = (app_content(m, "earlier"), content) if i % 4 == 0 else (content,)
    return replace(m, stored=StoredObject(key, versions))


def _log(m: Message, i: int) -> LogRecord:
    ending = "parquet" if i % 2 else "jsonl.gz"
    return LogRecord(
        f"requests/date={m.received_at.date().isoformat()}/part-{i % 2}.{ending}",
        m.message_id,
        m.account_id,
        m.tier,
        m.received_at,
        f"POST /v1/messages {i}",
    )


def _befall(what: str, account: UUID, messages: tuple[Message, ...], as_of: datetime) -> World:
    past = as_of - DAY * 2
    if what == "hold":
        return World(holds=(Hold(ident("hold", account), "account", str(account), past),))
    if what in ("flag", "cleared"):
        cleared = as_of - DAY if what == "cleared" else None
        return World(flags=tuple(Flag(m.message_id, account, m.received_at, cleared) for m in messages))
    if what == "feedback":
        about = messages[0]
        return World(feedback=(Feedback(ident("feedback", account), account, about.conversation_id, None, past),))
    if what == "agreement":
        return World(agreements=(Agreement(ident("agreement", account), account, Retain(days=7), as_of - DAY * 999),))
    if what == "case":
        return World(cases=(Case(ident("case", account), account, past),))
    if what == "erasure":
        return World(erasures=(Erasure(ident("erasure", account), "account", str(account), past),))
    return World()
