"""What RULES.md says about each record of a world at one instant.

Plain Python, no set logic, no policy file: it is slow and obvious on purpose. Where the rules leave two answers open
(facts that the run itself takes away, lines whose conversation is no longer known), both are accepted and named here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from .dates import agreed_end, minimum_over
from .facts import (
    TIERS,
    Account,
    Agreement,
    Erasure,
    Feedback,
    Flag,
    LogRecord,
    Message,
    Score,
    Training,
    World,
)
from .terms import SHIPPED, Terms

CONSUMER_TIERS = ("consumer", "beta", "evaluation")

HOLD, CASE, FLAG, ERASURE = (
    "legal_obligation",
    "usage_policy_enforcement",
    "safety_flagged",
    "erasure_request",
)
CONSENT, AGREEMENT, UNCLASSIFIED = "feedback", "business_agreement", "unclassified"
DONE = "done"


class Place(StrEnum):
    """Where a message is once the run has ended."""

    APP = "app"
    QUARANTINE = "quarantine"
    GONE = "gone"
    DEIDENTIFIED = "deidentified"


@dataclass(frozen=True)
class Verdict:
    """The rule that decides a message, and the places it may be in afterwards (nearly always one)."""

    rule: str
    places: frozenset[Place]
    due: bool

    @property
    def stays(self) -> bool:
        return self.places <= {Place.APP, Place.QUARANTINE}


@lru_cache(maxsize=4096)
def _key(target: str) -> UUID | str:
    """A target as the identifier it names; the name of a dataset stays as it is."""
    try:
        named = UUID(target)
    except ValueError:
        return target
    return named if str(named) == target else target


class Judge:
    """The rules, applied to one world at one instant."""

    def __init__(self, world: World, as_of: datetime, terms: Terms = SHIPPED) -> None:
        self.world, self.as_of, self.terms = world, as_of, terms
        self._verdicts: dict[UUID, Verdict] = {}
        self.holds = {(h.scope, _key(h.target)) for h in world.holds if self._open(h.released_at)}
        self.cases = {c.account_id for c in world.cases if self._open(c.closed_at)}
        self.flagged: dict[UUID, Flag] = {f.message_id: f for f in world.flags if self._open(f.cleared_at)}
        self.by_id = {m.message_id: m for m in (*world.messages, *world.quarantined)}
        self.in_app = {m.message_id for m in world.messages}
        self.requests: dict[UUID | str, list[Erasure]] = defaultdict(list)
        for e in world.erasures:
            self.requests[_key(e.target)].append(e)
        self.submissions: dict[UUID, list[Feedback]] = defaultdict(list)
        for f in world.feedback:
            self.submissions[f.conversation_id].append(f)
        self.agreements: dict[UUID, list[Agreement]] = defaultdict(list)
        for a in world.agreements:
            self.agreements[a.account_id].append(a)
        self.feedback_after = {f.feedback_id for f in world.feedback if not self.feedback_goes(f)}

    def _open(self, ended_at: datetime | None) -> bool:
        return ended_at is None or ended_at > self.as_of

    # Holds -----------------------------------------------------------------------------------------------------

    def _hold(self, scope: str, target: object) -> bool:
        return (scope, target) in self.holds

    def _maximum_due(self, end: datetime) -> bool:
        """A maximum has to be gone when it strikes, so it is due a lead before."""
        return end < self.as_of + self.terms.lead

    def dataset_held(self, *names: str) -> bool:
        return any(self._hold("dataset", name) for name in names)

    def message_held(self, m: Message) -> bool:
        return (
            self._hold("account", m.account_id)
            or self._hold("conversation", m.conversation_id)
            or self._hold("message", m.message_id)
            or self.dataset_held("messages", "app.messages")
        )

    def _conversation_held(self, message_id: UUID) -> bool:
        message = self.by_id.get(message_id)
        return message is not None and self._hold("conversation", message.conversation_id)

    # Erasure ---------------------------------------------------------------------------------------------------

    def asks(
        self,
        e: Erasure,
        clock: datetime,
        account: UUID,
        conversation: UUID | None,
        message: UUID | None,
    ) -> bool:
        if e.completed_at is not None and clock > e.completed_at:
            return False
        target = {"account": account, "conversation": conversation, "message": message}[e.scope]
        return target is not None and str(target) == e.target

    def naming(self, *targets: UUID | None) -> list[Erasure]:
        """The requests that name one of these, whatever their scope."""
        if not self.requests:
            return []
        return [e for target in targets if target is not None for e in self.requests.get(target, ())]

    def asking(self, m: Message) -> list[Erasure]:
        """The requests that ask for a message to go."""
        named = self.naming(m.account_id, m.conversation_id, m.message_id)
        return [e for e in named if self.message_asked(e, m)]

    def message_asked(self, e: Erasure, m: Message) -> bool:
        return m.received_at < self.as_of and self.asks(e, m.received_at, m.account_id, m.conversation_id, m.message_id)

    def feedback_asked(self, e: Erasure, f: Feedback) -> bool:
        return f.submitted_at < self.as_of and self.asks(
            e, f.submitted_at, f.account_id, f.conversation_id, f.message_id
        )

    def account_asked(self, e: Erasure, a: Account) -> bool:
        seen = a.last_interaction_at
        return seen < self.as_of and self.asks(e, seen, a.account_id, None, None)

    # Messages --------------------------------------------------------------------------------------------------

    def consents(self, conversation_id: UUID) -> list[Feedback]:
        return [
            f
            for f in self.submissions.get(conversation_id, ())
            if self._open(f.withdrawn_at) and not minimum_over(self.terms.consent_end(f.submitted_at), self.as_of)
        ]

    def agreement(self, account_id: UUID, clock: datetime) -> Agreement | None:
        """The one in effect: the latest to begin, and of those that began together the one that ends first."""
        in_effect = [
            a
            for a in self.agreements.get(account_id, ())
            if a.category == "prompts_and_outputs"
            and a.effective_from <= self.as_of
            and (a.effective_to is None or self.as_of < a.effective_to)
        ]
        if not in_effect:
            return None
        latest = max(a.effective_from for a in in_effect)
        return min(
            (a for a in in_effect if a.effective_from == latest),
            key=lambda a: agreed_end(clock, a.retain),
        )

    def here(self, m: Message) -> Place:
        return Place.APP if m.message_id in self.in_app else Place.QUARANTINE

    def verdict(self, m: Message) -> Verdict:
        known = self._verdicts.get(m.message_id)
        if known is None:
            known = self._verdicts[m.message_id] = self._verdict(m)
        return known

    def _verdict(self, m: Message) -> Verdict:
        if m.received_at >= self.as_of:
            return Verdict("later", frozenset({self.here(m)}), due=False)
        if self.message_held(m):
            return Verdict(HOLD, frozenset({self.here(m)}), due=False)
        if m.tier not in TIERS:
            return self._unclassified(m)
        if m.tier == "business" and m.account_id in self.cases:
            return Verdict(CASE, frozenset({Place.APP}), due=False)
        if m.tier in CONSUMER_TIERS and m.message_id in self.flagged:
            over = self._maximum_due(self.terms.flag_end(m.received_at))
            return Verdict(FLAG, frozenset({Place.GONE if over else Place.QUARANTINE}), due=over)
        if self.asking(m):
            return Verdict(ERASURE, frozenset({Place.GONE}), due=True)
        ordinary = self._ordinary(m)
        consents = self.consents(m.conversation_id)
        if consents:
            places = {Place.APP}
            if not any(f.feedback_id in self.feedback_after for f in consents):
                # The run erases the very submission that keeps this message: it may go now or in the next run.
                places |= ordinary.places
            return Verdict(CONSENT, frozenset(places), due=False)
        return ordinary

    def _ordinary(self, m: Message) -> Verdict:
        agreement = self.agreement(m.account_id, m.received_at) if m.tier == "business" else None
        if agreement is not None:
            due = self._maximum_due(agreed_end(m.received_at, agreement.retain))
            return Verdict(AGREEMENT, frozenset({Place.GONE if due else Place.APP}), due)
        rule = "business_default" if m.tier == "business" else "consumer_default"
        if not self._maximum_due(self.terms.default_end(m.tier, m.received_at)):
            return Verdict(rule, frozenset({Place.APP}), due=False)
        return Verdict(
            rule,
            frozenset({Place.DEIDENTIFIED if m.tier == "evaluation" else Place.GONE}),
            due=True,
        )

    def strikes(self, m: Message) -> datetime | None:
        """When a promise about a message that is there is broken; None while something keeps it without such a date."""
        verdict = self.verdict(m)
        match verdict.rule:
            case "safety_flagged":
                return self.terms.flag_end(m.received_at)
            case "erasure_request":
                return min(e.requested_at for e in self.asking(m)) + timedelta(days=self.terms.erasure_days)
            case "business_agreement":
                agreement = self.agreement(m.account_id, m.received_at)
                assert agreement is not None
                return agreed_end(m.received_at, agreement.retain)
            case "unclassified" if self.consents(m.conversation_id):
                return None
            case "business_default" | "consumer_default" | "unclassified":
                return self.terms.default_end(m.tier, m.received_at)
            case _:
                return None

    def _unclassified(self, m: Message) -> Verdict:
        """A tier nobody knows: an erasure reaches any account, and otherwise the strictest deadline applies."""
        if self.asking(m):
            return Verdict(ERASURE, frozenset({Place.GONE}), due=True)
        due = self._maximum_due(self.terms.default_end(m.tier, m.received_at))
        places = {Place.GONE if due else Place.APP}
        if self.consents(m.conversation_id):
            # A consent is given for "all products", the strictest deadline knows no exception: both readings hold.
            places.add(Place.APP)
        return Verdict(UNCLASSIFIED, frozenset(places), due)

    # Other records ---------------------------------------------------------------------------------------------

    def score_goes(self, s: Score) -> bool:
        if not minimum_over(self.terms.score_end(s.scored_at), self.as_of):
            return False
        held = (
            self._hold("account", s.account_id)
            or self._hold("message", s.message_id)
            or self.dataset_held("safety_scores", "app.safety_scores")
        )
        return not held

    def score_free(self, s: Score) -> bool:
        """A score names no conversation: whether a conversation's hold reaches it is left open."""
        return self.score_goes(s) and self._conversation_held(s.message_id)

    def feedback_held(self, f: Feedback) -> bool:
        return (
            self._hold("account", f.account_id)
            or self._hold("conversation", f.conversation_id)
            or (f.message_id is not None and self._hold("message", f.message_id))
            or self.dataset_held("feedback", "app.feedback")
        )

    def feedback_goes(self, f: Feedback) -> bool:
        if self.feedback_held(f):
            return False
        over = minimum_over(self.terms.consent_end(f.submitted_at), self.as_of)
        named = self.naming(f.account_id, f.conversation_id, f.message_id)
        return over or any(self.feedback_asked(e, f) for e in named)

    def training_valid(self, t: Training) -> bool:
        return t.basis == "permission" or (t.basis == "safety_review" and t.message_id in self.flagged)

    def training_held(self, t: Training) -> bool:
        return (
            self._hold("account", t.account_id)
            or self._hold("message", t.message_id)
            or self.dataset_held("training_examples", "app.training_examples")
        )

    def training_stays(self, t: Training, places: frozenset[Place]) -> bool | None:
        """Whether an example stays; None when the rules leave it open."""
        if self.training_held(t):
            return True
        if places <= {Place.GONE, Place.DEIDENTIFIED}:
            return False
        if self.training_valid(t):
            return True if places <= {Place.APP, Place.QUARANTINE} else None
        message_only_held = self._conversation_held(t.message_id) or self.dataset_held("messages", "app.messages")
        return None if message_only_held or t.added_at >= self.as_of else False

    def account_held(self, a: Account) -> bool:
        return self._hold("account", a.account_id) or self.dataset_held("accounts", "app.accounts")

    def account_goes(self, a: Account) -> bool:
        if self.account_held(a):
            return False
        idle = minimum_over(self.terms.idle_end(a.last_interaction_at), self.as_of)
        return idle or any(self.account_asked(e, a) for e in self.naming(a.account_id))

    # Lines of product-logs -------------------------------------------------------------------------------------

    def log_stays(self, r: LogRecord) -> bool | None:
        """Whether a line stays; None when its conversation is, or stops being, known to nobody during the run."""
        if r.received_at >= self.as_of:
            return True
        if (
            self._hold("account", r.account_id)
            or self._hold("message", r.message_id)
            or self.dataset_held("request_logs")
        ):
            return True
        if self._conversation_held(r.message_id):
            return True if r.message_id in self.in_app else None
        if r.tier == "business" and r.account_id in self.cases:
            return True
        asked = [
            e
            for e in self.naming(r.account_id, self.conversation_of(r), r.message_id)
            if self.asks(e, r.received_at, r.account_id, self.conversation_of(r), r.message_id)
        ]
        if any(e.scope != "conversation" for e in asked):
            return False
        stays = not self._maximum_due(self._log_end(r))
        return None if asked and stays else stays

    def conversation_of(self, r: LogRecord) -> UUID | None:
        message = self.by_id.get(r.message_id)
        return None if message is None else message.conversation_id

    def _log_end(self, r: LogRecord) -> datetime:
        agreement = self.agreement(r.account_id, r.received_at) if r.tier == "business" else None
        if agreement is not None:
            return agreed_end(r.received_at, agreement.retain)
        return self.terms.default_end(r.tier, r.received_at)

    # Objects ---------------------------------------------------------------------------------------------------

    def keys(self, m: Message, verdict: Verdict) -> frozenset[str]:
        """Under which key the object of a message that stays in the store may lie afterwards."""
        if m.stored is None:
            return frozenset()
        if verdict.rule == HOLD:
            return frozenset({m.stored.key})
        if m.tier not in TIERS or verdict.rule == "later":
            return frozenset({m.stored.key, m.partitioned_key})
        return frozenset({m.partitioned_key})
