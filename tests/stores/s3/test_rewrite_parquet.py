"""Parquet in every form that writers give it: what goes leaves no trace in the file, what stays is as it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.errors import VerificationError
from lifecycle.stores.s3 import logs, parquet, parquet_form
from lifecycle.stores.s3.logs import RewriteResult, inspect_object, rewrite_object
from lifecycle.stores.s3.records import Judge, LogFields, Ordinary, Tally, UnreadableObjectError
from lifecycle.stores.s3.versions import key_versions
from stores.s3 import LOGS, PLAIN
from support.permits import CountingPermit, altered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIELDS = LogFields("message_id", "account_id", "tier", "received_at")
CUTOFF = datetime(2026, 6, 1, tzinfo=UTC)
GOES, STAYS = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC)


def decide(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
    if record == "held" or clock is None:
        return None
    return "beta_default" if clock < CUTOFF else None


QUICK = Judge(decide, Ordinary({"beta": (CUTOFF, "beta_default")}, frozenset({"held"}), frozenset()))


def table(due: list[bool], **more: Any) -> pa.Table:
    """One row each, with values that name their row; those of rows that go begin with "gone"."""
    names = [f"{'gone' if goes else 'stay'}-{n}" for n, goes in enumerate(due)]
    columns = {
        "message_id": pa.array(names, pa.string()),
        "account_id": pa.array(names, pa.string()).dictionary_encode(),
        "tier": pa.array(["beta"] * len(due), pa.string()),
        "received_at": pa.array([GOES if goes else STAYS for goes in due], pa.timestamp("us", "UTC")),
        **{name: column(names) for name, column in more.items()},
    }
    return pa.table(columns)


def stays(row: dict[str, Any]) -> bool:
    return str(row["account_id"]).startswith("stay")


def rows_of(file: pq.ParquetFile) -> list[dict[str, Any]]:
    """Group by group: Arrow cannot read dictionaries inside lists across groups."""
    return [row for group in range(file.num_row_groups) for row in file.read_row_group(group).to_pylist()]


def bytes_of(made: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(made, sink, **{"compression": "none", "row_group_size": 3, **options})
    return sink.getvalue()


def rewritten(folder: Path, body: bytes, judge: Any = QUICK) -> tuple[Tally, Path, Path]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(body)
    tally, check = Tally(judge), Tally(judge)
    parquet.rewrite(source, target, FIELDS, tally)
    parquet.scan(target, FIELDS, check)
    assert (check.before, check.due) == (tally.kept, 0)
    assert parquet.differences(source, target) == []
    return tally, source, target


COLUMNS: dict[str, Callable[[list[str]], pa.Array]] = {
    "list": lambda names: pa.array([[name, None] for name in names]),
    "struct": lambda names: pa.array([{"a": name, "b": {"c": [name]}} for name in names]),
    "map": lambda names: pa.array([[(name, 1), ("k", None)] for name in names], pa.map_(pa.string(), pa.int32())),
    "empty": lambda names: pa.array([[] if n % 2 else None for n, _ in enumerate(names)], pa.list_(pa.string())),
    "large": lambda names: pa.array(names, pa.large_string()),
    "binary": lambda names: pa.array([name.encode() for name in names], pa.binary()),
    "decimal": lambda names: pa.array([Decimal(n) / 100 for n, _ in enumerate(names)], pa.decimal128(9, 2)),
    "wide decimal": lambda names: pa.array([Decimal(n) for n, _ in enumerate(names)], pa.decimal256(60, 0)),
    "nanoseconds": lambda names: pa.array([n for n, _ in enumerate(names)], pa.timestamp("ns", "Europe/Berlin")),
    "naive": lambda names: pa.array([n for n, _ in enumerate(names)], pa.timestamp("ms")),
    "day": lambda names: pa.array([date(1970, 1, 1)] * len(names)),
    "time": lambda names: pa.array([n for n, _ in enumerate(names)], pa.time64("us")),
    "float": lambda names: pa.array([float("nan") if n % 2 else -0.0 for n, _ in enumerate(names)]),
    "half": lambda names: pa.array([1.0] * len(names), pa.float16()),
    "unsigned": lambda names: pa.array([2**64 - 1] * len(names), pa.uint64()),
    "small dictionary": lambda names: pa.array(names).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
    "nothing": lambda names: pa.nulls(len(names)),
    "uuid": lambda names: pa.array([bytes([n % 256]) * 16 for n, _ in enumerate(names)], pa.uuid()),
    "list of dictionaries": lambda names: pa.ListArray.from_arrays(
        pa.array(range(len(names) + 1), pa.int32()), pa.array(names, pa.string()).dictionary_encode()
    ),
    "struct of dictionaries": lambda names: pa.StructArray.from_arrays(
        [pa.array(names, pa.string()).dictionary_encode()], ["a"]
    ),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"use_dictionary": False},
    {"write_page_index": True},
    {"use_compliant_nested_type": False},
    {"store_decimal_as_integer": True},
    {"data_page_version": "2.0", "compression": "snappy"},
    {"bloom_filter_options": {"message_id": True}},
    {"store_schema": False},
    {
        "use_dictionary": False,
        "column_encoding": {"message_id": "DELTA_BYTE_ARRAY", "received_at": "DELTA_BINARY_PACKED"},
    },
]
PATTERN = [True, True, True, False, True, False, False, True, False, True]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_trace_of_what_goes_is_left(tmp_path: Path, options: dict[str, Any]) -> None:
    """Case 18: not in a dictionary, statistics, the page index or a bloom filter; values of all types stay equal."""
    made = table(PATTERN, **COLUMNS)
    body = bytes_of(made, **options)
    assert b"gone-0" in body
    tally, source, target = rewritten(tmp_path, body)
    assert (tally.before, tally.kept) == (10, 4)
    assert b"gone-" not in target.read_bytes()
    with pq.ParquetFile(source) as before, pq.ParquetFile(target) as after:
        assert str(rows_of(after)) == str([row for row in rows_of(before) if stays(row)])
        assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
        assert [after.metadata.row_group(n).num_rows for n in range(after.num_row_groups)] == [2, 2]
        one, other = (file.metadata.row_group(0).column(0) for file in (before, after))
        for asked in ("has_offset_index", "is_stats_set", "has_dictionary_page", "compression", "encodings"):
            assert getattr(one, asked) == getattr(other, asked), asked
        assert (one.bloom_filter_offset is None) == (other.bloom_filter_offset is None)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    due=st.lists(st.booleans(), max_size=40),
    size=st.integers(1, 50),
    clock=st.sampled_from(
        [pa.timestamp("s", "UTC"), pa.timestamp("ns"), pa.string(), pa.dictionary(pa.int32(), pa.string())]
    ),
    codec=st.sampled_from(["none", "zstd", "gzip", "snappy"]),
    null=st.integers(0, 40),
)
def test_rows_of_any_pattern_in_groups_of_any_size(
    tmp_path: Path, due: list[bool], size: int, clock: pa.DataType, codec: str, null: int
) -> None:
    """Judged by column or one by one, the same rows stay, and groups that keep rows keep their bounds."""
    made = table(due, headers=COLUMNS["struct"])
    times = made["received_at"]
    if not pa.types.is_timestamp(clock):
        written = pa.array([at.isoformat() for at in times.to_pylist()], pa.string())
        times = written.dictionary_encode() if pa.types.is_dictionary(clock) else written
    elif clock.tz is None:
        times = pa.array([at.replace(tzinfo=None) for at in times.to_pylist()], clock)
    else:
        times = times.cast(clock)
    made = made.set_column(3, "received_at", times)
    ids = [None if n == null else one for n, one in enumerate(made["message_id"].to_pylist())]
    made = made.set_column(0, "message_id", pa.array(ids, pa.string()))
    body = bytes_of(made, compression=codec, row_group_size=size)
    for judge in (QUICK, decide):
        tally, source, target = rewritten(tmp_path, body, judge)
        assert (tally.before, tally.kept, tally.unclassified) == (len(due), due.count(False), int(null < len(due)))
        with pq.ParquetFile(target) as after:
            assert after.read().to_pylist() == [row for row in pq.read_table(source).to_pylist() if stays(row)]
            kept = [due[n : n + size].count(False) for n in range(0, len(due), size)]
            groups = [after.metadata.row_group(n).num_rows for n in range(after.num_row_groups)]
            assert groups == [rows for rows in kept if rows]


def test_metadata_of_pandas_and_of_others_stays(tmp_path: Path) -> None:
    made = pa.Table.from_pandas(table(PATTERN).to_pandas()).replace_schema_metadata(
        {**(pa.Table.from_pandas(table(PATTERN).to_pandas()).schema.metadata or {}), b"owner": b"app"}
    )
    fields = [field.with_metadata({b"PARQUET:field_id": str(n).encode()}) for n, field in enumerate(made.schema, 7)]
    made = made.cast(pa.schema(fields, metadata=made.schema.metadata))
    _, _, target = rewritten(tmp_path, bytes_of(made))
    with pq.ParquetFile(target) as after:
        assert after.schema_arrow.field(1).metadata == {b"PARQUET:field_id": b"8"}
        assert after.schema_arrow.metadata[b"owner"] == b"app"
    assert list(pq.read_table(target).to_pandas()["message_id"]) == ["stay-3", "stay-5", "stay-6", "stay-8"]


def test_sorting_is_told_again(tmp_path: Path) -> None:
    order = [pq.SortingColumn(3, descending=True)]
    _, _, target = rewritten(tmp_path, bytes_of(table(PATTERN), sorting_columns=order))
    with pq.ParquetFile(target) as after:
        assert after.metadata.row_group(0).sorting_columns == tuple(order)


def test_a_group_that_takes_too_much_memory_becomes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 20_000)
    due = [n % 100 == 0 for n in range(3000)]
    body = bytes_of(table(due, body=lambda names: pa.array([name * 10 for name in names])), row_group_size=3000)
    _, source, target = rewritten(tmp_path, body)
    with pq.ParquetFile(target) as after:
        assert after.num_row_groups > 2
        assert after.read().to_pylist() == [row for row in pq.read_table(source).to_pylist() if stays(row)]


# -- what is read where it lies


def _put_large(s3: S3Client, due: int, bucket: str = LOGS) -> int:
    """Two thousand rows with bodies that no decision needs; gives the size."""
    rows = table([n < due for n in range(2000)], body=lambda names: pa.array([name * 500 for name in names]))
    body = bytes_of(rows, row_group_size=1000)
    s3.put_object(Bucket=bucket, Key="a.parquet", Body=body)
    return len(body)


@pytest.mark.parametrize("due", [0, 3])
def test_only_the_columns_that_decide_are_read(s3: S3Client, monkeypatch: pytest.MonkeyPatch, due: int) -> None:
    """Promise 8: an object without due records is not even read whole, and one with them only to be rewritten."""
    monkeypatch.setattr(logs, "REMOTE_FROM", 1 << 20)
    monkeypatch.setattr(parquet, "_REMOTE_BYTES", 256 << 10)
    size, read = _put_large(s3, due), list[int]()

    def counted(real: Callable[..., Any], **kwargs: Any) -> Any:
        answer = real(**kwargs)
        read.append(answer["ContentLength"])
        return answer

    watched = altered(s3, get_object=counted)
    seen = inspect_object(watched, LOGS, "a.parquet", FIELDS, QUICK)
    assert (seen.records_before, seen.kept, sum(seen.removed.values())) == (2000, 2000 - due, due)
    assert sum(read) < size // 4
    read.clear()
    assert rewrite_object(watched, CountingPermit(), LOGS, "a.parquet", FIELDS, QUICK) == seen
    assert (sum(read) > size) == (due > 0)


def test_case_15_an_object_that_is_overwritten_while_its_columns_are_read(
    s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 15: every piece demands the ETag that was listed, so no two states are mixed; it is looked at anew."""
    monkeypatch.setattr(logs, "REMOTE_FROM", 1 << 20)
    monkeypatch.setattr(parquet, "_REMOTE_BYTES", 256 << 10)
    _put_large(s3, 3, PLAIN)
    asked: list[str] = []

    def overwriting(real: Callable[..., Any], **kwargs: Any) -> Any:
        asked.append(kwargs.get("Range", ""))
        if len(asked) == 4:
            _put_large(s3, 7, PLAIN)
        return real(**kwargs)

    racing = altered(s3, get_object=overwriting)
    done = rewrite_object(racing, CountingPermit(), PLAIN, "a.parquet", FIELDS, QUICK)
    assert asked[3].startswith("bytes=")
    assert (done.records_before, done.removed) == (2000, {"beta_default": 7})


