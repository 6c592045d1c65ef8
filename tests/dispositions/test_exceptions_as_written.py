"""Tables of flags, cases, consents and agreements as people have them: text ids, epochs, times without a zone.

The same facts, written in the usual types and in others, send every record the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
import yaml
from psycopg import sql

from lifecycle.catalog.load import load_catalog
from lifecycle.config import load_configuration
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.columns import misfits
from lifecycle.stores.postgres.told import read_from
from oracle.stores import Servers, full_run, run
from support.store import Store

pytestmark = pytest.mark.timeout(240)

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
NAMES = UUID(int=24)
ROOT = Path(__file__).resolve().parents[2]
# Each table in types of its own; all of them exact to the microsecond.
OTHERS = """
ALTER TABLE app.safety_flags ALTER message_id TYPE text,
  ALTER flagged_at TYPE bigint USING (extract(epoch FROM flagged_at) * 1000000)::bigint,
  ALTER cleared_at TYPE bigint USING (extract(epoch FROM cleared_at) * 1000000)::bigint;
ALTER TABLE app.enforcement_cases ALTER account_id TYPE text,
  ALTER opened_at TYPE timestamp USING opened_at AT TIME ZONE 'Asia/Tokyo',
  ALTER closed_at TYPE timestamp USING closed_at AT TIME ZONE 'Asia/Tokyo';
ALTER TABLE app.feedback ALTER conversation_id TYPE text,
  ALTER submitted_at TYPE timestamp USING submitted_at AT TIME ZONE 'UTC',
  ALTER withdrawn_at TYPE timestamp USING withdrawn_at AT TIME ZONE 'UTC';
ALTER TABLE app.agreements ALTER account_id TYPE text USING upper(account_id::text),
  ALTER effective_from TYPE bigint USING (extract(epoch FROM effective_from) * 1000000)::bigint,
  ALTER effective_to TYPE bigint USING (extract(epoch FROM effective_to) * 1000000)::bigint;
CREATE INDEX ON app.agreements (upper(account_id));
"""


def ident(*name: str) -> UUID:
    return uuid5(NAMES, " ".join(name))


def others(document: dict[str, Any]) -> dict[str, Any]:
    """The shipped dataset file, for those types."""
    epoch = {"is": "epoch", "unit": "us"}
    facts, datasets = document["exceptions"], {each["id"]: each for each in document["datasets"]}
    facts["flags"] |= {"ids": "text", "clocks": dict(epoch)}
    facts["cases"] |= {"ids": "text", "clocks": {"is": "timestamp", "zone": "Asia/Tokyo"}}
    facts["consents"] |= {"ids": "text", "clocks": {"is": "timestamp", "zone": "UTC"}}
    facts["agreements"] |= {"ids": "text", "clocks": dict(epoch)}
    next(each for each in datasets["messages"]["children"] if each["table"] == "app.safety_flags")["ids"] = "text"
    # Submissions are records themselves; here their ids are of two types, and what names the conversation is left out.
    datasets["feedback"]["clock"] = {"column": "submitted_at", "is": "timestamp", "zone": "UTC"}
    datasets["feedback"].pop("group", None)
    # Accounts are removed when nothing refers to them any more; what names them as text cannot be asked.
    text = ("app.enforcement_cases", "app.agreements")
    datasets["accounts"]["referenced_by"] = [
        each for each in datasets["accounts"]["referenced_by"] if each["table"] not in text
    ]
    return document


def fill(store: Store) -> None:
    """Of two tiers: a record for each exception, open and ended, and what has none, at a tick of each boundary."""
    ages = {"consumer": 87 * DAY, "business": 25 * DAY}
    for tier, age in ages.items():

        def message(name: str, old: timedelta, tier: str = tier) -> tuple[UUID, UUID, UUID]:
            ids = (ident(tier, name), ident(tier, name, "account"), ident(tier, name, "conversation"))
            store.insert_message(tier=tier, received_at=AS_OF - old, message_id=ids[0], account_id=ids[1],
                                 conversation_id=ids[2])  # fmt: skip
            return ids

        message("young", age)
        message("old", age + TICK)
        for name, ended in (("now", None), ("until then", AS_OF), ("until after", AS_OF + TICK)):
            flagged, accused, given, agreed = (message(f"{kind} {name}", age + TICK) for kind in "FCSA")
            store.insert("app.safety_flags", message_id=flagged[0], account_id=flagged[1], classifier="c",
                         flagged_at=AS_OF - DAY, cleared_at=ended)  # fmt: skip
            store.insert("app.enforcement_cases", case_id=ident(tier, name), account_id=accused[1],
                         opened_at=AS_OF - DAY, closed_at=ended)  # fmt: skip
            store.insert("app.feedback", feedback_id=ident(tier, name), account_id=given[1], conversation_id=given[2],
                         rating=1, submitted_at=AS_OF - DAY, withdrawn_at=ended)  # fmt: skip
            store.insert("app.agreements", agreement_id=ident(tier, name), account_id=agreed[1], retain=300 * DAY,
                         category="prompts_and_outputs", effective_from=AS_OF - DAY, effective_to=ended)  # fmt: skip
        short = message("short", DAY + TICK)
        store.insert("app.agreements", agreement_id=ident(tier), account_id=short[1], category="prompts_and_outputs",
                     retain=DAY, effective_from=AS_OF - DAY, effective_to=None)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What was planned, what is left, and what is told about it."""

    planned: Mapping[str, Any]
    left: set[UUID]
    boxed: set[UUID]
    flags: int
    status: list[Any]
    later: list[Any]
    explained: Mapping[str, Any]
    late: Mapping[str, int]


