"""Objects that no row names (hard case 13): left by a crash of the application, a replay, or a restore.

They are reported by the plan, and disposed of when they are older than a margin by their own clock, or when the day in
their key lies behind the cut-off of their tier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice

from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.gate import Gate
from lifecycle.dispositions.unnamed import Left, Sweep, sweep, tallies, with_records
from lifecycle.planning.units import Method, Progress, Unit
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import orphans as store

log = logging.getLogger(__name__)
FATE = "delete:orphan"
LANDING = "landing"
PAGE = 1_000
# So many keys are listed before any of them is touched.
WINDOW = 10_000


@dataclass(frozen=True)
class Place:
    """Where objects of one tier and day lie, or landing, whose keys tell neither."""

    prefix: str
    tier: Tier | None = None
    day: date | None = None


def survey_orphans(context: RunContext, tier: Tier | None) -> Iterator[Unit]:
    """One unit for a tier, or for landing (None), if anything there has no row and is old enough."""
    left = (0, 0) if context.waits(context.messages.id) else _count(context, tier)
    if left[0]:
        yield Unit(
            unit=f"orphans/{tier.value if tier else LANDING}",
            dataset=context.messages.id,
            method=Method.ORPHANS,
            tallies=tallies(FATE, left, objects=True),
            tier=tier.value if tier else None,
            deadline=context.run.as_of,
        )


def expire_orphans(context: RunContext, unit: str) -> Progress:
    """Destroy what the plan counted.

    Raises:
        DispositionError: some objects could not be destroyed.
    """

    def pages(row: UnitRow) -> Iterator[Callable[[Gate], int]]:
        return (partial(_destroy, context, keys) for keys in _orphans(context, _tier(row)))

    return sweep(
        context, unit, Sweep(FATE, "objects", ("records", "objects"), pages, lambda row: _count(context, _tier(row)))
    )


def _tier(row: UnitRow) -> Tier | None:
    return Tier(row.tier) if row.tier else None


def _destroy(context: RunContext, keys: Sequence[str], gate: Gate) -> int:
    from lifecycle.stores.s3.destroy import destroy_keys

    still = _unnamed(context, keys).free
    found = destroy_keys(context.s3, gate, context.messages.objects.bucket, still)
    if found.held:
        log.warning("%d orphan object(s) are under an S3 lock and stay", len(found.held))
    return len(found.failed)


def _count(context: RunContext, tier: Tier | None) -> Left:
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
    return store.unnamed(context.conn, context.messages, context.run.as_of, with_records(keys))
