"""Settles what a run may carry out: its own configuration, or only what the one in force decides alike (case 20)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lifecycle.catalog.models import Catalog
from lifecycle.config import Configuration
from lifecycle.errors import PolicyLockedError, Problem
from lifecycle.ledger import approvals, runs
from lifecycle.ledger.approvals import Approval, Key, Request
from lifecycle.ledger.evidence import write_decisions
from lifecycle.ledger.runs import Run
from lifecycle.planning.policy_diff import PolicyDiff
from lifecycle.policy import lock
from lifecycle.policy.load import read_policy
from lifecycle.policy.models import Approval as Thresholds
from lifecycle.policy.models import Policy
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.guard import Guard, guard_of
from lifecycle.stores.postgres.policy_diff import measure
from lifecycle.stores.postgres.policy_sources import Pair
from lifecycle.stores.postgres.sizes import total_records
from lifecycle.yaml_source import show

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
AUTOMATIC = "lifecycle"
# Stands for "whatever was in force before there was a register": nothing can be compared with it.
UNKNOWN = Key("unknown", "unknown")


class Status(StrEnum):
    """How a loaded configuration stands to the one in force."""

    IN_FORCE = "in_force"
    FIRST = "first"
    CARRIED_OVER = "carried_over"
    BELOW_THRESHOLDS = "below_thresholds"
    ASK = "ask"
    ASKED = "asked"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Standing:
    """``guard``: the configuration in force that the run is bound to; None when it may do all that its own says."""

    status: Status
    guard: Key | None = None
    diff: PolicyDiff | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Known:
    """A configuration of the register, compiled again."""

    key: Key
    policy: Policy
    catalog: Catalog


def key_of(config: Configuration) -> Key:
    return Key(config.policy_hash, config.catalog_hash)


def recall(conn: Connection, key: Key) -> Known | None:
    """A configuration of the register; None when it is not there, or this version cannot read it any more."""
    found = approvals.documents(conn, key)
    if found is None:
        return None
    try:
        return Known(key, Policy.model_validate(found[0]), Catalog.model_validate(found[1]))
    except ValidationError:
        log.warning("configuration %s of the register cannot be read by this version", key.short)
        return None


def guard_of_run(conn: Connection, config: Configuration, run: Run) -> Guard | None:
    """The guard that a run was begun under; None when its configuration was in force."""
    if run.guard_policy is None or run.guard_catalog is None:
        return None
    known = recall(conn, Key(run.guard_policy, run.guard_catalog))
    return guard_of(conn, config.catalog, known.policy if known else None, known.catalog if known else None)


def refuse_locked(conn: Connection, config: Configuration) -> None:
    """Refuse a policy that changes what the lock of the one in force protects.

    Raises:
        PolicyLockedError: with every violation, by file, line and field.
    """
    force = approvals.in_force(conn) if approvals.kept(conn) else None
    if force is None or force == key_of(config):
        return
    known = recall(conn, force)
    found = list(lock.violations(known.policy, config.policy)) if known else []
    if found:
        source = read_policy(config.policy_path).source
        raise PolicyLockedError(
            [
                Problem(source.file, source.line(item.where), show(item.where), item.message, item.remedy)
                for item in found
            ]
        )


def compare(conn: Connection, old: Known, new: Known, as_of: datetime) -> PolicyDiff:
    """What a change from one configuration to another does to the records there are now."""
    waiting = guard_of(conn, new.catalog, old.policy, old.catalog).waiting
    gone = {dataset.id for dataset in old.catalog.datasets} - {dataset.id for dataset in new.catalog.datasets}
    pair = Pair(old.policy, old.catalog, new.policy, new.catalog, as_of)
    return PolicyDiff(
        as_of=as_of,
        changes=measure(conn, pair, waiting),
        total=total_records(conn, new.catalog),
        waiting=tuple(sorted(waiting | gone)),
        loosened=lock.loosened(old.policy, new.policy),
        already=approvals.touched_without_a_name(conn) if approvals.kept(conn) else 0,
    )


def loaded(config: Configuration) -> Known:
    return Known(key_of(config), config.policy, config.catalog)


def standing(conn: Connection, config: Configuration, as_of: datetime) -> Standing:
    """How the loaded configuration stands. Reads only, so that a dry run foretells the run."""
    if not approvals.kept(conn):
        return Standing(Status.FIRST)
    key, force = key_of(config), approvals.in_force(conn)
    if key == force:
        return Standing(Status.IN_FORCE)
    if force is None:
        if approvals.is_new_here(conn):
            return Standing(Status.FIRST)
        if approvals.of_last_run(conn) == key:
            return Standing(Status.CARRIED_OVER)
    asked = approvals.latest(conn, key)
    if asked is not None and asked.status in (approvals.PENDING, approvals.REJECTED):
        status = Status.ASKED if asked.status == approvals.PENDING else Status.REJECTED
        return Standing(status, force or UNKNOWN)
    known = recall(conn, force) if force is not None else None
    if known is None:
        return Standing(Status.ASK, force or UNKNOWN, reason="there is nothing that it could be compared with")
    diff = compare(conn, known, loaded(config), as_of)
    reason = diff.needs_a_name(known.policy.approval)
    if reason is None:
        return Standing(Status.BELOW_THRESHOLDS, diff=diff)
    return Standing(Status.ASK, force, diff, reason)


def settle_configuration(
    conn: Connection, s3: S3Client, config: Configuration, run: Run, *, requested_by: str, now: datetime
) -> None:
    """Bind a run to the configuration it may carry out, and ask where it is not its own. A planned run stays bound."""
    if run.planned_at is not None:
        return
    decided = None
    with conn.transaction():
        approvals.take_turns(conn)
        found = standing(conn, config, run.as_of)
        if not run.dry_run:
            approvals.remember(conn, key_of(config), *plain(config), now)
            decided = _write_down(conn, config, run, found, requested_by, now)
        runs.guard(conn, run.run_id, found.guard)
    if decided is not None:
        write_decisions(conn, s3, config.catalog.evidence_bucket)
    if found.guard is not None:
        log.warning(
            "configuration %s is not approved%s: this run does only what the one in force decides alike;"
            " see `lifecycle policy status`",
            key_of(config).short,
            f" ({found.reason})" if found.reason else "",
        )


def _write_down(
    conn: Connection, config: Configuration, run: Run, found: Standing, requested_by: str, now: datetime
) -> int | None:
    """Ask, or approve automatically. Returns the number of what was decided at once."""
    if found.status in (Status.IN_FORCE, Status.ASKED, Status.REJECTED):
        return None
    asked = approvals.ask(
        conn,
        Request(approvals.POLICY, key_of(config), shown(found, run.as_of), requested_by, now, run.run_id),
    )
    if found.status is Status.ASK:
        return None
    approvals.decide(conn, asked, approvals.AUTOMATIC, by=AUTOMATIC, at=now, comment=_WHY[found.status])
    log.info("configuration %s approved itself: %s", key_of(config).short, _WHY[found.status])
    return asked


_WHY = {
    Status.FIRST: "the first configuration of this database",
    Status.CARRIED_OVER: "the configuration of the last successful run, from before approvals were kept",
    Status.BELOW_THRESHOLDS: "it touches no more records than the policy in force lets through",
}


def shown(found: Standing, as_of: datetime) -> dict[str, Any]:
    """What is put in front of whoever decides."""
    nothing = {"as_of": as_of.isoformat(), "affected": 0, "changes": []}
    document = found.diff.as_dict() if found.diff is not None else nothing
    return document | {"status": found.status.value, "reason": found.reason}


def plain(config: Configuration) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both documents as JSON, from which they can be read again."""
    return config.policy.model_dump(mode="json"), config.catalog.model_dump(mode="json")


