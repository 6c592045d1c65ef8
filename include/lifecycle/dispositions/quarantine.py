"""Quarantine: flagged messages move in at once; they leave when the flag is cleared or two years have passed.

Copy before cut (promise 3): record and object are written and verified before the source goes, and restored rows and
objects stand again before the quarantined copy goes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, UnitLease, take_lease, through_gate
from lifecycle.dispositions.plan_store import (
    LOCKED_FATE,
    close_unit,
    has_disposed,
    load_unit,
    mark,
    record_progress,
    write_intents,
)
from lifecycle.dispositions.quarantine_exit import leave
from lifecycle.dispositions.sources import remove_copied, version_to_copy, versions_at
from lifecycle.errors import DispositionError, LifecycleError
from lifecycle.planning.spans import start_of
from lifecycle.planning.units import Progress
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import messages as rows
from lifecycle.stores.postgres import quarantine as index
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.fates import fate_parameters
from lifecycle.stores.postgres.reclaim import reclaim
from lifecycle.stores.postgres.references import refuse_references
from lifecycle.stores.postgres.tree import Partition, partitions_of

if TYPE_CHECKING:
    from lifecycle.stores.s3.versions import ObjectVersion

log = logging.getLogger(__name__)
BATCH = 100
WRITERS = 8


@dataclass(frozen=True)
class Copied:
    """A message whose copy in quarantine is written and verified."""

    candidate: index.Candidate
    prefix: str
    record_sha256: str
    object_sha256: str | None
    source: tuple[ObjectVersion, ...] = ()


def quarantine_unit(context: RunContext, unit: str) -> Progress:
    """Carry out one receipt day of a tier: moves in, then moves out.

    Raises:
        DispositionError: some messages could not be moved; they stand where they were, and everything else was done.
        ReferencedError: a foreign key would act on what stays behind; nothing was moved.
    """
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    tier = Tier(row.tier or "")
    for leaf in _leaves_of(context, tier, row.day):
        refuse_references(context.conn, context.catalog, leaf, unit, context.run.as_of, moving=True)
    write_intents(context, row)
    failed = _move_in(context, lease, tier, row.day)
    failed += leave(context, lease, tier, row.day)
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"messages failed": failed})
    leaves = [leaf.identifier for leaf in _leaves_of(context, tier, row.day)]
    reclaim(context.conn, context.run.run_id, unit, leaves, deleted=has_disposed(context, unit))
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _move_in(context: RunContext, lease: UnitLease, tier: Tier, day: date) -> int:
    failed, after = 0, None
    with ThreadPoolExecutor(WRITERS) as pool:
        while batch := index.candidates(
            context.conn, context.catalog, context.fate(tier), tier, day, context.params, after, BATCH
        ):
            after = batch[-1].record
            copies = list(pool.map(partial(_copy, context), batch))
            done = [copy for copy in copies if copy is not None]
            failed += len(batch) - len(done)
            failed += through_gate(
                context.conn, context.catalog, lease, partial(_cut, context, lease.unit, tier, day, done)
            )
    return failed


def _leaves_of(context: RunContext, tier: Tier, day: date) -> list[Partition]:
    span = Bounds(context.messages.clock).around(start_of(day), start_of(day + timedelta(days=1)))
    return partitions_of(context.conn, context.messages, tier, within=span)


def _copy(context: RunContext, candidate: index.Candidate) -> Copied | None:
    """Write the copy of one message into quarantine and verify it. None when that fails; the source is untouched."""
    from botocore.exceptions import BotoCoreError, ClientError

    from lifecycle.stores.s3.copy import put_verified

    dataset = context.messages
    prefix = dataset.quarantine.prefix.format(
        tier=candidate.tier, date=candidate.clock.date().isoformat(), record=candidate.record
    )
    times = {"received-at": candidate.clock.isoformat(), "flagged-at": candidate.flagged_at.isoformat()}
    try:
        proof = put_verified(
            context.s3,
            dataset.quarantine.bucket,
            f"{prefix}record.json",
            candidate.document,
            content_type="application/json",
            metadata=times,
        )
        source = _source(context, candidate.object_key)
        object_sha256 = _copy_object(context, candidate.object_key, source, f"{prefix}object", times)
    except (ClientError, BotoCoreError, LifecycleError) as error:
        log.warning("a message could not be copied into quarantine (%s); it stays where it is", type(error).__name__)
        return None
    return Copied(candidate, prefix, proof.sha256, object_sha256, source)


def _source(context: RunContext, key: str | None) -> tuple[ObjectVersion, ...]:
    return () if key is None else versions_at(context.s3, context.messages.objects.bucket, key)


def _copy_object(
    context: RunContext, key: str | None, source: tuple[ObjectVersion, ...], target: str, times: dict[str, str]
) -> str | None:
    """Copy the message's object, if it has one. After a kill the source may be gone already and the copy stand."""
    from lifecycle.stores.s3.copy import copy_verified, exists, sha256_of

    objects, quarantine = context.messages.objects.bucket, context.messages.quarantine.bucket
    if key is not None and source:
        version = version_to_copy(source)
        return copy_verified(
            context.s3, objects, key, quarantine, target, metadata=times, source_version=version
        ).sha256
    return sha256_of(context.s3, quarantine, target) if key and exists(context.s3, quarantine, target) else None


