"""The register of configurations, and of what waits for a yes: who was asked what, and who answered (cases 20, 26, 28).

A decision and its ledger row are one transaction. Rows hold numbers, dates, rule ids and names of deciders only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from lifecycle.errors import ApprovalError
from lifecycle.ledger import chain
from lifecycle.stores.postgres.connect import Connection

POLICY, PLAN = "policy", "plan"
PENDING, APPROVED, REJECTED, AUTOMATIC, SUPERSEDED = "pending", "approved", "rejected", "automatic", "superseded"
NO_RUN = 0
_LOCK = 0x61707072
_SELECT = sql.SQL(
    "SELECT approval_id, subject, policy_hash, catalog_hash, run_id, scope, units, shown, shown_hash, status, deadline,"
    " requested_by, requested_at, decided_at, decided_by, comment FROM lifecycle.approvals WHERE {}"
)


class Key(NamedTuple):
    """A configuration by the SHA-256 of its two files."""

    policy_hash: str
    catalog_hash: str

    @property
    def short(self) -> str:
        return f"{self.policy_hash[:12]}+{self.catalog_hash[:12]}"


@dataclass(frozen=True)
class Approval:
    """One row of lifecycle.approvals."""

    approval_id: int
    subject: str
    policy_hash: str
    catalog_hash: str
    run_id: int | None
    scope: str | None
    units: dict[str, int]
    shown: dict[str, Any]
    shown_hash: str
    status: str
    deadline: datetime | None
    requested_by: str
    requested_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    comment: str | None

    @property
    def key(self) -> Key:
        return Key(self.policy_hash, self.catalog_hash)


@dataclass(frozen=True)
class Request:
    """What is asked, before it has a number."""

    subject: str
    key: Key
    shown: Mapping[str, Any]
    requested_by: str
    requested_at: datetime
    run_id: int | None = None
    scope: str | None = None
    units: Mapping[str, int] | None = None
    deadline: datetime | None = None


def take_turns(conn: Connection) -> None:
    """Whoever settles a configuration does so alone, until the end of the transaction."""
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def shown_hash(shown: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# -- configurations ------------------------------------------------------------------------------------------------


def remember(conn: Connection, key: Key, policy: Mapping[str, Any], catalog: Mapping[str, Any], at: datetime) -> None:
    """Keep a configuration, so that it can be compiled again when it is the one in force."""
    conn.execute(
        "INSERT INTO lifecycle.policies (policy_hash, catalog_hash, policy, catalog, first_seen_at)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (*key, Jsonb(dict(policy)), Jsonb(dict(catalog)), at),
    )


def documents(conn: Connection, key: Key) -> tuple[dict[str, Any], dict[str, Any]] | None:
    row = conn.execute(
        "SELECT policy, catalog FROM lifecycle.policies WHERE policy_hash = %s AND catalog_hash = %s", key
    ).fetchone()
    return None if row is None else (row[0], row[1])


def known(conn: Connection, prefix: str) -> list[Key]:
    """Configurations whose policy or dataset file has a hash that begins so, the latest first."""
    rows = conn.execute(
        "SELECT policy_hash, catalog_hash FROM lifecycle.policies WHERE starts_with(policy_hash, %(prefix)s)"
        " OR starts_with(catalog_hash, %(prefix)s) ORDER BY first_seen_at DESC",
        {"prefix": prefix},
    ).fetchall()
    return [Key(*row) for row in rows]


def kept(conn: Connection) -> bool:
    """Whether this database has the register: one that no run of this version has touched yet does not."""
    row = conn.execute("SELECT to_regclass('lifecycle.approvals') IS NOT NULL").fetchone()
    return row is not None and bool(row[0])


def in_force(conn: Connection) -> Key | None:
    """The configuration that was approved last.

    By number, not by time: of configurations only one waits at any time, so numbers tell the order of answers, and the
    clocks of those who answer may differ (hard case 10).
    """
    row = conn.execute(
        "SELECT policy_hash, catalog_hash FROM lifecycle.approvals WHERE subject = 'policy'"
        " AND status IN ('approved', 'automatic') ORDER BY approval_id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else Key(*row)


def touched_without_a_name(conn: Connection) -> int:
    """Records that changes touched which approved themselves since the last approval by a person, or the first."""
    row = conn.execute(
        "SELECT coalesce(sum((shown ->> 'affected')::bigint), 0)::bigint FROM lifecycle.approvals"
        " WHERE subject = 'policy' AND status = 'automatic' AND approval_id > (SELECT coalesce(max(approval_id), 0)"
        " FROM lifecycle.approvals WHERE subject = 'policy' AND status = 'approved')"
    ).fetchone()
    return 0 if row is None else int(row[0])


def of_last_run(conn: Connection) -> Key | None:
    """What the last successful run worked with, in a database from before there was a register."""
    row = conn.execute(
        "SELECT policy_hash, catalog_hash FROM lifecycle.runs WHERE status = 'succeeded' AND NOT dry_run"
        " ORDER BY run_id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else Key(*row)


def is_new_here(conn: Connection) -> bool:
    """Whether nothing has ever been disposed of, nor decided."""
    row = conn.execute("SELECT EXISTS (SELECT FROM lifecycle.ledger)").fetchone()
    return row is not None and not row[0]


# -- requests and answers ------------------------------------------------------------------------------------------


def load(conn: Connection, approval_id: int) -> Approval:
    """One request.

    Raises:
        ApprovalError: there is none of that number.
    """
    found = _query(conn, sql.SQL("approval_id = %(id)s"), {"id": approval_id})
    if not found:
        raise ApprovalError(f"there is no approval {approval_id}")
    return found[0]


def waiting(conn: Connection, subject: str | None = None) -> list[Approval]:
    """What nobody has answered yet, the most urgent first."""
    condition = sql.SQL(
        "status = 'pending' AND (%(subject)s::text IS NULL OR subject = %(subject)s)"
        " ORDER BY deadline NULLS LAST, approval_id"
    )
    return _query(conn, condition, {"subject": subject})


def latest(conn: Connection, key: Key) -> Approval | None:
    """The last request about a configuration."""
    condition = sql.SQL(
        "subject = 'policy' AND policy_hash = %(policy)s AND catalog_hash = %(catalog)s"
        " ORDER BY approval_id DESC LIMIT 1"
    )
    found = _query(conn, condition, {"policy": key.policy_hash, "catalog": key.catalog_hash})
    return found[0] if found else None


def of_plan(conn: Connection, run_id: int) -> Approval:
    """The request about a run's plan that nobody has answered.

    Raises:
        ApprovalError: there is none.
    """
    found = [each for each in of_run(conn, run_id) if each.subject == PLAN]
    if not found:
        raise ApprovalError(f"nothing of the plan of run {run_id} waits; `lifecycle policy status` shows what does")
    if found[-1].status != PENDING:
        raise ApprovalError(f"what waited in the plan of run {run_id} is {found[-1].status} already")
    return found[-1]


def of_run(conn: Connection, run_id: int) -> list[Approval]:
    """What one run asked."""
    return _query(conn, sql.SQL("run_id = %(run)s ORDER BY approval_id"), {"run": run_id})


def _query(conn: Connection, condition: sql.SQL, params: Mapping[str, Any]) -> list[Approval]:
    with conn.cursor(row_factory=class_row(Approval)) as cursor:
        return cursor.execute(_SELECT.format(condition), params).fetchall()


def ask(conn: Connection, request: Request) -> int:
    """Write a request down. An older one about the same thing that nobody answered is superseded."""
    conn.execute(
        "UPDATE lifecycle.approvals SET status = 'superseded' WHERE status = 'pending' AND subject = %(subject)s"
        " AND (subject = 'policy' OR scope = %(scope)s)",
        {"subject": request.subject, "scope": request.scope},
    )
    shown = json.loads(json.dumps(dict(request.shown)))
    row = conn.execute(
        "INSERT INTO lifecycle.approvals (subject, policy_hash, catalog_hash, run_id, scope, units, shown, shown_hash,"
        " deadline, requested_by, requested_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " RETURNING approval_id",
        (
            request.subject,
            *request.key,
            request.run_id,
            request.scope,
            Jsonb(dict(request.units or {})),
            Jsonb(shown),
            shown_hash(shown),
            request.deadline,
            request.requested_by,
            request.requested_at,
        ),
    ).fetchone()
    assert row is not None
    return int(row[0])


def withdraw_plans(conn: Connection, scope: str) -> None:
    """A later plan of the scope has nothing that waits: what was asked about an earlier one is moot."""
    conn.execute(
        "UPDATE lifecycle.approvals SET status = 'superseded' WHERE subject = 'plan' AND status = 'pending'"
        " AND scope = %s",
        (scope,),
    )


def decide(
    conn: Connection, approval_id: int, status: str, *, by: str, at: datetime, comment: str | None = None
) -> Approval:
    """Answer a request, in the ledger too; both in the caller's transaction or in one of their own.

    Raises:
        ApprovalError: it has been answered, or is superseded.
    """
    with conn.transaction():
        take_turns(conn)
        changed = conn.execute(
            "UPDATE lifecycle.approvals SET status = %(status)s, decided_at = %(at)s, decided_by = %(by)s,"
            " comment = %(comment)s WHERE approval_id = %(id)s AND status = 'pending'",
            {"status": status, "at": at, "by": by, "comment": comment, "id": approval_id},
        ).rowcount
        found = load(conn, approval_id)
        if changed == 0:
            raise ApprovalError(f"approval {approval_id} is {found.status}: it cannot be answered again")
        if found.subject == POLICY and status in (APPROVED, AUTOMATIC):
            conn.execute(
                "UPDATE lifecycle.approvals SET status = 'superseded' WHERE subject = 'policy' AND status = 'pending'"
            )
        chain.append(conn, _entry(found, status, by, at))
        return found


def _entry(found: Approval, status: str, by: str, at: datetime) -> chain.Entry:
    """The decision in the ledger: who, on what, and the hash of what was shown. A comment, free text, stays out.

    Its as-of is the instant for which the figures were measured.
    """
    measured = found.shown.get("as_of")
    figures = {name: value for name, value in found.shown.items() if isinstance(value, int)}
    about = found.key.short if found.subject == POLICY else f"run-{found.run_id}"
    return chain.Entry(
        run_id=NO_RUN,
        run_key=run_key(found.approval_id),
        as_of=datetime.fromisoformat(measured) if isinstance(measured, str) else at,
        entry="decision",
        scope=found.scope or POLICY,
        dataset=found.subject,
        unit=f"{found.subject}/{about}",
        disposition="reject" if status == REJECTED else "approve",
        rule=status,
        counts={**figures, "by": by, "shown_sha256": found.shown_hash, "datasets_sha256": found.catalog_hash},
        cutoff=None,
        policy_hash=found.policy_hash,
        started_at=found.requested_at,
    )


def run_key(approval_id: int) -> str:
    """What names a decision in the ledger."""
    return f"approval/{approval_id}"
