"""Lifecycle rules for single days (``expire: native``): what speaks against one, and how it goes.

Taking one away destroys nothing, so it needs no gate and no run: cron does it while Airflow is down
(`lifecycle s3 shield`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.backstop.compare import normal
from lifecycle.backstop.native import NativeDay, is_native, refused, wholly_due, without
from lifecycle.backstop.standing import LEDGER, WITHDRAW, days_left_to_s3, read_rules
from lifecycle.catalog.models import Catalog
from lifecycle.dispositions.shield import AHEAD
from lifecycle.errors import LifecycleError, NativeRuleError
from lifecycle.ledger import approvals, chain
from lifecycle.policy.models import Policy, Rule, Tier, Trigger
from lifecycle.stores.postgres import native_rules as written
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.exceptional import is_held_whole, leaf_source, named_rows
from lifecycle.stores.postgres.fates import fate_parameters
from lifecycle.stores.postgres.tree import Partition, partitions_of
from lifecycle.stores.s3.lifecycle_rules import replace_rules
from lifecycle.stores.s3.locks import bucket_has_object_lock
from lifecycle.stores.s3.prefixes import Contents, contents, uncover

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
EMPTIED, WITHDRAWN, TAKEN_OVER = "emptied", "withdrawn", "taken over"
# S3 may still be carrying out what a rule had begun when it is taken away.
AFTERWARDS = timedelta(days=2)
# The server's clock and that of S3 may differ by thresholds.clock_skew, which is less.
_SKEW = timedelta(minutes=5)


def default_rule(policy: Policy, catalog: Catalog, tier: Tier) -> Rule | None:
    return policy.rule_for(Trigger.DEFAULT, catalog.messages.category, tier)


def objection(
    conn: Connection, policy: Policy, catalog: Catalog, tier: Tier, leaf: Partition, as_of: datetime
) -> str | None:
    """What speaks against leaving a day to S3, whether or not all of it is due yet; None where nothing does."""
    rule = default_rule(policy, catalog, tier) if catalog.has_messages else None
    if rule is None or (because := refused(policy, catalog, tier)) is not None:
        return because if rule is not None else "no rule decides there"
    if not isinstance(catalog.messages.clock, str):
        return "its clock is no timestamptz, and only days by such a clock are left to S3"
    if leaf.lower is None or not leaf.bounded or leaf.label != leaf.lower.date().isoformat():
        return "the partition is not one day"
    # What begins before the next shield counts already.
    found = (_excepted(conn, policy, catalog, leaf, tier, rule, at) for at in (as_of, as_of + AHEAD))
    return next((reason for reason in found if reason is not None), None)


def _excepted(
    conn: Connection, policy: Policy, catalog: Catalog, leaf: Partition, tier: Tier, rule: Rule, at: datetime
) -> str | None:
    source, params = leaf_source(policy, catalog, tier, leaf.identifier), fate_parameters(policy, at)
    if is_held_whole(conn, source, params):
        return "a hold names the whole dataset"
    ordinary = sql.SQL(", ").join(sql.Literal(f"{fate}:{rule.id}") for fate in ("keep", "delete"))
    found = conn.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM ({}) n WHERE n.fate NOT IN ({}))").format(named_rows(source), ordinary),
        params,
    ).fetchone()
    return None if found is not None and not found[0] else "an exception names something of it"


def day_of(conn: Connection, catalog: Catalog, tier: Tier, day: NativeDay) -> Partition | None:
    """The partition that a rule is about; None when it is gone, or merged into a larger one."""
    leaves = partitions_of(conn, catalog.messages, tier) if catalog.has_messages else []
    return next((leaf for leaf in leaves if leaf.label == day.day.isoformat()), None)


def _may_not_stand(conn: Connection, policy: Policy, catalog: Catalog, day: NativeDay, as_of: datetime) -> str | None:
    """Why a rule that stands must go; None where it may stay."""
    tier = Tier(day.tier)
    leaf = day_of(conn, catalog, tier, day)
    if leaf is None or leaf.upper is None:
        return "its partition is gone"
    if day.bucket != catalog.messages.objects.bucket:
        return "the objects are in another bucket now"
    rule = default_rule(policy, catalog, tier)
    if rule is not None and not wholly_due(policy, rule, leaf.upper, as_of):
        return "not all of it is due any more"
    return objection(conn, policy, catalog, tier, leaf, as_of)


def _may_not_stand_under(
    conn: Connection, s3: S3Client, known: Sequence[tuple[Policy, Catalog]], day: NativeDay, as_of: datetime
) -> str | None:
    reasons = (_may_not_stand(conn, policy, catalog, day, as_of) for policy, catalog in known)
    found = next((reason for reason in reasons if reason is not None), None)
    return found if found is not None else locked(s3, day.bucket)


def locked(s3: S3Client, bucket: str) -> str | None:
    """Whether versions of a bucket may be locked, which the rule of a day does not know."""
    if bucket_has_object_lock(s3, bucket):
        return "the bucket has Object Lock, and S3 would lay delete markers over what is locked (hard case 3)"
    return None


def give_back(
    conn: Connection,
    s3: S3Client,
    known: Sequence[tuple[Policy, Catalog]],
    tiers: Sequence[Tier],
    as_of: datetime,
    policy_hash: str,
    *,
    by: str,
) -> int:
    """Take away every rule for a day that may not be left to S3 (any more). Returns how many rules went.

    Asks nothing of S3 where no such rule stands and no dataset file speaks of any.

    Raises:
        NativeRuleError: some could not be taken away.
    """
    reached = []
    for day in days_left_to_s3(conn):
        if day.tier in tiers and (because := _may_not_stand_under(conn, s3, known, day, as_of)) is not None:
            log.warning("%s is taken away: %s", day.rule_id, because)
            reached.append(day)
    failed = take_away(conn, s3, reached, WITHDRAWN, policy_hash, by=by, at=as_of)
    gone = len(reached) - failed
    if any(catalog.has_messages and catalog.messages.objects.expire == "native" for _, catalog in known):
        gone += _strangers(conn, s3, {catalog.messages.objects.bucket for _, catalog in known if catalog.has_messages})
        _uncover_again(conn, s3)
    if failed:
        raise NativeRuleError(failed, failed + gone)
    return gone


def take_away_all(conn: Connection, s3: S3Client, policy_hash: str, *, by: str, at: datetime) -> int:
    """Take away every rule for a day, whatever speaks for it. Returns how many went.

    Raises:
        NativeRuleError: some could not be taken away.
    """
    days = days_left_to_s3(conn)
    if failed := take_away(conn, s3, days, WITHDRAWN, policy_hash, by=by, at=at):
        raise NativeRuleError(failed, len(days))
    return len(days)


def take_away(
    conn: Connection,
    s3: S3Client,
    days: Sequence[NativeDay],
    outcome: str,
    policy_hash: str,
    *,
    by: str,
    at: datetime,
) -> int:
    """Take the rules of some days out of their buckets, all at once; then uncover what they hid, and say so in the
    ledger with what is left there. Returns of how many days the rules still stand.
    """
    failed = 0
    for bucket in sorted({day.bucket for day in days}):
        those = [day for day in days if day.bucket == bucket]
        try:
            with conn.transaction():
                approvals.take_turns(conn)
                # Written though a reading does not show them: it may be of a while ago.
                ids = {rule.id for day in those for rule in day.rules}
                replace_rules(s3, bucket, partial(without, ids=ids), normal)
        except LifecycleError as error:
            log.error("bucket %s: the rules of %d day(s) could not be taken away: %s", bucket, len(those), error)
            failed += len(those)
            continue
        for day in those:
            end(conn, s3, day, outcome, policy_hash, by=by, at=at)
    return failed


def end(
    conn: Connection, s3: S3Client, day: NativeDay, outcome: str, policy_hash: str, *, by: str, at: datetime
) -> None:
    """Say in the ledger that a day's rules are out of the bucket, and what a listing finds there now."""
    if outcome == WITHDRAWN:
        _uncover(s3, day)
    left = _left(s3, day) if outcome != EMPTIED else Contents()
    with conn.transaction():
        if written.end(conn, day, outcome):
            counts = {} if left is None else {"objects": left.objects, "versions": left.versions}
            chain.append(conn, entry(day, WITHDRAW, outcome, counts, policy_hash, by, at))


