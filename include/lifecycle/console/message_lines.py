"""The console's lines of prompts and outputs: in the tables, and in quarantine."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lifecycle.console.counting import PROMPTS, RECORDS, cutoff, due_and_kept, horizon, late_counts, oldest, reasons
from lifecycle.console.model import Line
from lifecycle.policy.models import Rule, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.exceptions import as_read
from lifecycle.validation.fragments import (
    AT_AS_OF,
    comparable,
    ends,
    ends_down,
    interval,
    relation,
    subject_of_quarantined,
)
from lifecycle.validation.queries import messages, quarantine
from lifecycle.validation.scene import Scene


def message_lines(conn: Connection, scenes: dict[str, Scene]) -> Iterator[Line]:
    if not scenes[RECORDS].catalog.has_messages:
        return
    for tier in (*Tier, None):
        scene = scenes[tier.value if tier else RECORDS]
        rule = scene.policy.rule_for(Trigger.DEFAULT, PROMPTS, tier) if tier else scene.policy.strictest(PROMPTS)
        if rule is None or rule.period is None:
            continue
        due, kept = due_and_kept(_beyond_cutoff(conn, scene, tier, rule))
        checks = messages.tier_checks(scene, tier) if tier else messages.unclassified_checks(scene)
        overdue, explained = late_counts(conn, checks)
        yield Line(
            tier=tier.value if tier else "unclassified",
            dataset=scene.catalog.messages.id,
            scope=scene.scope,
            rule=rule.id,
            period=str(rule.period),
            kind=rule.kind.value,
            cutoff=cutoff(scene, rule),
            oldest=oldest(
                conn,
                sql.SQL("SELECT min({clock}) FROM {messages} m WHERE {which}").format(
                    **scene.message_names(), which=_of_tier(scene, tier)
                ),
            ),
            due=due,
            overdue=overdue,
            explained=explained,
            kept=kept,
        )


def _of_tier(scene: Scene, tier: Tier | None) -> sql.Composable:
    column = scene.message_names()["tier"]
    if tier is not None:
        return sql.SQL("{} = {}").format(column, sql.Literal(tier.value))
    return sql.SQL("{} <> ALL ({})").format(column, sql.Literal([each.value for each in Tier]))


def _beyond_cutoff(conn: Connection, scene: Scene, tier: Tier | None, rule: Rule) -> list[tuple[str, int]]:
    """Rows past the default's cut-off by what keeps them; longer terms count as a reason, shorter ones add rows."""
    if rule.period is None:
        return []
    names = scene.message_names()
    reason = reasons(scene, tier, scene.message_subject, set(Trigger))
    end = ends(names["clock"], rule)
    kept_by_terms: sql.Composable = sql.SQL("false")
    bound = rule.period.cutoff_bound(horizon(scene))
    if tier is not None and scene.policy.rule_for(Trigger.AGREEMENT, PROMPTS, tier) is not None:
        agreed = scene.reasons.agreed(
            names["account"], names["clock"], PROMPTS, AT_AS_OF, scene.catalog.messages.subject_ids
        )
        terms = sql.SQL("coalesce({}, {})").format(agreed, interval(rule.period))
        kept_by_terms = sql.SQL("{} >= %(horizon)s").format(ends_down(names["clock"], terms))
    rows = conn.execute(
        sql.SQL(
            "SELECT CASE WHEN b.reason = 'none' AND b.terms THEN 'agreement' ELSE b.reason END, count(*) FROM"
            " (SELECT {reason} AS reason, {terms} AS terms FROM {messages} m WHERE {which} AND {clock} < %(bound)s"
            " AND {end} < %(horizon)s AND {clock} < %(as_of)s) b GROUP BY 1"
        ).format(**names, reason=reason, terms=kept_by_terms, which=_of_tier(scene, tier), end=end),
        {"as_of": scene.as_of, "horizon": horizon(scene), "bound": bound},
    ).fetchall()
    found = {name: int(number) for name, number in rows}
    if tier is not None and scene.policy.rule_for(Trigger.AGREEMENT, PROMPTS, tier) is not None:
        found["none"] = found.get("none", 0) + _due_by_shorter_terms(conn, scene, tier, rule)
    return list(found.items())


def _due_by_shorter_terms(conn: Connection, scene: Scene, tier: Tier, rule: Rule) -> int:
    """Rows that the default would still keep and their account's agreement does not."""
    names, terms, ids = scene.message_names(), scene.catalog.agreements, scene.catalog.messages.subject_ids
    agreed = scene.reasons.agreed(
        names["account"], names["clock"], PROMPTS, AT_AS_OF, scene.catalog.messages.subject_ids
    )
    row = conn.execute(
        sql.SQL(
            "SELECT count(*) FROM (SELECT DISTINCT {subject} AS account FROM {agreements} a) p JOIN {messages} m"
            " ON {party} = p.account WHERE {which} AND {end} >= %(horizon)s AND {agreed_end} < %(horizon)s"
            " AND {clock} < %(as_of)s AND {reason} = 'none'"
        ).format(
            **names,
            subject=comparable(sql.Identifier("a", terms.subject), ids),
            party=comparable(names["account"], ids),
            agreements=as_read(terms, ids),
            which=_of_tier(scene, tier),
            end=ends(names["clock"], rule),
            agreed_end=ends_down(names["clock"], agreed),
            reason=reasons(scene, tier, scene.message_subject, set(Trigger)),
        ),
        {"as_of": scene.as_of, "horizon": horizon(scene)},
    ).fetchone()
    return int(row[0]) if row is not None else 0


def quarantine_lines(conn: Connection, scenes: dict[str, Scene]) -> Iterator[Line]:
    if not scenes[RECORDS].catalog.has_messages:
        return
    for tier in Tier:
        scene = scenes[tier.value]
        rule = scene.policy.rule_for(Trigger.FLAG, PROMPTS, tier)
        if rule is None or rule.period is None:
            continue
        subject = subject_of_quarantined(scene.catalog.messages, "q")
        received, params = sql.Identifier("q", "received_at"), {"tier": tier.value, "as_of": scene.as_of}
        rows = conn.execute(
            sql.SQL(
                "SELECT {reason}, count(*) FROM lifecycle.quarantine q WHERE q.tier = %(tier)s"
                " AND ({end} < %(horizon)s OR NOT {flagged}) GROUP BY 1"
            ).format(
                reason=reasons(scene, tier, subject, {Trigger.HOLD, Trigger.CASE}),
                end=ends(received, rule),
                flagged=scene.reasons.flagged(sql.Identifier("q", "message_id"), AT_AS_OF),
            ),
            params | {"horizon": horizon(scene)},
        ).fetchall()
        due, kept = due_and_kept(rows)
        overdue, explained = late_counts(conn, quarantine.index_checks(scene, tier))
        yield Line(
            tier=tier.value,
            dataset="quarantine",
            scope=tier.value,
            rule=rule.id,
            period=str(rule.period),
            kind=rule.kind.value,
            cutoff=cutoff(scene, rule),
            oldest=oldest(
                conn,
                sql.SQL("SELECT min(q.received_at) FROM {} q WHERE q.tier = %(tier)s").format(
                    relation("lifecycle.quarantine")
                ),
                {"tier": tier.value},
            ),
            due=due,
            overdue=overdue,
            explained=explained,
            kept=kept,
        )
