"""Measures where a dataset of a tier stands: from bounds, indexes and exceptions, never from the whole table.

The *strike* of a row is the instant at which keeping it breaks a promise: its deadline, but one lead later where
nothing could have taken it sooner (it has only just arrived or become free, or its period is also a minimum).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from lifecycle.catalog.facts import FactTable
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.risk import Late, Standing, earliest
from lifecycle.policy.decide import UNCLASSIFIED, horizon
from lifecycle.policy.models import Category, Kind, Rule, Trigger
from lifecycle.stores.postgres.candidates import AS_OF, BOUND, Source, parties
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.deadlines import ends, holding
from lifecycle.stores.postgres.fates import HOLDS, fate_parameters, held, interval
from lifecycle.stores.postgres.ids import Ids, other, own
from lifecycle.stores.postgres.present import TRUE
from lifecycle.stores.postgres.told import read_from
from lifecycle.stores.postgres.windows import in_windows

# An end that no successful run has seen yet.
_SINCE = sql.SQL("({end} <= %(as_of)s AND {end} > coalesce(%(last)s::timestamptz, '-infinity'))")


def measure(
    conn: Connection, source: Source, dataset: str, scope: str, as_of: datetime, last: datetime | None
) -> Standing:
    """One dataset of one tier as of an instant.

    Args:
        last: the as-of of the scope's last successful run.
    """
    rule = source.rule
    params, windows = _parameters(source, as_of, last), in_windows(conn, source)
    oldest = _first(one(conn, _oldest(each), params) for each in windows)
    ordinary = _first(_next_ordinary(conn, each, params) for each in windows) if rule.period is not None else None
    found = _count_all(conn, windows, params | {"look": ordinary})
    agreed = earliest(_next_agreed(conn, each, params) for each in windows)
    return Standing(
        dataset=dataset,
        tier=source.tier_name,
        scope=scope,
        rule=rule.id,
        period=rule.period,
        oldest=oldest,
        cutoff=cutoff_of(source.policy, rule, as_of) if rule.period is not None else None,
        at_risk=earliest([found.strike, ordinary, agreed]),
        due=found.due,
        late=found.late,
        last_success=last,
    )


def measure_late(conn: Connection, source: Source, as_of: datetime, last: datetime | None) -> Late:
    """Only what is past its deadline, by why: what a run wants to know before it disposes of it."""
    # No consent that is still to end makes anything late.
    return _count_all(conn, in_windows(conn, source), _parameters(source, as_of, last) | {"look": as_of}).late


def _first(found: Iterable[datetime | None]) -> datetime | None:
    """Of windows in the order of the clock, what the first one says that says anything."""
    return next((instant for instant in found if instant is not None), None)


def _parameters(source: Source, as_of: datetime, last: datetime | None) -> dict[str, Any]:
    period = source.rule.period
    bound = period.cutoff_bound(horizon(source.policy, as_of)) if period is not None else as_of
    return fate_parameters(source.policy, as_of) | {"bound": min(bound, as_of), "last": last}


def _is_record(source: Source) -> bool:
    return source.category is not Category.PROMPTS_AND_OUTPUTS


@dataclass(frozen=True)
class _Found:
    due: int
    late: Late
    strike: datetime | None


def _oldest(source: Source) -> sql.Composed:
    """By the index on the column: a function over all rows would read them all."""
    clock = source.columns.at
    if isinstance(clock.clock, str):
        return sql.SQL("SELECT min({}) FROM {} m WHERE {}").format(clock.bare, source.relation, source.which)
    return sql.SQL(
        "SELECT (SELECT {clock} FROM {relation} m WHERE {which} AND {clock} IS NOT NULL ORDER BY {bare} LIMIT 1)"
    ).format(clock=clock.instant, relation=source.relation, which=source.which, bare=clock.bare)


def _lead(source: Source, instant: sql.Composable) -> sql.Composed:
    return sql.SQL("lifecycle.period_end({}, {}, true)").format(instant, interval(source.policy.lead.total))


def _own_rules(source: Source) -> list[str]:
    """The ids under which rows that no exception concerns are decided."""
    rule, found = source.rule, [source.rule.id]
    if source.tier is not None:
        variant = source.policy.variant_of(rule, source.tier)
        found += [variant.id] if variant is not None else []
    return [*found, UNCLASSIFIED]


def _named(column: sql.Composable, rules: list[str]) -> sql.Composed:
    return sql.SQL("split_part({}, ':', 2) = ANY ({})").format(column, sql.Literal(rules))


def _next_ordinary(conn: Connection, source: Source, params: dict[str, Any]) -> datetime | None:
    """When the oldest row strikes that is not due yet and that no exception concerns, by the index on the clock."""
    if one(conn, everything_held(source), params):
        return None  # no row is ordinary, and looking for one would read them all
    query = sql.SQL(
        "SELECT {strike} FROM {relation} m WHERE {which} AND {young} AND {arrived} AND {ordinary}"
        " ORDER BY {bare} LIMIT 1"
    ).format(
        strike=_both(source, source.rule, source.deadline),
        relation=source.relation,
        which=source.which,
        young=source.columns.at.since(BOUND),
        arrived=source.columns.at.before(AS_OF),
        ordinary=_named(source.fate, _own_rules(source)),
        bare=source.columns.at.bare,
    )  # fmt: skip
    row = conn.execute(query, params).fetchone()
    return row[0] if row is not None else None


def everything_held(source: Source) -> sql.Composed:
    return sql.SQL(
        "SELECT EXISTS (SELECT FROM {} x WHERE x.scope = 'dataset' AND btrim(x.target) = ANY ({})"
        " AND (x.released_at IS NULL OR x.released_at > %(as_of)s))"
    ).format(HOLDS, sql.Literal(list(source.columns.dataset_names)))


def _both(source: Source, rule: Rule, end: sql.Composable) -> sql.Composable:
    """A period that is also a minimum can only be acted on once it is over: "promptly after" is one lead."""
    return _lead(source, end) if rule.kind is Kind.BOTH else end


def _next_agreed(conn: Connection, source: Source, params: dict[str, Any]) -> datetime | None:
    """The earliest end that an agreement sets for rows that are not due yet: each party's oldest, by index."""
    rule = source.rule_of(Trigger.AGREEMENT)
    if rule is None or source.tier is None:
        return None
    query = sql.SQL(
        "SELECT min(z.deadline) FROM (SELECT DISTINCT s.id FROM {parties} s(id)) p CROSS JOIN LATERAL"
        " (SELECT {deadline} AS deadline FROM {relation} m WHERE {which} AND {subject} = {party} AND {young}"
        " AND {arrived} AND {agreed} AND {deadline} >= %(horizon)s ORDER BY {bare} LIMIT 1) z"
    ).format(
        parties=parties(source),
        deadline=source.deadline,
        relation=source.relation,
        which=source.which,
        subject=own(source.columns.subject, source.columns.subject_ids),
        party=other(sql.SQL("p.id"), source.columns.subject_ids),
        young=source.columns.at.since(BOUND),
        arrived=source.columns.at.before(AS_OF),
        bare=source.columns.at.bare,
        agreed=_named(source.fate, [rule.id]),
    )
    found: datetime | None = one(conn, query, params)
    return found


