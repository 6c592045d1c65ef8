"""The end state that one run must leave behind: the judge's verdicts, put together for a whole world."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from .facts import Erasure, LogRecord, Message, ResearchRow, World
from .oracle import CASE, CONSENT, DONE, FLAG, HOLD, Judge, Place, Verdict
from .terms import SHIPPED, Terms

# Where a message is that nobody has heard of: an example outlives its message only while a hold of its own keeps it.
GONE = frozenset({Place.GONE})


@dataclass(frozen=True)
class Expected:
    """The end state of a run. ``free_*`` name what may be there or not."""

    as_of: datetime
    before: World
    verdicts: Mapping[UUID, Verdict]
    keys: Mapping[UUID, frozenset[str]]
    flags: frozenset[UUID]
    free_flags: frozenset[UUID]
    scores: frozenset[UUID]
    free_scores: frozenset[UUID]
    feedback: frozenset[UUID]
    training: frozenset[UUID]
    free_training: frozenset[UUID]
    accounts: Mapping[UUID, bool | None]
    free_accounts: frozenset[UUID]
    erasures: Mapping[UUID, tuple[datetime, frozenset[str]]]
    logs: Counter[LogRecord]
    free_logs: Counter[LogRecord]
    research: Counter[ResearchRow]
    free_research: Counter[ResearchRow]

    @property
    def undecided(self) -> bool:
        """True when some message's fate hangs on a submission that the run itself takes away."""
        return any(v.rule == CONSENT and len(v.places) > 1 for v in self.verdicts.values())