def thresholds(conn: Connection, config: Configuration) -> Thresholds:
    """The rules of approval that count: those of the policy in force."""
    force = approvals.in_force(conn)
    known = recall(conn, force) if force is not None else None
    return known.policy.approval if known is not None else config.policy.approval


def why_not(found: Approval, rules: Thresholds, by: str) -> str | None:
    """Why somebody may not answer a request; None when they may (case 28)."""
    if rules.approvers and by not in rules.approvers:
        return f"{by} is not among the approvers that the policy in force names"
    if rules.four_eyes and by == found.requested_by:
        return f"{by} asked for this, and the policy in force wants a second pair of eyes"
    return None


def concerning(conn: Connection, run: Run) -> list[Approval]:
    """What a run asked itself, and the approval of its configuration, whoever asked."""
    found = {each.approval_id: each for each in approvals.of_run(conn, run.run_id)}
    if run.guard_policy is not None:
        asked = approvals.latest(conn, Key(run.policy_hash, run.catalog_hash))
        found |= {asked.approval_id: asked} if asked is not None else {}
    return list(found.values())


def said(conn: Connection, run: Run) -> list[dict[str, Any]]:
    """What a run's summary says of approvals: what it asked or was spared asking, and what it still waits for."""
    return [
        {
            "approval_id": each.approval_id,
            "subject": each.subject,
            "status": each.status,
            "reason": each.shown.get("reason"),
            "deadline": each.deadline.isoformat() if each.deadline is not None else None,
            "records": sum(each.units.values()) if each.subject == approvals.PLAN else each.shown.get("affected"),
        }
        for each in concerning(conn, run)
    ]
