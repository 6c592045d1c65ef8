"""Measures what a run of a scope would do, and shapes it into units. Reads only; the dry run ends here (case 21)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

from psycopg import sql

from lifecycle.catalog.models import Accounts, Records
from lifecycle.dispositions.census import census, count_records
from lifecycle.dispositions.context import ERASURE_SCOPE, RECORDS_SCOPE, RunContext
from lifecycle.dispositions.erasure import erasable
from lifecycle.dispositions.leaves import leaf_units, outside_of, spans_of
from lifecycle.dispositions.logs import survey_logs
from lifecycle.dispositions.native import would_leave
from lifecycle.dispositions.orphans import survey_orphans
from lifecycle.dispositions.uploads import survey_uploads
from lifecycle.planning.units import Method, Tally, Unit, choose_method, in_order
from lifecycle.policy.models import Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.candidates import AS_OF
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.idle_holds import warn_of_idle_holds
from lifecycle.stores.postgres.messages import tallies
from lifecycle.stores.postgres.references import warn_of_strangers
from lifecycle.stores.postgres.told import read_from
from lifecycle.stores.postgres.tree import (
    Partition,
    partitions_of,
    tier_root,
    unclassified_label,
    unclassified_partitions,
)


def survey(context: RunContext) -> list[Unit]:
    """Every unit of the run's scope, the earliest deadline first."""
    units: list[Unit] = []
    warn_of_idle_holds(context.conn, context.catalog)
    if context.tiers:
        warn_of_strangers(context.conn, context.catalog)
    for tier in context.tiers:
        units.extend(message_units(context, tier))
        if context.run.scope != ERASURE_SCOPE:
            units.extend(_quarantine_units(context, tier))
            units.extend(survey_orphans(context, tier))
    if context.run.scope == RECORDS_SCOPE:
        if context.catalog.has_messages:
            units.extend(_unclassified_units(context))
        for dataset in context.catalog.records:
            units.extend(table_units(context, dataset))
        units.extend(survey_logs(context))
        if context.catalog.has_messages:
            units.extend(survey_orphans(context, None))
        units.extend(survey_uploads(context))
    if context.run.scope == ERASURE_SCOPE:
        units.extend(_record_unit(context, dataset) for dataset in erasable(context))
    if context.run.scope in (RECORDS_SCOPE, ERASURE_SCOPE) and context.catalog.has_accounts:
        units.append(_record_unit(context, context.catalog.accounts))
    return [unit for unit in in_order(units) if unit.due or unit.method is Method.ACCOUNTS]


def _deadline(context: RunContext, tier: Tier | None, found: list[Tally]) -> datetime | None:
    """The earliest instant at which a promise about the unit's due records strikes."""
    oldest = [tally.oldest for tally in found if tally.disposes and tally.oldest is not None]
    if not oldest:
        return None
    rule = (
        context.policy.rule_for(Trigger.DEFAULT, context.messages.category, tier)
        if tier
        else context.policy.strictest(context.messages.category)
    )
    period = rule.period if rule is not None and rule.period is not None else Period()
    return period.end(min(oldest), round_up=False)


def message_units(context: RunContext, tier: Tier) -> Iterator[Unit]:
    """Partitions with due rows: those behind the cut-off, and newer ones in which an exception makes rows due."""
    dataset = context.messages
    source = tier_root(context.conn, dataset, tier)
    if source is None:
        return
    leaves = {leaf.name: leaf for leaf in partitions_of(context.conn, dataset, tier)}
    counted = census(context, tier, source, leaves.values())
    cutoff = context.cutoff(tier)
    for name, found in counted.items():
        kept_or_due = [tally for tally in found if tally.disposition != "quarantine"]
        going = [tally for tally in kept_or_due if tally.disposes and _in_scope(context, tally)]
        if not going:
            continue
        staying = [tally for tally in kept_or_due if not tally.disposes]
        leaf = leaves[name]
        shown = (*going, *staying)
        yield Unit(
            unit=f"{dataset.id}/{tier.value}/{leaf.label}",
            dataset=dataset.id,
            method=_method(context, leaf, shown),
            tallies=shown,
            tier=tier.value,
            day=leaf.lower.date() if leaf.lower else None,
            cutoff=cutoff,
            deadline=_deadline(context, tier, going),
            left_to_s3=would_leave(context, tier, leaf),
        )


def _method(context: RunContext, leaf: Partition, shown: tuple[Tally, ...]) -> Method:
    if leaf.is_default or context.run.scope == ERASURE_SCOPE:
        return Method.ROWS
    if leaf.latest is None or leaf.latest > context.run.as_of:
        return Method.ROWS
    return choose_method(shown)


def _in_scope(context: RunContext, tally: Tally) -> bool:
    """The hourly run carries out erasure requests and nothing else."""
    return context.run.scope != ERASURE_SCOPE or tally.rule == context.erasure_rule


