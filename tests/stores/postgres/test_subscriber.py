"""A real subscriber beside everything that is done to partitions: it goes on, and has what stays (case 18)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from lifecycle.stores.postgres.merge import merge
from lifecycle.stores.postgres.online.convert import advance
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.layout import Interval
from lifecycle.stores.postgres.online.refusals import CannotPartitionError
from lifecycle.stores.postgres.online.state import Phase
from lifecycle.stores.postgres.partitions import create_ahead, drain_default
from lifecycle.stores.postgres.physical import facts
from lifecycle.stores.postgres.swap import NotSwappableError
from lifecycle.stores.postgres.tree import partitions_of
from reference_store.create import create_schemas
from support.online import begin, connected, layout_of, plain_table, work_on
from support.servers import server_with
from support.units import AS_OF, CONFIG, DAY, TIER, Bench

MESSAGES = CONFIG.catalog.messages
DAYS = (120, 101, 100)
MONTH = (AS_OF - 101 * DAY, AS_OF - 99 * DAY)
FAR = 200
PATIENCE_SECONDS = 20.0


@dataclass
class Pair:
    """Two databases, of which one can subscribe to the other."""

    product: Bench
    warehouse: Bench

    @contextmanager
    def subscribed(self, publication: str) -> Iterator[None]:
        """What is published, as the end of a CREATE PUBLICATION, arrives on the other side until the block ends.

        Version 14 publishes no schema; there all tables are.
        """
        if self.version < 150000:
            publication = publication.replace("TABLES IN SCHEMA app", "ALL TABLES")
        self.product.sql(f"CREATE PUBLICATION told {publication}")
        # A slot that CREATE SUBSCRIPTION makes on its own server waits for that very transaction to end.
        self.product.sql("SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')")
        self.warehouse.sql(
            f"CREATE SUBSCRIPTION warehouse CONNECTION '{self.product.conninfo}' PUBLICATION told"
            " WITH (create_slot = false, copy_data = false)"
        )
        try:
            yield
        finally:
            self.warehouse.sql("ALTER SUBSCRIPTION warehouse DISABLE")
            self.warehouse.sql("ALTER SUBSCRIPTION warehouse SET (slot_name = NONE)")
            self.warehouse.sql("DROP SUBSCRIPTION warehouse")
            self._until("SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'warehouse'")
            self.product.sql("SELECT pg_drop_replication_slot('warehouse')")
            self.product.sql("DROP PUBLICATION told")
            for side in (self.product, self.warehouse):
                _empty(side)

    @property
    def version(self) -> int:
        return int(self.product.value("SELECT current_setting('server_version_num')::int"))

    def arrived(self) -> bool:
        """Whether the subscriber gets as far as the publisher is now. False: it has stopped."""
        here = self.product.value("SELECT pg_current_wal_insert_lsn()")
        return self._until(
            "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'warehouse'",
            here,
            "SELECT apply_error_count = 0 FROM pg_stat_subscription_stats WHERE subname = 'warehouse'"
            if self.version >= 150000
            else "SELECT true",
        )

    def _until(self, query: str, *params: object) -> bool:
        given, healthy = (params[:1], params[1]) if len(params) > 1 else (params, None)
        ends = time.monotonic() + PATIENCE_SECONDS
        while not self.product.value(query, *given):
            if time.monotonic() > ends or (healthy is not None and not self.warehouse.value(str(healthy))):
                return False
            time.sleep(0.02)
        return True


def _empty(side: Bench) -> None:
    side.sql("TRUNCATE app.messages, app.message_tools, lifecycle.legal_holds, lifecycle.runs CASCADE")
    for (leaf,) in side.sql(
        "SELECT c.oid::regclass::text FROM pg_partition_tree('app.messages_beta') t"
        " JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'"
    ):
        side.sql(f"DROP TABLE {leaf}")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A server of its own: logical decoding takes a setting that only a start can make."""
    with server_with("subscriber", wal_level="logical") as server:
        sides = []
        with psycopg.connect(server.conninfo(), autocommit=True) as conn:
            for name in ("product", "warehouse"):
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                create_schemas(server.conninfo(name))
                sides.append(Bench(server.conninfo(name)))
        yield Pair(*sides)
        for side in sides:
            side.close()


def bodies(side: Bench, age: int) -> list[str]:
    start = AS_OF - age * DAY
    query = "SELECT body FROM app.messages WHERE tier = %s AND received_at >= %s AND received_at < %s ORDER BY 1"
    return [body for (body,) in side.sql(query, TIER.value, start, start + DAY)]


def write_days(pair: Pair) -> None:
    """On both sides the partitions, on one the rows: of each day ten, of which one is held."""
    for age in DAYS:
        pair.product.day(age)
        pair.warehouse.day(age)
        held = pair.product.write(age, 10)[0]
        pair.product.hold("message", held)


