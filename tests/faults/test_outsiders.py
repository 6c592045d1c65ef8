"""Others in the same database who stand in the way: event triggers that refuse DDL, transactions without a session.

Hard cases 12 and 18: what cannot be replaced goes row by row, nothing is half done, and who was in the way is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.dispositions import gate
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.records import expire_accounts, expire_records
from lifecycle.ledger import runs
from lifecycle.planning.units import Method, Tally, Unit
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.holding import TablesBusyError
from lifecycle.stores.postgres.merge import drop_if_empty, merge
from lifecycle.stores.postgres.online.convert import advance
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.layout import Interval
from lifecycle.stores.postgres.online.locks import ForbiddenError, Patience, TableBusyError
from lifecycle.stores.postgres.online.state import Phase, open_partitioning
from lifecycle.stores.postgres.partitions import create_ahead
from lifecycle.stores.postgres.reclaim import reclaim, reclaim_pending
from lifecycle.stores.postgres.refused import NotSwappableError
from lifecycle.stores.postgres.suppressed import DeletionSuppressedError
from lifecycle.stores.postgres.tree import Partition, partitions_of
from reference_store.create import create_schemas
from support.online import begin, connected, layout_of, plain_table, work_on
from support.servers import server_with
from support.units import AS_OF, CONFIG, DAY, TIER, Bench

MESSAGES = CONFIG.catalog.messages
SPAN = (AS_OF - 101 * DAY, AS_OF - 99 * DAY)
GOING = "delete:consumer_default"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with server_with("outsiders", max_prepared_transactions="5") as running:
        create_schemas(running.conninfo())
        yield running.conninfo()


@pytest.fixture
def bench(server: str) -> Iterator[Bench]:
    made = Bench(server)
    yield made
    made.sql("TRUNCATE app.messages, lifecycle.legal_holds, lifecycle.physical_erasure")
    for age in (101, 100):
        made.sql(f"DROP TABLE IF EXISTS {made.leaf(age)}")
    made.close()


@contextmanager
def refusing(bench: Bench, event: str, code: str) -> Iterator[None]:
    """The company's own rule, by an event trigger that raises."""
    bench.sql(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'ask the administrators' USING ERRCODE = '{code}'; END $$"
    )
    bench.sql(f"CREATE EVENT TRIGGER no_ddl ON {event} EXECUTE FUNCTION public.refuse()")
    try:
        yield
    finally:
        bench.sql("DROP EVENT TRIGGER no_ddl")
        bench.sql("DROP FUNCTION public.refuse()")


@contextmanager
def prepared(bench: Bench, statement: str) -> Iterator[None]:
    """A transaction that somebody's coordinator prepared and forgot."""
    with psycopg.connect(bench.conninfo) as conn:
        conn.execute(statement.encode())
        conn.execute("PREPARE TRANSACTION 'order 66'")
    try:
        yield
    finally:
        bench.sql("ROLLBACK PREPARED 'order 66'")


def day(bench: Bench, kept: int, age: int = 101) -> None:
    bench.day(age)
    for message in bench.write(age, 5)[:kept]:
        bench.hold("message", message)


@pytest.mark.parametrize("kept", [1, 0])
@pytest.mark.parametrize(
    ("event", "code"),
    [
        ("sql_drop", "P0001"),
        ("ddl_command_start WHEN tag IN ('DROP TABLE')", "42501"),
        ("ddl_command_end", "55000"),
        ("ddl_command_end WHEN tag IN ('ALTER TABLE')", "55000"),
    ],
)
def test_rows_go_one_by_one_where_an_event_trigger_refuses(
    bench: Bench, caplog: pytest.LogCaptureFixture, event: str, code: str, kept: int
) -> None:
    """It is seen at its refusal only: most event triggers write down what happens, and refuse nothing."""
    day(bench, kept)
    before = bench.value("SELECT %s::regclass::oid", bench.leaf(101))
    with refusing(bench, event, code):
        assert bench.expire(101)[GOING]["records"] == 5 - kept
    assert len(bench.records(101)) == kept
    assert (
        bench.value(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'lifecycle' AND c.relname LIKE 'messages_beta%%'"
        )
        == 0
    ), "a clone was left"
    after = bench.value("SELECT to_regclass(%s)::oid", bench.leaf(101))
    if "ALTER TABLE" in event and not kept:
        assert after is None, "nothing had to be altered"
    else:
        assert after == before
        assert "event trigger no_ddl, by which it seems: ask the administrators; its rows are taken out" in caplog.text


