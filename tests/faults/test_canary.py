"""Case 25: no content and no identifier leaves the stores. Unique strings are planted, all is run and searched.

The tables of holds and erasure requests, lifecycle.quarantine and the quarantine bucket are stores; they may name
records. Everything else that the project writes or prints may not.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid5

import pytest
from psycopg import Connection, sql

from oracle.busy import AS_OF, busy_world
from oracle.facts import ROOT, Account, Erasure, Feedback, Flag, Hold, Message, World
from oracle.forked import Forked
from oracle.load import DATA, EVIDENCE, LOGS
from oracle.named import in_landing
from oracle.observe import bucket
from oracle.stores import Servers, at
from support.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAY = timedelta(days=1)
WORDS = ("kanarivogel", "canarybird", "pinsonjaune", "wellensittich")
# What the product may print of a record: its tier, its day, and how many.
STORES = {"legal_holds", "erasure_requests", "quarantine"}


@dataclass(frozen=True)
class Canaries:
    """What was planted, and everything that may be searched for it."""

    planted: frozenset[str]
    texts: dict[str, str]

    def found(self) -> list[str]:
        """Places in which a canary sang, without saying which."""
        return sorted(
            f"{place} ({sum(canary in text.lower() for canary in self.planted)} canaries)"
            for place, text in self.texts.items()
            if any(canary in text.lower() for canary in self.planted)
        )


def canary_world() -> World:
    """The busy world with a nameable bird in every field that a person or a product could have filled."""
    world = busy_world(accounts_per_tier=5)
    return replace(
        world,
        messages=tuple(_sing(m, n) for n, m in enumerate(world.messages)),
        accounts=tuple(
            replace(a, email=f"{WORDS[2]}{n}@example.org", display_name=f"{WORDS[3]} {n}")
            for n, a in enumerate(world.accounts)
        ),
        feedback=tuple(replace(f, comment=f"{WORDS[0]} in a comment") for f in world.feedback),
        flags=tuple(replace(f, classifier=WORDS[1]) for f in world.flags),
        scores=tuple(replace(s, classifier=WORDS[1]) for s in world.scores),
        logs=tuple(replace(r, line=f"GET /{WORDS[2]} 200") for r in world.logs),
    )


def _sing(m: Message, n: int) -> Message:
    body = None if m.body is None else f"{m.body} {WORDS[0]}"
    return replace(
        m, body=body, tools=tuple(f"{WORDS[1]}-{tool}" for tool in m.tools), client_ip=f"203.0.113.{n % 250}"
    )


def identifiers(world: World) -> Iterator[UUID]:
    for m in world.messages:
        yield from (m.message_id, m.conversation_id, m.account_id)
    yield from (s.score_id for s in world.scores)
    yield from (f.feedback_id for f in world.feedback)
    yield from (t.example_id for t in world.training)
    yield from (h.hold_id for h in world.holds)
    yield from (e.request_id for e in world.erasures)
    yield from (r.message_id for r in world.logs)


def canaries_of(world: World) -> frozenset[str]:
    ids = {form for i in identifiers(world) for form in (str(i), i.hex)}
    return frozenset({*WORDS, "203.0.113.", *ids})


def tables(conn: Connection[tuple[object, ...]]) -> dict[str, str]:
    """Every row of every table of the project's own that is not a store."""
    names = conn.execute(
        """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = 'lifecycle' AND c.relkind IN ('r', 'p', 'm')"""
    ).fetchall()
    found: dict[str, str] = {}
    for (name,) in names:
        if name not in STORES:
            rows = conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier("lifecycle", str(name))))
            found[f"lifecycle.{name}"] = "\n".join(str(row[0]) for row in rows)
    return found


def evidence(store: Store) -> dict[str, str]:
    """Keys and contents of what was written as evidence."""
    found: dict[str, str] = {}
    for key, stored in bucket(store.s3, EVIDENCE).items():
        content = stored.content or b""
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        found[f"s3 {key.split('/', 1)[0]}/"] = (
            found.get(f"s3 {key.split('/', 1)[0]}/", "")
            + key
            + str(dict(stored.metadata))
            + content.decode(errors="replace")
        )
    return found


