"""What a run would do, without doing it: the same planner in a session that PostgreSQL itself keeps from writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from lifecycle.config import load_configuration
from lifecycle.dispositions.blast_radius import judge
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.survey import survey
from lifecycle.ledger.runs import Run
from lifecycle.orchestration.approval import guard_of_run, refuse_locked, standing
from lifecycle.orchestration.checks import check_as_of, check_stores
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.planning.units import Unit
from lifecycle.stores.postgres.connect import connect


@contextmanager
def read_only_context(scope: str, as_of: datetime) -> Iterator[RunContext]:
    """A context of a run that is never registered. Any write to PostgreSQL raises (hard case 21)."""
    config = load_configuration()
    check_as_of(config.policy, as_of, datetime.now(UTC))
    s3 = shared_s3_client()
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        check_stores(conn, s3, config.catalog)
        refuse_locked(conn, config)
        hashes = (config.policy_hash, config.catalog_hash)
        run = Run.unregistered("preview", scope, as_of, hashes, standing(conn, config, as_of).guard)
        yield RunContext(conn, s3, config.policy, config.catalog, run, guard_of_run(conn, config, run))


def preview(scope: str, as_of: datetime) -> list[Unit]:
    """The units that a run of this scope would carry out now."""
    with read_only_context(scope, as_of) as context:
        units, _ = judge(context, survey(context))
        return units
