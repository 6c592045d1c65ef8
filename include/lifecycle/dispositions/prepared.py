"""Rests of log objects that a cluster made: what it is told, and how they are taken over behind the gate.

The plan, which reads every object, notes of each with due records what stays of it. Taken over is only a rest that is
exactly that, made by the very facts that are in force inside the gate: a hold that came since makes this machine look
for itself (promise 1), and so does any other rest (`Refusal`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate
from lifecycle.dispositions.log_announcements import day_prefix, versions_in
from lifecycle.dispositions.log_rests import TAKEN_OVER, LogRests
from lifecycle.dispositions.plan_store import load_unit, open_units
from lifecycle.planning.log_decision import Decide, LogFacts
from lifecycle.planning.units import Method
from lifecycle.prepared.notes import Item, Note, Proof, note_key, rest_key, run_prefix
from lifecycle.stores.postgres.facts import load_log_facts
from lifecycle.stores.s3.records import LogFields

if TYPE_CHECKING:
    from lifecycle.stores.s3.adopt import Refusal
    from lifecycle.stores.s3.logs import Announce, Prove, RewriteResult

log = logging.getLogger(__name__)
# Objects in one file of the export, which is one task of the cluster.
_OBJECTS = 100


@dataclass(frozen=True)
class Ready:
    """What the plan found, what the cluster says (None: nothing that can be read), and the rest, if something stays."""

    proof: Proof
    note: Note | None
    rest: Path | None


def _place(context: RunContext, dataset: Logs) -> tuple[str, str] | None:
    """Bucket and prefix of a run's staging. None where nothing is prepared, or two policies decide: notes know one."""
    if dataset.prepared is None or context.guard is not None:
        return None
    return dataset.prepared.bucket, run_prefix(dataset.prepared.prefix, context.run.run_id, dataset.id)


def prove(context: RunContext, dataset: Logs, facts: LogFacts) -> Prove | None:
    """Notes for a plan what stays of an object; None where nothing is prepared. Forgets what earlier plans noted."""
    from lifecycle.prepared.inputs import digest_of

    if _place(context, dataset) is None or context.run.dry_run:
        return None
    rests = LogRests(context.conn, context.run.run_id, dataset.bucket)
    rests.begin(dataset.id)
    return partial(rests.note, dataset.id, digest_of(context.run.policy_hash, context.run.as_of, facts))


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
    """Objects in which the plan found something due, as it found them: no other rest would be taken over."""
    row = load_unit(context.conn, context.run.run_id, unit)
    rests = LogRests(context.conn, context.run.run_id, dataset.bucket)
    found = versions_in(context, dataset, day_prefix(dataset, unit), row.keys)
    versions = (version for version in found if version.is_latest and not version.is_marker)
    while some := list(islice(versions, _OBJECTS)):
        for version in rests.noted(some):
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
    proof = LogRests(context.conn, context.run.run_id, dataset.bucket).proof(key)
    if proof is None:
        return None
    bucket, prefix = place
    try:
        body = read(context.s3, bucket, note_key(prefix, key), keep_below=1 << 20).body
        note = Note.of_json(body or b"")
        if proof.kept:
            read(context.s3, bucket, rest_key(prefix, key), into=scratch)
    except ValueError:
        return Ready(proof, None, None)
    except StoreError as refusal:
        if not refusal.absent:
            raise
        return None
    return Ready(proof, note, scratch if proof.kept else None)


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
    """Inside the gate: take a rest over if it is what would be made here now. None: look for yourself."""
    from lifecycle.stores.s3.adopt import Refusal

    done = _adopted(context, dataset, key, ready, facts, judge, announce, gate)
    outcome = done.value if isinstance(done, Refusal) else TAKEN_OVER
    LogRests(gate.conn, context.run.run_id, dataset.bucket).close(key, outcome)
    if not isinstance(done, Refusal):
        return done
    level = logging.ERROR if done.wrong else logging.INFO
    log.log(level, "a prepared rest of %s was refused (%s); the object is rewritten here", dataset.id, done.value)
    return None


def _adopted(
    context: RunContext,
    dataset: Logs,
    key: str,
    ready: Ready,
    facts: LogFacts,
    judge: Decide,
    announce: Announce,
    gate: Gate,
) -> RewriteResult | Refusal:
    from lifecycle.prepared.inputs import digest_of
    from lifecycle.stores.s3.adopt import Refusal, adopt_rest

    if ready.note is None:
        return Refusal.NOTE
    if {ready.note.digest, ready.proof.digest} != {digest_of(context.run.policy_hash, context.run.as_of, facts)}:
        return Refusal.FACTS
    fields = LogFields(dataset.record, dataset.subject, dataset.tier, dataset.clock)
    return adopt_rest(
        context.s3, gate, dataset.bucket, key, ready.proof, ready.note, ready.rest, fields, judge, announce
    )


def forget(context: RunContext, dataset: Logs, key: str, gate: Gate) -> None:
    """Destroy rest and note of an object that is done: staging is no place to stay."""
    from lifecycle.stores.s3.destroy import destroy_keys

    place = _place(context, dataset)
    if place is not None:
        bucket, prefix = place
        destroy_keys(context.s3, gate, bucket, [note_key(prefix, key), rest_key(prefix, key)])
