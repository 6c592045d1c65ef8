"""Small adversarial worlds: independent stories side by side, each about one account and what may befall its messages.

Instants are chosen at the boundaries that RULES.md makes, exactly on them and a microsecond to either side, and every
exception may be open, ended, about to end, or end at exactly the run's as-of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from oracle.dates import LEAD, TICK, default_boundary, months_before, utc
from oracle.facts import (
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
from oracle.load import app_content

DAY = timedelta(days=1)
FAR = timedelta(days=4000)
UNKNOWN_TIER = "prototype"

# Each has a reason: an ordinary day with a time of day; the lead reaching 28 February of a year after a leap year (two
# years from 29 February); 1 March at ten and at three years from 29 February; 29 February itself.
INSTANTS = (
    utc(2025, 6, 15, 12, 34, 56, 789_012),
    utc(2026, 2, 25, 12),
    utc(2026, 3, 1, 10, 30),
    utc(2023, 3, 1, 10),
    utc(2024, 2, 29),
)
RETAINS = (Retain(days=0), Retain(days=1), Retain(days=7), Retain(months=1), Retain(days=365), Retain(months=12))


@dataclass(frozen=True)
class Clock:
    """The instants that matter to a run at ``as_of``."""

    as_of: datetime

    def receipts(self) -> st.SearchStrategy[datetime]:
        """Around each maximum's cut-off, and around the run itself."""
        edges = [default_boundary(self.as_of, days) for days in (28, 90, 1, 7, 365)]
        edges += [*_starts(self.as_of + LEAD, 24), months_before(self.as_of + LEAD, 1)]
        recent = [self.as_of - DAY * days for days in (2, 26, 27, 89, 100, 400, 900)]
        return st.one_of(_around(edges), st.sampled_from([*recent, *recent, self.as_of - TICK, self.as_of]))

    def starts_of(self, years: int) -> st.SearchStrategy[datetime]:
        """Around the start whose minimum of so many years is over exactly at ``as_of``."""
        recent = [self.as_of - DAY * days for days in (1, 200)]
        return st.one_of(_around(_starts(self.as_of, years * 12)), st.sampled_from(recent))

    def ends(self) -> st.SearchStrategy[datetime | None]:
        """When an exception ended: never, long ago, later, and at exactly the run's instant."""
        return st.sampled_from(
            [None, None, None, self.as_of - DAY, self.as_of - TICK, self.as_of, self.as_of + TICK, self.as_of + DAY]
        )


def _starts(end: datetime, months: int) -> list[datetime]:
    """Every start whose calendar period may end at ``end``: 29 February too where it exists."""
    start = months_before(end, months)
    leap = months_before(end + DAY, months) - DAY
    return [start] if start == leap else [start, leap]


def _around(edges: list[datetime]) -> st.SearchStrategy[datetime]:
    return st.builds(lambda edge, shift: edge + shift, st.sampled_from(edges), st.sampled_from([-TICK, 0 * TICK, TICK]))


CONTENTS = st.sampled_from(["", "hello", "naïve café ☕", 'line\nbreak\t"quoted" \\back', "x" * 3000])


@st.composite
def story(draw: st.DrawFn, name: str, clock: Clock) -> World:
    """One account, one to six messages in one or two conversations, and whatever befalls them."""
    tier = draw(st.sampled_from([*TIERS, *TIERS, UNKNOWN_TIER]))
    account = ident(name, "account")
    messages = draw(_messages(name, account, tier, clock))
    conversations = sorted({m.conversation_id for m in messages})
    own = World(messages=tuple(messages))
    parts = [
        _account(account, tier, clock),
        _flags(messages, clock),
        _feedback(name, account, conversations, messages, clock),
        _agreements(name, account, clock),
        _cases(name, account, clock),
        _holds(name, account, conversations, messages, clock),
        _erasures(name, account, conversations, messages, clock),
        _training(name, messages, clock),
        _scores(name, messages, clock),
        _logs(messages, account, tier, clock),
        _partitions(messages),
    ]
    for part in parts:
        own = own + draw(part)
    return own


