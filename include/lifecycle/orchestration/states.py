"""The state of a store in one line, whatever is wrong with it, and the Airflow pools of its DAGs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from lifecycle.config import Configuration, load_configuration
from lifecycle.deployment import Store
from lifecycle.errors import ConfigurationError, LifecycleError
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.orchestration.standing import standings
from lifecycle.planning.risk import State
from lifecycle.stores.postgres.connect import connect
from lifecycle.stores.postgres.identity import WrongStoreError, owner
from lifecycle.stores.postgres.requests import list_holds

# In the order of how urgent they are.
_WORST = (State.BROKEN, State.AT_RISK, State.FINE)
UNREADABLE, MISCONFIGURED = "unreadable", "misconfigured"
# As pools.json has them for a single store.
_POOLS = {
    "retention_postgres": (8, "Tasks that mostly work in the product PostgreSQL"),
    "retention_s3": (4, "Tasks that mostly work in S3"),
}


@dataclass(frozen=True)
class StoreState:
    """One store: ``state`` is that of its most urgent deadline, 'unreadable' or 'misconfigured'. Counts, no ids."""

    name: str
    postgres: str
    s3: str
    policy: str | None
    datasets: str | None
    state: str
    problem: str | None = None
    due: int | None = None
    overdue: int | None = None
    holds: int | None = None
    waiting: int | None = None
    last_success: datetime | None = None

    @property
    def fine(self) -> bool:
        return self.state == State.FINE.value


def state_of(store: Store, as_of: datetime) -> StoreState:
    """Where a store stands; it must be the current one. What fails is part of the answer, so that the others are told.

    Only the kind of an unexpected error is told: a database's message may quote a row (hard case 25).
    """
    of = StoreState(
        name=store.name,
        postgres=store.postgres,
        s3=store.s3,
        policy=_shown(store.policy),
        datasets=_shown(store.datasets),
        state=UNREADABLE,
    )
    try:
        config = load_configuration()
        of = replace(of, policy=_shown(config.policy_path), datasets=_shown(config.catalog_path))
        return _measured(of, store, config, as_of)
    except ConfigurationError as error:
        return replace(of, state=MISCONFIGURED, problem=str(error))
    except LifecycleError as error:
        return replace(of, problem=str(error))
    except psycopg.Error as error:
        return replace(of, problem=f"PostgreSQL: {type(error).__name__}")
    except Exception as error:
        if not type(error).__module__.startswith("botocore."):
            raise
        return replace(of, problem=f"S3: {type(error).__name__}")


def _shown(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _measured(of: StoreState, store: Store, config: Configuration, as_of: datetime) -> StoreState:
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        found_owner = owner(conn)
        if store.declared and found_owner not in (None, store.name):
            raise WrongStoreError(store.name, str(found_owner))
        found = standings(conn, shared_s3_client(), config.policy, config.catalog, as_of)
        holds = len(list_holds(conn, as_of))
        row = conn.execute("SELECT count(*) FROM lifecycle.approvals WHERE status = 'pending'").fetchone()
    states = {standing.state(config.policy, as_of) for standing in found}
    successes = [standing.last_success for standing in found if standing.last_success is not None]
    return replace(
        of,
        state=next((state for state in _WORST if state in states), State.FINE).value,
        due=sum(standing.due for standing in found),
        overdue=sum(standing.late.overdue for standing in found),
        holds=holds,
        waiting=row[0] if row else 0,
        last_success=max(successes, default=None),
    )


def pools_of(store: Store) -> dict[str, dict[str, Any]]:
    """The pools of a store's DAGs, in the form of `airflow pools import`."""
    of = "" if not store.declared else f" (store {store.name})"
    return {
        store.pool(usual): {"slots": slots, "description": f"{text}{of}", "include_deferred": True}
        for usual, (slots, text) in _POOLS.items()
    }
