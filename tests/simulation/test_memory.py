"""Two seeds of a year in memory, a machine that shrinks, and proof that the simulation notices what it must notice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lifecycle.policy.decide import decide
from lifecycle.policy.models import Trigger
from oracle.compare import COPY, EARLY, LATE
from simulation import memory
from simulation.__main__ import YEAR
from simulation.backend import Backend
from simulation.engine import PromiseBroken
from simulation.machine import Life
from simulation.memory import MemoryBackend
from simulation.script import Script
from simulation.shelf import Shelf

EXAMPLES = os.environ.get("LIFECYCLE_HYPOTHESIS_EXAMPLES")


def live(seed: int, days: int) -> Script:
    script = Script(seed, MemoryBackend())
    try:
        for _ in script.live(days):
            pass
    except PromiseBroken as broken:
        again = f"make simulate YEARS={days / YEAR:.4f} SEED={seed}"
        raise PromiseBroken(f"{broken}\nSee it again with: {again}") from None
    return script


def test_two_seeds_of_a_year_keep_every_promise_every_day() -> None:
    """Promises 1 to 5 (DESIGN.md), held to the oracle after each run, each crash and on each day without a run."""
    seen = [live(seed, round(YEAR)).life.seen for seed in (0, 1)]
    assert sum(each.runs for each in seen) > 600
    for name in ("crashes", "outage_days", "edits", "alarms", "late_by_change"):
        assert sum(getattr(each, name) for each in seen) > 0, name
    deeds = seen[0].deeds + seen[1].deeds
    for name in ("messages: delete", "messages: quarantine", "messages: restore", "request_logs: delete"):
        assert deeds[name] > 0, name


class MemoryLife(Life):
    """A life in memory."""

    def store(self) -> Backend:
        return MemoryBackend()


def test_any_order_of_events_runs_crashes_and_outages_keeps_the_promises() -> None:
    run_state_machine_as_test(
        MemoryLife,
        settings=settings(
            max_examples=int(EXAMPLES) if EXAMPLES else 12,
            stateful_step_count=25,
            derandomize=EXAMPLES is None,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_seed_gives_the_same_life_in_every_process() -> None:
    """Not only in this one: the order of sets differs from process to process."""
    tests = Path(__file__).resolve().parents[1]
    program = (
        "from simulation.script import Script; from simulation.memory import MemoryBackend\n"
        "script = Script(3, MemoryBackend()); list(script.live(45))\n"
        "print(script.life.seen, *map(str, script.life.world.messages))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(tests), "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in (1, 2)
    ]
    assert said[0] == said[1]
    assert "Message(" in said[0]


# A product that breaks a promise -----------------------------------------------------------------------------------


def _ignoring(trigger: Trigger) -> Callable[..., Any]:
    def partial(category: Any, tier: str, clock: Any, facts: Any, policy: Any, as_of: Any) -> Any:
        return decide(category, tier, clock, [f for f in facts if f.trigger is not trigger], policy, as_of)

    return partial


@pytest.mark.parametrize(
    ("trigger", "promise"),
    [
        (Trigger.HOLD, EARLY),
        (Trigger.CASE, EARLY),
        (Trigger.CONSENT, EARLY),
        (Trigger.FLAG, LATE),
        (Trigger.AGREEMENT, LATE),
        (Trigger.ERASURE, LATE),
    ],
)
def test_an_exception_that_is_overlooked_is_noticed(
    trigger: Trigger, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "decide", _ignoring(trigger))
    assert_broken(promise)


def assert_broken(what: str, seeds: int = 3) -> None:
    """Some seed notices, and says what broke, with the seed."""
    said = []
    for seed in range(seeds):
        try:
            live(seed, 730)
        except PromiseBroken as broken:
            said.append(str(broken))
            assert f"seed {seed}, day " in said[-1] and f"SEED={seed}" in said[-1]
            if what in said[-1]:
                return
    raise AssertionError(f"nothing said {what!r}: {said}")


def test_a_cut_without_a_copy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Shelf.move_in

    def hasty(self: Shelf, m: Any) -> None:
        whole(self, m)
        del self.quarantine[m.quarantine_prefix + "record.json"]

    monkeypatch.setattr(Shelf, "move_in", hasty)
    monkeypatch.setattr(Shelf, "_remove_copy", lambda self, m: None)
    assert_broken(COPY)


def test_a_deed_that_is_not_recorded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBackend, "_record", lambda self, *deed: None)
    assert_broken("ledger says 0")


def test_an_alarm_that_does_not_know_the_deadline_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBackend, "at_risk", lambda self, at, regime: None)
    assert_broken("at risk says None")


def test_a_lead_too_short_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut-off that does not run ahead is late by construction (case 1)."""

    def tardy(category: Any, tier: str, clock: Any, facts: Any, policy: Any, as_of: Any) -> Any:
        none = policy.lead.model_copy(update={"failed_runs": replace(policy.lead.failed_runs, days=0)})
        return decide(category, tier, clock, facts, policy.model_copy(update={"lead": none}), as_of)

    monkeypatch.setattr(memory, "decide", tardy)
    assert_broken(LATE)
