"""Databases of products as their migrations make them, under the shipped files for them (cases 10, 12, 13).

Only the columns that the files name are here, of the types that Open WebUI (backend/open_webui/models) and Langfuse 2
(packages/shared/prisma/schema.prisma) give them. One store per product, run once; each test looks at one table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from oracle.stores import Ran, Servers, full_run, run
from support.store import Store

pytestmark = pytest.mark.timeout(120)

INCLUDE = Path(__file__).parents[2] / "include"
POLICY = INCLUDE / "policies/conversations.yaml"
AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY, SECOND, TICK = timedelta(days=1), timedelta(seconds=1), timedelta(milliseconds=1)
# The cut-off runs three days ahead of each deadline.
CONTENT, YEAR = AS_OF - 25 * DAY, datetime(2025, 6, 4, 12, tzinfo=UTC)
OF_THE_STORE = ("product-data", "product-logs", "quarantine", "research")

OPEN_WEBUI = """
DROP SCHEMA app CASCADE; DROP SCHEMA research CASCADE;
CREATE TABLE public.chat (id varchar PRIMARY KEY, user_id varchar, title text, chat json, created_at bigint);
CREATE INDEX ON public.chat (created_at);
CREATE TABLE public.chat_message (
    id text PRIMARY KEY, chat_id text NOT NULL REFERENCES public.chat ON DELETE CASCADE, content json);
CREATE INDEX ON public.chat_message (chat_id);
CREATE TABLE public.chat_file (
    id text PRIMARY KEY, chat_id text NOT NULL REFERENCES public.chat ON DELETE CASCADE, file_id text NOT NULL);
CREATE TABLE public.message (id text PRIMARY KEY, user_id text, channel_id text, content text, created_at bigint);
CREATE TABLE public.message_reaction (id text PRIMARY KEY, message_id text, name text);
CREATE TABLE public.feedback (id text PRIMARY KEY, user_id text, data json, snapshot json, created_at bigint);
"""
LANGFUSE = """
DROP SCHEMA app CASCADE; DROP SCHEMA research CASCADE;
CREATE TABLE public.traces (
    id text PRIMARY KEY, "timestamp" timestamp(3) NOT NULL, user_id text, session_id text, input jsonb, output jsonb);
CREATE INDEX ON public.traces ("timestamp");
CREATE TABLE public.observations (id text PRIMARY KEY, trace_id text, input jsonb, output jsonb);
CREATE TABLE public.scores (
    id text PRIMARY KEY, trace_id text NOT NULL REFERENCES public.traces ON DELETE CASCADE,
    observation_id text REFERENCES public.observations ON DELETE SET NULL, comment text);
