"""Several days in a row: flags are cleared, holds released, consents withdrawn, cases closed, erasures asked for.

After each day's run the stores are as the oracle says, applied to the state that the day before left.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.change import apply_changes
from oracle.compare import differences, report, world_after
from oracle.dates import utc
from oracle.endstate import judge_run
from oracle.facts import Erasure, Feedback, Flag, Hold, World, ident
from oracle.ledger import last_seq, mismatch
from oracle.observe import observe
from oracle.stores import Servers, full_run, run
from properties.budget import budget
from properties.worlds import worlds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# A day later, within the lead, past the business and consumer deadlines, past the end of quarantine.
STEPS = (timedelta(days=1), timedelta(days=2), timedelta(days=26), timedelta(days=88), timedelta(days=700))
DAYS = 3


@st.composite
def later(draw: st.DrawFn, world: World, now: datetime, day: int) -> World:
    """The same world after somebody has ended some exceptions and begun others."""
    ended = now - timedelta(hours=1)

    def end(facts: tuple[Any, ...], column: str) -> tuple[Any, ...]:
        return tuple(
            replace(fact, **{column: ended}) if getattr(fact, column) is None and draw(st.booleans()) else fact
            for fact in facts
        )

    world = replace(
        world,
        flags=end(world.flags, "cleared_at"),
        feedback=end(world.feedback, "withdrawn_at"),
        cases=end(world.cases, "closed_at"),
        holds=end(world.holds, "released_at"),
        agreements=end(world.agreements, "effective_to"),
    )
    return draw(_begun(world, now, day))


@st.composite
def _begun(draw: st.DrawFn, world: World, now: datetime, day: int) -> World:
    """New flags, holds, feedback and erasure requests, on messages in the store and in quarantine alike."""
    everyone = [*world.messages, *world.quarantined]
    flagged = {flag.message_id for flag in world.flags}
    flags, holds, feedback, erasures = list(world.flags), list(world.holds), list(world.feedback), list(world.erasures)
    for m in everyone:
        befalls = draw(st.sampled_from(["nothing"] * 12 + ["flag", "hold", "feedback", "erasure"]))
        name = (day, m.message_id)
        if befalls == "flag" and m.message_id not in flagged:
            flags.append(Flag(m.message_id, m.account_id, now - timedelta(hours=2)))
        elif befalls == "hold":
            holds.append(Hold(ident("hold", *name), "message", str(m.message_id), now - timedelta(hours=2)))
        elif befalls == "feedback":
            feedback.append(
                Feedback(ident("feedback", *name), m.account_id, m.conversation_id, None, now - timedelta(hours=2))
            )
        elif befalls == "erasure":
            asked = now - timedelta(hours=2)
            erasures.append(Erasure(ident("erasure", *name), "account", str(m.account_id), asked))
    return replace(world, flags=tuple(flags), holds=tuple(holds), feedback=tuple(feedback), erasures=tuple(erasures))


def test_each_day_ends_as_the_rules_demand(servers: Servers) -> None:
    @budget(2)
    @given(worlds(stories=8, instants=(utc(2023, 3, 1, 10), utc(2024, 2, 26, 12))), st.data())
    def explore(drawn: tuple[World, datetime], data: st.DataObject) -> None:
        world, now = drawn
        with servers.store(world) as store, store.connect() as conn:
            for day in range(DAYS):
                expected, seq = judge_run(world, now), last_seq(conn)
                ran = (full_run if day == DAYS - 1 else run)(store, now)
                observed = observe(conn, store.s3)
                found = differences(expected, observed)
                assert not found, f"day {day}, as of {now.isoformat()}\n{report(found)}\n{ran.stderr[-2000:]}"
                assert mismatch(expected, observed, conn, seq) == [], f"day {day}"
                assert ran.code == 0, str(ran)
                now += data.draw(st.sampled_from(STEPS), label="days until the next run")
                left = world_after(expected, observed)
                world = data.draw(later(left, now, day))
                apply_changes(conn, left, world)

    explore()
