"""Many-record log objects: rewritten without the records that are due, or removed when none is left."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.plan_store import close_unit, load_unit, mark, record_progress, write_intents
from lifecycle.errors import DispositionError, LifecycleError
from lifecycle.planning.cutoffs import cutoff_for
from lifecycle.planning.units import Method, Progress, Tally, Unit
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection, connect
from lifecycle.stores.postgres.facts import LogFacts, load_log_facts

if TYPE_CHECKING:
    from lifecycle.stores.s3.logs import LogFields, RewriteResult

_DAY = re.compile(r"date=(\d{4}-\d{2}-\d{2})/$")
Decide = Callable[[str, str, str, datetime | None], str | None]


def decider(context: RunContext, facts: LogFacts, day: date) -> Decide:
    """A function that names the rule by which a log record is due, or None when it stays.

    Flags and consents concern the message, not the line that logged it, and are not asked. A record without a readable
    time counts from the end of the day it was filed under, and one without a tier as unclassified (hard case 23).
    """
    filed = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    category = context.catalog.logs[0].category
    # A log line has no de-identified form: where the message's would be published, the line is just deleted.
    variants = {rule.id: rule.instead_of for rule in context.policy.rules if rule.instead_of is not None}
    ordinary = {tier.value: cutoff_for(context.policy, category, tier, context.run.as_of) for tier in Tier}

    def due(record: str, subject: str, tier: str, told: datetime | None) -> str | None:
        clock, tier = (told, tier) if told is not None else (filed, "")
        known: list[Fact] = facts.of(record, subject)
        default = ordinary.get(tier)
        if not known and default is not None and default.exact:
            # Nearly every line: no exception names it, and its tier's cut-off decides.
            return default.rule if clock < default.cutoff else None
        decision = decide(category, tier, clock, known, context.policy, context.run.as_of)
        return variants.get(decision.rule, decision.rule) if decision.due else None

    return due


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


def _keys(context: RunContext, dataset: Logs, prefix: str) -> Iterator[str]:
    from lifecycle.stores.s3.versions import iter_versions

    for key, _ in groupby(iter_versions(context.s3, dataset.bucket, prefix), key=attrgetter("key")):
        yield key


def survey_logs(context: RunContext) -> Iterator[Unit]:
    """Days whose objects hold due records. Every day is read: a line that was filed late counts by its own clock."""
    from lifecycle.stores.s3.logs import inspect_object

    conversations: dict[str, list[str]] = {}
    for dataset in context.catalog.logs:
        facts = load_log_facts(context.conn, context.catalog, context.params, conversations)
        for day, prefix in _days(context, dataset):
            judge = decider(context, facts, day)
            removed: dict[str, int] = {}
            kept = objects = 0
            for key in _keys(context, dataset, prefix):
                seen = inspect_object(context.s3, dataset.bucket, key, _fields(dataset), judge)
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
                    tallies=(*tallies, Tally("keep:not_due", kept)),
                    day=day,
                    deadline=datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=28),
                )


def expire_logs(context: RunContext, unit: str, conversations: dict[str, list[str]] | None = None) -> Progress:
    """Rewrite the objects of one day without their due records, each inside the gate.

    Args:
        conversations: see `load_log_facts`; to be shared by units that are carried out one right after the other.

    Raises:
        DispositionError: some objects could not be rewritten; they stand as they were, and the others were done.
    """
    name, day = unit.rsplit("/", 1)
    dataset = next(item for item in context.catalog.logs if item.id == name)
    lease = take_lease(context.conn, context.run.run_id, unit)
    row = load_unit(context.conn, context.run.run_id, unit)
    if row.status == "done":
        return row.progress
    write_intents(context, row)
    failed = 0
    known: dict[str, list[str]] = {} if conversations is None else conversations
    # Announcements are committed while the gate's own transaction is open, so they need a connection of their own.
    with connect() as aside:
        for key in _keys(context, dataset, f"{dataset.prefix}date={day}/"):
            try:
                act = partial(_rewrite, context, dataset, unit, key, known, row.day, aside)
                through_gate(context.conn, context.catalog, lease, act)
            except LifecycleError:
                failed += 1
    if failed:
        mark(context.conn, context.run.run_id, unit, "failed")
        raise DispositionError(unit, failed, {"objects failed": failed})
    through_gate(context.conn, context.catalog, lease, lambda gate: close_unit(context, unit))
    return load_unit(context.conn, context.run.run_id, unit).progress


def _key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _etag(context: RunContext, dataset: Logs, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        return context.s3.head_object(Bucket=dataset.bucket, Key=key)["ETag"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
            return None
        raise


def _announce(aside: Connection, context: RunContext, unit: str, key: str, seen: RewriteResult, etag: str) -> None:
    """Commit what is about to leave an object, so that a kill after the rewrite loses no count (promise 4)."""
    if seen.removed:
        aside.execute(
            "INSERT INTO lifecycle.log_intents (run_id, unit, key_sha256, etag, counts) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (run_id, unit, key_sha256) DO NOTHING",
            (context.run.run_id, unit, _key_hash(key), etag, Jsonb(dict(seen.removed))),
        )


def _rewrite(
    context: RunContext,
    dataset: Logs,
    unit: str,
    key: str,
    conversations: dict[str, list[str]],
    day: date,
    aside: Connection,
    gate: Gate,
) -> None:
    """Inside the gate: rewrite one object by the facts of now, and count what left it."""
    from lifecycle.stores.s3.logs import rewrite_object

    judge = decider(context, load_log_facts(gate.conn, context.catalog, context.params, conversations), day)
    announce = partial(_announce, aside, context, unit, key)
    done: RewriteResult = rewrite_object(context.s3, gate, dataset.bucket, key, _fields(dataset), judge, announce)
    removed = {rule: count for rule, count in done.removed.items() if count}
    if not removed and done.action != "held":
        removed = _announced(context, dataset, unit, key)
    if removed:
        counts = {f"delete:{rule}": {"records": n} for rule, n in removed.items()}
        record_progress(gate.conn, context.run.run_id, unit, counts)
    gate.conn.execute(
        "DELETE FROM lifecycle.log_intents WHERE run_id = %s AND unit = %s AND key_sha256 = %s",
        (context.run.run_id, unit, _key_hash(key)),
    )


def _announced(context: RunContext, dataset: Logs, unit: str, key: str) -> dict[str, int]:
    """What an earlier try took out of an object before it was killed: announced, and the object has changed since."""
    row = context.conn.execute(
        "SELECT etag, counts FROM lifecycle.log_intents WHERE run_id = %s AND unit = %s AND key_sha256 = %s",
        (context.run.run_id, unit, _key_hash(key)),
    ).fetchone()
    return dict(row[1]) if row is not None and row[0] != _etag(context, dataset, key) else {}
