"""Stages of ordinary tables, what goes with their rows, and views made from them: the auditor's own queries."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lifecycle.catalog.models import OrphanRecords, Records, StagedRecords
from lifecycle.catalog.stages import Descendant
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.validation.clocks import day_of, reading
from lifecycle.validation.exceptions import as_read
from lifecycle.validation.fragments import AT_SETTLED, Subject, comparable, ends_down, relation, subject_of
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene


def judged_as(dataset: Records) -> Tier | None:
    """The tier whose rules are asked; None for rows of a tier that nobody declared."""
    share = dataset.share_of
    return share.tier if share is not None else dataset.tier_is or Tier.CONSUMER


def of_its_tier(dataset: Records, alias: str) -> sql.Composable:
    """Whether a row is one of those that a dataset speaks of, where each tier's rows are one of their own."""
    share = dataset.share_of
    if share is None:
        return sql.SQL("true")
    tiers = share.tiers
    values = list(tiers.known if share.tier is None else tiers.held_for(share.tier))
    if tiers.table is not None and tiers.key is not None:
        return sql.SQL(
            "{no} EXISTS (SELECT 1 FROM {other} w WHERE w.{key} = {by} AND w.{column}::text IN ({values}))"
        ).format(
            no=sql.SQL("NOT" if share.tier is None else ""),
            other=relation(tiers.table),
            key=sql.Identifier(tiers.key),
            by=sql.Identifier(alias, share.by),
            column=sql.Identifier(tiers.column),
            values=sql.SQL(", ").join(map(sql.Literal, values)),
        )
    known = sql.SQL("{}::text IN ({})").format(
        sql.Identifier(alias, tiers.column), sql.SQL(", ").join(map(sql.Literal, values))
    )
    return known if share.tier is not None else sql.SQL("coalesce(NOT {}, true)").format(known)


def remains(dataset: Records, alias: str) -> sql.Composable:
    """Whether a row is the dataset's and anything is left in it of what the dataset disposes of."""
    return sql.SQL("{} AND {}").format(of_its_tier(dataset, alias), _left(dataset, alias))


def _left(dataset: Records, alias: str) -> sql.Composable:
    """Whether anything is left in a row of what the dataset disposes of: for a stage, in any column it empties; of a
    child's orphans, whether its row is still gone.

    Null where nothing is: a column that is null holds nothing. In the form that a partial index on what is left serves.
    """
    if isinstance(dataset, OrphanRecords):
        part = dataset.orphan
        return sql.SQL("({key} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.{above} = {key}))").format(
            key=sql.Identifier(alias, part.key), parent=relation(part.parent), above=sql.Identifier(part.parent_key)
        )
    if not isinstance(dataset, StagedRecords):
        return sql.SQL("true")
    columns = [
        sql.SQL("{} <> {}").format(sql.Identifier(alias, each.column), sql.Literal(each.value))
        if each.value is not None
        else sql.SQL("{} IS NOT NULL").format(sql.Identifier(alias, each.column))
        for each in dataset.part.clear
    ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(columns))


def spoken(dataset: Records) -> str:
    """The beginning of a sentence about what must be gone."""
    share = dataset.share_of
    tier = f" of tier {share.name}" if share is not None else ""
    if isinstance(dataset, StagedRecords):
        return f"No content of {dataset.table}{tier} ({', '.join(each.column for each in dataset.part.clear)})"
    return f"No row of {dataset.table}{tier}" + (" without its row" if isinstance(dataset, OrphanRecords) else "")


def keeps_content(scene: Scene, dataset: Records, subject: Subject, trigger: Trigger) -> sql.Composable:
    """Whatever the policy ranks above a trigger, with agreements, which set an end of their own."""
    tier = judged_as(dataset)
    above = scene.reasons.above(trigger, dataset.category, tier, subject, AT_SETTLED)
    if trigger is not Trigger.DEFAULT or scene.reasons.rule(Trigger.AGREEMENT, dataset.category, tier) is None:
        return above
    agreed = scene.reasons.agreed(
        subject.account, reading(dataset.clock, "r"), dataset.category, AT_SETTLED, subject.account_ids
    )
    return sql.SQL("({} OR {} IS NOT NULL)").format(above, agreed)


