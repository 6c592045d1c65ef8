"""The steps of a run, one function each, the same for Airflow's tasks and the command line.

Between steps travel ids and counts; plans and ledgers live in PostgreSQL (schema ``lifecycle``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lifecycle.catalog.models import Child
from lifecycle.config import load_configuration
from lifecycle.dispositions.blast_radius import ask, judge, release
from lifecycle.dispositions.context import ERASURE_SCOPE, RECORDS_SCOPE, SCOPES, RunContext
from lifecycle.dispositions.erasure import settle_requests
from lifecycle.dispositions.expire import expire as expire_partition
from lifecycle.dispositions.expire_leaf import expire_leaf
from lifecycle.dispositions.gate import Gate, take_lease, through_gate
from lifecycle.dispositions.landing import partition_landing
from lifecycle.dispositions.leaves import is_of_a_table, tend
from lifecycle.dispositions.log_announcements import dataset_of
from lifecycle.dispositions.log_announcements import settle as settle_announcements
from lifecycle.dispositions.log_rests import outcomes as rests_of
from lifecycle.dispositions.logs import expire_logs
from lifecycle.dispositions.native_rules import give_back
from lifecycle.dispositions.orphans import expire_orphans
from lifecycle.dispositions.plan_store import (
    add_unit,
    all_units,
    freeze,
    load_unit,
    mark,
    open_units,
    write_outcomes,
)
from lifecycle.dispositions.quarantine import quarantine_unit, sync_holds
from lifecycle.dispositions.records import expire_accounts, expire_records
from lifecycle.dispositions.rollup import roll_up
from lifecycle.dispositions.shield import known_to, shield_run
from lifecycle.dispositions.survey import survey
from lifecycle.dispositions.uploads import UPLOADS, expire_uploads
from lifecycle.dispositions.views import refresh_views
from lifecycle.errors import DispositionError, PreconditionError, ValidationFailedError
from lifecycle.ledger import runs
from lifecycle.ledger.approvals import Key
from lifecycle.orchestration.approval import refuse_locked, said, settle_configuration
from lifecycle.orchestration.backstop import retreat
from lifecycle.orchestration.checks import check_as_of, check_clocks, check_stores
from lifecycle.orchestration.neighbours import refuse_shared
from lifecycle.orchestration.schema import ensure_schema
from lifecycle.orchestration.session import run_context, shared_s3_client
from lifecycle.orchestration.standing import late_records
from lifecycle.orchestration.summary import summarise_units
from lifecycle.planning.cutoffs import cutoff_for
from lifecycle.planning.shards import shard_of
from lifecycle.planning.units import Method, Progress, Unit
from lifecycle.policy.models import Category
from lifecycle.stores.postgres.connect import Connection, connect
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.online.unfinished import refuse_unfinished
from lifecycle.stores.postgres.partitions import create_ahead, drain_default
from lifecycle.stores.postgres.reclaim import reclaim, reclaim_pending
from lifecycle.stores.postgres.samples import renew_above, roots_of

log = logging.getLogger(__name__)
EXPIRING = tuple(method.value for method in (Method.SWAP, Method.ROWS, Method.RECORDS, Method.LOGS, Method.ORPHANS))


def begin(
    scope: str,
    as_of: datetime,
    *,
    run_key: str | None = None,
    dry_run: bool = False,
    owner: Connection | None = None,
    requested_by: str = "schedule",
) -> int:
    """Check everything a run depends on and register it.

    Args:
        scope: a tier, ``records`` or ``erasure``.
        as_of: the run's frozen instant, aware; every step uses it and none reads a clock for policy.
        run_key: the caller's name of the run; the same key resumes the same run.
        owner: a connection that lives as long as the run (command line).
        requested_by: who started it; may not approve what it asks where the policy wants four eyes.

    Raises:
        ConfigurationError, PolicyLockedError, PreconditionError, RunInProgressError: nothing has been touched.
    """
    if scope not in SCOPES:
        raise PreconditionError(f"there is no scope {scope!r}; choose one of {', '.join(SCOPES)}")
    config = load_configuration()
    check_as_of(config.policy, as_of, datetime.now(UTC))
    s3 = shared_s3_client()
    with connect() as conn:
        ensure_schema(conn)
        refuse_shared(conn, config.catalog)
        check_stores(conn, s3, config.catalog)
        check_clocks(conn, s3, config.policy, config.catalog)
        refuse_locked(conn, config)
        if not dry_run and config.catalog.has_messages:
            refuse_unfinished(conn, config.catalog.messages.table)
        run = runs.begin(
            conn,
            scope=scope,
            as_of=as_of,
            run_key=run_key,
            hashes=(config.policy_hash, config.catalog_hash),
            dry_run=dry_run,
            owner=owner,
        )
        settle_configuration(conn, s3, config, run, requested_by=requested_by, now=datetime.now(UTC))
        if not dry_run:
            _close_abandoned(RunContext(conn, s3, config.policy, config.catalog, run))
        log.info("run %s of scope %s as of %s", run.run_key, scope, as_of.isoformat())
        return run.run_id


def _close_abandoned(context: RunContext) -> None:
    """Write down what dead runs of this scope had done when they died (promise 5: nothing unrecorded)."""
    for run_id, unit in runs.unfinished_of_abandoned(context.conn, context.run.scope):
        dead = RunContext(context.conn, context.s3, context.policy, context.catalog, runs.load(context.conn, run_id))
        lease = take_lease(context.conn, run_id, unit)

        def close(gate: Gate, dead: RunContext = dead, unit: str = unit) -> None:
            if (dataset := dataset_of(dead, unit)) is not None:
                settle_announcements(dead, dataset, unit, gate)
            write_outcomes(dead, load_unit(dead.conn, dead.run.run_id, unit))
            mark(dead.conn, dead.run.run_id, unit, "done")

        through_gate(context.conn, context.catalog, lease, close)


def partition(run_id: int) -> dict[str, int]:
    """Create partitions ahead, drain defaults, merge what is left of past days, move landing objects to their day."""
    with run_context(run_id) as context:
        counts = {"created": 0, "drained": 0, "moved": 0, "dropped": 0, "merged": 0}
        if context.run.dry_run or context.run.scope == ERASURE_SCOPE:
            return counts
        if context.run.scope == RECORDS_SCOPE:
            for dataset in context.catalog.tables:
                for name, count in tend(context, dataset).items():
                    counts[name] += count
            return counts
        for tier in context.tiers:
            counts["created"] += create_ahead(context.conn, context.messages, tier, context.run.as_of)
            if context.waits(context.messages.id):
                continue
            counts["drained"] += drain_default(context.conn, context.messages, tier)
            for name, count in roll_up(context, tier).items():
                counts[name] += count
            moved = partition_landing(context, tier)
            counts["moved"] += sum(part.get("objects", 0) for part in moved.values())
        return counts


def cutoffs(run_id: int) -> list[dict[str, str]]:
    """The clock values before which records of the run's tiers are due."""
    with run_context(run_id) as context:
        return [
            cutoff_for(context.policy, Category.PROMPTS_AND_OUTPUTS, tier, context.run.as_of).as_dict()
            for tier in context.tiers or (None,)
        ]


