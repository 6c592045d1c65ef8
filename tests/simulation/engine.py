"""The life of one store under one seed. Every day's end is held to the oracle; the first broken promise stops it.

What is checked, and when:
- after a run: the stores are exactly in the oracle's end state, and the ledger says exactly what happened (1 to 5, 7);
- after a crash, between two units: nothing is missing that had to stay, whatever was cut has its copy, and the ledger
  says what was done so far (1, 3, 5); then facts change, and the run is resumed, or a new one begins a day later (4);
- before a run, and on every day without one: nothing has gone (1), nothing that the last run could have taken has
  outlived its deadline, unless the runs failed for longer than the margin, and then the alarm rang before it did (2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from oracle.compare import COPY, EARLY, differences, quarantine_copy, report, world_after
from oracle.endstate import Expected, end_state, research_row
from oracle.facts import Message, World
from oracle.ledger import disagreement, happened
from oracle.observe import Observed
from oracle.oracle import Judge, Place
from oracle.terms import Terms

from .backend import Backend
from .change import Change, changed
from .regime import SHIPPED_REGIME, Edit, Regime

# How long before a deadline the alarm rings: a run interval and the longest run, or there is no time left to act.
ALARM = timedelta(days=1, hours=12)
DAY = timedelta(days=1)


State = tuple[World, datetime, Terms]


class PromiseBroken(AssertionError):
    """A promise did not hold. Names the day; the caller adds the seed and how to see it again."""


@dataclass
class Tallies:
    """What a simulation has been through."""

    days: int = 0
    runs: int = 0
    crashes: int = 0
    outage_days: int = 0
    edits: int = 0
    late_by_outage: int = 0
    late_by_change: int = 0
    alarms: int = 0
    deeds: Counter[str] = field(default_factory=Counter)


class Simulation:
    """A world, the store that holds it, and the time. ``now`` is the instant of today's run."""

    def __init__(self, backend: Backend, start: datetime, regime: Regime = SHIPPED_REGIME) -> None:
        self.backend, self.now, self.regime = backend, start, regime
        self.world = World()
        self.seen = Tallies()
        self._latest: tuple[State, Judge] | None = None
        self._ended: State | None = None
        self._ended_judge: Judge | None = None
        self._warned: datetime | None = None
        self._stirred = True

    # What happens ----------------------------------------------------------------------------------------------

    def happen(self, change: Change) -> None:
        """The world does something, in the hours before ``now``."""
        if not change.empty:
            self.world = changed(self.world, change)
            self.backend.apply(change)
            self._stirred = True

    def edit(self, edit: Edit) -> None:
        """An approved edit of the policy."""
        self.regime = self.regime.edited(edit)
        self.seen.edits += 1
        self._stirred = True

    def tomorrow(self, days: int = 1) -> None:
        self.now += timedelta(days=days)
        self.seen.days += days

    def watch(self, *, missed: bool = False) -> None:
        """The moment before a run, or at which there should have been one."""
        judge = self._judge(self.now)
        if missed or (self._ended is not None and self.now - self._ended[1] > DAY):
            self._ring(judge)
        self._late(judge)

    def idle(self) -> None:
        """A day on which no run takes place."""
        self.watch(missed=True)
        self.seen.outage_days += 1
        self._untouched()

    def dull(self) -> bool:
        """Nothing happened since the last run, and neither it nor one of today or tomorrow has anything to do."""
        return not self._stirred and all(at_rest(self._judged(self.now + ahead)) for ahead in (timedelta(0), DAY))

    def skip(self) -> None:
        """Take a run for granted that would change nothing: a real one costs a second."""
        self.watch()
        self._ended, self._ended_judge, self._warned = (self.world, self.now, self.regime.terms), None, None

    def _judge(self, at: datetime) -> Judge:
        """One for each state of the world, as long as it lasts."""
        key = (self.world, at, self.regime.terms)
        if self._latest is None or any(a is not b for a, b in zip(self._latest[0], key, strict=True)):
            self._latest = key, Judge(*key)
        return self._latest[1]

    def _judged(self, at: datetime) -> Expected:
        return end_state(self._judge(at))

    @property
    def _last(self) -> Judge | None:
        """The judge of the instant and the state at which the last run ended."""
        if self._ended is not None and self._ended_judge is None:
            self._ended_judge = Judge(*self._ended)
        return self._ended_judge

    def run(self) -> None:
        """A whole run."""
        self.watch()
        mark = self.backend.mark()
        for _ in self.backend.run(self.now, self.regime):
            pass
        self._finish(mark)

    def crash(self, after: int) -> bool:
        """A run that dies after so many units. True when it died, False when it had ended before."""
        self.watch()
        mark = self.backend.mark()
        work = self.backend.run(self.now, self.regime)
        done = sum(1 for _ in zip(range(after), work, strict=False))
        if done < after:
            self._finish(mark)
            return False
        work.close()  # type: ignore[attr-defined]
        self.seen.crashes += 1
        expected, observed = self._judged(self.now), self.backend.observe()
        self._demand(interrupted(expected, observed), f"after a crash {after} units into the run")
        self._recorded(expected, observed, mark)
        self.world = world_after(expected, observed)
        return True

    def resume(self) -> None:
        """The run that died today is taken up again; facts may have changed since."""
        mark = self.backend.mark()
        for _ in self.backend.run(self.now, self.regime):
            pass
        self._finish(mark)

    # What is checked -------------------------------------------------------------------------------------------

    def _finish(self, mark: int) -> None:
        expected, observed = self._judged(self.now), self.backend.observe()
        found = differences(expected, observed)
        self._demand([str(difference) for difference in found], "after the run", report(found))
        self._recorded(expected, observed, mark)
        self._stirred = sum(happened(expected, observed).values()) > 0
        self.world = world_after(expected, observed)
        self._ended, self._ended_judge, self._warned = (self.world, self.now, self.regime.terms), None, None
        self.seen.runs += 1

    def _recorded(self, expected: Expected, observed: Observed, mark: int) -> None:
        real = happened(expected, observed)
        self._demand(disagreement(self.backend.recorded(mark), real), "ledger and stores")
        for (dataset, disposition, _), count in real.items():
            self.seen.deeds[f"{dataset}: {disposition}"] += count

    def _untouched(self) -> None:
        observed = self.backend.observe()
        here = {m.message_id for m in self.world.messages}, {m.message_id for m in self.world.quarantined}
        if here != (set(observed.app), set(observed.index)):
            raise self._broken("messages moved on a day without a run", "")

    def _ring(self, judge: Judge) -> None:
        """The product knows the first deadline, and its alarm rings while there is time to keep what was promised."""
        ends = [(m, end) for m in judge.by_id.values() if m.received_at < self.now and (end := judge.strikes(m))]
        first = min((end for _, end in ends), default=None)
        told = self.backend.at_risk(self.now, self.regime)
        if told != first:
            raise self._broken("alarm", f"first deadline is {first}, at risk says {told}")
        if self._warned is not None or not any(end - self.now < ALARM and self._promised(m, end) for m, end in ends):
            return
        if not self.backend.alarm(self.now, self.regime):
            raise self._broken("alarm", f"a promise is broken at {first} unless a run succeeds, and no alarm rings")
        self._warned = self.now
        self.seen.alarms += 1

    def _late(self, judge: Judge) -> None:
        """What has outlived its deadline must have an excuse."""
        for m in judge.by_id.values():
            if m.received_at >= self.now:
                continue
            end = judge.strikes(m)
            if end is None or end > self.now:
                continue
            if not self._promised(m, end):
                self.seen.late_by_change += 1
                continue
            self.seen.late_by_outage += 1
            assert self._last is not None
            if self.now - self._last.as_of < self.regime.terms.lead:
                raise self._broken("2 never late", f"a {m.tier} message outlived {end} within the margin")
            if self._warned is None or self._warned >= end:
                raise self._broken("2 never late", f"a {m.tier} message outlived {end} and no alarm rang before")

    def _promised(self, m: Message, end: datetime) -> bool:
        """Whether the last run knew that this message would have to be gone by then."""
        if self._last is None or m.message_id not in self._last.by_id or m.received_at >= self._last.as_of:
            return False
        return self._last.strikes(m) == end

    def _demand(self, complaints: Iterable[str], when: str, text: str | None = None) -> None:
        listed = list(complaints)
        if listed:
            raise self._broken(when, text or "\n".join(sorted(listed)[:20]))

    def _broken(self, when: str, what: str) -> PromiseBroken:
        return PromiseBroken(f"day {self.seen.days}, as of {self.now.isoformat()}: {when}\n{what}")


