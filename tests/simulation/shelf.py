"""The in-memory stores: rows, objects and exceptions in dictionaries, observed in the oracle's own shape."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from lifecycle.policy.decide import Decision, Fact
from lifecycle.policy.models import Policy, Trigger
from lifecycle.policy.periods import Period
from oracle.facts import (
    Account,
    Agreement,
    Erasure,
    Feedback,
    Flag,
    LogRecord,
    Message,
    ResearchRow,
    Score,
    Training,
    World,
)
from oracle.observe import IndexEntry, Observed, Stored

from .change import KEYS, Change


def _index() -> defaultdict[str, dict[UUID, Fact]]:
    return defaultdict(dict)


@dataclass
class Shelf:
    """Everything that is kept. Only `disposal` takes anything away."""

    messages: dict[UUID, Message] = field(default_factory=dict)
    quarantined: dict[UUID, Message] = field(default_factory=dict)
    index: dict[UUID, IndexEntry] = field(default_factory=dict)
    data: dict[str, Stored] = field(default_factory=dict)
    quarantine: dict[str, Stored] = field(default_factory=dict)
    accounts: dict[UUID, Account] = field(default_factory=dict)
    flags: dict[UUID, Flag] = field(default_factory=dict)
    scores: dict[UUID, Score] = field(default_factory=dict)
    feedback: dict[UUID, Feedback] = field(default_factory=dict)
    training: dict[UUID, Training] = field(default_factory=dict)
    agreements: dict[UUID, Agreement] = field(default_factory=dict)
    cases: dict[UUID, Any] = field(default_factory=dict)
    holds: dict[UUID, Any] = field(default_factory=dict)
    erasures: dict[UUID, Erasure] = field(default_factory=dict)
    logs: Counter[LogRecord] = field(default_factory=Counter)
    research: Counter[ResearchRow] = field(default_factory=Counter)
    # Exceptions by whom they name: "account/<id>", "conversation/<id>", "message/<id>", "dataset/<name>".
    facts: defaultdict[str, dict[UUID, Fact]] = field(default_factory=_index)
    names: dict[UUID, tuple[str, ...]] = field(default_factory=dict)
    # What the planner decided of a message: by which policy and facts, and until when it stands.
    decided: dict[UUID, tuple[Policy, list[Fact], datetime, Decision]] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Write what is new and what is no longer what it was."""
        self._add(change.added)
        for kind, fact in change.revised:
            getattr(self, kind)[getattr(fact, KEYS[kind])] = fact
            if kind in _FACTS:
                self._note(kind, [fact])

    def _add(self, added: World) -> None:
        for m in added.messages:
            self.messages[m.message_id] = m
            if m.stored is not None:
                self.data[m.stored.key] = stored(m.stored.content, m.stored.content_type, len(m.stored.versions))
        for kind in KEYS:
            facts = getattr(added, kind)
            getattr(self, kind).update({getattr(fact, KEYS[kind]): fact for fact in facts})
            if kind in _FACTS:
                self._note(kind, facts)
        self.scores.update({s.score_id: s for s in added.scores})
        self.training.update({t.example_id: t for t in added.training})
        self.erasures.update({e.request_id: e for e in added.erasures})
        self._note("erasures", added.erasures)
        self.logs.update(added.logs)

    def _note(self, kind: str, facts: Iterable[Any]) -> None:
        for fact in facts:
            found = _FACTS[kind](fact)
            if found is not None:
                whom, key, known = found
                self.facts[whom][key] = known

    def revise_erasure(self, request: Erasure) -> None:
        self.erasures[request.request_id] = request
        self._note("erasures", [request])

    def forget_flag(self, message_id: UUID) -> None:
        if self.flags.pop(message_id, None) is not None:
            del self.facts[f"message/{message_id}"][message_id]

    def forget_feedback(self, feedback_id: UUID) -> None:
        gone = self.feedback.pop(feedback_id)
        del self.facts[f"conversation/{gone.conversation_id}"][feedback_id]

    def message_facts(self, m: Message) -> list[Fact]:
        """Every exception that concerns a message."""
        return self.facts_of(*self.names_of(m))

    def names_of(self, m: Message) -> tuple[str, ...]:
        """Whom an exception names if it concerns this message; kept, for writing them costs more than looking."""
        named = self.names.get(m.message_id)
        if named is None:
            named = self.names[m.message_id] = of_message(m)
        return named

    def facts_of(self, *whom: str) -> list[Fact]:
        """Every exception that names one of these, ended ones included."""
        return [fact for name in whom if name in self.facts for fact in self.facts[name].values()]

    def observe(self) -> Observed:
        """What an outsider finds."""
        return Observed(
            app=dict(self.messages),
            copies=Counter(self.messages.keys()),
            data=dict(self.data),
            quarantine=dict(self.quarantine),
            index=dict(self.index),
            tools=frozenset(m.message_id for m in self.messages.values() if m.tools),
            flags=frozenset(self.flags),
            scores=frozenset(self.scores),
            feedback=frozenset(self.feedback),
            training=frozenset(self.training),
            accounts={a.account_id: (a.email, a.display_name) for a in self.accounts.values()},
            erasures={e.request_id: (e.completed_at, e.outcome) for e in self.erasures.values()},
            others={"agreements": len(self.agreements), "cases": len(self.cases), "holds": len(self.holds)},
            logs=self.logs.copy(),
            log_objects={r.key: Stored(b"", None, {}, 1, 0) for r in self.logs},
            research=self.research.copy(),
        )

    # Moves -----------------------------------------------------------------------------------------------------

    def repartition(self, m: Message) -> Message:
        """Move an object from where it landed to its day."""
        if m.stored is None or m.stored.key == m.partitioned_key:
            return m
        moved = replace(m, stored=replace(m.stored, key=m.partitioned_key, versions=(m.stored.content,)))
        self.data[m.partitioned_key] = stored(m.stored.content, m.stored.content_type)
        del self.data[m.stored.key]
        self.messages[m.message_id] = moved
        return moved

    def move_in(self, m: Message) -> None:
        """Copy, then cut."""
        record = json.dumps(_record(m)).encode()
        self.quarantine[m.quarantine_prefix + "record.json"] = stored(record, "application/json")
        copied = None
        if m.stored is not None:
            self.quarantine[m.quarantine_prefix + "object"] = stored(m.stored.content, m.stored.content_type)
            copied = hashlib.sha256(m.stored.content).hexdigest()
        self.index[m.message_id] = IndexEntry(
            m.account_id,
            m.conversation_id,
            m.tier,
            m.received_at,
            m.quarantine_prefix,
            hashlib.sha256(record).hexdigest(),
            copied,
        )
        self.quarantined[m.message_id] = m
        self._remove_row(m)

    def move_out(self, m: Message) -> None:
        """Back to where it belongs."""
        if m.stored is not None:
            m = replace(m, stored=replace(m.stored, key=m.partitioned_key, versions=(m.stored.content,)))
            self.data[m.partitioned_key] = stored(m.stored.content, m.stored.content_type)  # type: ignore[union-attr]
        self.messages[m.message_id] = m
        self._remove_copy(m)

    def destroy(self, m: Message) -> None:
        """A message with its children, wherever it is."""
        self.names.pop(m.message_id, None)
        self.decided.pop(m.message_id, None)
        if m.message_id in self.quarantined:
            self._remove_copy(m)
        else:
            self._remove_row(m)
        self.forget_flag(m.message_id)

    def _remove_row(self, m: Message) -> None:
        del self.messages[m.message_id]
        if m.stored is not None:
            del self.data[m.stored.key]

    def _remove_copy(self, m: Message) -> None:
        del self.quarantined[m.message_id], self.index[m.message_id]
        del self.quarantine[m.quarantine_prefix + "record.json"]
        if m.stored is not None:
            del self.quarantine[m.quarantine_prefix + "object"]


