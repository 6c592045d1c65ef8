"""Disposal in memory, for breadth: the product's `decide` and cut-offs drive it, its planner's order and scopes too.

It knows no rule of its own. What is due is found as the product finds it: behind the cut-off, or named by an exception.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from lifecycle.dispositions.context import ERASURE_SCOPE, RECORDS_SCOPE, SCOPES
from lifecycle.planning.cutoffs import cutoff_for
from lifecycle.planning.risk import alarm_margin
from lifecycle.policy.decide import UNCLASSIFIED, Decision, Fact, decide, horizon, in_force
from lifecycle.policy.models import Category, Disposition, Policy, Tier, Trigger
from oracle.endstate import research_row
from oracle.facts import Account, Feedback, LogRecord, Message, Score
from oracle.ledger import Deed, _deed
from oracle.observe import Observed

from .change import Change
from .regime import Regime
from .shelf import Shelf, of_message, until

MESSAGES = Category.PROMPTS_AND_OUTPUTS
TIERS = frozenset(tier.value for tier in Tier)
# Rules whose end is a promise to be gone by then.
STRIKING = frozenset({Trigger.FLAG, Trigger.ERASURE, Trigger.AGREEMENT, Trigger.DEFAULT})
# Steps that a resumed run takes again, for they are not units of its plan.
_ALWAYS = ("/partition", "/settle")
_NEVER = datetime.max.replace(tzinfo=UTC)
Unit = tuple[str, Callable[[], None]]


class MemoryBackend:
    """A store in memory and a run over it. A run of an as-of goes on where the last one of that as-of stopped."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self._deeds: list[Deed] = []
        self._at: datetime | None = None
        self._done: set[str] = set()

    def apply(self, change: Change) -> None:
        self.shelf.apply(change)

    def observe(self) -> Observed:
        return self.shelf.observe()

    def mark(self) -> int:
        return len(self._deeds)

    def recorded(self, since: int) -> Counter[Deed]:
        return Counter(self._deeds[since:])

    def run(self, as_of: datetime, regime: Regime) -> Iterator[str]:
        if self._at != as_of:
            self._at, self._done = as_of, set()
        for scope in SCOPES:
            work = _Work(self.shelf, regime.policy, as_of, self._record)
            for name, act in work.units(scope):
                if name not in self._done or name.endswith(_ALWAYS):
                    act()
                    self._done.add(name)
                    yield name

    def _record(self, dataset: str, disposition: str, rule: str) -> None:
        self._deeds.append(_deed(dataset, disposition, rule))

    def at_risk(self, at: datetime, regime: Regime) -> datetime | None:
        everyone = (*self.shelf.messages.values(), *self.shelf.quarantined.values())
        striking = {rule.id for rule in regime.policy.rules if rule.trigger in STRIKING} | {UNCLASSIFIED}
        ends = []
        for m in everyone:
            if m.received_at < at:
                known = self.shelf.message_facts(m)
                decision = decide(MESSAGES, m.tier, m.received_at, known, regime.policy, at)
                if decision.rule in striking and decision.deadline is not None:
                    ends.append(decision.deadline)
        return min(ends, default=None)

    def alarm(self, at: datetime, regime: Regime) -> bool:
        first = self.at_risk(at, regime)
        return first is not None and first - at < alarm_margin(regime.policy)


