"""Rows of an ordinary table in keyset batches: each begins where the last one ended, in the order of clock and key.

A batch looks at a bounded number of rows, whether they are due or not, so what it costs depends neither on the size of
the table nor on how many rows before it had to stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from lifecycle.stores.postgres.belongings import Belonging, counted, needed_by, parts
from lifecycle.stores.postgres.connect import Connection, one

Params = Mapping[str, Any]
# Rows are probed for by their key, however large the batch: to read the table instead costs what the table holds.
# Compiling the expression of a fate costs more than a batch does.
_BY_PROBES = (
    "SELECT current_setting('lock_timeout'), set_config('enable_hashjoin', 'off', true),"
    " set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)"
)
_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
# So long a batch waits for a row before it leaves out what is locked.
_BRIEFLY = "50ms"
# As text: whatever the types of clock and key, and whether or not Python knows the instant (infinity, years B.C.).
Position = tuple[str, ...]


@dataclass(frozen=True)
class Walk:
    """A way through a table, over rows ``m``.

    ``relation``: where rows are taken out. ``source``: where they are looked for; usually the same.
    ``where``: which rows are looked at. ``fate``, ``due``: what becomes of a row, and whether that is now.
    ``params``: what all of these bind.
    ``change``: what is done to rows ``d`` of the relation: None deletes them, otherwise a SET clause.
    ``belongings``: what goes with them. ``probing``: whether all of it is found by index.
    """

    relation: sql.Composable
    source: sql.Composable
    clock: str
    keys: tuple[str, ...]
    where: sql.Composable
    fate: sql.Composable
    due: sql.Composable
    params: Params
    change: sql.Composable | None = None
    belongings: tuple[Belonging, ...] = ()
    probing: bool = True

    @property
    def order(self) -> tuple[str, ...]:
        """Clock, then key; a clock that is also the key stands there once."""
        return tuple(dict.fromkeys((self.clock, *self.keys)))


@dataclass(frozen=True)
class Span:
    """A stretch of a walk: after one position, up to another and with it. None: from the beginning, to the end."""

    after: Position | None = None
    until: Position | None = None


@dataclass(frozen=True)
class Step:
    """What one batch saw and did: rows looked at, rows gone per fate, rows that somebody else had locked.

    ``beside``: what went with them, per fate, by name.
    """

    examined: int
    gone: Mapping[str, int]
    locked: int
    last: Position | None
    beside: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.gone.values())


def take_batch(conn: Connection, walk: Walk, span: Span, size: int, *, wait: bool) -> Step:
    """Look at the next ``size`` rows of a span and take out those that are due, inside the caller's transaction.

    A row that changes under us is judged again as it is then.

    Args:
        wait: wait for rows that somebody has locked, as long as the session's lock_timeout; otherwise leave them.
    """
    usual = one(conn, _BY_PROBES)
    if not walk.probing:
        conn.execute("SELECT set_config('enable_hashjoin', 'on', true)")
    if wait:
        return _take(conn, walk, span, size, _plain(walk, span))
    try:
        with conn.transaction():
            conn.execute(_LOCK_TIMEOUT, (_BRIEFLY,))
            step = _take(conn, walk, span, size, _plain(walk, span))
            conn.execute(_LOCK_TIMEOUT, (usual,))
            return step
    except psycopg.errors.LockNotAvailable:
        step = _take(conn, walk, span, size, _skipping(walk, span))
    if step.last is None:
        return step
    return replace(step, locked=left_due(conn, walk, Span(span.after, step.last)))


def _take(conn: Connection, walk: Walk, span: Span, size: int, statement: sql.Composed) -> Step:
    # A plan for unknown parameters would expect a tenth of the table and read all of it.
    rows = conn.execute(statement, {**walk.params, **_positions(span), "size": size}, prepare=False).fetchall()
    examined, width = rows[0][0], len(walk.order)
    last = tuple(rows[0][1 : 1 + width]) if examined else None
    gone = {fate: n for *_, fate, n, _, _ in rows if fate is not None}
    beside: dict[str, dict[str, int]] = {fate: {} for fate in gone}
    for *_, fate, _, kind, n in rows:
        if kind is not None:
            beside[fate][kind] = n
    return Step(examined, gone, 0, last, beside)


def left_due(conn: Connection, walk: Walk, span: Span) -> int:
    """Due rows that are still in a span: after a batch, those that were locked by somebody else."""
    query = sql.SQL(
        "SELECT count(*) FROM {relation} m WHERE {keys} IN (SELECT {keys} FROM {source} m WHERE {where} AND {within})"
        " AND {due}"
    ).format(
        relation=walk.relation,
        keys=_row("m", walk.keys),
        source=walk.source,
        where=walk.where,
        within=_within(walk, span),
        due=walk.due,
    )
    found = conn.execute(query, {**walk.params, **_positions(span)}, prepare=False).fetchone()
    return int(found[0]) if found is not None else 0


def _plain(walk: Walk, span: Span) -> sql.Composed:
    """Without locking first, which would write each row to the log a second time."""
    looked = sql.SQL("look g WHERE {} AND {} RETURNING {} AS fate{}").format(
        _same(walk, "m", "g"), walk.due, walk.fate, _needed(walk, "m")
    )
    return _whole(walk, span, sql.SQL("gone AS ({} {})").format(_change(walk, "m"), looked))


def _skipping(walk: Walk, span: Span) -> sql.Composed:
    """Leaving out what somebody has locked."""
    return _whole(
        walk,
        span,
        sql.SQL(
            "going AS MATERIALIZED (SELECT {own}, {fate} AS fate FROM {relation} m JOIN look w ON {looked} WHERE {due}"
            " FOR UPDATE OF m SKIP LOCKED), gone AS ({change} going g WHERE {same} RETURNING g.fate{needed})"
        ).format(
            own=_names("m", walk.keys),
            fate=walk.fate,
            relation=walk.relation,
            looked=_same(walk, "m", "w"),
            due=walk.due,
            change=_change(walk, "d"),
            same=_same(walk, "d", "g"),
            needed=_needed(walk, "d"),
        ),
    )


def _whole(walk: Walk, span: Span, gone: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "WITH look AS MATERIALIZED (SELECT {shown} FROM {source} m WHERE {where} AND {within}"
        " ORDER BY {shown} LIMIT %(size)s), {parts}"
        " SELECT c.n, {ends}, f.fate, f.n, h.kind, h.n FROM (SELECT count(*) AS n FROM look) c"
        " LEFT JOIN (SELECT {bare} FROM look ORDER BY {back} LIMIT 1) l ON true"
        " LEFT JOIN (SELECT fate, count(*) AS n FROM gone GROUP BY 1) f ON true"
        " LEFT JOIN ({counted}) h ON h.fate = f.fate"
    ).format(
        shown=_names("m", walk.order),
        source=walk.source,
        where=walk.where,
        within=_within(walk, span),
        parts=sql.SQL(", ").join([gone, *parts(walk.belongings)]),
        counted=counted(walk.belongings),
        ends=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("l", name)) for name in walk.order),
        bare=sql.SQL(", ").join(map(sql.Identifier, walk.order)),
        back=sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier(name)) for name in walk.order),
    )


def _needed(walk: Walk, alias: str) -> sql.Composable:
    """What belongings refer to, of a row that went."""
    needed = needed_by(walk.belongings)
    return sql.SQL("").join(sql.SQL(", {}").format(sql.Identifier(alias, name)) for name in needed)


def _change(walk: Walk, alias: str) -> sql.Composed:
    """Up to where the rows come from that tell which ones."""
    row = sql.Identifier(alias)
    if walk.change is None:
        return sql.SQL("DELETE FROM {} {} USING").format(walk.relation, row)
    return sql.SQL("UPDATE {} {} SET {} FROM").format(walk.relation, row, walk.change)


def _same(walk: Walk, one_alias: str, other: str) -> sql.Composed:
    return sql.SQL("{} = {}").format(_row(one_alias, walk.keys), _row(other, walk.keys))


def _names(alias: str, columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in columns)


def _row(alias: str, columns: tuple[str, ...]) -> sql.Composable:
    return sql.SQL("({})").format(_names(alias, columns))


def _within(walk: Walk, span: Span) -> sql.Composable:
    parts: list[sql.Composable] = [sql.SQL("true")]
    for position, name, sign in ((span.after, "after", ">"), (span.until, "until", "<=")):
        if position is not None:
            marks = sql.SQL(", ").join(sql.Placeholder(f"{name}_{n}") for n in range(len(position)))
            parts.append(sql.SQL("{} {} ({})").format(_row("m", walk.order), sql.SQL(sign), marks))
    return sql.SQL(" AND ").join(parts)


def _positions(span: Span) -> dict[str, Any]:
    found = {}
    for name, position in (("after", span.after), ("until", span.until)):
        found.update({f"{name}_{n}": value for n, value in enumerate(position or ())})
    return found
