"""Records with names, for tests that follow one of them and say what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from .dates import utc
from .facts import Account, Flag, Message, StoredObject, ident
from .load import app_content

AS_OF = utc(2023, 6, 15, 12)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def message(
    name: str,
    tier: str = "consumer",
    age: timedelta = DAY * 100,
    *,
    account: str | None = None,
    conversation: str | None = None,
    received_at: datetime | None = None,
    body: str = "what was said",
    tools: tuple[str, ...] = (),
) -> Message:
    """An inline message; by default of an account and a conversation of its own."""
    return Message(
        message_id=ident(name),
        conversation_id=ident(conversation or name, "conversation"),
        account_id=ident(account or name, "account"),
        tier=tier,
        role="prompt",
        received_at=received_at or AS_OF - age,
        body=body,
        tools=tools,
    )


def in_landing(m: Message, *earlier: bytes) -> Message:
    """The same message with its content in S3, as the application wrote it."""
    content = app_content(m, m.body or "")
    return replace(m, body=None, stored=StoredObject(m.landing_key, (*earlier, content)))


def in_partition(m: Message, *earlier: bytes) -> Message:
    """The same message with its content in S3, where the day's objects lie."""
    return in_landing(m, *earlier).partitioned()


def account_of(m: Message, *, idle: timedelta = DAY) -> Account:
    last = AS_OF - idle
    return Account(m.account_id, m.tier, f"{m.account_id}@example.org", "A. Person", last, last)


def flag(m: Message, *, cleared_at: datetime | None = None) -> Flag:
    return Flag(m.message_id, m.account_id, m.received_at + HOUR, cleared_at)