def everything_said(store: Store, world: World, commands: dict[str, tuple[str, ...]]) -> Canaries:
    texts = {}
    for name, words in commands.items():
        process = Forked(words, {**os.environ, **store.env}, quick=False)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode in (0, 1), f"{name} was not understood: {stderr}"
        texts[f"{name} stdout"], texts[f"{name} stderr"] = stdout, stderr
    with store.connect() as conn:
        texts |= tables(conn)
    texts |= evidence(store)
    return Canaries(canaries_of(world), texts)


COMMANDS: dict[str, tuple[str, ...]] = {
    "dry run": ("run", "--as-of", at(AS_OF), "--dry-run"),
    "plan": ("plan", "--as-of", at(AS_OF)),
    "plan json": ("plan", "--as-of", at(AS_OF), "--json"),
    "run": ("run", "--as-of", at(AS_OF)),
    "run json": ("run", "--as-of", at(AS_OF + DAY), "--json"),
    "run 2 years on": ("run", "--as-of", at(AS_OF + DAY * 400)),
    "audit": ("audit", "--as-of", at(AS_OF)),
    "audit json": ("audit", "--as-of", at(AS_OF), "--json"),
    "coverage": ("coverage", "--as-of", at(AS_OF)),
    "coverage json": ("coverage", "--as-of", at(AS_OF), "--json"),
    "ledger": ("ledger", "verify"),
}
BREAKING = ("dry run", "run", "run json", "audit json")


def test_the_search_finds_a_canary_where_there_is_one(servers: Servers) -> None:
    """The test is tested: a bird in the ledger's neighbourhood is heard."""
    world = canary_world()
    with servers.store(world) as store:
        store.sql("CREATE TABLE lifecycle.notes (said text)")
        store.sql("INSERT INTO lifecycle.notes VALUES (%s)", str(world.messages[0].message_id).upper())
        store.put_object(EVIDENCE, "runs/1.json", b'{"said": "kanarivogel"}')
        heard = everything_said(store, world, {})
    assert heard.found() == ["lifecycle.notes (1 canaries)", "s3 runs/ (1 canaries)"]


def test_no_content_and_no_identifier_leaves_the_stores_case_25(servers: Servers) -> None:
    world = canary_world()
    with servers.store(world) as store:
        # A copy that nobody configured makes the coverage check read what it must not tell.
        store.sql("CREATE TABLE app.copies AS SELECT row_to_json(m)::jsonb AS copy, m.body FROM app.messages m")
        store.put_object(DATA, f"{world.messages[0].message_id}/{WORDS[0]}", b"x")
        heard = everything_said(store, world, COMMANDS)
    assert "app.copies" in heard.texts["coverage stdout"]
    assert heard.texts["lifecycle.ledger"], "nothing was recorded; the test saw nothing"
    assert any(place.startswith("s3 ") for place in heard.texts), "no evidence was written; the test saw nothing"
    assert heard.found() == []


def test_errors_do_not_quote_what_failed_case_25(servers: Servers) -> None:
    """An object that is not there, lines that cannot be read, targets that are nonsense: things break in the middle."""
    poison = uuid5(ROOT, "poison")
    base = Message(poison, uuid5(poison, "c"), uuid5(poison, "a"), "evaluation", "prompt", AS_OF - DAY * 100)
    lost = replace(in_landing(base), message_id=uuid5(poison, "lost"))
    world = World(
        messages=(base, lost),
        accounts=(Account(base.account_id, "evaluation", WORDS[2], WORDS[3], AS_OF - DAY, AS_OF - DAY),),
        flags=(Flag(lost.message_id, lost.account_id, lost.received_at, None, WORDS[1]),),
        holds=(Hold(uuid5(poison, "h"), "account", WORDS[0], AS_OF - DAY),),
        erasures=(Erasure(uuid5(poison, "e"), "message", WORDS[1], AS_OF - DAY),),
        feedback=(
            Feedback(uuid5(poison, "f"), base.account_id, base.conversation_id, None, AS_OF - DAY, None, 1, WORDS[0]),
        ),
    )
    with servers.store(world) as store:
        assert lost.stored is not None
        store.s3.delete_object(Bucket=DATA, Key=lost.stored.key)
        store.put_object(LOGS, "requests/date=2025-01-01/part-0.jsonl.gz", gzip.compress(WORDS[2].encode() + b"\n{"))
        store.put_object(LOGS, "requests/date=2025-01-01/part-1.parquet", WORDS[3].encode())
        heard = everything_said(store, world, {name: COMMANDS[name] for name in BREAKING})
    assert heard.found() == []