def plan(run_id: int, *, requested_by: str = "schedule") -> dict[str, Any]:
    """Freeze the plan: the partitions with dispositions and counts that exactly this run carries out.

    What is over a limit waits in it for an approval; a run that is resumed hands out what was approved meanwhile.
    """
    with run_context(run_id) as context:
        if context.run.planned_at is None:
            runs.note_late(context.conn, run_id, late_records(context))
            found, over = judge(context, survey(context))
            with context.conn.transaction():
                freeze(context.conn, run_id, found)
                if not context.run.dry_run:
                    ask(context, found, over, requested_by, datetime.now(UTC))
        elif not context.run.dry_run:
            release(context)
        return summarise_units(all_units(context.conn, run_id), planned=True) | _late(context)


def _late(context: RunContext) -> dict[str, dict[str, int]]:
    """What was past its deadline when the run was planned, by why (hard case 5)."""
    return {"late": runs.late(context.conn, context.run.run_id)}


def units(run_id: int) -> list[str]:
    """Names of the units still to be expired, the earliest deadline first; accounts are left to `settle`."""
    with run_context(run_id) as context:
        return [] if context.run.dry_run else open_units(context.conn, run_id, EXPIRING)


def shards(run_id: int) -> list[str]:
    """The same units in coarse groups, one per dataset, tier and month (some, of key ranges): what Airflow maps over.

    A task costs a fraction of a second before it does anything; a month of partitions is worth one.
    """
    return list(dict.fromkeys(map(shard_of, units(run_id))))


def expire_shard(run_id: int, shard: str) -> dict[str, int]:
    """Carry out every open unit of a shard; what fails is counted, and the others are done.

    Raises:
        DispositionError: some units failed.
    """
    done: dict[str, int] = {}
    failed = 0
    conversations: dict[str, list[str]] = {}
    for unit in [unit for unit in units(run_id) if shard_of(unit) == shard]:
        try:
            for fate, count in expire(run_id, unit, conversations).items():
                done[fate] = done.get(fate, 0) + count
        except DispositionError as error:
            log.error("%s", error)
            failed += error.failed
    if failed:
        raise DispositionError(shard, failed, done)
    return done


def quarantine(run_id: int) -> dict[str, int]:
    """Move flagged messages in, let cleared and expired ones out, and keep S3 legal holds in step with holds."""
    with run_context(run_id) as context:
        done: dict[str, int] = {}
        if context.run.dry_run:
            return done
        done["legal holds changed"] = sync_holds(context)
        if context.run.scope != ERASURE_SCOPE:
            done |= _out_of_reach(context)
        for unit in open_units(context.conn, run_id, [Method.QUARANTINE.value]):
            _add(done, quarantine_unit(context, unit))
        return done


