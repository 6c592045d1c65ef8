"""Parquet stays as it was written: schema, metadata, compression, row groups, odd types."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifecycle.stores.s3 import parquet
from lifecycle.stores.s3.records import Tally
from stores.s3.log_objects import FIELDS, due_if_d, parquet_bytes, parquet_table

MIXED = ["d1", "d2", "d3", "k1", "d4", "k2", "k3", "d5"]  # in row groups of three: none stays, two stay, one stays


def _rewritten(folder: Path, body: bytes) -> tuple[Tally, Path, Path]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(body)
    tally = Tally(due_if_d)
    parquet.rewrite(source, target, FIELDS, tally)
    return tally, source, target


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none"},
        {"compression": {"message_id": "gzip", "account_id": "snappy"}},
        {"version": "1.0"},
        {"version": "2.4", "use_dictionary": False},
        {"use_dictionary": ["account_id"], "write_statistics": False},
        {"store_schema": False},
        {"use_deprecated_int96_timestamps": True},
        {"coerce_timestamps": "us"},
    ],
    ids=str,
)
def test_the_form_is_kept(tmp_path: Path, options: dict[str, Any]) -> None:
    tally, source, target = _rewritten(tmp_path, parquet_bytes(parquet_table(MIXED), **options))
    assert (tally.before, tally.kept, tally.due) == (8, 3, 5)
    assert parquet.differences(source, target) == []
    with pq.ParquetFile(source) as before, pq.ParquetFile(target) as after:
        assert before.schema_arrow.equals(after.schema_arrow, check_metadata=True)
        assert before.metadata.format_version == after.metadata.format_version
        assert after.num_row_groups == 2
        one, other = before.metadata.row_group(0), after.metadata.row_group(0)
        assert [one.column(at).compression for at in range(one.num_columns)] == [
            other.column(at).compression for at in range(other.num_columns)
        ]
        mask = pa.array([name.startswith("k") for name in MIXED])
        assert after.read().equals(before.read().filter(mask))


def test_a_file_of_which_nothing_stays_keeps_its_schema(tmp_path: Path) -> None:
    tally, source, target = _rewritten(tmp_path, parquet_bytes(parquet_table(["d1", "d2"])))
    assert tally.kept == 0
    assert parquet.differences(source, target) == []


def test_a_file_without_rows(tmp_path: Path) -> None:
    tally, source, target = _rewritten(tmp_path, parquet_bytes(parquet_table([])))
    assert (tally.before, tally.kept) == (0, 0)
    assert parquet.differences(source, target) == []


def test_forms_that_differ(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    table = parquet_table(["k1"])
    one.write_bytes(parquet_bytes(table))
    for changed, options in (
        (table.drop_columns(["headers"]), {}),
        (table.replace_schema_metadata({"owner": "else"}), {}),
        (table, {"compression": "gzip"}),
    ):
        other.write_bytes(parquet_bytes(changed, **options))
        assert parquet.differences(one, other)


def _scan(tmp_path: Path, columns: dict[str, Any]) -> tuple[Tally, list[tuple[Any, ...]]]:
    asked: list[tuple[Any, ...]] = []

    def decide(*values: Any) -> str | None:
        asked.append(values)
        return None

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    (tmp_path / "file").write_bytes(sink.getvalue())
    tally = Tally(decide)
    parquet.scan(tmp_path / "file", FIELDS, tally)
    return tally, asked


@pytest.mark.parametrize(
    "clock",
    [
        pa.array([1780315200_000_000_999], pa.timestamp("ns", "UTC")),
        pa.array([1780315200_000], pa.timestamp("ms")),
        pa.array([1780315200_000_000], pa.timestamp("us", "America/New_York")),
        pa.array(["2026-06-01T12:00:00Z"]),
        pa.array(["2026-06-01T12:00:00Z"], pa.string()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_case_10_clocks_of_any_type(tmp_path: Path, clock: pa.Array) -> None:
    """Case 10: whatever the column's unit and zone, the instant is UTC; without zone it means UTC."""
    columns = {"message_id": ["m"], "account_id": ["a"], "tier": ["beta"], "received_at": clock}
    _, asked = _scan(tmp_path, columns)
    assert asked == [("m", "a", "beta", datetime(2026, 6, 1, 12, tzinfo=UTC))]


def test_identifiers_of_any_type(tmp_path: Path) -> None:
    columns = {
        "message_id": pa.array([UUID(int=1).bytes], pa.binary(16)),
        "account_id": pa.array([UUID(int=2).bytes], pa.uuid()),
        "tier": pa.array(["beta"]),
        "received_at": pa.array([None], pa.timestamp("us")),
    }
    _, asked = _scan(tmp_path, columns)
    assert asked == [(str(UUID(int=1)), str(UUID(int=2)), "beta", None)]


@pytest.mark.parametrize("missing", ["message_id", "account_id", "tier", "received_at", "all"])
def test_case_23_columns_that_are_missing(tmp_path: Path, missing: str) -> None:
    """Case 23: a file that lacks a column has unclassified records, and keeps them."""
    columns = {
        "message_id": ["m", None],
        "account_id": ["a", "a"],
        "tier": ["beta"] * 2,
        "received_at": ["2026-06-01"] * 2,
    }
    kept = {name: values for name, values in columns.items() if missing not in (name, "all")} or {"other": [1, 2]}
    tally, _ = _scan(tmp_path, kept)
    assert (tally.before, tally.kept, tally.unclassified) == (2, 2, 2)
