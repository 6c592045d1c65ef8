"""A checksum of the records of an object that stay: what they hold, their order and the form of the file around them.

Not of the file's bytes: two files of the same form with the same records in the same order have the same checksum,
however they were compressed, divided into row groups or read. Lines count byte by byte, rows value by value.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa

    from lifecycle.stores.s3.forms import Form


class Contents:
    """Gathers the checksum, part by part and in order. None where a column is of a kind that is not compared here."""

    def __init__(self) -> None:
        self._streams: dict[str, Any] = {}
        self._rows = 0
        self._comparable = True

    def form(self, told: str) -> None:
        """What the file is like, apart from its records."""
        self._add("form", told.encode("utf-8", "surrogatepass"))

    def bytes(self, stretch: bytes | memoryview) -> None:
        """Lines that stay, or parts of them."""
        self._add("lines", stretch)

    def rows(self, batch: pa.RecordBatch) -> None:
        """Rows that stay."""
        self._rows += batch.num_rows
        for at, column in enumerate(batch.columns):
            self._column(str(at), column)

    @property
    def checksum(self) -> str | None:
        if not self._comparable:
            return None
        whole = hashlib.sha256(str(self._rows).encode())
        for name, stream in sorted(self._streams.items()):
            whole.update(f"|{name}:".encode() + stream.digest())
        return whole.hexdigest()

    def _add(self, name: str, data: Any) -> None:
        if len(data):
            self._streams.setdefault(name, hashlib.sha256()).update(data)

    def _column(self, path: str, column: Any) -> None:
        """Which values are there, then those that are, each part in a stream of its own: batches leave no trace."""
        import numpy as np
        import pyarrow as pa

        kind = column.type
        if isinstance(column, pa.ExtensionArray):
            self._column(path, column.storage)
            return
        if pa.types.is_dictionary(kind):
            self._column(path, column.dictionary_decode())
            return
        self._add(f"{path}?", _bytes_of_booleans(column.is_valid()))
        values = column.drop_null() if column.null_count else column
        if pa.types.is_null(kind):
            return
        if pa.types.is_struct(kind):
            for at in range(kind.num_fields):
                self._column(f"{path}.{at}", values.field(at))
        elif pa.types.is_fixed_size_list(kind):
            self._column(f"{path}[]", values.flatten())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
            offsets = _offsets(values, np.int64 if pa.types.is_large_list(kind) else np.int32)
            self._add(f"{path}#", np.diff(offsets).tobytes())
            self._column(f"{path}[]", values.values.slice(offsets[0], offsets[-1] - offsets[0]))
        elif pa.types.is_boolean(kind):
            self._add(path, _bytes_of_booleans(values))
        else:
            self._plain(path, values)

    def _plain(self, path: str, values: Any) -> None:
        import numpy as np
        import pyarrow as pa

        kind = values.type
        long = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        if long or pa.types.is_string(kind) or pa.types.is_binary(kind):
            offsets = _offsets(values, np.int64 if long else np.int32)
            self._add(f"{path}#", np.diff(offsets).tobytes())
            self._add(path, _cut(values.buffers()[2], offsets[0], offsets[-1]))
        elif _has_fixed_width(kind):
            width = kind.bit_width // 8
            self._add(path, _cut(values.buffers()[1], values.offset * width, (values.offset + len(values)) * width))
        else:
            self._comparable = False


def checksum_of(form: Form, path: Path, fields: LogFields, tally: Tally) -> str | None:
    """Of what stays of a file that was counted already. None where it cannot be told."""
    if tally.contents is not None:
        return tally.contents.checksum
    again = Tally(tally.decide, contents=Contents())
    try:
        form.scan(path, fields, again)
    except UnreadableObjectError:
        return None
    same = (again.before, again.kept, again.removed) == (tally.before, tally.kept, tally.removed)
    return again.contents.checksum if same and again.contents is not None else None


def _has_fixed_width(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind))


def _offsets(values: Any, width: Any) -> np.ndarray[Any, Any]:
    """Where each value begins, and the last one ends; in 64 bits, so that the width leaves no trace either."""
    import numpy as np

    buffer = values.buffers()[1]
    if buffer is None or not len(values):
        return np.zeros(1, np.int64)
    size = np.dtype(width).itemsize
    return np.frombuffer(buffer, width, len(values) + 1, values.offset * size).astype(np.int64)


def _cut(buffer: pa.Buffer | None, begin: int, end: int) -> memoryview:
    return memoryview(b"") if buffer is None else memoryview(buffer)[int(begin) : int(end)]


def _bytes_of_booleans(values: Any) -> memoryview:
    """One byte each; none of them is null."""
    import pyarrow as pa

    plain = values.cast(pa.uint8())
    return _cut(plain.buffers()[1], plain.offset, plain.offset + len(plain))
