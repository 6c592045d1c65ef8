"""Stages of an ordinary table: content goes before its row, and with a row its children and what repeats its content.

On the tables of a proxy like LiteLLM's, which has neither messages, accounts nor exceptions of its own (cases 13, 24).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
import yaml
from psycopg import sql

from dispositions.test_role import drop_role
from lifecycle.config import load_configuration
from lifecycle.console.data import overview
from oracle.stores import Ran, Servers, full_run, run
from support.store import Store

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
POLICY, DATASETS = ROOT / "include/policies/litellm.yaml", ROOT / "include/datasets/litellm.yaml"
AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ROLE = f"Stages' run-{uuid4().hex[:8]}"
STRANGE_BUCKETS = ("product-data", "product-logs", "quarantine", "research")
TICK = timedelta(milliseconds=1)
NAMES = UUID(int=7)
TABLES = """
DROP SCHEMA app CASCADE;
DROP SCHEMA research CASCADE;
CREATE TABLE public."LiteLLM_SpendLogs" (
    request_id text PRIMARY KEY, "user" text, "startTime" timestamp(3) NOT NULL, spend double precision NOT NULL,
    messages jsonb DEFAULT '{}', response jsonb DEFAULT '{}', proxy_server_request jsonb DEFAULT '{}', session_id text);
CREATE INDEX ON public."LiteLLM_SpendLogs" ("startTime");
CREATE INDEX ON public."LiteLLM_SpendLogs" (session_id);
CREATE TABLE public."LiteLLM_SpendLogToolIndex" (
    request_id text, tool_name text, id bigint UNIQUE, PRIMARY KEY (request_id, tool_name));
CREATE TABLE public."LiteLLM_SpendLogGuardrailIndex" (
    request_id text, guardrail_id text, PRIMARY KEY (request_id, guardrail_id));
CREATE TABLE public.tool_results (
    tool bigint REFERENCES public."LiteLLM_SpendLogToolIndex" (id), n int, result text, PRIMARY KEY (tool, n));
CREATE TABLE public.sessions (session text PRIMARY KEY, request_id text, "lastCall" jsonb, last_prompt text);
CREATE INDEX ON public.sessions (request_id);
CREATE MATERIALIZED VIEW public.daily AS SELECT request_id, spend, messages FROM public."LiteLLM_SpendLogs";
CREATE UNIQUE INDEX ON public.daily (request_id);
CREATE MATERIALIZED VIEW public.total AS SELECT sum(spend) AS spend, count(*) AS calls FROM public."LiteLLM_SpendLogs";
"""
# The cut-off runs three days ahead of each deadline.
CONTENT, ROW = AS_OF - 25 * DAY, datetime(2025, 6, 4, 12, tzinfo=UTC)
AGES = {
    "young": CONTENT,
    "content": CONTENT - TICK,
    "held content": CONTENT - DAY,
    "long cleared": AS_OF - 100 * DAY,
    "last of the year": ROW,
    "over a year": ROW - TICK,
    "held row": ROW - 100 * DAY,
    "held session": CONTENT - DAY,
    "held call": CONTENT - DAY,
    "erased": AS_OF - DAY,
    "erased and cleared": AS_OF - DAY,
}
EMPTY = {"long cleared", "last of the year", "erased and cleared"}


def who(name: str) -> UUID:
    return uuid5(NAMES, name)


def widened() -> dict[str, Any]:
    """The example's dataset file, with children of children, copies and views of what goes."""
    found: dict[str, Any] = copy.deepcopy(yaml.safe_load(DATASETS.read_text()))
    (logs,) = found["datasets"]
    logs["children"][0]["children"] = [{"table": "public.tool_results", "key": "tool", "parent_key": "id"}]
    logs["stages"][0]["copies"] = [
        {"table": "public.sessions", "key": "request_id", "column": "lastCall", "path": ["content"]}
    ]
    logs["copies"] = [{"table": "public.sessions", "key": "request_id", "column": "last_prompt"}]
    logs["refresh"] = ["public.daily", "public.total"]
    reason = "of the reference store, which is not looked at here"
    found["exclusions"] = [
        {"table": "public.sessions", "reason": "what it repeats is among the copies", "until": "2027-06-01"},
        *({"bucket": bucket, "reason": reason, "until": "2027-06-01"} for bucket in STRANGE_BUCKETS),
    ]
    return found


