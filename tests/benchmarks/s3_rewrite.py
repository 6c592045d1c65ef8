"""Taking 1% of the records out of one large object: ours beside a bare read and write of the same bytes.

    python tests/benchmarks/s3_rewrite.py [--mb 100,1000] [--forms parquet,jsonl.gz,jsonl.zst] [--only ours,bare]

`bare` reads the file and writes it again with PyArrow alone (row group by row group, as it was written) or with the
standard library's gzip; it judges nothing and proves nothing. `ours` does to the same file what a run does: looks for
what is due, writes the rest, reads it and compares (lines: byte by byte with what was to stay). `store` is the whole of
it on the embedded S3 server, versions and checksums included.
Each runs in a process of its own, whose peak of resident memory is told. Sizes are those of the
object, in MiB; what `store` takes depends on the server, which is a Python process.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from lifecycle.stores.s3 import cutting, jsonl, parquet
from lifecycle.stores.s3.records import Judge, LogFields, Ordinary, Tally

FIELDS = LogFields("message_id", "account_id", "tier", "received_at")
CUTOFF = datetime(2026, 6, 1, tzinfo=UTC)
TIERS = ("consumer", "beta", "business")
BLOCK_ROWS = 100_000
BUCKET = "product-logs"


def tell(*cells: object) -> None:
    sys.stdout.write("  ".join(str(cell).rjust(12) for cell in cells) + "\n")
    sys.stdout.flush()


def decide(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
    return f"{tier}_default" if clock is not None and clock < CUTOFF else None


# A thousand accounts and a thousand messages with exceptions of their own, none of which keeps anything here.
NAMED = frozenset(str(UUID(int=number)) for number in range(1000))
JUDGE = Judge(decide, Ordinary({tier: (CUTOFF, f"{tier}_default") for tier in TIERS}, NAMED, NAMED))


# -- the objects --------------------------------------------------------------------------------------------------


def records() -> Iterator[dict[str, Any]]:
    dice = random.Random(7)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(5000)]
    for _ in range(BLOCK_ROWS):
        age = timedelta(days=-2 if dice.random() < 0.01 else 2, seconds=dice.random() * 86_000)
        yield {
            "message_id": str(UUID(int=dice.getrandbits(128))),
            "account_id": str(UUID(int=dice.randint(1, 50_000))),
            "tier": dice.choice(TIERS),
            "received_at": CUTOFF + age,
            "model": "m-1",
            "status": 200,
            "headers": [{"name": "x-request", "value": str(dice.getrandbits(64))}],
            "body": " ".join(dice.choices(words, k=dice.randint(10, 60))),
        }


def make(form: str, path: Path, size: int) -> None:
    """The same block of records again and again; no compression sees so far back."""
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(list(records()))
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            while path.stat().st_size < size:
                writer.write_table(table)
        return
    lines = "".join(json.dumps({**one, "received_at": one["received_at"].isoformat()}) + "\n" for one in records())
    block = gzip.compress(lines.encode(), 6) if form == "jsonl.gz" else _zstd(lines.encode())
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block)


def _zstd(body: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


# -- the contestants ----------------------------------------------------------------------------------------------


def bare(form: str, source: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if form == "parquet":
        with (
            pq.ParquetFile(source) as file,
            pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer,
        ):
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group))
    elif form == "jsonl.gz":
        with gzip.open(source) as packed, gzip.open(target, "wb", compresslevel=6) as out:
            while piece := packed.read(1 << 20):
                out.write(piece)
    else:
        with pa.CompressedInputStream(source, "zstd") as packed, pa.CompressedOutputStream(target, "zstd") as out:
            while piece := packed.read(1 << 20):
                out.write(piece)


def ours(form: str, source: Path, target: Path) -> None:
    module: Any = parquet if form == "parquet" else jsonl
    seen, written, check = Tally(JUDGE, gone=array("Q")), Tally(JUDGE), Tally(JUDGE)
    module.scan(source, FIELDS, seen)
    if seen.gone:
        cutting.cut(source, target, seen.gone)
        wrong = cutting.wrong(jsonl.blocks(source), target, seen.gone, seen.due)
    else:
        module.rewrite(source, target, FIELDS, written)
        module.scan(target, FIELDS, check)
        wrong = ["records"] if check.due or check.before != written.kept else []
    if wrong or not 0.005 < seen.due / seen.before < 0.015:
        raise SystemExit("what was written is not what was meant")
    if module.differences(source, target):
        raise SystemExit("the form was not kept")


def one(contestant: str, form: str, source: Path, endpoint: str) -> None:
    """In a process of its own: seconds, seconds of the processor, and MiB at the peak, as JSON."""
    import numpy  # noqa: F401
    import pyarrow.compute
    import pyarrow.json
    import pyarrow.parquet  # noqa: F401 - loading the library is not what is measured

    began, worked = time.monotonic(), time.process_time()
    if contestant == "store":
        in_store(form, source, endpoint)
        began, worked = began + _uploading[0], worked + _uploading[1]
    else:
        with tempfile.TemporaryDirectory(dir=source.parent) as folder:
            (bare if contestant == "bare" else ours)(form, source, Path(folder, "target"))
    sys.stdout.write(json.dumps([time.monotonic() - began, time.process_time() - worked, peak_mib()]))


def peak_mib() -> int:
    """Of this program alone; getrusage tells the larger of it and the process that started it."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return int(told.split("VmHWM:")[1].split()[0]) >> 10