def _count_all(conn: Connection, windows: Sequence[Source], params: dict[str, Any]) -> _Found:
    found = [_count(conn, each, params) for each in windows]
    late = sum((each.late for each in found), Late())
    return _Found(sum(each.due for each in found), late, earliest(each.strike for each in found))


def _count(conn: Connection, source: Source, params: dict[str, Any]) -> _Found:
    """Candidates by what becomes of them; each expression is evaluated once per row (OFFSET 0 keeps it so)."""
    query = sql.SQL(
        "SELECT count(*) FILTER (WHERE s.due),"
        " count(*) FILTER (WHERE s.due AND s.deadline < %(as_of)s AND s.held IS NULL AND s.freed IS NULL"
        " AND s.strike < %(as_of)s),"
        " count(*) FILTER (WHERE s.due AND s.deadline < %(as_of)s AND s.held IS NOT NULL),"
        " count(*) FILTER (WHERE s.due AND s.deadline < %(as_of)s AND s.held IS NULL AND s.freed IS NOT NULL),"
        " count(*) FILTER (WHERE s.kept AND s.unkept < %(as_of)s),"
        " min(s.strike) FILTER (WHERE s.deadline IS NOT NULL)"
        " FROM (SELECT g.*, CASE WHEN g.kept THEN {kept_strike} WHEN {both} THEN {late_strike}"
        " ELSE greatest(g.deadline, {arrival}, {after_hold}, {after}) END AS strike"
        " FROM (SELECT f.*, CASE WHEN f.due AND f.deadline < %(as_of)s THEN {held} END AS held,"
        " CASE WHEN f.due AND f.deadline < %(as_of)s THEN {freed} END AS freed"
        " FROM (SELECT m.*, d.*, split_part(d.fate, ':', 1) IN ('delete', 'deidentify') AS due,"
        " split_part(d.fate, ':', 2) = ANY ({keepers}) AS kept,"
        " CASE WHEN split_part(d.fate, ':', 2) = ANY ({keepers}) THEN {unkept} END AS unkept"
        " FROM ({rows}) m CROSS JOIN LATERAL (SELECT {fate} AS fate, {deadline} AS deadline OFFSET 0) d OFFSET 0) f"
        " OFFSET 0) g OFFSET 0) s"
    ).format(**_pieces(source))
    row = conn.execute(query, params).fetchone()
    if row is None:
        raise LookupError("the query returned no row")
    due, overdue, after_hold, after_exception, kept, strike = row
    return _Found(due, Late(overdue, after_hold, after_exception, kept), strike)


