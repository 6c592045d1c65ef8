"""Partitioning S3: landing objects of kept messages move to ``tier=/date=``, and ``object_key`` follows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import sql

from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, UnitLease, take_lease, through_gate
from lifecycle.dispositions.plan_store import add_unit, close_unit, load_unit, mark, record_progress
from lifecycle.dispositions.shield import hand_out
from lifecycle.dispositions.sources import remove_copied, version_to_copy, versions_at, versions_of_each
from lifecycle.errors import DispositionError, LifecycleError
from lifecycle.planning.units import Method, Progress, Tally, Unit
from lifecycle.policy.models import Tier, Trigger
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.guard import AWAITING
from lifecycle.stores.postgres.messages import keys_named

if TYPE_CHECKING:
    from lifecycle.stores.s3.versions import ObjectVersion

log = logging.getLogger(__name__)
BATCH = 500
# As many as the client keeps connections for; each may hold a body of a few MiB (see `copy.INLINE_BYTES`).
WRITERS = 32
FATE = "move:partition"


@dataclass(frozen=True)
class Landed:
    """A message whose object still lies where the application put it."""

    record: UUID
    clock: datetime
    key: str
    fate: str


@dataclass(frozen=True)
class Copied:
    """A landed message whose object stands at its day now, and the versions that were in landing when it was copied."""

    row: Landed
    source: tuple[ObjectVersion, ...]


@dataclass(frozen=True)
class Followed:
    """How many objects failed, and the new keys of those that moved, with their record's fate inside the gate."""

    failed: int
    moved: Mapping[str, str]


def partition_landing(context: RunContext, tier: Tier) -> Progress:
    """Move a tier's landing objects to their day. Held objects stay; flagged and due ones are left to later steps.

    Raises:
        DispositionError: some objects could not be moved; they stay in landing, and everything else was moved.
    """
    unit = f"landing/{tier.value}"
    add_unit(
        context.conn,
        context.run.run_id,
        Unit(unit, context.messages.id, Method.LANDING, (Tally(FATE, 0),), tier=tier.value),
    )
    lease = take_lease(context.conn, context.run.run_id, unit)
    if load_unit(context.conn, context.run.run_id, unit).status != "done":
        failed = _move_all(context, lease, tier)
        if failed:
            mark(context.conn, context.run.run_id, unit, "failed")
            raise DispositionError(unit, failed, {"objects failed": failed})
        through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _move_all(context: RunContext, lease: UnitLease, tier: Tier) -> int:
    failed, after = 0, None
    with ThreadPoolExecutor(WRITERS) as pool:
        while batch := _landed(context, tier, after, None):
            after = batch[-1].record
            copy = partial(_copy, context, tier, _sources(context, batch))
            copied = [done for done in pool.map(copy, batch) if done is not None]
            failed += len(batch) - len(copied)
            followed = through_gate(
                context.conn, context.catalog, lease, partial(_follow, context, lease.unit, tier, copied)
            )
            failed += followed.failed
            # After the commit: a ticket on an object that no row names yet could not be taken back by a shield.
            hand_out(context, tier, followed.moved)
    return failed


def _landed(context: RunContext, tier: Tier, after: UUID | None, only: list[UUID] | None) -> list[Landed]:
    """The next messages whose object is in landing and which stay in the store by an ordinary rule, in key order."""
    dataset, clock = context.messages, ClockSql.of(context.messages.clock, "m")
    hold = context.policy.rule_for(Trigger.HOLD, dataset.category, tier)
    fate = context.fate(tier)
    rows = context.conn.execute(
        sql.SQL(
            "SELECT m.{record}, {clock}, m.{key}, {fate} FROM {t} m WHERE m.{key} LIKE {landing}"
            " AND m.{tier} = {name} AND {arrived} AND split_part({fate}, ':', 1) = 'keep'"
            " AND {fate} <> ALL({held}) AND NOT {also}"
            " AND (%(after)s::uuid IS NULL OR m.{record} > %(after)s)"
            " AND (%(only)s::uuid[] IS NULL OR m.{record} = ANY(%(only)s)) ORDER BY m.{record} LIMIT {limit} {lock}"
        ).format(
            record=sql.Identifier(dataset.record),
            clock=clock.instant,
            arrived=clock.before(sql.SQL("%(as_of)s")),
            key=sql.Identifier(dataset.objects.column),
            t=table(dataset.table),
            landing=sql.Literal(f"{dataset.objects.landing}%".replace("%", "%%")),
            tier=sql.Identifier(dataset.tier),
            name=sql.Literal(tier.value),
            fate=fate,
            held=sql.Literal([f"keep:{hold.id if hold else ''}", f"keep:{AWAITING}"]),
            also=context.guard.held(dataset, tier) if context.guard else sql.SQL("false"),
            limit=sql.Literal(BATCH),
            lock=sql.SQL("" if only is None else "FOR UPDATE OF m"),
        ),
        context.params | {"after": after, "only": only},
    ).fetchall()
    return [Landed(*row) for row in rows]


