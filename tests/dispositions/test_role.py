"""The role script: a whole run succeeds as the role that it makes, which is no superuser and can do little else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import yaml
from psycopg import sql

from lifecycle.catalog.models import Catalog, Messages
from lifecycle.policy.models import Tier
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.grants import grants_script
from lifecycle.stores.postgres.swap import keep_still, swap_in
from lifecycle.stores.postgres.tree import partitions_of
from oracle.busy import AS_OF, busy_world
from oracle.compare import differences, report
from oracle.endstate import judge_run
from oracle.stores import Servers, at, full_run, look
from support.store import Store

pytestmark = pytest.mark.timeout(600)
PASSWORD = "a-test"


@dataclass(frozen=True)
class AsRole:
    """A busy store, and the same store as the role sees it."""

    name: str
    admin: Store
    store: Store


@pytest.fixture(scope="module")
def world() -> Iterator[object]:
    yield busy_world(ages=(1, 26, 88, 800))


@pytest.fixture
def role(servers: Servers, world: object) -> Iterator[AsRole]:
    """A name that has to be quoted, as people's have."""
    name = f"Retention's run-{uuid4().hex[:8]}"
    with servers.store(world) as admin:  # type: ignore[arg-type]
        script = admin.cli("postgres", "grants", "--role", name).stdout
        for _ in range(2):  # it may be repeated
            with admin.connect() as conn:
                conn.execute(script.encode())
        with admin.connect() as conn:
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(PASSWORD)))
        conninfo = psycopg.conninfo.make_conninfo(admin.conninfo, user=name, password=PASSWORD)
        connection = json.loads(admin.env["AIRFLOW_CONN_LIFECYCLE_POSTGRES"]) | {"login": name, "password": PASSWORD}
        env = {**admin.env, "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(connection)}
        store = replace(admin, conninfo=conninfo, env=env, _open={})
        try:
            yield AsRole(name, admin, store)
        finally:
            store.close()
            drop_role(admin, name)


def shipped_messages() -> Messages:
    return Catalog.model_validate(yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))).messages


def drop_role(admin: Store, name: str) -> None:
    """Roles belong to the whole server, which later tests share."""
    with admin.connect() as conn:
        for each in (name, f"{name}_owner"):
            conn.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(each)))
            conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(each)))
        for each in (name, f"{name}_owner"):
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(each)))


def test_a_whole_run_succeeds_as_the_role(role: AsRole, world: object) -> None:
    """Swap, rows, quarantine and back, records, accounts, erasure, validation: nothing asks for more."""
    assert (
        role.store.value("SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = user") is False
    )
    done = full_run(role.store, AS_OF)
    assert done.code == 0, str(done)
    assert {"delete", "deidentify", "quarantine"} <= done.disposed().keys()
    as_of = ("--as-of", at(AS_OF))
    for words in (
        *((command, *as_of) for command in ("status", "coverage", "audit")),
        *(("postgres", "physical"), ("policy", "validate", "--connect"), ("policy", "status"), ("ledger", "verify")),
        *(("hold", "list"), ("s3", "reconcile", *as_of), ("s3", "shield", *as_of), ("s3", "unclassified")),
    ):
        looked = role.store.cli(*words, check=False)
        said = looked.stdout + looked.stderr
        denied = "permission denied" in said or "InsufficientPrivilege" in said
        assert (looked.returncode, denied) == (0, False), f"{' '.join(words)}: {said}"
    found = differences(judge_run(world, AS_OF), look(role.admin))  # type: ignore[arg-type]
    assert not found, report(found)


def test_a_partition_refers_to_what_it_referred_to_after_the_role_has_replaced_it(role: AsRole) -> None:
    """A foreign key to a table that the dataset file does not name takes a right of its own to be made again."""
    role.admin.sql("CREATE TABLE app.tiers (tier text PRIMARY KEY)")
    role.admin.sql("INSERT INTO app.tiers SELECT DISTINCT tier FROM app.messages")
    role.admin.sql("ALTER TABLE app.messages ADD CONSTRAINT known FOREIGN KEY (tier) REFERENCES app.tiers")
    with role.admin.connect() as conn:
        conn.execute(role.admin.cli("postgres", "grants", "--role", role.name).stdout.encode())
        ((leaf,),) = conn.execute(
            "SELECT tableoid::regclass::text FROM app.messages WHERE tier = 'consumer' GROUP BY 1 LIMIT 1"
        ).fetchall()
    with role.store.connect() as conn, conn.transaction():
        found = next(
            each
            for each in partitions_of(conn, shipped_messages(), Tier.CONSUMER)
            if f"{each.schema}.{each.name}" == leaf
        )
        keep_still(conn, found)
        assert swap_in(conn, found, sql.SQL("true"), {}) > 0
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="known"):
        role.admin.sql("DELETE FROM app.tiers WHERE tier = 'consumer'")


def test_the_role_can_upgrade_its_own_schema_and_owns_nothing_of_the_application(role: AsRole) -> None:
    """And can neither change an exception nor read a table that the dataset file does not name."""
    role.store.sql("COMMENT ON SCHEMA lifecycle IS 'an older version'")
    role.store.cli("plan", "--as-of", "2025-06-15T12:00:00Z", "--tier", "beta")
    role.admin.sql("CREATE TABLE app.salaries (amount int)")
    # Before MAINTAIN, in 17, the role's group owns what it vacuums and may update what it locks (docs/adopters.md).
    maintains = role.store.value("SELECT current_setting('server_version_num')::int") >= 170000
    owned = (
        "UPDATE app.agreements SET retain = interval '1 day'",
        "INSERT INTO app.safety_flags VALUES (gen_random_uuid(), gen_random_uuid(), 'c', now())",
        "UPDATE app.accounts SET tier = 'consumer'",
        "ALTER TABLE app.feedback ADD COLUMN mine text",
    )
    foreign = ("SELECT 1 FROM app.salaries", "CREATE SCHEMA mine", "DELETE FROM app.enforcement_cases")
    for statement in (*foreign, *(owned if maintains else ())):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.store.sql(statement)
    owns = role.store.value(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'app'"
        " AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') AND c.relname NOT LIKE 'messages%'"
    )
    assert (owns == 0) == maintains


def test_the_script_names_every_table_of_the_dataset_file_and_no_other() -> None:
    data = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    next(item for item in data["datasets"] if item["id"] == "safety_scores")["table"] = "Trust_1.Scores"
    script = grants_script(Catalog.model_validate(data), "x")
    assert 'GRANT SELECT, DELETE, UPDATE ("score_id") ON "Trust_1"."Scores" TO "x";' in script
    assert 'GRANT USAGE ON SCHEMA "Trust_1" TO "x";' in script
    # Accounts are still kept by the old table, which is only read for that.
    assert [line for line in script.splitlines() if '"safety_scores"' in line] == [
        'GRANT SELECT ON "app"."safety_scores" TO "x";'
    ]


def test_the_script_is_printed_as_it_is_and_reads_no_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from lifecycle.cli.main import app

    monkeypatch.delenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES", raising=False)
    printed = CliRunner().invoke(app, ["postgres", "grants", "--role", "x" * 57])
    assert printed.exit_code == 0 and printed.stdout.endswith("COMMIT;\n")
    as_json = CliRunner().invoke(app, ["postgres", "grants", "--role", "x" * 57, "--json"])
    assert json.loads(as_json.stdout)["script"] == printed.stdout
    assert CliRunner().invoke(app, ["postgres", "grants", "--role", "x" * 58]).exit_code == 2
