"""The quarantine: only what is flagged or held, never longer than its maximum, index and bucket saying the same."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.validation.fragments import AT_AS_OF, AT_SETTLED, ends, relation, subject_of_quarantined
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.queries.keys import key_of
from lifecycle.validation.queries.ledger import AT_WORK, fact
from lifecycle.validation.scene import Scene

RECORD, OBJECT = "record.json", "object"
CATEGORY = Category.PROMPTS_AND_OUTPUTS
# While a run of the tier is under way its copies are in the bucket before they are in the index.
_NOBODY_AT_WORK = sql.SQL(
    "NOT EXISTS (SELECT FROM lifecycle.runs w WHERE w.scope = %(tier)s AND {} AND w.run_id IS DISTINCT FROM"
    " %(run_id)s::bigint)"
).format(AT_WORK)


def quarantine_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    if scene.policy.rule_for(Trigger.FLAG, CATEGORY, tier) is None:
        return
    yield from index_checks(scene, tier)
    yield from _bucket_checks(scene, tier)
    yield fact(
        scene,
        f"quarantine_checksums.{tier.value}",
        Promise.QUARANTINE,
        "The bytes in quarantine are those that were moved there (SHA-256 of record and object equal the index)",
    )
    yield fact(
        scene,
        f"quarantine_hold_not_locked.{tier.value}",
        Promise.HELD_STAYS,
        "What the index says is under legal hold is locked in the bucket",
    )
    yield fact(
        scene,
        f"quarantine_lock_hidden.{tier.value}",
        Promise.HELD_STAYS,
        "No delete marker hides a locked version",
    )


def index_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    flag = scene.policy.rule_for(Trigger.FLAG, CATEGORY, tier)
    if flag is None:
        return
    subject = subject_of_quarantined(scene.catalog.messages, "q")
    reasons, params = scene.reasons, {**scene.instants, "tier": tier.value}
    message, received = sql.Identifier("q", "message_id"), sql.Identifier("q", "received_at")

    def select(*conditions: sql.Composable) -> sql.Composable:
        return sql.SQL("SELECT 1 AS violation FROM lifecycle.quarantine q WHERE q.tier = %(tier)s AND {}").format(
            sql.SQL(" AND ").join(conditions)
        )

    held_then = sql.SQL("({} OR {}) IS NOT TRUE").format(
        reasons.held(subject, AT_SETTLED),
        scene.awaits(sql.SQL("({} AT TIME ZONE 'UTC')::date").format(received), scene.catalog.messages.id, tier.value),
    )
    yield Check(
        f"quarantine_past_deadline.{tier.value}",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"Nothing of {tier.value} stays in quarantine for longer than {flag.period} from receipt, unless it is under"
        f" hold",
        select(sql.SQL("{} < %(as_of)s").format(ends(received, flag)), held_then),
        params,
    )
    yield Check(
        f"quarantine_without_flag.{tier.value}",
        Promise.QUARANTINE,
        Severity.CRITICAL,
        f"The quarantine of {tier.value} holds only messages whose flag is not cleared, or that are under hold",
        select(sql.SQL("{} IS NOT TRUE").format(reasons.flagged(message, AT_SETTLED)), held_then),
        params,
    )
    yield Check(
        f"quarantine_late_but_explained.{tier.value}",
        Promise.QUARANTINE,
        Severity.WARNING,
        "Cleared or released so recently that no run had to act on it yet",
        select(
            sql.SQL("({} < %(as_of)s OR {} IS NOT TRUE)").format(
                ends(received, flag), reasons.flagged(message, AT_AS_OF)
            ),
            sql.SQL("{} IS NOT TRUE").format(reasons.held(subject, AT_AS_OF)),
            sql.SQL("({} OR ({} >= %(as_of)s AND {}))").format(
                reasons.held(subject, AT_SETTLED), ends(received, flag), reasons.flagged(message, AT_SETTLED)
            ),
        ),
        params,
        informative=True,
    )
    dataset = scene.catalog.messages
    yield Check(
        f"quarantine_also_in_store.{tier.value}",
        Promise.QUARANTINE,
        Severity.CRITICAL,
        "No message is in the store and in quarantine at once",
        select(
            sql.SQL("EXISTS (SELECT FROM {messages} m WHERE m.{record} = q.message_id)").format(
                messages=relation(dataset.table), record=sql.Identifier(dataset.record)
            )
        ),
        {"tier": tier.value},
    )
    yield Check(
        f"quarantine_hold_not_marked.{tier.value}",
        Promise.HELD_STAYS,
        Severity.WARNING,
        "What came under hold before the last run is marked as held in the quarantine index",
        select(
            sql.SQL("NOT q.legal_hold"),
            reasons.held(subject, AT_AS_OF),
            sql.SQL(
                "NOT EXISTS (SELECT FROM lifecycle.legal_holds n WHERE n.placed_at >= %(settled)s"
                " AND (n.released_at IS NULL OR n.released_at > %(as_of)s))"
            ),
        ),
        params,
    )


def _bucket_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    quarantine = scene.catalog.messages.quarantine
    names = {"objects": scene.stage.objects, "free": _NOBODY_AT_WORK}
    params = {
        "tier": tier.value,
        "bucket": quarantine.bucket,
        "record": RECORD,
        "object": OBJECT,
        "run_id": scene.run_id,
    }
    there = sql.SQL(
        "EXISTS (SELECT FROM {objects} o WHERE o.bucket = %(bucket)s AND o.key = q.prefix || {leaf} AND o.latest AND"
        " NOT o.marker)"
    )
    yield Check(
        f"quarantine_index_without_object.{tier.value}",
        Promise.AGREEMENT,
        Severity.CRITICAL,
        "Every entry of the quarantine index has its record, and its object where it had one, in the bucket",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.quarantine q WHERE q.tier = %(tier)s AND {free}"
            " AND NOT ({record} AND (q.object_sha256 IS NULL OR {object}))"
        ).format(
            **names,
            record=there.format(**names, leaf=sql.SQL("%(record)s")),
            object=there.format(**names, leaf=sql.SQL("%(object)s")),
        ),
        params,
    )
    yield Check(
        f"quarantine_object_without_index.{tier.value}",
        Promise.AGREEMENT,
        Severity.CRITICAL,
        "Every key in the quarantine bucket, hidden versions included, belongs to an entry of the index",
        sql.SQL(
            "SELECT 1 AS violation FROM (SELECT DISTINCT o.key FROM {objects} o WHERE o.bucket = %(bucket)s"
            " AND o.tier = %(tier)s) k LEFT JOIN (SELECT q.prefix || %(record)s AS key FROM lifecycle.quarantine q"
            " UNION ALL SELECT q.prefix || %(object)s FROM lifecycle.quarantine q WHERE q.object_sha256 IS NOT NULL) i"
            " ON i.key = k.key WHERE i.key IS NULL AND {free}"
        ).format(**names),
        params,
    )
    yield Check(
        f"quarantine_hidden_versions.{tier.value}",
        Promise.QUARANTINE,
        Severity.WARNING,
        "A copy in quarantine is never overwritten: one version per key",
        sql.SQL(
            "SELECT 1 AS violation FROM {objects} o WHERE o.bucket = %(bucket)s AND o.tier = %(tier)s"
            " AND (o.marker OR NOT o.latest) AND {free}"
        ).format(**names),
        params,
    )
    yield Check(
        f"quarantine_wrong_place.{tier.value}",
        Promise.AGREEMENT,
        Severity.CRITICAL,
        "What is in quarantine lies under its own tier, day of receipt and record",
        sql.SQL("SELECT 1 AS violation FROM lifecycle.quarantine q WHERE q.tier = %(tier)s AND q.prefix <> {}").format(
            key_of(
                quarantine.prefix,
                tier=sql.Identifier("q", "tier"),
                clock=sql.Identifier("q", "received_at"),
                record=sql.Identifier("q", "message_id"),
            )
        ),
        {"tier": tier.value},
    )
