"""Parquet files, a batch of rows at a time: schema, schema metadata and the way of writing stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lifecycle.stores.s3 import emptied_columns, parquet_form
from lifecycle.stores.s3.ahead import ahead
from lifecycle.stores.s3.judging import staying
from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lifecycle.stores.s3.contents import Contents

_ROWS_AT_ONCE = 16_384
# What is aimed at for one batch, by what its columns take in the file.
_BATCH_BYTES = 8 << 20
# A row group is gathered in memory; one that takes more there is written as several.
GROUP_BYTES = 64 << 20
_BUFFER_BYTES = 1 << 20
# What one request for a part of a column asks for.
_REMOTE_BYTES = 4 << 20


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    with path.open("rb") as raw:
        head = raw.read(4)
        raw.seek(-min(4, path.stat().st_size), 2)
        parquet_form.refuse_encrypted(head, raw.read(4))
    with _reading():
        # Columns are read through a buffer: neither whole chunks nor mapped pages fill the memory.
        file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    with file:
        yield file


@contextmanager
def _reading() -> Iterator[None]:
    """Around reading alone: what a decision raises must not pass for a corrupt file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from None


@contextmanager
def _writing() -> Iterator[None]:
    """Around writing alone, where an OSError is a full disk and no fault of the object."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise UnreadableObjectError(f"a Parquet object cannot be written as it is ({type(error).__name__})") from None


def _unreadable(error: Exception) -> UnreadableObjectError:
    """By kind only: Arrow's messages quote values."""
    if "ncrypt" in str(error):
        return UnreadableObjectError("a Parquet object has encrypted columns", parquet_form.DECRYPT)
    return UnreadableObjectError(f"a Parquet object cannot be read ({type(error).__name__})")


def scan(path: Path, fields: LogFields, tally: Tally) -> None:
    """Count what is due in a file, reading only the four columns that decide.

    Raises:
        UnreadableObjectError: it is cut off, corrupt or encrypted.
    """
    with _open(path) as file:
        scan_file(file, fields, tally)


