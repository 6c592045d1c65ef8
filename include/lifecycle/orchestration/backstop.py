"""Applies the backstop's rules, or takes them away: by name, in the ledger, and read back (hard cases 20 and 28)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from lifecycle.backstop.compare import Finding, foreign, is_ours, merged, normal, own_digest, too_early, wanted_digest
from lifecycle.backstop.compile import compile_backstop
from lifecycle.backstop.models import NativeRule
from lifecycle.backstop.standing import APPROVE, LEDGER, WITHDRAW, approved_for, read_rules, unit_of
from lifecycle.catalog.models import Catalog
from lifecycle.config import Configuration
from lifecycle.dispositions.native_rules import give_back, take_away_all
from lifecycle.errors import ApprovalError, BackstopConflictError, PreconditionError
from lifecycle.ledger import approvals, chain
from lifecycle.ledger.approvals import Key
from lifecycle.ledger.evidence import write_decisions
from lifecycle.orchestration.approval import key_of, recall, thresholds
from lifecycle.policy.models import Policy, Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.s3.lifecycle_rules import replace_rules

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)


def apply_backstop(
    conn: Connection, s3: S3Client, config: Configuration, *, by: str, asked_by: str, now: datetime
) -> list[str]:
    """Put our rules into every bucket of the dataset file, beside those of others. Returns the buckets that changed.

    Raises:
        ApprovalError: this person may not approve, or the configuration itself is not the approved one.
        BackstopConflictError: somebody else's rules would remove what must stay.
        PreconditionError: a bucket's rules may not be read.
        VerificationError: a bucket did not keep what was written; its former rules stand.
    """
    _refuse(conn, config, by, asked_by)
    if approvals.in_force(conn) != key_of(config):
        raise ApprovalError(
            "the loaded policy and dataset file are not the configuration in force, and S3 would carry them out; "
            "approve them first (`lifecycle policy status` shows what is in force)"
        )
    backstop = compile_backstop(config.policy, config.catalog)
    conflicts = [found for bucket in backstop.buckets for found in foreign(backstop, bucket, _rules(s3, bucket))]
    if conflicts:
        raise BackstopConflictError(_per_bucket(conflicts))
    return _settle(conn, s3, config, {bucket: backstop.rules(bucket) for bucket in backstop.buckets}, by=by, now=now)


def remove_backstop(
    conn: Connection, s3: S3Client, config: Configuration, *, by: str, asked_by: str, now: datetime
) -> list[str]:
    """Take our rules, and only ours, out of every bucket: nothing is destroyed by that. Returns what changed.

    Also those for single days; where the dataset file says ``expire: native``, the next run leaves days to S3 again.

    Raises:
        ApprovalError: this person may not decide.
    """
    _refuse(conn, config, by, asked_by)
    take_away_all(conn, s3, config.policy_hash, by=by, at=now)
    backstop = compile_backstop(config.policy, config.catalog)
    return _settle(conn, s3, config, dict.fromkeys(backstop.buckets, ()), by=by, now=now)


def retreat(
    conn: Connection, s3: S3Client, known: Sequence[tuple[Policy, Catalog]], key: Key, *, by: str, now: datetime
) -> int:
    """Take away those of our rules that act earlier than any of some configurations allows. Returns how many.

    Needs nobody's approval: it only keeps. What is left to do (`--apply`) the daily check tells.
    """
    compiled = [compile_backstop(policy, catalog) for policy, catalog in known]
    taken = 0
    for bucket in dict.fromkeys(bucket for each in compiled for bucket in each.buckets):
        said = approved_for(conn, bucket)
        if said is None or said.rules_sha256 is None:
            continue
        there = _rules(s3, bucket)
        early = {rule["ID"] for rule in there if any(too_early(rule, each.rules(bucket)) for each in compiled)}
        if not early:
            continue
        rest = [rule for rule in there if rule.get("ID") not in early]
        ours = sum(map(is_ours, rest))
        with conn.transaction():
            approvals.take_turns(conn)
            chain.append(conn, _entry(key, bucket, own_digest(rest), ours, by, now, rule="retreat"))
            replace_rules(s3, bucket, partial(_without, ids=early), normal)
        log.warning("bucket %s: %d lifecycle rule(s) would act too early and were taken away", bucket, len(early))
        taken += len(early)
    return taken


def retreat_to(conn: Connection, s3: S3Client, key: Key, *, by: str, now: datetime) -> int:
    """The same for a configuration that has just been put in force. Returns how many rules were taken away."""
    known = recall(conn, key)
    if known is None:
        return 0
    both = [(known.policy, known.catalog)]
    days = give_back(conn, s3, both, tuple(Tier), now, key.policy_hash, by=by)
    return days + retreat(conn, s3, both, key, by=by, now=now)


def _without(rules: Sequence[Mapping[str, Any]], ids: Collection[Any]) -> list[Mapping[str, Any]]:
    return [rule for rule in rules if rule.get("ID") not in ids]


def _refuse(conn: Connection, config: Configuration, by: str, asked_by: str) -> None:
    rules = thresholds(conn, config)
    if rules.approvers and by not in rules.approvers:
        raise ApprovalError(f"{by} is not among the approvers that the policy in force names")
    if rules.four_eyes and by == asked_by:
        raise ApprovalError(f"{by} asks for this, and the policy in force wants a second pair of eyes")


def _rules(s3: S3Client, bucket: str) -> Sequence[dict[str, Any]]:
    found = read_rules(s3, bucket)
    if found is None:
        raise PreconditionError(
            f"the lifecycle rules of bucket {bucket!r} may not be read; grant s3:GetLifecycleConfiguration and "
            "s3:PutLifecycleConfiguration to this key"
        )
    return found


def _per_bucket(found: Sequence[Finding]) -> dict[str, int]:
    return {bucket: sum(each.bucket == bucket for each in found) for bucket in sorted({each.bucket for each in found})}


def _settle(
    conn: Connection,
    s3: S3Client,
    config: Configuration,
    wanted: Mapping[str, Sequence[NativeRule]],
    *,
    by: str,
    now: datetime,
) -> list[str]:
    changed = []
    for bucket, rules in wanted.items():
        before, said, after = own_digest(_rules(s3, bucket)), approved_for(conn, bucket), wanted_digest(rules)
        if before == after == (said.rules_sha256 if said is not None else None):
            continue
        # One transaction: what S3 refuses is not recorded, and what is not recorded the daily check calls by name.
        with conn.transaction():
            approvals.take_turns(conn)
            chain.append(conn, _entry(key_of(config), bucket, after, len(rules), by, now))
            replace_rules(s3, bucket, partial(merged, wanted=rules), normal)
        changed.append(bucket)
        log.info("bucket %s: %d lifecycle rule(s) of ours", bucket, len(rules))
    write_decisions(conn, s3, config.catalog.evidence_bucket)
    return changed


def _entry(
    key: Key, bucket: str, rules: str | None, count: int, by: str, now: datetime, rule: str | None = None
) -> chain.Entry:
    return chain.Entry(
        run_id=approvals.NO_RUN,
        run_key=unit_of(bucket),
        as_of=now,
        entry="decision",
        scope=LEDGER,
        dataset=LEDGER,
        unit=unit_of(bucket),
        disposition=APPROVE if rules is not None else WITHDRAW,
        rule=rule or ("applied" if rules is not None else "removed"),
        counts={"by": by, "rules": count, "rules_sha256": rules or "", "datasets_sha256": key.catalog_hash},
        cutoff=None,
        policy_hash=key.policy_hash,
        started_at=now,
    )