def body_chars(m: Message) -> int:
    """Characters of the content of a message, inline or in its object."""
    if m.stored is None:
        return len(m.body or "")
    text = m.stored.content.decode("utf-8", errors="replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        return len(text)
    inner = parsed.get("body") if isinstance(parsed, dict) else None
    return len(inner) if isinstance(inner, str) else len(text)


def research_row(m: Message) -> ResearchRow:
    return ResearchRow(
        m.tier,
        m.model or "",
        m.role,
        m.received_at.date().replace(day=1),
        body_chars(m),
    )


class Reach:
    """The records that name a target, so that each request looks at its own and not at all of them."""

    def __init__(self, judge: Judge) -> None:
        wanted = {e.target for e in judge.world.erasures}
        self.messages = _by_target(
            wanted, ((m, m.account_id, m.conversation_id, m.message_id) for m in judge.by_id.values())
        )
        self.feedback = _by_target(
            wanted, ((f, f.account_id, f.conversation_id, f.message_id) for f in judge.world.feedback)
        )
        self.accounts = _by_target(wanted, ((a, a.account_id) for a in judge.world.accounts))
        self.logs = _by_target(
            wanted, ((r, r.account_id, judge.conversation_of(r), r.message_id) for r in judge.world.logs)
        )


def _by_target(wanted: set[str], named: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    if wanted:
        for record, *targets in named:
            for target in {str(target) for target in targets} & wanted:
                found[target].append(record)
    return found


def _outcomes(judge: Judge, reach: Reach, e: Erasure, verdicts: Mapping[UUID, Verdict]) -> frozenset[str]:
    """What may be said of a request: done, or by which rules something of its scope was kept, in precedence order."""
    kept: set[str] = set()
    perhaps: set[str] = set()
    for m in reach.messages.get(e.target, ()):
        verdict = verdicts[m.message_id]
        if judge.message_asked(e, m) and verdict.stays and verdict.rule in (HOLD, CASE, FLAG):
            kept.add(verdict.rule)
    for f in reach.feedback.get(e.target, ()):
        if judge.feedback_held(f) and judge.feedback_asked(e, f):
            kept.add(HOLD)
    for a in reach.accounts.get(e.target, ()):
        # An account that was emptied before the hold came has nothing left that it could keep.
        personal = (a.email, a.display_name) != (None, None)
        if personal and judge.account_held(a) and judge.account_asked(e, a):
            kept.add(HOLD)
    for r in reach.logs.get(e.target, ()):
        asked = judge.asks(e, r.received_at, r.account_id, judge.conversation_of(r), r.message_id)
        if asked and r.received_at < judge.as_of and judge.log_stays(r) is not False:
            perhaps |= {HOLD, CASE}
    said = frozenset(_sentence(kept | extra) for extra in _subsets(perhaps - kept))
    # What was once said to be done need not be unsaid, when something of its scope turns up with an older clock.
    return said | {DONE} if e.outcome == DONE else said


def _subsets(items: set[str]) -> list[set[str]]:
    found: list[set[str]] = [set()]
    for item in items:
        found += [chosen | {item} for chosen in found]
    return found


def _sentence(rules: set[str]) -> str:
    order = (HOLD, CASE, FLAG)
    return "kept: " + ", ".join(rule for rule in order if rule in rules) if rules else DONE


def judge_run(world: World, as_of: datetime, terms: Terms = SHIPPED) -> Expected:
    """The end state that one run of all scopes at ``as_of`` must leave behind."""
    return end_state(Judge(world, as_of, terms))


def end_state(judge: Judge) -> Expected:
    """The same, for a world that has its judge already."""
    world, as_of = judge.world, judge.as_of
    reach = Reach(judge)
    verdicts = {m.message_id: judge.verdict(m) for m in judge.by_id.values()}
    gone = {i for i, v in verdicts.items() if v.places <= {Place.GONE, Place.DEIDENTIFIED}}
    maybe_gone = {i for i, v in verdicts.items() if not v.stays} - gone
    training = {
        t.example_id: judge.training_stays(t, verdicts[t.message_id].places if t.message_id in verdicts else GONE)
        for t in world.training
    }
    logs = {r: judge.log_stays(r) for r in world.logs}
    counted = Counter(world.logs)
    research, free_research = Counter(world.research), Counter[ResearchRow]()
    for m in judge.by_id.values():
        places = verdicts[m.message_id].places
        if places == {Place.DEIDENTIFIED}:
            research[research_row(m)] += 1
        elif Place.DEIDENTIFIED in places:
            free_research[research_row(m)] += 1
    accounts, free_accounts = _accounts(judge, gone, maybe_gone, training)
    return Expected(
        as_of=as_of,
        before=world,
        verdicts=verdicts,
        keys={m.message_id: judge.keys(m, verdicts[m.message_id]) for m in judge.by_id.values()},
        flags=frozenset(f.message_id for f in world.flags if f.message_id not in gone),
        free_flags=frozenset(f.message_id for f in world.flags if f.message_id in maybe_gone),
        scores=frozenset(s.score_id for s in world.scores if not judge.score_goes(s)),
        free_scores=frozenset(s.score_id for s in world.scores if judge.score_free(s)),
        feedback=frozenset(judge.feedback_after),
        training=frozenset(i for i, stays in training.items() if stays),
        free_training=frozenset(i for i, stays in training.items() if stays is None),
        accounts=accounts,
        free_accounts=free_accounts,
        erasures={
            e.request_id: (
                e.completed_at or max(as_of, e.requested_at),
                _outcomes(judge, reach, e, verdicts),
            )
            for e in world.erasures
        },
        logs=Counter({r: counted[r] for r, stays in logs.items() if stays}),
        free_logs=Counter({r: counted[r] for r, stays in logs.items() if stays is None}),
        research=research,
        free_research=free_research,
    )


def _accounts(
    judge: Judge,
    gone: set[UUID],
    maybe_gone: set[UUID],
    training: Mapping[UUID, bool | None],
) -> tuple[dict[UUID, bool | None], frozenset[UUID]]:
    """Per account: True as it was, False without personal data, None removed; and those whose row may stay or go."""
    world = judge.world
    surely = {a.account_id for a in world.agreements} | {c.account_id for c in world.cases}
    perhaps: set[UUID] = set()
    for m in judge.by_id.values():
        (perhaps if m.message_id in maybe_gone else surely if m.message_id not in gone else set()).add(m.account_id)
    for f in world.flags:
        if f.message_id not in gone:
            (perhaps if f.message_id in maybe_gone else surely).add(f.account_id)
    for s in world.scores:
        if judge.score_free(s):
            perhaps.add(s.account_id)
        elif not judge.score_goes(s):
            surely.add(s.account_id)
    surely |= {f.account_id for f in world.feedback if f.feedback_id in judge.feedback_after}
    for t in world.training:
        if training[t.example_id] is None:
            perhaps.add(t.account_id)
        elif training[t.example_id]:
            surely.add(t.account_id)
    fates: dict[UUID, bool | None] = {}
    free: set[UUID] = set()
    for a in world.accounts:
        if not judge.account_goes(a):
            fates[a.account_id] = True
        elif a.account_id in surely:
            fates[a.account_id] = False
        else:
            fates[a.account_id] = None
            if a.account_id in perhaps:
                free.add(a.account_id)
    return fates, frozenset(free)
