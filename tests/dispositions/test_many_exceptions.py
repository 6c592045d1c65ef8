"""Ordinary rows of several tiers with text ids, under every mixture of exceptions: the run, its plan and its ledger say
what the core says of each row, a microsecond before and after each boundary."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.config import load_configuration
from lifecycle.policy.decide import Decision, Fact, decide
from lifecycle.policy.models import Category, Disposition, Trigger
from lifecycle.policy.periods import Period
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from oracle.quick import only
from oracle.stores import Servers, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(120)
AS_OF = datetime(2026, 3, 31, 12, tzinfo=UTC)
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
PLANS = {"free": "consumer", "plus": "consumer", "preview": "beta", "team": "business"}
TABLES = """
CREATE TABLE app.notes (id bigint PRIMARY KEY, "user" text, thread text, at timestamptz, plan text);
CREATE INDEX ON app.notes (at, id); CREATE INDEX ON app.notes ("user"); CREATE INDEX ON app.notes (thread);
CREATE TABLE app.bans ("user" text, since bigint, until bigint);
CREATE TABLE app.terms ("user" text, what text, keep interval, since timestamp, until timestamp);
CREATE TABLE app.votes (thread text, at bigint, taken_back bigint);
"""
INTERVALS = {
    "0 days": Period(), "1 day": Period(days=1), "25 days": Period(days=25), "1 mon": Period(months=1),
    "-1 mon +31 days": Period(months=-1, days=31), "1 mon -1 day": Period(months=1, days=-1),
    "8 days": Period(days=8),
    "40 days": Period(days=40), "200 days": Period(days=200), "10000 years": Period(months=120_000),
    "1 day -01:00": Period(days=1, seconds=-3600),
}  # fmt: skip
AGES = [*(days * DAY + tick for days in (0, 1, 22, 25, 26, 28, 31, 87, 90, 400) for tick in (-TICK, 0 * TICK, TICK)),
        57 * DAY]  # fmt: skip


def document() -> dict[str, Any]:
    shown = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    micro, local = {"is": "epoch", "unit": "us"}, {"is": "timestamp", "zone": "Asia/Tokyo"}
    return {
        "version": shown["version"], "evidence_bucket": shown["evidence_bucket"],
        "exceptions": {
            "cases": {"table": "app.bans", "ids": "text", "clocks": dict(micro), "subject": "user", "opened": "since",
                      "closed": "until"},
            "agreements": {"table": "app.terms", "ids": "text", "clocks": local, "subject": "user", "category": "what",
                           "retain": "keep", "effective_from": "since", "effective_to": "until"},
            "consents": {"table": "app.votes", "ids": "text", "clocks": dict(micro), "group": "thread", "given": "at",
                         "withdrawn": "taken_back"},
        },
        "datasets": [{"id": "notes", "type": "table", "category": "prompts_and_outputs", "table": "app.notes",
                      "key": "id", "subject": "user", "group": "thread", "ids": "text", "clock": "at",
                      "tiers": {"column": "plan", "values": PLANS}}],
    }  # fmt: skip


@dataclass(frozen=True)
class Row:
    key: int
    user: str
    thread: str
    at: datetime | None
    plan: str | None


@dataclass
class World:
    rows: list[Row]
    facts: dict[str, list[Fact]]
    folded: dict[str, list[Fact]]

    def decided(self, row: Row) -> Decision | None:
        if row.at is None:
            return None
        facts = [*self.facts.get(row.user, ()), *self.facts.get(f"/{row.thread}", ()),
                 *self.folded.get(row.user.lower(), ()), *self.folded.get(f"/{row.thread}".lower(), ())]  # fmt: skip
        policy = load_configuration().policy
        return decide(Category.PROMPTS_AND_OUTPUTS, PLANS.get(row.plan or "", "?"), row.at, facts, policy, AS_OF)


def microseconds(instant: datetime | None) -> int | None:
    return None if instant is None else (instant - datetime(1970, 1, 1, tzinfo=UTC)) // TICK


def world(store: Store, dice: random.Random) -> World:
    users = [name for n in range(40) for name in (f"User {n}", f"user {n}")]
    made = World([], {}, {})
    for _ in range(400):
        at = AS_OF - dice.choice(AGES) if dice.random() > 0.02 else None
        thread, plan = f"T{dice.randrange(60)}", dice.choice([*PLANS, "Free", None])
        _write(store, made, dice.choice(users), thread, at, plan)
    for user in users:
        began = AS_OF - dice.choice((-DAY, TICK, 30 * DAY))
        ended = dice.choice((None, None, AS_OF, AS_OF + TICK, AS_OF - DAY))
        kind = dice.choice(("hold", "case", "agreement", "agreement", "erasure", "none", "none"))
        _except(store, dice, made, kind, user, began, ended)
    for n in range(0, 60, 4):
        thread, began = f"T{n}", AS_OF - dice.choice((DAY, 30 * DAY))
        ended = dice.choice((None, AS_OF, AS_OF + TICK))
        _except(store, dice, made, dice.choice(("consent", "hold thread", "erasure thread")), thread, began, ended)
    return made


def _write(store: Store, made: World, user: str, thread: str, at: datetime | None, plan: str | None) -> None:
    row = Row(len(made.rows) + 1, user, thread, at, plan)
    made.rows.append(row)
    store.sql("INSERT INTO app.notes VALUES (%s, %s, %s, %s, %s)", row.key, user, thread, at, plan)


def _except(
    store: Store, dice: random.Random, made: World, kind: str, name: str, began: datetime, ended: datetime | None
) -> None:
    scope, at = ("conversation", f"/{name}") if "thread" in kind or kind == "consent" else ("account", name)
    exact = made.facts.setdefault(at, [])
    match kind.split()[0]:
        case "hold":
            target = dice.choice((name, name.upper(), f" {name.lower()}\n"))
            store.insert("lifecycle.legal_holds", scope=scope, target=target, reason="r", placed_by="p",
                         placed_at=began, released_at=ended)  # fmt: skip
            made.folded.setdefault(at.lower(), []).append(Fact(Trigger.HOLD, began, ended))
        case "erasure":
            store.insert("lifecycle.erasure_requests", scope=scope, target=f"{name} ", requested_at=began,
                         completed_at=ended)  # fmt: skip
            exact.append(Fact(Trigger.ERASURE, began, ended))
        case "case":
            store.sql("INSERT INTO app.bans VALUES (%s, %s, %s)", name, microseconds(began), microseconds(ended) or 0)
            exact.append(Fact(Trigger.CASE, began, ended))
        case "consent":
            store.sql("INSERT INTO app.votes VALUES (%s, %s, %s)", name, microseconds(began), microseconds(ended))
            exact.append(Fact(Trigger.CONSENT, began, ended))
        case "agreement":
            text = dice.choice(list(INTERVALS))
            query = (
                "INSERT INTO app.terms VALUES (%s, 'prompts_and_outputs', %s::interval,"
                " %s::timestamptz AT TIME ZONE 'Asia/Tokyo', %s::timestamptz AT TIME ZONE 'Asia/Tokyo')"
            )
            store.sql(query, name, text, began, ended)
            agreed = INTERVALS[text]
            exact.append(Fact(Trigger.AGREEMENT, began, ended, agreed))
            if not agreed.months:
                for off in (-TICK, 0 * TICK, TICK):  # ends at the horizon, three days ahead
                    at_horizon = AS_OF + 3 * DAY - timedelta(days=agreed.days, seconds=agreed.seconds) + off
                    _write(store, made, name, "T1", at_horizon, "team")


@pytest.mark.parametrize("seed", [1])
def test_what_goes_is_what_the_core_says(servers: Servers, tmp_path: Path, seed: int) -> None:
    """Promises 1, 2 and 5."""
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document()))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        with store.connect() as conn:
            conn.execute(TABLES.encode())
        made = world(store, random.Random(seed))
        decided = {row.key: made.decided(row) for row in made.rows}
        going = {key: each for key, each in decided.items() if each is not None and each.due}
        assert all(each.disposition is Disposition.DELETE for each in going.values()) and len(going) > 100
        with only("records"):
            done = full_run(store, AS_OF)
        left = {key for (key,) in store.sql("SELECT id FROM app.notes")}
        odd = {row.key: (row, decided[row.key]) for row in made.rows if (row.key in left) == (row.key in going)}
        assert not odd, odd
        expected = Counter(each.rule for each in going.values())
        for counts in ("planned", "progress"):
            told = store.sql(
                f"SELECT split_part(c.key, ':', 2), sum((c.value ->> 'records')::int)::int FROM lifecycle.plan_units,"
                f" jsonb_each({counts}) c WHERE c.key LIKE 'delete:%%' GROUP BY 1"
            )
            assert dict(told) == expected, counts
        gone = "SELECT rule, sum((counts ->> 'records')::int)::int FROM lifecycle.ledger"
        written = store.sql(f"{gone} WHERE entry = 'outcome' GROUP BY 1")
        assert dict(written) == expected
        failed = json.loads(done.stdout)["scopes"]["records"]["failures"]
        assert set(failed) <= {f"notes.{tier}_without_clock" for tier in (*PLANS.values(), "unclassified")}, str(done)
