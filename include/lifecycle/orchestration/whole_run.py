"""A whole run without a scheduler: every scope, step by step, as the DAGs do it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import psycopg

from lifecycle.dispositions.context import ERASURE_SCOPE, RECORDS_SCOPE, SCOPES
from lifecycle.errors import DispositionError, ValidationFailedError
from lifecycle.orchestration import steps
from lifecycle.orchestration.preview import preview
from lifecycle.planning.units import Unit
from lifecycle.stores.postgres.connect import Connection, connect, sessions_reused

log = logging.getLogger(__name__)
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class ScopeResult:
    """What a run of one scope did, in counts, and its verdict."""

    scope: str
    run_id: int | None
    summary: dict[str, Any]
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        verdict = "passed" if self.passed else "failed"
        return self.summary | {"run_id": self.run_id, "verdict": verdict, "failures": self.failures}


def scopes_of(tier: str | None) -> tuple[str, ...]:
    """All tiers or one, then the records that belong to no tier, then what erasure requests left."""
    return SCOPES if tier is None else (tier, RECORDS_SCOPE, ERASURE_SCOPE)


def run_scopes(
    scopes: Sequence[str], as_of: datetime, progress: Progress, *, requested_by: str = "command line"
) -> list[ScopeResult]:
    """Run every scope, and go on with the next when one fails.

    Args:
        requested_by: who started this; may not approve what it asks where the policy wants four eyes.

    Raises:
        ConfigurationError, PreconditionError, RunInProgressError: before anything of a scope is touched.
    """
    with connect() as owner, sessions_reused():
        return [_run_scope(scope, as_of, owner, progress, requested_by) for scope in scopes]


def _run_scope(scope: str, as_of: datetime, owner: Connection, progress: Progress, requested_by: str) -> ScopeResult:
    progress(scope, "check", 0, 0)
    run_id = steps.begin(scope, as_of, owner=owner, requested_by=requested_by)
    failures: dict[str, int] = {}
    try:
        plan = partial(steps.plan, requested_by=requested_by)
        for name, step in (("partition", steps.partition), ("plan", plan), ("quarantine", steps.quarantine)):
            progress(scope, name, 0, 0)
            _try(failures, step, run_id)
        units = steps.units(run_id)
        for done, unit in enumerate(units):
            progress(scope, "expire", done, len(units))
            _try(failures, steps.expire, run_id, unit)
        progress(scope, "settle", 0, 0)
        summary = steps.settle(run_id)
        if not failures:
            progress(scope, "validate", 0, 0)
            _try(failures, steps.validate, run_id)
        if failures:
            steps.fail(run_id)
        else:
            summary = summary | steps.certify(run_id)
    except BaseException:
        _close(run_id)
        raise
    progress(scope, "done", 0, 0)
    return ScopeResult(scope, run_id, summary, failures)


def _close(run_id: int) -> None:
    """Leave the run resumable. When the database itself is gone there is nobody to tell: its lease ends by itself."""
    try:
        steps.fail(run_id)
    except psycopg.OperationalError:
        log.warning("run %d could not be marked as failed: the database is not reachable", run_id)


def _try(failures: dict[str, int], step: Callable[..., Any], *args: Any) -> None:
    """Run a step; what it could not dispose of or what it found broken is counted, and the run goes on."""
    try:
        step(*args)
    except DispositionError as error:
        log.error("%s", error)
        failures[error.partition] = error.failed
    except ValidationFailedError as error:
        failures.update(error.failures)


def dry_run(scopes: Sequence[str], as_of: datetime) -> dict[str, list[Unit]]:
    """The units of every scope, and nothing else."""
    return {scope: preview(scope, as_of) for scope in scopes}
