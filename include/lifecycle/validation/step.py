"""The validate step of a run: let Great Expectations judge, keep the verdicts, publish the report."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lifecycle.config import load_configuration
from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.gx_suite import Engine, ValidationReport, validate
from lifecycle.validation.report import publish
from lifecycle.validation.run_facts import load_run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ENGINE_VARIABLE = "LIFECYCLE_VALIDATION"


def validate_run(conn: Connection, s3: S3Client, run_id: int) -> ValidationReport:
    """Judge a run by its scope and as-of, store the verdicts in lifecycle.validations and publish its report.

    The caller raises when ``failures`` is not empty: the report of a failed validation is published too.
    """
    config = load_configuration()
    run = load_run(conn, run_id)
    report = validate(conn, s3, config, run_id, run.as_of, run.scope, engine=_engine())
    checked_at = datetime.now(UTC)
    store(conn, report, checked_at)
    publish(conn, s3, config, report, checked_at)
    return report


def _engine() -> Engine:
    chosen = os.environ.get(ENGINE_VARIABLE) or Engine.GREAT_EXPECTATIONS.value
    if chosen not in set(Engine):
        raise PreconditionError(f"{ENGINE_VARIABLE} is {chosen!r}; write one of {', '.join(Engine)}")
    return Engine(chosen)


def store(conn: Connection, report: ValidationReport, checked_at: datetime) -> None:
    """Replace the verdicts of an earlier try of the same run."""
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute("DELETE FROM lifecycle.validations WHERE run_id = %s", (report.run_id,))
        cursor.executemany(
            "INSERT INTO lifecycle.validations (run_id, name, promise, severity, violations, success, checked_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (report.run_id, r.name, r.promise, r.severity, r.violations, r.success, checked_at)
                for r in report.results
            ],
        )
