"""A second store under the same scheduler: runs side by side, apart; a hold on both (issue 4, several databases).

The last of the end-to-end tests: from here on the shared Airflow serves two stores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
import yaml
from psycopg import sql

from e2e.conftest import RUN_WITHIN_S, Stack
from lifecycle.catalog.models import Catalog
from lifecycle.demo.airflow_stack import COMPONENTS, airflow_command, environment
from lifecycle.demo.components import spawn, stop_in_order
from lifecycle.demo.demo import PRODUCT
from lifecycle.demo.server_process import PidFile
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from reference_store.create import bucket_specs, create_store
from support.servers import with_database
from support.store import Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
ANNEX = "annex"
# What reads LIFECYCLE_STORES to make DAGs and to carry out their tasks.
_RESTARTED = ("scheduler", "dag-processor")


@dataclass(frozen=True)
class Pair:
    """The store of the demo, under its old names, and another one beside it."""

    stack: Stack
    annex: Store
    env: Mapping[str, str]


@pytest.fixture(scope="module")
def pair(stack: Stack) -> Pair:
    postgres, folder = stack.demo.postgres(), stack.demo.home / "stores"
    folder.mkdir()
    text = _with_own_buckets(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    (folder / "annex.yaml").write_text(text, encoding="utf-8")
    (folder / "stores.yaml").write_text(
        f"version: 1\npolicy: {shipped('policies/retention.yaml')}\nstores:\n"
        f"  - {{name: default, datasets: {shipped(SHIPPED_DATASETS)}, postgres: lifecycle_postgres}}\n"
        f"  - {{name: {ANNEX}, datasets: annex.yaml, postgres: lifecycle_postgres_annex}}\n",
        encoding="utf-8",
    )
    with psycopg.connect(postgres.conninfo(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(ANNEX)))
    create_store(postgres.conninfo(ANNEX), stack.store.s3, Catalog.model_validate(yaml.safe_load(text)))
    env = {
        "LIFECYCLE_STORES": str(folder / "stores.yaml"),
        "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(postgres.airflow_connection(PRODUCT)),
        "AIRFLOW_CONN_LIFECYCLE_POSTGRES_ANNEX": json.dumps(postgres.airflow_connection(ANNEX)),
        "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(stack.demo.s3().airflow_connection()),
    }
    annex = replace(stack.store, conninfo=with_database(postgres, ANNEX), env=env, _open={})
    _restart(stack, env)
    pools = folder / "pools.json"
    pools.write_text(annex.cli("stores", "pools").stdout, encoding="utf-8")
    stack.api.import_pools(pools)
    dags = {f"retention_{ANNEX}_consumer"}
    stack.api.wait_for_dags(dags, 120)
    for dag_id in dags:
        stack.api.set_paused(dag_id, False)
    return Pair(stack, annex, env)


def _with_own_buckets(text: str) -> str:
    for spec in bucket_specs(Catalog.model_validate(yaml.safe_load(text))):
        text = text.replace(f"bucket: {spec.name}", f"bucket: {ANNEX}-{spec.name}")
    return text


def _restart(stack: Stack, env: Mapping[str, str]) -> None:
    """As an installation does that gets a second store: the variable is set, and the processes start again."""
    kept = json.loads((stack.demo.home / "airflow.json").read_text(encoding="utf-8"))
    settings = stack.demo._read_settings()
    assert settings is not None
    pids = {name: settings.home / f"{name}.pid" for name in _RESTARTED}
    running = {name: PidFile.read(path) for name, path in pids.items()}
    stop_in_order({name: each for name, each in running.items() if each is not None}, grace_s=20)
    for name in _RESTARTED:
        log = settings.home / "logs" / f"{name}.log"
        full = environment(replace(settings, env={**kept["env"], **env}))
        spawn(airflow_command(*COMPONENTS[name]), env=full, log=log, cwd=settings.home, port=settings.port).write(
            pids[name]
        )


def _present(store: Store, *records: UUID) -> list[bool]:
    return [bool(store.sql("SELECT 1 FROM app.messages WHERE message_id = %s", each)) for each in records]


def test_two_stores_run_side_by_side_and_a_hold_of_all_is_on_both(pair: Pair) -> None:
    """Each run sees its own database and buckets only; the held person keeps what is due, in both."""
    stack, annex, held = pair.stack, pair.annex, uuid4()
    both = (stack.store, annex)
    due = stack.options.as_of - timedelta(days=211, hours=3)
    going = [store.insert_message(tier=tier, received_at=due) for store in both for tier in ("consumer", "beta")]
    staying = [
        store.insert_message(tier=tier, received_at=due, account_id=held)
        for store, tier in zip(both, ("beta", "consumer"), strict=True)
    ]
    placed = json.loads(
        annex.cli(
            *("hold", "place", "--scope", "account", "--target", held, "--reason", "two stores"),
            *("--store", "all", "--json"),
        ).stdout
    )
    assert placed["passed"] and [each["store"] for each in placed["stores"]] == ["default", ANNEX]
    holds = "SELECT count(*) FROM lifecycle.legal_holds WHERE target = %s AND released_at IS NULL"
    assert [store.value(holds, str(held)) for store in both] == [1, 1]

    dags = ("retention_beta", f"retention_{ANNEX}_consumer")
    runs = [(dag_id, stack.api.trigger(dag_id, {})) for dag_id in dags]
    assert [stack.api.wait(*run, RUN_WITHIN_S) for run in runs] == ["success", "success"]
    assert _present(stack.store, *going[:2]) == [True, False], "the run of one store touched the other"
    assert _present(annex, *going[2:]) == [False, True], "the run of one store touched the other"
    registered = "SELECT count(*) FROM lifecycle.runs WHERE run_key = %s"
    keys = [f"{dag_id}/{run_id}" for dag_id, run_id in runs]
    assert [[store.value(registered, key) for key in keys] for store in both] == [[1, 0], [0, 1]]
    assert [_present(store, record) for store, record in zip(both, staying, strict=True)] == [[True], [True]]
    assert {task["pool"] for task in stack.api.task_instances(*runs[1])} >= {f"retention_{ANNEX}_postgres"}
