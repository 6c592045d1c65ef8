"""A survey of many-record objects in which nothing is due: reading all of them beside what is remembered of them.

    python tests/benchmarks/log_index.py [--objects 200] [--lines 2000]

The first survey reads every object and remembers it; the second is of the next day; the third comes after an erasure
request for one account, which one object holds. Requests and bytes are those of the client.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from lifecycle.config import load_configuration
from lifecycle.demo.servers import embedded_postgres, embedded_s3
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.logs import survey_logs
from lifecycle.orchestration import steps
from lifecycle.orchestration.session import run_context
from reference_store.create import bucket_specs, create_buckets, create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
BUCKET = "product-logs"
ASKED = str(UUID(int=1))


def tell(*cells: object) -> None:
    sys.stdout.write("  ".join(str(cell).rjust(22) for cell in cells) + "\n")
    sys.stdout.flush()


def lines(number: int, count: int) -> bytes:
    dice = random.Random(number)
    account = [ASKED] if number == 0 else []
    told = (
        {
            "message_id": str(UUID(int=dice.getrandbits(128))),
            "account_id": account.pop() if account else str(UUID(int=dice.getrandbits(128))),
            "tier": dice.choice(("consumer", "beta", "business")),
            "received_at": (AS_OF - timedelta(seconds=dice.random() * 86_400)).isoformat(),
            "status": 200,
            "line": f"POST /v1/{dice.getrandbits(256):x}",
        }
        for _ in range(count)
    )
    return gzip.compress("".join(json.dumps(each) + "\n" for each in told).encode(), 1)


class Counted:
    """What a client asked for and was given."""

    def __init__(self, s3: Any) -> None:
        self.lists = self.gets = self.received = 0
        s3.meta.events.register("after-call.s3", self._note)

    def _note(self, parsed: Any, model: Any, **_: Any) -> None:
        self.lists += model.name.startswith("List")
        if model.name == "GetObject":
            self.gets += 1
            self.received += parsed["ContentLength"]


def survey(context: RunContext, name: str, later: timedelta) -> None:
    counted = Counted(context.s3)
    began, worked = time.monotonic(), time.process_time()
    found = list(survey_logs(replace(context, run=replace(context.run, as_of=AS_OF + later))))
    taken, busy = time.monotonic() - began, time.process_time() - worked
    context.s3.meta.events.unregister("after-call.s3", counted._note)
    due = sum(tally.records for unit in found for tally in unit.tallies if tally.disposes)
    tell(name, counted.lists, counted.gets, f"{counted.received / (1 << 20):.1f}", f"{taken:.1f} ({busy:.1f})", due)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--lines", type=int, default=2000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="log-index-") as name:
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name) / "pg") as postgres, embedded_s3(Path(name) / "s3") as server:
            with psycopg.connect(postgres.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            create_schemas(postgres.conninfo("product"))
            os.environ["AIRFLOW_CONN_LIFECYCLE_POSTGRES"] = json.dumps(postgres.airflow_connection("product"))
            os.environ["AIRFLOW_CONN_LIFECYCLE_S3"] = json.dumps(server.airflow_connection())
            create_buckets(server.client(), bucket_specs(load_configuration().catalog))
            for number in range(chosen.objects):
                key = f"requests/date=2026-10-31/part-{number}.jsonl.gz"
                server.client().put_object(Bucket=BUCKET, Key=key, Body=lines(number, chosen.lines))
            run_id = steps.begin("records", AS_OF)
            tell("survey", "LIST", "GET", "MiB read", "seconds (processor)", "due")
            with run_context(run_id) as context:
                survey(context, "reads and remembers", timedelta(0))
                survey(context, "next day", timedelta(days=1))
                context.conn.execute(
                    "INSERT INTO lifecycle.erasure_requests (request_id, scope, target, requested_at)"
                    " VALUES (gen_random_uuid(), 'account', %s, %s)",
                    (ASKED, AS_OF),
                )
                survey(context, "one account erased", timedelta(days=1))
                taken = context.conn.execute("SELECT pg_total_relation_size('lifecycle.log_index')").fetchone()
            tell("index, KiB", (taken or (0,))[0] >> 10)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
