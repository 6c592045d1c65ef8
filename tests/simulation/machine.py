"""The same life, chosen step by step by Hypothesis, so that what breaks a promise shrinks to the few steps it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from . import events
from .backend import Backend
from .engine import Simulation
from .events import Event, Scene
from .regime import EDITS, Edit
from .script import MEANWHILE, START

Item = TypeVar("Item")
EVENTS: tuple[Event, ...] = (
    events.receive,
    events.unearth,
    events.flag,
    events.clear,
    events.rate,
    events.withdraw,
    events.hold,
    events.release,
    events.accuse,
    events.close,
    events.agree,
    events.terminate,
    events.erase,
)


class DrawnDice:
    """Dice that Hypothesis throws."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def pick(self, options: Sequence[Item]) -> Item:
        return options[self.between(0, len(options) - 1)]

    def between(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def chance(self, share: float) -> bool:
        return self._data.draw(st.booleans())


class Life(RuleBasedStateMachine):
    """Any order of events, edits, runs, crashes and outages. Subclasses say which store, and how long a wait may be."""

    longest_wait = 100

    def __init__(self) -> None:
        super().__init__()
        self.life = Simulation(self.store(), START)
        self.serial = 0

    def store(self) -> Backend:
        """A fresh, empty store."""
        raise NotImplementedError

    def _scene(self, data: st.DataObject) -> Scene:
        life = self.life
        return Scene(life.world, life.now, life.regime, DrawnDice(data), "machine", self.serial)

    def _befall(self, event: Event, data: st.DataObject) -> None:
        scene = self._scene(data)
        self.life.happen(event(scene))
        self.serial = scene.serial

    @rule(event=st.sampled_from(EVENTS), data=st.data())
    def happens(self, event: Event, data: st.DataObject) -> None:
        self._befall(event, data)

    @rule(edit=st.sampled_from(EDITS))
    def policy_is_edited(self, edit: Edit) -> None:
        self.life.edit(edit)

    @rule(data=st.data())
    def days_pass(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.sampled_from([1, 2, 3, 27, 88, 100]).filter(lambda n: n <= self.longest_wait))):
            self.life.run()
            self.life.tomorrow()

    @rule(days=st.integers(1, 5))
    def runs_fail(self, days: int) -> None:
        for _ in range(days):
            self.life.idle()
            self.life.tomorrow()

    @rule(after=st.integers(0, 20), protective=st.sampled_from([None, *MEANWHILE]), again=st.booleans(), data=st.data())
    def run_dies(self, after: int, protective: Event | None, again: bool, data: st.DataObject) -> None:
        """Between two units; somebody may place a hold before the run is taken up again."""
        if self.life.crash(after):
            if protective is not None:
                self._befall(protective, data)
            if again:
                self.life.resume()
        self.life.tomorrow()
