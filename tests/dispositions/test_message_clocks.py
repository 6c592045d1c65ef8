"""Messages whose clock is no timestamptz: the whole way of a run, by days of the clock's own (cases 4, 10, 12)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from lifecycle.dispositions import census
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from oracle.quick import only
from oracle.stores import Servers, at, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(240)

# Consumers' content of before 29 March, 12:00 UTC is due: a day of 23 hours in Berlin.
AS_OF = datetime(2026, 6, 24, 12, tzinfo=UTC)
DAY, MS = timedelta(days=1), timedelta(milliseconds=1)
CUTOFF = AS_OF - 87 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CLOCKS: dict[str, tuple[dict[str, Any], str]] = {
    "berlin": ({"column": "received_at", "is": "timestamp", "zone": "Europe/Berlin"}, "timestamp"),
    "epoch": ({"column": "received_at", "is": "epoch", "unit": "ms"}, "bigint"),
    "ulid": ({"column": "received_at", "is": "ulid"}, 'text COLLATE "C"'),
    "uuid7": ({"column": "message_id", "is": "uuid7"}, "timestamptz"),
}
# The first instants of local days: before and after the clocks of Berlin went forward.
FIRST = datetime(2026, 3, 26, tzinfo=UTC)


def ahead(instant: datetime) -> timedelta:
    """Of Berlin's clocks, in the spring of 2026."""
    return timedelta(hours=2 if instant >= datetime(2026, 3, 29, 1, tzinfo=UTC) else 1)


def start_of(kind: str, day: datetime) -> datetime:
    """The instant at which a day of the partitions begins."""
    if kind != "berlin":
        return day
    return day - timedelta(hours=2 if day > datetime(2026, 3, 29, tzinfo=UTC) else 1)


def written(kind: str, instant: datetime, number: int = 0) -> Any:
    """An instant as the clock's column has it."""
    since = (instant - EPOCH) // MS
    match kind:
        case "berlin":
            return (instant + ahead(instant)).replace(tzinfo=None)
        case "epoch":
            return since
        case "ulid":
            return "".join(LETTERS[since >> 5 * place & 31] for place in range(9, -1, -1)) + f"{number:016d}"
        case _:
            return UUID(f"{since:012x}7{uuid4().hex[13:]}")


def bound(kind: str, day: datetime) -> str:
    value = written(kind, start_of(kind, day))
    if kind == "ulid":
        return f"'{value[:10]}'"
    return f"'{str(value)[:13]}-0000-0000-000000000000'" if kind == "uuid7" else f"'{value}'"


@dataclass
class Talks:
    """The messages of a store in a table by another clock: partitions of 26 to 30 March, and of nothing else."""

    store: Store
    kind: str
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def make(self) -> None:
        self.store.sql("DROP TABLE app.messages CASCADE")
        column = "message_id" if self.kind == "uuid7" else "received_at"
        key = ", ".join(dict.fromkeys(("tier", column, "message_id")))
        self.store.sql(
            "CREATE TABLE app.messages (message_id uuid NOT NULL, conversation_id uuid NOT NULL,"
            " account_id uuid NOT NULL, tier text NOT NULL, role text NOT NULL,"
            f" received_at {CLOCKS[self.kind][1]}, model text, client_ip inet, body text, object_key text,"
            f" PRIMARY KEY ({key}))"
            " PARTITION BY LIST (tier)"
        )
        for tier in ("consumer", "beta", "evaluation", "business"):
            self.store.sql(
                f"CREATE TABLE app.messages_{tier} PARTITION OF app.messages FOR VALUES IN ('{tier}')"
                f" PARTITION BY RANGE ({column})"
            )
            self.store.sql(f"CREATE TABLE app.messages_{tier}_default PARTITION OF app.messages_{tier} DEFAULT")
        for name in dict.fromkeys((column, "message_id", "account_id", "conversation_id")):
            self.store.sql(f"CREATE INDEX ON app.messages ({name})")
        for number in range(5):
            day = FIRST + number * DAY
            self.store.sql(
                f"CREATE TABLE app.messages_consumer_{day:%Y%m%d} PARTITION OF app.messages_consumer"
                f" FOR VALUES FROM ({bound(self.kind, day)}) TO ({bound(self.kind, day + DAY)})"
            )

    def write(self, instant: datetime, *, account: UUID | None = None, **columns: Any) -> Any:
        value = written(self.kind, instant, next(self.numbers))
        row: dict[str, Any] = {
            "message_id": value if self.kind == "uuid7" else uuid4(), "conversation_id": uuid4(),
            "account_id": self.store.insert_account(account, tier="consumer"), "tier": "consumer", "role": "prompt",
            "received_at": instant if self.kind == "uuid7" else value, "body": "words",
        } | columns  # fmt: skip
        self.store.insert("app.messages", **row)
        return row["message_id"]

    def without_time(self) -> Any:
        """A row whose clock tells no time, among those of 26 March where that can be, else in the default partition."""
        day = str(written("uuid7", FIRST))[:13]
        instead: dict[str, dict[str, Any]] = {
            "epoch": {"received_at": -5},
            "ulid": {"received_at": written("ulid", FIRST + DAY / 2)[:20] + "iiiiii"},
            "uuid7": {"message_id": UUID(f"{day}-4{uuid4().hex[13:16]}-8000-{uuid4().hex[:12]}")},
        }
        return self.write(FIRST, **instead[self.kind])

    def left(self) -> set[UUID]:
        return {row for (row,) in self.store.sql("SELECT message_id FROM app.messages")}

    def leaves(self) -> dict[str, tuple[int, str]]:
        rows = self.store.sql(
            "SELECT c.relname, c.oid::bigint, pg_get_expr(c.relpartbound, 0)"
            " FROM pg_partition_tree('app.messages_consumer') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf"
        )
        return {name: (oid, text) for name, oid, text in rows}


