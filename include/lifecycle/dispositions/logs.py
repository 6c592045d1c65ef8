"""Many-record log objects: rewritten without the records that are due, or removed when none is left.

A stage is a dataset of its own, over the same objects: of a record that is due it empties fields.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.log_announcements import (
    announce,
    count_removed,
    dataset_of,
    day_prefix,
    settle,
    versions_in,
)
from lifecycle.dispositions.log_index import LogIndex, suspects_of
from lifecycle.dispositions.log_reading import Looked, Reading
from lifecycle.dispositions.plan_store import close_unit, load_unit, mark, write_intents
from lifecycle.dispositions.prepared import Ready, adopt, fetch, forget, prove
from lifecycle.errors import DispositionError, LifecycleError
from lifecycle.planning.log_decision import Decide, LogFacts, log_decision
from lifecycle.planning.shards import boundary, part_name
from lifecycle.planning.units import EVERY_KEY, KeyRange, Method, Progress, Tally, Unit
from lifecycle.stores.postgres.connect import Connection, connect
from lifecycle.stores.postgres.facts import load_log_facts
from lifecycle.stores.postgres.guard import AWAITING

if TYPE_CHECKING:
    from lifecycle.stores.s3.logs import LogFields
    from lifecycle.stores.s3.versions import ObjectVersion

log = logging.getLogger(__name__)
_DAY = re.compile(r"date=(\d{4}-\d{2}-\d{2})/$")


def decider(
    context: RunContext, dataset: Logs, facts: LogFacts, day: date, waiting: Counter[str] | None = None
) -> Decide:
    """A function that names the rule by which a log record is due, or None when it stays.

    While the loaded policy is not approved, a record is due only where the one in force says so too; records on which
    they differ are counted in ``waiting``.
    """
    category, as_of = dataset.category, context.run.as_of
    loaded = log_decision(context.policy, category, as_of, facts, day)
    if context.guard is None or context.guard.policy is None:
        return loaded
    approved = log_decision(context.guard.policy, category, as_of, facts, day)

    def both(record: str, subject: str, tier: str, told: datetime | None) -> str | None:
        rule = loaded(record, subject, tier, told)
        if (rule is None) == (approved(record, subject, tier, told) is None):
            return rule
        if waiting is not None:
            waiting[AWAITING] += 1
        return None

    return both


def fields_of(dataset: Logs) -> LogFields:
    """Which fields of its records decide, and which of them go if the record stays."""
    from lifecycle.stores.s3.logs import LogFields

    return LogFields(dataset.record, dataset.subject, dataset.tier, dataset.clock, dataset.clear)


def _days(context: RunContext, dataset: Logs) -> Iterator[tuple[date, str]]:
    """The day prefixes that exist, by listing with a delimiter: one entry per day, not per object.

    Versions are listed, so that what a delete marker only hides is found too (hard case 2).
    """
    for page in context.s3.get_paginator("list_object_versions").paginate(
        Bucket=dataset.bucket, Prefix=dataset.prefix, Delimiter="/"
    ):
        for found in page.get("CommonPrefixes", []):
            match = _DAY.search(found["Prefix"])
            if match:
                yield date.fromisoformat(match.group(1)), found["Prefix"]


def _objects(
    context: RunContext, dataset: Logs, prefix: str, keys: KeyRange = EVERY_KEY
) -> Iterator[tuple[str, list[ObjectVersion]]]:
    """Every key of a day with its first two versions: one that has more is looked at by itself."""
    for key, versions in groupby(versions_in(context, dataset, prefix, keys), key=attrgetter("key")):
        yield key, list(islice(versions, 2))


def survey_logs(context: RunContext) -> Iterator[Unit]:
    """Days whose objects hold due records. Every day is looked at: a line that was filed late counts by its own clock.

    Of an object that stands as it was last read, what is remembered of it tells whether it must be read again.
    """
    conversations: dict[str, list[str]] = {}
    for dataset in context.catalog.log_records:
        if context.waits(dataset.binding):
            continue
        facts = load_log_facts(context.conn, context.catalog, context.params, conversations, dataset)
        index, days = LogIndex(context.conn, dataset, not context.run.dry_run), list[date]()
        reading = Reading(context.s3, dataset, fields_of(dataset), index, prove(context, dataset, facts))
        for day, prefix in _days(context, dataset):
            days.append(day)
            found = reading.day(day, _objects(context, dataset, prefix), partial(decider, context, dataset, facts, day))
            yield from _cut(context, dataset, day, found)
        index.forget_other_days(days)


@dataclass
class _Part:
    """What was found in one key range of a day; in all of it, unless the dataset file says that days are cut."""

    number: int
    after: str
    read: int = 0
    kept: int = 0
    objects: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)

    def add(self, seen: Looked) -> None:
        self.read += 1
        self.kept += seen.result.kept
        self.objects += bool(seen.result.removed)
        self.removed.update(seen.result.removed)
        self.waiting.update(seen.waiting)


def _cut(context: RunContext, dataset: Logs, day: date, found: Iterator[Looked]) -> Iterator[Unit]:
    """A unit for each part of a day with due records. Where a part ends is known when the key behind it is seen."""
    most = dataset.shards.objects if dataset.shards else None
    part, last = _Part(1, ""), ""
    for seen in found:
        if part.read == most:
            until = boundary(last, seen.key)
            yield from _unit(context, dataset, day, part, until)
            part = _Part(part.number + 1, until)
        last = seen.key
        part.add(seen)
    yield from _unit(context, dataset, day, part, None)


def _unit(context: RunContext, dataset: Logs, day: date, part: _Part, until: str | None) -> Iterator[Unit]:
    """The last part has no end, so that what is filed after the plan belongs to one of them, too."""
    if not part.removed:
        return
    name = f"{dataset.id}/{day.isoformat()}"
    whole = part.number == 1 and until is None
    tallies = [Tally(f"delete:{rule}", n, part.objects) for rule, n in sorted(part.removed.items())]
    yield Unit(
        unit=name if whole else part_name(name, part.number),
        dataset=dataset.id,
        method=Method.LOGS,
        tallies=(*tallies, *_kept(part.kept, part.waiting[AWAITING])),
        day=day,
        deadline=context.policy.strictest(dataset.category).end(datetime(day.year, day.month, day.day, tzinfo=UTC)),
        keys=KeyRange(part.after, until),
    )


def _kept(records: int, waiting: int) -> tuple[Tally, ...]:
    waiting = min(waiting, records)  # it is counted in every version of an object, records in one
    shown = (Tally("keep:not_due", records - waiting),)
    return (*shown, Tally(f"keep:{AWAITING}", waiting)) if waiting else shown


def expire_logs(context: RunContext, unit: str, conversations: dict[str, list[str]] | None = None) -> Progress:
    """Rewrite the objects of one day, or of a key range of it, without their due records, each inside the gate.

    Nothing is written to the tables of exceptions here, so other units of log objects are at work at the same time.

    Args:
        conversations: see `load_log_facts`; to be shared by units that are carried out one right after the other.

    Raises:
        DispositionError: some objects could not be rewritten; they stand as they were, and the others were done.
    """
    dataset = dataset_of(context, unit)
    assert dataset is not None  # it was in the plan
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    write_intents(context, row)
    failed = 0
    known: dict[str, list[str]] = {} if conversations is None else conversations
    # Announcements are committed while the gate's own transaction is open, so they need a connection of their own.
    with connect() as aside, TemporaryDirectory(prefix="lifecycle-") as folder:
        for key, versions in _objects(context, dataset, day_prefix(dataset, unit), row.keys):
            try:
                ready = fetch(context, dataset, key, Path(folder, "rest"))
                act = partial(_rewrite, context, dataset, unit, versions, known, row.day, aside, ready)
                through_gate(context.conn, context.catalog, lease, act, reads_only=True)
            except LifecycleError as error:
                log.warning("an object of %s was left as it is: %s", unit, error)
                failed += 1
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"objects failed": failed})
    through_gate(context.conn, context.catalog, lease, partial(_close, context, dataset, unit), reads_only=True)
    return load_unit(context.conn, context.run.run_id, unit).progress


def _rewrite(
    context: RunContext,
    dataset: Logs,
    unit: str,
    versions: Sequence[ObjectVersion],
    conversations: dict[str, list[str]],
    day: date,
    aside: Connection,
    ready: Ready | None,
    gate: Gate,
) -> None:
    """Inside the gate: rewrite one object by the facts of now, and count what left it."""
    from lifecycle.stores.s3.logs import rewrite_object

    key, index = versions[0].key, LogIndex(gate.conn, dataset, writes=True)
    facts = load_log_facts(gate.conn, context.catalog, context.params, conversations, dataset)
    judge = decider(context, dataset, facts, day)
    if index.rows_if_clean(versions, suspects_of(judge)) is None:
        say = partial(announce, aside, context.run.run_id, unit, key)
        done = adopt(context, dataset, key, ready, facts, judge, say, gate) if ready is not None else None
        if done is None:
            done = rewrite_object(context.s3, gate, dataset.bucket, key, fields_of(dataset), judge, say)
        if done.action != "unchanged":
            for each in context.catalog.log_records:
                if each.binding == dataset.binding:
                    LogIndex(gate.conn, each, writes=True).unlearn(key)
        if any(done.removed.values()):
            count_removed(gate, context.run.run_id, unit, key, done.removed)
    if ready is not None:
        forget(context, dataset, key, gate)


def _close(context: RunContext, dataset: Logs, unit: str, gate: Gate) -> None:
    settle(context, dataset, unit, gate)
    close_unit(context, unit)
