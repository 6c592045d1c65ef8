"""What goes with a row goes in the statement that takes the row out: children, their children, and copies (case 24)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from lifecycle.catalog.models import Catalog, Records
from lifecycle.config import load_configuration
from lifecycle.demo.servers import Postgres
from lifecycle.errors import ConfigurationError
from lifecycle.shipped import SHIPPED_POLICY, shipped
from lifecycle.stores.postgres.batches import Span, Step, Walk, take_batch
from lifecycle.stores.postgres.belongings import all_indexed, belongings_of
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.present import emptied, present
from lifecycle.stores.postgres.references import ReferencedError, refuse_acting
from lifecycle.stores.postgres.stage_indexes import missing_for_stages, unfit_for_stages
from support.servers import fresh_database, with_database

TABLES = """
CREATE SCHEMA s;
CREATE TABLE s.logs (id text PRIMARY KEY, who uuid, at timestamptz NOT NULL, content jsonb, note text NOT NULL);
CREATE INDEX ON s.logs (at);
CREATE TABLE s.tools (log text REFERENCES s.logs, n int UNIQUE, PRIMARY KEY (log, n));
CREATE TABLE s.results (tool int REFERENCES s.tools (n) ON DELETE RESTRICT, k int, PRIMARY KEY (tool, k));
CREATE TABLE s.unindexed (log text);
CREATE TABLE s.sessions (id int, log text, last jsonb);
CREATE INDEX ON s.sessions (log);
"""
LOGS: dict[str, Any] = {
    "id": "logs", "type": "table", "category": "usage_records", "table": "s.logs", "key": "id", "subject": "who",
    "clock": "at", "tier_is": "business",
    "stages": [{"name": "content", "category": "prompts_and_outputs", "clear": {"content": None, "note": ""},
                "copies": [{"table": "s.sessions", "key": "log", "column": "last", "path": ["a", "said"]}]}],
    "children": [{"table": "s.tools", "key": "log",
                  "children": [{"table": "s.results", "key": "tool", "parent_key": "n"}]}],
}  # fmt: skip


AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
DEEP: dict[str, Any] = {"table": "s.a", "key": "k"}


def catalog_of(**changed: object) -> Catalog:
    return Catalog.model_validate({"version": 1, "evidence_bucket": "evidence", "datasets": [LOGS | changed]})


@pytest.fixture(scope="module")
def conninfo(postgres_server: Postgres) -> Iterator[str]:
    with fresh_database(postgres_server) as name:
        found = with_database(postgres_server, name)
        with psycopg.connect(found, autocommit=True) as conn:
            conn.execute(TABLES)
        yield found


@pytest.fixture
def conn(conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("TRUNCATE s.logs, s.tools, s.results, s.unindexed, s.sessions, lifecycle.legal_holds")
        conn.execute("""
            INSERT INTO s.logs SELECT 'r' || n, NULL, timestamptz '2020-01-01Z' + n * interval '1 s', '{"said": 1}', 'x'
                FROM generate_series(1, 10) n;
            INSERT INTO s.tools SELECT 'r' || n, n FROM generate_series(1, 10) n;
            INSERT INTO s.results SELECT n, k FROM generate_series(1, 10) n, generate_series(1, 3) k;
            INSERT INTO s.unindexed SELECT 'r' || n % 10 FROM generate_series(1, 40) n;
            INSERT INTO s.sessions SELECT n, 'r' || n, '{"a": {"said": 1, "by": 2}}' FROM generate_series(1, 10) n;
        """)
        yield conn


def walk_of(conn: Connection, catalog: Catalog, dataset: Records) -> Walk:
    logs = sql.Identifier("s", "logs")
    return Walk(
        relation=logs,
        source=logs,
        clock="at",
        keys=("id",),
        where=present(dataset),
        fate=sql.SQL("'delete:usage'"),
        due=sql.SQL("(m.at <= timestamptz '2020-01-01Z' + interval '5 s' AND {})").format(present(dataset)),
        params={"as_of": "2026-01-01Z"},
        change=emptied(dataset),
        belongings=belongings_of(catalog, dataset),
        probing=all_indexed(conn, dataset),
    )


def taken(conn: Connection, catalog: Catalog, dataset: Records, *, wait: bool = True) -> Step:
    with conn.transaction():
        return take_batch(conn, walk_of(conn, catalog, dataset), Span(), 100, wait=wait)


def count(conn: Connection, table: str, where: str = "true") -> int:
    return int(conn.execute(f"SELECT count(*) FROM s.{table} WHERE {where}".encode()).fetchone()[0])  # type: ignore[index]


def test_children_of_children_go_with_their_row_through_foreign_keys_that_forbid(conn: Connection) -> None:
    catalog = catalog_of()
    step = taken(conn, catalog, catalog.tables[0])
    assert step.gone == {"delete:usage": 5} and step.beside == {"delete:usage": {"children": 20}}
    assert (count(conn, "logs"), count(conn, "tools"), count(conn, "results")) == (5, 5, 15)


def test_a_child_without_an_index_goes_too_and_the_index_is_named(conn: Connection) -> None:
    catalog = catalog_of(children=[*LOGS["children"], {"table": "s.unindexed", "key": "log"}])
    step = taken(conn, catalog, catalog.tables[0])
    assert step.beside == {"delete:usage": {"children": 40}} and count(conn, "unindexed") == 20
    said = {missing.table: missing.statement for missing in missing_for_stages(conn, catalog)}
    assert said["s.unindexed"] == 'CREATE INDEX CONCURRENTLY ON "s"."unindexed" ("log");'


def test_emptying_a_stage_twice_changes_nothing_and_takes_no_children(conn: Connection) -> None:
    catalog = catalog_of()
    stage = catalog.tables[0].parts[0]
    assert taken(conn, catalog, stage).beside == {"delete:usage": {"copies": 5}}
    assert count(conn, "logs", "content IS NULL AND note = ''") == 5 and count(conn, "tools") == 10
    assert count(conn, "sessions", 'last = \'{"a": {"by": 2}}\'') == 5
    assert taken(conn, catalog, stage).gone == {}


def test_a_stage_is_found_by_the_index_that_its_warning_asks_for(conn: Connection) -> None:
    catalog = catalog_of()
    stage = catalog.tables[0].parts[0]
    (missing,) = [found for found in missing_for_stages(conn, catalog) if found.dataset == "logs.content"]
    conn.execute(missing.statement.encode())
    try:
        assert not [found for found in missing_for_stages(conn, catalog) if found.dataset == "logs.content"]
        conn.execute("SET enable_seqscan = off")
        query = sql.SQL("EXPLAIN SELECT m.at, m.id FROM s.logs m WHERE {} AND m.at < now() ORDER BY m.at, m.id LIMIT 5")
        plan = "\n".join(row[0] for row in conn.execute(query.format(present(stage))).fetchall())
        assert "logs_at_id_idx" in plan and "Filter" not in plan, plan
    finally:
        conn.execute("DROP INDEX s.logs_at_id_idx")


def test_rows_in_use_are_left_with_what_belongs_to_them(conn: Connection, conninfo: str) -> None:
    catalog = catalog_of()
    with psycopg.connect(conninfo) as other:
        other.execute("SELECT FROM s.logs WHERE id = 'r2' FOR UPDATE")
        step = taken(conn, catalog, catalog.tables[0], wait=False)
    assert (step.gone, step.beside, step.locked) == ({"delete:usage": 4}, {"delete:usage": {"children": 16}}, 1)
    assert count(conn, "results", "tool = 2") == 3


def test_a_hold_on_a_child_keeps_its_rows_and_so_the_record(conn: Connection) -> None:
    catalog = catalog_of()
    conn.execute(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by, placed_at)"
        " VALUES ('dataset', 's.results', 'r', 'p', now())"
    )
    with pytest.raises(psycopg.errors.IntegrityError):
        taken(conn, catalog, catalog.tables[0])
    assert (count(conn, "logs"), count(conn, "results")) == (10, 30)


def test_a_cascade_that_nobody_configured_is_refused_by_name(conn: Connection) -> None:
    catalog = catalog_of(children=[])
    with conn.transaction(force_rollback=True):
        refuse_acting(conn, catalog, catalog.tables[0], "logs", AS_OF)  # one that only forbids is left to forbid
        conn.execute("CREATE TABLE s.stranger (log text REFERENCES s.logs ON DELETE CASCADE)")
        with pytest.raises(ReferencedError, match=r"s\.stranger"):
            refuse_acting(conn, catalog, catalog.tables[0], "logs", AS_OF)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        # A reply that is not due would go with what it answers.
        ("s.logs ADD answers text REFERENCES s.logs ON DELETE CASCADE", r"s\.logs ON DELETE CASCADE"),
        # A record that is kept for longer would go with one that is not.
        ("s.kept ADD FOREIGN KEY (log) REFERENCES s.logs ON DELETE CASCADE", r"s\.kept ON DELETE CASCADE"),
        # A hold on the record would not reach it any more.
        ("s.kept ADD FOREIGN KEY (log) REFERENCES s.logs ON DELETE SET NULL", r"s\.kept ON DELETE SET NULL"),
        ("s.kept ADD after text REFERENCES s.logs ON DELETE SET NULL", None),
        ("s.logs ADD answers text REFERENCES s.logs ON DELETE SET NULL", None),
        # Below a child, where it would go unasked.
        ("s.kept ADD tool int REFERENCES s.tools (n) ON DELETE CASCADE", r"s\.kept ON DELETE CASCADE"),
    ],
)
def test_no_row_with_a_fate_of_its_own_goes_by_a_cascade(conn: Connection, key: str, said: str | None) -> None:
    """Promise 1: what a foreign key takes along was not asked about, neither its age nor its holds."""
    kept = {"id": "kept", "type": "table", "category": "safety_scores", "table": "s.kept", "key": "id",
            "subject": "who", "record": "log", "ids": "text", "clock": "at", "tier_is": "business"}  # fmt: skip
    catalog = catalog_of()
    catalog = Catalog.model_validate(
        catalog.model_dump(by_alias=True, exclude={"datasets"}) | {"datasets": [LOGS, kept]}
    )
    with conn.transaction(force_rollback=True):
        conn.execute("CREATE TABLE s.kept (id text PRIMARY KEY, who text, log text, at timestamptz)")
        conn.execute(f"ALTER TABLE {key}".encode())
        if said is None:
            refuse_acting(conn, catalog, catalog.tables[0], "logs", AS_OF)
            return
        with pytest.raises(ReferencedError, match=said):
            refuse_acting(conn, catalog, catalog.tables[0], "logs", AS_OF)


def test_a_cascade_from_a_declared_child_is_refused_while_a_hold_keeps_the_child(conn: Connection) -> None:
    """Promise 1: we leave the child's rows alone, and PostgreSQL would take them with the record."""
    catalog = catalog_of()
    with conn.transaction(force_rollback=True):
        conn.execute("ALTER TABLE s.results DROP CONSTRAINT results_tool_fkey")
        conn.execute("ALTER TABLE s.results ADD FOREIGN KEY (tool) REFERENCES s.tools (n) ON DELETE CASCADE")
        refuse_acting(conn, catalog, catalog.tables[0], "logs", AS_OF)
        conn.execute(
            "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by, placed_at)"
            " VALUES ('dataset', 's.results', 'r', 'p', now())"
        )
        with pytest.raises(ReferencedError, match=r"A hold keeps the rows of s\.results"):
            refuse_acting(conn, catalog, catalog.tables[0], "logs", AS_OF)