@st.composite
def _messages(draw: st.DrawFn, name: str, account: UUID, tier: str, clock: Clock) -> list[Message]:
    count = draw(st.integers(1, 6))
    made = []
    for n in range(count):
        received = draw(clock.receipts())
        message = Message(
            message_id=ident(name, "message", n),
            conversation_id=ident(name, "conversation", draw(st.integers(0, 1))),
            account_id=account,
            tier=tier,
            role=draw(st.sampled_from(["prompt", "output"])),
            received_at=received,
            model=draw(st.sampled_from(["m-1", "m-2", None])),
            client_ip=draw(st.sampled_from([None, "192.0.2.7", "2001:db8::1"])),
            body=None,
            tools=tuple(draw(st.sampled_from([(), (), ("search",), ("browse", "search")]))),
        )
        made.append(draw(_content(message)))
    return made


@st.composite
def _content(draw: st.DrawFn, message: Message) -> Message:
    """Inline, in landing, or partitioned already; at times several versions, at times not JSON at all."""
    text = draw(CONTENTS)
    where = draw(st.sampled_from(["inline", "inline", "landing", "partitioned"]))
    if where == "inline":
        return replace(message, body=draw(st.sampled_from([text, text, text, None])))
    content, kind = app_content(message, text), "application/json"
    if draw(st.integers(0, 7)) == 0:
        content, kind = text.encode() + b" raw", "text/plain"
    versions: tuple[bytes, ...] = (content,)
    if draw(st.integers(0, 3)) == 0:
        versions = (app_content(message, "an earlier version"), content)
    key = message.landing_key if where == "landing" else message.partitioned_key
    return replace(message, stored=StoredObject(key, versions, kind))


@st.composite
def _account(draw: st.DrawFn, account: UUID, tier: str, clock: Clock) -> World:
    """The account row, its last interaction around three years ago at times; some accounts are unknown."""
    if draw(st.integers(0, 9)) == 0:
        return World()
    last = draw(clock.starts_of(3))
    return World(accounts=(Account(account, tier, f"{account}@example.org", "A. Person", last - DAY, last),))


@st.composite
def _flags(draw: st.DrawFn, messages: list[Message], clock: Clock) -> World:
    flags = []
    for m in messages:
        if draw(st.integers(0, 2)) == 0:
            flagged = m.received_at + draw(st.sampled_from([timedelta(minutes=5), DAY * 3]))
            flags.append(Flag(m.message_id, m.account_id, flagged, draw(clock.ends())))
    return World(flags=tuple(flags))


@st.composite
def _feedback(
    draw: st.DrawFn, name: str, account: UUID, conversations: list[UUID], messages: list[Message], clock: Clock
) -> World:
    rows = []
    for n, conversation in enumerate(conversations):
        for again in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            about = [m.message_id for m in messages if m.conversation_id == conversation]
            rows.append(
                Feedback(
                    feedback_id=ident(name, "feedback", n, again),
                    account_id=draw(st.sampled_from([account, account, account, ident(name, "somebody else")])),
                    conversation_id=conversation,
                    message_id=draw(st.sampled_from([None, *about])),
                    submitted_at=draw(clock.starts_of(10)),
                    withdrawn_at=draw(clock.ends()),
                )
            )
    return World(feedback=tuple(rows))


@st.composite
def _agreements(draw: st.DrawFn, name: str, account: UUID, clock: Clock) -> World:
    starts = st.sampled_from([clock.as_of - FAR, clock.as_of - DAY * 30, clock.as_of, clock.as_of + TICK])
    return World(
        agreements=tuple(
            Agreement(
                agreement_id=ident(name, "agreement", n),
                account_id=account,
                retain=draw(st.sampled_from(RETAINS)),
                effective_from=draw(starts),
                effective_to=draw(clock.ends()),
                category=draw(st.sampled_from(["prompts_and_outputs"] * 4 + ["feedback"])),
            )
            for n in range(draw(st.sampled_from([0, 0, 1, 2])))
        )
    )


@st.composite
def _cases(draw: st.DrawFn, name: str, account: UUID, clock: Clock) -> World:
    return World(
        cases=tuple(
            Case(ident(name, "case", n), account, clock.as_of - DAY * 50, draw(clock.ends()))
            for n in range(draw(st.sampled_from([0, 0, 0, 1, 2])))
        )
    )


