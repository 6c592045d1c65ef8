"""Days that are left to S3 (``expire: native``): one lifecycle rule for the prefix of one day of one tier.

Under the gate a run sees that all of the day is due and that no exception names any of it, and puts the rule there; the
next runs only look whether the prefix is empty, and then close the day as always: objects first (there are none), rows
last. Whatever speaks against it in between takes the rule away before anything else (native_rules.py).
"""

from __future__ import annotations

import logging
import re
from datetime import date
from functools import partial

from lifecycle.backstop.compare import normal
from lifecycle.backstop.native import (
    NativeDay,
    Verdict,
    added,
    days_reached,
    in_the_way,
    rule_id_of,
    stands,
    time_needed,
    verdict,
)
from lifecycle.backstop.standing import APPROVE, read_rules
from lifecycle.dispositions.batching import short_of_plan
from lifecycle.dispositions.context import ERASURE_SCOPE, RunContext, UnitRow
from lifecycle.dispositions.gate import Gate, UnitLease, through_gate
from lifecycle.dispositions.native_rules import (
    EMPTIED,
    TAKEN_OVER,
    WITHDRAWN,
    default_rule,
    end,
    entry,
    locked,
    objection,
    take_away,
)
from lifecycle.dispositions.plan_store import close_unit, mark, record_progress
from lifecycle.errors import DispositionError, PreconditionError, VerificationError
from lifecycle.ledger import approvals, chain
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres import native_rules as written
from lifecycle.stores.postgres.tree import Partition
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.lifecycle_rules import replace_rules
from lifecycle.stores.s3.prefixes import Contents, is_empty, keys_below

log = logging.getLogger(__name__)
# What a run leaves to S3: shown as kept, and due again in the next run.
LEFT_FATE = "keep:left_to_s3"
_PAGE = 1_000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def would_leave(context: RunContext, tier: Tier, leaf: Partition) -> bool:
    """Whether a run would leave a due partition to S3 now, as far as that shows without a listing. Reads only."""
    objects = context.messages.objects
    if objects.expire != "native" or _objection(context, tier, leaf) is not None or leaf.lower is None:
        return False
    standing = written.standing_of(context.conn, objects.bucket, objects.day_prefix(tier.value, leaf.lower.date()))
    return _verdict(context, tier, leaf, standing) is not Verdict.REQUESTS


def left_to_s3(context: RunContext, lease: UnitLease, row: UnitRow, leaf: Partition) -> bool:
    """Leave a unit to S3, or to S3 for longer, and close it for this run; False where the run must do the work itself.

    Then no rule of ours stands for its prefix any more.
    """
    objects = context.messages.objects
    if row.tier is None or row.day is None or row.unit.rsplit("/", 1)[1] != leaf.label:
        return False
    standing = written.standing_of(context.conn, objects.bucket, objects.day_prefix(row.tier, row.day))
    if standing is None and objects.expire != "native":
        return False
    tier = Tier(row.tier)
    because = _objection(context, tier, leaf)
    if because is not None:
        return _by_requests(context, row, standing, WITHDRAWN, because)
    match _verdict(context, tier, leaf, standing):
        case Verdict.REQUESTS:
            return _by_requests(context, row, standing, TAKEN_OVER, "there is no time to wait for S3")
        case Verdict.WAIT if standing is None:
            through_gate(context.conn, context.catalog, lease, partial(_close_left, context, row.unit))
            return True
        case Verdict.LEAVE if standing is None:
            return _place(context, lease, row, leaf, tier)
    return _wait_on(context, lease, row, standing)


def _objection(context: RunContext, tier: Tier, leaf: Partition) -> str | None:
    if context.run.scope == ERASURE_SCOPE:
        return "a person's request does not wait for S3"
    if context.guard is not None:
        return "the configuration is not approved"
    return objection(context.conn, context.policy, context.catalog, tier, leaf, context.run.as_of)


def _verdict(context: RunContext, tier: Tier, leaf: Partition, standing: NativeDay | None) -> Verdict:
    from lifecycle.stores.s3.buckets import keeps_versions

    rule = default_rule(context.policy, context.catalog, tier)
    if rule is None or leaf.lower is None or leaf.upper is None:
        return Verdict.REQUESTS
    needed = time_needed(versioned=keeps_versions(context.s3, context.messages.objects.bucket))
    return verdict(
        context.policy, rule, leaf.lower, leaf.upper, context.run.as_of, needed, standing=standing is not None
    )


def _by_requests(context: RunContext, row: UnitRow, standing: NativeDay | None, outcome: str, because: str) -> bool:
    """The run does the work itself. Always False.

    Raises:
        DispositionError: its rule could not be taken away; then nothing is done by requests either.
    """
    log.info("a day is not left to S3: %s", because)
    if standing is not None:
        by, at, policy = f"run {context.run.run_id}", context.run.as_of, context.run.policy_hash
        if failed := take_away(context.conn, context.s3, [standing], outcome, policy, by=by, at=at):
            mark(context.conn, context.run.run_id, row.unit, "failed")
            raise DispositionError(row.unit, failed, {"lifecycle rules that could not be taken away": failed})
    return False