def stored(content: bytes, content_type: str, versions: int = 1) -> Stored:
    return Stored(content, content_type, {}, versions, 0)


def _record(m: Message) -> dict[str, Any]:
    row = {
        "message_id": str(m.message_id),
        "conversation_id": str(m.conversation_id),
        "account_id": str(m.account_id),
        "tier": m.tier,
        "role": m.role,
        "model": m.model,
        "body": m.body,
        "received_at": m.received_at.isoformat(),
        "client_ip": m.client_ip,
        "object_key": m.stored.key if m.stored else None,
    }
    children = {"app.message_tools": [{"tool_name": tool} for tool in m.tools]}
    return {"version": 1, "table": "app.messages", "row": row, "children": children}


Named = tuple[str, UUID, Fact] | None


def _held(h: Any) -> Named:
    return f"{h.scope}/{h.target}", h.hold_id, Fact(Trigger.HOLD, h.placed_at, h.released_at)


def _flagged(f: Flag) -> Named:
    return f"message/{f.message_id}", f.message_id, Fact(Trigger.FLAG, f.flagged_at, f.cleared_at)


def _consented(f: Feedback) -> Named:
    fact = Fact(Trigger.CONSENT, f.submitted_at, f.withdrawn_at)
    return f"conversation/{f.conversation_id}", f.feedback_id, fact


def _accused(c: Any) -> Named:
    return f"account/{c.account_id}", c.case_id, Fact(Trigger.CASE, c.opened_at, c.closed_at)


def _agreed(a: Agreement) -> Named:
    if a.category != "prompts_and_outputs":
        return None
    retain = Period(months=a.retain.months, days=a.retain.days)
    fact = Fact(Trigger.AGREEMENT, a.effective_from, a.effective_to, retain)
    return f"account/{a.account_id}", a.agreement_id, fact


def _asked(e: Erasure) -> Named:
    return f"{e.scope}/{e.target}", e.request_id, Fact(Trigger.ERASURE, e.requested_at, e.completed_at)


_FACTS: dict[str, Any] = {
    "holds": _held,
    "flags": _flagged,
    "feedback": _consented,
    "cases": _accused,
    "agreements": _agreed,
    "erasures": _asked,
}


def of_message(m: Message) -> tuple[str, ...]:
    """Whom an exception names if it concerns a message."""
    return (
        f"account/{m.account_id}",
        f"conversation/{m.conversation_id}",
        f"message/{m.message_id}",
        "dataset/messages",
        "dataset/app.messages",
    )


def until(at: datetime | None, as_of: datetime) -> bool:
    return at is None or at > as_of
