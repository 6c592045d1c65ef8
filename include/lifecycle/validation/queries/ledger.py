"""The ledger against what the runs planned, did and said (promises 1 and 5), and what was found outside SQL."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lifecycle.catalog.models import Ids
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.validation.fragments import TARGET_UUID, any_case, interval, relation, subject_of_quarantined
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene

CHAIN = "ledger_chain"
# A run is at work while its process is connected, or while its lease lasts.
AT_WORK = sql.SQL(
    "(w.status = 'running' AND (w.lease_until > clock_timestamp() OR EXISTS (SELECT FROM pg_stat_activity a"
    " WHERE a.pid = w.owner_pid AND a.backend_start = w.owner_start)))"
)
_RECORDS = sql.SQL(
    "(SELECT coalesce(sum((c.value ->> 'records')::bigint), 0) FROM jsonb_each({counts}) c"
    " WHERE split_part(c.key, ':', 1) IN ('delete', 'deidentify', 'quarantine', 'restore', 'move'))"
)


def fact(scene: Scene, name: str, promise: Promise, description: str, severity: Severity = Severity.CRITICAL) -> Check:
    """A count that was taken outside SQL and staged, as a query like any other."""
    return Check(
        name,
        promise,
        severity,
        description,
        sql.SQL("SELECT 1 AS violation FROM {} f, generate_series(1, f.violations) WHERE f.name = %(name)s").format(
            scene.stage.facts
        ),
        {"name": name},
    )


def chain_check(scene: Scene) -> Check:
    return fact(
        scene,
        CHAIN,
        Promise.RECORDED,
        "Every row of the ledger is there, unchanged, and follows from the one before it",
    )


def run_checks(scene: Scene) -> Iterator[Check]:
    """The ledger and the plan of the run that is judged (``scene.run_id``)."""
    params = {"run_id": scene.run_id}
    yield Check(
        "plan_not_finished",
        Promise.RECORDED,
        Severity.CRITICAL,
        "Every unit of the frozen plan was carried out",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.plan_units u WHERE u.run_id = %(run_id)s"
            " AND u.status NOT IN ('done', 'awaiting')"
        ),
        params,
    )
    yield Check(
        "ledger_differs_from_work",
        Promise.RECORDED,
        Severity.CRITICAL,
        "For every unit and rule the ledger says what was disposed of, no more and no less",
        sql.SQL(
            "SELECT 1 AS violation FROM (SELECT u.unit, p.key AS fate, sum((p.value ->> 'records')::bigint) AS done"
            " FROM lifecycle.plan_units u, jsonb_each(u.progress) p WHERE u.run_id = %(run_id)s"
            " AND split_part(p.key, ':', 1) IN ('delete', 'deidentify', 'quarantine', 'restore', 'move') GROUP BY 1,"
            " 2) w"
            " FULL JOIN (SELECT l.unit, l.disposition || ':' || l.rule AS fate, sum((l.counts ->> 'records')::bigint)"
            " AS said"
            " FROM lifecycle.ledger l WHERE l.run_id = %(run_id)s AND l.entry = 'outcome' GROUP BY 1, 2) s"
            " USING (unit, fate) WHERE coalesce(w.done, 0) <> coalesce(s.said, 0)"
        ),
        params,
    )
    yield Check(
        "summary_differs_from_ledger",
        Promise.RECORDED,
        Severity.CRITICAL,
        "What the run says of itself is the sum of its ledger",
        sql.SQL(
            "SELECT 1 AS violation FROM (SELECT s.key AS fate, s.value::text::bigint AS told FROM lifecycle.runs r,"
            " jsonb_each(r.summary -> 'by_rule') s WHERE r.run_id = %(run_id)s) t"
            " FULL JOIN (SELECT l.disposition || ':' || l.rule AS fate, sum((l.counts ->> 'records')::bigint) AS said"
            " FROM lifecycle.ledger l JOIN lifecycle.runs r USING (run_id) WHERE l.run_id = %(run_id)s"
            " AND l.entry = 'outcome' AND l.disposition <> 'move' AND r.summary ? 'by_rule' GROUP BY 1) s"
            " USING (fate) WHERE coalesce(t.told, 0) <> coalesce(s.said, 0)"
        ),
        params,
    )
    yield Check(
        "disposed_beyond_plan",
        Promise.NEVER_EARLY,
        Severity.WARNING,
        "No unit lost more records than its frozen plan names (the rest was kept)",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.plan_units u WHERE u.run_id = %(run_id)s AND u.method <> 'accounts'"
            " AND {done} > {planned}"
        ).format(
            done=_RECORDS.format(counts=sql.Identifier("u", "progress")),
            planned=_RECORDS.format(counts=sql.Identifier("u", "planned")),
        ),
        params,
    )
    yield _intents(sql.SQL("i.run_id = %(run_id)s"), params)
    yield _cutoffs(scene, sql.SQL("l.run_id = %(run_id)s"), params)


def all_runs_checks(scene: Scene) -> Iterator[Check]:
    """The same for every run that has ended; one that failed may still be resumed and close its intents."""
    ended = sql.SQL(
        "i.run_id IN (SELECT r.run_id FROM lifecycle.runs r WHERE r.status IN ('succeeded', 'abandoned') AND NOT EXISTS"
        " (SELECT FROM lifecycle.runs w WHERE w.scope = r.scope AND {}))"
    ).format(AT_WORK)
    yield _intents(ended, {})
    yield _cutoffs(scene, sql.SQL("true"), {})
    yield Check(
        "approvals_not_in_ledger",
        Promise.RECORDED,
        Severity.CRITICAL,
        "Every answer to what waited for one is in the ledger, as it was given and to what was shown",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.approvals a WHERE a.status IN ('approved', 'automatic', 'rejected')"
            " AND NOT EXISTS (SELECT FROM lifecycle.ledger l WHERE l.entry = 'decision'"
            " AND l.run_key = 'approval/' || a.approval_id AND l.rule = a.status AND l.policy_hash = a.policy_hash"
            " AND l.counts ->> 'datasets_sha256' = a.catalog_hash AND l.counts ->> 'shown_sha256' = a.shown_hash"
            " AND l.counts ->> 'by' = a.decided_by)"
        ),
    )
    yield Check(
        "ledger_without_run",
        Promise.RECORDED,
        Severity.CRITICAL,
        "Every row of the ledger belongs to a registered run that was not a dry run",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.ledger l LEFT JOIN lifecycle.runs r USING (run_id)"
            " WHERE l.entry <> 'decision' AND (r.run_id IS NULL OR r.dry_run)"
        ),
    )


def _intents(which: sql.Composable, params: dict[str, int | None]) -> Check:
    return Check(
        "ledger_intent_without_outcome",
        Promise.RECORDED,
        Severity.CRITICAL,
        "Whatever was announced in the ledger has its outcome there",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.ledger i WHERE i.entry = 'intent' AND {} AND NOT EXISTS"
            " (SELECT FROM lifecycle.ledger o WHERE o.entry = 'outcome' AND o.run_id = i.run_id AND o.unit = i.unit"
            " AND o.disposition = i.disposition AND o.rule = i.rule)"
        ).format(which),
        params,
    )


def _cutoffs(scene: Scene, which: sql.Composable, params: dict[str, int | None]) -> Check:
    return Check(
        "ledger_cutoff_too_late",
        Promise.NEVER_EARLY,
        Severity.CRITICAL,
        f"No cut-off ran further ahead of its as-of than the lead ({scene.policy.lead.total})",
        sql.SQL("SELECT 1 AS violation FROM lifecycle.ledger l WHERE {} AND l.cutoff > l.as_of + {}").format(
            which, interval(scene.policy.lead.total)
        ),
        params,
    )


def research_balance(scene: Scene) -> Iterator[Check]:
    """What the ledger says was de-identified is what the research table gained."""
    counts = sql.SQL(
        "(SELECT coalesce(sum((l.counts ->> 'records')::bigint), 0) FROM lifecycle.ledger l WHERE l.entry = 'outcome'"
        " AND l.disposition = 'deidentify' AND l.dataset = %(dataset)s)"
    )
    rows = sql.SQL("(SELECT count(*) FROM {})").format(relation(scene.catalog.messages.research.table))
    for name, severity, more, less, words in (
        ("research_rows_missing", Severity.CRITICAL, counts, rows, "Every message that was de-identified is in"),
        ("research_rows_unaccounted", Severity.WARNING, rows, counts, "The ledger accounts for every row of"),
    ):
        yield Check(
            name,
            Promise.RECORDED,
            severity,
            f"{words} {scene.catalog.messages.research.table}",
            sql.SQL("SELECT 1 AS violation FROM generate_series(1, {} - {})").format(more, less),
            {"dataset": scene.catalog.messages.id},
        )


def held_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    """What the plan found under hold is still where it was. Judged for the given run, else for the tier's last one."""
    hold = scene.policy.rule_for(Trigger.HOLD, Category.PROMPTS_AND_OUTPUTS, tier)
    if hold is None:
        return
    names = scene.message_names()
    query = sql.SQL(
        "WITH judged AS (SELECT r.run_id, r.as_of FROM lifecycle.runs r WHERE r.scope = %(tier)s AND NOT r.dry_run"
        " AND CASE WHEN %(run_id)s::bigint IS NULL THEN r.status = 'succeeded' AND r.as_of <= %(as_of)s"
        " ELSE r.run_id = %(run_id)s END ORDER BY r.as_of DESC, r.run_id DESC LIMIT 1),"
        " kept AS (SELECT u.day, CASE WHEN u.unit ~ '/[0-9]{{4}}$' THEN u.day + interval '1 year'"
        " WHEN u.unit ~ '/[0-9]{{4}}-[0-9]{{2}}$' THEN u.day + interval '1 month' ELSE u.day + interval '1 day' END"
        " AS ends,"
        " sum((u.planned -> %(fate)s ->> 'records')::bigint) AS records FROM lifecycle.plan_units u"
        " JOIN judged USING (run_id) WHERE u.method <> 'quarantine' AND u.tier = %(tier)s AND u.day IS NOT NULL"
        " AND u.unit ~ '/[0-9]{{4}}(-[0-9]{{2}}){{0,2}}$' AND u.planned ? %(fate)s GROUP BY 1, 2)"
        " SELECT 1 AS violation FROM kept k, generate_series(1, k.records - (SELECT count(*) FROM {messages} m"
        " WHERE {tier} = %(tier)s AND {clock} >= k.day::timestamp AT TIME ZONE 'UTC'"
        " AND {clock} < k.ends AT TIME ZONE 'UTC' AND {held}))"
    ).format(**names, held=scene.reasons.held(scene.message_subject, sql.SQL("(SELECT j.as_of FROM judged j)")))
    yield Check(
        f"held_messages_lost.{tier.value}",
        Promise.HELD_STAYS,
        Severity.CRITICAL,
        f"Every {tier.value} message that the plan found under legal hold is still in the store",
        query,
        {"tier": tier.value, "run_id": scene.run_id, "as_of": scene.as_of, "fate": f"keep:{hold.id}"},
    )