def _left(s3: S3Client, day: NativeDay) -> Contents | None:
    try:
        return contents(s3, day.bucket, day.prefix)
    except LifecycleError as error:
        log.error("%s: what is left of its day could not be listed: %s", day.rule_id, error)
        return None


def _strangers(conn: Connection, s3: S3Client, buckets: set[str]) -> int:
    """Take away rules for days that nobody has written down: of a database that was restored, or made by hand."""
    gone = 0
    for bucket in sorted(buckets):
        with conn.transaction():
            approvals.take_turns(conn)
            known = {rule.id for day in days_left_to_s3(conn) for rule in day.rules}
            unknown = {str(rule["ID"]) for rule in read_rules(s3, bucket) or () if is_native(rule)} - known
            if unknown:
                log.warning("bucket %s: %d rule(s) for days that nobody has written down", bucket, len(unknown))
                replace_rules(s3, bucket, partial(without, ids=unknown), normal)
                gone += len(unknown)
    return gone


def _uncover_again(conn: Connection, s3: S3Client) -> None:
    for day in written.withdrawn_since(conn, AFTERWARDS):
        _uncover(s3, day)


def _uncover(s3: S3Client, day: NativeDay) -> None:
    """In a bucket with versions S3 has hidden first: what must stay is brought back. Failing that, by the next run."""
    try:
        seen = uncover(s3, day.bucket, day.prefix, day.placed_at - _SKEW)
    except LifecycleError as error:
        log.error("%s: what it has hidden could not be brought back yet: %s", day.rule_id, error)
        return
    if seen:
        log.warning("%s: %d delete marker(s) that it had placed were taken away", day.rule_id, seen)


def entry(
    day: NativeDay, disposition: str, outcome: str, counts: Mapping[str, int], policy_hash: str, by: str, at: datetime
) -> chain.Entry:
    """What the ledger says of a rule for a day: `APPROVE` when it is placed, `WITHDRAW` when it goes."""
    unit = f"native/{day.dataset}/{day.tier}/{day.day.isoformat()}"
    return chain.Entry(
        run_id=approvals.NO_RUN,
        run_key=unit,
        as_of=at,
        entry="decision",
        scope=LEDGER,
        dataset=LEDGER,
        unit=unit,
        disposition=disposition,
        rule=day.rule,
        counts={"by": by, "s3_rule": day.rule_id, "what": outcome, **counts},
        cutoff=None,
        policy_hash=policy_hash,
        started_at=at,
    )
