"""What happens on which day, from one seed: traffic, exceptions, policy edits, outages, crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from . import events
from .backend import Backend
from .dice import RandomDice
from .engine import PromiseBroken, Simulation
from .events import DAY, Event, Scene
from .regime import EDITS

# At two in the morning, on a day whose years to come hold three leap days.
START = datetime(2012, 2, 25, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Rates:
    """How often things happen, in shares of a day. Exceptions end more readily than they begin, or all is kept."""

    events: tuple[tuple[Event, float], ...]
    edit: float = 0.008
    outage: float = 0.02
    crash: float = 0.06
    backlog: int = 12

    def scaled(self, factor: float) -> Rates:
        """The same life with more or less traffic."""
        return replace(self, events=tuple((event, share * factor) for event, share in self.events))


ORDINARY = Rates(
    (
        (events.receive, 0.3),
        (events.unearth, 0.02),
        (events.flag, 0.06),
        (events.clear, 0.05),
        (events.rate, 0.02),
        (events.withdraw, 0.03),
        (events.hold, 0.025),
        (events.release, 0.05),
        (events.accuse, 0.012),
        (events.close, 0.03),
        (events.agree, 0.02),
        (events.terminate, 0.03),
        (events.erase, 0.03),
    )
)
# Between a crash and what follows: whatever protects counts at once, although the plan has been frozen (case 4). What
# makes more due is left to the next plan, and so to the next day.
MEANWHILE: tuple[Event, ...] = (events.hold, events.accuse)
# Days on which an exception meets every age: the first, so that even a short run sees ends of periods.
AGES = (1, 24, 25, 26, 27, 28, 60, 86, 87, 88, 89, 90, 364, 700, 728, 729, 731)


class Script:
    """One seed's life of one store. ``lazy`` leaves out runs that would change nothing (real stores)."""

    def __init__(
        self, seed: int, backend: Backend, rates: Rates = ORDINARY, start: datetime = START, *, lazy: bool = False
    ) -> None:
        self.seed, self.rates, self.lazy = seed, rates, lazy
        self.dice = RandomDice(seed)
        self.life = Simulation(backend, start)
        self.outage = 0
        self._scene = Scene(self.life.world, start, self.life.regime, self.dice, f"seed-{seed}")

    def live(self, days: int) -> Iterator[int]:
        """Live so many days; gives the number of each day that has passed.

        Raises:
            PromiseBroken: with seed, day, and how to see it again.
        """
        try:
            self._backlog()
            for day in range(days):
                self._day()
                yield day
        except PromiseBroken as broken:
            raise PromiseBroken(f"seed {self.seed}, {broken}") from None

    def _backlog(self) -> None:
        """Before the first run: messages of telling ages."""
        for _ in range(self.rates.backlog):
            scene = self._look()
            self.life.happen(events.receive(scene, scene.now - DAY * self.dice.pick(AGES) + self.dice.pick(_BESIDE)))

    def _look(self) -> Scene:
        scene, life = self._scene, self.life
        scene.world, scene.now, scene.regime = life.world, life.now, life.regime
        return scene

    def _befall(self) -> None:
        for event, share in self.rates.events:
            if self.dice.chance(share):
                self.life.happen(event(self._look()))

    def _day(self) -> None:
        life, dice = self.life, self.dice
        self._befall()
        if dice.chance(self.rates.edit):
            life.edit(dice.pick(EDITS))
        if self.outage == 0 and dice.chance(self.rates.outage):
            self.outage = dice.between(1, 5)
        if self.outage > 0:
            self.outage -= 1
            life.idle()
        elif self.lazy and life.dull():
            life.skip()
        elif dice.chance(self.rates.crash):
            self._crash()
        else:
            life.run()
        life.tomorrow()

    def _crash(self) -> None:
        """A run that dies, once or several times; then it is taken up again, or given up for the day."""
        while self.life.crash(self.dice.between(1, 25)):
            for event in MEANWHILE:
                if self.dice.chance(0.4):
                    self.life.happen(event(self._look()))
            if self.dice.chance(0.7):
                self.life.resume()
                return
            if self.dice.chance(0.5):
                return


_TICK = timedelta(microseconds=1)
_BESIDE = (-_TICK, timedelta(0), _TICK, timedelta(hours=7))