def _unclassified_units(context: RunContext) -> Iterator[Unit]:
    """Rows of a tier nobody declared: counted, shown, and under the strictest deadline (hard case 23)."""
    dataset = context.messages
    where = ClockSql.of(dataset.clock, "m").before(AS_OF)
    for leaf in unclassified_partitions(context.conn, dataset):
        counted = tallies(context.conn, dataset, leaf.identifier, context.fate(None), where, context.params)
        found = counted.get(leaf.name)
        if found:
            yield Unit(
                unit=f"{dataset.id}/{unclassified_label(leaf)}",
                dataset=dataset.id,
                method=Method.ROWS,
                tallies=tuple(found),
                cutoff=context.cutoff(None),
                deadline=_deadline(context, None, found),
            )


def _by_day(rows: list[tuple[date, str, int, int, datetime]]) -> dict[date, list[Tally]]:
    found: dict[date, list[Tally]] = {}
    for day, fate, records, objects, oldest in rows:
        found.setdefault(day, []).append(Tally(fate, records, objects, oldest))
    return found


def _quarantine_units(context: RunContext, tier: Tier) -> Iterator[Unit]:
    """Per receipt day: what moves in because it is flagged, and what leaves because the flag or the two years ended."""
    coming = _by_day(_to_quarantine(context, tier))
    leaving = _by_day(_from_quarantine(context, tier))
    for day in sorted(coming.keys() | leaving.keys()):
        found = (*coming.get(day, ()), *leaving.get(day, ()))
        if not any(tally.disposes for tally in found):
            continue
        yield Unit(
            unit=f"quarantine/{tier.value}/{day.isoformat()}",
            dataset=context.messages.id,
            method=Method.QUARANTINE,
            tallies=found,
            tier=tier.value,
            day=day,
            deadline=datetime(day.year, day.month, day.day, tzinfo=UTC),
        )


def _to_quarantine(context: RunContext, tier: Tier) -> list[tuple[date, str, int, int, datetime]]:
    dataset, flags = context.messages, context.catalog.flags
    return context.conn.execute(
        sql.SQL(
            "SELECT ({clock} AT TIME ZONE 'UTC')::date, {fate}, count(*), count(m.{key}), min({clock}) FROM {t} m"
            " WHERE m.{tier} = {name} AND m.{record} IN (SELECT f.{flag} FROM {flags} f WHERE f.{cleared} IS NULL"
            " OR f.{cleared} > %(as_of)s) AND split_part({fate}, ':', 1) = 'quarantine' GROUP BY 1, 2"
        ).format(
            clock=ClockSql.of(dataset.clock, "m").instant,
            fate=context.fate(tier),
            key=sql.Identifier(dataset.objects.column),
            t=table(dataset.table),
            tier=sql.Identifier(dataset.tier),
            name=sql.Literal(tier.value),
            record=sql.Identifier(dataset.record),
            flag=sql.Identifier(flags.record),
            flags=read_from(flags),
            cleared=sql.Identifier(flags.cleared),
        ),
        context.params,
    ).fetchall()


def _from_quarantine(context: RunContext, tier: Tier) -> list[tuple[date, str, int, int, datetime]]:
    """A fate of "keep" means that the next rule lets the message return; "quarantine" and holds mean it stays."""
    hold = context.policy.rule_for(Trigger.HOLD, context.messages.category, tier)
    return context.conn.execute(
        sql.SQL(
            "SELECT (m.received_at AT TIME ZONE 'UTC')::date, CASE split_part({fate}, ':', 1) WHEN 'keep' THEN"
            " CASE WHEN {fate} = {held} THEN {fate} ELSE 'restore:' || split_part({fate}, ':', 2) END"
            " WHEN 'quarantine' THEN 'keep:' || split_part({fate}, ':', 2) ELSE {fate} END,"
            " count(*), count(m.object_sha256), min(m.received_at)"
            " FROM lifecycle.quarantine m WHERE m.tier = {tier} GROUP BY 1, 2"
        ).format(
            fate=context.quarantine_fate(tier),
            held=sql.Literal(f"keep:{hold.id if hold else ''}"),
            tier=sql.Literal(tier.value),
        ),
        context.params,
    ).fetchall()


def table_units(context: RunContext, dataset: Records) -> Iterator[Unit]:
    """Partitions that go whole, and all other rows of the table."""
    whole = leaf_units(context, dataset)
    yield from whole
    yield _record_unit(context, dataset, outside_of(dataset, spans_of(whole)) if whole else None)


def _record_unit(context: RunContext, dataset: Records | Accounts, which: sql.Composable | None = None) -> Unit:
    found = count_records(context, dataset, which)
    if isinstance(dataset, Accounts):
        # What goes from an account is its personal columns; the row follows when nothing refers to it.
        found = [replace(tally, fate=tally.fate.replace("delete:", "deidentify:")) for tally in found]
    kept = tuple(tally for tally in found if not tally.disposes)
    going = tuple(tally for tally in found if tally.disposes and _in_scope(context, tally))
    share = dataset.share_of if isinstance(dataset, Records) else None
    return Unit(
        unit=dataset.id,
        dataset=dataset.id,
        method=Method.ACCOUNTS if isinstance(dataset, Accounts) else Method.RECORDS,
        tallies=(*going, *kept),
        tier=share.tier if share is not None else None,
        cutoff=None,
    )