@contextmanager
def lived(servers: Servers, folder: Path, *, other: bool) -> Iterator[tuple[Store, Seen]]:
    """One run over the same facts, in the usual types or in others; the run's own validations pass."""
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    file = folder / "datasets.yaml"
    file.write_text(yaml.safe_dump(others(document) if other else document, sort_keys=False))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        fill(store)
        if other:
            with store.connect() as conn:
                conn.execute(OTHERS.encode())
        late = _audited(store)
        explained = {name: _explained(store, name) for name in EXPLAINED}
        done = full_run(store, AS_OF)
        assert done.code == 0, str(done)
        planned = {
            f"{scope} {unit}": (plan, progress)
            for scope, unit, plan, progress in store.sql(
                "SELECT r.scope, u.unit, u.planned, u.progress FROM lifecycle.plan_units u"
                " JOIN lifecycle.runs r USING (run_id) WHERE u.dataset <> 'accounts'"
            )
        }
        if other:  # of a system before this one: it names no message that there is
            store.sql("INSERT INTO app.safety_flags VALUES ('legacy-7', gen_random_uuid(), 'c', 1, NULL)")
        status, later = (_status(store, day) for day in (1, 2))
        if other:
            store.sql("DELETE FROM app.safety_flags WHERE message_id = 'legacy-7'")
        yield (
            store,
            Seen(
                planned,
                {key for (key,) in store.sql("SELECT message_id FROM app.messages")},
                {key for (key,) in store.sql("SELECT message_id FROM lifecycle.quarantine")},
                store.value("SELECT count(*) FROM app.safety_flags"),
                status,
                later,
                explained,
                late,
            ),
        )


EXPLAINED = ("consumer F now", "business C now", "consumer S until after", "business A now", "business short")


def _status(store: Store, day: int) -> list[Any]:
    done = store.cli("status", "--json", "--as-of", f"2026-06-{day:02}T12:00:00Z", check=False)
    found = json.loads(done.stdout)["datasets"]
    return [{name: value for name, value in each.items() if name != "last_success"} for each in found]


def _explained(store: Store, name: str) -> Any:
    tier, _, rest = name.partition(" ")
    said = json.loads(store.cli("explain", "message", str(ident(tier, rest)), "--json",
                                "--as-of", "2026-06-01T12:00:00Z").stdout)  # fmt: skip
    return {key: said[key] for key in ("deciding_rule", "due", "deadline", "rules")}


