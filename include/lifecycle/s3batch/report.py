"""Reads a job's completion report and holds it to the manifest and to the store, key by key, out of core.

The report's word is not taken: what it calls done is looked at (promise 3: copies are verified before a source goes).
Destroys nothing; what the runs do afterwards they decide by themselves.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lifecycle.errors import PreconditionError, VerificationError
from lifecycle.s3batch.write import MANIFEST, REQUEST
from lifecycle.stores.s3.errors import StoreError, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BATCH, _READERS = 1000, 8
_TABLES = """
CREATE TABLE planned (key TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (key, version)) WITHOUT ROWID;
CREATE TABLE told (key TEXT NOT NULL, version TEXT NOT NULL, done INTEGER NOT NULL, code TEXT NOT NULL,
                   PRIMARY KEY (key, version)) WITHOUT ROWID;
"""
# The columns of a report, as its manifest says them; the two in the middle are told apart by what they hold.
_COLUMNS = ["bucket", "key", "versionid", "taskstatus"]


@dataclass(frozen=True)
class Reconciled:
    """Counts of versions. ``missing``: planned and not in the report; ``foreign``: in it and never planned;
    ``unverified``: reported as done, and not so in the store."""

    planned: int
    succeeded: int
    failed: int
    missing: int
    foreign: int
    verified: int
    unverified: int
    errors: dict[str, int]

    @property
    def passed(self) -> bool:
        return self.verified == self.planned and not self.foreign

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"passed": self.passed}


@dataclass(frozen=True)
class Files:
    """Files of a job, or of its report: in a folder, or below a prefix of a bucket."""

    s3: S3Client
    bucket: str | None
    stem: str

    @classmethod
    def at(cls, s3: S3Client, where: str) -> Files:
        if where.startswith("s3://"):
            bucket, _, prefix = where.removeprefix("s3://").partition("/")
            return cls(s3, bucket, f"{prefix.rstrip('/')}/" if prefix else "")
        if not Path(where).is_dir():
            raise PreconditionError(f"there is no folder {where}; name the one that holds {MANIFEST}, or s3://bucket/…")
        return cls(s3, None, where)

    def fetch(self, name: str, scratch: Path) -> Path:
        """A file on disk."""
        if self.bucket is None:
            path = Path(self.stem, name)
            if not path.is_file():
                raise PreconditionError(f"the folder has no file {name}")
            return path
        return _download(self.s3, self.bucket, f"{self.stem}{name}", scratch)


def _download(s3: S3Client, bucket: str, key: str, scratch: Path) -> Path:
    path = scratch / hashlib.sha256(key.encode()).hexdigest()
    with translated("GetObject"):
        s3.download_file(bucket, key, str(path))
    return path


def reconcile_job(s3: S3Client, job: str, report: str) -> Reconciled:
    """Compare what was asked for, what the report says and what the store holds.

    Args:
        job: where manifest and request are: a folder, or s3://bucket/prefix.
        report: the manifest.json of the report: a file with the results beside it, or s3://bucket/key.

    Raises:
        PreconditionError: a file is missing or is not what it should be.
        VerificationError: a file of the report is not what its checksum says.
    """
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as name:
        scratch = Path(name)
        files = Files.at(s3, job)
        request = _request(files.fetch(REQUEST, scratch))
        with closing(sqlite3.connect(scratch / "report.db", isolation_level=None)) as db:
            db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _TABLES)
            bucket = _load_planned(db, files.fetch(MANIFEST, scratch))
            for path in _results(s3, report, scratch):
                _load_told(db, path)
            return _judge(db, partial(_is_so, s3, bucket, request))


def _request(path: Path) -> dict[str, Any]:
    try:
        request: dict[str, Any] = json.loads(path.read_bytes())["Operation"]
    except (ValueError, KeyError, TypeError):
        raise PreconditionError(f"{REQUEST} is not the request that `lifecycle s3 batch` wrote") from None
    return request


def _load_planned(db: sqlite3.Connection, path: Path) -> str:
    """Load the manifest. Returns the bucket that all of it is about."""
    buckets: set[str] = set()

    def rows() -> Iterator[tuple[str, str]]:
        with path.open(encoding="ascii", newline="") as file:
            for bucket, key, version in csv.reader(file):
                buckets.add(bucket)
                yield unquote(key), unquote(version)

    try:
        _insert(db, "INSERT INTO planned VALUES (?, ?)", rows())
    except (ValueError, sqlite3.IntegrityError):
        raise PreconditionError(f"{MANIFEST} is not the manifest that `lifecycle s3 batch` wrote") from None
    if len(buckets) > 1:
        raise PreconditionError(f"{MANIFEST} names {len(buckets)} buckets; a job of ours is about one")
    return buckets.pop() if buckets else ""


def _insert(db: sqlite3.Connection, statement: str, rows: Iterator[Sequence[Any]]) -> None:
    db.execute("BEGIN")
    db.executemany(statement, rows)
    db.execute("COMMIT")


def _results(s3: S3Client, where: str, scratch: Path) -> Iterator[Path]:
    """The result files that a report's manifest.json names, each checked against its MD5."""
    in_s3 = where.startswith("s3://")
    bucket, _, key = where.removeprefix("s3://").partition("/")
    path = _download(s3, bucket, key, scratch) if in_s3 else Path(where)
    try:
        told = json.loads(path.read_bytes())
        columns = [name.strip().lower() for name in told["ReportSchema"].split(",")]
        files = [(each["Bucket"], each["Key"], each["MD5Checksum"].lower()) for each in told["Results"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PreconditionError(
            "this is not the manifest.json of a completion report; name the one that S3 wrote below `report/`"
        ) from None
    if columns[:4] != _COLUMNS:
        raise PreconditionError("the completion report has other columns than bucket, key, version and status first")
    for where_it_is, name, md5 in files:
        found = _download(s3, where_it_is, name, scratch) if in_s3 else path.parent / Path(name).name
        if not found.is_file():
            raise PreconditionError("a result file of the completion report is missing; copy all of it")
        with found.open("rb") as file:
            if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != md5:
                raise VerificationError("a result file of the completion report is not what its manifest says")
        yield found


def _load_told(db: sqlite3.Connection, path: Path) -> None:
    """Where a task is told of twice, a failure counts."""

    def rows() -> Iterator[tuple[str, str, bool, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            for _, key, version, status, *rest in csv.reader(file):
                done = status.strip().lower() == "succeeded"
                yield unquote(key), unquote(version) or "null", done, "" if done else _code(rest)

    insert = "INSERT INTO told VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET done = min(done, excluded.done)"
    try:
        _insert(db, insert, rows())
    except ValueError:
        raise PreconditionError("a result file of the completion report has lines that are none") from None


def _code(rest: list[str]) -> str:
    """The error's name; S3's own examples have it before the HTTP status, and behind it. Never the message."""
    words = [word for word in rest[:2] if word.isalnum() and not word.isdigit()]
    return words[0] if words else "unknown"


def _judge(db: sqlite3.Connection, is_so: Any) -> Reconciled:
    def count(query: str) -> int:
        return int(db.execute(query).fetchone()[0])

    verified: Counter[bool] = Counter()
    with ThreadPoolExecutor(_READERS) as pool:
        for some in _done(db):
            verified.update(pool.map(is_so, some))
    codes = db.execute("SELECT code, count(*) FROM told WHERE NOT done GROUP BY code").fetchall()
    return Reconciled(
        planned=count("SELECT count(*) FROM planned"),
        succeeded=count("SELECT count(*) FROM planned JOIN told USING (key, version) WHERE done"),
        failed=count("SELECT count(*) FROM planned JOIN told USING (key, version) WHERE NOT done"),
        missing=count("SELECT count(*) FROM planned LEFT JOIN told USING (key, version) WHERE done IS NULL"),
        foreign=count("SELECT count(*) FROM told LEFT JOIN planned p USING (key, version) WHERE p.key IS NULL"),
        verified=verified[True],
        unverified=verified[False],
        errors=dict(codes),
    )


def _done(db: sqlite3.Connection) -> Iterator[list[tuple[str, str]]]:
    cursor = db.execute("SELECT key, version FROM planned JOIN told USING (key, version) WHERE done")
    while some := cursor.fetchmany(_BATCH):
        yield some


def _is_so(s3: S3Client, bucket: str, operation: dict[str, Any], named: tuple[str, str]) -> bool:
    """Whether a version is tagged, or its copy is what it is a copy of."""
    try:
        if "S3PutObjectTagging" in operation:
            return _is_tagged(s3, bucket, operation["S3PutObjectTagging"]["TagSet"], *named)
        return _is_copied(s3, bucket, operation["S3PutObjectCopy"], *named)
    except StoreError as refusal:
        if not refusal.absent:
            raise
        return False


def _is_tagged(s3: S3Client, bucket: str, tags: list[dict[str, str]], key: str, version: str) -> bool:
    with translated("GetObjectTagging"):
        found = s3.get_object_tagging(Bucket=bucket, Key=key, VersionId=version)["TagSet"]
    return sorted((tag["Key"], tag["Value"]) for tag in found) == sorted((tag["Key"], tag["Value"]) for tag in tags)


def _is_copied(s3: S3Client, bucket: str, copy: dict[str, Any], key: str, version: str) -> bool:
    """By size, then by reading both: an ETag says the same of both only where neither is encrypted nor in parts."""
    from lifecycle.stores.s3.transfer import read

    target = copy["TargetResource"].rpartition(":")[2]
    prefix = copy.get("TargetKeyPrefix")
    name = f"{prefix}/{key}" if prefix else key
    with translated("HeadObject"):
        there = s3.head_object(Bucket=target, Key=name)
        here = s3.head_object(Bucket=bucket, Key=key, VersionId=version)
    if there["ContentLength"] != here["ContentLength"]:
        return False
    source = read(s3, bucket, key, version_id=version, etag=here["ETag"])
    return read(s3, target, name, etag=there["ETag"]).sha256 == source.sha256
