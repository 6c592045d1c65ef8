"""Many-record log objects: rewritten without the records that are due, or removed when none is left."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.log_announcements import announce, count_removed, dataset_of, day_prefix, settle
from lifecycle.dispositions.log_index import LogIndex, suspects_of
from lifecycle.dispositions.plan_store import close_unit, load_unit, mark, write_intents
from lifecycle.errors import DispositionError, LifecycleError
from lifecycle.planning.cutoffs import Cutoff, cutoff_for
from lifecycle.planning.units import Method, Progress, Tally, Unit
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.models import Policy, Tier
from lifecycle.stores.postgres.connect import Connection, connect
from lifecycle.stores.postgres.facts import LogFacts, load_log_facts
from lifecycle.stores.postgres.guard import AWAITING

if TYPE_CHECKING:
    from lifecycle.stores.s3.logs import LogFields
    from lifecycle.stores.s3.versions import ObjectVersion

log = logging.getLogger(__name__)
_DAY = re.compile(r"date=(\d{4}-\d{2}-\d{2})/$")
Decide = Callable[[str, str, str, datetime | None], str | None]


def decider(context: RunContext, facts: LogFacts, day: date, waiting: Counter[str] | None = None) -> Decide:
    """A function that names the rule by which a log record is due, or None when it stays.

    While the loaded policy is not approved, a record is due only where the one in force says so too; records on which
    they differ are counted in ``waiting``.
    """
    loaded = _due(context, context.policy, facts, day)
    if context.guard is None or context.guard.policy is None:
        return loaded
    approved = _due(context, context.guard.policy, facts, day)

    def both(record: str, subject: str, tier: str, told: datetime | None) -> str | None:
        rule = loaded(record, subject, tier, told)
        if (rule is None) == (approved(record, subject, tier, told) is None):
            return rule
        if waiting is not None:
            waiting[AWAITING] += 1
        return None

    return both


def _due(context: RunContext, policy: Policy, facts: LogFacts, day: date) -> Decide:
    """The decision of one policy.

    Flags and consents concern the message, not the line that logged it, and are not asked. A record without a readable
    time counts from the end of the day it was filed under, and one without a tier as unclassified (hard case 23).
    """
    filed = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    category = context.catalog.logs[0].category
    # A log line has no de-identified form: where the message's would be published, the line is just deleted.
    variants = {rule.id: rule.instead_of for rule in policy.rules if rule.instead_of is not None}
    ordinary = {tier.value: cutoff_for(policy, category, tier, context.run.as_of) for tier in Tier}

    def due(record: str, subject: str, tier: str, told: datetime | None) -> str | None:
        clock, tier = (told, tier) if told is not None else (filed, "")
        known: list[Fact] = facts.of(record, subject)
        default = ordinary.get(tier)
        if not known and default is not None and default.exact:
            # Nearly every line: no exception names it, and its tier's cut-off decides.
            return default.rule if clock < default.cutoff else None
        decision = decide(category, tier, clock, known, policy, context.run.as_of)
        return variants.get(decision.rule, decision.rule) if decision.due else None

    return _judge(due, facts, ordinary)


def _judge(due: Decide, facts: LogFacts, ordinary: Mapping[str, Cutoff]) -> Decide:
    """With what decides of nearly every line, so that they are judged by column. Nothing, where a hold is on all."""
    from lifecycle.stores.s3.records import Judge, Ordinary

    if facts.everywhere:
        return due
    plain = {tier: (default.cutoff, default.rule) for tier, default in ordinary.items() if default.exact}
    return Judge(due, Ordinary(plain, facts.by_record.keys(), facts.by_subject.keys()))


def _fields(dataset: Logs) -> LogFields:
    from lifecycle.stores.s3.logs import LogFields

    return LogFields(record=dataset.record, subject=dataset.subject, tier=dataset.tier, clock=dataset.clock)


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


def _objects(context: RunContext, dataset: Logs, prefix: str) -> Iterator[tuple[str, list[ObjectVersion]]]:
    """Every key of a day with its first two versions: one that has more is looked at by itself."""
    from lifecycle.stores.s3.versions import iter_versions

    for key, versions in groupby(iter_versions(context.s3, dataset.bucket, prefix), key=attrgetter("key")):
        yield key, list(islice(versions, 2))


def survey_logs(context: RunContext) -> Iterator[Unit]:
    """Days whose objects hold due records. Every day is looked at: a line that was filed late counts by its own clock.

    Of an object that stands as it was last read, what is remembered of it tells whether it must be read again.
    """
    from lifecycle.stores.s3.logs import inspect_object

    conversations: dict[str, list[str]] = {}
    for dataset in context.catalog.logs:
        if context.waits(dataset.id):
            continue
        facts = load_log_facts(context.conn, context.catalog, context.params, conversations)
        index, days = LogIndex(context.conn, dataset, not context.run.dry_run), list[date]()
        for day, prefix in _days(context, dataset):
            days.append(day)
            waiting: Counter[str] = Counter()
            judge = decider(context, facts, day, waiting)
            suspects, learn = suspects_of(judge), partial(index.learn, day)
            removed: dict[str, int] = {}
            kept = objects = 0
            for key, versions in _objects(context, dataset, prefix):
                clean = index.rows_if_clean(versions, suspects)
                if clean is not None:
                    kept += clean
                    continue
                index.forget(key)
                seen = inspect_object(context.s3, dataset.bucket, key, _fields(dataset), judge, learn)
                kept += seen.kept
                objects += bool(seen.removed)
                for rule, count in seen.removed.items():
                    removed[rule] = removed.get(rule, 0) + count
            if removed:
                tallies = [Tally(f"delete:{rule}", n, objects) for rule, n in sorted(removed.items())]
                yield Unit(
                    unit=f"{dataset.id}/{day.isoformat()}",
                    dataset=dataset.id,
                    method=Method.LOGS,
                    tallies=(*tallies, *_kept(kept, waiting[AWAITING])),
                    day=day,
                    deadline=datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=28),
                )
        index.forget_other_days(days)


def _kept(records: int, waiting: int) -> tuple[Tally, ...]:
    waiting = min(waiting, records)  # it is counted in every version of an object, records in one
    shown = (Tally("keep:not_due", records - waiting),)
    return (*shown, Tally(f"keep:{AWAITING}", waiting)) if waiting else shown


def expire_logs(context: RunContext, unit: str, conversations: dict[str, list[str]] | None = None) -> Progress:
    """Rewrite the objects of one day without their due records, each inside the gate.

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
    with connect() as aside:
        for _, versions in _objects(context, dataset, day_prefix(dataset, unit)):
            try:
                act = partial(_rewrite, context, dataset, unit, versions, known, row.day, aside)
                through_gate(context.conn, context.catalog, lease, act)
            except LifecycleError as error:
                log.warning("an object of %s was left as it is: %s", unit, error)
                failed += 1
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"objects failed": failed})
    through_gate(context.conn, context.catalog, lease, partial(_close, context, dataset, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _rewrite(
    context: RunContext,
    dataset: Logs,
    unit: str,
    versions: Sequence[ObjectVersion],
    conversations: dict[str, list[str]],
    day: date,
    aside: Connection,
    gate: Gate,
) -> None:
    """Inside the gate: rewrite one object by the facts of now, and count what left it."""
    from lifecycle.stores.s3.logs import rewrite_object

    run_id, key = context.run.run_id, versions[0].key
    judge = decider(context, load_log_facts(gate.conn, context.catalog, context.params, conversations), day)
    index = LogIndex(gate.conn, dataset, writes=True)
    if index.rows_if_clean(versions, suspects_of(judge)) is not None:
        return
    say = partial(announce, aside, run_id, unit, key)
    done = rewrite_object(context.s3, gate, dataset.bucket, key, _fields(dataset), judge, say)
    if done.action != "unchanged":
        index.forget(key)
    if any(done.removed.values()):
        count_removed(gate, run_id, unit, key, done.removed)


def _close(context: RunContext, dataset: Logs, unit: str, gate: Gate) -> None:
    settle(context, dataset, unit, gate)
    close_unit(context, unit)
