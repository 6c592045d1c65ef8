"""Rests of log objects that a cluster made: what it is told, and how they are taken over behind the gate.

The note of a rest says by which facts and code it was made. Taken over is only what was made by the very facts that are
in force inside the gate: a hold that came since makes this machine look for itself (promise 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate
from lifecycle.dispositions.log_announcements import day_prefix, versions_in
from lifecycle.dispositions.plan_store import load_unit, open_units
from lifecycle.planning.log_decision import Decide, LogFacts
from lifecycle.planning.units import Method
from lifecycle.prepared.notes import Item, Note, note_key, rest_key, run_prefix
from lifecycle.stores.postgres.facts import load_log_facts
from lifecycle.stores.s3.records import LogFields

if TYPE_CHECKING:
    from lifecycle.stores.s3.logs import Announce, RewriteResult

# Objects in one file of the export, which is one task of the cluster.
_OBJECTS = 100


@dataclass(frozen=True)
class Ready:
    """A note, and the rest on disk; None where nothing stays."""

    note: Note
    rest: Path | None


def _place(context: RunContext, dataset: Logs) -> tuple[str, str] | None:
    """Bucket and prefix of a run's staging. None where nothing is prepared, or two policies decide: notes know one."""
    if dataset.prepared is None or context.guard is not None:
        return None
    return dataset.prepared.bucket, run_prefix(dataset.prepared.prefix, context.run.run_id, dataset.id)


def export(context: RunContext, policy_file: Path) -> dict[str, Any]:
    """Write what the cluster needs for a run's open log units. Returns how many objects, and the places."""
    from lifecycle.prepared.inputs import Inputs
    from lifecycle.prepared.job import INPUTS, OBJECTS

    places: list[str] = []
    objects = 0
    for dataset in context.catalog.logs:
        place = _place(context, dataset)
        units = [unit for unit in _open(context) if unit.split("/")[0] == dataset.id]
        if place is None or not units:
            continue
        bucket, prefix = place
        inputs = Inputs(
            policy=yaml.safe_load(policy_file.read_text(encoding="utf-8")),
            policy_hash=context.run.policy_hash,
            category=dataset.category.value,
            as_of=context.run.as_of,
            facts=load_log_facts(context.conn, context.catalog, context.params, {}, dataset),
            fields=LogFields(dataset.record, dataset.subject, dataset.tier, dataset.clock),
            bucket=dataset.bucket,
            staging=bucket,
            prefix=prefix,
        )
        _put(context, bucket, f"{prefix}{INPUTS}", inputs.to_json())
        items = (item for unit in units for item in _items(context, dataset, unit))
        number = 0
        while some := list(islice(items, _OBJECTS)):
            number += 1
            lines = "\n".join(item.to_line() for item in some)
            _put(context, bucket, f"{prefix}{OBJECTS}{number:06d}.jsonl", lines)
            objects += len(some)
        places.append(f"s3://{bucket}/{prefix}")
    return {"objects": objects, "places": places}


def _open(context: RunContext) -> list[str]:
    return open_units(context.conn, context.run.run_id, [Method.LOGS.value])


def _items(context: RunContext, dataset: Logs, unit: str) -> Iterator[Item]:
    row = load_unit(context.conn, context.run.run_id, unit)
    for version in versions_in(context, dataset, day_prefix(dataset, unit), row.keys):
        if version.is_latest and not version.is_marker:
            yield Item(version.key, version.version_id, version.etag, row.day)


def _put(context: RunContext, bucket: str, key: str, text: str) -> None:
    from lifecycle.stores.s3.errors import translated

    with translated("PutObject"):
        context.s3.put_object(Bucket=bucket, Key=key, Body=text.encode())


def fetch(context: RunContext, dataset: Logs, key: str, scratch: Path) -> Ready | None:
    """What the cluster made of an object, before the gate is opened; None if nothing."""
    from lifecycle.stores.s3.errors import StoreError
    from lifecycle.stores.s3.transfer import read

    place = _place(context, dataset)
    if place is None:
        return None
    bucket, prefix = place
    try:
        body = read(context.s3, bucket, note_key(prefix, key), keep_below=1 << 20).body
        note = Note.of_json(body or b"")
        if note.kept:
            read(context.s3, bucket, rest_key(prefix, key), into=scratch)
    except StoreError as refusal:
        if not refusal.absent:
            raise
        return None
    return Ready(note, scratch if note.kept else None)


def adopt(
    context: RunContext,
    dataset: Logs,
    key: str,
    ready: Ready,
    facts: LogFacts,
    judge: Decide,
    announce: Announce,
    gate: Gate,
) -> RewriteResult | None:
    """Inside the gate: take a rest over if it was made by the facts of now. None: look for yourself."""
    from lifecycle.prepared.inputs import digest_of
    from lifecycle.stores.s3.adopt import adopt_rest

    if ready.note.digest != digest_of(context.run.policy_hash, context.run.as_of, facts):
        return None
    fields = LogFields(dataset.record, dataset.subject, dataset.tier, dataset.clock)
    return adopt_rest(context.s3, gate, dataset.bucket, key, ready.note, ready.rest, fields, judge, announce)


def forget(context: RunContext, dataset: Logs, key: str, gate: Gate) -> None:
    """Destroy rest and note of an object that is done: staging is no place to stay."""
    from lifecycle.stores.s3.destroy import destroy_keys

    place = _place(context, dataset)
    if place is not None:
        bucket, prefix = place
        destroy_keys(context.s3, gate, bucket, [note_key(prefix, key), rest_key(prefix, key)])
