"""The write-once copy of a run's ledger in S3: what a third party compares the database with."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LedgerError
from lifecycle.ledger import chain
from lifecycle.ledger.approvals import NO_RUN
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lifecycle.dispositions.context import RunContext

PREFIX = "ledger/"


def evidence_prefix(context: RunContext) -> str:
    run = context.run
    return f"{PREFIX}{run.as_of.date().isoformat()}/{run.scope}/run-{run.run_id}/"


def write_evidence(context: RunContext) -> dict[str, Any]:
    """Write the run's ledger rows and its certificate to the evidence bucket, once.

    Returns:
        the prefix, the number of rows, and the chain's head at that moment.

    Raises:
        VerificationError: another, different copy stands there already.
    """
    from lifecycle.stores.s3.copy import put_verified

    lines, head, count = [], None, 0
    for row in chain.rows(context.conn, context.run.run_id):
        lines.append(_line(row))
        head, count = row.hash, count + 1
    bucket = context.catalog.evidence_bucket
    write_decisions(context.conn, context.s3, bucket)
    prefix = _free_prefix(context, bucket, count)
    certificate = {
        "run": context.run.run_key,
        "run_id": context.run.run_id,
        "scope": context.run.scope,
        "as_of": context.run.as_of.isoformat(),
        "policy_sha256": context.run.policy_hash,
        "datasets_sha256": context.run.catalog_hash,
        "ledger_rows": count,
        "last_row_hash": head,
    }
    for name, body, kind in (
        ("ledger.jsonl", "".join(f"{line}\n" for line in lines).encode(), "application/x-ndjson"),
        ("certificate.json", json.dumps(certificate, indent=2, sort_keys=True).encode(), "application/json"),
    ):
        put_verified(context.s3, bucket, f"{prefix}{name}", body, content_type=kind, metadata={})
    return {"evidence": prefix, "ledger_rows": count, "head": head}


def _free_prefix(context: RunContext, bucket: str, count: int) -> str:
    """The run's prefix; beside it where a copy with fewer rows stands, of before an approval let the run go on."""
    from lifecycle.stores.s3.copy import exists

    prefix = evidence_prefix(context)
    if not exists(context.s3, bucket, f"{prefix}certificate.json"):
        return prefix
    standing = json.loads(context.s3.get_object(Bucket=bucket, Key=f"{prefix}certificate.json")["Body"].read())
    return prefix if standing["ledger_rows"] == count else f"{prefix}rows-{count}/"


def write_decisions(conn: Connection, s3: S3Client, bucket: str) -> int:
    """Write the ledger rows of decisions, which belong to no run, to the evidence bucket: those that are not there yet.

    So a process that dies between a decision and its copy is made good by the next run that is certified. Returns how
    many were written.

    Raises:
        VerificationError: another, different copy stands there already.
    """
    from lifecycle.stores.s3.copy import put_verified

    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{PREFIX}decisions/")
    there = {found["Key"] for page in pages for found in page.get("Contents", [])}
    written = 0
    for row in chain.rows(conn, NO_RUN):
        # By its hash too: in a database that was restored from a backup the same number can come again.
        key = f"{PREFIX}decisions/{row.run_key.replace('/', '-')}-{row.hash[:12]}/ledger.jsonl"
        if key not in there:
            body = f"{_line(row)}\n".encode()
            put_verified(s3, bucket, key, body, content_type="application/x-ndjson", metadata={})
            written += 1
    return written


def _line(row: chain.Row) -> str:
    return chain.canonical(asdict(row)).decode()[:-1] + f',"hash":"{row.hash}"}}'


def compare_copies(conn: Connection, s3: S3Client, bucket: str) -> int:
    """Compare every ledger row that stands in the evidence bucket with the database.

    Returns:
        the number of rows compared.

    Raises:
        LedgerError: a row of the copy is missing from the database, or differs.
    """
    compared = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX):
        for found in page.get("Contents", []):
            if found["Key"].endswith("/ledger.jsonl"):
                compared += _compare(conn, s3, bucket, found["Key"])
    return compared


def _compare(conn: Connection, s3: S3Client, bucket: str, key: str) -> int:
    compared = 0
    for line in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_lines():
        copy = json.loads(line)
        if chain.row_hash(copy) != copy["hash"]:
            raise LedgerError(f"row {copy['seq']} of the copy {key} was changed")
        row = conn.execute("SELECT hash FROM lifecycle.ledger WHERE seq = %s", (copy["seq"],)).fetchone()
        if row is None or row[0] != copy["hash"]:
            raise LedgerError(f"row {copy['seq']} of the ledger is missing or differs from its copy {key}")
        compared += 1
    return compared
