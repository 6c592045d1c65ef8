"""Rows of children whose record the application removed: they go by the record's rule, by their own clock (case 24).

One store, run once; each test looks at one kind of row.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.catalog.load import read_catalog
from oracle.stores import Ran, Servers, full_run, run
from support.store import Store

pytestmark = pytest.mark.timeout(120)

POLICY = Path(__file__).parents[2] / "include/policies/litellm.yaml"
AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
# A year, three days ahead.
ROW = datetime(2025, 6, 4, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
TABLES = """
DROP SCHEMA app CASCADE;
DROP SCHEMA research CASCADE;
CREATE TABLE public.calls (call_id text PRIMARY KEY, person text, at timestamptz NOT NULL);
CREATE INDEX ON public.calls (at);
CREATE INDEX ON public.calls (person);
CREATE TABLE public.tools (call_id text, tool text, used timestamptz, id bigint UNIQUE, PRIMARY KEY (call_id, tool));
CREATE INDEX ON public.tools (used);
CREATE TABLE public.results (id bigint PRIMARY KEY, tool bigint, made timestamptz NOT NULL);
CREATE INDEX ON public.results (tool);
CREATE INDEX ON public.results (made);
"""
DATASETS: dict[str, Any] = {
    "version": 1,
    "evidence_bucket": "lifecycle-evidence",
    "datasets": [
        {
            "id": "calls",
            "type": "table",
            "category": "usage_records",
            "table": "public.calls",
            "key": "call_id",
            "record": "call_id",
            "subject": "person",
            "ids": "text",
            "clock": "at",
            "tier_is": "business",
            "children": [
                {
                    "table": "public.tools",
                    "key": "call_id",
                    "orphans": {"name": "lost_tools", "rows": ["call_id", "tool"], "clock": "used"},
                    "children": [
                        {
                            "table": "public.results",
                            "key": "tool",
                            "parent_key": "id",
                            "orphans": {"name": "lost_results", "rows": "id", "clock": "made", "ids": "bigint"},
                        }
                    ],
                }
            ],
        }
    ],
}
DATASETS["exclusions"] = [
    {"bucket": bucket, "reason": "of the reference store, which is not looked at here", "until": "2027-06-01"}
    for bucket in ("product-data", "product-logs", "quarantine", "research")
]
# call, is there a record, the tool's own clock.
CALLS = {
    "young with record": (True, AS_OF - timedelta(days=1)),
    "old clock with record": (True, ROW - timedelta(days=300)),
    "young orphan": (False, AS_OF - timedelta(days=1)),
    "orphan on its last day": (False, ROW),
    "orphan past its year": (False, ROW - TICK),
    "held orphan": (False, ROW - timedelta(days=9)),
}
GONE = {"orphan past its year"}


def fill(store: Store) -> None:
    with store.connect() as conn:
        conn.execute(TABLES)
    for number, (name, (there, used)) in enumerate(CALLS.items()):
        if there:
            store.sql("INSERT INTO public.calls VALUES (%s, 'p', %s)", name, AS_OF - timedelta(days=1))
        store.sql("INSERT INTO public.tools VALUES (%s, 'search', %s, %s)", name, used, number)
        store.sql("INSERT INTO public.results VALUES (%s, %s, %s)", number, number, AS_OF - timedelta(days=1))
    # Of tools that are gone, one past its time and one not.
    store.sql("INSERT INTO public.results VALUES (100, 100, %s), (101, 101, %s)", ROW - TICK, ROW)
    store.insert("lifecycle.legal_holds", scope="message", target="held orphan", reason="r", placed_by="p",
                 placed_at=AS_OF - timedelta(days=1))  # fmt: skip


@contextmanager
def store_with(servers: Servers, folder: Path, content: dict[str, Any]) -> Iterator[Store]:
    (folder / "datasets.yaml").write_text(yaml.safe_dump(content))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_POLICY", str(POLICY))
        patch.setenv("LIFECYCLE_DATASETS", str(folder / "datasets.yaml"))
        fill(store)
        yield store


@pytest.fixture(scope="module")
def ran(
    servers: Servers, sql_judges: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, Ran, Ran]]:
    """The store after a dry run and a run whose validations passed."""
    with store_with(servers, tmp_path_factory.mktemp("orphans"), DATASETS) as store:
        dry = run(store, AS_OF, "--dry-run", scope="records")
        assert tools(store) == set(CALLS), "the dry run took something (case 21)"
        done = full_run(store, AS_OF)
        yield store, dry, done


def tools(store: Store) -> set[str]:
    return {name for (name,) in store.sql("SELECT call_id FROM public.tools")}


def results(store: Store) -> set[int]:
    return {number for (number,) in store.sql("SELECT id FROM public.results")}


def test_the_run_passes_its_own_checks(ran: tuple[Store, Ran, Ran]) -> None:
    assert ran[2].code == 0, str(ran[2])


def test_an_orphan_goes_when_its_own_clock_says_so_and_not_a_tick_before(ran: tuple[Store, Ran, Ran]) -> None:
    assert set(CALLS) - tools(ran[0]) == GONE


def test_a_row_whose_record_is_there_goes_with_it_whatever_its_own_clock_says(ran: tuple[Store, Ran, Ran]) -> None:
    assert "old clock with record" in tools(ran[0])


def test_a_hold_on_the_record_keeps_what_is_left_of_it(ran: tuple[Store, Ran, Ran]) -> None:
    assert "held orphan" in tools(ran[0])


def test_with_an_orphan_go_its_own_children_and_their_orphans_have_a_clock_too(ran: tuple[Store, Ran, Ran]) -> None:
    expected = {number for number, name in enumerate(CALLS) if name not in GONE} | {101}
    assert results(ran[0]) == expected


def test_the_dry_run_said_what_would_go_and_the_ledger_what_went(ran: tuple[Store, Ran, Ran]) -> None:
    store, dry, _ = ran
    assert dry.disposed() == {"delete": 2}
    found = store.sql(
        "SELECT dataset, rule, (counts ->> 'records')::int, (counts ->> 'children')::int FROM lifecycle.ledger"
        " WHERE entry = 'outcome' AND disposition = 'delete' ORDER BY 1"
    )
    assert found == [("calls.lost_results", "usage", 1, None), ("calls.lost_tools", "usage", 1, 1)]


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--as-of", "2026-06-01T12:00:01Z"),
        ("audit", "--as-of", "2026-06-01T12:00:00Z"),
        ("policy", "validate", "--connect"),
        ("coverage", "--as-of", "2026-06-01T12:00:00Z"),
        ("policy", "status"),
        ("policy", "diff", str(POLICY), str(POLICY)),
        ("postgres", "grants"),
        ("explain", "record", "calls.lost_tools/held orphan/search"),
    ],
)
def test_other_commands_know_them(ran: tuple[Store, Ran, Ran], words: tuple[str, ...]) -> None:
    done = ran[0].cli(*words, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_auditor_finds_an_orphan_that_stayed(ran: tuple[Store, Ran, Ran]) -> None:
    store = ran[0]
    store.sql("INSERT INTO public.tools VALUES ('late', 'search', %s, 999)", ROW - timedelta(days=30))
    done = store.cli("audit", "--as-of", "2026-06-01T12:00:00Z", "--json", check=False)
    store.sql("DELETE FROM public.tools WHERE call_id = 'late'")
    broken = {each["name"]: each["violations"] for each in json.loads(done.stdout)["checks"] if not each["success"]}
    assert broken == {"calls.lost_tools_past_deadline": 1}


def test_without_the_setting_they_are_counted_and_stay(ran: tuple[Store, Ran, Ran], tmp_path: Path) -> None:
    plain = copy.deepcopy(DATASETS)
    tool = plain["datasets"][0]["children"][0]
    del tool["orphans"], tool["children"][0]["orphans"]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(tmp_path / "plain.yaml"))
        done = ran[0].cli("audit", "--as-of", "2026-06-01T12:00:00Z", "--json", check=False)
    broken = {each["name"]: each["violations"] for each in json.loads(done.stdout)["checks"] if not each["success"]}
    assert broken == {"children_without_record.tools": 3, "children_without_record.results": 1}


def test_keys_of_another_type_are_refused_before_anything_is_compared(
    ran: tuple[Store, Ran, Ran], tmp_path: Path
) -> None:
    wrong = copy.deepcopy(DATASETS)
    del wrong["datasets"][0]["children"][0]["children"][0]["orphans"]["ids"]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_DATASETS", str(tmp_path / "wrong.yaml"))
        done = ran[0].cli("policy", "validate", "--connect", "--json", check=False)
    [problem] = json.loads(done.stdout)["problems"]
    assert done.returncode == 2 and problem["field"] == "calls.lost_results.subject"
    assert "Write `ids: bigint`" in problem["remedy"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "content"}, "already the name of a stage"),
        ({"clock": None}, "has no value"),
        ({"name": "Lost"}, "is not a name"),
    ],
)
def test_refusals(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    wrong = copy.deepcopy(DATASETS)
    (calls,) = wrong["datasets"]
    calls["stages"] = [{"name": "content", "category": "prompts_and_outputs", "clear": ["said"]}]
    calls["children"][0]["orphans"] |= change
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(wrong))
    assert said in "\n".join(map(str, read_catalog(path).problems))
