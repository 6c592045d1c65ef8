"""Creates the reference store: schemas in PostgreSQL, buckets in S3. Safe to run again, and by two at once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import psycopg

from lifecycle.errors import PreconditionError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lifecycle.catalog.models import Catalog

RESEARCH_BUCKET = "research"
# Any constant: two `store create` at once wait for each other instead of colliding on CREATE ... IF NOT EXISTS.
_CREATE_LOCK = 0x6C696665


@dataclass(frozen=True)
class BucketSpec:
    """A bucket of the reference store. ``locked``: versioned with Object Lock and no default retention."""

    name: str
    versioned: bool
    locked: bool = False


def bucket_specs(catalog: Catalog) -> tuple[BucketSpec, ...]:
    """The five buckets, named by the catalog."""
    logs = dict.fromkeys(dataset.bucket for dataset in catalog.logs)
    return (
        BucketSpec(catalog.messages.objects.bucket, versioned=True),
        *(BucketSpec(name, versioned=True) for name in logs),
        BucketSpec(catalog.messages.quarantine.bucket, versioned=True, locked=True),
        BucketSpec(catalog.evidence_bucket, versioned=True, locked=True),
        BucketSpec(RESEARCH_BUCKET, versioned=False),
    )


def create_store(conninfo: str, s3_client: S3Client, catalog: Catalog) -> None:
    """Create everything that is missing; what exists is left as it is.

    Raises:
        PreconditionError: a bucket exists without the Object Lock it needs, which cannot be added by this command.
    """
    create_schemas(conninfo)
    create_buckets(s3_client, bucket_specs(catalog))


def create_schemas(conninfo: str) -> None:
    """Apply the project's own schema, then the application's, in one transaction."""
    with psycopg.connect(conninfo) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATE_LOCK,))
        # "already exists, skipping" for every table would drown what matters on a second run
        conn.execute("SET LOCAL client_min_messages = warning")
        for package, name in (("lifecycle.stores.postgres", "schema.sql"), ("reference_store", "schema.sql")):
            conn.execute(resources.files(package).joinpath(name).read_bytes())


def create_buckets(s3_client: S3Client, specs: tuple[BucketSpec, ...]) -> None:
    """Create the buckets that do not exist and switch versioning on where it is off."""
    for spec in specs:
        _create_bucket(s3_client, spec)
        if spec.locked:
            _require_object_lock(s3_client, spec.name)
        if spec.versioned and s3_client.get_bucket_versioning(Bucket=spec.name).get("Status") != "Enabled":
            s3_client.put_bucket_versioning(Bucket=spec.name, VersioningConfiguration={"Status": "Enabled"})


def _create_bucket(s3_client: S3Client, spec: BucketSpec) -> None:
    from botocore.exceptions import ClientError

    try:
        s3_client.head_bucket(Bucket=spec.name)
        return
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket", "NotFound"):
            raise
    try:
        region = s3_client.meta.region_name
        if region in (None, "", "us-east-1"):
            s3_client.create_bucket(Bucket=spec.name, ObjectLockEnabledForBucket=spec.locked)
        else:
            s3_client.create_bucket(
                Bucket=spec.name,
                ObjectLockEnabledForBucket=spec.locked,
                CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
            )
    except s3_client.exceptions.BucketAlreadyOwnedByYou:
        return  # somebody created it since we looked


def _require_object_lock(s3_client: S3Client, name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        configuration = s3_client.get_object_lock_configuration(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ObjectLockConfigurationNotFoundError":
            raise
        configuration = {}  # type: ignore[typeddict-item]
    if configuration.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
        raise PreconditionError(
            f"bucket {name!r} exists without Object Lock; remove it, or enable Object Lock on it, and run again"
        )
