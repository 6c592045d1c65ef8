"""Days of the real product: the planner, the SQL and the disposal, on PostgreSQL and S3, under the same script."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from oracle.stores import Servers
from simulation.backend import Backend
from simulation.machine import Life
from simulation.real import backend_on
from simulation.script import ORDINARY, Script

pytestmark = [pytest.mark.slow, pytest.mark.embedded_s3, pytest.mark.timeout(600)]
DAYS = 20
EXAMPLES = os.environ.get("LIFECYCLE_HYPOTHESIS_EXAMPLES")


def test_twenty_days_keep_every_promise_every_day(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that would change nothing are left out; there is a crash among the others. Every third run is validated."""
    monkeypatch.setenv("LIFECYCLE_VALIDATION", "sql")
    rates = replace(ORDINARY.scaled(0.15), crash=0.3, backlog=6)
    with backend_on(servers, tmp_path, validate_every=3) as backend:
        script = Script(7, backend, rates, lazy=True)
        for _ in script.live(DAYS):
            pass
    seen = script.life.seen
    assert seen.days == DAYS
    assert min(seen.runs, seen.crashes, seen.outage_days, seen.deeds["messages: delete"]) > 0


def test_any_order_of_steps_keeps_the_promises(servers: Servers, tmp_path: Path) -> None:
    with ExitStack() as stores:

        class RealLife(Life):
            longest_wait = 1

            def store(self) -> Backend:
                stores.close()  # one store at a time: the buckets are shared
                return stores.enter_context(backend_on(servers, tmp_path))

        run_state_machine_as_test(
            RealLife,
            settings=settings(
                max_examples=int(EXAMPLES) if EXAMPLES else 1,
                stateful_step_count=6,
                derandomize=EXAMPLES is None,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
