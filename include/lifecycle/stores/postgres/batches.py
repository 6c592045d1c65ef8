"""Rows of an ordinary table in keyset batches: each begins where the last one ended, in the order of clock and key.

A batch looks at a bounded number of rows, whether they are due or not, so what it costs depends neither on the size of
the table nor on how many rows before it had to stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from lifecycle.stores.postgres.belongings import Belonging, counted, needed_by, parts
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.present import TRUE
from lifecycle.stores.postgres.suppressed import suppressed

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
_NO_KEYS = sql.SQL("NULL::text[]")
# PostgreSQL takes 65,535 values a statement.
_MOST_KEYS = 1_000
_TRIES = 3
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
    ``placed``: whether `are_placed` says so of the relation, which is also the source: then no row is judged twice.
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
    besides: sql.Composable = field(default_factory=lambda: TRUE)
    placed: bool = False

    @property
    def order(self) -> tuple[str, ...]:
        """Clock, then key; a clock that is also the key stands there once."""
        return tuple(dict.fromkeys((self.clock, *self.keys)))

    @property
    def judged(self) -> sql.Composable:
        """The fate and the rest of a row ``m``, as columns of ``d``: asked for once, and by itself, since PostgreSQL
        would read a table whole instead of probing it for each of the many rows that it expects."""
        return sql.SQL("(SELECT {} AS fate, {} AS besides OFFSET 0) d").format(self.fate, self.besides)

    @property
    def goes(self) -> sql.Composable:
        """Whether a row ``m`` goes now."""
        return sql.SQL("(SELECT d.besides AND {} FROM {})").format(self.due, self.judged)

    @property
    def told(self) -> sql.Composable:
        """Its fate."""
        return sql.SQL("(SELECT d.fate FROM {})").format(self.judged)


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

    A row that changes under us is judged again as it is then: by PostgreSQL, or, where rows are judged once, by us.

    Raises:
        DeletionSuppressedError: rows are as they were, and nobody else has locked or changed them.

    Args:
        wait: wait for rows that somebody has locked, as long as the session's lock_timeout; otherwise leave them.
    """
    usual = one(conn, _BY_PROBES)
    if not walk.probing:
        conn.execute("SELECT set_config('enable_hashjoin', 'on', true)")
    if wait:
        return _next(conn, walk, span, size)
    try:
        with conn.transaction():
            conn.execute(_LOCK_TIMEOUT, (_BRIEFLY,))
            step = _next(conn, walk, span, size)
            conn.execute(_LOCK_TIMEOUT, (usual,))
            return step
    except psycopg.errors.LockNotAvailable:
        step, _ = _take(conn, walk, span, size, _skipping(walk, span))
    if step.last is None:
        return step
    return replace(step, locked=left_due(conn, walk, Span(span.after, step.last)))


def _next(conn: Connection, walk: Walk, span: Span, size: int) -> Step:
    step = _first(conn, walk, span, size)
    if step.last is None or not (step.total if walk.change is not None else not walk.placed and not step.total):
        return step
    # What was emptied is due no more, unless somebody's trigger gave it back; what nobody took is not due.
    seen = Span(span.after, step.last)
    for _ in range(_TRIES):
        left = left_due(conn, walk, seen)
        if not left:
            return step
        step = _with(step, _take(conn, walk, seen, size, _plain(walk, seen))[0])
    raise suppressed(conn, walk.relation, left)


def _first(conn: Connection, walk: Walk, span: Span, size: int) -> Step:
    if not walk.placed:
        return _take(conn, walk, span, size, _plain(walk, span))[0]
    step, changed = _take(conn, walk, span, size, _once(walk, span))
    for first in range(0, len(changed), _MOST_KEYS):
        step = _with(step, _again(conn, walk, changed[first : first + _MOST_KEYS]))
    return step


def _again(conn: Connection, walk: Walk, keys: Sequence[Position]) -> Step:
    """Rows that changed, judged as they are now, wherever their clocks are."""
    named = replace(walk, where=_any_of(walk, keys), params={**walk.params, **_marks(keys)})
    step, left = Step(0, {}, 0, None), 0
    for _ in range(_TRIES):
        step = _with(step, _take(conn, named, Span(), len(keys), _plain(named, Span()))[0])
        left = left_due(conn, named, Span()) if step.total < len(keys) else 0
        if not left:
            return step
    # Nobody changes the same rows between two statements of ours each time.
    raise suppressed(conn, walk.relation, left)


def _with(step: Step, other: Step) -> Step:
    fates = {**step.beside, **other.beside}
    beside = {fate: _added(step.beside.get(fate, {}), other.beside.get(fate, {})) for fate in fates}
    return replace(step, gone=_added(step.gone, other.gone), beside=beside)


def _take(conn: Connection, walk: Walk, span: Span, size: int, statement: sql.Composed) -> tuple[Step, list[Position]]:
    """Also the keys of rows that were due, were judged by the statement's snapshot, and had changed by then."""
    # A plan for unknown parameters would expect a tenth of the table and read all of it.
    rows = conn.execute(statement, {**walk.params, **_positions(span), "size": size}, prepare=False).fetchall()
    examined, changed, width = rows[0][0], rows[0][1], len(walk.order)
    last = tuple(rows[0][2 : 2 + width]) if examined else None
    gone = {fate: n for *_, fate, n, _, _ in rows if fate is not None}
    beside: dict[str, dict[str, int]] = {fate: {} for fate in gone}
    for *_, fate, _, kind, n in rows:
        if kind is not None:
            beside[fate][kind] = n
    return Step(examined, gone, 0, last, beside), [tuple(each) for each in changed or ()]