def test_columns_that_cannot_be_emptied_are_refused_by_name(conn: Connection) -> None:
    clear = {"note": None, "content": "", "who": None, "nothing": None}
    copies = [
        {"table": "s.sessions", "key": "log", "column": "id", "path": ["a"]},
        {"table": "s.tools", "key": "log", "column": "n"},
        {"table": "s.sessions", "key": "log", "column": "last"},
    ]
    catalog = catalog_of(subject="other", copies=copies, stages=[LOGS["stages"][0] | {"clear": clear}])
    found = {misfit.column: str(misfit) for misfit in unfit_for_stages(conn, catalog)}
    assert set(found) == {"note", "content", "nothing", "id", "n"}
    assert "jsonb" in found["id"] and "NOT NULL" in found["n"]
    assert "NOT NULL" in found["note"] and "jsonb" in found["content"] and "does not exist" in found["nothing"]


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("varchar(2)", "{}", True),
        ("varchar(1)", "{}", False),
        ("char(1)", "{}", False),
        ("s.short", "{}", False),
        ("s.filled", "", False),
        ("s.filled", "{}", True),
        ('s."Odd ""type"', "{}", True),
        ("text[]", "{}", True),
        ("text[]", "[]", False),
        ("jsonb", "[]", True),
        ("json", "", False),
        ("numeric(3)", "", False),
    ],
)
def test_a_column_is_asked_whether_it_takes_all_of_what_stands_for_nothing(
    conn: Connection, kind: str, value: str, fits: bool
) -> None:
    """Before PostgreSQL 16 none can be asked without an error; a written cast would cut off."""
    with conn.transaction(force_rollback=True):
        conn.execute('CREATE DOMAIN s.short AS varchar(1); CREATE DOMAIN s."Odd ""type" AS text;')
        conn.execute("CREATE DOMAIN s.filled AS text CHECK (VALUE <> '')")
        conn.execute(f"ALTER TABLE s.logs ADD odd {kind}".encode())
        clear = [LOGS["stages"][0] | {"clear": {"odd": value}, "copies": []}]
        assert [misfit.column for misfit in unfit_for_stages(conn, catalog_of(stages=clear))] == ["odd"] * (not fits)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tier_is": None}, "of which tier these rows are"),
        ({"children": [{"table": "s.logs", "key": "log"}]}, "a rule of its own"),
        ({"children": [DEEP | {"children": [DEEP | {"table": "s.b"}]}]}, "a child of a child"),
        ({"children": [{"table": "s.a", "key": "k"}, {"table": "s.a", "key": "k"}]}, "twice"),
        ({"stages": [LOGS["stages"][0] | {"clear": ["at"]}]}, "found and judged by it"),
        ({"stages": [LOGS["stages"][0] | {"clear": {"content": "gone"}}]}, "holds null or one of"),
        ({"stages": [LOGS["stages"][0] | {"category": "usage_records"}]}, "would end with them"),
        ({"stages": [LOGS["stages"][0], LOGS["stages"][0]]}, "twice"),
        ({"copies": [{"table": "s.logs", "key": "id", "column": "note"}]}, "the table itself"),
    ],
)
def test_what_contradicts_itself_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        catalog_of(**changed)


def test_the_example_for_a_proxy_is_sound() -> None:
    found = Catalog.model_validate(yaml.safe_load(shipped("datasets/litellm.yaml").read_text(encoding="utf-8")))
    assert [dataset.id for dataset in found.records] == ["spend_logs.content", "spend_logs"]
    assert replace(belongings_of(found, found.tables[0])[0], free=sql.SQL("")).key == "request_id"


def test_a_policy_that_cannot_be_carried_out_on_a_table_is_refused_by_rule(tmp_path: Path) -> None:
    """The shipped policy de-identifies what is of tier evaluation, and knows no usage records."""
    file = tmp_path / "datasets.yaml"
    text = shipped("datasets/litellm.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("tier_is: business", "tier_is: evaluation"), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(shipped(SHIPPED_POLICY), file)
    said = {problem.field: problem.message for problem in caught.value.problems}
    assert "usage_records" in said["datasets[0].category"]
    assert "research" in said["datasets[0].stages[0].category"]
