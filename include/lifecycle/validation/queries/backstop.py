"""The rules that S3 itself carries out, as checks of an audit: none that nobody approved, none that takes what stays.

Which ones differ is told by ``lifecycle s3 backstop``; here they are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.backstop.models import NATIVE, OWN
from lifecycle.backstop.standing import standings
from lifecycle.config import Configuration
from lifecycle.policy.models import Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.fragments import AT_AS_OF, subject_of
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.queries.ledger import fact
from lifecycle.validation.queries.messages import CATEGORY
from lifecycle.validation.scene import Scene, Stage
from lifecycle.validation.staging import add_fact
from lifecycle.validation.tickets import count_tickets

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DRIFT, FOREIGN, UNREADABLE = "backstop_drift", "backstop_foreign_rules", "backstop_unreadable"
TICKETS = "backstop_tickets"


def stage_backstop(conn: Connection, s3: S3Client, config: Configuration, stage: Stage, as_of: datetime) -> None:
    """Compare, and stage how many rules are wrong. A bucket in force that may not be read counts as drifted."""
    found = standings(conn, s3, config)
    unread = [each for each in found if each.current is None]
    wrong = [finding for each in found for finding in each.findings]
    drifted = sum(finding.rule == OWN or finding.rule.startswith(NATIVE) for finding in wrong)
    add_fact(conn, stage, DRIFT, drifted + sum(each.in_force for each in unread))
    add_fact(conn, stage, FOREIGN, len(wrong) - drifted)
    add_fact(conn, stage, UNREADABLE, len(unread))
    reached = any(each.in_force and each.bucket == config.catalog.messages.objects.bucket for each in found)
    add_fact(conn, stage, TICKETS, count_tickets(conn, s3, config, as_of) if reached else 0)


def backstop_checks(scene: Scene) -> Iterator[Check]:
    yield fact(
        scene,
        DRIFT,
        Promise.NEVER_EARLY,
        "The lifecycle rules of ours in every bucket are those that were approved and that the policy asks for"
        " (lifecycle s3 backstop shows the difference; --apply or --remove)",
    )
    yield fact(
        scene,
        FOREIGN,
        Promise.NEVER_EARLY,
        "No lifecycle rule of somebody else removes what a rule of the policy keeps (lifecycle s3 backstop names it)",
    )
    yield fact(
        scene,
        TICKETS,
        Promise.HELD_STAYS,
        "No object that must stay is within reach of S3's own rules when its deadline is near (lifecycle s3 shield)",
    )
    yield fact(
        scene,
        UNREADABLE,
        Promise.NEVER_EARLY,
        "The lifecycle rules of every bucket can be read (grant s3:GetLifecycleConfiguration)",
        Severity.WARNING,
    )


def native_check(scene: Scene, tier: Tier) -> Check:
    """A rule for a day knows no exception: it must not stand where one names anything."""
    names = scene.message_names()
    kept = scene.reasons.above(Trigger.DEFAULT, CATEGORY, tier, subject_of(scene.catalog.messages, "m"), AT_AS_OF)
    return Check(
        f"native_rules_reach_kept.{tier.value}",
        Promise.HELD_STAYS,
        Severity.CRITICAL,
        f"No day of {tier.value} that is left to S3 has anything in it that a reason keeps (lifecycle s3 shield)",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.native_rules n JOIN {messages} m ON {tier} = n.tier"
            " AND {clock} >= n.day::timestamp AT TIME ZONE 'UTC'"
            " AND {clock} < (n.day + 1)::timestamp AT TIME ZONE 'UTC'"
            " WHERE n.ended_at IS NULL AND n.tier = %(tier)s AND {kept}"
        ).format(**names, kept=kept),
        {**scene.instants, "tier": tier.value},
    )