"""


def nanoseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1) * 1000


@dataclass(frozen=True)
class Product:
    store: Store
    ran: Ran

    def keys(self, table: str, column: str = "id") -> set[str]:
        return {key for (key,) in self.store.sql(f"SELECT {column} FROM public.{table}")}


def ran(made: Store, file: Path, name: str) -> Product:
    """The store after a dry run and a run whose validations passed."""
    found: dict[str, Any] = yaml.safe_load((INCLUDE / f"datasets/{name}.yaml").read_text())
    found["exclusions"] = [
        {"bucket": bucket, "reason": "of the reference store", "until": "2027-06-01"} for bucket in OF_THE_STORE
    ]
    file.write_text(yaml.safe_dump(found))
    store = replace(made, env={**made.env, "LIFECYCLE_POLICY": str(POLICY), "LIFECYCLE_DATASETS": str(file)}, _open={})
    for scope, target in (("conversation", "held"), ("account", "u-held")):
        store.insert("lifecycle.legal_holds", scope=scope, target=target, reason="r", placed_by="p",
                     placed_at=AS_OF - DAY)  # fmt: skip
    store.insert("lifecycle.erasure_requests", scope="account", target="u-erased", requested_at=AS_OF - DAY)
    dry = run(store, AS_OF, "--dry-run", scope="records")
    assert dry.code == 0, str(dry)
    done = full_run(store, AS_OF)
    assert done.code == 0, str(done)
    return Product(store, done)


@pytest.fixture(scope="module")
def open_webui(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with servers.store() as store:
        with store.connect() as conn:
            conn.execute(OPEN_WEBUI.encode())
        for name, user, at in (
            ("young", "u", CONTENT), ("due", "u", CONTENT - SECOND), ("held", "u", CONTENT - DAY),
            ("of the held", "u-held", CONTENT - DAY), ("of the erased", "u-erased", AS_OF - DAY),
        ):  # fmt: skip
            store.sql("INSERT INTO public.chat VALUES (%s, %s, 't', '{\"history\": {}}', %s)",
                      name, user, int(at.timestamp()))  # fmt: skip
            store.sql("INSERT INTO public.chat_message VALUES (%s, %s, '\"said\"')", f"{name}-1", name)
            store.sql("INSERT INTO public.chat_file VALUES (%s, %s, 'f')", f"{name}-f", name)
        for name, user, count in (
            ("at the bound", "u", nanoseconds(CONTENT)), ("a nanosecond later", "u", nanoseconds(CONTENT) - 999),
            ("due", "u", nanoseconds(CONTENT) - 1000), ("of the held", "u-held", nanoseconds(CONTENT) - 10**15),
        ):  # fmt: skip
            store.sql("INSERT INTO public.message VALUES (%s, %s, 'channel', 'said', %s)", name, user, count)
            store.sql("INSERT INTO public.message_reaction VALUES (%s, %s, '+1')", f"r {name}", name)
        for name, at in (("young", CONTENT), ("due", CONTENT - SECOND), ("over a year", YEAR - SECOND)):
            store.sql("INSERT INTO public.feedback VALUES (%s, 'u', '{\"rating\": 1}', '{\"chat\": 1}', %s)",
                      name, int(at.timestamp()))  # fmt: skip
        yield ran(store, tmp_path_factory.mktemp("webui") / "datasets.yaml", "open_webui")


@pytest.fixture(scope="module")
def langfuse(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with servers.store() as store:
        with store.connect() as conn:
            conn.execute(LANGFUSE.encode())
        for name, user, at in (
            ("young", "u", CONTENT), ("due", "u", CONTENT - TICK), ("in a held session", "u", CONTENT - DAY),
            ("of the held", "u-held", CONTENT - DAY), ("of the erased", "u-erased", AS_OF - DAY),
        ):  # fmt: skip
            session = "held" if name == "in a held session" else f"session of {name}"
            store.sql("INSERT INTO public.traces VALUES (%s, %s, %s, %s, '\"said\"', '\"answered\"')",
                      name, at.replace(tzinfo=None), user, session)  # fmt: skip
            store.sql("INSERT INTO public.observations VALUES (%s, %s, '1', '2')", f"o {name}", name)
            store.sql("INSERT INTO public.scores VALUES (%s, %s, %s, 'c')", f"s {name}", name, f"o {name}")
        yield ran(store, tmp_path_factory.mktemp("langfuse") / "datasets.yaml", "langfuse")


def test_a_chat_goes_whole_with_its_messages_unless_it_or_its_user_is_held(open_webui: Product) -> None:
    left = {"young", "held", "of the held"}
    assert open_webui.keys("chat") == left
    assert open_webui.keys("chat_message", "chat_id") == open_webui.keys("chat_file", "chat_id") == left


def test_a_message_counted_in_nanoseconds_never_goes_early(open_webui: Product) -> None:
    left = {"at the bound", "a nanosecond later", "of the held"}
    assert open_webui.keys("message") == open_webui.keys("message_reaction", "message_id") == left


def test_a_rating_outlives_the_chat_that_it_repeats(open_webui: Product) -> None:
    found = dict(open_webui.store.sql("SELECT id, snapshot FROM public.feedback"))
    assert found == {"young": {"chat": 1}, "due": None}


def test_a_trace_goes_with_its_observations_and_scores(langfuse: Product) -> None:
    left = {"young", "in a held session", "of the held"}
    assert langfuse.keys("traces") == left
    assert langfuse.keys("observations", "trace_id") == langfuse.keys("scores", "trace_id") == left


@pytest.mark.parametrize("product", ["open_webui", "langfuse"])
def test_requests_are_settled_and_the_auditor_agrees(product: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(product).store
    assert store.sql("SELECT DISTINCT outcome FROM lifecycle.erasure_requests") == [("done",)]
    done = store.cli("audit", "--as-of", "2026-06-01T12:00:00Z", "--json", check=False)
    assert [each for each in json.loads(done.stdout)["checks"] if not each["success"]] == []