# -- what is refused, and stays


class _Keys(pe.KmsClient):  # type: ignore[misc]
    def wrap_key(self, key_bytes: bytes, _: str) -> str:
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key: str, _: str) -> bytes:
        return bytes.fromhex(wrapped_key)


def _encrypted(*, footer: bool) -> bytes:
    told = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["message_id"]}, plaintext_footer=not footer)
    factory = pe.CryptoFactory(lambda _: _Keys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), told)
    return bytes_of(table(PATTERN), encryption_properties=properties)


@pytest.mark.parametrize("footer", [True, False], ids=["footer", "columns"])
def test_case_23_encrypted_files_are_refused(s3: S3Client, footer: bool) -> None:
    """Case 23: said clearly, counted as unclassified, and not touched."""
    body = _encrypted(footer=footer)
    _refused(s3, body, "encrypted")


def test_case_23_columns_of_one_name_are_refused(s3: S3Client) -> None:
    """Case 23: which of the two would decide?"""
    made = table(PATTERN)
    _refused(s3, bytes_of(pa.table([*made.columns, made["tier"]], names=[*made.column_names, "tier"])), "same name")


def _refused(s3: S3Client, body: bytes, why: str) -> None:
    s3.put_object(Bucket=LOGS, Key="a.parquet", Body=body)
    untouched = RewriteResult("unchanged", 1, 1, {}, 1, 0)
    assert inspect_object(s3, LOGS, "a.parquet", FIELDS, QUICK) == untouched
    assert rewrite_object(s3, CountingPermit(), LOGS, "a.parquet", FIELDS, QUICK) == untouched
    assert s3.get_object(Bucket=LOGS, Key="a.parquet")["Body"].read() == body


