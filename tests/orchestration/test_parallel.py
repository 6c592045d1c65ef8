"""How many shards a run expires at once is a setting of the deployment, beside the pool."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from lifecycle.deployment import Store
from lifecycle.errors import ConfigurationError
from lifecycle.orchestration import dag_factory
from lifecycle.orchestration.parallel import VARIABLE, expire_at_once


@pytest.mark.parametrize(("told", "expected"), [(None, 4), (" ", 4), ("1", 1), (" 16 ", 16), ("128", 128)])
def test_the_task_has_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, told: str | None, expected: int
) -> None:
    if told is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, told)
    with DAG(dag_id="retention_test", schedule=None) as dag:
        dag_factory.retention_run("consumer", Store())
    expire: Any = dag.get_task("expire")
    assert expire.partial_kwargs["max_active_tis_per_dagrun"] == expected
    assert expire.partial_kwargs["pool"] == "retention_s3"


@pytest.mark.parametrize("told", ["0", "129", "-1", "four", "1.5", "9" * 5000, "٤"])
def test_anything_else_is_refused_by_name_with_the_remedy(told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{VARIABLE}.*") as refused:
        expire_at_once({VARIABLE: told})
    assert "1 to 128" in str(refused.value)
