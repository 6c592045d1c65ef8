"""Arrow values from Python's, without `pyarrow.array` and `scalar`, which import pandas (1.3 s) to ask about it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def boolean_array(values: Sequence[bool]) -> pa.BooleanArray:
    import numpy as np
    import pyarrow as pa

    bits = np.packbits(np.fromiter(values, np.bool_, len(values)), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits.tobytes())])


def text_array(values: Iterable[str]) -> pa.StringArray:
    """What is no text in UTF-8 (half a surrogate pair) is left out: no column of text holds it."""
    import pyarrow as pa

    encoded = [value.encode("utf-8", "ignore") for value in values]
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(encoded))]
    )


def number_array(values: array[int]) -> pa.UInt64Array:
    import pyarrow as pa

    return pa.Array.from_buffers(pa.uint64(), len(values), [None, pa.py_buffer(values)])


def instant(at: datetime) -> pa.TimestampScalar:
    import pyarrow as pa

    since = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    value = pa.py_buffer(since.to_bytes(8, "little", signed=True))
    return pa.Array.from_buffers(pa.timestamp("us", "UTC"), 1, [None, value])[0]