class _Work:
    """One run at work on the shelf."""

    def __init__(self, shelf: Shelf, policy: Policy, as_of: datetime, record: Callable[[str, str, str], None]) -> None:
        self.shelf, self.policy, self.as_of, self.record = shelf, policy, as_of, record
        self.variants = {rule.id: rule.instead_of for rule in policy.rules if rule.instead_of is not None}

    # Decisions -------------------------------------------------------------------------------------------------

    def decide_message(self, m: Message, facts: list[Fact] | None = None) -> Decision:
        """Decided again when a fact has changed or an instant has come at which one counts; and every week anyway."""
        known = self.shelf.message_facts(m) if facts is None else facts
        earlier = self.shelf.decided.get(m.message_id)
        if earlier is not None and m.message_id.int % 7 != self.as_of.toordinal() % 7:
            policy, before, until_then, decision = earlier
            if policy is self.policy and self.as_of < until_then and before == known:
                return decision
        decision = decide(MESSAGES, m.tier, m.received_at, known, self.policy, self.as_of)
        self.shelf.decided[m.message_id] = (self.policy, known, self._stands_until(m, known, decision), decision)
        return decision

    def _stands_until(self, m: Message, facts: list[Fact], decision: Decision) -> datetime:
        """The first instant, from as-of on, at which the clock, a fact or a rule's end may change a decision."""
        lead = self.policy.lead.total.longest()
        instants = [m.received_at]
        for fact in facts:
            instants += [fact.began] if fact.ended is None else [fact.began, fact.ended]
        for rule in decision.rules:
            if rule.until is not None:
                instants += [rule.until, rule.until - lead]
        return min((at for at in instants if at >= self.as_of), default=_NEVER)

    def bound(self, tier: str) -> datetime:
        """At or after every clock value that is due by the default."""
        known = Tier(tier) if tier in TIERS else None
        found = cutoff_for(self.policy, MESSAGES, known, self.as_of)
        if found.exact:
            return found.cutoff
        period = self.policy.rule(found.rule).period
        assert period is not None
        return period.cutoff_bound(horizon(self.policy, self.as_of))

    def due_messages(self, scope: str) -> dict[tuple[str, str], list[Message]]:
        """Messages that do not stay where they are, by tier and day: of a tier, of unknown ones, or asked to go."""
        found: dict[tuple[str, str], list[Message]] = defaultdict(list)
        bounds: dict[str, datetime] = {}
        for m in self.shelf.messages.values():
            if m.tier == scope or (m.tier not in TIERS and scope == RECORDS_SCOPE) or scope == ERASURE_SCOPE:
                facts = self.shelf.message_facts(m)
                if scope == ERASURE_SCOPE and not any(fact.trigger is Trigger.ERASURE for fact in facts):
                    continue
                if m.tier not in bounds:
                    bounds[m.tier] = self.bound(m.tier)
                if not facts and m.received_at >= bounds[m.tier]:
                    continue
                if self.decide_message(m, facts).disposition is not Disposition.KEEP:
                    found[m.tier, m.received_at.date().isoformat()].append(m)
        return found

    # Units -----------------------------------------------------------------------------------------------------

    def units(self, scope: str) -> Iterator[Unit]:
        """What a run of a scope does, in the product's order."""
        if scope == RECORDS_SCOPE:
            yield from self._message_units(scope)
            yield f"{scope}/feedback", self._feedback
            yield f"{scope}/scores", self._scores
            yield f"{scope}/training", self._training
            yield f"{scope}/logs", self._logs
        elif scope == ERASURE_SCOPE:
            yield from self._message_units(scope)
            yield f"{scope}/feedback", lambda: self._feedback(asked_only=True)
        else:
            yield f"{scope}/partition", lambda: self._partition(scope)
            yield f"{scope}/quarantine", lambda: self._leave_quarantine(scope)
            yield from self._message_units(scope)
        if scope in (RECORDS_SCOPE, ERASURE_SCOPE):
            yield f"{scope}/accounts", self._accounts
        if scope == ERASURE_SCOPE:
            yield f"{scope}/settle", self._settle

    def _message_units(self, scope: str) -> Iterator[Unit]:
        for (tier, day), members in sorted(self.due_messages(scope).items()):
            keys = [m.message_id for m in members]
            yield f"{scope}/{tier}/{day}", lambda keys=keys, scope=scope: self._expire(keys, scope)  # type: ignore[misc]

    def _partition(self, tier: str) -> None:
        for m in list(self.shelf.messages.values()):
            if m.tier == tier and m.in_landing and m.received_at < self.as_of and not self._held(*of_message(m)):
                self.shelf.repartition(m)

    def _held(self, *whom: str) -> bool:
        return any(f.trigger is Trigger.HOLD and until(f.ended, self.as_of) for f in self.shelf.facts_of(*whom))

    def _expire(self, keys: list[UUID], scope: str) -> None:
        """Decide again, now that it is about to happen, and do it."""
        for key in keys:
            m = self.shelf.messages.get(key)
            if m is None:
                continue
            decision = self.decide_message(m)
            if scope == ERASURE_SCOPE and self._trigger(decision) is not Trigger.ERASURE:
                continue
            if decision.disposition is Disposition.QUARANTINE:
                self.record("messages", "quarantine", decision.rule)
                self.shelf.move_in(m)
            elif decision.due:
                self._destroy(m, decision)

    def _trigger(self, decision: Decision) -> Trigger | None:
        return next((rule.trigger for rule in self.policy.rules if rule.id == decision.rule), None)

    def _destroy(self, m: Message, decision: Decision) -> None:
        if decision.disposition is Disposition.DEIDENTIFY:
            self.shelf.research[research_row(m)] += 1
        self.record("messages", decision.disposition.value, decision.rule)
        self.shelf.destroy(m)
        for t in [t for t in self.shelf.training.values() if t.message_id == m.message_id]:
            if not self._held(f"account/{t.account_id}", f"message/{t.message_id}", *_TRAINING):
                del self.shelf.training[t.example_id]

    def _leave_quarantine(self, tier: str) -> None:
        for m in [m for m in self.shelf.quarantined.values() if m.tier == tier]:
            decision = self.decide_message(m)
            if decision.disposition in (Disposition.DELETE, Disposition.DEIDENTIFY):
                self._destroy(m, decision)
            elif decision.disposition is Disposition.KEEP and self._trigger(decision) is not Trigger.HOLD:
                self.record("messages", "restore", decision.rule)
                self.shelf.move_out(m)

    def _feedback(self, *, asked_only: bool = False) -> None:
        rule = self.policy.rule_for(Trigger.CONSENT, Category.FEEDBACK, Tier.CONSUMER)
        assert rule is not None and rule.period is not None
        bound = rule.period.cutoff_bound(self.as_of)
        for f in list(self.shelf.feedback.values()):
            facts = self._feedback_facts(f)
            asked = any(fact.trigger is Trigger.ERASURE for fact in facts)
            if not asked and (asked_only or f.submitted_at >= bound):
                continue
            decision = decide(Category.FEEDBACK, "consumer", f.submitted_at, facts, self.policy, self.as_of)
            if decision.due:
                self.record("feedback", decision.disposition.value, decision.rule)
                self.shelf.forget_feedback(f.feedback_id)

    def _feedback_facts(self, f: Feedback) -> list[Fact]:
        """A submission is itself what was consented to; no consent is an exception to it."""
        return [fact for fact in self.shelf.facts_of(*_of_feedback(f)) if fact.trigger is not Trigger.CONSENT]

    def _scores(self) -> None:
        period = self.policy.rule(cutoff_for(self.policy, Category.SAFETY_SCORES, Tier.BETA, self.as_of).rule).period
        assert period is not None
        bound = period.cutoff_bound(self.as_of)
        for s in [s for s in self.shelf.scores.values() if s.scored_at <= bound]:
            facts = self.shelf.facts_of(*_of_score(s))
            decision = decide(Category.SAFETY_SCORES, s.tier, s.scored_at, facts, self.policy, self.as_of)
            if decision.due:
                self.record("safety_scores", decision.disposition.value, decision.rule)
                del self.shelf.scores[s.score_id]

    def _training(self) -> None:
        """What has lost its basis or its message goes; the policy names the basis, it has no period."""
        for t in list(self.shelf.training.values()):
            flag = self.shelf.flags.get(t.message_id)
            flagged = flag is not None and until(flag.cleared_at, self.as_of)
            there = t.message_id in self.shelf.messages or t.message_id in self.shelf.quarantined
            if there and (t.basis == "permission" or (t.basis == "safety_review" and flagged)):
                continue
            if t.added_at >= self.as_of:
                continue
            if not self._held(f"account/{t.account_id}", f"message/{t.message_id}", *_TRAINING):
                del self.shelf.training[t.example_id]

    def _logs(self) -> None:
        bounds = {tier: self.bound(tier) for tier in (*TIERS, "")}
        for line in list(self.shelf.logs):
            facts = [f for f in self._log_facts(line) if f.trigger not in (Trigger.FLAG, Trigger.CONSENT)]
            if not facts and line.received_at >= bounds.get(line.tier, bounds[""]):
                continue
            decision = decide(MESSAGES, line.tier, line.received_at, facts, self.policy, self.as_of)
            if decision.due:
                self.record("request_logs", "delete", self.variants.get(decision.rule) or decision.rule)
                del self.shelf.logs[line]

    def _log_facts(self, line: LogRecord) -> list[Fact]:
        """Of its conversation only holds count for a line, and only while somebody knows the conversation."""
        whom = [f"account/{line.account_id}", f"message/{line.message_id}", "dataset/request_logs"]
        facts = self.shelf.facts_of(*whom)
        m = self.shelf.messages.get(line.message_id) or self.shelf.quarantined.get(line.message_id)
        if m is not None:
            named = self.shelf.facts_of(f"conversation/{m.conversation_id}")
            facts += [f for f in named if f.trigger is Trigger.HOLD]
        return facts

    def _accounts(self) -> None:
        period = self.policy.rule(cutoff_for(self.policy, Category.ACCOUNT_DATA, Tier.BETA, self.as_of).rule).period
        assert period is not None
        bound = period.cutoff_bound(self.as_of)
        due = [
            a
            for a in self.shelf.accounts.values()
            if (a.last_interaction_at <= bound or self._asked(a)) and self._decide_account(a).due
        ]
        if not due:
            return
        referred = self._referred()
        for a in due:
            if a.account_id in referred:
                self.shelf.accounts[a.account_id] = replace(a, email=None, display_name=None)
            else:
                del self.shelf.accounts[a.account_id]

    def _asked(self, a: Account) -> bool:
        return any(fact.trigger is Trigger.ERASURE for fact in self.shelf.facts_of(f"account/{a.account_id}"))

    def _decide_account(self, a: Account) -> Decision:
        facts = self.shelf.facts_of(f"account/{a.account_id}", "dataset/accounts", "dataset/app.accounts")
        return decide(Category.ACCOUNT_DATA, a.tier, a.last_interaction_at, facts, self.policy, self.as_of)

    def _referred(self) -> set[UUID]:
        shelf = self.shelf
        everything: tuple[dict[UUID, Any], ...] = (
            shelf.messages,
            shelf.quarantined,
            shelf.flags,
            shelf.scores,
            shelf.feedback,
            shelf.agreements,
            shelf.cases,
            shelf.training,
        )
        return {row.account_id for table in everything for row in table.values()}

    # Erasure requests ------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Write down what became of each request, and what of its scope was kept by which rule."""
        rule = self.policy.rule_for(Trigger.ERASURE, MESSAGES, Tier.CONSUMER)
        assert rule is not None
        kept: dict[UUID, set[str]] = defaultdict(set)
        asked: dict[str, list[UUID]] = defaultdict(list)
        for e in self.shelf.erasures.values():
            if e.completed_at is None or e.outcome != "done":
                asked[f"{e.scope}/{e.target}"].append(e.request_id)
        if not asked:
            return
        for whom, clock, decision in self._remaining(asked):
            for request in asked[whom]:
                e = self.shelf.erasures[request]
                if in_force(Fact(Trigger.ERASURE, e.requested_at, e.completed_at), clock, rule, self.as_of):
                    kept[request].add(decision)
        ranked = [
            rule.id for trigger in self.policy.precedence for rule in self.policy.rules if rule.trigger is trigger
        ]
        order = [*ranked, UNCLASSIFIED]
        for requests in asked.values():
            for request in requests:
                e = self.shelf.erasures[request]
                outcome = "kept: " + ", ".join(sorted(kept[request], key=order.index)) if kept[request] else "done"
                completed = e.completed_at or max(self.as_of, e.requested_at)
                self.shelf.revise_erasure(replace(e, completed_at=completed, outcome=outcome))

    def _remaining(self, asked: dict[str, list[UUID]]) -> Iterator[tuple[str, datetime, str]]:
        """Whom each remaining record names among those asked for, its clock, and the rule that keeps it."""
        shelf = self.shelf
        for m in (*shelf.messages.values(), *shelf.quarantined.values()):
            for whom in shelf.names_of(m)[:3]:
                if whom in asked and m.received_at < self.as_of:
                    yield whom, m.received_at, self.decide_message(m).rule
        for f in shelf.feedback.values():
            for whom in _of_feedback(f)[:3]:
                if whom in asked and f.submitted_at < self.as_of:
                    facts = self._feedback_facts(f)
                    decision = decide(Category.FEEDBACK, "consumer", f.submitted_at, facts, self.policy, self.as_of)
                    yield whom, f.submitted_at, decision.rule
        for a in shelf.accounts.values():
            whom = f"account/{a.account_id}"
            if whom in asked and a.email is not None and a.last_interaction_at < self.as_of:
                yield whom, a.last_interaction_at, self._decide_account(a).rule


_TRAINING = ("dataset/training_examples", "dataset/app.training_examples")


def _of_feedback(f: Feedback) -> tuple[str, ...]:
    return (
        f"account/{f.account_id}",
        f"conversation/{f.conversation_id}",
        f"message/{f.message_id}",
        "dataset/feedback",
        "dataset/app.feedback",
    )


def _of_score(s: Score) -> tuple[str, ...]:
    names = ("dataset/safety_scores", "dataset/app.safety_scores")
    return (f"account/{s.account_id}", f"message/{s.message_id}", *names)
