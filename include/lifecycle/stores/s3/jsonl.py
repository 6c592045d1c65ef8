"""JSON lines, plain or compressed by gzip or zstd. Lines that stay are carried over byte by byte, a block at a time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3 import emptying
from lifecycle.stores.s3.ahead import ahead, side_by_side
from lifecycle.stores.s3.arrays import boolean_array
from lifecycle.stores.s3.cutting import between
from lifecycle.stores.s3.judging import Holding, staying
from lifecycle.stores.s3.packing import packing, pieces, writer
from lifecycle.stores.s3.records import (
    LogFields,
    Tally,
    UnreadableObjectError,
    instant_of,
    parsed_by_arrow,
    values_of_line,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# A line is held in memory whole, since its fields may stand anywhere in it.
LONGEST_LINE = 64 << 20
_END, _OPEN, _CLOSE, _RETURN = b"\n{}\r"
# Arrow takes these for numbers, Python does not.
_NO_NUMBERS = re.compile(rb"[:\[,\s-]Inf[\s,}\]]|-NaN")
# How such a one is found at once: words of it, and which of their letters is the rarest in what people write.
_SIGNS = ((b"Inf", 0), (b"-NaN", 1))


def scan(path: Path, fields: LogFields, tally: Tally) -> None:
    """Count what is due in a file.

    Raises:
        UnreadableObjectError: it is cut off or corrupt, or a line is too long to be read.
    """
    at, contents = 0, tally.contents
    if contents is not None:
        contents.form(f"lines {packing(path)}")
    for block, gone in _judged(path, fields, tally):
        tally.note(at, gone)
        at += len(block)
        if contents is not None:
            for stretch in between(memoryview(block), gone):
                contents.bytes(stretch)


def rewrite(source: Path, target: Path, fields: LogFields, tally: Tally) -> None:
    """Write the lines that stay, in their order, compressed like the source; blank lines stay too.

    Lines that are due are left out, or written without their content where ``fields`` says what that is.
    """
    with writer(target, source) as file:
        for block, gone in _judged(source, fields, tally):
            if fields.clear:
                file.write(_emptied(block, gone, fields))
                continue
            for stretch in between(memoryview(block), gone):
                file.write(stretch)


def unlike(source: Path, target: Path, fields: LogFields, changed: int) -> list[str]:
    """In which respects a file is not the source with some lines emptied."""
    return emptying.unlike(_lines(source), _lines(target), fields.clear, changed)


def _lines(path: Path) -> Iterator[bytes]:
    for block in ahead(blocks(path)):
        yield from io.BytesIO(block)


def _emptied(block: bytes, due: Sequence[tuple[int, int]], fields: LogFields) -> bytes:
    parts, at = list[bytes](), 0
    for begin, end in due:
        parts += [block[at:begin], emptying.emptied(block[begin:end], fields.clear)]
        at = end
    return b"".join((*parts, block[at:]))


def differences(one: Path, other: Path) -> list[str]:
    """In which respects two files differ in form."""
    return [] if packing(one) == packing(other) else ["compression"]


def blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, as many as a piece ends; only the file's last line may lack its end."""
    begun: list[bytes] = []
    carried = 0
    for piece in pieces(path):
        first = piece.find(b"\n") + 1
        if carried + (first or len(piece)) > LONGEST_LINE:
            raise UnreadableObjectError(f"an object holds a line longer than {LONGEST_LINE >> 20} MiB")
        if not first:
            begun.append(piece)
            carried += len(piece)
            continue
        end = piece.rfind(b"\n") + 1
        yield b"".join((*begun, piece[:end]))
        begun, carried = [piece[end:]], len(piece) - end
    if carried:
        yield b"".join(begun)


def _judged(path: Path, fields: LogFields, tally: Tally) -> Iterator[tuple[bytes, Sequence[tuple[int, int]]]]:
    """The blocks of a file, and which stretches of each go: where they begin and end."""
    if tally.ordinary is None:
        for block in ahead(blocks(path)):
            yield block, list(_by_line(block, fields, tally))
        return
    for block, gone, part in side_by_side(partial(_judge, fields, tally), ahead(blocks(path), 1)):
        tally.add(part)
        yield block, gone


