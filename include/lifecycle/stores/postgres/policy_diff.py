"""Measures a change of configuration from metadata and exceptions (promise 8), not by judging the table.

Only what can differ is looked at. Where no exception names a record, its clock alone decides, so records between the
two cut-offs are counted from the index. What exceptions name is found from the exceptions and judged by both policies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Messages, Records
from lifecycle.planning.due_clocks import BEGINNING, Interval, in_both, outside
from lifecycle.planning.policy_diff import Change, changes_fate, merged
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.stores.postgres.candidates import AS_OF
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import quarantine_fate
from lifecycle.stores.postgres.guard import as_old, hold_rule
from lifecycle.stores.postgres.policy_sources import Pair, Source, messages_source, named, records_source


def measure(conn: Connection, pair: Pair, waiting: Iterable[str]) -> tuple[Change, ...]:
    """Every change of fate, of datasets that both files bind alike."""
    skipped = set(waiting)
    changes: list[Change] = []
    if pair.new_catalog.has_messages and (messages := pair.new_catalog.messages).id not in skipped:
        for tier in (*Tier, None):
            changes.extend(_changes(conn, messages_source(pair, messages, tier)))
        for tier in Tier:
            changes.extend(_in_quarantine(conn, pair, messages, tier))
    for dataset in pair.new_catalog.row_by_row:
        bound = dataset.binding if isinstance(dataset, Records) else dataset.id
        if bound not in skipped:
            changes.extend(_changes(conn, records_source(pair, dataset)))
    return merged(changes)


# -- one source -----------------------------------------------------------------------------------------------------


def _changes(conn: Connection, source: Source) -> Iterator[Change]:
    if _hold_on_everything(conn, source) or source.category is Category.TRAINING_USE:
        # Everything is under one hold, or has no period at all: only the hold rule itself can make a difference.
        if source.differs(Trigger.HOLD):
            yield from _judged(conn, source, source.relation, source.where)
        return
    yield from _by_clock_and_exceptions(conn, source)


def _hold_on_everything(conn: Connection, source: Source) -> bool:
    found = conn.execute(
        "SELECT EXISTS (SELECT FROM lifecycle.legal_holds x WHERE x.scope = 'dataset' AND btrim(x.target) = ANY (%s)"
        " AND (x.released_at IS NULL OR x.released_at > %s))",
        (list(source.columns.dataset_names), source.pair.as_of),
    ).fetchone()
    return found is not None and bool(found[0])


@dataclass(frozen=True)
class _Segment:
    """Clocks between which records that no exception names go from one fate to another."""

    clocks: Interval
    before: str
    after: str


def _segments(source: Source) -> list[_Segment]:
    old, new = source.fates(source.pair.old), source.fates(source.pair.new)
    found = [_Segment(each, old.kept, new.going) for each in outside(new.due, old.due)]
    found += [_Segment(each, old.going, new.kept) for each in outside(old.due, new.due)]
    if changes_fate(old.going, new.going):
        found += [_Segment(each, old.going, new.going) for each in in_both(old.due, new.due)]
    return found


def _by_clock_and_exceptions(conn: Connection, source: Source) -> Iterator[Change]:
    segments = _segments(source)
    touched = _touched(source, segments)
    excepted: Counter[int] = Counter()
    if touched is not None:
        for change, number in _judged_touched(conn, source, touched, segments):
            excepted[number] += change.records
            yield change
    for number, segment in enumerate(segments):
        free = _count(conn, source, segment.clocks) - excepted[number]
        if free:
            yield _change(source, segment.before, segment.after, free, *_ends(conn, source, segment.clocks))


def _within(source: Source, clocks: Interval) -> sql.Composable:
    upper = source.columns.at.before(sql.Literal(clocks.high))
    if clocks.low == BEGINNING:
        return upper
    return sql.SQL("({} AND {})").format(source.columns.at.since(sql.Literal(clocks.low)), upper)


def _count(conn: Connection, source: Source, clocks: Interval) -> int:
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM {} m WHERE {} AND {}").format(
            source.relation, source.where, _within(source, clocks)
        )
    ).fetchone()
    return int(row[0]) if row else 0


def _ends(conn: Connection, source: Source, clocks: Interval) -> tuple[datetime | None, datetime | None]:
    """The oldest and the newest clock of records that no exception names, each from its end of the index."""
    free, within = _not_touched(source), _within(source, clocks)
    found: list[datetime | None] = []
    for order in (sql.SQL("ASC"), sql.SQL("DESC")):
        row = conn.execute(
            sql.SQL(
                "SELECT {clock} FROM {t} m WHERE {where} AND {within} AND {free} ORDER BY {bare} {order} LIMIT 1"
            ).format(
                clock=source.columns.clock,
                bare=source.columns.at.bare,
                t=source.relation,
                where=source.where,
                within=within,
                free=free,
                order=order,
            ),
            source.pair.params,
        ).fetchone()
        found.append(row[0] if row else None)
    return found[0], found[1]


def _change(
    source: Source, before: str, after: str, records: int, oldest: datetime | None, newest: datetime | None
) -> Change:
    return Change(source.dataset, source.tier_name, source.category.value, before, after, records, oldest, newest)


def _judged(conn: Connection, source: Source, relation: sql.Composable, where: sql.Composable) -> Iterator[Change]:
    """Every record of a relation, judged by both."""
    rows = conn.execute(
        sql.SQL(
            "SELECT {before}, {after}, count(*), min({clock}), max({clock}) FROM {t} m"
            " WHERE {where} AND {arrived} GROUP BY 1, 2"
        ).format(
            before=source.before,
            after=source.after,
            clock=source.columns.clock,
            t=relation,
            where=where,
            arrived=source.columns.at.before(AS_OF),
        ),
        source.pair.params,
    ).fetchall()
    for before, after, records, oldest, newest in rows:
        yield _change(source, before, after, records, oldest, newest)


def _judged_touched(
    conn: Connection, source: Source, touched: sql.Composable, segments: Sequence[_Segment]
) -> Iterator[tuple[Change, int]]:
    """What exceptions name, judged by both, with the number of the segment that it lies in, or -1."""
    whens = [
        sql.SQL("WHEN {} THEN {}").format(_within(source, segment.clocks), sql.Literal(number))
        for number, segment in enumerate(segments)
    ]
    number = sql.SQL("CASE {} ELSE -1 END").format(sql.SQL(" ").join(whens)) if whens else sql.SQL("-1")
    rows = conn.execute(
        sql.SQL(
            "SELECT {before} AS before, {after} AS after, {number} AS number, count(*), min({clock}), max({clock})"
            " FROM ({touched}) m GROUP BY before, after, number"
        ).format(before=source.before, after=source.after, number=number, clock=source.columns.clock, touched=touched),
        source.pair.params,
    ).fetchall()
    for before, after, found, records, oldest, newest in rows:
        yield _change(source, before, after, records, oldest, newest), found


# -- what exceptions name ------------------------------------------------------------------------------------------


def _touched(source: Source, segments: Sequence[_Segment]) -> sql.Composable | None:
    """The records that exceptions name: between the cut-offs all of them, elsewhere those that can be judged apart."""
    arrived = source.columns.at.before(AS_OF)
    inside = sql.SQL("({})").format(sql.SQL(" OR ").join(_within(source, each.clocks) for each in segments))
    parts = [
        sql.SQL("SELECT {names} FROM {t} m WHERE {where} AND {clocks} AND {column} IN ({keys})").format(
            names=sql.SQL(", ").join(sql.SQL("m.{}").format(name) for name in source.names),
            t=source.relation,
            where=source.where,
            clocks=arrived if source.differs(trigger) else inside,
            column=column,
            keys=keys,
        )
        for trigger, column, keys in named(source)
        if segments or source.differs(trigger)
    ]
    return sql.SQL(" UNION ").join(parts) if parts else None


def _not_touched(source: Source) -> sql.Composable:
    parts = [sql.SQL("{} IN ({})").format(column, keys) for _, column, keys in named(source)]
    return sql.SQL("({}) IS NOT TRUE").format(sql.SQL(" OR ").join(parts) if parts else sql.SQL("false"))


# -- quarantine -----------------------------------------------------------------------------


def _in_quarantine(conn: Connection, pair: Pair, dataset: Messages, tier: Tier) -> Iterator[Change]:
    """The quarantine is small and every message in it is an exception: all of it is judged by both."""

    def shown(fate: sql.Composable, policy: Policy) -> sql.Composable:
        held = sql.Literal(f"keep:{hold_rule(policy, tier)}")
        return sql.SQL("CASE WHEN {f} = {held} THEN 'quarantine' || substr({f}, 5) ELSE {f} END").format(
            f=fate, held=held
        )

    rows = conn.execute(
        sql.SQL(
            "SELECT {before}, {after}, count(*), min(m.received_at), max(m.received_at) FROM lifecycle.quarantine m"
            " WHERE m.tier = {tier} GROUP BY 1, 2"
        ).format(
            before=shown(as_old(quarantine_fate(pair.old, pair.old_catalog, tier)), pair.old),
            after=shown(quarantine_fate(pair.new, pair.new_catalog, tier), pair.new),
            tier=sql.Literal(tier.value),
        ),
        pair.params,
    ).fetchall()
    for before, after, records, oldest, newest in rows:
        yield Change("quarantine", tier.value, dataset.category.value, before, after, records, oldest, newest)
