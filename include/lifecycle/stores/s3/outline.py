"""What is remembered of an object that was read whole, so that it need not be read again while nothing in it is due.

Only what was judged by column is outlined: every record has an id, an account, a known tier and a clock, all of plain
types. Whatever is doubtful is not counted, and an outline that counted less than there is, is none.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.arrays import text_array

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# 4 bytes for each record and each account. Of a larger object it is not remembered whom it concerns.
MOST_NAMES = 1 << 20
_WEIGHTS = 256


@dataclass(frozen=True)
class Known:
    """The sum of an object: its records, each tier's oldest clock, and signs of the accounts and ids in it, sorted.

    A sign is 32 bits of a hash of the name in lower case. That a sign is missing proves that the name is; that it is
    there proves nothing. ``None``: there were too many.
    """

    rows: int
    oldest: dict[str, datetime]
    subjects: bytes | None = field(repr=False)
    records: bytes | None = field(repr=False)


@dataclass
class Outline:
    """Gathers, part by part, what becomes known."""

    rows: int = 0
    oldest: dict[str, datetime] = field(default_factory=dict)
    subjects: array[int] | None = field(default_factory=lambda: array("I"), repr=False)
    records: array[int] | None = field(default_factory=lambda: array("I"), repr=False)

    def note(
        self,
        texts: Iterable[pa.Array],
        clock: pa.Array,
        plain: pa.BooleanArray,
        tiers: Collection[str],
        content: pa.BooleanArray | None = None,
    ) -> None:
        """Rows of which ``plain`` says that all four fields can be relied on.

        Args:
            content: which rows may still hold something that goes; the others are only counted.
        """
        import pyarrow.compute as pc

        self.rows += plain.true_count
        if content is not None:
            plain = pc.and_(plain, content)
        record, subject, tier = (column.filter(plain) for column in texts)
        clock = clock.filter(plain)
        for name in tiers:
            first = pc.min(clock.filter(pc.equal(tier, text_array([name])[0]))).as_py()
            if first is not None:
                self._note_oldest(name, first.astimezone(UTC))
        self.subjects = _more(self.subjects, subject.unique())
        self.records = _more(self.records, record)

    def add(self, part: Outline) -> None:
        """Take over another part."""
        self.rows += part.rows
        for name, first in part.oldest.items():
            self._note_oldest(name, first)
        self.subjects = _joined(self.subjects, part.subjects)
        self.records = _joined(self.records, part.records)

    def known(self, rows: int) -> Known | None:
        """The sum, if it is of all ``rows``."""
        if self.rows != rows:
            return None
        return Known(self.rows, dict(self.oldest), _packed(self.subjects), _packed(self.records))

    def _note_oldest(self, tier: str, clock: datetime) -> None:
        self.oldest[tier] = min(self.oldest.get(tier, clock), clock)


def may_hold(packed: bytes | None, names: Collection[str]) -> bool:
    """Whether any of these names can be in an object. False is certain."""
    import numpy as np

    # What is not ASCII was never outlined: an object that holds it is read anyway.
    wanted = [name for name in names if name and name.isascii()]
    if packed is None or not wanted:
        return bool(wanted)
    there = np.frombuffer(packed, np.dtype("<u4"))
    if not len(there):
        return False
    signs = _signs(text_array(wanted))
    places = np.searchsorted(there, signs)
    return bool((there[np.minimum(places, len(there) - 1)] == signs).any())


def _more(held: array[int] | None, column: pa.Array) -> array[int] | None:
    if held is None:
        return None
    more = array("I")
    more.frombytes(_signs(column).tobytes())
    return _joined(held, more)


def _joined(held: array[int] | None, more: array[int] | None) -> array[int] | None:
    if held is None or more is None or len(held) + len(more) > MOST_NAMES:
        return None
    held.extend(more)
    return held


def _packed(held: array[int] | None) -> bytes | None:
    import numpy as np

    if held is None:
        return None
    distinct: bytes = np.unique(np.frombuffer(held, np.uint32)).astype("<u4").tobytes()
    return distinct


@cache
def _weights() -> np.ndarray[Any, Any]:
    """Fixed for ever, since signs are kept."""
    import numpy as np

    drawn = (hashlib.blake2b(number.to_bytes(4, "big"), digest_size=8).digest() for number in range(_WEIGHTS))
    return np.array([int.from_bytes(each, "big") | 1 for each in drawn], np.uint64)


def _signs(column: pa.Array) -> np.ndarray[Any, Any]:
    """32 bits for each text, none of which may be empty: a sum of its bytes, weighted by their places, and mixed."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(column):
        return np.empty(0, np.uint32)
    texts = pc.ascii_lower(column if column.type == pa.string() else column.cast(pa.string()))
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset).astype(np.int64)
    bytes_ = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]].astype(np.uint64)
    begins = bounds[:-1] - bounds[0]
    places = np.arange(len(bytes_)) - np.repeat(begins, np.diff(bounds))
    sums = np.add.reduceat((bytes_ + np.uint64(1)) * _weights()[places % _WEIGHTS], begins)
    sums = (sums ^ (sums >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    signs: np.ndarray[Any, Any] = (sums >> np.uint64(32)).astype(np.uint32)
    return signs