@pytest.fixture(params=CLOCKS)
def talks(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Talks]:
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    document["datasets"][0]["clock"] = CLOCKS[request.param][0]
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch, only("consumer"):
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        # However small: judged from exceptions, where that is the quicker way for a large one.
        patch.setattr(census, "LARGE", 0)
        made = Talks(store, request.param)
        made.make()
        yield made


def test_a_run_by_any_clock_takes_what_is_due_to_the_millisecond_and_keeps_the_rest(talks: Talks) -> None:
    """Promises 1 to 5 by partitions of the clock's own days; then flags, landing, the default partition, the audit."""
    store, kind = talks.store, talks.kind
    held, going, staying = uuid4(), list[UUID](), list[UUID]()
    store.insert("lifecycle.legal_holds", scope="account", target=str(held), reason="r", placed_by="p")
    for number in range(5):
        for instant in (start_of(kind, FIRST + number * DAY), start_of(kind, FIRST + (number + 1) * DAY) - MS):
            (going if instant < CUTOFF else staying).append(talks.write(instant))
    going.append(talks.write(CUTOFF - MS))
    staying.append(talks.write(CUTOFF))
    staying.append(talks.write(FIRST + timedelta(hours=5), account=held))
    landed = uuid4() if kind != "uuid7" else written(kind, datetime(2026, 4, 9, 22, 30, tzinfo=UTC))
    store.put_object("product-data", f"landing/{landed}.json", b'{"body": "words"}')
    landed = talks.write(
        datetime(2026, 4, 9, 22, 30, tzinfo=UTC), message_id=landed, body=None, object_key=f"landing/{landed}.json"
    )
    flagged = talks.write(datetime(2026, 3, 30, 7, 0, 0, 123000, tzinfo=UTC))
    raw = store.value("SELECT row_to_json(m)::text FROM app.messages m WHERE message_id = %s", flagged)
    store.insert("app.safety_flags", message_id=flagged, account_id=uuid4(), flagged_at=AS_OF - DAY)
    timeless = [] if kind == "berlin" else [talks.without_time()]
    before = talks.leaves()

    plan = store.cli("plan", "--as-of", at(AS_OF), check=False)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    done = full_run(store, AS_OF)
    assert done.code == 0, str(done)
    assert done.scope("consumer") == {"delete": len(going), "quarantine": 1}
    assert talks.left() == {*staying, landed, *timeless}

    after = talks.leaves()
    gone = {f"messages_consumer_{FIRST + number * DAY:%Y%m%d}" for number in (1, 2)}
    assert not gone & after.keys(), "an emptied day is dropped"
    swapped = "messages_consumer_20260326"
    assert after[swapped][0] != before[swapped][0] and after[swapped][1] == before[swapped][1]
    # The landed row came to the default partition, and has its day now; days to come are there, each to its end.
    own = datetime(2026, 4, 10, tzinfo=UTC) if kind == "berlin" else datetime(2026, 4, 9, tzinfo=UTC)
    ends = f"FOR VALUES FROM ({bound(kind, own)}) TO ({bound(kind, own + DAY)})"
    assert after[f"messages_consumer_{own:%Y%m%d}"][1] == ends
    assert {f"messages_consumer_202606{day}" for day in range(24, 31)} <= after.keys()
    moved = "tier=consumer/date=2026-04-09/"
    assert store.value("SELECT object_key FROM app.messages WHERE message_id = %s", landed).startswith(moved)

    # A cleared flag brings the message back as it was, to the letter.
    store.sql("UPDATE app.safety_flags SET cleared_at = %s", AS_OF + timedelta(hours=1))
    again = full_run(store, AS_OF + timedelta(hours=2))
    assert again.code == 0, str(again)
    assert store.value("SELECT row_to_json(m)::text FROM app.messages m WHERE message_id = %s", flagged) == raw

    told = store.cli("explain", "message", flagged, "--as-of", at(AS_OF + DAY)).stdout
    assert "2026-03-30" in told
    audited = store.cli("audit", "--as-of", at(AS_OF + timedelta(hours=3)), "--json", check=False)
    broken = json.loads(audited.stdout)["broken"]
    others = {name: count for name, count in broken.items() if not name.startswith("run_missing.")}
    assert others == ({"coverage": 1} if timeless else {}), "a record without a time is told, and nothing else is amiss"


