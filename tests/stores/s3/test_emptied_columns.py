"""Columns of Parquet files are emptied, the rows stay: no trace of what was in them is left, and all else is there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.stores.s3 import parquet
from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError
from stores.s3.test_rewrite_parquet import COLUMNS, OPTIONS, QUICK, bytes_of, decide, rows_of, table

CLEAR = ("prompt", "request.messages", "choices.message.content", "a.b", *COLUMNS)
FIELDS = LogFields("message_id", "account_id", "tier", "received_at", CLEAR)
NESTED = {
    "prompt": lambda names: pa.array(names).dictionary_encode(),
    "request": lambda names: pa.array(
        [
            None if n % 5 == 4 else {"messages": [name] if n % 3 else None, "model": name[:4]}
            for n, name in enumerate(names)
        ]
    ),
    "choices": lambda names: pa.array(
        [
            None if n % 4 == 3 else [{"message": {"content": name, "role": "r"}}, None, {"message": None}][: n % 4 + 1]
            for n, name in enumerate(names)
        ]
    ),
    "a.b": lambda names: pa.array([name if n % 2 else None for n, name in enumerate(names)]),
}  # fmt: skip


def oracle(row: dict[str, Any], extra: str) -> dict[str, Any]:
    """A row without its content, written down without the engine."""
    left = dict(row) | {"prompt": None, "a.b": None, extra: None}
    if row["request"] is not None:
        left["request"] = row["request"] | {"messages": None}
    if row["choices"] is not None:
        left["choices"] = [
            each and (each if each["message"] is None else {"message": each["message"] | {"content": None}})
            for each in row["choices"]
        ]
    return left


def rewritten(folder: Path, body: bytes, judge: Any = QUICK, fields: LogFields = FIELDS) -> tuple[Tally, Path, Path]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(body)
    tally, first, check = (Tally(judge, empties=True) for _ in range(3))
    parquet.scan(source, fields, first)
    parquet.rewrite(source, target, fields, tally)
    parquet.scan(target, fields, check)
    assert (first.removed, first.kept) == (tally.removed, tally.kept)
    assert (check.before, check.due) == (tally.before, 0)
    assert parquet.unlike(source, target, fields, tally.due) == []
    assert parquet.differences(source, target) == []
    return tally, source, target


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    due=st.lists(st.booleans(), min_size=1, max_size=12),
    extra=st.sampled_from(sorted(COLUMNS)),
    options=st.sampled_from(OPTIONS),
)
def test_any_rows_of_any_form(tmp_path: Path, due: list[bool], extra: str, options: dict[str, Any]) -> None:
    made = table(due, **NESTED, **{extra: COLUMNS[extra]})
    for judge in (QUICK, decide):
        tally, source, target = rewritten(tmp_path, bytes_of(made, **options), judge)
        assert (tally.before, tally.due) == (len(due), sum(due))
        with pq.ParquetFile(source) as before, pq.ParquetFile(target) as after:
            wanted = [oracle(row, extra) if goes else row for row, goes in zip(rows_of(before), due, strict=True)]
            assert repr(rows_of(after)) == repr(wanted)
            groups = [
                [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] for file in (before, after)
            ]
            assert groups[0] == groups[1]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_nothing_that_was_emptied_is_left_in_the_file(tmp_path: Path, options: dict[str, Any]) -> None:
    """Neither in dictionaries, statistics, page indexes and bloom filters nor in pages."""
    due = [n % 3 == 0 for n in range(20)]

    def secrets(some: list[str]) -> list[str]:
        return [f"secret{name}" for name in some]

    hidden = {name: (lambda some, of=of: of(secrets(some))) for name, of in NESTED.items()}
    told = options | {"compression": "none"} | ({"bloom_filter_options": {"a.b": True}} if not options else {})
    body = bytes_of(table(due, **hidden), **told)
    assert b"secretgone" in body
    rest = rewritten(tmp_path, body)[2].read_bytes()
    assert b"secretgone" not in rest
    assert b"secretstay" in rest


def test_what_is_empty_already_is_not_due(tmp_path: Path) -> None:
    """Promise 4: of a rewritten file nothing is due, and a file without the columns never was."""
    _, _, target = rewritten(tmp_path, bytes_of(table([True, False, True], **NESTED)))
    again = rewritten(tmp_path, target.read_bytes())[0]
    assert (again.due, again.kept) == (0, 3)
    assert rewritten(tmp_path, bytes_of(table([True, True])))[0].due == 0


@pytest.mark.parametrize(
    ("column", "clear", "fault"),
    [
        (pa.field("prompt", pa.string(), nullable=False), "prompt", "required column"),
        (pa.field("r", pa.struct([pa.field("m", pa.string(), nullable=False)])), "r.m", "required column"),
        (pa.field("r", pa.list_(pa.struct([pa.field("m", pa.string(), nullable=False)]))), "r.m", "required column"),
        (pa.field("r", pa.map_(pa.string(), pa.string())), "r.m", "inside a map"),
    ],
)
def test_a_column_that_cannot_hold_null_is_refused_with_the_remedy(
    tmp_path: Path, column: pa.Field, clear: str, fault: str
) -> None:
    """Case 23: the object is left in place and told; it is not rewritten into another form."""
    values = {"prompt": ["p"], "r": [[("m", "p")]] if pa.types.is_map(column.type) else [{"m": "p"}]}
    held = [values["r"]] if pa.types.is_list(column.type) and not pa.types.is_map(column.type) else values[column.name]
    made = table([True]).append_column(column, pa.array(held, column.type))
    (tmp_path / "source").write_bytes(bytes_of(made))
    fields = LogFields(*FIELDS.names(), (clear,))
    with pytest.raises(UnreadableObjectError, match=fault) as refused:
        parquet.scan(tmp_path / "source", fields, Tally(QUICK, empties=True))
    assert refused.value.remedy.startswith(("have it written as an optional column", "name the whole column"))


def test_rows_are_not_said_to_be_sorted_by_what_was_emptied(tmp_path: Path) -> None:
    sorting = pq.SortingColumn.from_ordering(
        table([True], **NESTED).schema, [("message_id", "ascending"), ("a.b", "ascending")]
    )
    body = bytes_of(table([True, False], **NESTED), sorting_columns=sorting)
    with pq.ParquetFile(rewritten(tmp_path, body)[2]) as file:
        assert [each.column_index for each in file.metadata.row_group(0).sorting_columns] == [0]


@pytest.mark.parametrize("wrong", ["a value more", "a row less", "another value"])
def test_what_is_not_the_source_without_its_content_is_refused(tmp_path: Path, wrong: str) -> None:
    """Promise 3: before the store is touched, and not by what wrote it."""
    tally, source, target = rewritten(tmp_path, bytes_of(table([True, False, True], **NESTED)))
    rows = pq.read_table(target).to_pylist()
    if wrong == "a row less":
        rows.pop()
    elif wrong == "another value":
        rows[1]["account_id"] = "other"
    else:
        rows[0]["request"]["model"] = None
    changed = pa.Table.from_pylist(rows, pq.read_schema(target))
    sink = io.BytesIO()
    pq.write_table(changed, sink)
    target.write_bytes(sink.getvalue())
    assert parquet.unlike(source, target, FIELDS, tally.due) != []