def test_old_timestamps_that_would_wrap_around_are_refused(tmp_path: Path) -> None:
    """INT96 holds the year 3000, Arrow's nanoseconds do not: it would come back as 1830, and no check would see it."""
    for year, fits in ((2200, True), (3000, False), (1500, False)):
        clock = lambda names, year=year: pa.array([datetime(year, 1, 1)] * len(names), pa.timestamp("us"))  # noqa: DTZ001, E731
        body = bytes_of(table(PATTERN, ends=clock), use_deprecated_int96_timestamps=True)
        if fits:
            rewritten(tmp_path, body)
        else:
            with pytest.raises(UnreadableObjectError, match="INT96"):
                rewritten(tmp_path, body)


def test_case_23_clocks_beyond_the_years_of_python(tmp_path: Path) -> None:
    """Case 23: the year 20000 is a clock that cannot be read, not the end of the run."""
    made = table([False, True, False])
    far = pa.array([570_000_000_000_000_000, int(GOES.timestamp()) * 10**6, None], pa.timestamp("us", "UTC"))
    (tmp_path / "file").write_bytes(bytes_of(made.set_column(3, "received_at", far)))
    for judge in (QUICK, decide):
        tally = Tally(judge)
        parquet.scan(tmp_path / "file", FIELDS, tally)
        assert (tally.before, tally.due, tally.unclassified) == (3, 1, 2)


@pytest.mark.parametrize("change", [{"compression": "zstd"}, {"store_schema": False}, {"version": "1.0"}], ids=str)
def test_a_form_that_cannot_be_given_again_fails_before_anything_is_written(
    s3: S3Client, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Promise 3: the due records are told, since they stay; nothing is sent, so there is nothing to take back."""
    s3.put_object(Bucket=LOGS, Key="a.parquet", Body=bytes_of(table(PATTERN)))
    before, permit = key_versions(s3, LOGS, "a.parquet"), CountingPermit()
    real = parquet_form.settings
    monkeypatch.setattr(parquet_form, "settings", lambda file, emptied: {**real(file, emptied), **change})
    with pytest.raises(VerificationError, match="6 due record"):
        rewrite_object(s3, permit, LOGS, "a.parquet", FIELDS, QUICK)
    assert key_versions(s3, LOGS, "a.parquet") == before
    assert permit.checks == 0