def _cut(context: RunContext, unit: str, tier: Tier, day: date, copies: Sequence[Copied], gate: Gate) -> int:
    """Inside the gate: what is still flagged, unheld and unchanged leaves the store. Returns how many failed."""
    from lifecycle.stores.s3.destroy import destroy_keys

    if not copies:
        return 0
    dataset = context.messages
    current = index.unchanged(
        gate.conn,
        context.catalog,
        context.fate(tier),
        tier,
        day,
        [copy.candidate.record for copy in copies],
        context.params,
    )
    still = [copy for copy in copies if current.get(copy.candidate.record) == copy.record_sha256]
    stale = [copy for copy in copies if copy not in still]
    exact = {copy.candidate.object_key: copy.source for copy in still if copy.candidate.object_key is not None}
    found = remove_copied(context.s3, gate, dataset.objects.bucket, exact)
    gone = [copy for copy in still if copy.candidate.object_key is None or found.gone(copy.candidate.object_key)]
    # Under keys that the object has left, old versions may still hide behind a delete marker (hard case 2).
    rest = {copy.candidate.record: _left_keys(context, copy.candidate) for copy in gone}
    swept = destroy_keys(context.s3, gate, dataset.objects.bucket, chain.from_iterable(rest.values()))
    moved = [copy for copy in gone if not (swept.held | swept.failed).intersection(rest[copy.candidate.record])]
    failed = [
        copy
        for copy in still
        if copy.candidate.object_key in found.failed or not swept.failed.isdisjoint(rest.get(copy.candidate.record, ()))
    ]
    stuck = [copy for copy in still if copy not in moved]
    locked = sum(copy.candidate.object_key in found.held for copy in still)
    if locked:
        record_progress(gate.conn, context.run.run_id, unit, {LOCKED_FATE: {"records": locked}})
    ids = [copy.candidate.record for copy in moved]
    if ids:
        index.enter(gate.conn, moved_rows(moved), context.run.as_of)
        children = rows.delete_moved_children(gate.conn, dataset, ids)
        index.remove(gate.conn, dataset, tier, day, ids)
        for fate in sorted({copy.candidate.fate for copy in moved}):
            these = [copy for copy in moved if copy.candidate.fate == fate]
            counts = {
                "records": len(these),
                "objects": sum(copy.object_sha256 is not None for copy in these),
                "children": children,
            }
            record_progress(gate.conn, context.run.run_id, unit, {fate: counts})
    _withdraw(context, gate, tier, (*stale, *(copy for copy in stuck if copy not in failed)))
    return len(failed)


