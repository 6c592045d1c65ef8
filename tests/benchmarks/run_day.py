"""The run of a day in numbers: seeds a store on servers of its own, runs `lifecycle run`, and prints what it cost.

    python tests/benchmarks/run_day.py [--messages 200000] [--objects 10000] [--days 120] [--seed 7]

The second run of the same as-of finds nothing to do: what a quiet day costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from lifecycle.demo.servers import embedded_postgres, embedded_s3

LIFECYCLE = Path(sys.executable).with_name("lifecycle")


def _timed(env: dict[str, str], *args: str) -> tuple[float, float, str]:
    """Run a command; wall seconds, peak MiB of the process, stdout."""
    before = time.monotonic()
    command = ["/usr/bin/env", str(LIFECYCLE), *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    wall = time.monotonic() - before
    if done.returncode:
        raise SystemExit(f"{' '.join(args)} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--as-of", default="2026-11-01T00:00:00Z")
    parser.add_argument("--seed", default="7")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as name:
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name) / "pg", durable=True) as postgres, embedded_s3(Path(name) / "s3") as s3:
            with psycopg.connect(postgres.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            env = dict(os.environ) | {
                "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(postgres.airflow_connection("product")),
                "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(s3.airflow_connection()),
            }
            _measure(env, chosen, postgres.conninfo("product"))


def _measure(env: dict[str, str], chosen: argparse.Namespace, conninfo: str) -> None:
    _timed(env, "store", "create")
    seeded, _, _ = _timed(
        env,
        "store",
        "seed",
        "--accounts",
        str(chosen.accounts),
        "--days",
        str(chosen.days),
        "--as-of",
        chosen.as_of,
        "--seed",
        chosen.seed,
        "--messages",
        str(chosen.messages),
        "--objects",
        str(chosen.objects),
    )
    with psycopg.connect(conninfo, autocommit=True) as conn:
        version = conn.execute("SHOW server_version").fetchone()
    wall, peak, out = _timed(env, "run", "--as-of", chosen.as_of, "--json")
    quiet, _, _ = _timed(env, "run", "--as-of", chosen.as_of, "--json")
    audit, _, _ = _timed(env, "audit", "--as-of", chosen.as_of, "--json")
    result = json.loads(out)["scopes"].values()
    rows = sum(sum(scope["disposed"].values()) for scope in result)
    objects = sum(scope["objects"] for scope in result)
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "PostgreSQL": version[0] if version else "?",
        "seed (s)": round(seeded, 1),
        "run (s)": round(wall, 1),
        "records disposed of": rows,
        "records/s": round(rows / wall),
        "objects disposed of": objects,
        "objects/s": round(objects / wall, 1),
        "peak memory of any command (MiB)": round(peak),
        "second run, nothing due (s)": round(quiet, 1),
        "audit (s)": round(audit, 1),
    }
    width = max(map(len, figures))
    sys.stdout.write("".join(f"{key:<{width}}  {value}\n" for key, value in figures.items()))


if __name__ == "__main__":
    main()