def agreement_checks(scene: Scene, dataset: Records) -> Iterator[Check]:
    """Content whose account has terms of its own ends by them."""
    tier = judged_as(dataset)
    rule = scene.reasons.rule(Trigger.AGREEMENT, dataset.category, tier)
    if rule is None or dataset.category is not Category.PROMPTS_AND_OUTPUTS:
        return
    subject, clock = subject_of(dataset, "r"), reading(dataset.clock, "r")
    agreed = scene.reasons.agreed(subject.account, clock, dataset.category, AT_SETTLED, subject.account_ids)
    above = scene.reasons.above(Trigger.AGREEMENT, dataset.category, tier, subject, AT_SETTLED)
    terms = scene.catalog.agreements
    waits = scene.awaits_table(dataset, day_of(dataset.clock, "r"))
    yield Check(
        f"{dataset.id}_past_agreement",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"{spoken(dataset)} is older than its account's agreement (rule {rule.id}) without a reason to stay",
        sql.SQL(
            "SELECT 1 AS violation FROM {table} r WHERE {subject} IN (SELECT {party} FROM {terms} a)"
            " AND {clock} < %(settled)s AND {end} < %(settled)s AND ({above} OR {waits}) IS NOT TRUE AND {remains}"
        ).format(
            table=relation(dataset.table),
            subject=comparable(sql.Identifier("r", dataset.subject), subject.account_ids),
            party=comparable(sql.Identifier("a", terms.subject), subject.account_ids),
            terms=as_read(terms, subject.account_ids),
            clock=clock,
            end=ends_down(clock, agreed),
            above=above,
            waits=waits,
            remains=remains(dataset, "r"),
        ),
        {"settled": scene.settled},
    )


def orphan_checks(dataset: Records) -> Iterator[Check]:
    """Rows of children whose record is gone: nobody's clock would ever end them."""
    yield from _orphans(dataset.children, dataset.table, dataset.referred_key)


def _orphans(children: tuple[Descendant, ...], parent: str, key: str) -> Iterator[Check]:
    for child in children:
        if child.orphans is not None:
            # They have a deadline: `<dataset>.<name>_past_deadline` counts those that are past it.
            yield from _orphans(child.children, child.table, "")
            continue
        yield Check(
            f"children_without_record.{child.table.split('.', 1)[1]}",
            Promise.AGREEMENT,
            Severity.CRITICAL,
            f"No row of {child.table} outlives its row of {parent}",
            sql.SQL(
                "SELECT 1 AS violation FROM {child} c WHERE c.{key} IS NOT NULL AND NOT EXISTS"
                " (SELECT FROM {parent} p WHERE p.{parent_key} = c.{key})"
            ).format(
                child=relation(child.table),
                key=sql.Identifier(child.key),
                parent=relation(parent),
                parent_key=sql.Identifier(child.parent_key or key),
            ),
        )
        yield from _orphans(child.children, child.table, "")


def refresh_checks(scene: Scene, dataset: Records) -> Iterator[Check]:
    """Materialized views that were made before the last disposal still show what is gone."""
    if not dataset.refresh:
        return
    names = [each.id for each in dataset.unfolded if not isinstance(each, OrphanRecords)]
    yield Check(
        f"{dataset.id}_views_refreshed",
        Promise.NEVER_LATE,
        Severity.CRITICAL,
        f"Every materialized view made from {dataset.table} was refreshed after its rows last went",
        sql.SQL(
            "SELECT 1 AS violation FROM unnest(%(views)s::text[]) v(name) WHERE (SELECT max(u.finished_at)"
            " FROM lifecycle.plan_units u JOIN lifecycle.runs r USING (run_id) WHERE u.dataset = ANY (%(datasets)s)"
            " AND NOT r.dry_run AND EXISTS (SELECT FROM jsonb_each(u.progress) c WHERE split_part(c.key, ':', 1)"
            " IN ('delete', 'deidentify') AND (c.value ->> 'records')::bigint > 0))"
            " > coalesce((SELECT f.refreshed_at FROM lifecycle.refreshed_views f WHERE f.name = v.name), '-infinity')"
        ),
        {"views": list(dataset.refresh), "datasets": names},
    )
