"""JSON lines, plain or compressed by gzip or zstd. Lines that stay are carried over byte by byte, a block at a time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.ahead import ahead
from lifecycle.stores.s3.judging import staying
from lifecycle.stores.s3.packing import packing, pieces, writer
from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError, instant_of, values_of_line

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# A line is held in memory whole, since its fields may stand anywhere in it.
LONGEST_LINE = 64 << 20
_END, _OPEN, _CLOSE, _RETURN = b"\n{}\r"
# Arrow takes these for numbers, Python does not.
_NO_NUMBERS = re.compile(rb"[:\[,\s-]Inf[\s,}\]]|-NaN")


def scan(path: Path, fields: LogFields, tally: Tally) -> None:
    """Count what is due in a file.

    Raises:
        UnreadableObjectError: it is cut off or corrupt, or a line is too long to be read.
    """
    for block in ahead(_blocks(path)):
        _judge(block, fields, tally)


def rewrite(source: Path, target: Path, fields: LogFields, tally: Tally) -> None:
    """Write the lines that stay, in their order, compressed like the source; blank lines stay too."""
    with writer(target, source) as file:
        for block in ahead(_blocks(source)):
            for stretch in _judge(block, fields, tally):
                file.write(stretch)


def differences(one: Path, other: Path) -> list[str]:
    """In which respects two files differ in form."""
    return [] if packing(one) == packing(other) else ["compression"]


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, as many as a piece ends; only the file's last line may lack its end."""
    begun: list[bytes] = []
    carried = 0
    for piece in pieces(path):
        first = piece.find(b"\n") + 1
        if carried + (first or len(piece)) > LONGEST_LINE:
            raise UnreadableObjectError(
                f"an object holds a line longer than {LONGEST_LINE >> 20} MiB; it was left in place"
            )
        if not first:
            begun.append(piece)
            carried += len(piece)
            continue
        end = piece.rfind(b"\n") + 1
        yield b"".join((*begun, piece[:end]))
        begun, carried = [piece[end:]], len(piece) - end
    if carried:
        yield b"".join(begun)


def _judge(block: bytes, fields: LogFields, tally: Tally) -> Sequence[bytes | memoryview]:
    """The parts of a block that stay."""
    if tally.ordinary is not None:
        part = tally.beside()
        stretches = _by_column(block, fields, part)
        if stretches is not None:
            tally.add(part)
            return stretches
    return [line for line in io.BytesIO(block) if not line.strip() or tally.keeps(values_of_line(line, fields))]


def _by_column(block: bytes, fields: LogFields, tally: Tally) -> list[memoryview] | None:
    """All lines at once by Arrow's parser; None where it could read a line otherwise than Python does."""
    import numpy as np

    bounds = _bounds(block) if len(set(fields.names())) == len(fields.names()) else None
    table = None if bounds is None else _parsed(block, fields)
    if bounds is None or table is None or table.num_rows != len(bounds) - 1:
        return None
    columns = [table.column(name).combine_chunks() for name in fields.names()]
    stays = staying(columns, table.num_rows, tally)
    gone = np.flatnonzero(~stays.to_numpy(zero_copy_only=False))
    view = memoryview(block)
    if not len(gone):
        return [view]
    for row in gone.tolist():
        # What goes is read once more by the parser that judges single lines: nothing goes by a misreading.
        line = values_of_line(block[bounds[row] : bounds[row + 1]], fields)
        if line is None or not _same(line, columns, row):
            return None
    return list(_between(view, bounds, gone))


def _between(view: memoryview, bounds: np.ndarray[Any, Any], gone: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    begin = 0
    for start, end in zip(bounds[gone].tolist(), bounds[gone + 1].tolist(), strict=True):
        if begin < start:
            yield view[begin:start]
        begin = end
    if begin < len(view):
        yield view[begin:]


def _same(line: tuple[object, ...], columns: Sequence[pa.Array], row: int) -> bool:
    read = [column[row].as_py() for column in columns]
    return list(line[:3]) == read[:3] and (line[3] == read[3] or instant_of(line[3]) == instant_of(read[3]))


def _bounds(block: bytes) -> np.ndarray[Any, Any] | None:
    """Where lines begin, and the end; None unless each is `{…}`.

    In JSON no value contains `}`, a line end and `{` outside a string, and no string contains a line end. So where
    every line begins and ends with braces and there are as many values as lines, each line is one value.
    """
    import numpy as np

    # Arrow does not look at the encoding.
    if b"\0" in block or not _is_utf8(block) or _has_no_numbers(block):
        return None
    bytes_ = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(bytes_ == _END) + 1
    if not len(ends) or ends[-1] != len(block):
        ends = np.append(ends, len(block) + 1)
    starts = np.concatenate(([0], ends[:-1]))
    last = ends - 2
    last = last - (bytes_[last] == _RETURN)
    if (last < starts).any() or (bytes_[starts] != _OPEN).any() or (bytes_[last] != _CLOSE).any():
        return None
    return np.append(starts, len(block))


def _has_no_numbers(block: bytes) -> bool:
    return (b"Inf" in block or b"-NaN" in block) and _NO_NUMBERS.search(block) is not None


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parsed(block: bytes, fields: LogFields) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.json as pj

    schema = pa.schema([(name, pa.string()) for name in fields.names()])
    try:
        return pj.read_json(
            pa.BufferReader(block),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
