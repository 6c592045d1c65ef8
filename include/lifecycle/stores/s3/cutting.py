"""Lines taken out of a file by where they stand in it, without judging them once more, and the proof that they are."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from lifecycle.stores.s3.ahead import ahead
from lifecycle.stores.s3.packing import pieces, writer

_END = ord("\n")


def cut(source: Path, target: Path, gone: array[int]) -> None:
    """Write a file without the stretches that `scan` noted: begins and ends by turns, packed like the source."""
    with writer(target, source) as file:
        for piece, here in _with_stretches(ahead(pieces(source)), gone):
            for stretch in between(memoryview(piece), here):
                file.write(stretch)


def wrong(source: Iterator[bytes], target: Path, gone: array[int], due: int) -> list[str]:
    """In which respects a file is not the source without its due lines; empty if in none.

    What was judged to stay must be there byte by byte, and what is not must be whole lines, as many as were due. So
    no line of the target is one that was not judged to stay, and it need not be judged again.

    Args:
        source: the unpacked bytes, in blocks of whole lines.
    """
    lines, whole, rest = 0, True, _Rest(ahead(pieces(target)))
    for block, here in _with_stretches(source, gone):
        for begin, end in here:
            whole = whole and _is_whole(block, begin, end)
            lines += sum(bool(line.strip()) for line in block[begin:end].split(b"\n"))
        if not all(rest.goes_on(stretch) for stretch in between(memoryview(block), here)):
            return ["the lines that stay"]
    found = {
        "the lines that stay": not rest.ended(),
        "where lines end": not whole,
        f"the lines that went, {lines} instead of {due}": lines != due,
    }
    return [respect for respect, is_so in found.items() if is_so]


def between(view: memoryview, gone: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
    """What is left of a block."""
    begin = 0
    for start, end in gone:
        if begin < start:
            yield view[begin:start]
        begin = end
    if begin < len(view):
        yield view[begin:]


def _is_whole(block: bytes, begin: int, end: int) -> bool:
    return (begin == 0 or block[begin - 1] == _END) and (end == len(block) or block[end - 1] == _END)


def _with_stretches(blocks: Iterator[bytes], gone: array[int]) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    """Each block with what goes of it; a stretch may go on over several."""
    at = following = 0
    for block in blocks:
        end, here = at + len(block), list[tuple[int, int]]()
        while following < len(gone) and gone[following] < end:
            first, last = gone[following], gone[following + 1]
            here.append((max(first, at) - at, min(last, end) - at))
            if last > end:
                break
            following += 2
        yield block, here
        at = end


class _Rest:
    """Bytes read piece by piece, to be compared with others that come in pieces of other lengths."""

    def __init__(self, pieces_: Iterator[bytes]) -> None:
        self._pieces = pieces_
        self._piece = b""
        self._at = 0

    def goes_on(self, stretch: memoryview) -> bool:
        """Whether the next bytes are these."""
        at = 0
        while at < len(stretch):
            if self.ended():
                return False
            step = min(len(stretch) - at, len(self._piece) - self._at)
            # Views are compared item by item, bytes at once.
            if bytes(stretch[at : at + step]) != self._piece[self._at : self._at + step]:
                return False
            at, self._at = at + step, self._at + step
        return True

    def ended(self) -> bool:
        """Whether there are no more."""
        while self._at == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._piece, self._at = piece, 0
        return False
