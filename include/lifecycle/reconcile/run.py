"""One reconciliation: rows first, then objects, so that what is written meanwhile is an object too many."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.config import Configuration
from lifecycle.errors import PreconditionError
from lifecycle.reconcile.database import scratch
from lifecycle.reconcile.inventory import Inventory
from lifecycle.reconcile.report import Report, reconcile
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def reconcile_messages(
    conn: Connection, s3: S3Client, config: Configuration, as_of: datetime, inventory: str | None, memory_mb: int
) -> Report:
    """Compare the messages with the objects of their bucket.

    Args:
        inventory: where a manifest.json is; None lists the bucket. What arrived after it was made is left out.

    Raises:
        PreconditionError: the inventory is of another bucket, cannot be read, or lacks a column.
        VerificationError: a data file is not what its manifest says.
    """
    dataset = config.catalog.messages
    taken, opened = as_of, None
    if inventory is not None:
        opened = Inventory.open(inventory, s3)
        if opened.manifest.bucket != dataset.objects.bucket:
            raise PreconditionError(
                f"the inventory is of bucket {opened.manifest.bucket!r}, and the objects of {dataset.id} lie in "
                f"{dataset.objects.bucket!r}"
            )
        taken = min(as_of, opened.manifest.made_at)
    with scratch(memory_mb) as db:
        db.load_rows(conn, dataset, taken)
        if opened is not None:
            db.load_inventory(opened)
        else:
            db.list_bucket(s3, dataset.objects.bucket, ("",))
        return reconcile(db, dataset, taken, config.policy.thresholds.orphan_margin.longest())