def _target(context: RunContext, tier: Tier, row: Landed) -> str:
    return context.messages.objects.partitioned.format(
        tier=tier.value, date=row.clock.date().isoformat(), record=row.record
    )


def _sources(context: RunContext, batch: Sequence[Landed]) -> Mapping[str, tuple[ObjectVersion, ...]] | None:
    """What stands under the keys of a batch; None where one listing cannot tell, and each key has to be asked for."""
    from lifecycle.stores.s3.errors import StoreError

    try:
        return versions_of_each(context.s3, context.messages.objects.bucket, {row.key for row in batch})
    except StoreError as error:
        log.warning("the landing objects of a batch could not be listed together (%s)", error.code)
        return None


def _copy(
    context: RunContext, tier: Tier, sources: Mapping[str, tuple[ObjectVersion, ...]] | None, row: Landed
) -> Copied | None:
    """Copy one object to its day. A source that is gone while its copy stands was moved before a kill."""
    from botocore.exceptions import BotoCoreError, ClientError

    from lifecycle.stores.s3.copy import copy_verified, exists

    bucket, target = context.messages.objects.bucket, _target(context, tier, row)
    try:
        source = versions_at(context.s3, bucket, row.key) if sources is None else sources.get(row.key, ())
        if source:
            version = version_to_copy(source)
            copy_verified(context.s3, bucket, row.key, bucket, target, source_version=version, by_checksum=True)
        elif not exists(context.s3, bucket, target):
            log.warning("a landing object that a row names does not exist; the row is left as it is")
            return None
    except (ClientError, BotoCoreError, LifecycleError) as error:
        log.warning("a landing object could not be moved (%s); it stays in landing", type(error).__name__)
        return None
    return Copied(row, source)


def _follow(context: RunContext, unit: str, tier: Tier, copied: Sequence[Copied], gate: Gate) -> Followed:
    """Inside the gate: destroy the landing copies of what still stays, and let object_key follow."""
    if not copied:
        return Followed(0, {})
    dataset = context.messages
    source = {copy.row.key: copy.source for copy in copied}
    still = _landed(context, tier, None, [copy.row.record for copy in copied])
    found = remove_copied(context.s3, gate, dataset.objects.bucket, {row.key: source[row.key] for row in still})
    moved = [row for row in still if found.gone(row.key)]
    # What is held stays in landing whole, and what was written again is not what was copied: the copy is taken back.
    staying = [copy.row for copy in copied if copy.row not in moved and copy.row.key not in found.failed]
    _take_back(context, gate, tier, staying)
    with gate.conn.cursor() as cursor:
        cursor.executemany(
            sql.SQL("UPDATE {} m SET {} = %s WHERE m.{} = %s AND {} = %s").format(
                table(dataset.table),
                sql.Identifier(dataset.objects.column),
                sql.Identifier(dataset.record),
                ClockSql.of(dataset.clock, "m").instant,
            ),
            [(_target(context, tier, row), row.record, row.clock) for row in moved],
        )
    if moved:
        record_progress(gate.conn, context.run.run_id, unit, {FATE: {"objects": len(moved)}})
    return Followed(len(found.failed), {_target(context, tier, row): row.fate for row in moved})


def _take_back(context: RunContext, gate: Gate, tier: Tier, rows: Sequence[Landed]) -> None:
    """Remove the new copies of objects that do not move after all, but never the only copy of what a row names.

    What has no row any more was disposed of since it was copied: its copy goes and is brought back nowhere (case 15).
    """
    from lifecycle.stores.s3.copy import copy_verified, exists
    from lifecycle.stores.s3.destroy import destroy_keys

    if not rows:
        return
    dataset, bucket = context.messages, context.messages.objects.bucket
    named = keys_named(gate.conn, dataset, tier.value, [(row.record, row.clock) for row in rows])
    unwanted = [row for row in rows if named.get(row.record) != _target(context, tier, row)]
    for row in unwanted:
        if named.get(row.record) == row.key and not exists(context.s3, bucket, row.key):
            copy_verified(context.s3, bucket, _target(context, tier, row), bucket, row.key)
    destroy_keys(context.s3, gate, bucket, [_target(context, tier, row) for row in unwanted])
