"""The index on the clock is looked for in the catalogue, and a missing one is said with the statement that makes it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from lifecycle.catalog.models import Catalog
from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.indexes import has_clock_index, missing_indexes, serves
from support.servers import fresh_database, with_database
from support.store import Store


@pytest.fixture(scope="module")
def conn(postgres_server: Postgres) -> Iterator[Connection]:
    with (
        fresh_database(postgres_server) as name,
        psycopg.connect(with_database(postgres_server, name), autocommit=True) as conn,
    ):
        yield conn


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ("(at)", True),
        ("(at DESC, id)", True),
        ("(tier, at)", True),
        ("(id, at)", False),
        ("(other, at)", False),
        ("(at) WHERE tier = 'beta'", False),
        ("((at + interval '1 day'))", False),
        ("USING brin (at)", False),
        ("(id) INCLUDE (at)", False),
    ],
)
def test_which_index_serves(conn: Connection, index: str, found: bool) -> None:
    """One that begins with the clock; behind the tier only where queries fix the tier."""
    conn.execute('DROP TABLE IF EXISTS app."Mixed"')
    conn.execute('CREATE TABLE app."Mixed" (id int, tier text, other int, at timestamp)')
    using = index if index.startswith("USING") else f"USING btree {index}"
    conn.execute(f'CREATE INDEX ON app."Mixed" {using}'.encode())
    assert has_clock_index(conn, "app.Mixed", "at", filtered_by="tier") is found
    if "tier," in index:
        assert not has_clock_index(conn, "app.Mixed", "at")


def test_an_index_that_failed_to_build_does_not_serve(conn: Connection) -> None:
    conn.execute("DROP TABLE IF EXISTS app.t")
    conn.execute("CREATE TABLE app.t (at int)")
    conn.execute("INSERT INTO app.t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY ON app.t (at)")
    assert not has_clock_index(conn, "app.t", "at")


def test_serves_is_a_question_about_names_only() -> None:
    assert serves(["at"], "at", None) and serves(["tier", "at", "id"], "at", "tier")
    assert not serves([], "at", None) and not serves([None, "at"], "at", "tier") and not serves(["tier"], "at", "tier")


def test_the_reference_store_lacks_none(conn: Connection, catalog: Catalog) -> None:
    assert missing_indexes(conn, catalog) == []


def test_a_missing_index_is_said_by_validate_and_by_a_run_with_its_statement(store: Store) -> None:
    store.sql("DROP INDEX app.safety_scores_scored")
    store.sql("DROP INDEX app.messages_received")
    said = store.cli("policy", "validate", "--connect").stderr
    assert "app.safety_scores of dataset safety_scores has no index that begins with scored_at" in said
    assert 'CREATE INDEX CONCURRENTLY ON "app"."safety_scores" ("scored_at", "score_id");' in said
    assert "messages" not in said, "the primary key begins with tier and clock"
    for statement in [line.split(": ")[-1] for line in said.splitlines() if "CREATE INDEX" in line]:
        store.sql(statement)
    assert store.cli("policy", "validate", "--connect").stderr == ""
    assert store.cli("policy", "validate", "--connect", "--json").stdout.count('"missing_indexes": []') == 1


def test_what_forbids_every_deletion_and_what_copies_rows_is_said_by_validate(store: Store) -> None:
    """A publication that could not tell of a deletion makes PostgreSQL refuse it, to the application and to a run."""
    store.sql("CREATE PUBLICATION part FOR TABLE app.messages WITH (publish_via_partition_root = true)")
    for (leaf,) in store.sql("SELECT relid::regclass::text FROM pg_partition_tree('app.messages') WHERE isleaf"):
        store.sql(f"ALTER TABLE {leaf} REPLICA IDENTITY NOTHING")
    store.sql("ALTER TABLE app.feedback REPLICA IDENTITY NOTHING; CREATE PUBLICATION told FOR TABLE app.feedback")
    done = store.cli("policy", "validate", "--connect")
    said = [line for line in done.stderr.splitlines() if line]
    assert [line.split(": ")[1] for line in said if "cannot delete" in line] == ["app.feedback", "app.messages"]
    assert "does not have a replica identity" in said[0] and "REPLICA IDENTITY" in said[0]
    assert said[2].startswith("warning: publication part sends app.messages to subscribers")
    store.sql("DROP PUBLICATION part; DROP PUBLICATION told")
    assert store.cli("policy", "validate", "--connect").stderr == ""


def test_what_can_still_hold_what_was_deleted_is_shown(store: Store) -> None:
    """`lifecycle postgres physical`, before the first deletion and after one."""
    assert "Nothing has been deleted yet" in store.cli("postgres", "physical").stdout
    store.sql(
        "INSERT INTO lifecycle.physical_erasure VALUES (1, 'u', 'app.feedback', now(), pg_current_wal_lsn(), '1', NULL)"
    )
    shown = store.cli("postgres", "physical")
    assert "1 table(s) with dead rows" in shown.stdout
    assert "warning: tables: may hold longer than the lead allows" in shown.stderr
    store.sql("CREATE PUBLICATION outward FOR TABLE app.messages")
    assert "those of publication outward keep" in store.cli("postgres", "physical", "--json").stdout
    assert '"erased": false' in store.cli("postgres", "physical", "--json").stdout
