"""The session's servers, and a world that has been run once: most tests here look at one record of such a world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

import pytest

from oracle.facts import World
from oracle.named import AS_OF
from oracle.observe import Observed
from oracle.stores import Servers, full_run, look, servers
from support.judges import sql_judges
from support.store import Store

__all__ = ["servers", "sql_judges"]

RunWorld = Callable[..., AbstractContextManager[tuple[Store, Observed]]]


@pytest.fixture(scope="module")
def after_run(servers: Servers, sql_judges: None) -> RunWorld:
    """A store that held a world, after one run that passed its validations, and what was found in it."""

    @contextmanager
    def made(world: World, as_of: datetime = AS_OF) -> Iterator[tuple[Store, Observed]]:
        with servers.store(world) as store:
            done = full_run(store, as_of)
            assert done.code == 0, str(done)
            yield store, look(store)

    return made
