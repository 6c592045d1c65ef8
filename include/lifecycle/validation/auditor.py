"""The independent auditor: re-reads the stores by its own queries and listing, and says which promises are broken.

It deletes nothing, and shares nothing with the code that does but the connection (hard case 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql

from lifecycle.config import Configuration
from lifecycle.errors import ValidationFailedError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.checks import SCOPES
from lifecycle.validation.models import AuditResult, Check, CheckResult
from lifecycle.validation.prepare import prepare
from lifecycle.validation.staging import temporary_stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def audit(
    conn: Connection,
    s3: S3Client,
    config: Configuration,
    as_of: datetime,
    *,
    scopes: Sequence[str] | None = None,
    run_id: int | None = None,
) -> AuditResult:
    """Check every promise, of the whole store or of some scopes.

    Args:
        as_of: the aware instant at which deadlines are judged.
        scopes: tiers, ``records``, ``erasure``; all of them when not given.
        run_id: judge this run: its own as-of is then the instant up to which it must have acted.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of has no time zone")
    with temporary_stage(conn) as stage:
        prepared = prepare(conn, s3, config, stage, as_of, scopes or SCOPES, run_id)
        return AuditResult.of(tuple(count(conn, prepared.checks)), as_of)


def count(conn: Connection, checks: Sequence[Check]) -> list[CheckResult]:
    """Run every check's query on one snapshot of the database."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return [check.result(_count(conn, check)) for check in checks]


def _count(conn: Connection, check: Check) -> int:
    query = sql.SQL("SELECT count(*) FROM ({}) AS violations").format(check.query)
    row = conn.execute(query, dict(check.params) or None).fetchone()
    return int(row[0]) if row is not None else 0


def audit_task(as_of: datetime) -> dict[str, Any]:
    """The auditor as an Airflow task: everything, as of an instant. Counts only.

    Raises:
        ValidationFailedError: a promise is broken; counts per check.
    """
    from lifecycle.config import load_configuration
    from lifecycle.connections import s3_client
    from lifecycle.stores.postgres.connect import connect

    config = load_configuration()
    with connect() as conn:
        result = audit(conn, s3_client(), config, as_of)
    if not result.passed:
        raise ValidationFailedError(result.failures)
    return {
        "as_of": as_of.isoformat(),
        "checks": len(result.checks),
        "warnings": sum(not check.success for check in result.checks),
    }
