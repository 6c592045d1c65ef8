"""Messages in their table: past their deadline, flagged and not moved, erased and still there, never classified."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from psycopg import sql

from lifecycle.policy.models import Category, Rule, Tier, Trigger
from lifecycle.validation.clocks import day_of, perhaps_before, reading
from lifecycle.validation.exceptions import as_read
from lifecycle.validation.fragments import (
    AT_AS_OF,
    AT_SETTLED,
    comparable,
    ends,
    ends_down,
    interval,
    is_asked_for,
    subject_of,
)
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene

CATEGORY = Category.PROMPTS_AND_OUTPUTS
KNOWN_TIERS = [tier.value for tier in Tier]


def tier_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    """Everything about the messages of one tier that is in the messages table."""
    default = scene.policy.rule_for(Trigger.DEFAULT, CATEGORY, tier)
    if default is not None:
        yield from _past_default(scene, tier, default)
        if scene.policy.rule_for(Trigger.AGREEMENT, CATEGORY, tier) is not None:
            yield from _past_agreement(scene, tier, default)
    flag = scene.policy.rule_for(Trigger.FLAG, CATEGORY, tier)
    if flag is not None:
        yield _flagged_in_store(scene, tier)
    yield from erasure_checks(scene, tier)


def erasure_checks(scene: Scene, tier: Tier) -> Iterator[Check]:
    """What erasure requests ask of the messages of a tier."""
    erasure = scene.policy.rule_for(Trigger.ERASURE, CATEGORY, tier)
    if erasure is not None:
        yield _erased_in_store(scene, tier, erasure)


def _stays(scene: Scene, tier: Tier | None, trigger: Trigger, at: sql.Composable) -> sql.Composable:
    messages = scene.catalog.messages
    kept = scene.reasons.above(trigger, CATEGORY, tier, subject_of(messages, "m"), at)
    if not scene.awaiting:
        return kept
    waits = scene.awaits(day_of(messages.clock, "m"), messages.id, tier.value if tier else None)
    return sql.SQL("({} OR {})").format(kept, waits)


def _bound(rule: Rule, scene: Scene) -> datetime:
    """No row whose clock is later than this can be past the rule's deadline: lets the planner prune partitions."""
    if rule.period is None:
        raise ValueError(f"rule {rule.id} has no period of its own")
    return rule.period.cutoff_bound(scene.as_of)


def _explained(base: Check, name: str, query: sql.Composable) -> Check:
    return Check(
        name,
        Promise.NEVER_LATE,
        Severity.WARNING,
        f"Late, but explained: what kept it ended so recently that no run had to act on it yet ({base.name})",
        query,
        base.params,
        informative=True,
    )


def _past_default(scene: Scene, tier: Tier, rule: Rule) -> Iterator[Check]:
    names = scene.message_names()
    with_terms = scene.policy.rule_for(Trigger.AGREEMENT, CATEGORY, tier) is not None
    past = sql.SQL(
        "SELECT 1 AS violation FROM {messages} m"
        " WHERE {tier} = %(tier)s AND {near} AND {end} < %(as_of)s AND {clock} < %(settled)s AND {no_terms}"
    ).format(
        **names,
        near=perhaps_before(scene.catalog.messages.clock, "m", _bound(rule, scene)),
        end=ends(names["clock"], rule),
        no_terms=_never_agreed(scene) if with_terms else sql.SQL("true"),
    )
    params = {**scene.instants, "tier": tier.value}
    check = Check(
        f"messages_past_deadline.{tier.value}",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"No {tier.value} message is older than {rule.period} (rule {rule.id}) without a reason to stay",
        sql.SQL("{} AND {} IS NOT TRUE").format(past, _stays(scene, tier, Trigger.DEFAULT, AT_SETTLED)),
        params,
    )
    yield check
    yield _explained(
        check,
        f"messages_late_but_explained.{tier.value}",
        sql.SQL("{} AND {} IS NOT TRUE AND {}").format(
            past,
            _stays(scene, tier, Trigger.DEFAULT, AT_AS_OF),
            _stays(scene, tier, Trigger.DEFAULT, AT_SETTLED),
        ),
    )


def _never_agreed(scene: Scene) -> sql.Composable:
    terms, ids = scene.catalog.agreements, scene.catalog.messages.subject_ids
    return sql.SQL(
        "NOT EXISTS (SELECT FROM {agreements} a WHERE {subject} = {account} AND a.{category} = {this})"
    ).format(
        agreements=as_read(terms, ids),
        subject=comparable(sql.Identifier("a", terms.subject), ids),
        account=comparable(sql.Identifier("m", scene.catalog.messages.subject), ids),
        category=sql.Identifier(terms.category),
        this=sql.Literal(CATEGORY.value),
    )


