"""Foreign keys in both directions: what nobody configured is never left to fire, what is configured goes first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from uuid import UUID, uuid4

import pytest

from lifecycle.demo.servers import Postgres
from lifecycle.dispositions.expire import expire
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.quarantine import quarantine_unit
from lifecycle.planning.units import Method, Tally, Unit
from lifecycle.stores.postgres.references import ReferencedError
from support.catalogue import scratch_database
from support.units import AS_OF, DAY, Bench

DUE = "delete:consumer_default"
AGES = count(110)
KEY = "FOREIGN KEY (tier, received_at, message_id) REFERENCES app.messages (tier, received_at, message_id)"


@pytest.fixture(scope="module")
def shared(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        bench = Bench(conninfo)
        yield bench
        bench.close()


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """One database; what a test adds to its definition is dropped, and so are its holds. Each test has its own days."""
    yield shared
    shared.sql("DROP TABLE IF EXISTS app.stranger CASCADE")
    shared.sql("DELETE FROM lifecycle.legal_holds")
    shared.sql(
        "ALTER TABLE app.message_tools DROP CONSTRAINT IF EXISTS tools_message, DROP COLUMN IF EXISTS tier,"
        " DROP COLUMN IF EXISTS received_at"
    )


def stranger(bench: Bench, action: str, of: str = "app.messages") -> None:
    """A table that no dataset file names, which refers to messages."""
    bench.sql(
        "CREATE TABLE app.stranger (note text, tier text, received_at timestamptz, message_id uuid,"
        f" CONSTRAINT stranger_message {KEY.replace('app.messages', of)} ON DELETE {action})"
    )


def point(bench: Bench, table: str, column: str, records: list[UUID]) -> None:
    """Let rows of a table refer to messages."""
    bench.sql(
        f"INSERT INTO {table} ({column}, tier, received_at, message_id)"
        " SELECT 'n' || row_number() OVER (), tier, received_at, message_id FROM app.messages"
        " WHERE message_id = ANY(%s)",
        records,
    )


def tools(bench: Bench, action: str = "NO ACTION") -> None:
    """The child that the dataset file names, with a foreign key."""
    bench.sql("ALTER TABLE app.message_tools ADD tier text, ADD received_at timestamptz")
    bench.sql(f"ALTER TABLE app.message_tools ADD CONSTRAINT tools_message {KEY} ON DELETE {action}")


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION"])
@pytest.mark.parametrize("way", ["swap", "rows"])
def test_what_a_table_outside_the_configuration_refers_to_stays(bench: Bench, action: str, way: str) -> None:
    """Its name, and that of the constraint, are in the error with the remedy; none of its rows is touched."""
    age = next(AGES)
    bench.day(age)
    stranger(bench, action)
    account = uuid4()
    old = bench.write(age, 2) + bench.write(age, 3 if way == "rows" else 0, account=account)
    if way == "rows":
        bench.hold("account", account)
    before = bench.records(age)
    point(bench, "app.stranger", "note", old)
    with bench.connect() as conn:
        context, (unit,) = bench.plan(conn, age)
        with pytest.raises(ReferencedError) as caught:
            expire(context, unit)
    said = str(caught.value)
    assert "constraint stranger_message of table app.stranger" in said
    assert "children" in said and "ALTER TABLE app.stranger DROP CONSTRAINT" in said
    assert not any(str(record) in said for record in before)
    assert bench.records(age) == before
    assert bench.value("SELECT count(*) FROM app.stranger WHERE message_id IS NOT NULL") == len(old)
    assert bench.ledger(unit) == 0
    assert bench.value("SELECT status FROM lifecycle.plan_units ORDER BY run_id DESC LIMIT 1") == "failed"
    bench.sql("DROP TABLE app.stranger")
    bench.expire(age)
    assert len(bench.records(age)) == (3 if way == "rows" else 0)
    bench.sql("DELETE FROM app.messages")


def test_a_reference_to_one_partition_stops_that_one_and_no_other(bench: Bench) -> None:
    for age in (101, 102):
        bench.day(age)
        bench.write(age)
    stranger(bench, "CASCADE", bench.leaf(101))
    with bench.connect() as conn:
        context, units = bench.plan(conn, 101, 102)
        failed = []
        for unit in units:
            try:
                expire(context, unit)
            except ReferencedError as error:
                failed.append(error.partition)
    assert [unit.rsplit("/", 1)[1] for unit in failed] == [(AS_OF - 101 * DAY).date().isoformat()]
    assert (len(bench.records(101)), len(bench.records(102))) == (1, 0)


def test_a_foreign_key_that_comes_after_the_plan_is_seen_in_the_transaction_that_destroys(bench: Bench) -> None:
    age = 103
    bench.day(age)
    old = bench.write(age)
    with bench.connect() as conn:
        context, (unit,) = bench.plan(conn, age)
        stranger(bench, "CASCADE")
        point(bench, "app.stranger", "note", old)
        with pytest.raises(ReferencedError):
            expire(context, unit)
    assert bench.value("SELECT count(*) FROM app.stranger") == 1


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE", "NO ACTION DEFERRABLE INITIALLY DEFERRED"])
def test_a_configured_child_goes_first_and_survivors_keep_theirs(bench: Bench, action: str) -> None:
    """A check that is deferred to the end of the transaction, too, sees the survivors where they are by then."""
    age, account = next(AGES), uuid4()
    bench.day(age)
    tools(bench, action)
    going, staying = bench.write(age, 5), bench.write(age, 2, account=account)
    bench.hold("account", account)
    point(bench, "app.message_tools", "tool_name", going + staying)
    oid = bench.value(f"SELECT '{bench.leaf(age)}'::regclass::oid")
    done = bench.expire(age)
    assert bench.value(f"SELECT '{bench.leaf(age)}'::regclass::oid") != oid, "it was not swapped"
    assert done[DUE] == {"records": 5, "children": 5}
    assert bench.records(age) == set(staying)
    assert {row[0] for row in bench.sql("SELECT message_id FROM app.message_tools")} == set(staying)
    with pytest.raises(Exception, match="tools_message"):
        bench.sql("UPDATE app.message_tools SET message_id = gen_random_uuid()")
    bench.sql("DELETE FROM app.message_tools")


def test_messages_that_refer_to_messages_are_refused_by_name(bench: Bench) -> None:
    """An answer that refers to its prompt: which of them falls due first is nothing that a partition could know."""
    age = next(AGES)
    bench.day(age)
    old = bench.write(age, 2)
    bench.sql("ALTER TABLE app.messages ADD parent uuid")
    bench.sql(
        "ALTER TABLE app.messages ADD CONSTRAINT answers FOREIGN KEY (tier, received_at, parent)"
        " REFERENCES app.messages (tier, received_at, message_id) ON DELETE CASCADE"
    )
    try:
        with bench.connect() as conn:
            context, (unit,) = bench.plan(conn, age)
            with pytest.raises(ReferencedError, match=r"constraint answers of table app\.messages ON DELETE CASCADE"):
                expire(context, unit)
        assert bench.records(age) == set(old)
    finally:
        bench.sql("ALTER TABLE app.messages DROP COLUMN parent")
    assert bench.expire(age)[DUE]["records"] == 2


def test_a_child_that_would_notice_being_carried_has_its_rows_left_in_place(bench: Bench) -> None:
    """A trigger on the child must not fire for rows that stay; so what goes is taken out one by one."""
    age, account = 106, uuid4()
    bench.day(age)
    tools(bench)
    going, staying = bench.write(age, 5), bench.write(age, 2, account=account)
    bench.hold("account", account)
    point(bench, "app.message_tools", "tool_name", going + staying)
    bench.sql("CREATE TABLE app.noticed (name text)")
    bench.sql(
        "CREATE FUNCTION app.notice() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO app.noticed VALUES (OLD.tool_name); RETURN OLD; END $$"
    )
    bench.sql("CREATE TRIGGER notices BEFORE DELETE ON app.message_tools FOR EACH ROW EXECUTE FUNCTION app.notice()")
    try:
        done = bench.expire(age)
        assert done[DUE] == {"records": 5, "children": 5}
        assert bench.value("SELECT count(*) FROM app.noticed") == 5
        assert bench.records(age) == set(staying)
    finally:
        bench.sql("DROP FUNCTION app.notice CASCADE")
        bench.sql("DROP TABLE app.noticed")
        bench.sql("DELETE FROM app.message_tools")


def test_a_hold_on_a_child_with_a_foreign_key_keeps_what_it_refers_to(bench: Bench) -> None:
    """A cascade would destroy held rows behind everybody's back (case 4)."""
    age = 107
    bench.day(age)
    tools(bench, "CASCADE")
    old = bench.write(age, 3)
    point(bench, "app.message_tools", "tool_name", old[:1])
    bench.hold("dataset", "app.message_tools")
    with bench.connect() as conn:
        context, (unit,) = bench.plan(conn, age)
        with pytest.raises(ReferencedError, match=r"A hold keeps the rows of app\.message_tools"):
            expire(context, unit)
    assert bench.value("SELECT count(*) FROM app.message_tools") == 1
    bench.sql("DELETE FROM lifecycle.legal_holds")
    assert bench.expire(age)[DUE]["records"] == 3