def _judge(fields: LogFields, tally: Tally, block: bytes) -> tuple[bytes, Sequence[tuple[int, int]], Tally]:
    """A block by itself, beside others: the tally is read only."""
    part = tally.beside()
    gone = _by_column(block, fields, part)
    if gone is None:
        part = tally.beside()
        gone = list(_by_line(block, fields, part))
    return block, gone, part


def _by_line(block: bytes, fields: LogFields, tally: Tally) -> Iterator[tuple[int, int]]:
    at = 0
    for line in io.BytesIO(block):
        content = partial(emptying.holds, line, fields.clear) if fields.clear else None
        if line.strip() and not tally.keeps(values_of_line(line, fields), content):
            yield at, at + len(line)
        at += len(line)


def _by_column(block: bytes, fields: LogFields, tally: Tally) -> list[tuple[int, int]] | None:
    """All lines at once by Arrow's parser; None where it could read a line otherwise than Python does."""
    import numpy as np
    import pyarrow.compute as pc

    bounds = _bounds(block) if len(set(fields.names())) == len(fields.names()) else None
    table = None if bounds is None else parsed_by_arrow(block, fields)
    if bounds is None or table is None or table.num_rows != len(bounds) - 1:
        return None
    columns = [table.column(name).combine_chunks() for name in fields.names()]
    try:
        stays = staying(columns, table.num_rows, tally, _content(block, bounds, fields))
    except _UntoldError:
        return None
    going = pc.indices_nonzero(pc.invert(stays))
    gone = np.frombuffer(going.buffers()[1], np.uint64, len(going)).astype(np.int64)
    for row in gone.tolist():
        # What goes is read once more by the parser that judges single lines: nothing goes by a misreading.
        line = values_of_line(block[bounds[row] : bounds[row + 1]], fields)
        if line is None or not _same(line, columns, row):
            return None
    return list(zip(bounds[gone].tolist(), bounds[gone + 1].tolist(), strict=True))


class _UntoldError(Exception):
    """Of a line nobody can tell whether it holds content."""


def _content(block: bytes, bounds: np.ndarray[Any, Any], fields: LogFields) -> Holding | None:
    """Which lines hold content, looked for in those lines only that are asked about."""

    def held(asked: pa.BooleanArray) -> pa.BooleanArray:
        answers = []
        for row, wanted in enumerate(asked.to_pylist()):
            there = wanted and emptying.holds(block[bounds[row] : bounds[row + 1]], fields.clear)
            if there is None:
                raise _UntoldError
            answers.append(there)
        return boolean_array(answers)

    return held if fields.clear else None


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
    bytes_ = np.frombuffer(block, np.uint8)
    if b"\0" in block or not _is_utf8(block) or _has_no_numbers(block, bytes_):
        return None
    ends = np.flatnonzero(bytes_ == _END) + 1
    if not len(ends) or ends[-1] != len(block):
        ends = np.append(ends, len(block) + 1)
    starts = np.concatenate(([0], ends[:-1]))
    last = ends - 2
    last = last - (bytes_[last] == _RETURN)
    if (last < starts).any() or (bytes_[starts] != _OPEN).any() or (bytes_[last] != _CLOSE).any():
        return None
    return np.append(starts, len(block))


def _has_no_numbers(block: bytes, bytes_: np.ndarray[Any, Any]) -> bool:
    return any(_occurs(bytes_, *sign) for sign in _SIGNS) and _NO_NUMBERS.search(block) is not None


def _occurs(bytes_: np.ndarray[Any, Any], word: bytes, rarest: int) -> bool:
    """Whether a word stands there. By one letter for all of it, then by the others: several times faster than `in`."""
    import numpy as np

    room = len(bytes_) - len(word) + 1
    at = np.flatnonzero(bytes_[rarest : max(0, room) + rarest] == word[rarest])
    for offset, letter in enumerate(word):
        at = at[bytes_[at + offset] == letter]
    return len(at) > 0


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
