"""The alarm that comes while there is still time: measures every standing, publishes it as metrics, and raises.

It rings when less is left than a schedule interval and the longest run need (planning/risk.py), which cannot be while
every run succeeds in its time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from lifecycle.config import load_configuration
from lifecycle.deployment import current_store
from lifecycle.errors import DeadlineAtRiskError
from lifecycle.explain.metrics import samples
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.orchestration.standing import SCOPES, standings
from lifecycle.planning.risk import Standing, State, alarming
from lifecycle.policy.models import Policy
from lifecycle.stores.postgres.connect import connect

log = logging.getLogger(__name__)


def check_scopes(scopes: Collection[str], as_of: datetime) -> tuple[Standing, ...]:
    """Measure some scopes.

    Raises:
        DeadlineAtRiskError: a deadline is at risk or broken; hours left and counts, the most urgent first.
    """
    config = load_configuration()
    found = _measure(scopes, as_of)
    raise_if_alarming(found, config.policy, as_of)
    return found


def _measure(scopes: Collection[str], as_of: datetime) -> tuple[Standing, ...]:
    config = load_configuration()
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        return standings(conn, shared_s3_client(), config.policy, config.catalog, as_of, scopes)


def raise_if_alarming(found: Sequence[Standing], policy: Policy, as_of: datetime) -> None:
    """Raise with numbers when somebody has to look; dataset and tier are named, never a record."""
    urgent = alarming(found, policy, as_of)
    if urgent:
        left = {s.name: span.total_seconds() / 3600 for s in urgent if (span := s.time_left(as_of)) is not None}
        raise DeadlineAtRiskError(left, {s.name: s.due for s in urgent})


def watch(as_of: datetime) -> dict[str, Any]:
    """One look as an Airflow task: gauges first, so that they are there when the alarm rings.

    Raises:
        DeadlineAtRiskError: a deadline is at risk or broken.
    """
    policy = load_configuration().policy
    found = _measure(SCOPES, as_of)
    publish(found, as_of)
    for standing in found:
        left = standing.time_left(as_of)
        hours = "-" if left is None else f"{left.total_seconds() / 3600:.1f}"
        log.info("%s: %s h left, %d due, %s", standing.name, hours, standing.due, standing.late.as_dict())
    raise_if_alarming(found, policy, as_of)
    return {
        "as_of": as_of.isoformat(),
        "standings": len(found),
        "fine": sum(standing.state(policy, as_of) is State.FINE for standing in found),
        "due": sum(standing.due for standing in found),
    }


def publish(found: Sequence[Standing], as_of: datetime) -> None:
    """Gauges ``lifecycle.at_risk_seconds``, ``lifecycle.overdue`` ..., tagged by dataset and tier (and store).

    Where they go is Airflow's setting ([metrics]: StatsD or OpenTelemetry); nowhere by default.
    """
    from airflow.sdk.observability import stats

    for sample in samples(found, as_of, current_store().told):
        stats.gauge(f"lifecycle.{sample.metric}", sample.value, tags=dict(sample.labels))
