"""An object read in pieces where it lies, for formats of which only a part is needed."""

from __future__ import annotations

import io
from contextlib import closing
from typing import TYPE_CHECKING

from lifecycle.stores.s3.errors import StoreError, translated
from lifecycle.stores.s3.transfer import pinned
from lifecycle.stores.s3.versions import ObjectVersion

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# The code of our own for an answer that is the whole object although a part was asked for.
NO_RANGES = "NoRanges"


class RemoteFile(io.RawIOBase):
    """One version as a file. Every piece demands the ETag that was listed, so that no two states are mixed (case 15).

    Reading raises StoreError: changed (``conflict``), absent or unreadable, or of code `NO_RANGES`.
    """

    def __init__(self, s3: S3Client, bucket: str, version: ObjectVersion) -> None:
        self._s3, self._bucket, self._version = s3, bucket, version
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._version.size}[whence]
        self._at = begin + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._version.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted == 0:
            return b""
        version = self._version
        with translated("GetObject"):
            answer = self._s3.get_object(
                Bucket=self._bucket,
                Key=version.key,
                Range=f"bytes={self._at}-{self._at + wanted - 1}",
                # The ETag alone names the content; ministack ignores ranges of named versions.
                **pinned(None if version.is_latest else version.version_id, version.etag),
            )
            with closing(answer["Body"]) as body:
                if "ContentRange" not in answer:
                    raise StoreError("GetObject", NO_RANGES)
                piece = body.read()
        self._at += len(piece)
        return piece
