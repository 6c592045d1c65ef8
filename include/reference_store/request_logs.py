"""Lines of product-logs gathered into many-record objects, requests/date=<day>/part-<n>, as .jsonl.gz and .parquet."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from io import BytesIO
from typing import NamedTuple

from reference_store.rows import LogLine

# So many lines wait per day at most; it bounds the generator's memory and the size of an object.
PART_LINES = 500
JSONL_TYPE, PARQUET_TYPE = "application/gzip", "application/vnd.apache.parquet"


class Part(NamedTuple):
    key: str
    content: bytes
    content_type: str


class LogWriter:
    """Gathers lines by day; a full part is given out as soon as it is full."""

    def __init__(self) -> None:
        self._waiting: defaultdict[date, list[LogLine]] = defaultdict(list)
        self._numbers: Counter[date] = Counter()
        self.lines = 0

    def add(self, lines: Iterable[LogLine]) -> Iterator[Part]:
        for line in lines:
            self.lines += 1
            day = line.received_at.date()
            waiting = self._waiting[day]
            waiting.append(line)
            if len(waiting) >= PART_LINES:
                yield self._part(day, self._waiting.pop(day))

    def rest(self) -> Iterator[Part]:
        """The parts that did not become full. A day's last lines go to both formats when they are enough for two."""
        for day in sorted(self._waiting):
            lines = self._waiting[day]
            half = len(lines) // 2
            for some in (lines[:half], lines[half:]):
                if some:
                    yield self._part(day, some)
        self._waiting.clear()

    def _part(self, day: date, lines: Sequence[LogLine]) -> Part:
        number = self._numbers[day]
        self._numbers[day] += 1
        stem = f"requests/date={day.isoformat()}/part-{number}"
        if number % 2 == 0:
            return Part(f"{stem}.jsonl.gz", as_jsonl(lines), JSONL_TYPE)
        return Part(f"{stem}.parquet", as_parquet(lines), PARQUET_TYPE)


def as_jsonl(lines: Sequence[LogLine]) -> bytes:
    """One JSON object per line, times as ISO 8601 text; no time stamp in the gzip header, for equal bytes each time."""
    text = "".join(
        json.dumps({**line._asdict(), "received_at": line.received_at.isoformat()}, separators=(",", ":")) + "\n"
        for line in lines
    )
    return gzip.compress(text.encode(), compresslevel=4, mtime=0)


def as_parquet(lines: Sequence[LogLine]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("message_id", pa.string()),
            ("account_id", pa.string()),
            ("tier", pa.string()),
            ("received_at", pa.timestamp("us", tz="UTC")),
            ("path", pa.string()),
            ("status", pa.int32()),
            ("latency_ms", pa.int32()),
        ]
    )
    columns = [
        pa.array(values, type=field.type) for values, field in zip(zip(*lines, strict=True), schema, strict=True)
    ]
    buffer = BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