def fill(store: Store) -> None:
    with store.connect() as conn:
        conn.execute(TABLES)
    content = '{"said": "something"}'
    for number, (name, at) in enumerate(AGES.items()):
        values = ["{}", "{}", None] if name in EMPTY else [content, content, content]
        store.sql(
            'INSERT INTO public."LiteLLM_SpendLogs" VALUES (%s, %s, %s, 1, %s, %s, %s, %s)',
            *(name, str(who(name)), at.replace(tzinfo=None), *values, f"session of {name}"),
        )
        store.sql('INSERT INTO public."LiteLLM_SpendLogToolIndex" VALUES (%s, %s, %s)', name, "search", number)
        store.sql('INSERT INTO public."LiteLLM_SpendLogGuardrailIndex" VALUES (%s, %s)', name, "g")
        store.sql("INSERT INTO public.tool_results VALUES (%s, 1, 'x'), (%s, 2, 'y')", number, number)
        store.sql(
            "INSERT INTO public.sessions VALUES (%s, %s, %s, %s)",
            *(f"session of {name}", name, '{"content": "something", "model": "m"}', "something"),
        )
    for view in ("daily", "total"):
        store.sql(f"REFRESH MATERIALIZED VIEW public.{view}")
    for number, name in enumerate(("held content", "held row")):
        store.insert("lifecycle.legal_holds", hold_id=UUID(int=number), scope="account", target=str(who(name)),
                     reason="r", placed_by="p", placed_at=AS_OF - DAY)  # fmt: skip
    for scope, name, target in (("conversation", "held session", "Session of held session"),
                                ("message", "held call", "held call")):  # fmt: skip
        store.insert("lifecycle.legal_holds", hold_id=who(name), scope=scope, target=target, reason="r", placed_by="p",
                     placed_at=AS_OF - DAY)  # fmt: skip
    for number, name in enumerate(("erased", "erased and cleared")):
        store.insert("lifecycle.erasure_requests", request_id=UUID(int=number), scope="account", target=str(who(name)),
                     requested_at=AS_OF - DAY)  # fmt: skip


@pytest.fixture(scope="module")
def configured(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Ran]]:
    """The tables after a dry run and one run whose validations passed, as the role that `postgres grants` makes."""
    file = tmp_path_factory.mktemp("stages") / "datasets.yaml"
    file.write_text(yaml.safe_dump(widened()))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_POLICY", str(POLICY))
        patch.setenv("LIFECYCLE_DATASETS", str(file))
        fill(store)
        with as_role(store) as least:
            let_refresh(store)
            before = imprint(store)
            dry = run(least, AS_OF, "--dry-run", scope="records")
            assert dry.code == 0, str(dry)
            assert imprint(store) == before, "the dry run changed something (case 21)"
            # A row over a year has content too.
            assert dry.disposed() == {"delete": 4}, str(dry)
            done = full_run(least, AS_OF)
            assert done.code == 0, str(done)
        yield store, done