def at_rest(expected: Expected) -> bool:
    """Whether the oracle demands exactly what is there already."""
    world = expected.before
    here = {m.message_id: Place.APP for m in world.messages} | {
        m.message_id: Place.QUARANTINE for m in world.quarantined
    }
    keys = {m.message_id: m.stored.key for m in world.messages if m.stored is not None}
    return (
        all(verdict.places == {here[key]} for key, verdict in expected.verdicts.items())
        and all(key in expected.keys[message] for message, key in keys.items())
        and len(expected.scores) == len(world.scores)
        and len(expected.feedback) == len(world.feedback)
        and len(expected.training) == len(world.training)
        and expected.logs.total() == len(world.logs)
        and all(
            fate is True or (fate is False and a.email is None)
            for a in world.accounts
            for fate in [expected.accounts[a.account_id]]
        )
        and all(e.completed_at is not None and e.outcome in expected.erasures[e.request_id][1] for e in world.erasures)
    )


def interrupted(expected: Expected, observed: Observed) -> list[str]:
    """What must never be seen between two units of a run: early losses, cuts without copies."""
    found = [str(d) for d in differences(expected, observed) if d.promise == EARLY]
    before = expected.before
    for m in (*before.messages, *before.quarantined):
        if m.message_id in observed.index:
            found += [str(d) for d in quarantine_copy(m, observed) if d.promise == COPY]
    gone = (
        m
        for m in (*before.messages, *before.quarantined)
        if m.message_id not in observed.app and m.message_id not in observed.index
    )
    published = Counter(before.research)
    published.update(research_row(m) for m in gone if expected.verdicts[m.message_id].places == {Place.DEIDENTIFIED})
    if published != observed.research:
        found.append(f"research has {observed.research.total()} rows instead of {published.total()}")
    return found
