"""Writes a job's manifest, request and policies to a folder or to S3, streaming."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.dispositions.context import RunContext
from lifecycle.policy.models import Tier
from lifecycle.s3batch.request import LARGEST_COPY, Job, Operation, create_job, folder_of, manifest_line, policies
from lifecycle.s3batch.survivors import surviving_versions
from lifecycle.stores.s3.errors import StoreError, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MANIFEST, REQUEST, POLICIES = "manifest.csv", "create-job.json", "role-policies.json"


@dataclass(frozen=True)
class Written:
    """What was written, and where; counts of survivors that are not in the manifest, by why."""

    objects: int
    size: int
    left_out: dict[str, int]
    where: str
    token: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "objects": self.objects,
            "bytes": self.size,
            "left_out": self.left_out,
            "where": self.where,
            "token": self.token,
        }


@dataclass(frozen=True)
class _Manifest:
    path: Path
    objects: int
    size: int
    sha256: str
    md5: str


def write_job(context: RunContext, tier: Tier, job: Job, folder: Path | None) -> Written:
    """Write manifest and request for the survivors of a tier.

    Args:
        folder: where files go, to be uploaded to the job's place; None: into the job's place itself.
    """
    left_out: Counter[str] = Counter()
    with _scratch(folder) as scratch:
        made = _write_manifest(context, tier, job, scratch / MANIFEST, left_out)
        key = folder_of(job, made.sha256)
        etag = made.md5 if folder is not None else _upload(context.s3, job, f"{key}{MANIFEST}", made.path)
        request = create_job(job, made.sha256, etag, made.objects)
        for name, told in ((REQUEST, request), (POLICIES, policies(job))):
            path = scratch / name
            path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            if folder is None:
                _upload(context.s3, job, f"{key}{name}", path)
    where = str(folder) if folder is not None else f"s3://{job.place.bucket}/{key}"
    return Written(made.objects, made.size, dict(left_out), where, request["ClientRequestToken"])


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """The folder itself, for nobody else to read: a manifest names objects. Else one that is gone afterwards."""
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as made:
        yield Path(made)


def _write_manifest(context: RunContext, tier: Tier, job: Job, path: Path, left_out: Counter[str]) -> _Manifest:
    objects = size = 0
    # MD5 is what S3 calls the ETag of a file that is uploaded in one part.
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    path.touch(mode=0o600)
    with path.open("wb") as file:
        for version in surviving_versions(context, tier, left_out):
            if job.operation is Operation.COPY and version.size > LARGEST_COPY:
                left_out["too_large"] += 1
                continue
            line = manifest_line(job.source, version.key, version.version_id).encode("ascii")
            for each in (sha256, md5):
                each.update(line)
            file.write(line)
            objects += 1
            size += version.size
    return _Manifest(path, objects, size, sha256.hexdigest(), md5.hexdigest())


def _upload(s3: S3Client, job: Job, key: str, path: Path) -> str:
    """Write a file unless the same job wrote it before. Returns its ETag."""
    from lifecycle.stores.s3.transfer import write_file

    try:
        write_file(s3, job.place.bucket, key, path, description={}, condition={"IfNoneMatch": "*"})
    except StoreError as refusal:
        if not refusal.conflict:
            raise
    with translated("HeadObject"):
        return s3.head_object(Bucket=job.place.bucket, Key=key)["ETag"].strip('"')