def test_housekeeping_that_an_event_trigger_refuses_is_left_and_named(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for age in (101, 100):
        day(bench, 0, age)
    with refusing(bench, "ddl_command_end", "55000"), bench.connect() as conn:
        parts = [leaf for leaf in partitions_of(conn, MESSAGES, TIER, within=SPAN) if not leaf.default]
        with pytest.raises(NotSwappableError, match="event trigger no_ddl"):
            merge(conn, MESSAGES, TIER, parts, SPAN, "messages_beta_two")
        assert create_ahead(conn, MESSAGES, TIER, AS_OF) == 0
        assert "is not made: event trigger no_ddl" in caplog.text
        conn.execute(f"DELETE FROM {bench.leaf(101)}".encode())
        with pytest.raises(NotSwappableError, match="event trigger no_ddl"):
            drop_if_empty(conn, Partition("app", parts[0].name, parts[0].parent, *SPAN, False, "app"))
    assert (len(bench.records(101)), len(bench.records(100))) == (0, 5)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE app.messages SET body = 'other' WHERE tier = 'beta'",
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES ('message', 'x', 'y', 'z')",
    ],
)
def test_a_prepared_transaction_in_the_way_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """It holds its locks without a session; nobody finds it among those, and it survives a restart."""
    monkeypatch.setattr(gate, "LOCK_BUDGET_SECONDS", 0.2)
    day(bench, 1)
    with prepared(bench, statement):
        with pytest.raises(
            TablesBusyError, match=r"prepared transaction 'order 66' of postgres since 20.* UTC"
        ) as caught:
            bench.expire(101)
        assert isinstance(caught.value, psycopg.errors.LockNotAvailable), "a task tries again"
        assert len(bench.records(101)) == 5
    assert bench.expire(101)[GOING]["records"] == 4


def test_a_session_in_the_way_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LOCK_BUDGET_SECONDS", 0.2)
    day(bench, 1)
    with psycopg.connect(bench.conninfo) as other:
        other.execute("UPDATE app.messages SET body = 'other' WHERE tier = 'beta'")
        told = rf"session {other.info.backend_pid} of postgres \(idle in transaction\) since 20"
        with pytest.raises(TablesBusyError, match=told):
            bench.expire(101)


def test_nothing_is_called_erased_while_a_prepared_transaction_may_see_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifecycle.stores.postgres.reclaim.PATIENCE_SECONDS", 0.1)
    day(bench, 0)
    table = sql.Identifier("app", bench.leaf(101).split(".")[1])
    with bench.connect() as conn:
        with prepared(bench, "CREATE TABLE public.elsewhere ()"):
            conn.execute(f"DELETE FROM {bench.leaf(101)}".encode())
            assert not reclaim(conn, 1, "unit", [table])
            assert reclaim_pending(conn) == 1
        assert reclaim_pending(conn) == 0


