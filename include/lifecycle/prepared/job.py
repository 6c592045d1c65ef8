"""The Spark job: prepares the rests of a run's log objects, a file of objects per task. Run by `spark-submit`.

    spark-submit job.py s3://STAGING/PREFIX/run-7/request_logs/

Needs this package on driver and executors, of the very version that wrote the inputs, and the connection to S3 in
AIRFLOW_CONN_LIFECYCLE_S3 (`aws://` for the role's own credentials). Only reads the data; writes to staging only.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator

INPUTS, OBJECTS = "inputs.json", "objects/"


def _prepare_files(bucket: str, prefix: str, files: Iterator[str]) -> Iterator[dict[str, int]]:
    """On an executor: one client and one reading of the inputs for all files of a task."""
    from lifecycle.connections import s3_client
    from lifecycle.prepared.inputs import Inputs
    from lifecycle.prepared.worker import items_of, prepare_all, read_text

    s3 = s3_client()
    inputs = Inputs.from_json(read_text(s3, bucket, f"{prefix}{INPUTS}"))
    for file in files:
        yield prepare_all(s3, inputs, items_of(s3, bucket, file))


def run(where: str) -> dict[str, int]:
    """Prepare everything that was exported to a place. Returns counts by outcome."""
    from pyspark.sql import SparkSession

    from lifecycle.connections import s3_client

    bucket, _, prefix = where.removeprefix("s3://").partition("/")
    pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}{OBJECTS}")
    files = [found["Key"] for page in pages for found in page.get("Contents", [])]
    if not files:
        return {}
    spark = SparkSession.builder.appName("lifecycle-prepare").getOrCreate()
    try:
        tasks = spark.sparkContext.parallelize(files, len(files))
        counted = tasks.mapPartitions(lambda some: _prepare_files(bucket, prefix, some)).collect()
    finally:
        spark.stop()
    total: Counter[str] = Counter()
    for counts in counted:
        total.update(counts)
    return dict(total)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1]), sort_keys=True) + "\n")