def test_a_view_of_a_partition_costs_time_and_nothing_else(bench: Bench) -> None:
    """It cannot be dropped then, so its rows go one by one."""
    age = 108
    bench.day(age)
    bench.write(age, 3)
    bench.sql(f"CREATE VIEW app.of_one_day AS SELECT message_id FROM {bench.leaf(age)}")
    try:
        assert bench.expire(age)[DUE]["records"] == 3
        assert bench.value("SELECT count(*) FROM app.of_one_day") == 0
    finally:
        bench.sql("DROP VIEW app.of_one_day")


def test_nothing_moves_into_quarantine_from_under_a_reference(bench: Bench) -> None:
    age = 3
    day = bench.day(age)
    stranger(bench, "CASCADE")
    flagged = bench.write(age)
    point(bench, "app.stranger", "note", flagged)
    tallies = (Tally("quarantine:safety_flagged", 1),)
    unit = Unit(f"quarantine/beta/{day.date()}", "messages", Method.QUARANTINE, tallies, "beta", day.date())
    with bench.connect() as conn:
        context, _ = bench.plan(conn, age)
        freeze(conn, context.run.run_id, [unit])
        with pytest.raises(ReferencedError, match="stranger_message"):
            quarantine_unit(context, unit.unit)
    assert bench.value("SELECT count(*) FROM app.stranger") == 1


def test_what_a_partition_refers_to_is_still_checked_after_a_swap(bench: Bench) -> None:
    age, account = 109, uuid4()
    bench.day(age)
    bench.sql("CREATE TABLE app.stranger (account_id uuid PRIMARY KEY)")
    bench.write(age, 3)
    kept = bench.write(age, 1, account=account)
    bench.hold("account", account)
    bench.sql("INSERT INTO app.stranger SELECT DISTINCT account_id FROM app.messages")
    bench.sql("ALTER TABLE app.messages ADD CONSTRAINT whose FOREIGN KEY (account_id) REFERENCES app.stranger")
    try:
        bench.expire(age)
        assert bench.records(age) == set(kept)
        with pytest.raises(Exception, match="whose"):
            bench.sql("DELETE FROM app.stranger WHERE account_id = %s", account)
    finally:
        bench.sql("ALTER TABLE app.messages DROP CONSTRAINT whose")
