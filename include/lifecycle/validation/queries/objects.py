"""Rows and objects of the product's bucket: each has the other, in the right place, and nothing is only hidden."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from lifecycle.catalog.models import Logs
from lifecycle.policy.models import Category, Rule, Tier, Trigger
from lifecycle.validation.fragments import ends_down, interval, relation
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.queries.keys import key_of
from lifecycle.validation.scene import Scene

# Objects that lie under no declared tier: landing, and whatever else there is.
ELSEWHERE = "elsewhere"


def object_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    """Both directions for the rows of a tier and the objects under its prefix."""
    yield from _row_checks(scene, tier)
    rule = scene.policy.rule_for(Trigger.DEFAULT, Category.PROMPTS_AND_OUTPUTS, tier)
    yield from _key_checks(scene, tier.value, sql.SQL("o.tier = %(tier)s"), rule)


def elsewhere_checks(scene: Scene) -> Iterator[Check]:
    """Objects in landing, and under prefixes of no declared tier."""
    outside = sql.SQL("(o.tier = ANY (%(tiers)s)) IS NOT TRUE")
    strictest = scene.policy.strictest(Category.PROMPTS_AND_OUTPUTS)
    yield from _key_checks(scene, ELSEWHERE, outside, strictest)


def _row_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    dataset = scene.catalog.messages
    names = scene.message_names()
    margin = interval(scene.policy.thresholds.orphan_margin)
    params: dict[str, Any] = {
        **scene.instants,
        "tier": tier.value,
        "bucket": dataset.objects.bucket,
        "landing": dataset.objects.landing,
    }
    missing = sql.SQL(
        "SELECT 1 AS violation FROM {messages} m WHERE {tier} = %(tier)s AND {object_key} IS NOT NULL AND {age}"
        " AND NOT EXISTS (SELECT FROM {objects} o WHERE o.bucket = %(bucket)s AND o.key = {object_key}"
        " AND o.latest AND NOT o.marker)"
        # Of a day that a run has left to S3 the objects go first; its rows are still judged by their deadlines.
        " AND NOT EXISTS (SELECT FROM lifecycle.native_rules n WHERE n.ended_at IS NULL AND n.bucket = %(bucket)s"
        " AND n.tier = %(tier)s AND starts_with({object_key}, n.prefix))"
    )
    for name, severity, age, words in (
        ("rows_without_object", Severity.CRITICAL, "<", "older than"),
        ("young_rows_without_object", Severity.WARNING, ">=", "younger than"),
    ):
        yield Check(
            f"{name}.{tier.value}",
            Promise.AGREEMENT,
            severity,
            f"Every {tier.value} row {words} {scene.policy.thresholds.orphan_margin} that names an object has one",
            missing.format(
                **names,
                objects=scene.stage.objects,
                age=sql.SQL("{} < %(settled)s AND {} {} %(as_of)s::timestamptz - {}").format(
                    names["clock"], names["clock"], sql.SQL("<" if age == "<" else ">="), margin
                ),
            ),
            params,
        )
    landing_key = sql.SQL("starts_with({object_key}, %(landing)s)").format(**names)
    belongs = key_of(dataset.objects.partitioned, tier=names["tier"], clock=names["clock"], record=names["message"])
    yield Check(
        f"objects_in_wrong_place.{tier.value}",
        Promise.AGREEMENT,
        Severity.CRITICAL,
        f"Every partitioned {tier.value} object lies under its row's own tier, day and record",
        sql.SQL(
            "SELECT 1 AS violation FROM {messages} m WHERE {tier} = %(tier)s AND {object_key} IS NOT NULL"
            " AND NOT {landing} AND {object_key} <> {belongs}"
        ).format(**names, landing=landing_key, belongs=belongs),
        params,
    )
    yield Check(
        f"objects_still_in_landing.{tier.value}",
        Promise.AGREEMENT,
        Severity.WARNING,
        f"No {tier.value} object stays in landing for more than a schedule interval, unless it is under hold",
        sql.SQL(
            "SELECT 1 AS violation FROM {messages} m WHERE {tier} = %(tier)s AND {landing}"
            " AND {clock} < %(settled)s::timestamptz - {interval} AND {held} IS NOT TRUE"
        ).format(
            **names,
            landing=landing_key,
            interval=interval(scene.policy.lead.schedule_interval),
            held=scene.reasons.held(scene.message_subject, sql.SQL("%(settled)s::timestamptz")),
        ),
        params,
    )


def _key_checks(scene: Scene, suffix: str, which: sql.Composable, rule: Rule | None) -> Iterator[Check]:
    """Keys, and every version of them, that no row names."""
    dataset = scene.catalog.messages
    key_column = sql.Identifier("m", dataset.objects.column)
    params: dict[str, Any] = {
        **scene.instants,
        "tier": suffix,
        "tiers": [tier.value for tier in Tier],
        "bucket": dataset.objects.bucket,
        "margin": str(scene.policy.thresholds.orphan_margin),
    }
    unnamed = sql.SQL(
        "SELECT 1 AS violation FROM (SELECT o.key, max(o.modified) AS modified, min(o.day) AS day, min(o.record) AS"
        " record,"
        " bool_or(o.latest AND NOT o.marker) AS current, bool_or(o.marker OR NOT o.latest) AS hidden"
        " FROM {objects} o WHERE o.bucket = %(bucket)s AND {which} GROUP BY o.key) k"
        " LEFT JOIN (SELECT {key} AS key FROM {messages} m WHERE {key} IS NOT NULL) r ON r.key = k.key"
        " WHERE r.key IS NULL AND {condition}"
    )

    def check(name: str, promise: Promise, description: str, condition: sql.Composable) -> Check:
        query = unnamed.format(
            objects=scene.stage.objects,
            which=which,
            key=key_column,
            messages=relation(dataset.table),
            condition=condition,
        )
        return Check(f"{name}.{suffix}", promise, Severity.CRITICAL, description, query, params)

    old = sql.SQL("k.modified < %(as_of)s::timestamptz - %(margin)s::interval")
    yield check(
        "objects_without_row",
        Promise.AGREEMENT,
        f"Every object older than {params['margin']} belongs to a row",
        sql.SQL("k.current AND {}").format(old),
    )
    yield check(
        "versions_without_row",
        Promise.AGREEMENT,
        f"No version and no delete marker older than {params['margin']} is left of a key without a row",
        sql.SQL("k.hidden AND {}").format(old),
    )
    yield check(
        "quarantined_left_behind",
        Promise.QUARANTINE,
        "No version of an object stays where it was once its message is in quarantine",
        sql.SQL("EXISTS (SELECT FROM lifecycle.quarantine q WHERE q.message_id::text = k.record)"),
    )
    if rule is not None and rule.period is not None:
        # A day's last message is received before the next day begins.
        end = ends_down(
            sql.SQL("((k.day + 1)::timestamp AT TIME ZONE 'UTC')"), sql.SQL("{}").format(interval(rule.period))
        )
        yield check(
            "objects_past_deadline",
            Promise.NEVER_LATE,
            f"No version of an object of a day more than {rule.period} ago is left without a row that keeps it",
            sql.SQL("{} < %(as_of)s").format(end),
        )


def hidden_log_versions(scene: Scene, dataset: Logs) -> Check:
    """A rewritten object's former versions still hold what was taken out of it."""
    return Check(
        f"{dataset.id}_hidden_versions",
        Promise.NEVER_LATE,
        Severity.WARNING,
        f"No former version and no delete marker is left in {dataset.bucket}",
        sql.SQL(
            "SELECT 1 AS violation FROM {} o WHERE o.bucket = %(bucket)s AND starts_with(o.key, %(prefix)s)"
            " AND (o.marker OR NOT o.latest)"
        ).format(scene.stage.objects),
        {"bucket": dataset.bucket, "prefix": dataset.prefix},
    )