def test_survivors_of_a_month_go_into_one_partition_of_it(talks: Talks) -> None:
    """Of many days with a survivor each one partition is left, by whatever clock; every row is where it was."""
    store, kind = talks.store, talks.kind
    held = uuid4()
    store.insert("lifecycle.legal_holds", scope="account", target=str(held), reason="r", placed_by="p")
    kept = {talks.write(start_of(kind, FIRST + number * DAY) + timedelta(hours=6), account=held) for number in range(5)}
    for number in range(5):
        talks.write(start_of(kind, FIRST + number * DAY) + timedelta(hours=7))
    for as_of in (AS_OF + 30 * DAY, AS_OF + 31 * DAY):
        done = full_run(store, as_of)
        assert done.code == 0, str(done)
    assert talks.left() == kept
    march = datetime(2026, 3, 1, tzinfo=UTC)
    ends = f"FOR VALUES FROM ({bound(kind, march)}) TO ({bound(kind, march + 31 * DAY)})"
    assert talks.leaves()["messages_consumer_202603"][1] == ends
    assert not [name for name in talks.leaves() if name.startswith("messages_consumer_202603") and len(name) > 24]


@pytest.mark.parametrize("talks", ["uuid7"], indirect=True)
def test_days_made_by_another_tool_with_ends_of_its_own_are_left_to_it(talks: Talks) -> None:
    """Some tools end days at the first identifier of version 7, which is behind ours: a new day would overlap."""
    store = talks.store
    odd = [f"{bound('uuid7', AS_OF.replace(hour=0) + number * DAY)[:15]}7000-8000-000000000000'" for number in (0, 1)]
    store.sql(f"CREATE TABLE app.theirs PARTITION OF app.messages_consumer FOR VALUES FROM ({odd[0]}) TO ({odd[1]})")
    going, staying = talks.write(CUTOFF - MS), talks.write(AS_OF - MS)
    done = full_run(store, AS_OF)
    assert done.code == 0, str(done)
    assert talks.left() == {staying} and going not in talks.left()
    assert "theirs" in talks.leaves() and "messages_consumer_20260625" not in talks.leaves()
    assert "messages_consumer_20260626" in talks.leaves()
    # Nor is a month made behind one that ends so.
    day = datetime(2026, 2, 28, tzinfo=UTC)
    end = f"{bound('uuid7', day + DAY)[:15]}7000-8000-000000000000'"
    store.sql(
        f"CREATE TABLE app.odd PARTITION OF app.messages_consumer FOR VALUES FROM ({bound('uuid7', day)}) TO ({end})"
    )
    held = store.insert_account(tier="consumer")
    store.insert("lifecycle.legal_holds", scope="account", target=str(held), reason="r", placed_by="p")
    kept = {talks.write(at_day + DAY / 4, account=held) for at_day in (day, *(FIRST + n * DAY for n in range(5)))}
    for as_of in (AS_OF + 30 * DAY, AS_OF + 31 * DAY):
        assert full_run(store, as_of).code == 0
    assert kept <= talks.left() and {"odd", "messages_consumer_20260326"} <= talks.leaves().keys()
