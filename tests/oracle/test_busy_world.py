"""The busy world of the fault tests: a whole run of it ends as the oracle demands, and passes its validations."""

from __future__ import annotations

import pytest

from .busy import AS_OF, busy_world
from .compare import differences, report
from .endstate import judge_run
from .ledger import mismatch
from .oracle import Place
from .stores import Servers, full_run, look, servers

__all__ = ["servers"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_busy_world_has_every_fate() -> None:
    verdicts = judge_run(busy_world(), AS_OF).verdicts.values()
    fates = {(verdict.rule, place) for verdict in verdicts for place in verdict.places}
    assert {place for _, place in fates} == set(Place)
    assert {rule for rule, _ in fates} >= {
        "legal_obligation",
        "usage_policy_enforcement",
        "safety_flagged",
        "erasure_request",
        "feedback",
        "business_agreement",
        "consumer_default",
        "business_default",
        "unclassified",
    }


def test_the_busy_world_after_a_run(servers: Servers) -> None:
    world = busy_world()
    with servers.store(world) as store:
        done = full_run(store, AS_OF)
        seen = look(store)
        expected = judge_run(world, AS_OF)
        found = differences(expected, seen)
        with store.connect() as conn:
            unrecorded = mismatch(expected, seen, conn)
    assert not found, report(found)
    assert unrecorded == []
    assert done.code == 0, str(done)
