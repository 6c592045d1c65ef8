"""A day of many log objects: one worker, and several beside each other, where every S3 request takes its time.

    .venv/bin/python tests/benchmarks/log_ranges.py --objects 240 --milliseconds 20

Servers of its own, in a temporary folder; each request is held back in the client, as on the way to a distant server.
Prints objects a second for plans that read one object at a time and several, for gates that take turns, and for gates
that are open beside each other.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psycopg
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lifecycle.catalog.models import Catalog
from lifecycle.demo.servers import Postgres, S3Server, embedded_postgres, embedded_s3
from lifecycle.dispositions import logs
from lifecycle.dispositions.gate import through_gate
from lifecycle.orchestration import steps
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from reference_store.create import bucket_specs, create_schemas
from support.buckets import fresh_buckets
from support.servers import scratch

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger("log_ranges")
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
BUCKET, PREFIX = "product-logs", "requests/date=2026-07-01/"
LINES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=240)
    parser.add_argument("--ranges", type=int, default=16)
    parser.add_argument("--milliseconds", type=float, default=20.0)
    parser.add_argument("--only-plans", action="store_true")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lifecycle").setLevel(logging.WARNING)
    with scratch("pg") as one, scratch("s3") as two, embedded_postgres(one) as postgres, embedded_s3(two) as s3:
        create_schemas(_database(postgres))
        os.environ["AIRFLOW_CONN_LIFECYCLE_POSTGRES"] = json.dumps(postgres.airflow_connection("bench"))
        os.environ["AIRFLOW_CONN_LIFECYCLE_S3"] = json.dumps(s3.airflow_connection())
        pause = chosen.milliseconds / 1000
        shared_s3_client().meta.events.register("before-send.s3", lambda **_: time.sleep(pause))
        # The first loads libraries, which is not what is measured.
        for read_ahead in (1, 1, 4, 8, 16):
            os.environ["LIFECYCLE_DATASETS"] = str(_datasets(two, read_ahead=read_ahead))
            _measure_plan(s3, chosen.objects, read_ahead)
        if chosen.only_plans:
            return
        os.environ["LIFECYCLE_DATASETS"] = str(_datasets(two, shards={"objects": -(-chosen.objects // chosen.ranges)}))
        for beside, workers in ((False, 1), (False, 4), (True, 4), (True, 8)):
            _measure(s3, chosen.objects, workers, beside)


def _database(postgres: Postgres) -> str:
    with psycopg.connect(postgres.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE bench")
    return postgres.conninfo("bench")


def _datasets(folder: Path, **settings: Any) -> Path:
    datasets = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    next(each for each in datasets["datasets"] if each["type"] == "logs").update(settings)
    path = folder / "datasets.yaml"
    path.write_text(yaml.safe_dump(datasets), encoding="utf-8")
    return path


def _measure_plan(server: S3Server, objects: int, read_ahead: int) -> None:
    client = server.client()
    catalog = Catalog.model_validate(yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")))
    fresh_buckets(server, client, bucket_specs(catalog))
    _fill(client, objects)
    run = steps.begin("records", AS_OF, run_key=f"bench/{time.monotonic_ns()}")
    began, worked = time.monotonic(), time.process_time()
    planned = steps.plan(run)
    seconds, processor = time.monotonic() - began, time.process_time() - worked
    steps.fail(run)
    told = "plan, %d object(s) at once: %.1f objects/s, %.1f ms of processor an object (%d lines due)"
    log.info(told, read_ahead, objects / seconds, 1000 * processor / objects, planned["disposed"]["delete"])


def _measure(server: S3Server, objects: int, workers: int, beside: bool) -> None:
    client = server.client()
    catalog = Catalog.model_validate(yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")))
    fresh_buckets(server, client, bucket_specs(catalog))
    _fill(client, objects)
    run = steps.begin("records", AS_OF, run_key=f"bench/{time.monotonic_ns()}")
    steps.plan(run)
    shards = [shard for shard in steps.shards(run) if shard.startswith("request_logs")]
    began = time.monotonic()
    with patch.object(logs, "through_gate", partial(_gate, beside)), ThreadPoolExecutor(workers) as pool:
        done = sum(sum(each.values()) for each in pool.map(partial(steps.expire_shard, run), shards))
    seconds = time.monotonic() - began
    steps.fail(run)
    how = "beside each other" if beside else "in turn"
    log.info("%d worker(s), %s: %.1f objects/s (%d lines gone)", workers, how, objects / seconds, done)


def _gate(beside: bool, *args: Any, reads_only: bool) -> Any:
    return through_gate(*args, reads_only=reads_only and beside)


def _fill(client: S3Client, objects: int) -> None:
    for number in range(objects):
        lines = [
            {
                "message_id": f"00000000-0000-4000-8000-{number:06d}{line:06d}",
                "account_id": f"00000000-0000-4000-9000-{line:012d}",
                "tier": "consumer",
                "received_at": (AS_OF - timedelta(days=100 if line % 10 == 0 else 10)).isoformat(),
            }
            for line in range(LINES)
        ]
        body = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}part-{number:06d}.jsonl.gz", Body=body)


if __name__ == "__main__":
    main()
