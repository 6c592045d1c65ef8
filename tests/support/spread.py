"""How the tests are spread over pytest-xdist's workers, so that two cores are busy from the first minute to the last.

The end-to-end tests wait for a scheduler half of their time. One worker runs them all, beside the others and before
them; then come the kill tests and other slow ones, and last what is small enough to even out the workers' ends.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

END_TO_END = "tests/e2e"
# In this order; a module is as slow as the slowest of its tests.
_FIRST = ("e2e", "kill", "slow")
# Airflow's heartbeats go first: a task whose process gets no processor for half a minute counts as dead.
_NICENESS = 5


def slow_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The same tests, those of a module together and as they stand in it."""
    ranks: dict[str, int] = {}
    for item in items:
        ranks[_module(item)] = min(_rank(item), ranks.get(_module(item), len(_FIRST)))
    return sorted(items, key=lambda item: ranks[_module(item)])


def _module(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0]


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, name in enumerate(_FIRST) if item.get_closest_marker(name)), len(_FIRST))


def one_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's scheduler by module, but for the end-to-end tests as one; None: what the command line asks for."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = scope_of
    return scheduler


def scope_of(nodeid: str) -> str:
    """What one worker runs as a whole, whatever stands in the brackets of a test's name."""
    return END_TO_END if nodeid.startswith(f"{END_TO_END}/") else nodeid.split("::", 1)[0]


def give_way(item: pytest.Item) -> None:
    """Once a worker runs anything but the end-to-end tests, it lets those of another one go first."""
    if hasattr(item.config, "workerinput") and not item.get_closest_marker("e2e"):
        _be_nice()


@cache
def _be_nice() -> None:
    os.nice(_NICENESS)
