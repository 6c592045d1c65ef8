"""Unfinished multipart uploads, aborted by age (hard case 14).

Their parts are in no listing of objects and never expire, so what a writer that crashed has sent stays for ever, and
may become an object at any time. One beside an object of a known record goes with the record; these are the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Logs, Messages
from lifecycle.dispositions.context import RunContext, UnitRow
from lifecycle.dispositions.gate import Gate
from lifecycle.dispositions.unnamed import Left, Sweep, sweep, tallies, with_records
from lifecycle.planning.units import Method, Progress, Unit
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import orphans as store

if TYPE_CHECKING:
    from lifecycle.stores.s3.requests import Upload

log = logging.getLogger(__name__)
FATE = "delete:upload"
UPLOADS = "orphans/uploads/"
PAGE = 500
# So many of a bucket are held in memory, and aborted by one run at most; the next goes on.
MOST = 100_000


@dataclass(frozen=True)
class _Place:
    """One bucket with the prefixes below which a dataset's data lies."""

    bucket: str
    prefixes: tuple[str, ...]


def survey_uploads(context: RunContext) -> Iterator[Unit]:
    """One unit for each dataset with objects, if an upload there is older than the margin for orphans."""
    for dataset in _datasets(context):
        left = (0, 0) if context.waits(dataset.id) else _count(context, dataset)
        if left[0]:
            yield Unit(
                unit=f"{UPLOADS}{dataset.id}",
                dataset=dataset.id,
                method=Method.ORPHANS,
                tallies=tallies(FATE, left, objects=False),
                deadline=context.run.as_of,
            )


def expire_uploads(context: RunContext, unit: str) -> Progress:
    """Abort what the plan counted.

    Raises:
        DispositionError: some uploads could not be aborted.
    """

    def dataset(row: UnitRow) -> Messages | Logs:
        return next(each for each in _datasets(context) if each.id == row.dataset)

    def pages(row: UnitRow) -> Iterator[Callable[[Gate], int]]:
        for place in _places(dataset(row)):
            # Read to the end before any goes: on Ceph a listing that goes on meanwhile may pass others by.
            found = list(islice(_aged(context, place), MOST))
            for begin in range(0, len(found), PAGE):
                yield partial(abort, context, dataset(row), place.bucket, found[begin : begin + PAGE])

    return sweep(context, unit, Sweep(FATE, "uploads", ("records",), pages, lambda row: _count(context, dataset(row))))


def abort(context: RunContext, dataset: Messages | Logs, bucket: str, page: Sequence[Upload], gate: Gate) -> int:
    """Inside the gate: abort those of a page that nothing keeps. Returns how many failed."""
    from lifecycle.stores.s3.errors import StoreError
    from lifecycle.stores.s3.requests import abort_upload

    failed = 0
    for upload in _free(context, dataset, page):
        try:
            abort_upload(context.s3, gate, bucket, upload)
        except StoreError as refusal:
            log.warning("an unfinished upload cannot be aborted: %s", refusal)
            failed += 1
    return failed


def _datasets(context: RunContext) -> Iterator[Messages | Logs]:
    if context.catalog.has_messages:
        yield context.messages
    yield from context.catalog.logs


def _places(dataset: Messages | Logs) -> Iterator[_Place]:
    if isinstance(dataset, Logs):
        yield _Place(dataset.bucket, (dataset.prefix,))
        return
    objects, quarantine = dataset.objects, dataset.quarantine
    yield _Place(objects.bucket, (objects.landing, *_stems(objects.partitioned)))
    yield _Place(quarantine.bucket, _stems(quarantine.prefix))


def _stems(layout: str) -> tuple[str, ...]:
    """What the keys of each tier begin with."""
    head, _, _ = layout.partition("{date}")
    return tuple(dict.fromkeys(head.format(tier=tier.value) for tier in Tier))


def _aged(context: RunContext, place: _Place) -> Iterator[Upload]:
    """Uploads below a place that were begun longer ago than the margin; each once."""
    from lifecycle.stores.s3.requests import iter_uploads
    from lifecycle.stores.s3.versions import shared_prefix

    limit, last = context.run.as_of - context.orphan_margin, None
    for upload in iter_uploads(context.s3, place.bucket, shared_prefix(place.prefixes)):
        if upload != last and upload.key.startswith(place.prefixes) and upload.begun_at < limit:
            yield upload
        last = upload


def _free(context: RunContext, dataset: Messages | Logs, page: Sequence[Upload]) -> list[Upload]:
    """Of some uploads, those whose key no row names and that no hold covers."""
    free = set(_unnamed(context, dataset, page).free)
    return [upload for upload in page if upload.key in free]


def _unnamed(context: RunContext, dataset: Messages | Logs, page: Sequence[Upload]) -> store.Unnamed:
    keys = [upload.key for upload in page]
    if isinstance(dataset, Logs):
        # Its parts may hold what any of the stages holds.
        names = [dataset.id, *(part.id for part in dataset.parts), dataset.bucket]
        held = store.is_held(context.conn, names, context.run.as_of)
        return store.Unnamed([], keys) if held else store.Unnamed(keys, [])
    return store.unnamed(context.conn, dataset, context.run.as_of, with_records(keys))


def _count(context: RunContext, dataset: Messages | Logs) -> Left:
    """How many old uploads without a row there are: those that may go, and those that a hold keeps."""
    free = held = 0
    for place in _places(dataset):
        found = _aged(context, place)
        while page := list(islice(found, PAGE)):
            told = _unnamed(context, dataset, page)
            free, held = free + len(told.free), held + len(told.held)
    return free, held
