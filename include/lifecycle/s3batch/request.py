"""What S3 Batch Operations is asked for: lines of a manifest, the CreateJob request, the role's policies. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from lifecycle.catalog.buckets import Backstop
from lifecycle.errors import PreconditionError

# What one CopyObject request takes; a larger object has to be copied in parts, which Batch Operations does not.
LARGEST_COPY = 5 << 30
MOST_TAGS = 10
_ROLE = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/[\w+=,.@/-]{1,512}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Operation(StrEnum):
    """What is done to every version of the manifest. Batch Operations cannot delete versions."""

    TAG = "tag"
    COPY = "copy"


@dataclass(frozen=True)
class Place:
    """A bucket and what keys in it begin with: nothing, or something that ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """``s3://bucket/prefix``.

        Raises:
            PreconditionError: it is no such thing.
        """
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not text.startswith("s3://") or not _BUCKET.fullmatch(bucket):
            raise PreconditionError(f"{text!r} is no place in S3; write s3://bucket/prefix")
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")


@dataclass(frozen=True)
class Job:
    """Everything about a job but its manifest. ``ticket``: the tag by which S3 itself may expire an object."""

    operation: Operation
    place: Place
    role: str
    source: str
    priority: int = 10
    tags: tuple[tuple[str, str], ...] = ()
    target: Place | None = None
    ticket: str = Backstop().tag

    def __post_init__(self) -> None:
        if _ROLE.fullmatch(self.role) is None:
            raise PreconditionError("the role is no ARN of an IAM role; write arn:aws:iam::123456789012:role/name")
        if self.operation is Operation.COPY and self.target is None:
            raise PreconditionError("a copy needs a target; write --target s3://bucket/prefix")
        if self.operation is Operation.COPY and self.target == Place(self.source, ""):
            raise PreconditionError("a copy onto itself moves nothing; give the target another bucket or a prefix")
        if self.operation is Operation.TAG and not 1 <= len(self.tags) <= MOST_TAGS:
            raise PreconditionError(f"tagging needs one to {MOST_TAGS} tags; write --tag KEY=VALUE")
        if taken := {self.ticket, Backstop().tag} & {key for key, _ in self.tags}:
            raise PreconditionError(
                f"{taken.pop()!r} is the tag by which S3 expires objects, and these must stay; name the tag otherwise"
            )

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn`` or ``aws-us-gov``."""
        return self._role["partition"]

    @property
    def account(self) -> str:
        return self._role["account"]

    @property
    def _role(self) -> re.Match[str]:
        found = _ROLE.fullmatch(self.role)
        assert found is not None  # checked when it was made
        return found

    def arn(self, bucket: str, key: str = "") -> str:
        return f"arn:{self.partition}:s3:::{bucket}" + (f"/{key}" if key else "")


def manifest_line(bucket: str, key: str, version_id: str) -> str:
    """One line of a manifest: URL-encoded, so that no key can break the CSV; ``null`` is a version like any other."""
    return f"{bucket},{quote(key, safe='/')},{quote(version_id or 'null', safe='')}\r\n"


def token_of(job: Job, manifest_sha256: str) -> str:
    """The same for the same job over the same manifest: S3 then answers with the job that is there already."""
    told = (job.operation, job.role, job.source, job.tags, job.target, manifest_sha256)
    return str(uuid5(NAMESPACE_URL, repr(told)))


def folder_of(job: Job, manifest_sha256: str) -> str:
    """Where manifest, request and report of a job lie: never two jobs in one place."""
    return f"{job.place.prefix}{token_of(job, manifest_sha256)}/"


def create_job(job: Job, manifest_sha256: str, etag: str, objects: int) -> dict[str, Any]:
    """The parameters of boto3's ``s3control.create_job``. The job waits until somebody confirms it."""
    folder = folder_of(job, manifest_sha256)
    return {
        "AccountId": job.account,
        "ConfirmationRequired": True,
        "Operation": _operation(job),
        "Report": {
            "Enabled": True,
            "Bucket": job.arn(job.place.bucket),
            "Prefix": f"{folder}report",
            "Format": "Report_CSV_20180820",
            # Of all tasks: what is not in the report is not known to be done.
            "ReportScope": "AllTasks",
        },
        "ClientRequestToken": token_of(job, manifest_sha256),
        "Manifest": {
            "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key", "VersionId"]},
            "Location": {"ObjectArn": job.arn(job.place.bucket, f"{folder}manifest.csv"), "ETag": etag},
        },
        "Description": f"lifecycle: {job.operation.value} {objects} survivor(s)",
        "Priority": job.priority,
        "RoleArn": job.role,
    }


def _operation(job: Job) -> dict[str, Any]:
    if job.operation is Operation.TAG:
        return {"S3PutObjectTagging": {"TagSet": [{"Key": key, "Value": value} for key, value in job.tags]}}
    assert job.target is not None  # checked when it was made
    copy: dict[str, Any] = {"TargetResource": job.arn(job.target.bucket), "MetadataDirective": "COPY"}
    if job.target.prefix:
        copy["TargetKeyPrefix"] = job.target.prefix.rstrip("/")
    return {"S3PutObjectCopy": copy}


def trust_policy(job: Job) -> dict[str, Any]:
    """Who may take the role: Batch Operations, and only for this account."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "batchoperations.s3.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:SourceAccount": job.account}},
            }
        ],
    }


def role_policy(job: Job) -> dict[str, Any]:
    """What the role needs, and no more: no right to delete anything."""
    read = {Operation.TAG: [], Operation.COPY: _COPY_READS}[job.operation]
    statements = [
        _allow("s3:GetObject", "s3:GetObjectVersion", on=job.arn(job.place.bucket, f"{job.place.prefix}*")),
        _allow("s3:PutObject", on=job.arn(job.place.bucket, f"{job.place.prefix}*")),
    ]
    if job.operation is Operation.TAG:
        statements.append(_allow("s3:PutObjectTagging", "s3:PutObjectVersionTagging", on=job.arn(job.source, "*")))
    if job.target is not None:
        statements.append(_allow(*read, on=job.arn(job.source, "*")))
        statements.append(
            _allow("s3:PutObject", "s3:PutObjectTagging", on=job.arn(job.target.bucket, f"{job.target.prefix}*"))
        )
    return {"Version": "2012-10-17", "Statement": statements}


_COPY_READS = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectVersionTagging"]


def _allow(*actions: str, on: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on}


def policies(job: Job) -> Mapping[str, Any]:
    return {"trust": trust_policy(job), "permissions": role_policy(job)}