def _past_agreement(scene: Scene, tier: Tier, default: Rule) -> Iterator[Check]:
    """Accounts with agreements, past or present: the terms in effect, or else the default, at both instants."""
    if default.period is None:
        return
    names, terms, ids = scene.message_names(), scene.catalog.agreements, scene.catalog.messages.subject_ids

    def end_at(instant: sql.Composable) -> sql.Composable:
        agreed = scene.reasons.agreed(names["account"], names["clock"], CATEGORY, instant, ids)
        period = sql.SQL("coalesce({}, {})").format(agreed, interval(default.period)) if default.period else agreed
        return ends_down(names["clock"], period)

    past = sql.SQL(
        "SELECT 1 AS violation FROM (SELECT DISTINCT {subject} AS account FROM {agreements} a"
        " WHERE a.{category} = %(category)s) p JOIN {messages} m ON {party} = p.account"
        " WHERE {tier} = %(tier)s AND {clock} < %(settled)s AND {now} < %(as_of)s"
    ).format(
        **names,
        agreements=as_read(terms, ids),
        subject=comparable(sql.Identifier("a", terms.subject), ids),
        party=comparable(names["account"], ids),
        category=sql.Identifier(terms.category),
        now=end_at(AT_AS_OF),
    )
    before = sql.SQL("{} < %(as_of)s").format(end_at(AT_SETTLED))
    kept_then = _stays(scene, tier, Trigger.AGREEMENT, AT_SETTLED)
    check = Check(
        f"messages_past_agreement.{tier.value}",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"No {tier.value} message of an account with agreed terms is older than these terms (or, after them, the"
        f" default)",
        sql.SQL("{} AND {} AND {} IS NOT TRUE").format(past, before, kept_then),
        {**scene.instants, "tier": tier.value, "category": CATEGORY.value},
    )
    yield check
    yield _explained(
        check,
        f"messages_late_after_agreement.{tier.value}",
        sql.SQL("{} AND {} IS NOT TRUE AND ({} OR NOT {})").format(
            past, _stays(scene, tier, Trigger.AGREEMENT, AT_AS_OF), kept_then, before
        ),
    )


def _flagged_in_store(scene: Scene, tier: Tier) -> Check:
    flags = scene.catalog.flags
    names = scene.message_names()
    query = sql.SQL(
        "SELECT 1 AS violation FROM {flags} f JOIN {messages} m ON {message} = f.{record}"
        " WHERE {tier} = %(tier)s AND (f.{cleared} IS NULL OR f.{cleared} > %(as_of)s)"
        " AND f.{flagged} < %(settled)s AND {clock} < %(settled)s AND {kept} IS NOT TRUE"
    ).format(
        **names,
        flags=as_read(flags),
        record=sql.Identifier(flags.record),
        cleared=sql.Identifier(flags.cleared),
        flagged=sql.Identifier(flags.flagged),
        kept=_stays(scene, tier, Trigger.FLAG, AT_SETTLED),
    )
    return Check(
        f"flagged_not_quarantined.{tier.value}",
        Promise.QUARANTINE,
        Severity.CRITICAL,
        f"Every {tier.value} message with an uncleared safety flag has left the store, unless it is under hold",
        query,
        {**scene.instants, "tier": tier.value},
    )


def _erased_in_store(scene: Scene, tier: Tier, rule: Rule) -> Check:
    names, ids = scene.message_names(), scene.catalog.messages.subject_ids
    requested = sql.SQL("e.requested_at")
    asked = sql.SQL(
        "SELECT {message} AS record FROM lifecycle.erasure_requests e JOIN {messages} m ON {asked_for}"
        " WHERE e.scope = {scope} AND {tier} = %(tier)s AND {late} < %(as_of)s"
        " AND (e.completed_at IS NULL OR {clock} <= e.completed_at) AND {clock} < %(settled)s AND {kept} IS NOT TRUE"
    )
    per_scope = [
        asked.format(
            **names,
            asked_for=is_asked_for(names[scope], "e", ids if scope == "account" else "uuid"),
            scope=sql.Literal(scope),
            late=ends(requested, rule),
            kept=_stays(scene, tier, Trigger.ERASURE, AT_SETTLED),
        )
        for scope in ("account", "conversation", "message")
    ]
    return Check(
        f"erased_messages_remain.{tier.value}",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"No {tier.value} message outlives an erasure request by more than {rule.period} without a higher reason to"
        f" stay",
        sql.SQL("SELECT 1 AS violation FROM ({}) r").format(sql.SQL(" UNION ").join(per_scope)),
        {**scene.instants, "tier": tier.value},
    )


def unclassified_checks(scene: Scene) -> Iterator[Check]:
    """Messages of a tier that nobody declared: counted, and under the strictest deadline (hard case 23)."""
    rule = scene.policy.strictest(CATEGORY)
    names = scene.message_names()
    unknown = sql.SQL("SELECT 1 AS violation FROM {messages} m WHERE {tier} <> ALL (%(tiers)s)").format(**names)
    params = {**scene.instants, "tiers": KNOWN_TIERS}
    yield Check(
        "messages_unclassified",
        Promise.CLASSIFIED,
        Severity.WARNING,
        "Every message belongs to a declared tier",
        unknown,
        params,
    )
    yield Check(
        "messages_past_deadline.unclassified",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"No message of an undeclared tier is older than the strictest period, {rule.period}, without a reason to stay",
        sql.SQL("{} AND {} < %(as_of)s AND {} < %(settled)s AND {} IS NOT TRUE").format(
            unknown,
            ends(names["clock"], rule),
            names["clock"],
            _stays(scene, None, Trigger.DEFAULT, AT_SETTLED),
        ),
        params,
    )


def default_partition_check(
    scene: Scene, partitions: list[sql.Identifier], tiers: list[str], name: str
) -> Check | None:
    """Rows of known tiers that are still in a default partition a schedule interval after they came (hard case 12)."""
    if not partitions:
        return None
    dataset = scene.catalog.messages
    rows = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT 1 AS violation FROM {partition} m WHERE {tier} = ANY (%(tiers)s)"
            " AND {clock} < %(settled)s::timestamptz - {interval}"
        ).format(
            partition=partition,
            tier=sql.Identifier("m", dataset.tier),
            clock=reading(dataset.clock, "m"),
            interval=interval(scene.policy.lead.schedule_interval),
        )
        for partition in partitions
    )
    return Check(
        name,
        Promise.CLASSIFIED,
        Severity.WARNING,
        "No default partition keeps rows of a declared tier for longer than a schedule interval",
        sql.SQL("SELECT violation FROM ({}) d").format(rows),
        {"settled": scene.settled, "tiers": tiers},
    )
