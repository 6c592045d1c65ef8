"""Opens what a step needs, from configuration and connections, and closes it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.config import load_configuration
from lifecycle.connections import s3_client
from lifecycle.dispositions.context import RunContext
from lifecycle.errors import PreconditionError
from lifecycle.ledger import runs
from lifecycle.stores.postgres.connect import connect


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
        yield RunContext(conn, s3_client(), config.policy, config.catalog, run)