def _out_of_reach(context: RunContext) -> dict[str, int]:
    """What S3 may not expire (any more) is taken out of its reach; only what was done is told."""
    key = Key(context.run.policy_hash, context.run.catalog_hash)
    known = known_to(context)
    retired = retreat(context.conn, context.s3, known, key, by=f"run {context.run.run_id}", now=datetime.now(UTC))
    told = {"tickets taken": shield_run(context), "lifecycle rules taken away": retired}
    by = f"run {context.run.run_id}"
    days = give_back(context.conn, context.s3, known, context.tiers, context.run.as_of, context.run.policy_hash, by=by)
    told["days taken back from S3"] = days
    return {name: count for name, count in told.items() if count}


def expire(run_id: int, unit: str, conversations: dict[str, list[str]] | None = None) -> dict[str, int]:
    """Carry out one unit of the plan.

    Args:
        conversations: see `load_log_facts`; shared by the units of a shard.
    """
    with run_context(run_id) as context:
        done: dict[str, int] = {}
        if context.run.dry_run:
            return done
        _add(done, carry_out(context, unit, conversations))
        return done


def carry_out(context: RunContext, unit: str, conversations: dict[str, list[str]] | None = None) -> Progress:
    """The same in the context of a run, which is no dry one. Returns what went, by fate."""
    row = load_unit(context.conn, context.run.run_id, unit)
    match row.method:
        case Method.LOGS:
            return expire_logs(context, unit, conversations)
        case Method.ORPHANS:
            return (expire_uploads if unit.startswith(UPLOADS) else expire_orphans)(context, unit)
        case Method.RECORDS:
            return expire_records(context, unit)
        case Method.SWAP if is_of_a_table(context, row.dataset):
            return expire_leaf(context, unit)
        case _:
            return expire_partition(context, unit)


def _add(done: dict[str, int], progress: Mapping[str, Mapping[str, int]]) -> None:
    for fate, counts in progress.items():
        done[fate] = done.get(fate, 0) + counts.get("records", 0)


def settle(run_id: int) -> dict[str, Any]:
    """Empty due accounts, write down what became of erasure requests, and sum the run up."""
    with run_context(run_id) as context:
        outcomes: dict[str, int] = {}
        if not context.run.dry_run:
            for unit in open_units(context.conn, run_id, [Method.ACCOUNTS.value]):
                expire_accounts(context, unit)
            if context.run.scope == ERASURE_SCOPE:
                outcomes = _settle_requests(context)
            # The children of what was dropped whole were deleted row by row (hard case 18).
            children = [table(child.table) for child in _message_children(context)]
            gone = any(n.get("children") for unit in all_units(context.conn, run_id) for n in unit.progress.values())
            reclaim(context.conn, run_id, "children", children, deleted=gone)
            reclaim_pending(context.conn)
            renew_above(context.conn, roots_of(context.conn, context.catalog))
            if refreshed := refresh_views(context):
                outcomes["views refreshed"] = refreshed
        summary = summarise_units(all_units(context.conn, run_id), planned=context.run.dry_run) | outcomes
        summary |= _late(context)
        if rests := rests_of(context.conn, run_id):
            summary["prepared"] = rests
        if asked := said(context.conn, context.run):
            summary["approvals"] = asked
        runs.summarise(context.conn, run_id, summary)
        return summary


def _message_children(context: RunContext) -> tuple[Child, ...]:
    return context.messages.children if context.catalog.has_messages else ()


def _settle_requests(context: RunContext) -> dict[str, int]:
    unit = "erasure_requests"
    add_unit(context.conn, context.run.run_id, Unit(unit, unit, Method.SETTLE, ()))
    lease = take_lease(context.conn, context.run.run_id, unit)
    outcomes = settle_requests(context, lease)
    mark(context.conn, context.run.run_id, unit, "done")
    return outcomes


def validate(run_id: int) -> dict[str, Any]:
    """Let Great Expectations judge the stores by queries of its own.

    Raises:
        ValidationFailedError: a promise is broken; counts per validation.
    """
    from lifecycle.validation.step import validate_run

    with run_context(run_id) as context:
        if context.run.dry_run:
            return {"validated": 0}
        report = validate_run(context.conn, context.s3, run_id)
        if report.failures:
            raise ValidationFailedError(report.failures)
        return {"validated": report.checked}


def certify(run_id: int) -> dict[str, Any]:
    """Write the run's ledger to the evidence bucket, write-once, and close the run as succeeded."""
    from lifecycle.ledger.evidence import write_evidence

    with run_context(run_id) as context:
        found: dict[str, Any] = {}
        if not context.run.dry_run:
            found = write_evidence(context)
        runs.finish(context.conn, run_id, "succeeded")
        return found


def fail(run_id: int) -> None:
    """Close a run as failed. It can be resumed; what it did is in its units and in the ledger."""
    with connect() as conn:
        runs.finish(conn, run_id, "failed")
