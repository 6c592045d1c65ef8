"""Objects that hold many records, in each format, for the tests of rewriting."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.records import LogFields
from stores.s3 import LOGS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIELDS = LogFields("message_id", "account_id", "tier", "received_at")
WHEN = "2026-06-01T12:00:00+00:00"


@dataclass(frozen=True)
class Form:
    """How one format is written and read."""

    suffix: str
    content_type: str
    encode: Callable[[Iterable[str]], bytes]
    decode: Callable[[bytes], list[str]]

    def key(self, name: str = "part-0") -> str:
        return f"requests/date=2026-06-01/{name}{self.suffix}"

    def put(self, s3: S3Client, ids: Iterable[str], name: str = "part-0", bucket: str = LOGS) -> str | None:
        """Write an object with records of these ids, as the application does; gives its version id."""
        answer = s3.put_object(
            Bucket=bucket,
            Key=self.key(name),
            Body=self.encode(ids),
            ContentType=self.content_type,
            Metadata={"written-by": "app"},
            Tagging="kind=log%20lines",
        )
        return answer.get("VersionId")

    def ids(self, s3: S3Client, name: str = "part-0", bucket: str = LOGS, version: str | None = None) -> list[str]:
        """The ids of the records that an object (or a version of it) holds now."""
        wanted: dict[str, Any] = {"VersionId": version} if version else {}
        return self.decode(s3.get_object(Bucket=bucket, Key=self.key(name), **wanted)["Body"].read())


def _lines(ids: Iterable[str]) -> bytes:
    return b"".join(
        json.dumps({"message_id": one, "account_id": "a", "tier": "beta", "received_at": WHEN, "status": 200}).encode()
        + b"\n"
        for one in ids
    )


def _ids(lines: bytes) -> list[str]:
    return [json.loads(line)["message_id"] for line in lines.splitlines()]


def parquet_table(ids: Iterable[str]) -> Any:
    import pyarrow as pa

    names = list(ids)
    columns = {
        "message_id": pa.array(names, pa.string()),
        "account_id": pa.array(["a"] * len(names), pa.string()),
        "tier": pa.array(["beta"] * len(names), pa.dictionary(pa.int32(), pa.string())),
        "received_at": pa.array([datetime.fromisoformat(WHEN)] * len(names), pa.timestamp("ms", "UTC")),
        "headers": pa.array([[{"name": "x", "value": one}] for one in names]),
    }
    fields = [pa.field(name, column.type, metadata={"doc": name}) for name, column in columns.items()]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields, metadata={"owner": "app"}))


def parquet_bytes(table: Any, **options: Any) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", "row_group_size": 3, **options})
    return sink.getvalue()


def _parquet_ids(body: bytes) -> list[str]:
    import pyarrow.parquet as pq

    ids: list[str] = pq.read_table(io.BytesIO(body))["message_id"].to_pylist()
    return ids


FORMS = [
    Form(".jsonl", "application/x-ndjson", _lines, _ids),
    Form(
        ".jsonl.gz",
        "application/gzip",
        lambda ids: gzip.compress(_lines(ids)),
        lambda body: _ids(gzip.decompress(body)),
    ),
    Form(".parquet", "application/vnd.apache.parquet", lambda ids: parquet_bytes(parquet_table(ids)), _parquet_ids),
]


def due_if_d(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
    """Records whose id begins with d are due; with e under another rule. Without id or account none is."""
    if not record or not subject:
        return None
    assert (subject, tier, clock) == ("a", "beta", datetime(2026, 6, 1, 12, tzinfo=UTC))
    return {"d": "beta_default", "e": "erasure_request"}.get(record[0])
