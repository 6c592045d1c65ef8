"""Measures a change of configuration from metadata and exceptions (promise 8), not by judging the table.

Only what can differ is looked at. Where no exception names a record, its clock alone decides, so records between the
two cut-offs are counted from the index. What exceptions name is found from the exceptions and judged by both policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from psycopg import sql

from lifecycle.catalog.models import Messages
from lifecycle.planning.policy_diff import Change, merged
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import quarantine_fate
from lifecycle.stores.postgres.guard import as_old, hold_rule
from lifecycle.stores.postgres.policy_sources import Pair, Source, messages_source, named, records_source


def measure(conn: Connection, pair: Pair, waiting: Iterable[str]) -> tuple[Change, ...]:
    """Every change of fate, of datasets that both files bind alike."""
    skipped = set(waiting)
    changes: list[Change] = []
    messages = pair.new_catalog.messages
    if messages.id not in skipped:
        for tier in (*Tier, None):
            changes.extend(_changes(conn, messages_source(pair, messages, tier)))
        for tier in Tier:
            changes.extend(_in_quarantine(conn, pair, messages, tier))
    for dataset in pair.new_catalog.records:
        if dataset.id not in skipped:
            changes.extend(_changes(conn, records_source(pair, dataset)))
    if pair.new_catalog.accounts.id not in skipped:
        changes.extend(_changes(conn, records_source(pair, pair.new_catalog.accounts)))
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


def _segment(source: Source) -> tuple[datetime | None, datetime | None, str, str] | None:
    """Between which clocks records that no exception names change their fate, and from which to which."""
    (old_cut, old_due, old_kept), (new_cut, new_due, new_kept) = (
        source.fates(policy) for policy in (source.pair.old, source.pair.new)
    )
    low, high = min(old_cut, new_cut), max(old_cut, new_cut)
    if old_due.split(":", 1)[0] != new_due.split(":", 1)[0]:
        # What is overdue under both goes another way: those are counted up to the earlier cut-off.
        return None, high, old_due, new_due
    if low == high:
        return None
    before, after = (old_kept, new_due) if old_cut < new_cut else (old_due, new_kept)
    return low, high, before, after


def _by_clock_and_exceptions(conn: Connection, source: Source) -> Iterator[Change]:
    segment = _segment(source)
    low, high = (segment[0], segment[1]) if segment else (None, None)
    within = _between(source, low, high) if segment else None
    touched = _touched(source, within)
    in_segment = 0
    if touched is not None:
        for change, count in _judged_touched(conn, source, touched, within):
            in_segment += count
            yield change
    if segment is None or within is None:
        return
    if low is None:
        # Dispositions differ: judged record by record, for what is overdue is little once runs have begun.
        yield from _judged(
            conn,
            source,
            source.relation,
            sql.SQL("{} AND {} AND {}").format(source.where, within, _not_touched(source)),
        )
        return
    everything = _count(conn, source, within)
    if everything > in_segment:
        oldest, newest = _ends(conn, source, within)
        yield _change(source, segment[2], segment[3], everything - in_segment, oldest, newest)


def _between(source: Source, low: datetime | None, high: datetime | None) -> sql.Composable:
    clock, parts = source.columns.clock, [sql.SQL("{} < %(as_of)s").format(source.columns.clock)]
    if low is not None:
        parts.append(sql.SQL("{} >= {}").format(clock, sql.Literal(low)))
    if high is not None:
        parts.append(sql.SQL("{} < {}").format(clock, sql.Literal(high)))
    return sql.SQL("({})").format(sql.SQL(" AND ").join(parts))


def _count(conn: Connection, source: Source, within: sql.Composable) -> int:
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM {} m WHERE {} AND {}").format(source.relation, source.where, within),
        source.pair.params,
    ).fetchone()
    return int(row[0]) if row else 0


def _ends(conn: Connection, source: Source, within: sql.Composable) -> tuple[datetime | None, datetime | None]:
    """The oldest and the newest clock of records that no exception names, each from its end of the index."""
    free = _not_touched(source)
    found: list[datetime | None] = []
    for order in (sql.SQL("ASC"), sql.SQL("DESC")):
        row = conn.execute(
            sql.SQL(
                "SELECT {clock} FROM {t} m WHERE {where} AND {within} AND {free} ORDER BY {clock} {order} LIMIT 1"
            ).format(
                clock=source.columns.clock,
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
            " WHERE {where} AND {clock} < %(as_of)s GROUP BY 1, 2"
        ).format(before=source.before, after=source.after, clock=source.columns.clock, t=relation, where=where),
        source.pair.params,
    ).fetchall()
    for before, after, records, oldest, newest in rows:
        yield _change(source, before, after, records, oldest, newest)


def _judged_touched(
    conn: Connection, source: Source, touched: sql.Composable, within: sql.Composable | None
) -> Iterator[tuple[Change, int]]:
    """What exceptions name, judged by both; with each change how many of its records lie between the cut-offs."""
    rows = conn.execute(
        sql.SQL(
            "SELECT {before}, {after}, count(*), min({clock}), max({clock}), count(*) FILTER (WHERE {within})"
            " FROM ({touched}) m GROUP BY 1, 2"
        ).format(
            before=source.before,
            after=source.after,
            clock=source.columns.clock,
            within=within or sql.SQL("false"),
            touched=touched,
        ),
        source.pair.params,
    ).fetchall()
    for before, after, records, oldest, newest, inside in rows:
        yield _change(source, before, after, records, oldest, newest), inside


# -- what exceptions name ------------------------------------------------------------------------------------------


def _touched(source: Source, within: sql.Composable | None) -> sql.Composable | None:
    """The records that exceptions name: between the cut-offs all of them, elsewhere those that can be judged apart."""
    parts = []
    for trigger, column, keys in named(source):
        if within is None and not source.differs(trigger):
            continue
        where = sql.SQL("{} < %(as_of)s").format(source.columns.clock) if source.differs(trigger) else within
        parts.append(
            sql.SQL("SELECT {names} FROM {t} m WHERE {where} AND {also} AND {column} IN ({keys})").format(
                names=sql.SQL(", ").join(sql.SQL("m.{}").format(name) for name in source.names),
                t=source.relation,
                where=source.where,
                also=where or sql.SQL("true"),
                column=column,
                keys=keys,
            )
        )
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
