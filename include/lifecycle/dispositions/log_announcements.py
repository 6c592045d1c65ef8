"""What a try said it was about to take out of log objects, and whether it did (promises 4 and 5).

An announcement is committed before the first change of an object; what was done is counted in the gate's transaction,
with which its announcement goes. One that is left belongs to a try that died in between, or that touched nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import groupby, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate
from lifecycle.dispositions.plan_store import load_unit, record_progress
from lifecycle.planning.units import KeyRange
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from lifecycle.stores.s3.entries import ObjectVersion
    from lifecycle.stores.s3.logs import RewriteResult


def dataset_of(context: RunContext, unit: str) -> Logs | None:
    """The log dataset of a unit; None when the dataset file does not bind it any more."""
    name = unit.split("/")[0]
    return next((dataset for dataset in context.catalog.log_records if dataset.id == name), None)


def day_prefix(dataset: Logs, unit: str) -> str:
    return f"{dataset.prefix}date={unit.split('/')[1]}/"


def versions_in(context: RunContext, dataset: Logs, prefix: str, keys: KeyRange) -> Iterator[ObjectVersion]:
    """Every version below a prefix whose key lies in a range, by key."""
    from lifecycle.stores.s3.versions import iter_versions

    found = iter_versions(context.s3, dataset.bucket, prefix, after=keys.after, ahead=keys.until is None)
    return takewhile(lambda version: keys.until is None or version.key <= keys.until, found)


def announce(aside: Connection, run_id: int, unit: str, key: str, seen: RewriteResult, etag: str) -> None:
    """Commit what is about to leave an object.

    Said again about the same content, it replaces what was said: that did not happen, and a hold may have come since.
    """
    if seen.removed:
        aside.execute(
            "INSERT INTO lifecycle.log_intents AS said (run_id, unit, key_sha256, etag, counts)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (run_id, unit, key_sha256)"
            " DO UPDATE SET counts = EXCLUDED.counts WHERE said.etag = EXCLUDED.etag",
            (run_id, unit, _hash(key), etag, Jsonb(dict(seen.removed))),
        )


def count_removed(gate: Gate, run_id: int, unit: str, key: str, removed: dict[str, int]) -> None:
    """Count what left an object, in place of what was announced of it."""
    _record(gate, run_id, unit, removed)
    gate.conn.execute(
        "DELETE FROM lifecycle.log_intents WHERE run_id = %s AND unit = %s AND key_sha256 = %s",
        (run_id, unit, _hash(key)),
    )


def settle(context: RunContext, dataset: Logs, unit: str, gate: Gate) -> None:
    """Count what is left announced of a unit where the object is gone or has other content since; forget the rest."""
    run_id = context.run.run_id
    said = gate.conn.execute(
        "DELETE FROM lifecycle.log_intents WHERE run_id = %s AND unit = %s RETURNING key_sha256, etag, counts",
        (run_id, unit),
    ).fetchall()
    if not said:
        return
    wanted = {name for name, _, _ in said}
    there = {name: etag for key, etag in _contents(context, dataset, unit) if (name := _hash(key)) in wanted}
    for name, etag, counts in said:
        if there.get(name) != etag:
            _record(gate, run_id, unit, counts)


def _record(gate: Gate, run_id: int, unit: str, removed: dict[str, int]) -> None:
    record_progress(gate.conn, run_id, unit, {f"delete:{rule}": {"records": n} for rule, n in removed.items() if n})


def _contents(context: RunContext, dataset: Logs, unit: str) -> Iterator[tuple[str, str]]:
    """Every key of a unit, and the ETag of the newest content under it, which a delete marker may hide."""
    from lifecycle.stores.s3.versions import newest_etag

    keys = load_unit(context.conn, context.run.run_id, unit).keys
    found = versions_in(context, dataset, day_prefix(dataset, unit), keys)
    for key, versions in groupby(found, key=attrgetter("key")):
        yield key, newest_etag(versions)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