def _audited(store: Store) -> Mapping[str, int]:
    """What the auditor finds before anything was done: its own reading of every exception."""
    done = store.cli("audit", "--as-of", "2026-06-09T12:00:00Z", "--json", check=False)
    assert done.stdout, done.stderr
    return {each["name"]: each["violations"] for each in json.loads(done.stdout)["checks"] if not each["success"]}


@pytest.fixture(scope="module")
def both(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen]:
    with lived(servers, tmp_path_factory.mktemp("usual"), other=False) as (_, usual):
        pass
    with lived(servers, tmp_path_factory.mktemp("other"), other=True) as (_, other):
        pass
    return usual, other


def test_every_record_goes_the_same_way(both: tuple[Seen, Seen]) -> None:
    usual, other = both
    assert other.left == usual.left and other.boxed == usual.boxed and other.flags == usual.flags
    assert ident("consumer", "F now") in other.boxed and ident("business", "C now") in other.left
    assert ident("business", "C until then") not in other.left and ident("business", "short") not in other.left
    assert ident("business", "A until after") in other.left and ident("consumer", "S now") in other.left


def test_plan_progress_and_standing_are_the_same(both: tuple[Seen, Seen]) -> None:
    usual, other = both
    assert other.planned == usual.planned and other.status == usual.status
    assert other.later == usual.later != usual.status, "a flag that ended since lets its message go"


def test_the_auditor_s_own_reading_finds_the_same(both: tuple[Seen, Seen]) -> None:
    usual, other = both
    assert other.late == usual.late and any(name.startswith("messages_past_agreement") for name in other.late)


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_explanation_is_the_same(both: tuple[Seen, Seen], name: str) -> None:
    usual, other = both
    assert other.explained[name] == usual.explained[name]


def test_the_index_that_the_documents_name_finds_a_text_id(servers: Servers) -> None:
    """Else each question reads the whole table of flags."""
    flags = load_configuration().catalog.flags.model_copy(update={"ids": "text"})
    wanted = re.search(r"`(CREATE INDEX ON app\.flags .*?)`", (ROOT / "docs" / "adopters.md").read_text("utf-8"))
    assert wanted is not None
    with servers.store() as store, store.connect() as conn:
        conn.execute("ALTER TABLE app.safety_flags ALTER message_id TYPE text")
        conn.execute(wanted.group(1).replace("app.flags", "app.safety_flags").encode())
        conn.execute("INSERT INTO app.safety_flags SELECT gen_random_uuid(), gen_random_uuid(), 'c', now(), NULL"
                     " FROM generate_series(1, 5000)")  # fmt: skip
        conn.execute("ANALYZE app.safety_flags")
        asked = sql.SQL("EXPLAIN SELECT FROM {} f WHERE f.message_id = {}::uuid").format(
            read_from(flags), sql.Literal(str(ident("one")))
        )
        plan = str(conn.execute(asked).fetchall())
    assert "Index" in plan and "Seq Scan" not in plan, plan


# -- an ordinary table whose ids, and those of its exceptions, are no uuids

TABLES = """
CREATE TABLE app.notes (id bigint PRIMARY KEY, "user" text, thread text, at timestamptz NOT NULL);
CREATE INDEX ON app.notes (at, id);
CREATE TABLE app.bans ("user" text, since bigint, until bigint);
CREATE TABLE app.terms ("user" text, what text, keep interval, since timestamp, until timestamp);
CREATE TABLE app.votes (thread text, at bigint, taken_back bigint);
"""
NOTES = {1: ("plain", 40), 2: ("Banned", 40), 3: ("freed", 40), 4: ("long", 40), 5: ("short", 2), 6: ("over", 40),
         7: ("voter", 40), 8: ("banned", 40)}  # fmt: skip


