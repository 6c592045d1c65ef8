"""Fixtures every test may use. ``store`` is a fresh reference store; servers start with the first test that needs them.

With pytest-xdist one worker runs a module, and one all end-to-end tests, which share an Airflow (support/spread.py).

S3 tests run on the embedded server, or on another endpoint (a Ceph gateway) named by LIFECYCLE_TEST_S3_ENDPOINT,
LIFECYCLE_TEST_S3_ACCESS and LIFECYCLE_TEST_S3_SECRET; its five buckets are emptied before each test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import settings

from lifecycle.catalog.models import Catalog
from lifecycle.demo.servers import Postgres, S3Server, embedded_s3
from reference_store.create import BucketSpec, bucket_specs
from support.buckets import fresh_buckets
from support.pace import undisturbed_by_neighbours
from support.servers import (
    EXTERNAL_S3,
    PostgresSpec,
    external_s3,
    fresh_database,
    scratch,
    session_postgres,
    with_database,
)
from support.spread import give_way, one_scheduler, slow_first
from support.store import Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# How long an example takes is for the machine to say, not for the promise.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

DATASETS = Path(__file__).resolve().parents[1] / "include" / "datasets" / "reference_store.yaml"
_controller = ExitStack()
_shared: list[PostgresSpec] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "embedded_s3: needs the embedded S3 server; not run on another endpoint")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Runs in the pytest-xdist controller for each worker: they share the controller's PostgreSQL."""
    if external_s3() is not None:
        raise pytest.UsageError(f"the buckets of {EXTERNAL_S3} have fixed names; run without pytest-xdist (-n 0)")
    if not _shared:
        _shared.append(PostgresSpec.of(_controller.enter_context(session_postgres())))
    node.workerinput["postgres"] = str(_shared[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return one_scheduler(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    give_way(item)


def pytest_unconfigure() -> None:
    _controller.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another endpoint, leave out what only the embedded server can do; on that, what only Ceph can."""
    missing = "ceph" if external_s3() is None else "embedded_s3"
    left_out = [item for item in items if item.get_closest_marker(missing)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = slow_first([item for item in items if item not in left_out])


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """The session's PostgreSQL 18."""
    shared = getattr(request.config, "workerinput", {}).get("postgres")
    if shared is not None:
        with undisturbed_by_neighbours():
            yield PostgresSpec.parse(shared).server
        return
    with session_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """This worker's S3 server, since the names of the buckets are fixed."""
    outside = external_s3()
    if outside is not None:
        yield outside
        return
    with scratch("s3") as folder, embedded_s3(folder) as server:
        yield server


@pytest.fixture(scope="session")
def s3_session_client(s3_server: S3Server) -> S3Client:
    """Making a client costs 0.2 s; one is enough."""
    return s3_server.client()


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The shipped bindings of the reference store."""
    return Catalog.model_validate(yaml.safe_load(DATASETS.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def buckets(catalog: Catalog) -> tuple[BucketSpec, ...]:
    return bucket_specs(catalog)


@pytest.fixture
def s3(s3_server: S3Server, s3_session_client: S3Client, buckets: tuple[BucketSpec, ...]) -> S3Client:
    """A client of the five buckets, all empty."""
    fresh_buckets(s3_server, s3_session_client, buckets)
    return s3_session_client


@pytest.fixture
def store(
    postgres_server: Postgres, s3_server: S3Server, s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A fresh reference store, with the environment that points the command line at it."""
    with fresh_database(postgres_server) as database:
        env = {
            "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(postgres_server.airflow_connection(database)),
            "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(s3_server.airflow_connection()),
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        for name in ("LIFECYCLE_POLICY", "LIFECYCLE_DATASETS"):
            monkeypatch.delenv(name, raising=False)
        made = Store(with_database(postgres_server, database), s3, env, postgres_server, s3_server)
        try:
            yield made
        finally:
            made.close()
