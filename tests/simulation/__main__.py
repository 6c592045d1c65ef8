"""Years of simulated days: python -m simulation --years 10 --seeds 20 [--backend memory|real] [--seed N]."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .backend import Backend
from .engine import PromiseBroken
from .memory import MemoryBackend
from .script import ORDINARY, Rates, Script

# A real run costs a second or more, so a real store leads a quieter life.
REAL_TRAFFIC = 0.25
# Great Expectations judges every so many real runs.
VALIDATE_EVERY = 50
YEAR = 365.25


@contextmanager
def backend_of(name: str) -> Iterator[tuple[Backend, Rates]]:
    """A fresh store and the life it leads."""
    if name == "memory":
        yield MemoryBackend(), ORDINARY
        return
    from .real import real_backend

    with real_backend(VALIDATE_EVERY) as backend:
        yield backend, ORDINARY.scaled(REAL_TRAFFIC)


def simulate(name: str, seed: int, days: int) -> str | None:
    """Live one seed, with progress; what broke, or None."""
    began = time.monotonic()
    with backend_of(name) as (backend, rates):
        script = Script(seed, backend, rates, lazy=name == "real")
        try:
            for day in script.live(days):
                if day % 20 == 19:
                    progress(seed, day + 1, days, time.monotonic() - began)
        except PromiseBroken as broken:
            return str(broken)
    took, seen = time.monotonic() - began, script.life.seen
    done = ", ".join(f"{what} {count}" for what, count in sorted(seen.deeds.items()))
    _say(
        f"\rseed {seed}: {seen.days} days, {seen.runs} runs, {seen.crashes} crashes, {seen.outage_days} days without a "
        f"run, {seen.edits} policy edits, {seen.alarms} alarms, {seen.late_by_outage} late by outage (alarmed), "
        f"{seen.late_by_change} overdue by a change; {done}; {took:.1f} s, {days / took:.1f} days/s\n"
    )
    return None


def progress(seed: int, day: int, days: int, seconds: float) -> None:
    """One line that is written over, on a terminal."""
    if sys.stderr.isatty():
        _say(f"\rseed {seed}: day {day} of {days}, {day / seconds:.1f} days/s ")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=float, default=1)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0")
    parser.add_argument("--seed", type=int, help="this seed only")
    parser.add_argument("--backend", choices=["memory", "real"], default="memory")
    asked = parser.parse_args()
    seeds = range(asked.seeds) if asked.seed is None else [asked.seed]
    began, days, broken = time.monotonic(), round(asked.years * YEAR), 0
    for seed in seeds:
        what = simulate(asked.backend, seed, days)
        if what is not None:
            broken += 1
            again = f"make simulate YEARS={asked.years:g} SEED={seed} BACKEND={asked.backend}"
            _say(f"\n{what}\nSee it again with: {again}\n")
    _say(f"{len(seeds)} seeds of {asked.years:g} years, {broken} broken, {time.monotonic() - began:.0f} s\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
