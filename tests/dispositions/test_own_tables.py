"""Tables as people have them: mixed-case names with spaces, text and bigint ids, clocks that are no timestamptz.

One store with four of them, run once; each test looks at what became of one table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from lifecycle.catalog.clocks import Uuid7Clock
from lifecycle.catalog.load import load_catalog
from lifecycle.catalog.models import Catalog
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.columns import misfits
from lifecycle.stores.postgres.policy_diff import measure
from lifecycle.stores.postgres.policy_sources import Pair
from oracle.dates import years_later
from oracle.named import AS_OF
from oracle.stores import Ran, Servers, at, full_run
from support.edits import period, shipped_policy
from support.store import Store

pytestmark = pytest.mark.timeout(300)
MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ERASED = "0190a5d2-7c1e-7a41-9d7c-2f6f0c1b2a3d"
# As many digits as a bigint can have; the other is one too many for any.
SNOWFLAKE, TOO_LARGE = 1_790_000_000_000_000_001, "9999999999999999999"
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SEVEN, TEN = (years_later(AS_OF, -years, up=False) for years in (7, 10))

TABLES = """
CREATE TABLE public."LiteLLM_SpendLogs" (request_id text PRIMARY KEY, "startTime" timestamp(3) NOT NULL, "user" text);
CREATE INDEX ON public."LiteLLM_SpendLogs" ("startTime", request_id);
CREATE TABLE app."Bug Reports" ("Report No" bigint PRIMARY KEY, "Customer" bigint, "Wann, ms" bigint);
CREATE INDEX ON app."Bug Reports" ("Wann, ms", "Report No");
CREATE INDEX ON app."Bug Reports" ("Customer");
CREATE TABLE app.notes (id text PRIMARY KEY, author text);
CREATE INDEX ON app.notes (author);
CREATE TABLE app.visits (tenant bigint, at timestamptz, no int, account_id uuid, PRIMARY KEY (tenant, at, no));
CREATE INDEX ON app.visits (at);
CREATE TABLE app.calls (id uuid PRIMARY KEY, account_id uuid);
"""
DATASETS: list[dict[str, Any]] = [
    {
        "id": "spend_logs", "category": "safety_scores", "table": "public.LiteLLM_SpendLogs", "key": "request_id",
        "subject": "user", "record": "request_id", "ids": "text",
        "clock": {"column": "startTime", "is": "timestamp", "zone": "Europe/Berlin"},
    },
    {
        "id": "bug_reports", "category": "feedback", "table": "app.Bug Reports", "key": "Report No",
        "subject": "Customer", "ids": "bigint", "clock": {"column": "Wann, ms", "is": "epoch", "unit": "ms"},
    },
    {
        "id": "notes", "category": "feedback", "table": "app.notes", "key": "id", "subject": "author", "ids": "text",
        "clock": {"column": "id", "is": "ulid"},
    },
    {
        "id": "visits", "category": "feedback", "table": "app.visits", "key": ["tenant", "at", "no"],
        "subject": "account_id", "clock": "at",
    },
    {
        "id": "calls", "category": "safety_scores", "table": "app.calls", "key": "id", "subject": "account_id",
        "clock": {"column": "id", "is": "uuid7"},
    },
]  # fmt: skip


def ulid(instant: datetime) -> str:
    number = (instant - EPOCH) // MILLISECOND
    return "".join(LETTERS[(number >> 5 * place) & 31] for place in range(9, -1, -1)) + "A" * 16


def uuid7(instant: datetime) -> str:
    digits = f"{(instant - EPOCH) // MILLISECOND:012x}"
    return f"{digits[:8]}-{digits[8:]}-7abc-9abc-123456789abc"


def milliseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MILLISECOND


@dataclass(frozen=True)
class Own:
    store: Store
    ran: Ran

    def keys(self, query: str) -> set[object]:
        return {key for (key,) in self.store.sql(query)}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    document["datasets"] += [{"type": "table", **dataset} for dataset in DATASETS]
    file = tmp_path_factory.mktemp("own") / "datasets.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def own(servers: Servers, datasets: Path) -> Iterator[Own]:
    with servers.store() as made:
        store = Store(made.conninfo, made.s3, {**made.env, "LIFECYCLE_DATASETS": str(datasets)}, made.postgres,
                      made.s3_server)  # fmt: skip
        with store.connect() as conn:
            conn.execute(TABLES.encode())
            _fill(conn)
        for scope, target in (("account", " ALICE \r\n"), ("message", "held one"), ("account", "7")):
            store.insert("lifecycle.legal_holds", scope=scope, target=target, reason="r", placed_by="p")
        for target in ("Bob", "42", str(SNOWFLAKE), TOO_LARGE, ERASED.upper()):
            store.insert("lifecycle.erasure_requests", scope="account", target=target,
                         requested_at=AS_OF - timedelta(days=1))  # fmt: skip
        try:
            yield Own(store, full_run(store, AS_OF))
        finally:
            store.close()


def _fill(conn: psycopg.Connection[Any]) -> None:
    # In winter Berlin is an hour ahead of UTC, in summer two: as_of is in summer.
    spend = [
        ("over", SEVEN - MILLISECOND, "u"), ("just not over", SEVEN, "u"), ("young", AS_OF - timedelta(days=1), "u"),
        ("Held One", SEVEN - timedelta(days=9), "u"), ("of alice", SEVEN - timedelta(days=9), "Alice"),
    ]  # fmt: skip
    conn.cursor().executemany(
        "INSERT INTO public.\"LiteLLM_SpendLogs\" VALUES (%s, %s::timestamptz AT TIME ZONE 'Europe/Berlin', %s)", spend
    )
    reports = [
        (1, 1, milliseconds(TEN) - 1), (2, 1, milliseconds(TEN)), (3, 42, milliseconds(AS_OF) - 1),
        (4, 42, milliseconds(AS_OF)), (5, 7, 1), (6, 1, 0), (7, SNOWFLAKE, milliseconds(AS_OF) - 1),
    ]  # fmt: skip
    conn.cursor().executemany('INSERT INTO app."Bug Reports" VALUES (%s, %s, %s)', reports)
    notes = [(ulid(TEN - MILLISECOND), "u"), (ulid(TEN), "u"), (ulid(AS_OF - timedelta(days=2)), "Bob"),
             (ulid(AS_OF - timedelta(days=3)), "bob")]  # fmt: skip
    conn.cursor().executemany("INSERT INTO app.notes VALUES (%s, %s)", notes)
    # Ties of the clock, told apart by the rest of the key; one row of an erased account among them.
    visits = [(tenant, at, no) for tenant in (1, 2) for at in (TEN - MILLISECOND, TEN) for no in range(150)]
    conn.cursor().executemany("INSERT INTO app.visits VALUES (%s, %s, %s, gen_random_uuid())", visits)
    conn.execute("INSERT INTO app.visits VALUES (3, %s, 1, %s)", (AS_OF - timedelta(days=5), ERASED))
    calls = [(uuid7(SEVEN - MILLISECOND),), (uuid7(SEVEN),)]
    conn.cursor().executemany("INSERT INTO app.calls VALUES (%s, gen_random_uuid())", calls)


def test_a_timestamp_of_a_zone_goes_to_the_millisecond_and_a_text_hold_keeps_in_any_case(own: Own) -> None:
    """Cases 4 and 10: mixed-case names, a text key, a hold that was typed in other letters."""
    assert own.keys('SELECT request_id FROM public."LiteLLM_SpendLogs"') == {
        "just not over", "young", "Held One", "of alice"
    }  # fmt: skip


def test_an_epoch_goes_to_the_millisecond_and_a_bigint_subject_is_found(own: Own) -> None:
    """4 arrived with the run itself, 5 is held, and 6 has no time, which stays and is reported."""
    assert own.keys('SELECT "Report No" FROM app."Bug Reports"') == {2, 4, 5, 6}


def test_an_erasure_of_text_takes_its_own_letters_only(own: Own) -> None:
    assert own.keys("SELECT id FROM app.notes") == {ulid(TEN), ulid(AS_OF - timedelta(days=3))}
    assert dict(own.store.sql("SELECT target, outcome FROM lifecycle.erasure_requests")) == {
        "42": "done", str(SNOWFLAKE): "done", TOO_LARGE: "done", "Bob": "done", ERASED.upper(): "done"
    }  # fmt: skip


def test_a_key_of_several_columns_is_walked_to_the_end(own: Own) -> None:
    """More rows of one instant than a batch holds: none stays behind, whichever part of the key tells them apart."""
    assert own.store.sql("SELECT tenant, at, count(*) FROM app.visits GROUP BY 1, 2 ORDER BY 1") == [
        (1, TEN, 150), (2, TEN, 150)
    ]  # fmt: skip


def test_a_uuid_of_version_7_is_its_own_clock(own: Own) -> None:
    assert own.keys("SELECT id::text FROM app.calls") == {uuid7(SEVEN)}


def test_the_auditor_finds_only_the_row_without_a_time(own: Own) -> None:
    """By its own reading of every clock. What no clock can be read from is no violation that hides (case 23)."""
    assert own.ran.code == 1, str(own.ran)
    done = own.store.cli("audit", "--as-of", at(AS_OF), "--json", check=False)
    found = {check["name"] for check in json.loads(done.stdout)["checks"] if check.get("violations")}
    assert "bug_reports_without_clock" in found
    assert not {name for name in found if "past_deadline" in name or "remain" in name}


def test_an_overdue_row_of_any_clock_is_found_by_the_auditor(own: Own) -> None:
    """The auditor's own code: a row put back is late in its eyes too."""
    with own.store.connect() as conn:
        late = SEVEN - timedelta(days=9)
        conn.execute("INSERT INTO app.calls VALUES (%s, gen_random_uuid())", (uuid7(late),))
        conn.execute("INSERT INTO public.\"LiteLLM_SpendLogs\" VALUES ('late', %s, 'u')", (late.replace(tzinfo=None),))
        conn.execute('INSERT INTO app."Bug Reports" VALUES (9, 1, %s)', (milliseconds(TEN - timedelta(days=9)),))
        conn.execute("INSERT INTO app.notes VALUES (%s, 'u')", (ulid(TEN - timedelta(days=9)),))
    try:
        done = own.store.cli("audit", "--as-of", at(AS_OF), "--json", check=False)
        found = {check["name"]: check["violations"] for check in json.loads(done.stdout)["checks"]}
        assert {name: found[f"{name}_past_deadline"] for name in ("calls", "spend_logs", "bug_reports", "notes")} == {
            "calls": 1, "spend_logs": 1, "bug_reports": 1, "notes": 1
        }  # fmt: skip
    finally:
        own.store.sql("DELETE FROM app.calls WHERE id = %s", uuid7(SEVEN - timedelta(days=9)))
        own.store.sql("DELETE FROM public.\"LiteLLM_SpendLogs\" WHERE request_id = 'late'")
        own.store.sql('DELETE FROM app."Bug Reports" WHERE "Report No" = 9')
        own.store.sql("DELETE FROM app.notes WHERE id = %s", ulid(TEN - timedelta(days=9)))


