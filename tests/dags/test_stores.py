"""The DAGs of a deployment with several stores: each has its own, and what one does never waits for another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCOPES = ("consumer", "beta", "evaluation", "business", "records", "erasure")
FAMILIES = (*SCOPES, "auditor", "watch", "approval")


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Of a store with the usual names and another, whose dataset file is not there: no DAG file reads it."""
    from airflow.dag_processing.dagbag import DagBag

    path = tmp_path_factory.mktemp("stores") / "stores.yaml"
    path.write_text(
        "version: 1\nstores:\n"
        "  - {name: default, datasets: a.yaml, postgres: lifecycle_postgres}\n"
        "  - {name: chat, datasets: b.yaml, postgres: lifecycle_postgres_chat}\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_STORES", str(path))
        bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    yield bag.dags


def test_every_store_has_every_dag(dags: dict[str, Any]) -> None:
    assert set(dags) == {f"retention_{own}{family}" for own in ("", "chat_") for family in FAMILIES}


def test_a_dag_says_whose_it_is(dags: dict[str, Any]) -> None:
    for name, dag in dags.items():
        store = "chat" if name.startswith("retention_chat_") else "default"
        assert f"store:{store}" in dag.tags
        assert ("(chat)" in dag.dag_display_name) == (store == "chat")


def test_every_task_is_told_its_store(dags: dict[str, Any]) -> None:
    for name, dag in dags.items():
        store = "chat" if name.startswith("retention_chat_") else "default"
        for task in dag.tasks:
            mapped = getattr(task, "partial_kwargs", {}).get("op_kwargs")
            told = mapped if mapped is not None else getattr(task, "op_kwargs", {})
            if task.task_id not in ("ask", "answered", "go_on"):
                assert told.get("store") == store, (name, task.task_id)


def test_no_pool_asset_or_question_is_shared(dags: dict[str, Any]) -> None:
    for name, dag in dags.items():
        own = "chat_" if name.startswith("retention_chat_") else ""
        pools = {f"retention_{own}postgres", f"retention_{own}s3"}
        reading = name.endswith(("auditor", "watch"))
        assert {task.pool for task in dag.tasks} <= ({"default_pool"} if reading else pools)
        family = name.removeprefix(f"retention_{own}")
        if family in SCOPES:
            assert [outlet.name for outlet in dag.task_dict["certify"].outlets] == [f"retention_{own}{family}"]
            assert dag.task_dict["ask"].partial_kwargs["trigger_dag_id"] == f"retention_{own}approval"


def test_the_alarm_of_a_deadline_measures_its_own_store(dags: dict[str, Any]) -> None:
    alerts = {alert.name: alert for alert in dags["retention_chat_consumer"].deadline}
    assert alerts["consumer-at-risk"].callback.kwargs["store"] == "chat"


def test_serialisation_keeps_the_store(dags: dict[str, Any]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = dags["retention_chat_records"]
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert "store:chat" in back.tags
    assert back.task_dict["plan"].pool == "retention_chat_postgres"


def test_an_approval_wakes_the_dags_of_its_own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from lifecycle.deployment import using
    from lifecycle.orchestration.asking import dags_of

    path = tmp_path / "stores.yaml"
    path.write_text("version: 1\nstores: [{name: chat, datasets: b.yaml, postgres: p}]\n", encoding="utf-8")
    monkeypatch.setenv("LIFECYCLE_STORES", str(path))
    done: Any = SimpleNamespace(scope="consumer")
    with using("chat"):
        assert dags_of(done) == ["retention_chat_consumer"]
