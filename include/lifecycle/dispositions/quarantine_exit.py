"""The way out of quarantine: back to the store when the flag was cleared in time, else gone with all versions."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from psycopg import sql

from lifecycle.dispositions.bodies import body_chars
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, UnitLease, through_gate
from lifecycle.dispositions.plan_store import LOCKED_FATE, record_progress
from lifecycle.policy.models import Tier, Trigger
from lifecycle.stores.postgres import messages as rows
from lifecycle.stores.postgres import quarantine as index
from lifecycle.stores.postgres.fates import table

log = logging.getLogger(__name__)
BATCH = 100
COPIES = ("record.json", "object")


def leave(context: RunContext, lease: UnitLease, tier: Tier, day: Any) -> int:
    """Let out what no longer belongs in quarantine. Returns how many messages failed."""
    fate, hold = context.quarantine_fate(tier), _hold_rule(context, tier)
    failed, after = 0, None
    while batch := index.leaving(context.conn, fate, hold, tier, day, context.params, after, BATCH):
        after = batch[-1].message_id
        free = [entry for entry in batch if not _locked(context, entry)]
        if len(free) < len(batch):
            held = {LOCKED_FATE: {"records": len(batch) - len(free)}}
            through_gate(context.conn, context.catalog, lease, partial(_note_held, context, lease.unit, held))
        ready = [entry for entry in free if _prepare(context, lease, entry)]
        failed += len(free) - len(ready)
        failed += through_gate(context.conn, context.catalog, lease, partial(_let_go, context, lease.unit, tier, ready))
    return failed


def _hold_rule(context: RunContext, tier: Tier) -> str:
    rule = context.policy.rule_for(Trigger.HOLD, context.messages.category, tier)
    return rule.id if rule is not None else ""


def _note_held(context: RunContext, unit: str, held: dict[str, dict[str, int]], gate: Gate) -> None:
    record_progress(gate.conn, context.run.run_id, unit, held)


def _locked(context: RunContext, entry: index.Entry) -> bool:
    """Whether S3 locks any of the record's copies: then the record stays whole, whatever its rules say (case 3)."""
    from lifecycle.stores.s3.destroy import Locks
    from lifecycle.stores.s3.versions import key_versions

    bucket = context.messages.quarantine.bucket
    locks = Locks.of(context.s3, bucket)
    held = any(locks.hold_any(key_versions(context.s3, bucket, f"{entry.prefix}{name}")) for name in COPIES)
    if held:
        log.warning("a message of %s is under an S3 lock and stays in quarantine", entry.tier)
    return held


def _prepare(context: RunContext, lease: UnitLease, entry: index.Entry) -> bool:
    """Make safe what must outlive the quarantined copy, in a transaction of its own (promise 3)."""
    from botocore.exceptions import BotoCoreError, ClientError

    from lifecycle.errors import LifecycleError

    try:
        if entry.fate.startswith("keep:"):
            _restore(context, lease, entry)
        elif entry.fate.startswith("deidentify:"):
            _publish(context, lease, entry)
    except (ClientError, BotoCoreError, LifecycleError, ValueError) as error:
        log.warning("a message could not be taken out of quarantine (%s); it stays there", type(error).__name__)
        return False
    return True


def _document(context: RunContext, entry: index.Entry) -> dict[str, Any]:
    from lifecycle.stores.s3.copy import read_verified

    bucket = context.messages.quarantine.bucket
    document: dict[str, Any] = json.loads(
        read_verified(context.s3, bucket, f"{entry.prefix}record.json", entry.record_sha256)
    )
    return document


def _restore(context: RunContext, lease: UnitLease, entry: index.Entry) -> None:
    """Write the object and the row back; the quarantined copy goes afterwards, when both stand again."""
    from lifecycle.stores.s3.copy import copy_verified

    dataset = context.messages
    if index.is_back(context.conn, context.catalog, entry):
        return
    document = _document(context, entry)
    if entry.object_sha256 is not None:
        key = dataset.objects.partitioned.format(
            tier=entry.tier, date=entry.received_at.date().isoformat(), record=entry.message_id
        )
        copy_verified(context.s3, dataset.quarantine.bucket, f"{entry.prefix}object", dataset.objects.bucket, key)
        document["row"][dataset.objects.column] = key
    through_gate(context.conn, context.catalog, lease, partial(_write_back, context, entry, document))


def _write_back(context: RunContext, entry: index.Entry, document: Mapping[str, Any], gate: Gate) -> None:
    current = index.still_leaving(
        gate.conn,
        context.quarantine_fate(Tier(entry.tier)),
        _hold_rule(context, Tier(entry.tier)),
        [entry.message_id],
        context.params,
    )
    if current.get(entry.message_id) == entry.fate:
        index.restore_row(gate.conn, context.catalog, document)


def _publish(context: RunContext, lease: UnitLease, entry: index.Entry) -> None:
    """Write the de-identified form of a message whose flag was cleared after its tier's period had passed."""
    if entry.published:
        return
    document = _document(context, entry)
    if entry.object_sha256 is None:
        chars = len(document["row"].get(context.messages.body) or "")
    else:
        bucket = context.messages.quarantine.bucket
        chars = body_chars(context.s3.get_object(Bucket=bucket, Key=f"{entry.prefix}object")["Body"].read())
    through_gate(context.conn, context.catalog, lease, partial(_write_research, context, entry, document["row"], chars))


def _write_research(context: RunContext, entry: index.Entry, row: Mapping[str, Any], chars: int, gate: Gate) -> None:
    dataset = context.messages
    month = entry.received_at.date().replace(day=1)
    gate.conn.execute(
        sql.SQL("INSERT INTO {} (tier, model, role, received_month, body_chars) VALUES (%s, %s, %s, %s, %s)").format(
            table(dataset.research.table)
        ),
        (entry.tier, row.get(dataset.model), row.get(dataset.role), month, chars),
    )
    index.note_published(gate.conn, entry.message_id)


def _let_go(context: RunContext, unit: str, tier: Tier, batch: Sequence[index.Entry], gate: Gate) -> int:
    """Inside the gate: destroy the quarantined copies of what still leaves, with all versions. Returns failures."""
    from lifecycle.stores.s3.destroy import destroy_keys

    if not batch:
        return 0
    fate, hold = context.quarantine_fate(tier), _hold_rule(context, tier)
    current = index.still_leaving(gate.conn, fate, hold, [entry.message_id for entry in batch], context.params)
    still = [entry for entry in batch if current.get(entry.message_id) == entry.fate and not _locked(context, entry)]
    keys = {f"{entry.prefix}{name}": entry for entry in still for name in COPIES}
    found = destroy_keys(context.s3, gate, context.messages.quarantine.bucket, list(keys))
    stuck = {keys[key].message_id for key in (*found.held, *found.failed)}
    gone = [entry for entry in still if entry.message_id not in stuck]
    for name in sorted({entry.fate for entry in gone}):
        _note(context, unit, name, [entry for entry in gone if entry.fate == name], gate)
    return len({keys[key].message_id for key in found.failed})


def _note(context: RunContext, unit: str, fate: str, gone: Sequence[index.Entry], gate: Gate) -> None:
    ids = [entry.message_id for entry in gone]
    counts = {"records": len(gone), "objects": sum(entry.object_sha256 is not None for entry in gone)}
    disposition, rule = fate.split(":", 1)
    if disposition == "keep":
        disposition = "restore"
    else:
        counts["children"] = rows.delete_children(gate.conn, context.catalog, ids, context.params)
    index.forget(gate.conn, ids)
    record_progress(gate.conn, context.run.run_id, unit, {f"{disposition}:{rule}": counts})
