"""The catalogue: which checks belong to which scope of a run, or to an audit of everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg import sql

from lifecycle.policy.models import Category, Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.log_lines import ABSENT
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.queries import ledger, logs, messages, objects, quarantine, records, runs
from lifecycle.validation.queries.backstop import backstop_checks, native_check
from lifecycle.validation.queries.coverage import coverage_checks
from lifecycle.validation.scene import Scene
from lifecycle.validation.uploads import FACT as UPLOADS

RECORDS, ERASURE = "records", "erasure"
SCOPES: tuple[str, ...] = (*(tier.value for tier in Tier), RECORDS, ERASURE)


def checks_for(conn: Connection, scene: Scene) -> list[Check]:
    """Every check of one scope. With a run to judge its ledger and plan too; without, whether it ran at all."""
    found = [*_of_scope(conn, scene)]
    if scene.run_id is None:
        if scene.catalog.has_messages or scene.scope in (RECORDS, ERASURE):
            found.append(runs.alive_check(scene))
    else:
        found.extend(ledger.run_checks(scene))
        found.append(runs.gap_check(scene))
        found.append(ledger.chain_check(scene))
    return unique(found)


def store_checks(scene: Scene) -> list[Check]:
    """What only an audit of everything asks."""
    return [ledger.chain_check(scene), *ledger.all_runs_checks(scene), *coverage_checks(scene), *backstop_checks(scene)]


def unique(checks: Iterable[Check]) -> list[Check]:
    """Each check once, by name."""
    return list({check.name: check for check in checks}.values())


def _of_scope(conn: Connection, scene: Scene) -> Iterator[Check]:
    match scene.scope:
        case "records":
            yield from _records(conn, scene)
        case "erasure":
            yield from records.request_checks(scene)
            yield from records.erasure_checks(scene)
            for tier in Tier if scene.catalog.has_messages else ():
                yield from messages.erasure_checks(scene, tier)
        case _ if not scene.catalog.has_messages:
            yield _nothing(scene)
        case _:
            yield from _tier(conn, scene, Tier(scene.scope))


def _nothing(scene: Scene) -> Check:
    return Check(
        f"nothing_of_tier.{scene.scope}",
        Promise.CLASSIFIED,
        Severity.WARNING,
        f"The dataset file has no partitioned_table, so there are no messages of tier {scene.scope}",
        sql.SQL("SELECT 1 AS violation WHERE false"),
    )


def _tier(conn: Connection, scene: Scene, tier: Tier) -> Iterator[Check]:
    yield from messages.tier_checks(scene, tier)
    yield from ledger.held_checks(scene, tier)
    yield from quarantine.quarantine_checks(scene, tier)
    yield from objects.object_checks(scene, tier)
    yield native_check(scene, tier)
    variants = (rule for rule in scene.policy.rules if rule.instead_of is not None)
    if any(rule.covers(Category.PROMPTS_AND_OUTPUTS, tier) for rule in variants):
        yield from records.research_checks(scene)
        yield from ledger.research_balance(scene)
        yield from runs.staging_checks(_own_tables(conn))
    strays = messages.default_partition_check(
        scene, _defaults_of(conn, scene, tier.value), [tier.value], f"strays_in_default_partition.{tier.value}"
    )
    if strays is not None:
        yield strays


def _records(conn: Connection, scene: Scene) -> Iterator[Check]:
    yield from records.record_checks(scene)
    yield from records.erasure_checks(scene)
    if not scene.catalog.has_messages:
        return
    yield from messages.unclassified_checks(scene)
    yield from objects.elsewhere_checks(scene)
    yield ledger.fact(
        scene,
        UPLOADS,
        Promise.NEVER_LATE,
        f"No unfinished upload older than {scene.policy.thresholds.orphan_margin} is left, unless a row names its key",
    )
    for dataset in scene.catalog.log_records:
        yield from logs.log_checks(scene, dataset)
        yield ledger.fact(
            scene,
            f"{dataset.id}_unreadable",
            Promise.CLASSIFIED,
            f"Every log object that may hold overdue {'content' if dataset.clear else 'records'} can be read",
        )
        if not dataset.clear:
            yield objects.hidden_log_versions(scene, dataset)
            continue
        yield ledger.fact(
            scene,
            f"{dataset.id}{ABSENT}",
            Promise.CLASSIFIED,
            f"Each field that is emptied ({', '.join(dataset.clear)}) is in some record that was read, empty or not",
            Severity.WARNING,
        )
    yield ledger.holds_without_records(scene)
    strays = messages.default_partition_check(
        scene, _defaults_of(conn, scene, None), messages.KNOWN_TIERS, "strays_in_default_partition.unclassified"
    )
    if strays is not None:
        yield strays


def _own_tables(conn: Connection) -> list[str]:
    rows = conn.execute(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'lifecycle'::regnamespace AND c.relkind = 'r'"
    ).fetchall()
    return [name for (name,) in rows]


def _defaults_of(conn: Connection, scene: Scene, tier: str | None) -> list[sql.Identifier]:
    """The default partitions below a tier's partition, or (None) the default partition beside the tiers'."""
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_tree(%(root)s::regclass) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class p ON p.oid = t.parentrelid"
        " WHERE pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' AND CASE WHEN %(tier)s::text IS NULL"
        " THEN t.level = 1 ELSE position(quote_literal(%(tier)s::text) IN pg_get_expr(p.relpartbound, p.oid)) > 0 END",
        {"root": scene.catalog.messages.table, "tier": tier},
    ).fetchall()
    return [sql.Identifier(schema, name) for schema, name in rows]
