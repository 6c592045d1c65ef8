"""The checksum by which a rest that was made elsewhere is judged: the same for the same records, and only for them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lifecycle.stores.s3.contents import Contents, checksum_of
from lifecycle.stores.s3.forms import form_of
from lifecycle.stores.s3.records import Tally
from stores.s3.log_objects import FIELDS, FORMS, Form, due_if_d, parquet_bytes, parquet_table

IDS = ["k1", "d1", "k2", "d2", "d3", "k3", "k4"]


def checksum(folder: Path, name: str, body: bytes) -> str | None:
    path = folder / f"object{name}"
    path.write_bytes(body)
    contents = Contents()
    form_of(name).scan(path, FIELDS, Tally(due_if_d, contents=contents))
    return contents.checksum


def rest_of(folder: Path, name: str, body: bytes) -> bytes:
    source, target = folder / "source", folder / "target"
    source.write_bytes(body)
    form_of(name).rewrite(source, target, FIELDS, Tally(due_if_d))
    return target.read_bytes()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix)
def test_a_rest_has_the_checksum_of_what_stays(tmp_path: Path, form: Form) -> None:
    body = form.encode(IDS)
    told = checksum(tmp_path, form.suffix, body)
    assert told is not None
    assert checksum(tmp_path, form.suffix, rest_of(tmp_path, form.suffix, body)) == told


FORGED: dict[str, Callable[[list[str]], list[str]]] = {
    "another record in one's place": lambda ids: [*ids[:2], "k9", ids[3]],
    "one missing": lambda ids: ids[1:],
    "one twice": lambda ids: [*ids, ids[0]],
    "another order": lambda ids: [ids[1], ids[0], *ids[2:]],
    "a due one instead of a kept one": lambda ids: ["d1", *ids[1:]],
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix)
def test_other_records_have_another(tmp_path: Path, form: Form, forge: Callable[[list[str]], list[str]]) -> None:
    kept = [name for name in IDS if not name.startswith("d")]
    told = checksum(tmp_path, form.suffix, form.encode(kept))
    assert checksum(tmp_path, form.suffix, form.encode(forge(kept))) != told


def test_lines_differ_by_a_single_byte_and_by_their_packing(tmp_path: Path) -> None:
    plain, packed = FORMS[0], FORMS[1]
    body = plain.encode(["k1", "k2"])
    told = checksum(tmp_path, packed.suffix, gzip.compress(body, 9))
    assert checksum(tmp_path, packed.suffix, gzip.compress(body[:20]) + gzip.compress(body[20:])) == told
    for other in (body.replace(b"200", b"201", 1), body + b"\n", body[:-1]):
        assert checksum(tmp_path, packed.suffix, gzip.compress(other)) != told
    assert checksum(tmp_path, packed.suffix, body) != told


WIDE = {
    "flag": pa.array([True, None, False, True]),
    "small": pa.array([1, None, 3, 4], pa.int8()),
    "number": pa.array([0.5, None, float("nan"), -0.0]),
    "money": pa.array([Decimal("1.10"), None, Decimal("3.00"), Decimal("4.00")], pa.decimal128(12, 2)),
    "text": pa.array(["a", None, "", "bc"]),
    "long": pa.array(["a", None, "", "bc"], pa.large_string()),
    "raw": pa.array([b"a", None, b"\0", b"bc"]),
    "fixed": pa.array([b"aaaa", None, b"bbbb", b"cccc"], pa.binary(4)),
    "id": pa.array([UUID(int=n).bytes for n in range(4)], pa.uuid()),
    "day": pa.array([date(2026, 1, 1), None, date(2026, 1, 3), date(2026, 1, 4)]),
    "hour": pa.array([time(1), None, time(3), time(4)]),
    "at": pa.array([1, None, 3, 4], pa.timestamp("ns")),
    "word": pa.array(["x", None, "y", "x"]).dictionary_encode(),
    "list": pa.array([[1, None], None, [], [2, 3, 4]], pa.list_(pa.int64())),
    "pair": pa.array([[1, 2], None, [3, None], [4, 5]], pa.list_(pa.int32(), 2)),
    "deep": pa.array([[{"a": "x", "b": [1]}], None, [None], [{"a": None, "b": None}]]),
    "map": pa.array([[("k", 1)], None, [], [("l", None), ("m", 2)]], pa.map_(pa.string(), pa.int64())),
    "none": pa.nulls(4),
}


def _of_batches(table: pa.Table, *at: int) -> str | None:
    contents = Contents()
    for begin, end in zip((0, *at), (*at, table.num_rows), strict=True):
        (batch,) = table.slice(begin, end - begin).combine_chunks().to_batches() or [None]
        if batch is not None:
            contents.rows(batch)
    return contents.checksum


@pytest.mark.parametrize("name", WIDE)
def test_every_kind_of_column_is_compared_value_by_value(tmp_path: Path, name: str) -> None:
    """Whatever was read together, filtered before, or lies under a null; and no value can take another's place."""
    table = pa.table({name: WIDE[name]})
    told = _of_batches(table)
    assert told is not None
    assert {_of_batches(table, 1), _of_batches(table, 1, 2, 3)} == {told}
    doubled = pa.concat_tables([table, table]).combine_chunks()
    mask = pa.array([False, True, False, False, True, False, True, True])
    wanted = doubled.filter(mask)
    assert _of_batches(wanted) == _of_batches(table.take([1, 0, 2, 3]))
    sliced = doubled.slice(3, 3)
    assert _of_batches(sliced) == _of_batches(table.take([3, 0, 1]))
    if name != "none":
        others = [table.take([0, 2, 1, 3]), table.take([1, 0, 2, 3]), table.take([0, 1, 2, 0]), table.slice(0, 3)]
        assert told not in [_of_batches(other) for other in others if not other.equals(table)]
    pq.write_table(table, tmp_path / "object.parquet", store_schema=True)
    read = pq.read_table(tmp_path / "object.parquet")
    assert read.schema != table.schema or _of_batches(read) == told