def _wait_on(context: RunContext, lease: UnitLease, row: UnitRow, standing: NativeDay | None) -> bool:
    """S3 is at work: look whether it is done."""
    if standing is None or not stands(read_rules(context.s3, standing.bucket) or (), standing):
        return _by_requests(context, row, standing, WITHDRAWN, "its rule is not in the bucket as it was written")
    if is_empty(context.s3, standing.bucket, standing.prefix):
        return _by_requests(context, row, standing, EMPTIED, "S3 has emptied it")
    through_gate(context.conn, context.catalog, lease, partial(_close_left, context, row.unit))
    return True


def _close_left(context: RunContext, unit: str, gate: Gate) -> None:
    left = short_of_plan(context, unit)
    record_progress(gate.conn, context.run.run_id, unit, {LEFT_FATE: {"records": left}})
    close_unit(context, unit)


def _place(context: RunContext, lease: UnitLease, row: UnitRow, leaf: Partition, tier: Tier) -> bool:
    """Write the rule down, then put it into the bucket inside the gate; False where something is in its way."""
    objects = context.messages.objects
    prefix = objects.day_prefix(tier.value, row.day)
    because = _in_the_store(context, prefix, leaf)
    found = None if because is not None else _listed(context, prefix, tier, row.day, leaf)
    rule = default_rule(context.policy, context.catalog, tier)
    if found is None or found.newest is None or rule is None:
        return _by_requests(
            context, row, None, WITHDRAWN, because or "there is nothing, or something that no row names"
        )
    day = NativeDay(
        native_id=0,
        rule_id=rule_id_of(row.dataset, tier.value, row.day),
        bucket=objects.bucket,
        prefix=prefix,
        dataset=row.dataset,
        tier=tier.value,
        day=row.day,
        days=days_reached(found.newest, context.run.as_of),
        rule=rule.id,
        run_id=context.run.run_id,
        objects=found.objects,
        versions=found.versions,
        bytes=found.bytes,
        placed_at=context.run.as_of,
    )
    by = f"run {context.run.run_id}"
    with context.conn.transaction():
        day = written.write_down(context.conn, day)
        counts = {"objects": day.objects, "versions": day.versions, "bytes": day.bytes, "days": day.days}
        chain.append(
            context.conn, entry(day, APPROVE, "left to S3", counts, context.run.policy_hash, by, context.run.as_of)
        )
    try:
        if through_gate(context.conn, context.catalog, lease, partial(_put, context, row.unit, day, leaf, tier)):
            return True
        because = "an exception has come"
    except (StoreError, VerificationError, PreconditionError) as error:
        because = str(error)
    if not any(rule.get("ID") == day.rule_id for rule in read_rules(context.s3, day.bucket) or ()):
        end(context.conn, context.s3, day, WITHDRAWN, context.run.policy_hash, by=by, at=context.run.as_of)
        return _by_requests(context, row, None, WITHDRAWN, because)
    return _by_requests(context, row, day, WITHDRAWN, because)


def _put(context: RunContext, unit: str, day: NativeDay, leaf: Partition, tier: Tier, gate: Gate) -> bool:
    """Inside the gate: judge the day once more, and put its rules into the bucket."""
    if _objection(context, tier, leaf) is not None:
        return False
    approvals.take_turns(gate.conn)
    gate.check()
    replace_rules(context.s3, day.bucket, partial(added, rules=day.rules), normal)
    _close_left(context, unit, gate)
    log.info("%s: a day of %d object(s) is left to S3", day.rule_id, day.objects)
    return True


def _in_the_store(context: RunContext, prefix: str, leaf: Partition) -> str | None:
    """What of the bucket, or of the keys that rows name, speaks against a rule for a prefix."""
    bucket = context.messages.objects.bucket
    current = read_rules(context.s3, bucket)
    if current is None:
        return "the lifecycle rules of the bucket may not be read"
    if (because := locked(context.s3, bucket)) is not None:
        return because
    if (because := in_the_way(current, prefix)) is not None:
        return because
    if written.keys_elsewhere(context.conn, context.messages, leaf.identifier, prefix):
        return "some of its objects lie elsewhere"
    return None


def _listed(context: RunContext, prefix: str, tier: Tier, day: date, leaf: Partition) -> Contents | None:
    """What lies below a prefix; None where some key there is not of a row of this very day (hard case 13)."""
    objects, found, page = context.messages.objects, Contents(), list[str]()
    tail = objects.partitioned.partition("{record}")[2]

    def all_named() -> bool:
        rows = written.named(context.conn, context.messages, leaf.identifier, tier.value, day, page)
        return rows == len(page)

    for key, versions in keys_below(context.s3, objects.bucket, prefix):
        record = key[len(prefix) : len(key) - len(tail)]
        if not key.endswith(tail) or _UUID.fullmatch(record) is None:
            return None
        found = found.with_key(versions)
        page.append(record)
        if len(page) == _PAGE:
            if not all_named():
                return None
            page.clear()
    return found if all_named() else None
