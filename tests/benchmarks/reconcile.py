"""Rows against objects, both made up: how long, how much memory, how much disk.

PYTHONPATH=tests python -m benchmarks.reconcile --records 3000000 --memory 256
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from lifecycle.config import load_configuration
from lifecycle.reconcile.database import scratch
from lifecycle.reconcile.report import reconcile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = date(2025, 1, 1)


def _key(number: int) -> str:
    return f"tier=consumer/date={_day(number)}/{_id(number)}.json"


def _id(number: int) -> str:
    return str(UUID(int=number * 7919 + 1))


def _day(number: int) -> date:
    return FIRST + timedelta(days=number % 90)


def measure(records: int, memory_mb: int) -> dict[str, float]:
    """One row and one object per record, but for the first and the last."""
    messages, began = load_configuration().catalog.messages, time.monotonic()
    with scratch(memory_mb) as db:
        db.insert("records", ("key", "record", "tier", "day"),
                  ((_key(n), _id(n), "consumer", _day(n)) for n in range(records)))  # fmt: skip
        db.insert("objects", ("key", "latest", "marker", "modified"),
                  ((_key(n), True, False, NOW - timedelta(days=n % 90)) for n in range(1, records + 1)))  # fmt: skip
        found = reconcile(db, messages, NOW, timedelta(days=2))
        if (found.dangling, sum(found.orphans.values())) != (1, 1):
            raise AssertionError("it found something else than what was put there")
        disk = sum(file.stat().st_size for file in db.folder.rglob("*") if file.is_file())
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seconds = round(time.monotonic() - began, 1)
    return {"records": records, "seconds": seconds, "resident_mb": resident, "disk_mb": disk // 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--memory", type=int, default=256)
    given = parser.parse_args()
    sys.stdout.write(json.dumps(measure(given.records, given.memory)) + "\n")


if __name__ == "__main__":
    main()