@contextmanager
def keeping(bench: Bench, table: str, event: str, body: str) -> Iterator[None]:
    """The application's own idea of a deletion."""
    bench.sql(f"CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    bench.sql(f"CREATE TRIGGER soft BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION public.keep()")
    try:
        yield
    finally:
        bench.sql(f"DROP TRIGGER soft ON {table}")
        bench.sql("DROP FUNCTION public.keep()")


def test_messages_that_a_trigger_keeps_are_not_recorded_as_gone(bench: Bench) -> None:
    """Promise 5. A "soft delete" returns NULL, and PostgreSQL says no more than that it deleted nothing."""
    day(bench, 4)
    named = pytest.raises(DeletionSuppressedError, match=r"beta_20260723: 1 row\(s\) are as .* by trigger soft")
    with keeping(bench, "app.messages", "DELETE", "RETURN NULL;"), named:
        bench.expire(101)
    assert bench.sql("SELECT status, progress FROM lifecycle.plan_units ORDER BY run_id DESC LIMIT 1") == [
        ("failed", {})
    ]
    assert bench.expire(101)[GOING]["records"] == 1


def test_messages_that_a_rule_keeps_are_not_recorded_as_gone(bench: Bench) -> None:
    day(bench, 4)
    bench.sql(f"CREATE RULE stay AS ON DELETE TO {bench.leaf(101)} DO INSTEAD NOTHING")
    with pytest.raises(DeletionSuppressedError, match="by rule stay"):
        bench.expire(101)
    bench.sql(f"DROP RULE stay ON {bench.leaf(101)}")
    assert bench.expire(101)[GOING]["records"] == 1


def expire_unit(bench: Bench, unit: str) -> int:
    """A unit of ordinary rows, planned and carried out. How many records it says are gone."""
    with bench.connect() as conn:
        hashes = (CONFIG.policy_hash, CONFIG.catalog_hash)
        run = runs.begin(
            conn, scope=RECORDS_SCOPE, as_of=AS_OF, run_key=f"test/{uuid4()}", hashes=hashes, dry_run=False, owner=None
        )
        freeze(conn, run.run_id, [Unit(unit, unit, Method.RECORDS, (Tally(f"delete:{unit}", 1),))])
        runs.finish(conn, run.run_id, "succeeded")
        act = expire_accounts if unit == "accounts" else expire_records
        done = act(RunContext(conn, cast(Any, None), CONFIG.policy, CONFIG.catalog, run), unit)
    return sum(counts["records"] for counts in done.values())


@pytest.fixture
def scores(bench: Bench) -> Iterator[Bench]:
    bench.sql(
        "INSERT INTO app.safety_scores SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'consumer', 'c',"
        " 0.5, timestamptz '2019-01-01Z' + n * interval '1 minute' FROM generate_series(1, 20) n"
    )
    yield bench
    bench.sql("TRUNCATE app.safety_scores")


@pytest.mark.parametrize("keeps", ["RETURN NULL;", "RETURN CASE WHEN OLD.score_id::text < '8' THEN OLD END;"])
def test_rows_that_a_trigger_keeps_are_not_passed_over_in_silence(scores: Bench, keeps: str) -> None:
    """All of them, or some: a unit that ends well while due rows stay would be found out at the deadline only."""
    scores.sql(
        "UPDATE app.safety_scores SET score_id = ('9' || substr(score_id::text, 2))::uuid WHERE score > 0.4"
        " AND score_id IN (SELECT score_id FROM app.safety_scores LIMIT 2)"
    )
    named = pytest.raises(DeletionSuppressedError, match=r"safety_scores: .* by trigger soft")
    with keeping(scores, "app.safety_scores", "DELETE", keeps), named:
        expire_unit(scores, "safety_scores")
    assert scores.value("SELECT count(*) FROM app.safety_scores") == 20, "the batch is undone"
    assert expire_unit(scores, "safety_scores") == 20


@pytest.fixture
def inactive(bench: Bench) -> Iterator[Bench]:
    bench.sql(
        "INSERT INTO app.accounts (account_id, tier, email, display_name, created_at, last_interaction_at)"
        " SELECT gen_random_uuid(), 'consumer', n || '@example.org', 'n', '2015-01-01Z', '2015-01-01Z'"
        " FROM generate_series(1, 20) n"
    )
    yield bench
    bench.sql("TRUNCATE app.accounts CASCADE")


def test_content_that_a_trigger_gives_back_is_not_recorded_as_emptied(inactive: Bench) -> None:
    """PostgreSQL counts the row as updated, and it is; only that nothing of it has changed."""
    named = pytest.raises(DeletionSuppressedError, match=r"accounts: 20 .* by trigger soft")
    with keeping(inactive, "app.accounts", "UPDATE", "NEW.email := OLD.email; RETURN NEW;"), named:
        expire_unit(inactive, "accounts")
    assert inactive.value("SELECT count(email) FROM app.accounts") == 20
    assert expire_unit(inactive, "accounts") >= 20
    assert inactive.value("SELECT count(email) FROM app.accounts") == 0


EVENTS = Name("app", "events")


@pytest.fixture
def events(bench: Bench) -> Iterator[Connection]:
    with connected(bench.conninfo) as conn:
        plain_table(conn, EVENTS, 60)
        yield conn
        conn.execute("DROP TABLE IF EXISTS app.events, app.events_unpartitioned CASCADE")
        conn.execute("DELETE FROM lifecycle.partitionings")


def test_partitioning_a_table_in_use_ends_where_an_event_trigger_refuses_and_goes_on_after(
    bench: Bench, events: Connection
) -> None:
    found = begin(work_on(events), layout_of(EVENTS, interval=Interval.MONTH))
    found = advance(work_on(events), found, upto=Phase.VERIFIED)
    named = pytest.raises(ForbiddenError, match="event trigger no_ddl, by which it seems: ask the administrators")
    with refusing(bench, "ddl_command_end", "42501"), named:
        advance(work_on(events), found)
    events.execute("UPDATE app.events SET body = 'meanwhile' WHERE id = 7")
    left = open_partitioning(events, EVENTS)
    assert left is not None and left.phase is Phase.VERIFIED
    assert advance(work_on(events), left).phase is Phase.SWITCHED
    assert bench.value("SELECT body FROM app.events WHERE id = 7") == "meanwhile"


def test_partitioning_a_table_in_use_names_the_prepared_transaction_that_it_waits_for(
    bench: Bench, events: Connection
) -> None:
    """What it wrote is not in the copy before it ends: the mirror comes after it, and the copy after the mirror."""
    hasty = work_on(events, patience=Patience(lock_ms=100, seconds=0.3))
    found = begin(hasty, layout_of(EVENTS, interval=Interval.MONTH))
    named = pytest.raises(TableBusyError, match=r"prepared transaction 'order 66' of postgres since 20")
    with prepared(bench, "UPDATE app.events SET body = 'never' WHERE id = 7"), named:
        advance(hasty, found)
    left = open_partitioning(events, EVENTS)
    assert left is not None and left.phase is Phase.BUILT
    assert advance(work_on(events), left).phase is Phase.SWITCHED
    assert bench.value("SELECT body FROM app.events WHERE id = 7") == "body 7"
