"""Columns of Parquet files that are emptied in some rows while the rows stay: at the top, in structs and in lists."""

from __future__ import annotations

from array import array as numbers
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.arrays import boolean_array
from lifecycle.stores.s3.emptying import WHOLE, Paths, heads, paths_of, without
from lifecycle.stores.s3.records import UnreadableObjectError

if TYPE_CHECKING:
    import pyarrow as pa

_OPTIONAL = "have it written as an optional column, and write this object again; or name the whole column around it"
_LIFT = "name the whole column in 'clear'"


def columns_of(schema: pa.Schema, fields: Sequence[str]) -> list[str]:
    """The columns of a file that hold the fields, or the part of them that there is."""
    wanted = heads(paths_of(fields))
    return [name for name in schema.names if name in wanted]


def refuse_unfit(schema: pa.Schema, fields: Sequence[str]) -> None:
    """Whether each field may hold null, and can be reached.

    Raises:
        UnreadableObjectError: one may not, or lies in a map or in a list of fixed size.
    """
    wanted = heads(paths_of(fields))
    for column in schema:
        _refuse(column, wanted.get(column.name, ()))


def _refuse(field: pa.Field, paths: Paths) -> None:
    import pyarrow as pa

    if not paths:
        return
    if WHOLE in paths:
        if not field.nullable:
            raise UnreadableObjectError("a Parquet object has a required column that is to be emptied", _OPTIONAL)
        return
    kind = field.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_map(kind) or pa.types.is_fixed_size_list(kind):
        raise UnreadableObjectError("a Parquet object has a field that is to be emptied inside a map", _LIFT)
    if pa.types.is_struct(kind):
        wanted = heads(paths)
        for child in kind:
            _refuse(child, wanted.get(child.name, ()))


def holding(batch: pa.RecordBatch, fields: Sequence[str]) -> pa.BooleanArray:
    """For each row whether anything but null is in one of the fields."""
    import pyarrow.compute as pc

    wanted = heads(paths_of(fields))
    found = boolean_array([False] * batch.num_rows)
    for name in columns_of(batch.schema, fields):
        found = pc.or_(found, _holding(batch.column(name), wanted[name]))
    return found


def _holding(column: Any, paths: Paths) -> pa.BooleanArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if WHOLE in paths:
        return pc.is_valid(column)
    found = boolean_array([False] * len(column))
    if pa.types.is_struct(column.type):
        wanted = heads(paths)
        for at, child in enumerate(column.type):
            if child.name in wanted:
                found = pc.or_(found, _holding(pc.struct_field(column, [at]), wanted[child.name]))
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        inner = _holding(pc.list_flatten(column), paths)
        rows = pc.list_parent_indices(column).filter(inner)
        found = pc.is_in(_counted(len(column)), value_set=rows.unique().cast(pa.int64()))
    return found


def emptied(batch: pa.RecordBatch, due: pa.BooleanArray, fields: Sequence[str]) -> pa.RecordBatch:
    """The batch with null in the fields of the rows that are due."""
    import pyarrow as pa

    wanted = heads(paths_of(fields))
    columns = [
        _emptied(column, due, wanted[name]) if name in wanted else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _emptied(column: Any, due: pa.BooleanArray, paths: Paths) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if WHOLE in paths:
        # What stays is taken anew: below a null in place the old value would still lie in the memory.
        return column.take(pc.if_else(due, pa.nulls(1, pa.int64())[0], _counted(len(column))))
    if pa.types.is_struct(column.type):
        wanted = heads(paths)
        children = [
            _emptied(column.field(at), due, wanted[child.name]) if child.name in wanted else column.field(at)
            for at, child in enumerate(column.type)
        ]
        return pa.StructArray.from_arrays(children, fields=list(column.type), mask=pc.is_null(column))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        values = _emptied(pc.list_flatten(column), due.take(pc.list_parent_indices(column)), paths)
        large = pa.types.is_large_list(column.type)
        lengths = pc.fill_null(pc.list_value_length(column).cast(pa.int64()), _counted(1)[0])
        ends = pc.cumulative_sum(lengths)
        offsets = pa.concat_arrays([_counted(1), ends]).cast(pa.int64() if large else pa.int32())
        kind = pa.LargeListArray if large else pa.ListArray
        return kind.from_arrays(offsets, values, type=column.type, mask=pc.is_null(column))
    return column


def _counted(length: int) -> pa.Int64Array:
    """0, 1, 2 …"""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), length, [None, pa.py_buffer(numbers("q", range(length)))])


def unlike(
    before: Iterator[pa.RecordBatch], after: Iterator[pa.RecordBatch], fields: Sequence[str], changed: int
) -> list[str]:
    """In which respects rows are not those before with some of them emptied; empty if in none.

    Of nested columns the rows that changed are compared as Python's values, not by what `emptied` does.
    """
    import pyarrow.compute as pc

    found = 0
    for old, new in _side_by_side(before, after):
        if old is None or new is None:
            return ["the number of rows"]
        gone = pc.and_not(holding(old, fields), holding(new, fields))
        found += gone.true_count
        for name in old.schema.names:
            if not _is_emptied(old.column(name), new.column(name), gone, heads(paths_of(fields)).get(name)):
                return ["the columns that stay" if name not in columns_of(old.schema, fields) else "what is emptied"]
    return [] if found == changed else [f"the rows that are emptied, {found} instead of {changed}"]


def _is_emptied(old: Any, new: Any, gone: pa.BooleanArray, paths: Paths | None) -> bool:
    import pyarrow.compute as pc

    if paths is None:
        return _same(old, new)
    stays = pc.invert(gone)
    if not _same(old.filter(stays), new.filter(stays)):
        return False
    if WHOLE in paths:
        return bool(new.filter(gone).null_count == gone.true_count)
    wanted = [without(value, paths) for value in old.filter(gone).to_pylist()]
    return repr(wanted) == repr(new.filter(gone).to_pylist())


def _same(old: Any, new: Any) -> bool:
    """Arrow holds that NaN is not the same as NaN, so what it calls different is looked at once more."""
    return bool(old.equals(new)) or (old.type == new.type and repr(old.to_pylist()) == repr(new.to_pylist()))


def _side_by_side(
    one: Iterator[pa.RecordBatch], other: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
    """Batches of equally many rows, whatever lengths they come in; None beside what the other has more."""
    left, right = _next(one), _next(other)
    while left is not None and right is not None:
        rows = min(left.num_rows, right.num_rows)
        yield left.slice(0, rows), right.slice(0, rows)
        left = left.slice(rows) if left.num_rows > rows else _next(one)
        right = right.slice(rows) if right.num_rows > rows else _next(other)
    if left is not None or right is not None:
        yield left, right


def _next(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in batches if batch.num_rows), None)
