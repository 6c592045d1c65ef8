"""S3 Inventory: a manifest, and its data files one at a time (CSV, ORC, Parquet), each checked against its MD5."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.errors import PreconditionError, VerificationError
from lifecycle.stores.s3.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SCHEME = "s3://"
_NEEDED = ("Key", "LastModifiedDate")
# They become part of a statement, and a manifest is a file that anybody may have written.
_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


class Format(StrEnum):
    CSV = "CSV"
    ORC = "ORC"
    PARQUET = "Parquet"


@dataclass(frozen=True)
class DataFile:
    """One data file: its key in the bucket where inventories lie, and its checksum in hex."""

    key: str
    md5: str


@dataclass(frozen=True)
class Manifest:
    """What an inventory is of, when it was made, in which form, and its columns in order (CSV has no header)."""

    bucket: str
    made_at: datetime
    format: Format
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]


def parse_manifest(text: str | bytes) -> Manifest:
    """Read a manifest.json.

    Raises:
        PreconditionError: it is none, or lacks a column that is needed; says which.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        manifest = Manifest(
            bucket=found["sourceBucket"],
            made_at=datetime.fromtimestamp(int(found["creationTimestamp"]) / 1000, UTC),
            format=Format(found["fileFormat"]),
            columns=_columns(found),
            files=tuple(DataFile(each["key"], each["MD5checksum"].lower()) for each in found["files"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PreconditionError(
            f"this is not the manifest.json of an S3 Inventory ({type(error).__name__}); name the file that S3 wrote"
        ) from None
    odd = sum(_COLUMN.fullmatch(name) is None for name in manifest.columns)
    if odd:
        raise PreconditionError(
            f"{odd} column(s) of the inventory have no name as S3 writes it; name the manifest.json that S3 wrote"
        )
    missing = [name for name in _NEEDED if name not in manifest.columns]
    if missing:
        raise PreconditionError(
            f"the inventory has no column {' and no '.join(missing)}: add LastModifiedDate to its optional fields"
        )
    return manifest


def _columns(found: dict[str, Any]) -> tuple[str, ...]:
    """CSV lists its columns; ORC and Parquet describe a struct, and their files name them again."""
    schema: str = found["fileSchema"]
    if found["fileFormat"] == Format.CSV:
        return tuple(name.strip() for name in schema.split(","))
    told = schema.lower()
    known = {"key": "Key", "last_modified_date": "LastModifiedDate"}
    return tuple(name for word, name in known.items() if word in told)


@dataclass(frozen=True)
class Inventory:
    """A manifest, and where its data files are: a folder, or a bucket."""

    manifest: Manifest
    s3: S3Client
    bucket: str | None
    folder: Path | None

    @classmethod
    def open(cls, where: str, s3: S3Client) -> Inventory:
        """An inventory by its manifest: ``s3://bucket/…/manifest.json``, or a file with the data beside it."""
        if where.startswith(_SCHEME):
            bucket, _, key = where.removeprefix(_SCHEME).partition("/")
            with translated("GetObject"):
                text = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            return cls(parse_manifest(text), s3, bucket, None)
        path = Path(where)
        if not path.is_file():
            raise PreconditionError(f"there is no file {where}; name a manifest.json, or s3://bucket/key of one")
        return cls(parse_manifest(path.read_bytes()), s3, None, path.parent)

    @contextmanager
    def file(self, data: DataFile, scratch: Path) -> Iterator[Path]:
        """One data file on disk, checked; what was downloaded is gone afterwards.

        Raises:
            VerificationError: its checksum is not the manifest's.
        """
        if self.folder is not None:
            path = self.folder / data.key
            path = path if path.is_file() else self.folder / Path(data.key).name
            _check(path, data)
            yield path
            return
        path = scratch / Path(data.key).name
        with translated("GetObject"):
            self.s3.download_file(self.bucket or "", data.key, str(path))
        try:
            _check(path, data)
            yield path
        finally:
            path.unlink()


def _check(path: Path, data: DataFile) -> None:
    if not path.is_file():
        raise PreconditionError(f"the data file {Path(data.key).name} of the inventory is missing; copy all of it")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != data.md5:
        raise VerificationError(f"the data file {Path(data.key).name} of the inventory is not what its manifest says")