def drained(pair: Pair) -> int:
    with pair.product.connect() as conn:
        return drain_default(conn, MESSAGES, TIER)


def merged(pair: Pair) -> int | None:
    with pair.product.connect() as conn:
        parts = [leaf for leaf in partitions_of(conn, MESSAGES, TIER, within=MONTH) if not leaf.default]
        assert len(parts) == 2
        return merge(conn, MESSAGES, TIER, parts, MONTH, "messages_beta_202607")


def touch(pair: Pair, body: str) -> None:
    pair.product.sql("UPDATE app.messages SET body = %s", body)


@pytest.mark.parametrize(
    "publication", ["FOR TABLE app.messages, app.message_tools", "FOR TABLES IN SCHEMA app", "FOR ALL TABLES"]
)
def test_a_subscriber_through_the_root_has_what_stays_and_keeps_what_was_dropped(pair: Pair, publication: str) -> None:
    """Swap, rows one by one, a day made ahead, a merge. What goes with a partition is told to nobody."""
    with pair.subscribed(f"{publication} WITH (publish_via_partition_root = true)"):
        write_days(pair)
        assert pair.product.expire(101)["delete:consumer_default"]["records"] == 9, "by exchange"
        for message in pair.product.records(100):
            pair.product.hold("message", message)
        pair.product.write(100, 2)
        assert pair.product.expire(100)["delete:consumer_default"]["records"] == 2, "one by one"
        with pair.product.connect() as conn:
            assert create_ahead(conn, MESSAGES, TIER, AS_OF) > 0
        pair.product.write(0, 3)
        assert merged(pair) == 11
        touch(pair, "later")
        assert pair.arrived(), "replication has stopped"
        assert bodies(pair.warehouse, 100) == ["later"] * 10, "deletions are told of"
        assert bodies(pair.warehouse, 101) == ["later"] + ["words"] * 9, "a partition that is dropped is not"
        assert (len(bodies(pair.product, 101)), len(bodies(pair.warehouse, 0))) == (1, 3)