def _left_keys(context: RunContext, candidate: index.Candidate) -> tuple[str, ...]:
    if candidate.object_key is None:
        return ()
    keys = context.messages.objects.keys_of(
        str(candidate.record), candidate.tier, candidate.clock.date(), candidate.object_key
    )
    return tuple(key for key in keys if key != candidate.object_key)


def moved_rows(moved: Sequence[Copied]) -> list[dict[str, Any]]:
    return [
        {
            "message_id": copy.candidate.record,
            "conversation_id": copy.candidate.conversation,
            "account_id": copy.candidate.account if isinstance(copy.candidate.account, UUID) else None,
            "account": None if isinstance(copy.candidate.account, UUID) else str(copy.candidate.account),
            "tier": copy.candidate.tier,
            "received_at": copy.candidate.clock,
            "prefix": copy.prefix,
            "record_sha256": copy.record_sha256,
            "object_sha256": copy.object_sha256,
        }
        for copy in moved
    ]


def _withdraw(context: RunContext, gate: Gate, tier: Tier, copies: Sequence[Copied]) -> None:
    """Take back the copies of messages that turned out to stay (a hold, a clear, a change, a locked object)."""
    from lifecycle.stores.s3.copy import copy_verified, exists
    from lifecycle.stores.s3.destroy import destroy_keys

    objects, quarantine = context.messages.objects.bucket, context.messages.quarantine.bucket
    those = [(copy.candidate.record, copy.candidate.clock) for copy in copies]
    named = rows.keys_named(gate.conn, context.messages, tier.value, those)
    for copy in copies:
        source = copy.candidate.object_key
        still_named = source is not None and named.get(copy.candidate.record) == source
        # A kill after the source went, then a hold: the copy is the only one left, so it goes back first. What has no
        # row any more was disposed of since, and is not brought back (case 15).
        if source and still_named and copy.object_sha256 is not None and not exists(context.s3, objects, source):
            copy_verified(context.s3, quarantine, f"{copy.prefix}object", objects, source)
    keys = [f"{copy.prefix}{name}" for copy in copies for name in ("record.json", "object")]
    if keys:
        destroy_keys(context.s3, gate, quarantine, keys)


def sync_holds(context: RunContext) -> int:
    """Put the S3 legal hold on quarantined objects whose message is under hold, and lift it when the hold ended."""
    from lifecycle.stores.s3.locks import set_legal_hold

    changed = 0
    if not context.tiers:
        return changed
    bucket = context.messages.quarantine.bucket
    for tier in context.tiers:
        hold_on, hold_off = _hold_changes(context, tier)
        for wanted, entries in ((True, hold_on), (False, hold_off)):
            for entry in entries:
                names = ["record.json", *(["object"] if entry.object_sha256 else [])]
                for name in names:
                    set_legal_hold(context.s3, bucket, f"{entry.prefix}{name}", wanted)
                index.note_hold(context.conn, entry.message_id, wanted)
                changed += 1
    return changed


def _hold_changes(context: RunContext, tier: Tier) -> tuple[list[index.Entry], list[index.Entry]]:
    """Which S3 legal holds to set and to lift. While two policies are at odds, a hold that either sees stays."""
    on, off = index.hold_changes(context.conn, context.policy, context.catalog, tier, context.params)
    guard = context.guard
    if guard is None:
        return on, off
    if guard.policy is None or guard.catalog is None or guard.waits(context.messages.id):
        return on, []
    params = fate_parameters(guard.policy, context.run.as_of)
    also_on, also_off = index.hold_changes(context.conn, guard.policy, guard.catalog, tier, params)
    known, free = {entry.message_id for entry in on}, {entry.message_id for entry in also_off}
    return (
        [*on, *(entry for entry in also_on if entry.message_id not in known)],
        [entry for entry in off if entry.message_id in free],
    )
