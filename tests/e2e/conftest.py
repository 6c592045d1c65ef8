"""One small demo for all end-to-end tests: the same code as `make demo`, on free ports, with about 3,000 messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.demo.demo import PRODUCT, Demo, DemoOptions, Outcome
from lifecycle.demo.rest import AirflowRest
from lifecycle.demo.servers import free_port
from support.servers import scratch, with_database
from support.store import Store

ROOT = Path(__file__).resolve().parents[2]
RUN_WITHIN_S = 400.0


@dataclass(frozen=True)
class Stack:
    """A demo that is up: its Airflow, its store, and how it came up."""

    demo: Demo
    options: DemoOptions
    outcome: Outcome
    api: AirflowRest
    store: Store

    @property
    def airflow_home(self) -> Path:
        return self.demo.home / "airflow"

    def run(self, dag_id: str, **conf: Any) -> tuple[str, str]:
        """Trigger a DAG without logical date and wait; its run id and final state."""
        run_id = self.api.trigger(dag_id, conf)
        return run_id, self.api.wait(dag_id, run_id, RUN_WITHIN_S)

    def register(self, dag_id: str, run_id: str) -> list[tuple[Any, ...]]:
        """The row of lifecycle.runs of a DAG run: id, as-of, status, dry run, started, finished."""
        return self.store.sql(
            "SELECT run_id, as_of, status, dry_run, started_at, finished_at FROM lifecycle.runs WHERE run_key = %s",
            f"{dag_id}/{run_id}",
        )

    def due(self, tier: str, days: int = 200) -> datetime:
        """A receipt that is long overdue."""
        return self.options.as_of - timedelta(days=days, hours=3)


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with scratch("e2e") as folder:
        demo = Demo(ROOT, folder / "demo")
        options = DemoOptions(
            accounts=250,
            days=100,
            messages=3000,
            objects=300,
            as_of=midnight,
            seed=3,
            airflow_port=free_port(),
            postgres_port=free_port(),
            s3_port=free_port(),
        )
        try:
            outcome = demo.up(options)
            yield _stack(demo, options, outcome)
        finally:
            demo.down()


def _stack(demo: Demo, options: DemoOptions, outcome: Outcome) -> Stack:
    postgres, s3 = demo.postgres(), demo.s3()
    url = demo.url()
    assert url is not None
    store = Store(with_database(postgres, PRODUCT), s3.client(), {}, postgres, s3)
    return Stack(demo, options, outcome, AirflowRest(url, *demo.login()), store)
