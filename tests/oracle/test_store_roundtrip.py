"""What the loader writes is what the observer reads: a world goes into a real store and comes back as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

from hypothesis import given

from properties.budget import budget
from properties.worlds import worlds

from .compare import differences
from .endstate import Expected, judge_run
from .facts import World
from .observe import changed, fingerprint
from .oracle import Place, Verdict
from .stores import Servers, look, servers

__all__ = ["servers"]
BUCKETS = ("product-data", "product-logs", "quarantine")


def untouched(world: World, expected: Expected) -> Expected:
    """The expectation that nothing at all happens."""
    return replace(
        expected,
        verdicts={i: Verdict(v.rule, frozenset({Place.APP}), v.due) for i, v in expected.verdicts.items()},
        keys={m.message_id: frozenset({m.stored.key} if m.stored else ()) for m in world.messages},
        flags=frozenset(f.message_id for f in world.flags),
        scores=frozenset(s.score_id for s in world.scores),
        feedback=frozenset(f.feedback_id for f in world.feedback),
        training=frozenset(t.example_id for t in world.training),
        accounts={a.account_id: True for a in world.accounts},
        erasures={},
        logs=Counter(world.logs),
        research=Counter(),
        free_research=Counter(),
    )


def test_a_world_written_and_read_back_is_the_same_world(servers: Servers) -> None:
    @budget(3)
    @given(worlds(stories=8))
    def check(drawn: tuple[World, datetime]) -> None:
        world, as_of = drawn
        expected = untouched(world, judge_run(world, as_of))
        with servers.store(world) as store:
            assert differences(expected, look(store)) == []
            with store.connect() as conn:
                before = fingerprint(conn, store.s3, BUCKETS)
                assert changed(before, fingerprint(conn, store.s3, BUCKETS)) == {}
                store.sql(
                    """UPDATE app.accounts SET email = 'other'
                       WHERE account_id = (SELECT account_id FROM app.accounts LIMIT 1)"""
                )
                store.put_object("product-data", "landing/extra.json", b"{}")
                moved = changed(before, fingerprint(conn, store.s3, BUCKETS))
            assert moved.get("s3:product-data") == (0, 1)
            if world.accounts:
                assert moved["app.accounts"] == (1, 1)

    check()


def test_copies_of_a_snapshot_are_identical(servers: Servers) -> None:
    from .dates import utc
    from .facts import Message, ident

    world = World(
        messages=tuple(
            Message(ident("s", n), ident("c"), ident("a"), "beta", "prompt", utc(2025, 1, 1 + n)) for n in range(9)
        )
    )
    with servers.snapshot(world) as snapshot:
        with servers.copy_of(snapshot, world) as store:
            first = look(store)
            store.sql("DELETE FROM app.messages")
        with servers.copy_of(snapshot, world) as store:
            assert look(store) == first
