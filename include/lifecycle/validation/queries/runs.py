"""Whether the runs happen at all (hard case 7): green is not enough, and silence is a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from lifecycle.validation.fragments import interval
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene


def alive_check(scene: Scene) -> Check:
    """In an audit: the scope has a successful run within the last two schedule intervals."""
    return Check(
        f"run_missing.{scene.scope}",
        Promise.ALIVE,
        Severity.CRITICAL,
        f"Scope {scene.scope} had a successful run within the last two schedule intervals",
        sql.SQL(
            "SELECT 1 AS violation WHERE NOT EXISTS (SELECT FROM lifecycle.runs r WHERE r.scope = %(scope)s AND NOT"
            " r.dry_run"
            " AND r.status = 'succeeded' AND r.as_of > %(as_of)s::timestamptz - 2 * {})"
        ).format(interval(scene.policy.lead.schedule_interval)),
        {"scope": scene.scope, "as_of": scene.as_of},
    )


def gap_check(scene: Scene) -> Check:
    """In a run's own validation: since its last successful run the scope has not been left alone for too long."""
    return Check(
        "run_gap",
        Promise.ALIVE,
        Severity.WARNING,
        "The scope's last successful run before this one is no more than two schedule intervals back",
        sql.SQL(
            "SELECT 1 AS violation FROM (SELECT max(r.as_of) AS last FROM lifecycle.runs r WHERE r.scope = %(scope)s"
            " AND NOT r.dry_run AND r.status = 'succeeded' AND r.run_id IS DISTINCT FROM %(run_id)s::bigint) p"
            " WHERE p.last <= %(as_of)s::timestamptz - 2 * {}"
        ).format(interval(scene.policy.lead.schedule_interval)),
        {"scope": scene.scope, "as_of": scene.as_of, "run_id": scene.run_id},
    )


def staging_checks(exists: Sequence[str]) -> Iterator[Check]:
    """Notes the deleting code keeps for itself while it works must not outlive the records they are about."""
    if "research_staging" in exists:
        yield Check(
            "research_staging_left",
            Promise.DEIDENTIFIED,
            Severity.WARNING,
            "Nothing is left of the notes taken while messages were de-identified",
            sql.SQL(
                "SELECT 1 AS violation FROM lifecycle.research_staging s WHERE NOT EXISTS"
                " (SELECT FROM lifecycle.runs r WHERE r.status = 'running')"
            ),
        )
