"""The generator: the same world from the same seed, with everything in it, in a stream."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifecycle.demo.servers import Postgres, S3Server
from lifecycle.errors import PreconditionError
from reference_store.create import BucketSpec
from reference_store.request_logs import LogWriter
from reference_store.rows import Message
from reference_store.seed import SeedReport, seed_store
from support.buckets import Version, fresh_buckets, list_versions
from support.generated import AS_OF, KINDS, SEED, SMALL, Kind, batches, fingerprint
from support.servers import fresh_database, with_database
from support.store import Store

LINE_FIELDS = {"message_id", "account_id", "tier", "received_at", "path", "status", "latency_ms"}


@dataclass(frozen=True)
class Seeded:
    """What a seeded store held; read once, since other tests empty the buckets."""

    conninfo: str
    report: SeedReport
    steps: tuple[tuple[str, int, int], ...]
    data: tuple[Version, ...]
    readable: dict[str, bytes]
    parts: dict[str, bytes]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo) as conn:
            return conn.execute(query.encode(), {"as_of": AS_OF}).fetchall()


@pytest.fixture(scope="module")
def seeded(
    postgres_server: Postgres, s3_server: S3Server, s3_session_client: Any, buckets: tuple[BucketSpec, ...]
) -> Iterator[Seeded]:
    s3, steps = s3_session_client, []
    fresh_buckets(s3_server, s3, buckets)
    with fresh_database(postgres_server) as database:
        conninfo = with_database(postgres_server, database)
        report = seed_store(
            conninfo,
            s3,
            accounts=SMALL.accounts,
            days=SMALL.days,
            as_of=AS_OF,
            seed=SEED,
            messages=SMALL.messages,
            objects=SMALL.objects,
            progress=lambda *step: steps.append(step),
        )
        data = tuple(list_versions(s3, "product-data"))
        readable = {
            version.key: s3.get_object(Bucket="product-data", Key=version.key)["Body"].read()
            for version in data
            if version.is_latest and not version.is_marker
        }
        parts = {
            version.key: s3.get_object(Bucket="product-logs", Key=version.key)["Body"].read()
            for version in list_versions(s3, "product-logs")
        }
        yield Seeded(conninfo, report, tuple(steps), data, readable, parts)


# -- the same world


def test_the_same_seed_gives_the_same_world_in_another_process() -> None:
    code = "from support.generated import SEED, SMALL, fingerprint; print(fingerprint(SMALL, SEED))"
    tests = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONHASHSEED": "99", "TZ": "Asia/Tokyo", "PYTHONPATH": tests}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(SMALL, SEED)


def test_another_seed_gives_another_world() -> None:
    tiny = replace(SMALL, accounts=4, messages=20, objects=2)
    assert fingerprint(tiny, 1) != fingerprint(tiny, 2)
    first, second = ({m.message_id for b in batches(tiny, seed) for m in b.messages()} for seed in (1, 2))
    assert not first & second


def test_the_stores_hold_the_world(seeded: Seeded) -> None:
    expected = {message.message_id: message for batch in batches() for message in batch.messages()}
    rows = seeded.rows(f"SELECT {', '.join(Message._fields)} FROM app.messages")
    found = [Message._make(map(_plain, row)) for row in rows]
    assert {message.message_id: message for message in found} == expected


def _plain(value: Any) -> Any:
    """A column as the generator has it: identifiers and addresses as text."""
    return value if value is None or isinstance(value, datetime) else str(value)


# -- every rule and exception


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_there(seeded: Seeded, kind: Kind) -> None:
    assert seeded.rows(kind.query)[0][0] > 0


def test_everything_lies_before_as_of(seeded: Seeded) -> None:
    assert seeded.rows("SELECT count(*) FROM app.messages WHERE received_at >= %(as_of)s") == [(0,)]
    for table, column in (
        ("app.safety_flags", "flagged_at"),
        ("app.safety_flags", "cleared_at"),
        ("app.safety_scores", "scored_at"),
        ("app.feedback", "submitted_at"),
        ("app.feedback", "withdrawn_at"),
        ("app.accounts", "last_interaction_at"),
        ("app.training_examples", "added_at"),
        ("lifecycle.erasure_requests", "requested_at"),
        ("lifecycle.legal_holds", "released_at"),
    ):
        assert seeded.rows(f"SELECT count(*) FROM {table} WHERE {column} >= %(as_of)s") == [(0,)], (table, column)


def test_accounts_are_older_than_what_they_did(seeded: Seeded) -> None:
    query = (
        "SELECT count(*) FROM app.accounts a JOIN app.messages m USING (account_id)"
        " WHERE m.received_at < a.created_at OR m.received_at > a.last_interaction_at"
    )
    assert seeded.rows(query) == [(0,)]
    assert seeded.rows("SELECT count(*) FROM app.accounts WHERE created_at > last_interaction_at") == [(0,)]


def test_sizes_are_as_asked(seeded: Seeded) -> None:
    assert seeded.report.rows["app.messages"] == SMALL.messages
    assert seeded.report.rows["app.accounts"] == SMALL.accounts
    assert seeded.rows("SELECT count(*) FROM app.messages WHERE object_key IS NOT NULL") == [(SMALL.objects,)]


def test_messages_lie_in_the_partition_of_their_day(seeded: Seeded) -> None:
    rows = seeded.rows("SELECT DISTINCT tableoid::regclass::text, tier, (received_at)::date FROM app.messages")
    named = [(name, f"app.messages_{tier}_{day:%Y%m%d}") for name, tier, day in rows if not name.endswith("_default")]
    assert len(named) > 300
    assert all(name == expected for name, expected in named)


# -- objects


def test_every_object_has_its_row_and_every_row_its_object(seeded: Seeded) -> None:
    rows = {key: str(message) for message, key in seeded.rows(
        "SELECT message_id, object_key FROM app.messages WHERE object_key IS NOT NULL")}  # fmt: skip
    assert set(rows) == set(seeded.readable)
    for key, content in seeded.readable.items():
        found = json.loads(content)
        assert set(found) == {"message_id", "conversation_id", "account_id", "role", "received_at", "body"}
        assert found["message_id"] == rows[key]
        assert datetime.fromisoformat(found["received_at"]).tzinfo is not None


def test_half_of_the_recent_objects_are_in_landing(seeded: Seeded) -> None:
    recent = [key for (key,) in seeded.rows(
        "SELECT object_key FROM app.messages WHERE object_key IS NOT NULL"
        " AND received_at > %(as_of)s - interval '14 days'")]  # fmt: skip
    landing = sum(key.startswith("landing/") for key in recent)
    assert 0.3 < landing / len(recent) < 0.8


def test_some_objects_have_versions_and_some_a_delete_marker(seeded: Seeded) -> None:
    by_key = defaultdict(list)
    for version in seeded.data:
        by_key[version.key].append(version)
    several = [found for found in by_key.values() if sum(not version.is_marker for version in found) > 1]
    hidden = [key for key, found in by_key.items() if any(v.is_latest and v.is_marker for v in found)]
    assert len(several) > 3
    assert any(version.is_marker and not version.is_latest for version in seeded.data)
    assert hidden
    assert all(key.startswith("landing/") for key in hidden)


# -- request logs


def _lines(key: str, content: bytes) -> list[dict[str, Any]]:
    if key.endswith(".jsonl.gz"):
        lines = [json.loads(line) for line in gzip.decompress(content).splitlines()]
        return [{**line, "received_at": datetime.fromisoformat(line["received_at"])} for line in lines]
    table = pq.read_table(io.BytesIO(content))
    assert table.schema.field("received_at").type == pa.timestamp("us", tz="UTC")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_log_lines_mix_accounts_and_tiers_in_the_object_of_their_day(seeded: Seeded) -> None:
    total, mixed = 0, 0
    for key, content in seeded.parts.items():
        lines = _lines(key, content)
        total += len(lines)
        mixed += len({line["tier"] for line in lines}) > 2 and len({line["account_id"] for line in lines}) > 2
        for line in lines:
            assert set(line) == LINE_FIELDS
            assert line["received_at"].utcoffset() == timedelta(0)
            assert f"requests/date={line['received_at'].date().isoformat()}/part-" in key
    assert total == seeded.report.log_lines
    assert mixed > 50
    assert {key.split(".", 1)[1] for key in seeded.parts} == {"jsonl.gz", "parquet"}


def test_log_lines_name_messages_that_exist(seeded: Seeded) -> None:
    prompts = {str(message) for (message,) in seeded.rows("SELECT message_id FROM app.messages WHERE role = 'prompt'")}
    logged = [line["message_id"] for key, content in seeded.parts.items() for line in _lines(key, content)]
    assert len(logged) == len(set(logged))
    assert set(logged) == prompts


# -- in a stream


def _peak_bytes(messages: int) -> int:
    """The most memory that making a world takes, log parts included."""
    size, logs = replace(SMALL, accounts=messages // 50, messages=messages, objects=messages // 20), LogWriter()
    tracemalloc.start()
    try:
        for batch in batches(size):
            for _ in logs.add(batch.log_lines):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_world() -> None:
    import pyarrow.parquet  # noqa: F401 - its import is not the generator's memory

    _peak_bytes(500)
    # the lines that wait for their day's part to fill are the bound: 100 days * 500 lines
    bound = 100 * 500 * 900
    assert _peak_bytes(2_000) < bound / 4
    assert _peak_bytes(40_000) < bound


def test_progress_is_told(seeded: Seeded) -> None:
    messages = [(done, total) for stage, done, total in seeded.steps if stage == "messages"]
    assert messages == sorted(messages)
    assert messages[-1] == (SMALL.messages, SMALL.messages)
    assert len(messages) > 4


# -- what is refused


def test_the_same_world_is_refused_a_second_time(store: Store) -> None:
    def seed(number: int) -> SeedReport:
        return seed_store(store.conninfo, store.s3, accounts=4, days=3, as_of=AS_OF, seed=number, messages=30)

    seed(1)
    before = store.value("SELECT count(*) FROM app.messages")
    with pytest.raises(PreconditionError, match="already holds a world of this seed"):
        seed(1)
    assert store.value("SELECT count(*) FROM app.messages") == before
    assert seed(2).partitions == 0, "its days are there, or their rows sit in the default partition"
    assert store.value("SELECT count(*) FROM app.messages") > before


def test_a_failed_seeding_leaves_no_row(store: Store) -> None:
    def lose_the_bucket(stage: str, done: int, total: int) -> None:
        if stage == "partitions" and done == total:
            store.s3.delete_bucket(Bucket="product-logs")

    arguments: dict[str, Any] = {"accounts": 4, "days": 3, "as_of": AS_OF, "seed": 1, "messages": 400}
    with pytest.raises(store.s3.exceptions.NoSuchBucket):
        seed_store(store.conninfo, store.s3, **arguments, progress=lose_the_bucket)
    assert store.value("SELECT count(*) FROM app.messages") == 0
    assert store.value("SELECT count(*) FROM app.accounts") == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"as_of": datetime(2026, 9, 1)}, "time zone"),  # noqa: DTZ001 - that is the point
        ({"accounts": 0}, "at least 1"),
        ({"days": 0}, "at least 1"),
        ({"objects": 31}, "objects at most"),
    ],
)
def test_senseless_sizes_are_refused(store: Store, changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"accounts": 4, "days": 3, "as_of": AS_OF, "seed": 1, "messages": 30}
    with pytest.raises(PreconditionError, match=message):
        seed_store(store.conninfo, store.s3, **(arguments | changed))


@pytest.mark.parametrize("as_of", [datetime(2024, 2, 29, tzinfo=UTC), datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)])
@pytest.mark.parametrize("days", [1, 30, 5000])
def test_worlds_of_any_length_at_any_instant_lie_before_it(as_of: datetime, days: int) -> None:
    from reference_store.world import World

    world = World(replace(SMALL, days=days, messages=500, objects=25), as_of, 3)
    moments = [message.received_at for batch in world.batches() for message in batch.messages()]
    assert len(moments) >= 500
    assert max(moments) < as_of