def _as_named(column: sql.Composable, ids: Ids) -> sql.Composable:
    return column if ids == "uuid" else any_case(column, "text")


def holds_without_records(scene: Scene) -> Check:
    """An open hold on something of which nothing is left. Never there, gone before, or lost: somebody should look."""
    dataset, ids = scene.catalog.messages, scene.catalog.messages.subject_ids
    target = TARGET_UUID.format(alias=sql.Identifier("h"))
    return Check(
        "holds_without_records",
        Promise.HELD_STAYS,
        Severity.WARNING,
        "Every open hold on a message, conversation or account finds records of it",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.legal_holds h,"
            " LATERAL (SELECT {target} AS target, {named} AS named) t"
            " WHERE (h.released_at IS NULL OR h.released_at > %(as_of)s) AND h.placed_at < %(settled)s AND CASE h.scope"
            " WHEN 'message' THEN NOT EXISTS (SELECT FROM {messages} m WHERE m.{record} = t.target)"
            "  AND NOT EXISTS (SELECT FROM lifecycle.quarantine q WHERE q.message_id = t.target)"
            " WHEN 'conversation' THEN NOT EXISTS (SELECT FROM {messages} m WHERE m.{group} = t.target)"
            "  AND NOT EXISTS (SELECT FROM lifecycle.quarantine q WHERE q.conversation_id = t.target)"
            " WHEN 'account' THEN NOT EXISTS (SELECT FROM {messages} m WHERE {subject} = t.named)"
            "  AND NOT EXISTS (SELECT FROM lifecycle.quarantine q WHERE {quarantined} = t.named)"
            "  AND NOT EXISTS (SELECT FROM {accounts} a WHERE {account} = t.named)"
            " ELSE false END"
        ).format(
            target=target,
            messages=relation(dataset.table),
            record=sql.Identifier(dataset.record),
            group=sql.Identifier(dataset.group),
            # Accounts that are no uuids are held in whatever case of letters; then no index finds them.
            named=target if ids == "uuid" else sql.SQL("lower(btrim(h.target))"),
            subject=_as_named(sql.Identifier("m", dataset.subject), ids),
            quarantined=_as_named(subject_of_quarantined(dataset, "q").account, ids),
            accounts=relation(scene.catalog.accounts.table),
            account=_as_named(sql.Identifier("a", scene.catalog.accounts.key), ids),
        ),
        scene.instants,
    )
