"""Partitions are found by the catalogue: whatever they are called, however deep they lie, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from lifecycle.catalog.models import Catalog, Messages
from lifecycle.demo.servers import Postgres
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.partitions import NameTakenError, create_ahead, drain_default
from lifecycle.stores.postgres.tree import (
    UnsupportedPartitioningError,
    check_tree,
    partitions_of,
    tier_tree,
    unclassified_label,
    unclassified_partitions,
)
from support.catalogue import scratch_database

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def messages(catalog: Catalog) -> Messages:
    return catalog.messages


@pytest.fixture(scope="module")
def database(postgres_server: Postgres) -> Iterator[Connection]:
    with scratch_database(postgres_server) as conninfo, psycopg.connect(conninfo, autocommit=True) as conn:
        yield conn


@pytest.fixture
def conn(database: Connection) -> Iterator[Connection]:
    """The reference store as it is created; what a test changes is rolled back."""
    with database.transaction(force_rollback=True):
        yield database


def labels(conn: Connection, messages: Messages, tier: Tier = Tier.BETA) -> list[tuple[str, str]]:
    return [(leaf.name, leaf.label) for leaf in partitions_of(conn, messages, tier)]


def days_of(conn: Connection, parent: str, *spans: tuple[str, str, str]) -> None:
    for name, lower, upper in spans:
        low, high = (bound if "VALUE" in bound else f"'{bound}'" for bound in (lower, upper))
        conn.execute(f"CREATE TABLE app.{name} PARTITION OF {parent} FOR VALUES FROM ({low}) TO ({high})".encode())


def write(conn: Connection, tier: str, *instants: datetime) -> None:
    for at in instants:
        conn.execute(
            "INSERT INTO app.messages (message_id, conversation_id, account_id, tier, role, received_at, body)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), %s, 'prompt', %s, 'x')",
            (tier, at),
        )


class _Catalogue:
    """What PostgreSQL answers when a partition is dropped between two looks: its bound is NULL."""

    def __init__(self) -> None:
        day = "FOR VALUES FROM ('2026-08-01 00:00:00+00') TO ('2026-08-02 00:00:00+00')"
        self.answers = [
            [(1, 0, "app", "messages", "p", None, "l", ["tier"])],
            [(2, 1, "app", "messages_beta", "p", "FOR VALUES IN ('beta')", "r", ["received_at"])],
            [
                (3, 2, "app", "dropped", "r", None, None, []),
                (4, 2, "app", "messages_beta_default", "r", "DEFAULT", None, []),
                (5, 2, "app", "messages_beta_1", "r", day, None, []),
            ],
        ]

    def execute(self, *_: object) -> Any:
        rows = self.answers.pop(0)
        return SimpleNamespace(fetchall=lambda: rows)


def test_a_partition_that_another_shard_dropped_meanwhile_is_no_default_and_no_error(messages: Messages) -> None:
    """A race that one cannot cause at will; parallel shards met it."""
    found = partitions_of(_Catalogue(), messages, Tier.BETA)  # type: ignore[arg-type]
    assert [(leaf.name, leaf.is_default) for leaf in found] == [
        ("messages_beta_1", False),
        ("messages_beta_default", True),
    ]


def test_the_tree_is_read_without_a_lock_on_any_partition(postgres_server: Postgres, messages: Messages) -> None:
    """Whoever exchanges or alters a partition keeps nobody from planning; nor does PostgreSQL open 100,000 of them."""
    with (
        scratch_database(postgres_server) as conninfo,
        psycopg.connect(conninfo) as holder,
        psycopg.connect(conninfo, autocommit=True) as conn,
    ):
        holder.execute("LOCK TABLE app.messages IN ACCESS EXCLUSIVE MODE")
        conn.execute("SET lock_timeout = '50ms'")
        check_tree(conn, messages)
        assert labels(conn, messages) == [("messages_beta_default", "default")]


def test_partitions_of_pg_partman_are_found_by_their_bounds(conn: Connection, messages: Messages) -> None:
    days_of(
        conn,
        "app.messages_beta",
        ("messages_beta_p20260101", "2026-01-01", "2026-01-02"),
        ("messages_beta_p2026_01_02", "2026-01-02", "2026-01-03"),
        ('"Another Name"', "2026-01-03", "2026-01-04"),
    )
    assert labels(conn, messages) == [
        ("messages_beta_p20260101", "2026-01-01"),
        ("messages_beta_p2026_01_02", "2026-01-02"),
        ("Another Name", "2026-01-03"),
        ("messages_beta_default", "default"),
    ]


def test_a_tier_is_known_by_its_bound_and_not_by_its_name(conn: Connection, messages: Messages) -> None:
    conn.execute(
        "ALTER TABLE app.messages_beta RENAME TO messages_x;"
        "ALTER TABLE app.messages_business RENAME TO messages_beta;"
        "ALTER TABLE app.messages_beta_default RENAME TO b_rest"
    )
    assert labels(conn, messages) == [("b_rest", "default")]
    tree = tier_tree(conn, messages, Tier.BUSINESS)
    assert tree is not None and tree.name == "messages_beta"


def test_months_that_are_divided_into_days_are_walked_to_their_leaves(conn: Connection, messages: Messages) -> None:
    conn.execute(
        "CREATE TABLE app.m1 PARTITION OF app.messages_beta FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')"
        " PARTITION BY RANGE (received_at); CREATE TABLE app.m1_rest PARTITION OF app.m1 DEFAULT"
    )
    days_of(
        conn,
        "app.m1",
        ("d1", "2026-01-01", "2026-01-02"),
        ("week", "2026-01-05", "2026-01-12"),
        ("over_the_end", "2026-01-31", "2026-02-09"),
    )
    days_of(conn, "app.messages_beta", ("m2", "2026-02-01", "2026-03-01"))
    assert labels(conn, messages) == [
        ("d1", "2026-01-01"),
        ("week", "2026-01-05..2026-01-12"),
        ("over_the_end", "2026-01-31"),  # what of it can be reached
        ("m2", "2026-02"),
        ("m1_rest", "2026-01-default"),
        ("messages_beta_default", "default"),
    ]


def test_what_a_span_may_lie_in_is_found_without_reading_the_rest_of_the_tree(
    conn: Connection, messages: Messages
) -> None:
    """What one partition costs must not depend on how many there are; defaults on the way may hold its rows too."""
    for month, after in (("2026-01", "2026-02"), ("2026-02", "2026-03")):
        name = f"app.messages_beta_{month[-2:]}"
        conn.execute(
            f"CREATE TABLE {name} PARTITION OF app.messages_beta FOR VALUES FROM ('{month}-01') TO ('{after}-01')"
            " PARTITION BY RANGE (received_at)".encode()
        )
        conn.execute(f"CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT".encode())
        days_of(
            conn,
            name,
            (f"beta_{month[-2:]}_01", f"{month}-01", f"{month}-02"),
            (f"beta_{month[-2:]}_02", f"{month}-02", f"{month}-03"),
        )
    days_of(conn, "app.messages_beta", ("beta_old", "MINVALUE", "2026-01-01"), ("beta_new", "2026-03-01", "MAXVALUE"))

    def names(lower: str, upper: str) -> list[str]:
        span = (datetime.fromisoformat(lower).replace(tzinfo=UTC), datetime.fromisoformat(upper).replace(tzinfo=UTC))
        found = partitions_of(conn, messages, Tier.BETA, within=span)
        assert found == [leaf for leaf in partitions_of(conn, messages, Tier.BETA) if leaf in found]
        return [leaf.name for leaf in found]

    beside = ["messages_beta_default"]
    assert names("2026-01-02", "2026-01-03") == ["beta_01_02", "messages_beta_01_rest", *beside]
    assert names("2026-01-01T23:00", "2026-01-02T01:00") == [
        "beta_01_01",
        "beta_01_02",
        "messages_beta_01_rest",
        *beside,
    ]
    assert names("2025-12-31", "2026-01-01") == ["beta_old", *beside]
    assert names("2027-01-01", "2028-01-01") == ["beta_new", *beside]
    assert [leaf.name for leaf in partitions_of(conn, messages, Tier.EVALUATION, within=(AS_OF, AS_OF + DAY))] == [
        "messages_evaluation_default"
    ]


def test_spans_that_are_no_days_have_names_of_their_own(conn: Connection, messages: Messages) -> None:
    days_of(
        conn,
        "app.messages_beta",
        ("history", "MINVALUE", "2024-01-01"),
        ("y2024", "2024-01-01", "2025-01-01"),
        ("m2025_02", "2025-02-01", "2025-03-01"),
        ("berlin", "2025-06-01 00:00+02", "2025-06-02 00:00+02"),
        ("future", "2026-01-01", "MAXVALUE"),
    )
    found = partitions_of(conn, messages, Tier.BETA)
    assert [(leaf.name, leaf.label) for leaf in found] == [
        ("history", "..2024-01-01"),
        ("y2024", "2024"),
        ("m2025_02", "2025-02"),
        ("berlin", "2025-05-31T22:00:00Z..2025-06-01T22:00:00Z"),
        ("future", "2026-01-01.."),
        ("messages_beta_default", "default"),
    ]
    assert [leaf.bounded for leaf in found] == [False, True, True, True, False, False]


def test_a_tier_that_is_one_table_is_one_leaf(conn: Connection, messages: Messages) -> None:
    conn.execute(
        "DROP TABLE app.messages_beta; CREATE TABLE app.messages_beta PARTITION OF app.messages FOR VALUES IN ('beta')"
    )
    assert labels(conn, messages) == [("messages_beta", "all")]
    assert create_ahead(conn, messages, Tier.BETA, AS_OF) == drain_default(conn, messages, Tier.BETA) == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "ALTER TABLE app.messages RENAME TO messages_old; CREATE TABLE app.messages (tier text)",
            "not partitioned by LIST",
        ),
        (
            "DROP TABLE app.messages_beta; DROP TABLE app.messages_consumer; CREATE TABLE app.both PARTITION OF"
            " app.messages FOR VALUES IN ('consumer', 'beta') PARTITION BY RANGE (received_at)",
            "2 tiers in one partition",
        ),
        (
            "DROP TABLE app.messages_beta; CREATE TABLE app.messages_beta PARTITION OF app.messages"
            " FOR VALUES IN ('beta') PARTITION BY HASH (message_id)",
            r"HASH \(message_id\)",
        ),
        (
            "DROP TABLE app.messages_beta; CREATE TABLE app.messages_beta PARTITION OF app.messages"
            " FOR VALUES IN ('beta') PARTITION BY RANGE (received_at, message_id)",
            r"RANGE \(received_at, message_id\)",
        ),
    ],
)
def test_what_cannot_fall_due_by_partitions_is_refused_by_name(
    conn: Connection, messages: Messages, change: str, problem: str
) -> None:
    conn.execute(change.encode())
    with pytest.raises(UnsupportedPartitioningError, match=problem):
        check_tree(conn, messages)


def test_rows_of_undeclared_tiers_are_found_wherever_they_are(conn: Connection, messages: Messages) -> None:
    """Case 23: also in a partition that somebody made for a tier that the policy does not know."""
    conn.execute("CREATE TABLE app.messages_partner PARTITION OF app.messages FOR VALUES IN ('partner', 'it''s')")
    found = unclassified_partitions(conn, messages)
    assert [unclassified_label(leaf) for leaf in found] == ["unclassified", "unclassified/messages_partner"]


def test_days_ahead_are_called_like_their_siblings(conn: Connection, messages: Messages) -> None:
    """So that pg_partman, which looks for a name before it makes a partition, does not stumble over ours."""
    days_of(conn, "app.messages_beta", ("messages_beta_p20260309", "2026-03-09", "2026-03-10"))
    made = create_ahead(conn, messages, Tier.BETA, AS_OF)
    assert made == 8
    assert labels(conn, messages)[1] == ("messages_beta_p20260310", "2026-03-10")
    assert create_ahead(conn, messages, Tier.BETA, AS_OF) == 0


def test_days_that_a_month_covers_are_not_made(conn: Connection, messages: Messages) -> None:
    days_of(conn, "app.messages_beta", ("march", "2026-03-01", "2026-04-01"))
    assert create_ahead(conn, messages, Tier.BETA, AS_OF) == 0


def test_a_table_that_has_the_name_of_a_new_partition_is_no_partition(conn: Connection, messages: Messages) -> None:
    """Rows of the default partition must not be moved into a table that somebody detached."""
    write(conn, "beta", AS_OF - 5 * DAY)
    conn.execute("CREATE TABLE app.messages_beta_20260305 (LIKE app.messages)")
    with pytest.raises(NameTakenError, match=r"app.messages_beta_20260305 exists and is no partition"):
        drain_default(conn, messages, Tier.BETA)
    assert conn.execute("SELECT count(*) FROM app.messages_beta_default").fetchone() == (1,)


def test_strays_go_where_their_day_is_not_covered_yet_case_12(conn: Connection, messages: Messages) -> None:
    """A day of which other partitions cover a part gets what is left of it."""
    days_of(conn, "app.messages_beta", ("berlin", "2026-03-04 23:00+00", "2026-03-05 10:00+00"))
    write(conn, "beta", AS_OF - 6 * DAY, AS_OF - 5 * DAY + timedelta(hours=1), AS_OF - 5 * DAY + timedelta(hours=11))
    assert drain_default(conn, messages, Tier.BETA) == 2
    assert conn.execute("SELECT count(*) FROM app.messages_beta_default").fetchone() == (0,)
    assert [label for _, label in labels(conn, messages)] == [
        "2026-03-04..2026-03-04T23:00:00Z",
        "2026-03-04T23:00:00Z..2026-03-05T10:00:00Z",
        "2026-03-05T10:00:00Z..2026-03-06",
        "default",
    ]


@pytest.mark.parametrize(
    "publication",
    [
        "FOR ALL TABLES",
        "FOR TABLE app.messages WITH (publish_via_partition_root)",
        "FOR TABLE app.messages_beta_default",
    ],
)
def test_strays_stay_where_their_move_would_be_told_as_a_deletion(
    conn: Connection, messages: Messages, publication: str
) -> None:
    """Subscribers, and a warehouse fed by them, would lose rows that are there. So they wait for their deadline."""
    write(conn, "beta", AS_OF - 5 * DAY, AS_OF)
    conn.execute(f"CREATE PUBLICATION strays {publication}".encode())
    assert drain_default(conn, messages, Tier.BETA) == 0
    create_ahead(conn, messages, Tier.BETA, AS_OF)
    assert conn.execute("SELECT count(*) FROM app.messages_beta_default").fetchone() == (2,)
    assert (AS_OF + DAY).date().isoformat() in [label for _, label in labels(conn, messages)]
    conn.execute("ALTER PUBLICATION strays SET (publish = 'insert, update')")
    assert drain_default(conn, messages, Tier.BETA) == 2
