"""Objects that no row names (hard case 13): left by a crash of the application, a replay, or a restore.

They are reported by the plan, and disposed of when they are older than a margin by their own clock, or when the day in
their key lies behind the cut-off of their tier.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice

from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.plan_store import close_unit, load_unit, mark, record_progress, write_intents
from lifecycle.errors import DispositionError
from lifecycle.planning.units import Method, Progress, Tally, Unit
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import orphans as store

log = logging.getLogger(__name__)
FATE = "delete:orphan"
HELD = "keep:hold"
LANDING = "landing"
PAGE = 1_000
# So many keys are listed before any of them is touched.
WINDOW = 10_000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Place:
    """Where objects of one tier and day lie, or landing, whose keys tell neither."""

    prefix: str
    tier: Tier | None = None
    day: date | None = None


def survey_orphans(context: RunContext, tier: Tier | None) -> Iterator[Unit]:
    """One unit for a tier, or for landing (None), if anything there has no row and is old enough."""
    free, held = (0, 0) if context.waits(context.messages.id) else _count(context, tier)
    if free:
        yield Unit(
            unit=f"orphans/{tier.value if tier else LANDING}",
            dataset=context.messages.id,
            method=Method.ORPHANS,
            tallies=(Tally(FATE, free, free), *kept_by_hold(held, held)),
            tier=tier.value if tier else None,
            deadline=context.run.as_of,
        )


def expire_orphans(context: RunContext, unit: str) -> Progress:
    """Destroy what the plan counted, page by page, each page judged once more inside the gate.

    Raises:
        DispositionError: some objects could not be destroyed.
    """
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    write_intents(context, row)
    tier = Tier(row.tier) if row.tier else None
    failed = 0
    for keys in _orphans(context, tier):
        act = partial(_destroy, context, keys)
        failed += through_gate(context.conn, context.catalog, lease, act, reads_only=True)
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"objects failed": failed})
    gone = gone_of(row, _count(context, tier))

    def close(gate: Gate) -> None:
        record_progress(gate.conn, context.run.run_id, unit, {FATE: {"records": gone, "objects": gone}})
        close_unit(context, unit)

    through_gate(context.conn, context.catalog, lease, close)
    return load_unit(context.conn, context.run.run_id, unit).progress


def kept_by_hold(records: int, objects: int = 0) -> tuple[Tally, ...]:
    """What a hold keeps of what no row names, where there is any."""
    return (Tally(HELD, records, objects),) if records else ()


def gone_of(row: UnitRow, left: tuple[int, int]) -> int:
    """How many of what was planned are gone.

    Counted by what is left, so that a kill between a request and its commit loses no count (promise 4); what came
    under a hold since the plan is left too (promise 5).
    """
    planned = sum(counts["records"] for counts in row.planned.values())
    return max(0, planned - sum(left))


def _destroy(context: RunContext, keys: Sequence[str], gate: Gate) -> int:
    from lifecycle.stores.s3.destroy import destroy_keys

    still = _unnamed(context, keys).free
    found = destroy_keys(context.s3, gate, context.messages.objects.bucket, still)
    if found.held:
        log.warning("%d orphan object(s) are under an S3 lock and stay", len(found.held))
    return len(found.failed)


def _count(context: RunContext, tier: Tier | None) -> tuple[int, int]:
    """How many keys without a row are old enough: those that may go, and those that a hold keeps."""
    free = held = 0
    for page in _pages(context, tier):
        free, held = free + len(page.free), held + len(page.held)
    return free, held


def _places(context: RunContext, tier: Tier | None) -> Iterator[Place]:
    """The day prefixes of a tier, by one listing with a delimiter, or landing."""
    objects = context.messages.objects
    if tier is None:
        yield Place(objects.landing)
        return
    head, _, _ = objects.partitioned.partition("{date}")
    stem = head.format(tier=tier.value)
    pages = context.s3.get_paginator("list_object_versions").paginate(Bucket=objects.bucket, Prefix=stem, Delimiter="/")
    for page in pages:
        for found in page.get("CommonPrefixes", []):
            prefix = found["Prefix"]
            try:
                day = date.fromisoformat(prefix[len(stem) : len(stem) + 10])
            except ValueError:
                day = None
            yield Place(prefix, tier, day)


def _orphans(context: RunContext, tier: Tier | None) -> Iterator[list[str]]:
    """Keys that are old enough and that no row names, a page at a time. Who takes them may destroy them meanwhile."""
    return (page.free for page in _pages(context, tier) if page.free)


def _pages(context: RunContext, tier: Tier | None) -> Iterator[store.Unnamed]:
    for window in _windows(context, tier):
        for begin in range(0, len(window), PAGE):
            yield _unnamed(context, window[begin : begin + PAGE])


def _windows(context: RunContext, tier: Tier | None) -> Iterator[list[str]]:
    """Runs of neighbouring keys, no listing open while one is worked on.

    On Ceph a listing that goes on while its keys go may pass others by, so the next begins anew behind the last key.
    """
    places = list(_places(context, tier))
    first, after = 0, ""
    while True:
        stream = (
            (number, key)
            for number, place in enumerate(places[first:], first)
            for key in _aged(context, place, after if number == first else "")
        )
        window = list(islice(stream, WINDOW))
        stream.close()
        if window:
            yield [key for _, key in window]
        if len(window) < WINDOW:
            return
        first, after = window[-1]


def _aged(context: RunContext, place: Place, after: str) -> Iterator[str]:
    """Keys whose newest version is older than the margin, and all keys of a day behind the cut-off."""
    from lifecycle.stores.s3.versions import iter_versions

    overdue = _behind_cutoff(context, place)
    limit = context.run.as_of - context.orphan_margin
    last = ""
    for version in iter_versions(context.s3, context.messages.objects.bucket, place.prefix, after=after):
        if version.key != last and (overdue or version.last_modified < limit):
            yield version.key
        last = version.key


def _behind_cutoff(context: RunContext, place: Place) -> bool:
    if place.day is None or place.tier is None:
        return False
    end = datetime(place.day.year, place.day.month, place.day.day, tzinfo=UTC) + timedelta(days=1)
    return bool(end <= context.cutoff(place.tier))


def _unnamed(context: RunContext, keys: Sequence[str]) -> store.Unnamed:
    records = [(key, found.group(0) if (found := _UUID.search(key)) else None) for key in keys]
    return store.unnamed(context.conn, context.messages, context.run.as_of, records)
