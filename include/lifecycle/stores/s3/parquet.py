"""Parquet files, one row group at a time: schema, schema metadata and compression stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError, Values

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ROWS_AT_ONCE = 16_384
_ARROW_SCHEMA = b"ARROW:schema"
# Where the reader's name of a compression is not the writer's.
_CODECS = {"UNCOMPRESSED": "NONE"}


def _open(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # memory_map: only the pages that are read occupy memory.
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> UnreadableObjectError:
    """By kind only: Arrow's messages quote values."""
    return UnreadableObjectError(f"a Parquet object cannot be read ({type(error).__name__}); it was left in place")


def scan(path: Path, fields: LogFields, tally: Tally) -> None:
    """Count what is due in a file, reading only the four columns that decide.

    Raises:
        UnreadableObjectError: it is cut off, corrupt or encrypted.
    """
    with _open(path) as file:
        for group in range(file.num_row_groups):
            _mask(file, group, fields, tally)


def rewrite(source: Path, target: Path, fields: LogFields, tally: Tally) -> None:
    """Write the rows that stay, group by group; a group of which none stays is left out.

    Raises:
        UnreadableObjectError: a column cannot be read or written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _open(source) as file, pq.ParquetWriter(target, file.schema_arrow, **_settings(file)) as writer:
            for group in range(file.num_row_groups):
                mask = _mask(file, group, fields, tally)
                if any(mask):
                    table = file.read_row_group(group)
                    kept = table if all(mask) else table.filter(pa.array(mask, pa.bool_()))
                    writer.write_table(kept, row_group_size=max(1, kept.num_rows))
    except pa.ArrowException as error:
        raise _unreadable(error) from None


def same_form(one: Path, other: Path) -> bool:
    """Whether two files have the same schema, metadata included, and the same compression."""
    with _open(one) as left, _open(other) as right:
        return (
            left.schema.equals(right.schema)
            and left.schema_arrow.equals(right.schema_arrow, check_metadata=True)
            and (left.num_row_groups == 0 or right.num_row_groups == 0 or _compression(left) == _compression(right))
        )


def _mask(file: pq.ParquetFile, group: int, fields: LogFields, tally: Tally) -> list[bool]:
    """For each row of a group, whether it stays."""
    present = [name for name in fields.names() if name in file.schema_arrow.names]
    if not present:
        return [tally.keeps(None) for _ in range(file.metadata.row_group(group).num_rows)]
    mask: list[bool] = []
    for batch in _batches(file, group, present):
        mask += [tally.keeps(values) for values in _rows(batch, fields)]
    return mask


def _batches(file: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Only reading is guarded here: what a decision raises must not pass for a corrupt file."""
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from None


def _rows(batch: pa.RecordBatch, fields: LogFields) -> Iterator[Values]:
    columns = [_column(batch, name) for name in fields.names()]
    return zip(*columns, strict=True)


def _column(batch: pa.RecordBatch, name: str) -> list[object]:
    import pyarrow as pa

    if name not in batch.schema.names:
        return [None] * batch.num_rows
    column: Any = batch.column(name)
    if pa.types.is_timestamp(column.type):
        # Python's datetime ends at microseconds; cutting off nanoseconds rounds the clock down.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[object] = column.to_pylist()
    return values


def _compression(file: pq.ParquetFile) -> dict[str, str]:
    group = file.metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return {column.path_in_schema: _CODECS.get(column.compression, column.compression) for column in columns}


def _settings(file: pq.ParquetFile) -> dict[str, Any]:
    """How the source was written, as far as a reader could tell the difference."""
    if file.num_row_groups == 0:
        return {}
    group = file.metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return {
        "compression": _compression(file),
        "use_dictionary": [column.path_in_schema for column in columns if column.has_dictionary_page],
        "write_statistics": [column.path_in_schema for column in columns if column.is_stats_set],
        "version": "1.0" if file.metadata.format_version == "1.0" else "2.6",
        "use_deprecated_int96_timestamps": any(column.physical_type == "INT96" for column in columns),
        "store_schema": _ARROW_SCHEMA in (file.metadata.metadata or {}),
    }