def test_every_command_takes_the_names_as_they_are(own: Own) -> None:
    """Validation against the database, grants, explain, coverage, status."""
    valid = json.loads(own.store.cli("policy", "validate", "--connect", "--json", check=False).stdout)
    assert valid["valid"], valid
    grants = own.store.cli("postgres", "grants", "--role", "r").stdout
    assert '"LiteLLM_SpendLogs"' in grants and '"Bug Reports"' in grants
    told = json.loads(own.store.cli("explain", "record", "spend_logs/Held One", "--as-of", at(AS_OF), "--json").stdout)
    assert told["deciding_rule"] == "legal_obligation"
    told = json.loads(own.store.cli("explain", "record", "bug_reports/2", "--as-of", at(AS_OF), "--json").stdout)
    assert (told["disposition"], told["location"]) == ("keep", "app.Bug Reports")
    name = f"visits/1/{TEN.isoformat()}/7"
    told = json.loads(own.store.cli("explain", "record", name, "--as-of", at(AS_OF), "--json").stdout)
    assert told["location"] == "app.visits"
    assert own.store.cli("explain", "record", "visits/1", "--as-of", at(AS_OF), check=False).returncode == 2
    assert own.store.cli("explain", "record", "bug_reports/nobody", "--as-of", at(AS_OF), check=False).returncode == 2
    for command in ("coverage", "status"):
        looked = own.store.cli(command, "--as-of", at(AS_OF), "--json", check=False)
        assert looked.returncode in (0, 1), looked.stderr
        assert "spend_logs" in looked.stdout or "LiteLLM" not in looked.stdout


