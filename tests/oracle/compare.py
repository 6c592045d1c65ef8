"""Holds what happened against what had to happen. Each difference names the promise (DESIGN.md) that it breaks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from .endstate import Expected
from .facts import Message, World
from .observe import Observed, Stored
from .oracle import Place

EARLY, LATE, COPY, LEDGER, AGREE = (
    "1 never early",
    "2 never late",
    "3 copy before cut",
    "5 recorded",
    "7 agree",
)


@dataclass(frozen=True)
class Difference:
    promise: str
    what: str

    def __str__(self) -> str:
        return f"[{self.promise}] {self.what}"


def differences(expected: Expected, observed: Observed) -> list[Difference]:
    """Every way in which the stores are not in the state that the oracle demands."""
    return [
        *_messages(expected, observed),
        *_objects(expected, observed),
        *_quarantine(expected, observed),
        *_sets(expected, observed),
        *_accounts(expected, observed),
        *_erasures(expected, observed),
        *_logs(expected, observed),
        *_research(expected, observed),
    ]


def place_of(message_id: UUID, observed: Observed) -> Place:
    if message_id in observed.app:
        return Place.APP
    return Place.QUARANTINE if message_id in observed.index else Place.GONE


def describe(m: Message) -> str:
    where = "inline" if m.stored is None else m.stored.key.split("/", 1)[0]
    return f"{m.tier} {m.message_id} received {m.received_at.isoformat()} ({where})"


def _all(expected: Expected) -> Iterator[Message]:
    yield from expected.before.messages
    yield from expected.before.quarantined


def _messages(expected: Expected, observed: Observed) -> Iterator[Difference]:
    for m in _all(expected):
        verdict = expected.verdicts[m.message_id]
        seen = place_of(m.message_id, observed)
        accepted = {Place.GONE if p is Place.DEIDENTIFIED else p for p in verdict.places}
        if seen not in accepted:
            promise = EARLY if seen is Place.GONE else LATE
            wanted = "/".join(sorted(verdict.places))
            yield Difference(
                promise,
                f"{describe(m)}: by {verdict.rule} should be {wanted}, is {seen}",
            )
        elif seen is Place.APP:
            yield from _same_row(m, observed.app[m.message_id])
    for message_id, count in observed.copies.items():
        if count > 1:
            yield Difference(AGREE, f"message {message_id} is there {count} times")
    both = observed.app.keys() & observed.index.keys()
    for message_id in both:
        yield Difference(AGREE, f"message {message_id} is both in the store and in quarantine")
    known = {m.message_id for m in _all(expected)}
    for message_id in (observed.app.keys() | observed.index.keys()) - known:
        yield Difference(AGREE, f"message {message_id} came from nowhere")


def _same_row(m: Message, seen: Message) -> Iterator[Difference]:
    if seen is m:
        return
    bare = (
        replace(m, stored=None, tools=tuple(sorted(m.tools))),
        replace(seen, stored=None),
    )
    if bare[0] != bare[1]:
        names = [n for n in m.__dataclass_fields__ if getattr(bare[0], n) != getattr(bare[1], n)]
        yield Difference(EARLY, f"{describe(m)}: columns {names} are not what they were")


def _objects(expected: Expected, observed: Observed) -> Iterator[Difference]:
    """product-data holds the objects of the messages that are there, and no version of any other."""
    lawful: set[str] = set()
    for m in _all(expected):
        seen = observed.app.get(m.message_id)
        if seen is None or m.stored is None:
            continue
        if seen.stored is None or seen.stored.key not in expected.keys[m.message_id]:
            where = seen.stored.key.replace(str(m.message_id), "<id>") if seen.stored else "nowhere"
            yield Difference(AGREE, f"{describe(m)}: its object lies under {where}")
            lawful.add(m.stored.key)
            continue
        lawful.add(seen.stored.key)
        kept = observed.data.get(seen.stored.key)
        if kept is None or kept.content != m.stored.content:
            yield Difference(EARLY, f"{describe(m)}: its object is missing or not what it was")
        elif kept.content_type != m.stored.content_type:
            yield Difference(EARLY, f"{describe(m)}: content type became {kept.content_type}")
        elif seen.stored.key == m.stored.key and kept.versions < len(m.stored.versions):
            yield Difference(
                EARLY,
                f"{describe(m)}: of {len(m.stored.versions)} versions {kept.versions} are left",
            )
    for key, stored in observed.data.items():
        if key not in lawful:
            kind = key.split("/", 1)[0]
            yield Difference(
                AGREE,
                f"{stored.versions} versions and {stored.markers} markers under {kind}/ belong to no message: {key}",
            )


def _quarantine(expected: Expected, observed: Observed) -> Iterator[Difference]:
    lawful: dict[str, Message] = {}
    for m in _all(expected):
        if m.message_id not in observed.index:
            continue
        lawful[m.quarantine_prefix + "record.json"] = m
        if m.stored is not None:
            lawful[m.quarantine_prefix + "object"] = m
        yield from quarantine_copy(m, observed)
    for key in observed.quarantine.keys() - lawful.keys():
        yield Difference(
            LATE,
            f"quarantine holds a key that belongs to no quarantined message: {key}",
        )
    for key in lawful.keys() & observed.quarantine.keys():
        stored = observed.quarantine[key]
        if (stored.versions, stored.markers) != (1, 0):
            yield Difference(
                COPY,
                f"quarantine {key} has {stored.versions} versions, {stored.markers} markers",
            )


def quarantine_copy(m: Message, observed: Observed) -> Iterator[Difference]:
    """Record, children and object of a quarantined message equal the original."""
    entry = observed.index[m.message_id]
    if (
        entry.account_id,
        entry.conversation_id,
        entry.tier,
        entry.received_at,
        entry.prefix,
    ) != (
        m.account_id,
        m.conversation_id,
        m.tier,
        m.received_at,
        m.quarantine_prefix,
    ):
        yield Difference(COPY, f"{describe(m)}: the quarantine index says something else")
    record = observed.quarantine.get(m.quarantine_prefix + "record.json")
    if record is None or record.content is None:
        yield Difference(COPY, f"{describe(m)}: no record.json in quarantine")
    else:
        if hashlib.sha256(record.content).hexdigest() != entry.record_sha256:
            yield Difference(COPY, f"{describe(m)}: the index has another checksum for record.json")
        wrong = _record_differs(m, json.loads(record.content))
        if wrong:
            yield Difference(COPY, f"{describe(m)}: record.json differs in {wrong}")
    if m.stored is not None:
        yield from _object_copy(
            m,
            observed.quarantine.get(m.quarantine_prefix + "object"),
            entry.object_sha256,
        )


def _object_copy(m: Message, copy: Stored | None, sha256: str | None) -> Iterator[Difference]:
    assert m.stored is not None
    if copy is None or copy.content != m.stored.content:
        yield Difference(COPY, f"{describe(m)}: the object in quarantine is missing or differs")
    elif copy.content_type != m.stored.content_type:
        yield Difference(COPY, f"{describe(m)}: content type became {copy.content_type}")
    elif hashlib.sha256(copy.content).hexdigest() != sha256:
        yield Difference(COPY, f"{describe(m)}: the index has another checksum for the object")


def _record_differs(m: Message, record: dict[str, Any]) -> list[str]:
    row = record.get("row", {})
    wrong = [
        name
        for name in (
            "message_id",
            "conversation_id",
            "account_id",
            "tier",
            "role",
            "model",
            "body",
        )
        if row.get(name) != (None if getattr(m, name) is None else str(getattr(m, name)))
    ]
    if datetime.fromisoformat(row["received_at"]) != m.received_at:
        wrong.append("received_at")
    if (row.get("client_ip") or "").split("/")[0] != (m.client_ip or ""):
        wrong.append("client_ip")
    if (row.get("object_key") is None) != (m.stored is None):
        wrong.append("object_key")
    children = record.get("children", {}).get("app.message_tools", [])
    if sorted(child["tool_name"] for child in children) != sorted(m.tools):
        wrong.append("app.message_tools")
    if (record.get("version"), record.get("table")) != (1, "app.messages"):
        wrong.append("version or table")
    return wrong


def _sets(expected: Expected, observed: Observed) -> Iterator[Difference]:
    before = expected.before
    gone_messages = {i for i in expected.verdicts if place_of(i, observed) is Place.GONE}
    stray = observed.tools - observed.app.keys()
    if stray:
        yield Difference(LATE, f"{len(stray)} messages are not in the store but their tools are")
    for name, must, free, seen in (
        (
            "safety_flags",
            expected.flags,
            expected.free_flags - gone_messages,
            observed.flags,
        ),
        ("safety_scores", expected.scores, expected.free_scores, observed.scores),
        ("feedback", expected.feedback, frozenset[UUID](), observed.feedback),
        (
            "training_examples",
            expected.training,
            expected.free_training,
            observed.training,
        ),
    ):
        yield from _set_difference(name, must, free, seen)
    for name, count in (
        ("agreements", len(before.agreements)),
        ("cases", len(before.cases)),
        ("holds", len(before.holds)),
    ):
        if observed.others[name] != count:
            yield Difference(EARLY, f"{name}: {observed.others[name]} rows instead of {count}")


def _set_difference(
    name: str, must: AbstractSet[UUID], free: AbstractSet[UUID], seen: AbstractSet[UUID]
) -> Iterator[Difference]:
    for lost in must - seen - free:
        yield Difference(EARLY, f"{name} {lost} is gone")
    for left in seen - must - free:
        yield Difference(LATE, f"{name} {left} is still there")


def _accounts(expected: Expected, observed: Observed) -> Iterator[Difference]:
    original = {a.account_id: a for a in expected.before.accounts}
    for account_id, fate in expected.accounts.items():
        a = original[account_id]
        seen = observed.accounts.get(account_id)
        whole = (a.email, a.display_name)
        if fate is True and seen != whole:
            yield Difference(EARLY, f"account {account_id} lost its data or its row")
        elif fate is not True and seen not in (None, (None, None)):
            yield Difference(LATE, f"account {account_id} still has personal data")
        elif fate is False and seen is None:
            yield Difference(EARLY, f"account {account_id} is gone although something refers to it")
        elif fate is None and seen is not None and account_id not in expected.free_accounts:
            yield Difference(
                LATE,
                f"account {account_id} is still there although nothing refers to it",
            )


def _erasures(expected: Expected, observed: Observed) -> Iterator[Difference]:
    for request_id, (completed_at, outcomes) in expected.erasures.items():
        seen_at, seen = observed.erasures[request_id]
        normalised = None if seen is None else ", ".join(part.strip() for part in seen.split(","))
        if seen_at is None or normalised not in outcomes:
            yield Difference(
                LATE,
                f"erasure {request_id}: outcome {seen!r}, should be {' or '.join(sorted(outcomes))}",
            )
        elif seen_at != completed_at:
            yield Difference(
                LEDGER,
                f"erasure {request_id}: completed_at {seen_at}, should be {completed_at}",
            )


def _logs(expected: Expected, observed: Observed) -> Iterator[Difference]:
    lost = expected.logs - observed.logs
    left = observed.logs - expected.logs - expected.free_logs
    for record in lost:
        yield Difference(
            EARLY,
            f"log line of {record.tier} received {record.received_at.isoformat()} in {record.key} is gone",
        )
    for record in left:
        yield Difference(
            LATE,
            f"log line of {record.tier} received {record.received_at.isoformat()} in {record.key} is there",
        )
    keys = {record.key for record in expected.before.logs}
    original = Counter(record.key for record in expected.before.logs)
    now = Counter(record.key for record in observed.logs.elements())
    for key in keys:
        stored = observed.log_objects.get(key)
        if now[key] == original[key]:
            continue
        wanted = 1 if now[key] else 0
        seen = (0, 0) if stored is None else (stored.versions, stored.markers)
        if seen != (wanted, 0):
            yield Difference(
                LATE,
                f"{key} lost lines but {seen[0]} versions and {seen[1]} markers are left of it",
            )


def _research(expected: Expected, observed: Observed) -> Iterator[Difference]:
    lost = expected.research - observed.research
    extra = observed.research - expected.research - expected.free_research
    if lost:
        yield Difference(COPY, f"research lacks {dict(lost)}")
    if extra:
        yield Difference(LATE, f"research has rows it should not have: {dict(extra)}")


def world_after(expected: Expected, observed: Observed) -> World:
    """The world as the run left it, for the next day's verdicts: the original facts of what the stores still hold."""
    before = expected.before
    everyone = list(_all(expected))

    def kept(m: Message) -> Message:
        seen = observed.app[m.message_id]
        if m.stored is None or seen.stored is None:
            return m
        versions = m.stored.versions if seen.stored.key == m.stored.key else (m.stored.content,)
        return replace(m, stored=replace(m.stored, key=seen.stored.key, versions=versions))

    def copied(m: Message) -> Message:
        """Only what a reader gets is kept in quarantine, not the versions behind it."""
        return m if m.stored is None else replace(m, stored=replace(m.stored, versions=(m.stored.content,)))

    return replace(
        before,
        messages=tuple(kept(m) for m in everyone if m.message_id in observed.app),
        quarantined=tuple(copied(m) for m in everyone if m.message_id in observed.index),
        flags=tuple(f for f in before.flags if f.message_id in observed.flags),
        scores=tuple(s for s in before.scores if s.score_id in observed.scores),
        feedback=tuple(f for f in before.feedback if f.feedback_id in observed.feedback),
        training=tuple(t for t in before.training if t.example_id in observed.training),
        accounts=tuple(
            replace(
                a,
                email=observed.accounts[a.account_id][0],
                display_name=observed.accounts[a.account_id][1],
            )
            for a in before.accounts
            if a.account_id in observed.accounts
        ),
        erasures=tuple(
            replace(
                e,
                completed_at=observed.erasures[e.request_id][0],
                outcome=observed.erasures[e.request_id][1],
            )
            for e in before.erasures
        ),
        logs=tuple(observed.logs.elements()),
        research=tuple(observed.research.elements()),
    )


def report(found: Iterable[Difference], limit: int = 25) -> str:
    lines = [str(difference) for difference in found]
    more = [f"... and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join(sorted(lines)[:limit] + more)
