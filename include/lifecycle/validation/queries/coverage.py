"""What exists against what is configured (hard case 24), as checks of an audit. Which things differ is told by
``lifecycle coverage``; here they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.config import Configuration
from lifecycle.coverage.check import check_coverage
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.queries.ledger import fact
from lifecycle.validation.scene import Scene, Stage
from lifecycle.validation.staging import add_fact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DIFFERENCES, UNUSED, COPIES = "coverage", "coverage_exclusions_unused", "coverage_second_copies"


def stage_coverage(conn: Connection, s3: S3Client, config: Configuration, stage: Stage, as_of: datetime) -> None:
    """Compare, and stage how many differences there are."""
    found = check_coverage(conn, s3, config, as_of)
    add_fact(conn, stage, DIFFERENCES, len(found.differences))
    add_fact(conn, stage, UNUSED, found.unused_exclusions)
    add_fact(conn, stage, COPIES, found.second_copies)


def coverage_checks(scene: Scene) -> Iterator[Check]:
    yield fact(
        scene,
        DIFFERENCES,
        Promise.COVERAGE,
        "Every table, column, bucket, prefix and record is bound or excluded (lifecycle coverage names what is not)",
    )
    yield fact(
        scene,
        UNUSED,
        Promise.COVERAGE,
        "Every declared exclusion names something that exists",
        Severity.WARNING,
    )
    yield fact(
        scene,
        COPIES,
        Promise.COVERAGE,
        "Every publication, trigger and rule that copies configured rows elsewhere is declared (lifecycle coverage)",
        Severity.WARNING,
    )
