"""Others in the same database who stand in the way: event triggers that refuse DDL, transactions without a session.

Hard cases 12 and 18: what cannot be replaced goes row by row, nothing is half done, and who was in the way is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from lifecycle.dispositions import gate
from lifecycle.stores.postgres.holding import TablesBusyError
from lifecycle.stores.postgres.merge import drop_if_empty, merge
from lifecycle.stores.postgres.partitions import create_ahead
from lifecycle.stores.postgres.reclaim import reclaim, reclaim_pending
from lifecycle.stores.postgres.refused import NotSwappableError
from lifecycle.stores.postgres.tree import Partition, partitions_of
from reference_store.create import create_schemas
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
