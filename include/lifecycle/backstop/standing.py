"""Reads what buckets have and what the ledger says was approved, and compares: the command line's and the auditor's.

Shares nothing with the code that deletes but the connection (hard case 7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row

from lifecycle.backstop.compare import Approved, Change, Finding, changes, findings, notes
from lifecycle.backstop.compile import compile_backstop
from lifecycle.backstop.models import Backstop
from lifecycle.backstop.native import NativeDay, native_findings
from lifecycle.config import Configuration
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What the ledger calls decisions about the backstop: by dataset and, for each bucket, by unit.
LEDGER = "backstop"
APPROVE, WITHDRAW = "approve", "reject"
_NONE = frozenset({"NoSuchLifecycleConfiguration"})
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "403", "NotImplemented", "MethodNotAllowed"})


@dataclass(frozen=True)
class BucketStanding:
    """One bucket: its rules as S3 gives them (None where they may not be read), and what is to be said of them.

    ``days``: those that are left to S3 now (``expire: native``).
    """

    bucket: str
    current: tuple[dict[str, Any], ...] | None
    approved: Approved | None
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    days: tuple[NativeDay, ...] = ()

    @property
    def in_force(self) -> bool:
        return self.approved is not None and self.approved.rules_sha256 is not None


def unit_of(bucket: str) -> str:
    return f"{LEDGER}/{bucket}"


def read_rules(s3: S3Client, bucket: str) -> tuple[dict[str, Any], ...] | None:
    """The lifecycle rules of a bucket, none where it has no configuration; None where they may not be read."""
    from botocore.exceptions import ClientError

    try:
        answer = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code in _NONE:
            return ()
        if code in _REFUSED:
            return None
        raise
    return tuple(dict(rule) for rule in answer.get("Rules", []))


def approved_for(conn: Connection, bucket: str) -> Approved | None:
    """The last decision about a bucket; None where there never was one, or no ledger yet."""
    ledger = conn.execute("SELECT to_regclass('lifecycle.ledger') IS NOT NULL").fetchone()
    if ledger is None or not ledger[0]:
        return None
    row = conn.execute(
        sql.SQL(
            "SELECT disposition, counts ->> 'rules_sha256' FROM lifecycle.ledger WHERE entry = 'decision'"
            " AND dataset = {} AND unit = %s ORDER BY seq DESC LIMIT 1"
        ).format(sql.Literal(LEDGER)),
        (unit_of(bucket),),
    ).fetchone()
    if row is None:
        return None
    return Approved(row[1] if row[0] == APPROVE else None)


def days_left_to_s3(conn: Connection) -> list[NativeDay]:
    """Days for which a rule of ours stands, the oldest first; none where the schema is older than such rules."""
    known = conn.execute("SELECT to_regclass('lifecycle.native_rules') IS NOT NULL").fetchone()
    if known is None or not known[0]:
        return []
    with conn.cursor(row_factory=class_row(NativeDay)) as cursor:
        return cursor.execute(
            sql.SQL("SELECT {} FROM lifecycle.native_rules WHERE ended_at IS NULL ORDER BY day, rule_id").format(
                sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(NativeDay))
            )
        ).fetchall()


def standings(conn: Connection, s3: S3Client, config: Configuration) -> tuple[BucketStanding, ...]:
    """Every bucket of the dataset file. Changes nothing."""
    backstop = compile_backstop(config.policy, config.catalog)
    return tuple(_standings(conn, s3, backstop))


def _standings(conn: Connection, s3: S3Client, backstop: Backstop) -> Iterator[BucketStanding]:
    days = days_left_to_s3(conn)
    for bucket in backstop.buckets:
        current, approved = read_rules(s3, bucket), approved_for(conn, bucket)
        if current is None:
            yield BucketStanding(bucket, None, approved, (), (), ("its lifecycle rules may not be read with this key",))
            continue
        yield BucketStanding(
            bucket,
            current,
            approved,
            tuple(changes(bucket, current, backstop.rules(bucket))),
            (*findings(backstop, bucket, current, approved), *native_findings(bucket, current, days)),
            tuple(notes(backstop, bucket, current)),
            tuple(day for day in days if day.bucket == bucket),
        )
