"""JSON lines, plain or gzip-compressed. Lines that stay are carried over byte by byte."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError, values_of_line

_GZIP_MAGIC = b"\x1f\x8b"


def _compressed(path: Path) -> bool:
    """By content, not by name: an object may be stored under Content-Encoding gzip."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with cast(BinaryIO, gzip.open(path, "rb")) if _compressed(path) else path.open("rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UnreadableObjectError("an object cannot be decompressed; it was left in place") from None


@contextmanager
def _writer(path: Path, compressed: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as raw:
        if not compressed:
            yield raw
            return
        # No time and no name inside: the same lines give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            yield cast(BinaryIO, packed)


def scan(path: Path, fields: LogFields, tally: Tally) -> None:
    """Count what is due in a file, line by line.

    Raises:
        UnreadableObjectError: it is cut off or corrupt.
    """
    for line in _lines(path):
        if line.strip():
            tally.keeps(values_of_line(line, fields))


def rewrite(source: Path, target: Path, fields: LogFields, tally: Tally) -> None:
    """Write the lines that stay, in their order, compressed like the source; blank lines stay too."""
    with _writer(target, _compressed(source)) as file:
        for line in _lines(source):
            if not line.strip() or tally.keeps(values_of_line(line, fields)):
                file.write(line)


def same_form(one: Path, other: Path) -> bool:
    """Whether two files are compressed alike."""
    return _compressed(one) == _compressed(other)