@contextmanager
def as_role(store: Store) -> Iterator[Store]:
    """The same store as the role sees it."""
    script = store.cli("postgres", "grants", "--role", ROLE).stdout
    with store.connect() as conn:
        conn.execute(script.encode())
        conn.execute(sql.SQL("ALTER ROLE {} PASSWORD 'p'").format(sql.Identifier(ROLE)))
    connection = json.loads(store.env["AIRFLOW_CONN_LIFECYCLE_POSTGRES"]) | {"login": ROLE, "password": "p"}
    env = {**store.env, "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(connection)}
    try:
        yield replace(store, env=env, _open={})
    finally:
        drop_role(store, ROLE)


def let_refresh(store: Store) -> None:
    """What the script asks for before PostgreSQL 17, where only the owner of a view may refresh it."""
    with store.connect() as conn:
        if conn.info.server_version >= 170_000:
            return
        for view in ("daily", "total"):
            conn.execute(
                sql.SQL("ALTER MATERIALIZED VIEW public.{} OWNER TO {}").format(
                    sql.Identifier(view), sql.Identifier(ROLE)
                )
            )


def imprint(store: Store) -> list[Any]:
    names = ('"LiteLLM_SpendLogs"', '"LiteLLM_SpendLogToolIndex"', '"LiteLLM_SpendLogGuardrailIndex"', "tool_results",
             "sessions", "daily", "total")  # fmt: skip
    return [store.sql(f"SELECT t::text FROM public.{name} t ORDER BY 1") for name in names]


def rows(store: Store) -> dict[str, tuple[Any, ...]]:
    found = store.sql('SELECT request_id, messages, response, proxy_server_request FROM public."LiteLLM_SpendLogs"')
    return {name: tuple(values) for name, *values in found}


def test_content_goes_at_its_deadline_and_the_row_stays(configured: tuple[Store, Ran]) -> None:
    left = rows(configured[0])
    assert left["content"] == ({}, {}, {})
    assert left["young"] == ({"said": "something"},) * 3


def test_a_row_goes_at_the_end_of_its_year_and_not_a_tick_before(configured: tuple[Store, Ran]) -> None:
    assert set(AGES) - set(rows(configured[0])) == {"over a year"}


def test_what_is_under_hold_keeps_row_and_content(configured: tuple[Store, Ran]) -> None:
    left = rows(configured[0])
    for name in ("held content", "held row", "held session", "held call"):
        assert left[name] == ({"said": "something"},) * 3, name


def test_an_erasure_request_takes_the_content_and_is_settled(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    assert rows(store)["erased"] == ({}, {}, {})
    assert store.sql("SELECT DISTINCT outcome FROM lifecycle.erasure_requests") == [("done",)]


def test_what_was_empty_is_left_as_it_was(configured: tuple[Store, Ran]) -> None:
    assert rows(configured[0])["long cleared"] == ({}, {}, None)


def test_children_of_any_depth_go_with_their_row_and_with_no_other(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    for table in ("LiteLLM_SpendLogToolIndex", "LiteLLM_SpendLogGuardrailIndex"):
        assert {name for (name,) in store.sql(f'SELECT request_id FROM public."{table}"')} == set(rows(store))
    assert store.value("SELECT count(*) FROM public.tool_results") == 2 * len(rows(store))


def test_copies_of_content_go_with_the_content_and_others_with_the_row(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    found = {name: (call, prompt) for name, call, prompt in store.sql(
        'SELECT request_id, "lastCall", last_prompt FROM public.sessions')}  # fmt: skip
    assert found["content"] == ({"model": "m"}, "something")
    assert found["young"] == ({"content": "something", "model": "m"}, "something")
    assert found["over a year"][1] is None


def test_views_made_from_the_table_are_refreshed_after_it(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    seen = dict(store.sql("SELECT request_id, messages FROM public.daily"))
    assert set(seen) == set(rows(store)) and seen["content"] == {}
    assert store.value("SELECT calls FROM public.total") == len(rows(store))


def test_each_stage_is_a_unit_of_its_own_in_the_ledger(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    found = store.sql(
        "SELECT dataset, rule, (counts ->> 'records')::int, (counts ->> 'children')::int, (counts ->> 'copies')::int"
        " FROM lifecycle.ledger WHERE entry = 'outcome' AND disposition = 'delete' ORDER BY 1, 2"
    )
    assert found == [
        ("spend_logs", "usage", 1, 4, 1),
        ("spend_logs.content", "content", 1, None, 1),
        ("spend_logs.content", "erasure_request", 1, None, 1),
    ]


def test_the_same_run_again_finds_nothing(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    before = imprint(store)
    again = run(store, AS_OF - timedelta(microseconds=1), scope="records")
    assert again.code == 0 and again.disposed() == {}, str(again)
    assert imprint(store) == before


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--as-of", "2026-06-01T12:00:01Z"),
        ("audit", "--as-of", "2026-06-01T12:00:00Z"),
        ("coverage", "--as-of", "2026-06-01T12:00:00Z"),
        ("policy", "validate", "--connect"),
        ("policy", "status"),
        ("policy", "diff", str(POLICY), str(POLICY)),
        ("postgres", "grants"),
        ("postgres", "physical"),
        ("hold", "list"),
        ("ledger", "verify"),
        ("explain", "partition", "spend_logs.content"),
        ("explain", "record", "spend_logs/young"),
        ("explain", "record", "spend_logs.content/young"),
    ],
)
def test_every_command_works_on_a_file_without_messages(configured: tuple[Store, Ran], words: tuple[str, ...]) -> None:
    store, _ = configured
    done = store.cli(*words, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_console_shows_each_stage(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    with store.connect() as conn:
        shown = {line.dataset: line for line in overview(conn, store.s3, load_configuration(), AS_OF).lines}
    assert set(shown) == {"spend_logs", "spend_logs.content"}
    assert (shown["spend_logs.content"].rule, shown["spend_logs.content"].overdue) == ("content", 0)


def test_what_asks_for_messages_or_accounts_says_what_is_missing(configured: tuple[Store, Ran]) -> None:
    done = configured[0].cli("explain", "account", str(who("young")), check=False)
    assert done.returncode == 1 and "no dataset of type accounts" in done.stderr


def test_a_view_that_nobody_refreshes_is_a_difference(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    store.sql('CREATE MATERIALIZED VIEW public.forgotten AS SELECT messages FROM public."LiteLLM_SpendLogs"')
    done = store.cli("coverage", "--as-of", "2026-06-01T12:00:00Z", check=False)
    store.sql("DROP MATERIALIZED VIEW public.forgotten")
    assert done.returncode == 1 and "refresh: [public.forgotten]" in done.stdout


def test_the_auditor_sees_content_that_stayed_and_children_without_their_record(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    store.sql("UPDATE public.\"LiteLLM_SpendLogs\" SET response = '[]' WHERE request_id = 'long cleared'")
    store.sql("INSERT INTO public.\"LiteLLM_SpendLogGuardrailIndex\" VALUES ('over a year', 'g')")
    store.sql("DELETE FROM lifecycle.refreshed_views WHERE name = 'public.total'")
    done = store.cli("audit", "--as-of", "2026-06-01T12:00:00Z", "--json", check=False)
    broken = {each["name"]: each["violations"] for each in json.loads(done.stdout)["checks"] if not each["success"]}
    assert broken == {
        "spend_logs.content_past_deadline": 1,
        "children_without_record.LiteLLM_SpendLogGuardrailIndex": 1,
        "spend_logs_views_refreshed": 1,
    }


def test_a_foreign_key_that_forbids_stops_the_batch_by_name(configured: tuple[Store, Ran]) -> None:
    store, _ = configured
    store.sql('CREATE TABLE public.stranger (request_id text REFERENCES public."LiteLLM_SpendLogs")')
    store.sql("INSERT INTO public.stranger VALUES ('last of the year')")
    done = run(store, AS_OF + DAY, scope="records")
    assert done.code == 1 and "stranger_request_id_fkey" in done.stderr and "last of the year" not in done.stderr
    store.sql("DROP TABLE public.stranger")
    assert run(store, AS_OF + DAY, scope="records").code == 0
    assert "last of the year" not in rows(store)
