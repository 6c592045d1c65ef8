"""Reads log objects as a run would judge them, and counts. No line leaves this module."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Logs
from lifecycle.config import Configuration
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.logs import decider, fields_of
from lifecycle.ledger.runs import Run
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.facts import load_log_facts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass
class Counts:
    """What some objects hold."""

    objects: int = 0
    kept: int = 0
    due: dict[str, int] = field(default_factory=dict)


def reader(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> RunContext:
    """A context of a run that is never registered."""
    run = Run.unregistered("explain", RECORDS_SCOPE, as_of, (config.policy_hash, config.catalog_hash))
    return RunContext(conn, s3, config.policy, config.catalog, run)


def inspect(context: RunContext, dataset: Logs, prefix: str, filed: date) -> Counts:
    """Every object under a prefix (a whole key is one), its records judged by the facts of now."""
    from lifecycle.stores.s3.logs import inspect_object
    from lifecycle.stores.s3.versions import iter_versions

    facts = load_log_facts(context.conn, context.catalog, context.params, {}, dataset)
    judge, fields = decider(context, dataset, facts, filed), fields_of(dataset)
    counts = Counts()
    for key, _ in groupby(iter_versions(context.s3, dataset.bucket, prefix), key=attrgetter("key")):
        if not prefix.endswith("/") and key != prefix:
            continue  # another key that begins alike
        seen = inspect_object(context.s3, dataset.bucket, key, fields, judge)
        counts.objects += 1
        counts.kept += seen.kept
        for rule, number in seen.removed.items():
            counts.due[rule] = counts.due.get(rule, 0) + number
    return counts
