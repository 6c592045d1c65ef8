"""Promises 1 to 5 and 7 on generated worlds: the oracle's end state against the stores after ``lifecycle run``.

Each generated world is run once, by all the steps that a promise may be broken in: a dry run, the run, and the same run
again. The tests then ask one promise each of what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from hypothesis import given

from oracle.compare import AGREE, COPY, EARLY, LATE, LEDGER, Difference, differences
from oracle.endstate import judge_run
from oracle.facts import TIERS, World
from oracle.ledger import mismatch
from oracle.load import DATA, LOGS, QUARANTINE
from oracle.observe import changed, fingerprint, observe
from oracle.stores import Ran, Servers, full_run, run
from properties.budget import budget
from properties.worlds import worlds
from support.divided import divide

BUCKETS = (DATA, LOGS, QUARANTINE, "research")


@dataclass(frozen=True)
class Trial:
    """What was seen of one world."""

    world: World
    as_of: datetime
    dry: Ran
    dry_changed: dict[str, tuple[int, int]]
    ran: Ran
    found: list[Difference]
    ledger: list[str]
    verified: Ran
    again: Ran
    again_changed: dict[str, tuple[int, int]]
    undecided: bool

    def broken(self, promise: str) -> list[str]:
        return [str(difference) for difference in self.found if difference.promise == promise]

    def title(self) -> str:
        return f"world of {len(self.world.messages)} messages, as of {self.as_of.isoformat()}"


def attempt(servers: Servers, world: World, as_of: datetime) -> Trial:
    """One world through a dry run, the run and a second run; scores and submissions lie in partitions by time alone."""
    expected = judge_run(world, as_of)
    with servers.store(world) as store, store.connect() as conn:
        divide(store, as_of)
        before = fingerprint(conn, store.s3, BUCKETS)
        dry = run(store, as_of, "--dry-run")
        dry_changed = changed(before, fingerprint(conn, store.s3, BUCKETS))
        ran = full_run(store, as_of)
        observed = observe(conn, store.s3)
        ledger = mismatch(expected, observed, conn)
        after = fingerprint(conn, store.s3, BUCKETS)
        again = run(store, as_of)
        again_changed = changed(after, fingerprint(conn, store.s3, BUCKETS))
        done = store.cli("ledger", "verify", check=False)
    return Trial(
        world=world,
        as_of=as_of,
        dry=dry,
        dry_changed=dry_changed,
        ran=ran,
        found=differences(expected, observed),
        ledger=ledger,
        verified=Ran(done.returncode, done.stdout, done.stderr),
        again=again,
        again_changed=again_changed,
        undecided=expected.undecided,
    )


@dataclass
class Trials:
    # Not shown when a test fails: it holds whole worlds.
    seen: list[Trial] = field(default_factory=list, repr=False)

    def complaints(self, promise: str) -> str:
        return _text((trial, trial.broken(promise)) for trial in self.seen)


def _text(pairs: Iterable[tuple[Trial, list[str]]]) -> str:
    lines = []
    for trial, complaints in pairs:
        if complaints:
            lines += [trial.title(), *(f"  {complaint}" for complaint in sorted(complaints)[:20])]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def trials(servers: Servers) -> Trials:
    """Every generated world, tried."""
    tried = Trials()

    @budget(4)
    @given(worlds())
    def explore(drawn: tuple[World, datetime]) -> None:
        tried.seen.append(attempt(servers, *drawn))

    explore()
    return tried


pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_the_run_of_a_lawful_world_passes_its_own_validations(trials: Trials) -> None:
    failed = [(trial, [str(trial.ran.failures())]) for trial in trials.seen if trial.ran.code != 0]
    assert _text(failed) == ""


def test_promise_1_never_early(trials: Trials) -> None:
    assert trials.complaints(EARLY) == ""


def test_promise_2_never_late(trials: Trials) -> None:
    assert trials.complaints(LATE) == ""


def test_promise_3_copy_before_cut(trials: Trials) -> None:
    """Case 17: record, children and object in quarantine equal the original; research holds each transformed row."""
    assert trials.complaints(COPY) == ""


def test_promise_4_a_second_run_changes_nothing(trials: Trials) -> None:
    """Neither the stores nor the ledger, byte by byte; unless the first run itself took a fact away."""
    moved = [(trial.title(), trial.again_changed) for trial in trials.seen if not trial.undecided]
    assert [(title, changes) for title, changes in moved if changes] == []
    assert [str(trial.again) for trial in trials.seen if trial.again.code != 0] == []


def test_promise_4_a_dry_run_changes_nothing_case_21(trials: Trials) -> None:
    assert [(trial.title(), trial.dry_changed) for trial in trials.seen if trial.dry_changed] == []
    assert [str(trial.dry) for trial in trials.seen if trial.dry.code != 0] == []


@pytest.mark.parametrize("scope", TIERS)
def test_promise_4_a_dry_run_foretells_the_run(trials: Trials, scope: str) -> None:
    """Records and erasure come after the tiers and find less left than a dry run does: theirs is an upper bound."""
    told = [(trial.title(), trial.dry.scope(scope), trial.ran.scope(scope)) for trial in trials.seen]
    assert [line for line in told if line[1] != line[2]] == []


@pytest.mark.parametrize("scope", ["records", "erasure"])
def test_promise_4_a_dry_run_never_promises_too_little(trials: Trials, scope: str) -> None:
    for trial in trials.seen:
        foretold = trial.dry.scope(scope)
        short = {name: n for name, n in trial.ran.scope(scope).items() if n > foretold.get(name, 0)}
        assert short == {}, trial.title()


def test_promise_5_the_ledger_says_what_really_happened(trials: Trials) -> None:
    assert _text((trial, trial.ledger) for trial in trials.seen) == ""
    assert trials.complaints(LEDGER) == ""


def test_promise_5_the_chain_verifies(trials: Trials) -> None:
    assert [str(trial.verified) for trial in trials.seen if trial.verified.code != 0] == []


def test_promise_7_rows_and_objects_agree(trials: Trials) -> None:
    assert trials.complaints(AGREE) == ""