def scan_remote(remote: IO[bytes], size: int, fields: LogFields, tally: Tally) -> bool:
    """Count what is due in a file elsewhere by reading its footer and the columns that decide, if that is worth it.

    Returns:
        Whether it was: False where reading the whole takes fewer or hardly fewer bytes and requests.

    Raises:
        UnreadableObjectError: it is cut off, corrupt or encrypted.
    """
    import pyarrow.parquet as pq

    with _reading():
        file = pq.ParquetFile(remote, buffer_size=_REMOTE_BYTES, pre_buffer=False)
    needed = parquet_form.chunks_of(file, _deciding(file, fields))
    requests = sum(-(-taken // _REMOTE_BYTES) for taken in needed)
    if not needed or sum(needed) > size // 2 or requests > size // (_REMOTE_BYTES // 4):
        return False
    scan_file(file, fields, tally)
    return True


def scan_file(file: pq.ParquetFile, fields: LogFields, tally: Tally) -> None:
    """The same, of a file that is open already, here or elsewhere."""
    parquet_form.refuse_twins(file)
    emptied_columns.refuse_unfit(file.schema_arrow, fields.clear)
    if tally.contents is not None:
        _scan_whole(file, fields, tally, tally.contents)
        return
    present = _deciding(file, fields)
    if not present:
        staying([None] * 4, file.metadata.num_rows, tally)
        return
    for _, batch in ahead(_batches(file, present)):
        _stays(batch, fields, tally)


def _scan_whole(file: pq.ParquetFile, fields: LogFields, tally: Tally, contents: Contents) -> None:
    contents.form(parquet_form.told(file))
    for _, batch in ahead(_batches(file, None)):
        contents.rows(batch.filter(_stays(batch, fields, tally)))


def _deciding(file: pq.ParquetFile, fields: LogFields) -> list[str]:
    """The columns that tell what is due: those that name and date a record, and those whose content goes before it."""
    there = file.schema_arrow.names
    named = [name for name in fields.names() if name in there]
    return list(dict.fromkeys((*named, *emptied_columns.columns_of(file.schema_arrow, fields.clear))))


def rewrite(source: Path, target: Path, fields: LogFields, tally: Tally) -> None:
    """Write the rows that stay, group by group; a group of which none stays is left out.

    Rows that are due are left out, or written without their content where ``fields`` says what that is.

    Raises:
        UnreadableObjectError: a column cannot be read or written.
    """
    import pyarrow.parquet as pq

    with _open(source) as file:
        with _reading():
            parquet_form.refuse_far_dates(source, file)
            told = parquet_form.settings(file, emptied_columns.columns_of(file.schema_arrow, fields.clear))
        with _writing():
            writer = pq.ParquetWriter(target, file.schema_arrow, **told)
        with writer:
            gathered = _Gathered(writer, file.schema_arrow)
            for group, batch in ahead(_batches(file, None)):
                gathered.begin(group)
                stays = _stays(batch, fields, tally)
                gathered.add(_emptied(batch, stays, fields) if fields.clear else batch.filter(stays))
            gathered.write()


def unlike(source: Path, target: Path, fields: LogFields, changed: int) -> list[str]:
    """In which respects a file is not the source with some rows emptied."""
    with _open(source) as one, _open(target) as other:
        before, after = ((batch for _, batch in ahead(_batches(file, None))) for file in (one, other))
        return emptied_columns.unlike(before, after, fields.clear, changed)


def differences(one: Path, other: Path) -> list[str]:
    """In which respects two files differ in form."""
    with _open(one) as left, _open(other) as right:
        return parquet_form.differences(left, right)


class _Gathered:
    """Rows on their way into one row group of the target."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._batches: list[pa.RecordBatch] = []
        self._bytes = self._group = 0

    def begin(self, group: int) -> None:
        if group != self._group:
            self.write()
            self._group = group

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows == 0:
            return
        with _writing():
            self._batches.append(_compacted(batch))
        self._bytes += self._batches[-1].nbytes
        if self._bytes >= GROUP_BYTES:
            self.write()

    def write(self) -> None:
        import pyarrow as pa

        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._batches, self._bytes = [], 0
            with _writing():
                self._writer.write_table(table, row_group_size=table.num_rows)


def _compacted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dictionaries without what no row refers to any more: they are written whole, removed values included."""
    import pyarrow as pa

    plain = [_plain(column.type) for column in batch.columns]
    columns = [
        column if kind == column.type else column.cast(kind).cast(column.type)
        for column, kind in zip(batch.columns, plain, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type with the values of its dictionaries in their place, at any depth."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    return pa.list_(_plain_field(kind.value_field)) if pa.types.is_list(kind) else kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain(field.type))


def _batches(file: pq.ParquetFile, columns: list[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
    for group in range(file.num_row_groups):
        rows = _rows_at_once(file.metadata.row_group(group))
        batches = file.iter_batches(batch_size=rows, row_groups=[group], columns=columns)
        while (batch := _next(batches)) is not None:
            yield group, batch


def _next(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    with _reading():
        return next(batches, None)


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    a_row = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(max(1, min(_ROWS_AT_ONCE, _BATCH_BYTES // a_row)))


def _stays(batch: pa.RecordBatch, fields: LogFields, tally: Tally) -> pa.BooleanArray:
    there = batch.schema.names
    columns: list[Any] = [batch.column(name) if name in there else None for name in fields.names()]
    content = (lambda _: emptied_columns.holding(batch, fields.clear)) if fields.clear else None
    return staying(columns, batch.num_rows, tally, content)


def _emptied(batch: pa.RecordBatch, stays: pa.BooleanArray, fields: LogFields) -> pa.RecordBatch:
    import pyarrow.compute as pc

    with _writing():
        return emptied_columns.emptied(batch, pc.invert(stays), fields.clear)