def test_what_lies_under_a_null_is_nobody_s() -> None:
    mask = pa.array([False, True])
    one = pc.if_else(mask, pa.scalar(None, pa.int64()), pa.array([1, 2]))
    assert _of_batches(pa.table({"a": one})) == _of_batches(pa.table({"a": pa.array([1, None], pa.int64())}))


def test_nothing_is_told_of_a_kind_that_is_not_compared() -> None:
    view = pa.table({"a": pa.array(["x"], pa.string_view())})
    assert _of_batches(view) is None


@pytest.mark.parametrize(
    "options",
    [{"compression": "gzip"}, {"version": "1.0"}, {"metadata": {"owner": "other"}}, {"names": ["a"]}],
    ids=str,
)
def test_rows_in_another_form_have_another(tmp_path: Path, options: dict[str, Any]) -> None:
    table = parquet_table(["k1", "k2", "k3", "k4"])
    told = checksum(tmp_path, ".parquet", parquet_bytes(table))
    assert checksum(tmp_path, ".parquet", parquet_bytes(table, row_group_size=2)) == told
    if "metadata" in options:
        table = table.replace_schema_metadata(options.pop("metadata"))
    if "names" in options:
        table = table.rename_columns([*table.column_names[:-1], *options.pop("names")])
    assert checksum(tmp_path, ".parquet", parquet_bytes(table, **options)) != told


def test_the_second_look_at_rows_must_count_as_the_first(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(parquet_bytes(parquet_table(IDS)))
    seen, form = Tally(due_if_d), form_of(".parquet")
    form.scan(path, FIELDS, seen)
    assert checksum_of(form, path, FIELDS, seen) == checksum(tmp_path, ".parquet", path.read_bytes())
    path.write_bytes(parquet_bytes(parquet_table(IDS[1:])))
    assert checksum_of(form, path, FIELDS, seen) is None
    path.write_bytes(b"PAR1")
    assert checksum_of(form, path, FIELDS, seen) is None