def _added(one_count: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one_count.get(name, 0) + other.get(name, 0) for name in {**one_count, **other}}


def are_placed(conn: Connection, relation: sql.Composable) -> bool:
    """Whether the rows of a relation lie in one heap, so that place and xmin tell one version of one row."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = to_regclass(%s)"
        " AND c.relkind = 'r' AND a.amname = 'heap' AND NOT c.relhassubclass)"
    )
    return bool(one(conn, query, (relation.as_string(conn),)))


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
        due=walk.goes,
    )
    found = conn.execute(query, {**walk.params, **_positions(span)}, prepare=False).fetchone()
    return int(found[0]) if found is not None else 0


def _plain(walk: Walk, span: Span) -> sql.Composed:
    """Without locking first, which would write each row to the log a second time."""
    looked = sql.SQL("look g WHERE {} AND {} RETURNING {} AS fate{}").format(
        _same(walk, "m", "g"), walk.goes, walk.told, _needed(walk, "m")
    )
    return _whole(walk, _rows_of(walk, span), sql.SQL("gone AS ({} {})").format(_change(walk, "m"), looked))


def _once(walk: Walk, span: Span) -> sql.Composed:
    """Judging each row when it is looked at, and taking out just the version that was judged.

    A statement that waited for somebody else's change goes on with the new version of the row, if its conditions hold
    for that one. Here they cannot: a new version has another xmin. So such rows stay, and their keys are returned.
    """
    look = sql.SQL(
        "SELECT {shown}, m.ctid, m.xmin, CASE WHEN d.besides AND {due} THEN d.fate END AS fate FROM"
        " (SELECT m.*, m.ctid, m.xmin {looked}) m CROSS JOIN LATERAL {judged}"
    ).format(shown=_names("m", walk.order), due=walk.due, looked=_looked(walk, span), judged=walk.judged)
    gone = sql.SQL(
        "gone AS ({change} look g WHERE m.ctid = g.ctid AND m.xmin = g.xmin AND g.fate IS NOT NULL"
        " RETURNING g.fate, g.ctid AS place{needed})"
    ).format(change=_change(walk, "m"), needed=_needed(walk, "m"))
    changed = sql.SQL(
        "CASE WHEN (SELECT count(fate) FROM look) > (SELECT coalesce(sum(n), 0) FROM sums) THEN"
        " (SELECT array_agg({keys}) FROM look g WHERE g.fate IS NOT NULL AND g.ctid NOT IN (SELECT place FROM gone))"
        " END"
    ).format(keys=_texts("g", walk.keys))
    return _whole(walk, look, gone, changed)


def _skipping(walk: Walk, span: Span) -> sql.Composed:
    """Leaving out what somebody has locked."""
    return _whole(
        walk,
        _rows_of(walk, span),
        sql.SQL(
            "going AS MATERIALIZED (SELECT {own}, {fate} AS fate FROM {relation} m JOIN look w ON {looked} WHERE {due}"
            " FOR UPDATE OF m SKIP LOCKED), gone AS ({change} going g WHERE {same} RETURNING g.fate{needed})"
        ).format(
            own=_names("m", walk.keys),
            fate=walk.told,
            relation=walk.relation,
            looked=_same(walk, "m", "w"),
            due=walk.goes,
            change=_change(walk, "d"),
            same=_same(walk, "d", "g"),
            needed=_needed(walk, "d"),
        ),
    )


def _rows_of(walk: Walk, span: Span) -> sql.Composed:
    return sql.SQL("SELECT {} {}").format(_names("m", walk.order), _looked(walk, span))


def _looked(walk: Walk, span: Span) -> sql.Composed:
    """The next rows ``m`` of a span."""
    return sql.SQL("FROM {source} m WHERE {where} AND {within} ORDER BY {order} LIMIT %(size)s").format(
        source=walk.source, where=walk.where, within=_within(walk, span), order=_names("m", walk.order)
    )


def _whole(walk: Walk, look: sql.Composable, gone: sql.Composable, changed: sql.Composable = _NO_KEYS) -> sql.Composed:
    """``changed``: the keys of rows that have to be judged again."""
    return sql.SQL(
        "WITH look AS MATERIALIZED ({look}), {parts},"
        " sums AS MATERIALIZED (SELECT fate, count(*) AS n FROM gone GROUP BY 1)"
        " SELECT c.n, {changed}, {ends}, f.fate, f.n, h.kind, h.n FROM (SELECT count(*) AS n FROM look) c"
        " LEFT JOIN (SELECT {bare} FROM look ORDER BY {back} LIMIT 1) l ON true"
        " LEFT JOIN sums f ON true LEFT JOIN ({counted}) h ON h.fate = f.fate"
    ).format(
        look=look,
        changed=changed,
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


def _texts(alias: str, columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("ARRAY[{}]").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(alias, name)) for name in columns)
    )


def _any_of(walk: Walk, keys: Sequence[Position]) -> sql.Composable:
    rows = (
        sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder(f"key_{n}_{part}") for part in range(len(key))))
        for n, key in enumerate(keys)
    )
    return sql.SQL("{} IN ({})").format(_row("m", walk.keys), sql.SQL(", ").join(rows))


def _marks(keys: Sequence[Position]) -> dict[str, str]:
    return {f"key_{n}_{part}": value for n, key in enumerate(keys) for part, value in enumerate(key)}


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
