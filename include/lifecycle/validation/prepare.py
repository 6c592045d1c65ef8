"""Gets everything ready that the checks of some scopes ask: instants, listings, log lines, checksums, the chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle.config import Configuration
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.chain import Chain, walk
from lifecycle.validation.checks import RECORDS, SCOPES, checks_for, store_checks, unique
from lifecycle.validation.copies import check_copies
from lifecycle.validation.log_lines import stage_lines
from lifecycle.validation.models import Check
from lifecycle.validation.pending import checks_apart, pending_of, units_check
from lifecycle.validation.queries.backstop import stage_backstop
from lifecycle.validation.queries.coverage import stage_coverage
from lifecycle.validation.queries.ledger import CHAIN
from lifecycle.validation.recheck import recheck
from lifecycle.validation.scene import Scene, Stage
from lifecycle.validation.staging import add_fact, load_objects, top_prefixes
from lifecycle.validation.uploads import FACT as UPLOADS
from lifecycle.validation.uploads import left_unfinished

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Prepared:
    """The checks, and how much was read to be able to answer them."""

    checks: tuple[Check, ...]
    chain: Chain
    versions_listed: int
    copies_read: int


def prepare(
    conn: Connection,
    s3: S3Client,
    config: Configuration,
    stage: Stage,
    as_of: datetime,
    scopes: Sequence[str],
    run_id: int | None,
) -> Prepared:
    """Stage the facts and compose the checks of some scopes; of a whole audit when no run is judged."""
    scenes = [
        Scene(
            config.policy,
            config.catalog,
            stage,
            as_of,
            as_of if run_id is not None else settled(conn, config, scope, as_of),
            scope,
            run_id,
        )
        for scope in scopes
    ]
    listed = load_objects(conn, s3, stage, _places(s3, config, scopes))
    tiers = [Tier(scope) for scope in scopes if scope in set(Tier)]
    copies = 0
    for scene in scenes:
        if scene.scope in set(Tier) and config.catalog.has_messages:
            copies += _stage_tier(conn, s3, scene, Tier(scene.scope))
        elif scene.scope == RECORDS:
            for dataset in config.catalog.log_records:
                add_fact(conn, stage, f"{dataset.id}_unreadable", stage_lines(conn, s3, scene, dataset))
            add_fact(conn, stage, UPLOADS, left_unfinished(conn, s3, scene))
    if config.catalog.has_messages and (tiers or RECORDS in scopes):
        recheck(conn, s3, scenes[0], [tier.value for tier in tiers])
    chain = walk(conn)
    add_fact(conn, stage, CHAIN, chain.broken)
    checks = [check for scene in scenes for check in _checks(conn, config, scene)]
    if run_id is None and set(scopes) == set(SCOPES):
        stage_coverage(conn, s3, config, stage, as_of)
        stage_backstop(conn, s3, config, stage, as_of)
        checks.extend(store_checks(scenes[0]))
    return Prepared(tuple(unique(checks)), chain, listed, copies)


def _checks(conn: Connection, config: Configuration, scene: Scene) -> list[Check]:
    """The checks of a scope; what only waits for an approval is counted apart."""
    pending = pending_of(conn, config, scene.scope, scene.run_id, scene.as_of)
    found = checks_apart(scene, lambda each: checks_for(conn, each), pending)
    return [*found, units_check(scene)] if scene.run_id is not None else found


def settled(conn: Connection, config: Configuration, scope: str, as_of: datetime) -> datetime:
    """Up to when a run must have acted on what ended: the last successful run's as-of, or a schedule interval ago,
    whichever is later."""
    row = conn.execute(
        "SELECT greatest(%(as_of)s::timestamptz - %(interval)s::interval, (SELECT max(r.as_of) FROM lifecycle.runs r"
        " WHERE r.scope = %(scope)s AND NOT r.dry_run AND r.status = 'succeeded' AND r.as_of <= %(as_of)s))",
        {"as_of": as_of, "interval": str(config.policy.lead.schedule_interval), "scope": scope},
    ).fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise LookupError("the query returned no instant")
    return row[0]


def _stage_tier(conn: Connection, s3: S3Client, scene: Scene, tier: Tier) -> int:
    if scene.policy.rule_for(Trigger.FLAG, Category.PROMPTS_AND_OUTPUTS, tier) is None:
        return 0
    return check_copies(conn, s3, scene, tier)


def _places(s3: S3Client, config: Configuration, scopes: Iterable[str]) -> set[tuple[str, str]]:
    """What has to be listed: only the prefixes of the scopes that are judged, so that a tier's run pays for its own."""
    if not config.catalog.has_messages:
        return set()
    dataset = config.catalog.messages
    bucket, quarantine = dataset.objects.bucket, dataset.quarantine.bucket
    own = {f"tier={tier.value}/" for tier in Tier}
    places: set[tuple[str, str]] = set()
    for scope in scopes:
        if scope in set(Tier):
            places |= {(bucket, f"tier={scope}/"), (bucket, dataset.objects.landing), (quarantine, f"tier={scope}/")}
        elif scope == RECORDS:
            places |= {(bucket, prefix) for prefix in top_prefixes(s3, bucket) if prefix not in own}
            places |= {(logs.bucket, logs.prefix) for logs in config.catalog.logs}
    return places
