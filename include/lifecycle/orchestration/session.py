"""Opens what a step needs, from configuration and connections, and closes it again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from lifecycle.config import load_configuration
from lifecycle.connections import connection_id, environment_variable, s3_client
from lifecycle.deployment import S3_ID
from lifecycle.dispositions.context import RunContext
from lifecycle.errors import PreconditionError
from lifecycle.ledger import runs
from lifecycle.orchestration.approval import guard_of_run
from lifecycle.stores.postgres.connect import connect

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@lru_cache(maxsize=16)
def _client_for(name: str, connection: str | None) -> S3Client:
    return s3_client()


def shared_s3_client() -> S3Client:
    """One client per process and connection: making one costs more than most steps do."""
    name = connection_id(S3_ID)
    return _client_for(name, os.environ.get(environment_variable(name)))


@contextmanager
def run_context(run_id: int) -> Iterator[RunContext]:
    """Everything one step of a run works with. Extends the run's lease.

    Raises:
        PreconditionError: the policy or dataset file has changed since the run began.
    """
    config = load_configuration()
    with connect() as conn:
        run = runs.load(conn, run_id)
        if (run.policy_hash, run.catalog_hash) != (config.policy_hash, config.catalog_hash):
            raise PreconditionError(
                f"the policy or dataset file changed since run {run.run_key} began; start a new run"
            )
        runs.alive(conn, run_id)
        guard = guard_of_run(conn, config, run)
        yield RunContext(conn, shared_s3_client(), config.policy, config.catalog, run, guard)