def _pieces(source: Source) -> dict[str, sql.Composable]:
    keepers = [
        rule.id for trigger in (Trigger.HOLD, Trigger.CASE) if (rule := source.rule_of(trigger)) is not None
    ]  # fmt: skip
    both = [rule.id for rule in source.policy.rules if rule.kind is Kind.BOTH]
    clock = source.columns_of("g").clock
    arrived = sql.SQL("CASE WHEN {clock} >= coalesce(%(last)s::timestamptz, '-infinity') THEN {late} END")
    return {
        "kept_strike": _lead(source, sql.SQL("greatest(g.deadline, g.unkept)")),
        "both": _named(sql.SQL("g.fate"), both),
        "late_strike": _lead(source, sql.SQL("g.deadline")),
        "arrival": arrived.format(clock=clock, late=_lead(source, clock)),
        "after_hold": _lead(source, sql.SQL("g.held")),
        "after": _lead(source, sql.SQL("g.freed")),
        "held": _latest(_ended_keepers(source)),
        "freed": _latest(_ended_others(source)),
        "keepers": sql.Literal(keepers),
        "rows": source.rows(),
        "fate": source.fate,
        "deadline": source.deadline,
        "unkept": source.unkept,
    }


def _latest(instants: list[sql.Composable]) -> sql.Composable:
    """The latest of some instants that lie after the row's deadline, null without one."""
    if not instants:
        return sql.SQL("NULL::timestamptz")
    values = sql.SQL(", ").join(sql.SQL("({})").format(instant) for instant in instants)
    return sql.SQL("(SELECT max(z.v) FROM (VALUES {}) z(v) WHERE z.v > f.deadline)").format(values)


def _ended_keepers(source: Source) -> list[sql.Composable]:
    """When the last hold on the row was released, and the last case of its account closed, since the last run."""
    columns, catalog = source.columns_of("f"), source.catalog
    released = _SINCE.format(end=sql.SQL("x.released_at"))
    # The first condition is hashed once; few rows get to the second.
    last_release = sql.SQL(
        "CASE WHEN {hit} THEN (SELECT max(x.released_at) FROM {holds} x WHERE {released} AND {covers}) END"
    ).format(hit=held(columns, catalog, released), holds=HOLDS, released=released, covers=holding(columns, catalog))
    found: list[sql.Composable] = [last_release]
    if source.rule_of(Trigger.CASE) is not None:
        cases = catalog.cases
        found.append(_last_end(cases, columns.subject, sql.Identifier("x", cases.closed), columns.subject_ids))
    return found


def _ended_others(source: Source) -> list[sql.Composable]:
    """The same for cleared flags, for consents that were withdrawn or ran out, and for agreements that changed."""
    if _is_record(source):
        return []
    columns, catalog = source.columns_of("f"), source.catalog
    found: list[sql.Composable] = []
    if columns.record is not None and source.rule_of(Trigger.FLAG) is not None:
        flags = catalog.flags
        found.append(_last_end(flags, columns.record, sql.Identifier("x", flags.cleared), columns.ids))
    consent = source.rule_of(Trigger.CONSENT)
    if columns.group is not None and consent is not None:
        given, withdrawn = (sql.Identifier("x", name) for name in (catalog.consents.given, catalog.consents.withdrawn))
        end = sql.SQL("least({}, {})").format(withdrawn, ends(given, consent))
        found.append(_last_end(catalog.consents, columns.group, end, columns.ids))
    if source.rule_of(Trigger.AGREEMENT) is not None:
        terms = catalog.agreements
        for change in (terms.effective_from, terms.effective_to):
            of_category = sql.SQL("x.{} = {}").format(
                sql.Identifier(terms.category), sql.Literal(source.category.value)
            )
            changed = sql.Identifier("x", change)
            found.append(_last_end(terms, columns.subject, changed, columns.subject_ids, of_category))
    return found


def _last_end(
    facts: FactTable, row: sql.Composable, end: sql.Composable, ids: Ids, only: sql.Composable = TRUE
) -> sql.Composable:
    return sql.SQL("(SELECT max({end}) FROM {t} x WHERE {key} = {row} AND {since} AND {only})").format(
        end=end,
        t=read_from(facts, ids),
        key=other(sql.Identifier("x", facts.named), ids),
        row=own(row, ids),
        since=_SINCE.format(end=end),
        only=only,
    )


def waiting(conn: Connection, scope: str, as_of: datetime) -> dict[tuple[str, str | None], int]:
    """Records past their deadline in units that wait for an approval, by dataset (or quarantine) and tier.

    Of the scope's latest plan only: a later one asks anew for what is still there.
    """
    rows = conn.execute(
        "SELECT split_part(u.unit, '/', 1), u.tier, sum((c.value ->> 'records')::bigint)::bigint"
        " FROM lifecycle.plan_units u CROSS JOIN jsonb_each(u.planned) c WHERE u.status = 'awaiting'"
        " AND u.deadline < %(as_of)s AND split_part(c.key, ':', 1) IN ('delete', 'deidentify')"
        " AND u.run_id = (SELECT max(r.run_id) FROM lifecycle.runs r WHERE r.scope = %(scope)s AND NOT r.dry_run"
        " AND r.planned_at IS NOT NULL AND r.as_of <= %(as_of)s) GROUP BY 1, 2",
        {"scope": scope, "as_of": as_of},
    ).fetchall()
    return {(dataset, tier): count for dataset, tier, count in rows}
