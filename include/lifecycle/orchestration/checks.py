"""The first step of a run: clocks, stores and frozen time, before anything is planned (hard cases 9 and 10)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.errors import PreconditionError
from lifecycle.policy.models import Policy
from lifecycle.stores.postgres.columns import misfits
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.indexes import missing_indexes
from lifecycle.stores.postgres.stage_indexes import missing_for_stages, unfit_for_stages
from lifecycle.stores.postgres.tier_columns import missing_for_tiers, unfit_for_tiers
from lifecycle.stores.postgres.tree import check_tree

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)


def check_as_of(policy: Policy, as_of: datetime, now: datetime) -> None:
    """A run may look back, never ahead: a future as-of would destroy what is not due yet.

    Raises:
        PreconditionError: the instant is naive or lies in the future.
    """
    if as_of.tzinfo is None:
        raise PreconditionError("the as-of has no time zone; write for example 2026-11-01T00:00:00Z")
    if as_of > policy.thresholds.clock_skew.end(now, round_up=True):
        raise PreconditionError(f"the as-of {as_of.isoformat()} lies in the future; use the present or the past")


def check_clocks(conn: Connection, s3: S3Client, policy: Policy, catalog: Catalog) -> None:
    """Compare worker, database and S3.

    Raises:
        PreconditionError: two of them differ by more than the policy's clock_skew.
    """
    from lifecycle.stores.s3.buckets import server_time

    limit = policy.thresholds.clock_skew.longest()
    here = datetime.now(UTC)
    clocks = {"the database's": one(conn, "SELECT clock_timestamp()"), "S3's": server_time(s3)}
    for name, theirs in clocks.items():
        # S3 tells whole seconds.
        apart = abs((theirs - here).total_seconds())
        if apart > limit.total_seconds() + 1:
            raise PreconditionError(
                f"{name} clock and this worker's differ by {apart:.0f} s (at most {limit.total_seconds():.0f} s); "
                "correct them, for example with NTP, and run again"
            )


def check_stores(conn: Connection, s3: S3Client, catalog: Catalog) -> None:
    """Every configured table and bucket exists, and can keep what it promises.

    Raises:
        PreconditionError: one is missing, a bucket lacks versioning or Object Lock, or messages are partitioned so
            that they cannot be disposed of partition by partition (UnsupportedPartitioningError); or an id or a clock
            is of a type that would be compared wrongly.
    """
    from lifecycle.stores.s3.buckets import check_bucket

    for dataset in catalog.datasets:
        name = getattr(dataset, "table", None)
        if name is not None and not _exists(conn, name):
            raise PreconditionError(
                f"table {name} of dataset {dataset.id} does not exist; run 'lifecycle store create'"
            )
    unfit = [*misfits(conn, catalog), *unfit_for_stages(conn, catalog), *unfit_for_tiers(conn, catalog)]
    if unfit:
        raise PreconditionError("; ".join(map(str, unfit)))
    slow = (*missing_indexes(conn, catalog), *missing_for_stages(conn, catalog), *missing_for_tiers(conn, catalog))
    for missing in slow:
        log.warning("%s", missing)
    check_bucket(s3, catalog.evidence_bucket, versioned=True, object_lock=True)
    if not catalog.has_messages:
        return
    messages = catalog.messages
    if not _exists(conn, messages.research.table):
        raise PreconditionError(f"table {messages.research.table} does not exist; run 'lifecycle store create'")
    check_tree(conn, messages)
    check_bucket(s3, messages.objects.bucket, versioned=False, object_lock=False)
    for logs in catalog.logs:
        check_bucket(s3, logs.bucket, versioned=False, object_lock=False)
    check_bucket(s3, messages.quarantine.bucket, versioned=True, object_lock=True)


def _exists(conn: Connection, table: str) -> bool:
    quoted = sql.Identifier(*table.split(".", 1)).as_string(conn)
    return one(conn, "SELECT to_regclass(%s) IS NOT NULL", (quoted,)) is True