def test_where_partitions_are_published_by_name_new_names_are_said_and_none_is_made_by_a_merge(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscriber that is told of a row of a table that it does not have stops there, for good."""
    for age in DAYS:
        pair.product.day(age)
        pair.warehouse.day(age)
    with pair.subscribed("FOR TABLE app.messages"):
        write_days(pair)
        assert pair.product.expire(101)["delete:consumer_default"]["records"] == 9
        with pytest.raises(
            NotSwappableError, match=r"publication told, whose subscribers have no table of its new name"
        ):
            merged(pair)
        touch(pair, "later")
        assert pair.arrived(), "replication has stopped"
        assert bodies(pair.warehouse, 101) == ["later"] + ["words"] * 9
        with pair.product.connect() as conn:
            made = create_ahead(conn, MESSAGES, TIER, AS_OF)
        last = AS_OF + timedelta(days=made - 1)
        assert f"Create the {made} new one(s) there, up to app.messages_beta_{last:%Y%m%d}," in caplog.text
        assert "publication told tells subscribers" in caplog.text


def test_rows_leave_the_default_partition_unheard_where_subscribers_are_told_of_new_rows_only(pair: Pair) -> None:
    """They have them. Of deletions they are not told, so these rows can be moved."""
    with pair.subscribed("FOR TABLES IN SCHEMA app WITH (publish = 'insert', publish_via_partition_root = true)"):
        pair.product.write(FAR, 3)
        assert pair.product.value("SELECT count(*) FROM app.messages_beta_default") == 3
        assert pair.arrived()
        assert drained(pair) == 3
        pair.product.write(FAR, 1)
        assert pair.arrived(), "replication has stopped"
        assert (len(bodies(pair.product, FAR)), len(bodies(pair.warehouse, FAR))) == (4, 4)
        assert (
            pair.product.value(
                "SELECT c.relpersistence::text FROM pg_class c WHERE c.oid = %s::regclass", pair.product.leaf(FAR)
            )
            == "p"
        )


def test_rows_stay_in_the_default_partition_where_subscribers_would_take_the_move_for_a_deletion(pair: Pair) -> None:
    with pair.subscribed("FOR TABLE app.messages WITH (publish_via_partition_root = true)"):
        pair.product.write(FAR, 3)
        assert drained(pair) == 0
        assert pair.arrived()
        assert (len(bodies(pair.product, FAR)), len(bodies(pair.warehouse, FAR))) == (3, 3)


@pytest.mark.parametrize("kept", [1, 0])
def test_a_partition_that_a_subscription_fills_stays_the_table_that_it_is(pair: Pair, kept: int) -> None:
    """A run on the subscriber's own side. It knows its tables by oid: in another's place rows would be passed over."""
    for side in (pair.product, pair.warehouse):
        side.day(101)
    with pair.subscribed("FOR TABLE app.messages"):
        held = pair.product.write(101, 10)[:kept]
        for message in held:
            pair.warehouse.hold("message", message)
        assert pair.arrived()
        before = pair.warehouse.value("SELECT %s::regclass::oid", pair.warehouse.leaf(101))
        assert pair.warehouse.expire(101)["delete:consumer_default"]["records"] == 10 - kept
        assert pair.warehouse.records(101) == set(held)
        assert pair.warehouse.value("SELECT %s::regclass::oid", pair.warehouse.leaf(101)) == before
        pair.product.write(101, 2)
        assert pair.arrived(), "replication has stopped"
        assert len(pair.warehouse.records(101)) == kept + 2, "rows were passed over"


def test_a_slot_that_lags_holds_the_log_and_no_rows_until_the_server_gives_it_up(pair: Pair) -> None:
    """Case 18: what is told of a logical slot, on the server's own word; of one that was invalidated, nothing."""
    pair.product.sql("SELECT pg_create_logical_replication_slot('lagging', 'pgoutput')")
    try:
        with pair.product.connect() as conn:
            (slot,) = facts(conn).slots or ()
            assert (slot.name, slot.active, slot.holds_rows, slot.ends) == ("lagging", False, False, None)
            assert slot.restart is not None
            conn.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
            if conn.info.server_version >= 180000:
                conn.execute("ALTER SYSTEM SET idle_replication_slot_timeout = '1h'")
            conn.execute("SELECT pg_reload_conf()")
            with pair.product.connect() as later:
                (slot,) = facts(later).slots or ()
                assert (slot.ends is not None) == (conn.info.server_version >= 180000)
            for _ in range(3):
                conn.execute("SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()")
            conn.execute("CHECKPOINT")
            (slot,) = facts(conn).slots or ()
            assert (slot.name, slot.restart, slot.holds_rows) == ("lagging", None, False)
    finally:
        pair.product.sql("SELECT pg_drop_replication_slot('lagging')")
        pair.product.sql("ALTER SYSTEM RESET ALL")
        pair.product.sql("ALTER SYSTEM SET wal_level = logical")
        pair.product.sql("SELECT pg_reload_conf()")


EVENTS = Name("app", "events")


@contextmanager
def two_sides_of_events(pair: Pair, rows: int) -> Iterator[None]:
    with connected(pair.product.conninfo) as conn:
        plain_table(conn, EVENTS, rows)
    with connected(pair.warehouse.conninfo) as conn:
        plain_table(conn, EVENTS, rows)
    try:
        yield
    finally:
        for side in (pair.product, pair.warehouse):
            side.sql("DROP TABLE IF EXISTS app.events, app.events_unpartitioned CASCADE")
            side.sql("DELETE FROM lifecycle.partitionings")


def test_a_subscriber_goes_on_while_a_table_is_partitioned_and_after(pair: Pair) -> None:
    """It is told of what the application writes, before, between and after, and of nothing that is copied."""
    publication = "FOR TABLE app.events WITH (publish_via_partition_root = true)"
    with two_sides_of_events(pair, 50), pair.subscribed(publication), connected(pair.product.conninfo) as conn:
        found = begin(work_on(conn), layout_of(EVENTS, interval=Interval.MONTH))
        found = advance(work_on(conn), found, upto=Phase.COPIED)
        conn.execute("UPDATE app.events SET body = 'between' WHERE id = 7; DELETE FROM app.events WHERE id = 8")
        assert advance(work_on(conn), found).phase is Phase.SWITCHED
        conn.execute("UPDATE app.events SET body = 'after' WHERE id = 9; DELETE FROM app.events WHERE id = 10")
        conn.execute("INSERT INTO app.events VALUES (1000, 'beta', '2026-06-01', 'new')")
        assert pair.arrived(), "replication has stopped"
        shown = "SELECT id, tier, at, body FROM app.events ORDER BY 1"
        assert pair.warehouse.sql(shown) == conn.execute(shown.encode()).fetchall()


@pytest.mark.parametrize("publication", ["FOR TABLES IN SCHEMA app", "FOR ALL TABLES"])
def test_a_table_that_is_published_with_others_is_not_partitioned(pair: Pair, publication: str) -> None:
    """The tree beside it would be published as well, and subscribers have no table of its name."""
    publication += " WITH (publish_via_partition_root = true)"
    with two_sides_of_events(pair, 50), pair.subscribed(publication), connected(pair.product.conninfo) as conn:
        with pytest.raises(CannotPartitionError, match="publication told publishes it with all tables"):
            begin(work_on(conn), layout_of(EVENTS, interval=Interval.MONTH))
        conn.execute("UPDATE app.events SET body = 'after' WHERE id = 9")
        assert pair.arrived(), "replication has stopped"
