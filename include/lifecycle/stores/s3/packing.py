"""Compressed streams of lines: read in pieces, written as one gzip member or zstd frame, in bounded memory.

One member and one frame, because some readers stop after the first. Gzip is compressed by several threads all the
same, in the way of pigz: pieces that know the 32 KiB before them, joined at byte boundaries.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from lifecycle.stores.s3.records import UnreadableObjectError

# What is unpacked at once: judging a block of lines costs something however few they are.
READ_BYTES = 1 << 20
# What one thread compresses at once.
PIECE_BYTES = 256 << 10
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# A zstd stream may begin with a frame that holds no data; its first byte is 0x50 to 0x5f.
_ZSTD_SKIPPED = b"\x2a\x4d\x18"
_WINDOW = 32 << 10
# What the header says of the effort: 2 the most, 4 the least.
_LEVELS, _DEFAULT_LEVEL = {2: 9, 4: 1}, 6


class Sink(Protocol):
    def write(self, data: bytes | memoryview, /) -> Any: ...


def packing(path: Path) -> str:
    """ "gzip", "zstd" or "": by content, not by name, since an object may be stored under Content-Encoding gzip."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == _GZIP:
        return "gzip"
    zstd = head == _ZSTD or (head[1:] == _ZSTD_SKIPPED and 0x50 <= head[0] <= 0x5F)
    return "zstd" if zstd else ""


def pieces(path: Path) -> Iterator[bytes]:
    """The unpacked bytes, a piece at a time; all members or frames.

    Raises:
        UnreadableObjectError: it is cut off or corrupt.
    """
    kind = packing(path)
    with path.open("rb") as raw:
        try:
            with _unpacked(raw, kind) as file:
                while piece := file.read(READ_BYTES):
                    yield piece
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise _broken(kind) from None
        except OSError:
            # Arrow's complaint about a broken frame; a plain file's errors are the machine's own.
            if kind != "zstd":
                raise
            raise _broken(kind) from None


def _broken(kind: str) -> UnreadableObjectError:
    return UnreadableObjectError(f"an object cannot be decompressed ({kind})")


@contextmanager
def _unpacked(raw: IO[bytes], kind: str) -> Iterator[Any]:
    if kind == "gzip":
        with gzip.GzipFile(fileobj=raw) as file:
            yield file
    elif kind == "zstd":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
            yield stream
    else:
        yield raw


@contextmanager
def writer(path: Path, like: Path) -> Iterator[Sink]:
    """Write a file packed like another one."""
    kind = packing(like)
    with path.open("wb") as raw:
        if kind == "gzip":
            with _GzipWriter(raw, _level(like)) as packed:
                yield packed
        elif kind == "zstd":
            import pyarrow as pa

            with pa.CompressedOutputStream(pa.PythonFile(raw, mode="w"), "zstd") as stream:
                yield stream
        else:
            yield raw


def _level(path: Path) -> int:
    with path.open("rb") as file:
        return _LEVELS.get(file.read(9)[8:][0], _DEFAULT_LEVEL)


class _GzipWriter:
    """One member, without time and name, so that the same lines give the same bytes."""

    def __init__(self, raw: IO[bytes], level: int) -> None:
        self._raw, self._level = raw, level
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="gzip")
        self._pending: deque[Future[bytes]] = deque()
        self._most = 2 * min(4, os.cpu_count() or 1)
        self._waiting = bytearray()
        self._window = b""
        self._checksum = self._size = 0

    def __enter__(self) -> _GzipWriter:
        effort = next((sign for sign, level in _LEVELS.items() if level == self._level), 0)
        self._raw.write(_GZIP + bytes([8, 0, 0, 0, 0, 0, effort, 255]))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._pool:
            if kind is not None:
                return
            self._send()
            self._write_out(0)
        # An empty last block ends the stream.
        self._raw.write(b"\x03\x00")
        self._raw.write(self._checksum.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))

    def write(self, data: bytes | memoryview, /) -> None:
        self._waiting += data
        while len(self._waiting) >= PIECE_BYTES:
            self._send()

    def _send(self) -> None:
        if not self._waiting:
            return
        piece = bytes(self._waiting[:PIECE_BYTES])
        del self._waiting[:PIECE_BYTES]
        self._checksum, self._size = zlib.crc32(piece, self._checksum), self._size + len(piece)
        self._pending.append(self._pool.submit(_deflated, piece, self._window, self._level))
        self._window = piece[-_WINDOW:]
        self._write_out(self._most)

    def _write_out(self, most: int) -> None:
        while len(self._pending) > most:
            self._raw.write(self._pending.popleft().result())


def _deflated(piece: bytes, window: bytes, level: int) -> bytes:
    if window:
        packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=window)
    else:
        packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