def test_people_place_holds_on_ids_as_they_are(own: Own) -> None:
    placed = own.store.cli("hold", "place", "--scope", "account", "--target", " No Body ", "--reason", "r", "--json")
    assert json.loads(placed.stdout)["target"] == "No Body"


def test_a_change_of_policy_is_counted_by_every_clock(own: Own, datasets: Path) -> None:
    """What is between the two cut-offs goes; what a hold names in other letters does not."""
    catalog = load_catalog(datasets)
    with own.store.connect() as conn:
        found = measure(conn, Pair(shipped_policy(), catalog, shipped_policy(period("safety_scores", "P6Y")), catalog,
                                   AS_OF), ())  # fmt: skip
    assert {(change.dataset, change.before, change.after, change.records, change.oldest) for change in found} == {
        (name, "keep:safety_scores", "delete:safety_scores", 1, SEVEN) for name in ("spend_logs", "calls")
    }


def test_a_configuration_with_such_clocks_is_the_same_when_it_is_read_back(datasets: Path) -> None:
    """As approvals keep it."""
    catalog = load_catalog(datasets)
    assert Catalog.model_validate(json.loads(json.dumps(catalog.model_dump(mode="json")))) == catalog


@pytest.mark.parametrize(
    ("dataset", "wrong", "remedy"),
    [
        ("spend_logs", {"clock": "startTime"}, "`clock: {column: startTime, is: timestamp, zone: UTC}`"),
        ("spend_logs", {"ids": "uuid"}, "`ids: text`"),
        ("bug_reports", {"clock": "Wann, ms"}, "`clock: {column: 'Wann, ms', is: epoch, unit: ms}`"),
        ("bug_reports", {"ids": "text"}, "`ids: bigint`"),
        ("notes", {"clock": Uuid7Clock(column="id", is_="uuid7")}, "`clock: {column: id, is: ulid}`"),
        ("calls", {"clock": "id"}, "`clock: {column: id, is: uuid7}`"),
        ("visits", {"clock": Uuid7Clock(column="at", is_="uuid7")}, "`clock: at`"),
    ],
)
def test_a_wrong_type_is_told_with_the_line_to_write(
    own: Own, datasets: Path, dataset: str, wrong: dict[str, Any], remedy: str
) -> None:
    """Case 10: a wall-clock time that is taken for an instant would be read in the session's zone."""
    catalog = load_catalog(datasets)
    changed = tuple(d.model_copy(update=wrong) if d.id == dataset else d for d in catalog.datasets)
    with own.store.connect() as conn:
        found = misfits(conn, catalog.model_copy(update={"datasets": changed}))
        assert misfits(conn, catalog) == []
    assert found and all(remedy in each.remedy for each in found), [str(each) for each in found]