_uploading = [0.0, 0.0]


def in_store(form: str, source: Path, endpoint: str) -> None:
    from lifecycle.demo.servers import S3Server
    from lifecycle.stores.s3.logs import rewrite_object
    from support.permits import CountingPermit

    s3, key = S3Server(endpoint).client(), f"requests/date=2026-06-01/part-0.{form}"
    began, worked = time.monotonic(), time.process_time()
    with source.open("rb") as body:
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    _uploading[:] = [time.monotonic() - began, time.process_time() - worked]
    done = rewrite_object(s3, CountingPermit(), BUCKET, key, FIELDS, JUDGE)
    if done.action != "rewritten":
        raise SystemExit(f"the object was {done.action}")


def measured(contestant: str, form: str, source: Path) -> list[float]:
    if contestant != "store":
        return _child(contestant, form, source, "")
    from lifecycle.demo.servers import embedded_s3

    with tempfile.TemporaryDirectory(dir=source.parent) as folder, embedded_s3(Path(folder)) as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        return _child(contestant, form, source, server.endpoint_url)


def _child(contestant: str, form: str, source: Path, endpoint: str) -> list[float]:
    command = [sys.executable, __file__, "--child", contestant, form, str(source), endpoint]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: list[float] = json.loads(told)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", default="100,1000", help="sizes of the object in MiB")
    parser.add_argument("--forms", default="parquet,jsonl.gz,jsonl.zst")
    parser.add_argument("--only", default="bare,ours,store")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.child:
        contestant, form, source, endpoint = told.child
        one(contestant, form, Path(source), endpoint)
        return
    tell("form", "MiB", "contestant", "seconds", "processor", "peak MiB", "of bare")
    for form in told.forms.split(","):
        for size in map(int, told.mb.split(",")):
            with tempfile.TemporaryDirectory(prefix="s3-rewrite-") as folder:
                source = Path(folder, f"source.{form}")
                make(form, source, size << 20)
                base = 0.0
                for contestant in told.only.split(","):
                    seconds, processor, peak = measured(contestant, form, source)
                    base = seconds if contestant == "bare" else base
                    share = f"{base / seconds:.2f}" if base else "-"
                    tell(form, size, contestant, f"{seconds:.1f}", f"{processor:.1f}", f"{peak:.0f}", share)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
