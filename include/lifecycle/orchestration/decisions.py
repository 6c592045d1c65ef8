"""Answers to what waits: by name, checked, in the ledger and in the evidence bucket (cases 20, 26 and 28)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lifecycle.config import Configuration, load_configuration
from lifecycle.errors import ApprovalError
from lifecycle.ledger import approvals
from lifecycle.ledger.approvals import Approval, Key, Request
from lifecycle.ledger.evidence import write_decisions
from lifecycle.orchestration.approval import (
    Known,
    compare,
    key_of,
    loaded,
    plain,
    recall,
    refuse_locked,
    thresholds,
    why_not,
)
from lifecycle.orchestration.backstop import retreat_to
from lifecycle.orchestration.schema import ensure_schema
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.planning.policy_diff import PolicyDiff
from lifecycle.policy import lock
from lifecycle.stores.postgres.connect import Connection, connect

log = logging.getLogger(__name__)
APPROVED_WORD = "approved"


@dataclass(frozen=True)
class Proposal:
    """A configuration that somebody is about to answer, and what it changes; no diff where nothing can be compared."""

    key: Key
    diff: PolicyDiff | None
    asked: Approval | None


def find(conn: Connection, config: Configuration, name: str) -> Known:
    """A configuration: ``approved``, ``loaded``, a policy file, or the beginning of a hash in the register.

    Raises:
        ApprovalError: there is none, or several begin so.
        ConfigurationError: the file has problems.
    """
    if name == APPROVED_WORD:
        force = approvals.in_force(conn) if approvals.kept(conn) else None
        known = recall(conn, force) if force is not None else None
        if known is None:
            raise ApprovalError("no configuration has been approved yet; the first run approves the first one")
        return known
    if name == "loaded":
        return loaded(config)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return loaded(load_configuration(path, config.catalog_path))
    return _of_register(conn, config, name)


def _of_register(conn: Connection, config: Configuration, name: str) -> Known:
    own = key_of(config)
    if len(name) >= 6 and any(each.startswith(name) for each in own):
        return loaded(config)
    found = approvals.known(conn, name) if len(name) >= 6 and approvals.kept(conn) else []
    if len({key.policy_hash for key in found}) > 1 and len({key.catalog_hash for key in found}) > 1:
        raise ApprovalError(f"several configurations have a hash that begins with {name}; write more of it")
    known = recall(conn, found[0]) if found else None
    if known is None:
        raise ApprovalError(
            f"{name!r} is no file, and no configuration of the register has a hash that begins so (write at least six"
            " digits); `lifecycle policy status` shows what there is"
        )
    return known


def propose(conn: Connection, config: Configuration, name: str, as_of: datetime) -> Proposal:
    """What a decision about a configuration is about: the diff against the one in force, measured now."""
    wanted = find(conn, config, name)
    force = approvals.in_force(conn)
    if wanted.key == force:
        raise ApprovalError(f"configuration {wanted.key.short} is in force already")
    known = recall(conn, force) if force is not None else None
    diff = compare(conn, known, wanted, as_of) if known is not None else None
    asked = approvals.latest(conn, wanted.key)
    return Proposal(wanted.key, diff, asked if asked is not None and asked.status == approvals.PENDING else None)


def answer_policy(
    conn: Connection,
    config: Configuration,
    proposal: Proposal,
    *,
    approve: bool,
    by: str,
    now: datetime,
    comment: str | None,
) -> Approval:
    """Approve or reject a configuration by name. What was shown to the one who answers is what is kept.

    Raises:
        ApprovalError: this person may not answer.
        PolicyLockedError: the policy in force is locked, and this one changes what a lock protects.
    """
    if approve:
        _refuse_locked(conn, config, proposal)
    with conn.transaction():
        approvals.take_turns(conn)
        document: dict[str, Any] = proposal.diff.as_dict() if proposal.diff else {"affected": 0, "changes": []}
        asked_by = proposal.asked.requested_by if proposal.asked else by
        run_id = proposal.asked.run_id if proposal.asked else None
        if proposal.key == key_of(config):
            approvals.remember(conn, proposal.key, *plain(config), now)
        number = approvals.ask(
            conn, Request(approvals.POLICY, proposal.key, document | {"status": "named"}, asked_by, now, run_id)
        )
        return _answer(conn, config, approvals.load(conn, number), approve=approve, by=by, now=now, comment=comment)


def _refuse_locked(conn: Connection, config: Configuration, proposal: Proposal) -> None:
    if proposal.key == key_of(config):
        refuse_locked(conn, config)
        return
    force = approvals.in_force(conn)
    old, new = (recall(conn, key) if key is not None else None for key in (force, proposal.key))
    found = list(lock.violations(old.policy, new.policy)) if old is not None and new is not None else []
    if found:
        raise ApprovalError("the policy in force is locked: " + "; ".join(item.message for item in found))


def answer(
    approval_id: int, *, approve: bool, by: str, now: datetime, shown_hash: str | None, comment: str | None
) -> Approval:
    """Answer a request as it was shown (Airflow).

    Args:
        shown_hash: of what the person saw; the answer counts for nothing else.

    Raises:
        ApprovalError: it has been answered, shows something else by now, or this person may not answer.
    """
    config = load_configuration()
    with connect() as conn:
        ensure_schema(conn)
        with conn.transaction():
            approvals.take_turns(conn)
            found = approvals.load(conn, approval_id)
            if shown_hash is not None and shown_hash != found.shown_hash:
                raise ApprovalError(f"approval {approval_id} is about something else than what was shown; ask again")
            done = _answer(conn, config, found, approve=approve, by=by, now=now, comment=comment)
        if approve and done.subject == approvals.POLICY:
            retreat_to(conn, shared_s3_client(), done.key, by=by, now=now)
        write_decisions(conn, shared_s3_client(), config.catalog.evidence_bucket)
        return done


def _answer(
    conn: Connection,
    config: Configuration,
    found: Approval,
    *,
    approve: bool,
    by: str,
    now: datetime,
    comment: str | None,
) -> Approval:
    refusal = why_not(found, thresholds(conn, config), by) if approve else None
    if refusal is not None:
        raise ApprovalError(f"approval {found.approval_id}: {refusal}")
    status = approvals.APPROVED if approve else approvals.REJECTED
    done = approvals.decide(conn, found.approval_id, status, by=by, at=now, comment=comment)
    log.info("approval %d: %s", done.approval_id, status)
    return done


def keep_evidence(conn: Connection, config: Configuration) -> None:
    """The write-once copies of decisions."""
    write_decisions(conn, shared_s3_client(), config.catalog.evidence_bucket)