def test_exceptions_name_ids_of_text_letter_by_letter(servers: Servers, tmp_path: Path) -> None:
    """No uuid anywhere: a case of `Banned` is not one of `banned`; a wrong time is none, and keeps."""
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    seconds = {"is": "epoch", "unit": "s"}
    document = {
        "version": document["version"], "evidence_bucket": document["evidence_bucket"],
        "exceptions": {
            "cases": {"table": "app.bans", "ids": "text", "clocks": dict(seconds), "subject": "user", "opened": "since",
                      "closed": "until"},
            "agreements": {"table": "app.terms", "ids": "text", "clocks": {"is": "timestamp", "zone": "Europe/Berlin"},
                           "subject": "user", "category": "what", "retain": "keep", "effective_from": "since",
                           "effective_to": "until"},
            "consents": {"table": "app.votes", "ids": "text", "clocks": dict(seconds), "group": "thread", "given": "at",
                         "withdrawn": "taken_back"},
        },
        "datasets": [{"id": "notes", "type": "table", "category": "prompts_and_outputs", "table": "app.notes",
                      "key": "id", "subject": "user", "group": "thread", "ids": "text", "clock": "at",
                      "tier_is": "business"}],
    }  # fmt: skip
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        with store.connect() as conn:
            conn.execute(TABLES.encode())
        for key, (user, days) in NOTES.items():
            store.sql("INSERT INTO app.notes VALUES (%s, %s, %s, %s)", key, user, f"of {user}", AS_OF - days * DAY)
        noon, yesterday = int(AS_OF.timestamp()), int((AS_OF - DAY).timestamp())
        store.sql("INSERT INTO app.bans VALUES ('Banned', %s, 0), ('freed', %s, %s)", yesterday, yesterday, noon)
        votes = "INSERT INTO app.votes VALUES ('of voter', %s, NULL), ('of plain', %s, %s)"
        store.sql(votes, yesterday, yesterday, noon)
        local = (AS_OF - DAY).replace(tzinfo=None)
        agreed = "INSERT INTO app.terms VALUES (%s, 'prompts_and_outputs', %s, %s, %s)"
        for user, keep, until in (
            ("long", 90 * DAY, None),
            ("short", DAY, None),
            ("over", 90 * DAY, "2026-06-01 14:00"),
        ):
            store.sql(agreed, user, keep, local, until)
        done = run(store, AS_OF, scope="records")
        assert done.code == 0, str(done)
        assert {key for (key,) in store.sql("SELECT id FROM app.notes")} == {2, 4, 7}
        told = store.cli("explain", "record", "notes/2", "--json", "--as-of", "2026-06-01T12:00:00Z")
        said = json.loads(told.stdout)
        assert said["deciding_rule"] == "usage_policy_enforcement"
        past = _audited(store)
        assert "notes_past_deadline" not in past and "notes_past_agreement" not in past


def test_a_column_that_is_something_else_is_named_with_the_line_to_write(servers: Servers, tmp_path: Path) -> None:
    document = others(yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")))
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    with servers.store() as store, store.connect() as conn:
        conn.execute(OTHERS.encode())
        assert not misfits(conn, load_catalog(file))
        said = "\n".join(map(str, misfits(conn, load_configuration().catalog)))
    assert "Write `ids: text` below exceptions.flags" in said
    assert "Write `clocks: {is: epoch, unit: ms}` below exceptions.agreements" in said
    assert "Write `clocks: {is: timestamp, zone: UTC}` below exceptions.cases" in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["exceptions"]["cases"].update(ids="bigint"), "ids: text"),
        (lambda d: d["exceptions"]["flags"].pop("ids"), "Say the same in both places"),
        (lambda d: d["exceptions"]["cases"].update(clocks={"is": "epoch", "unit": "days"}), "exceptions.cases.clocks"),
    ],
)
def test_what_cannot_be_is_refused(store: Store, change: Any, expected: str, tmp_path: Path) -> None:
    document = others(yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")))
    change(document)
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    done = store.cli("policy", "validate", "--datasets", str(file), check=False)
    assert done.returncode == 2 and expected in " ".join((done.stdout + done.stderr).split())
