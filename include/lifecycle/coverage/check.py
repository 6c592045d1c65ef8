"""Gathers the facts and compares them: what the command line and the auditor call."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.config import Configuration
from lifecycle.coverage.bindings import bound_by
from lifecycle.coverage.buckets import declared_prefixes, list_buckets, strays_in
from lifecycle.coverage.compare import Excluded, compare
from lifecycle.coverage.database import count_timeless, count_unclassified, read_relations
from lifecycle.coverage.differences import Coverage
from lifecycle.coverage.facts import Facts
from lifecycle.coverage.readers import (
    has_large_objects,
    read_copiers,
    read_logged,
    read_publications,
    read_table_names,
)
from lifecycle.coverage.second_copies import of_publication, second_copies
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def gather(conn: Connection, s3: S3Client, config: Configuration) -> Facts:
    """Read what exists. Changes nothing but temporary tables of this session."""
    return Facts(
        relations=read_relations(conn, config.catalog),
        buckets=list_buckets(s3),
        strays={
            bucket: strays_in(s3, bucket, prefixes) for bucket, prefixes in declared_prefixes(config.catalog).items()
        },
        unclassified=count_unclassified(conn, config.catalog),
        timeless=count_timeless(conn, config.catalog),
        publications=read_publications(conn),
        copiers=read_copiers(conn),
        large_objects=has_large_objects(conn),
        logged=read_logged(conn),
    )


def undeclared_publications(conn: Connection, config: Configuration, as_of: datetime) -> tuple[str, ...]:
    """The publications whose subscribers keep rows of bound tables for good, and which no exclusion names."""
    excluded = Excluded(config.catalog.exclusions, as_of)
    bound = bound_by(config.catalog)
    found = (
        sent.name
        for sent in read_publications(conn)
        if sent.table in bound and of_publication(sent) is not None and not excluded.copy(sent)
    )
    return tuple(dict.fromkeys(found))


def undeclared_copies(conn: Connection, config: Configuration, as_of: datetime) -> tuple[str, ...]:
    """What coverage warns of as second copies, without looking at anything else."""
    excluded = Excluded(config.catalog.exclusions, as_of)
    bound = bound_by(config.catalog)
    governed = {name for name in read_table_names(conn) if excluded.table(name)} | set(bound)
    return tuple(second_copies(read_publications(conn), read_copiers(conn), bound, governed, excluded.copy))


def check_coverage(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> Coverage:
    """What exists against what is configured, with the exclusions that count at an instant."""
    return compare(gather(conn, s3, config), config.catalog, config.policy, as_of)