@st.composite
def _holds(
    draw: st.DrawFn, name: str, account: UUID, conversations: list[UUID], messages: list[Message], clock: Clock
) -> World:
    """Holds on the account, a conversation or a message; some placed after the run's instant, some released."""
    targets = [("account", account), *(("conversation", c) for c in conversations)]
    targets += [("message", m.message_id) for m in messages]
    return World(
        holds=tuple(
            Hold(
                hold_id=ident(name, "hold", n),
                scope=scope,
                target=str(target),
                placed_at=clock.as_of + draw(st.sampled_from([-DAY * 300, -TICK, TICK, DAY * 2])),
                released_at=draw(clock.ends()),
            )
            for n in range(draw(st.sampled_from([0, 0, 0, 1, 2])))
            for scope, target in [draw(st.sampled_from(targets))]
        )
    )


@st.composite
def _erasures(
    draw: st.DrawFn, name: str, account: UUID, conversations: list[UUID], messages: list[Message], clock: Clock
) -> World:
    """Requests that are open, or were completed before, at, or after a message of their scope arrived."""
    targets = [("account", account), *(("conversation", c) for c in conversations)]
    targets += [("message", m.message_id) for m in messages]
    received = [m.received_at for m in messages if m.received_at < clock.as_of]
    completions = [None, None, *received, *(at - TICK for at in received)]
    made = []
    for n in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        scope, target = draw(st.sampled_from(targets))
        completed = draw(st.sampled_from(completions))
        made.append(
            Erasure(
                request_id=ident(name, "erasure", n),
                scope=scope,
                target=str(target),
                requested_at=(completed or clock.as_of)
                - draw(st.sampled_from([DAY, -DAY if completed is None else DAY])),
                completed_at=completed,
                outcome=None if completed is None else draw(st.sampled_from(["done", "kept: legal_obligation"])),
            )
        )
    return World(erasures=tuple(made))


@st.composite
def _training(draw: st.DrawFn, name: str, messages: list[Message], clock: Clock) -> World:
    return World(
        training=tuple(
            Training(
                ident(name, "training", n),
                m.message_id,
                m.account_id,
                draw(st.sampled_from(["safety_review", "permission", "curiosity"])),
                min(m.received_at, clock.as_of - DAY),
            )
            for n, m in enumerate(messages)
            if draw(st.integers(0, 3)) == 0
        )
    )


@st.composite
def _scores(draw: st.DrawFn, name: str, messages: list[Message], clock: Clock) -> World:
    return World(
        scores=tuple(
            Score(ident(name, "score", n), m.message_id, m.account_id, m.tier, draw(clock.starts_of(7)))
            for n, m in enumerate(messages)
            if draw(st.integers(0, 2)) == 0
        )
    )


@st.composite
def _logs(draw: st.DrawFn, messages: list[Message], account: UUID, tier: str, clock: Clock) -> World:
    """Lines about the messages, shared objects with the other stories, in both formats."""
    records = []
    for n, m in enumerate(messages):
        if draw(st.integers(0, 2)) == 0:
            received = draw(clock.receipts())
            ending = draw(st.sampled_from(["jsonl.gz", "parquet"]))
            key = f"requests/date={received.date().isoformat()}/part-0.{ending}"
            records.append(LogRecord(key, m.message_id, account, tier, received, f"GET /v1/{n} 200"))
    return World(logs=tuple(records))


@st.composite
def _partitions(draw: st.DrawFn, messages: list[Message]) -> World:
    """Day tables that exist beforehand; messages of other days lie in their tier's default partition."""
    days = {(m.tier, m.received_at.date()) for m in messages if m.tier in TIERS}
    return World(partitions=frozenset(day for day in sorted(days) if draw(st.booleans())))


@st.composite
def worlds(draw: st.DrawFn, stories: int = 12, instants: tuple[datetime, ...] = INSTANTS) -> tuple[World, datetime]:
    """Several stories in one store, and the instant of the run that is to judge them."""
    as_of = draw(st.sampled_from(instants))
    clock = Clock(as_of)
    world = World()
    for n in range(stories):
        world = world + draw(story(f"story-{n}", clock))
    return world + draw(_dataset_holds(clock)), as_of


@st.composite
def _dataset_holds(draw: st.DrawFn, clock: Clock) -> World:
    """Now and then a whole dataset is under hold, named by its id or by its table."""
    name = draw(st.sampled_from([None] * 8 + ["feedback", "app.safety_scores", "accounts", "request_logs"]))
    if name is None:
        return World()
    return World(holds=(Hold(ident("hold", name), "dataset", name, clock.as_of - DAY, draw(clock.ends())),))
