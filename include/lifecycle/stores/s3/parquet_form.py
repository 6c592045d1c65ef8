"""How a Parquet file is written, as far as a reader could tell: asked of the source, demanded of what replaces it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.records import UnreadableObjectError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# What a person can do where keys are missing.
DECRYPT = "decrypt it under the same key, or see to its deadline with the tool that has its keys"
_ARROW_SCHEMA = b"ARROW:schema"
# Where the reader's name of a compression is not the writer's.
_CODECS = {"UNCOMPRESSED": "NONE"}
# Encodings that a writer must be told; the others follow from the dictionary.
_SPECIAL = ("DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT")
# What the writer's nanoseconds can hold; INT96 holds more.
_FIRST = datetime(1678, 1, 1, tzinfo=UTC)
_LAST = datetime(2262, 1, 1, tzinfo=UTC)


def settings(file: pq.ParquetFile, emptied: Collection[str] = ()) -> dict[str, Any]:
    """The writer's settings that give a file of the same form.

    Args:
        emptied: columns that lose values: rows are not sorted by them any more.
    """
    if file.num_row_groups == 0:
        return {"store_schema": _ARROW_SCHEMA in (file.metadata.metadata or {})}
    group = file.metadata.row_group(0)
    columns = _columns(file)
    paths = [column.path_in_schema for column in columns]
    special = {
        column.path_in_schema: encoding for column in columns for encoding in column.encodings if encoding in _SPECIAL
    }
    told: dict[str, Any] = {
        "compression": _compression(file),
        "use_dictionary": [
            column.path_in_schema
            for column in columns
            if column.has_dictionary_page and column.path_in_schema not in special
        ],
        "write_statistics": [column.path_in_schema for column in columns if column.is_stats_set],
        "version": "1.0" if file.metadata.format_version == "1.0" else "2.6",
        "use_deprecated_int96_timestamps": any(column.physical_type == "INT96" for column in columns),
        "store_schema": _ARROW_SCHEMA in (file.metadata.metadata or {}),
        "use_compliant_nested_type": not any(path.endswith(".list.item") or ".list.item." in path for path in paths),
        "store_decimal_as_integer": _has_integer_decimals(file),
        "write_page_index": any(column.has_offset_index for column in columns),
    }
    if special:
        told["column_encoding"] = special
    sorted_by = takewhile(lambda each: not _is_of(paths[each.column_index], emptied), group.sorting_columns)
    if sorting := tuple(sorted_by):
        told["sorting_columns"] = sorting
    blooms = [column.path_in_schema for column in columns if getattr(column, "bloom_filter_offset", None) is not None]
    if blooms:
        told["bloom_filter_options"] = dict.fromkeys(blooms, True)
    return told


def _columns(file: pq.ParquetFile) -> list[Any]:
    if file.num_row_groups == 0:
        return []
    group = file.metadata.row_group(0)
    return [group.column(at) for at in range(group.num_columns)]


def _compression(file: pq.ParquetFile) -> dict[str, str]:
    return {column.path_in_schema: _CODECS.get(column.compression, column.compression) for column in _columns(file)}


def _has_integer_decimals(file: pq.ParquetFile) -> bool:
    columns = [file.schema.column(at) for at in range(len(file.schema))]
    return any(
        column.logical_type.type == "DECIMAL" and column.physical_type in ("INT32", "INT64") for column in columns
    )


def differences(one: pq.ParquetFile, other: pq.ParquetFile) -> list[str]:
    """In which respects two files differ in form; empty if in none. Names of respects, never of columns."""
    both_full = one.num_row_groups > 0 and other.num_row_groups > 0
    same = {
        "schema": one.schema.equals(other.schema) and one.schema_arrow.equals(other.schema_arrow),
        "schema metadata": one.schema_arrow.equals(other.schema_arrow, check_metadata=True)
        and _metadata(one) == _metadata(other),
        "compression": not both_full or _compression(one) == _compression(other),
        "format version": one.metadata.format_version == other.metadata.format_version or not both_full,
    }
    return [respect for respect, alike in same.items() if not alike]


def told(file: pq.ParquetFile) -> str:
    """What `differences` compares, of one file, as text. Like it, says nothing of a file's way without rows."""
    respects = [
        # The first line names the object in memory.
        str(file.schema).partition("\n")[2],
        file.schema_arrow.to_string(truncate_metadata=False),
        sorted(_metadata(file).items()),
        (_compression(file), file.metadata.format_version) if file.num_row_groups else None,
    ]
    return repr(respects)


def _metadata(file: pq.ParquetFile) -> dict[bytes, bytes]:
    """Without Arrow's own schema, which is compared as a schema: its bytes depend on the library's version."""
    return {name: value for name, value in (file.metadata.metadata or {}).items() if name != _ARROW_SCHEMA}


def chunks_of(file: pq.ParquetFile, names: Collection[str]) -> list[int]:
    """The bytes that each piece of these columns takes in the file."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(at) for group in groups for at in range(group.num_columns)]
    return [column.total_compressed_size for column in columns if _is_of(column.path_in_schema, names)]


def _is_of(path: str, names: Collection[str]) -> bool:
    """Whether a piece belongs to one of some columns, or lies below one."""
    return path in names or any(path.startswith(f"{name}.") for name in names)


def refuse_encrypted(head: bytes, tail: bytes) -> None:
    """A file with an encrypted footer says so in its first and last bytes.

    Raises:
        UnreadableObjectError: it does.
    """
    if b"PARE" in (head, tail):
        raise UnreadableObjectError("a Parquet object is encrypted, and its keys are not ours", DECRYPT)


def refuse_twins(file: pq.ParquetFile) -> None:
    """Columns are asked for by name.

    Raises:
        UnreadableObjectError: two have the same.
    """
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        raise UnreadableObjectError("a Parquet object has two columns of the same name")


def refuse_far_dates(path: Path, file: pq.ParquetFile) -> None:
    """INT96, the old timestamp, holds more than Arrow's nanoseconds, which would wrap around in silence.

    Raises:
        UnreadableObjectError: a date lies beyond, or where it is not looked for.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    old = [column.path_in_schema for column in _columns(file) if column.physical_type == "INT96"]
    if not old:
        return
    if any("." in name for name in old):
        raise UnreadableObjectError("a Parquet object has INT96 inside nested columns")
    with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as wide:
        for batch in wide.iter_batches(columns=old):
            for column in batch.columns:
                found = pc.min_max(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
                lowest, highest = found["min"].as_py(), found["max"].as_py()
                if lowest is not None and (lowest < _FIRST.timestamp() * 1e6 or highest > _LAST.timestamp() * 1e6):
                    raise UnreadableObjectError("a Parquet object has INT96 dates before 1678 or after 2261")
