"""Many-record objects in product-logs are rewritten without the records that are due, or removed when none is left."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dispositions.conftest import RunWorld
from oracle.compare import differences, report
from oracle.dates import TICK, default_boundary
from oracle.endstate import judge_run
from oracle.facts import Agreement, Case, Erasure, Hold, LogRecord, Retain, World, ident
from oracle.load import LOGS
from oracle.named import AS_OF, DAY, flag, message
from oracle.observe import Observed
from oracle.stores import Servers, look, run
from support.store import Store

pytestmark = pytest.mark.timeout(300)

ENDINGS = ("jsonl.gz", "parquet")
IN_APP = message("in app", age=DAY * 2)
FLAGGED = message("flagged", age=DAY * 2)


def key(ending: str, part: int = 0) -> str:
    return f"requests/date=2023-01-01/part-{part}.{ending}"


def line(name: str, tier: str, age_days: float, ending: str, part: int = 0) -> LogRecord:
    received = AS_OF - DAY * age_days
    return LogRecord(key(ending, part), ident("log", name), ident("log account", name), tier, received, f"GET {name}")


def mixed(ending: str) -> tuple[dict[str, LogRecord], dict[str, LogRecord]]:
    """Lines of one object: those that stay and those that go, by name."""
    edge = line("edge", "consumer", 1, ending)
    stay = {
        "young": line("young", "consumer", 50, ending),
        "held by account": line("held by account", "consumer", 200, ending),
        "held by message": line("held by message", "business", 200, ending),
        "held by conversation": replace(line("c", "consumer", 200, ending), message_id=IN_APP.message_id),
        "open case": line("open case", "business", 200, ending),
        "agreed 365": line("agreed 365", "business", 200, ending),
        "at the cut-off": replace(edge, received_at=default_boundary(AS_OF, 90), line="edge stays"),
        "unknown tier, young": line("unknown young", "prototype", 25, ending),
        "arrived later": replace(edge, received_at=AS_OF, line="later"),
    }
    go = {
        "consumer": line("consumer", "consumer", 88, ending),
        "beta": line("beta", "beta", 100, ending),
        "evaluation": line("evaluation", "evaluation", 100, ending),
        "business": line("business", "business", 26, ending),
        "just due": replace(edge, received_at=default_boundary(AS_OF, 90) - TICK, line="edge goes"),
        "erased account": line("erased account", "consumer", 1, ending),
        "erased message": line("erased message", "business", 1, ending),
        "agreed 7": line("agreed 7", "business", 5, ending),
        "unknown tier": line("unknown old", "prototype", 26, ending),
        "flagged": replace(line("f", "consumer", 100, ending), message_id=FLAGGED.message_id),
    }
    return stay, go


def log_world() -> World:
    records: list[LogRecord] = []
    for ending in ENDINGS:
        stay, go = mixed(ending)
        records += [*stay.values(), *go.values()]
        records += [line(f"all gone {n}", "consumer", 100 + n, ending, part=1) for n in range(3)]
        records += [line(f"all young {n}", "consumer", n + 1, ending, part=2) for n in range(3)]
    return World(
        messages=(IN_APP, FLAGGED),
        flags=(flag(FLAGGED),),
        logs=tuple(records),
        holds=(
            Hold(ident("h1"), "account", str(ident("log account", "held by account")), AS_OF - DAY),
            Hold(ident("h2"), "message", str(ident("log", "held by message")), AS_OF - DAY),
            Hold(ident("h3"), "conversation", str(IN_APP.conversation_id), AS_OF - DAY),
        ),
        cases=(Case(ident("c"), ident("log account", "open case"), AS_OF - DAY),),
        agreements=(
            Agreement(ident("a1"), ident("log account", "agreed 365"), Retain(days=365), AS_OF - DAY * 400),
            Agreement(ident("a2"), ident("log account", "agreed 7"), Retain(days=7), AS_OF - DAY * 400),
        ),
        erasures=(
            Erasure(ident("e1"), "account", str(ident("log account", "erased account")), AS_OF - DAY),
            Erasure(ident("e2"), "message", str(ident("log", "erased message")), AS_OF - DAY),
        ),
    )


@pytest.fixture(scope="module")
def seen(after_run: RunWorld) -> Iterator[Observed]:
    world = log_world()
    with after_run(world) as (_, observed):
        found = differences(judge_run(world, AS_OF), observed)
        assert not found, report(found)
        yield observed


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", mixed("x")[0])
def test_a_line_that_is_not_due_stays(seen: Observed, name: str, ending: str) -> None:
    assert seen.logs[mixed(ending)[0][name]] == 1


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", mixed("x")[1])
def test_a_line_that_is_due_goes(seen: Observed, name: str, ending: str) -> None:
    assert seen.logs[mixed(ending)[1][name]] == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_rewritten_object_leaves_no_earlier_version_case_2(seen: Observed, ending: str) -> None:
    stored = seen.log_objects[key(ending)]
    assert (stored.versions, stored.markers) == (1, 0)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_object_without_lines_is_removed_with_all_versions(seen: Observed, ending: str) -> None:
    assert key(ending, part=1) not in seen.log_objects


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_object_of_which_nothing_is_due_is_left_alone(servers: Servers, ending: str) -> None:
    """Not even rewritten: the version is the one that was there."""
    world = World(logs=tuple(line(f"young {n}", "consumer", n + 1, ending) for n in range(3)))
    with servers.store(world) as store:
        before = store.versions(LOGS)
        assert run(store, AS_OF).code == 0
        assert store.versions(LOGS) == before


def test_other_fields_and_the_order_of_lines_survive_a_rewrite(servers: Servers) -> None:
    """A log has fields that nobody configured; they are not for us to lose."""
    rows = [
        {
            "message_id": str(ident("r", n)),
            "account_id": str(ident("r a", n)),
            "tier": "consumer",
            "received_at": (AS_OF - DAY * (100 if n % 2 else 1)).isoformat(),
            "latency_ms": n * 1.5,
            "nested": {"path": ["/v1", n]},
            "note": "☕",
        }
        for n in range(6)
    ]
    content = gzip.compress("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    with servers.store() as store:
        store.put_object(LOGS, key("jsonl.gz"), content, "application/gzip")
        assert run(store, AS_OF).code == 0
        left = _lines(store)
        kind = store.s3.head_object(Bucket=LOGS, Key=key("jsonl.gz"))["ContentType"]
    assert left == [row for row in rows if int(row["latency_ms"] / 1.5) % 2 == 0]  # type: ignore[operator]
    assert kind == "application/gzip"


def _lines(store: Store) -> list[dict[str, object]]:
    content = store.read_object(LOGS, key("jsonl.gz"))
    return [json.loads(line) for line in gzip.decompress(content).splitlines()]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_line_that_arrived_late_goes_by_its_own_clock(servers: Servers, ending: str) -> None:
    """An object is named for the day it was written; a line in it may be older than that day, and is due as such."""
    late = replace(line("late", "consumer", 100, ending), key=f"requests/date=2023-06-14/part-0.{ending}")
    young = replace(line("young", "consumer", 1, ending), key=late.key)
    with servers.store(World(logs=(late, young))) as store:
        assert run(store, AS_OF).code == 0
        assert set(look(store).logs) == {young}


def test_a_dataset_hold_keeps_every_line(servers: Servers) -> None:
    world = World(
        logs=tuple(line(f"old {n}", "consumer", 300, ending) for n, ending in enumerate(ENDINGS)),
        holds=(Hold(ident("h"), "dataset", "request_logs", AS_OF - DAY),),
    )
    with servers.store(world) as store:
        assert run(store, AS_OF).code == 0
        assert look(store).logs.total() == 2


def test_lines_that_cannot_be_read_fall_under_the_strictest_deadline_case_23(servers: Servers) -> None:
    """Their clock is the object's day: kept while it is young, then deleted as unclassified, and said so either way."""
    due, young = line("due", "consumer", 100, "jsonl.gz"), line("young", "consumer", 1, "jsonl.gz")
    content = gzip.compress("\n".join([_text_of(due), "{not json", _text_of(young)]).encode() + b"\n")
    fresh, old = "requests/date=2023-06-10/part-0.jsonl.gz", "requests/date=2023-05-01/part-0.jsonl.gz"
    with servers.store() as store:
        for name in (fresh, old):
            store.put_object(LOGS, name, content)
        run(store, AS_OF)
        left = {name: gzip.decompress(store.read_object(LOGS, name)).decode().splitlines() for name in (fresh, old)}
        deleted = dict(
            store.sql(
                """SELECT rule, sum((counts ->> 'records')::int)::int FROM lifecycle.ledger
                   WHERE entry = 'outcome' AND dataset = 'request_logs' GROUP BY rule"""
            )
        )
    assert left == {fresh: ["{not json", _text_of(young)], old: [_text_of(young)]}
    assert deleted == {"consumer_default": 2, "unclassified": 1}


def _text_of(record: LogRecord) -> str:
    return json.dumps(
        {
            "message_id": str(record.message_id),
            "account_id": str(record.account_id),
            "tier": record.tier,
            "received_at": record.received_at.isoformat(),
            "line": record.line,
        }
    )
