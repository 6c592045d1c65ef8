"""Judges records by column: ordinary ones all at once, the few others one by one. Same outcome as `Tally.keeps`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from lifecycle.stores.s3.arrays import boolean_array, instant, text_array
from lifecycle.stores.s3.records import Ordinary, Tally, Values

if TYPE_CHECKING:
    import pyarrow as pa

# Of some rows: which of them hold content.
Holding = Callable[["pa.BooleanArray"], "pa.BooleanArray"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Clocks beyond these are left to Python, whose instants end at the years 1 and 9999.
_FIRST, _LAST = datetime(1800, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def staying(
    columns: Sequence[pa.Array | None], rows: int, tally: Tally, content: Holding | None = None
) -> pa.BooleanArray:
    """For each row whether it stays as it is, counted in ``tally``.

    Args:
        columns: id, account, tier and clock, in the order of `LogFields.names`; None for one that is not there.
        content: says of the rows it is asked about which of them hold something that could go; all, if not given.
    """

    ordinary = tally.ordinary
    simple = None if ordinary is None else _simple(columns, ordinary)
    if ordinary is None or simple is None:
        held = None if content is None else content(boolean_array([True] * rows))
        return _one_by_one(columns, rows, tally, held)
    texts, clock, plain, relied_on = simple
    past = _past(texts[2], clock, plain, ordinary)
    held = None if content is None else _content(content, plain, past)
    if tally.outline is not None:
        tally.outline.note(texts, clock, relied_on, ordinary.cutoffs, held)
    return _ask_rest(columns, plain, _counted(past, plain, held, tally), tally, held)


def _simple(
    columns: Sequence[pa.Array | None], ordinary: Ordinary
) -> tuple[list[pa.Array], pa.Array, pa.BooleanArray, pa.BooleanArray] | None:
    """The columns in plain types, which rows are ordinary, and which have all fields: an exception may name them.

    None if some column's type needs Python's reading.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if any(column is None for column in columns):
        return None
    try:
        texts = [_text(column) for column in columns[:3]]
        clock = _clock(columns[3])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if clock is None or any(text is None for text in texts):
        return None
    record, subject, tier = texts
    in_range = pc.and_(pc.greater(clock, instant(_FIRST)), pc.less(clock, instant(_LAST)))
    plain = pc.and_(in_range, pc.is_in(tier, value_set=text_array(ordinary.cutoffs)))
    for text in (record, subject):
        # Lower case by Arrow and by Python is the same in ASCII only.
        plain = pc.and_(plain, pc.and_(pc.string_is_ascii(text), pc.not_equal(text, text_array([""])[0])))
    plain = relied_on = pc.fill_null(plain, boolean_array([False])[0])
    for text, named in zip((record, subject), ordinary.named, strict=True):
        if len(named):
            plain = pc.and_not(plain, pc.is_in(pc.ascii_lower(text), value_set=named))
    for name, since in ordinary.unsure.items():
        near = pc.and_(pc.greater_equal(clock, instant(since)), pc.less(clock, instant(ordinary.cutoffs[name][0])))
        near = pc.and_(near, pc.equal(tier, text_array([name])[0]))
        plain = pc.and_not(plain, pc.fill_null(near, boolean_array([False])[0]))
    return [record, subject, tier], clock, plain, relied_on


def _text(column: Any) -> pa.Array | None:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    return column if column.type == pa.string() else column.cast(pa.string())


def _clock(column: Any) -> pa.Array | None:
    """As UTC instants; text only if every one of it is a full ISO 8601 instant with its zone."""
    import pyarrow as pa

    utc = pa.timestamp("us", "UTC")
    if pa.types.is_timestamp(column.type):
        # Cutting off nanoseconds rounds the clock down; no zone means UTC.
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(utc)
    text = _text(column)
    return None if text is None else text.cast(utc)


def _past(
    tier: pa.Array, clock: pa.Array, plain: pa.BooleanArray, ordinary: Ordinary
) -> list[tuple[str, pa.BooleanArray]]:
    """Which ordinary rows are past their tier's cut-off, by rule."""
    import pyarrow.compute as pc

    no, found = boolean_array([False])[0], []
    for name, (cutoff, rule) in ordinary.cutoffs.items():
        past = pc.and_(pc.and_(plain, pc.equal(tier, text_array([name])[0])), pc.less(clock, instant(cutoff)))
        past = pc.fill_null(past, no)
        if past.true_count:
            found.append((rule, past))
    return found


def _content(content: Holding, plain: pa.BooleanArray, past: list[tuple[str, pa.BooleanArray]]) -> pa.BooleanArray:
    """Which rows may lose something. Asked about are those that could be due; all others may, some day."""
    import pyarrow.compute as pc

    asked = pc.invert(plain)
    for _, rows in past:
        asked = pc.or_(asked, rows)
    return pc.or_(pc.invert(asked), content(asked)) if asked.true_count else pc.invert(asked)


def _counted(
    past: list[tuple[str, pa.BooleanArray]], plain: pa.BooleanArray, held: pa.BooleanArray | None, tally: Tally
) -> pa.BooleanArray:
    """The ordinary rows that are due; all ordinary ones are counted."""
    import pyarrow.compute as pc

    due = pc.and_(plain, boolean_array([False])[0])
    for rule, rows in past:
        going = rows if held is None else pc.and_(rows, held)
        if count := going.true_count:
            tally.removed[rule] += count
            due = pc.or_(due, going)
    tally.before += plain.true_count
    tally.kept += plain.true_count - due.true_count
    return due


def _ask_rest(
    columns: Sequence[pa.Array | None],
    plain: pa.BooleanArray,
    due: pa.BooleanArray,
    tally: Tally,
    held: pa.BooleanArray | None,
) -> pa.BooleanArray:
    import pyarrow.compute as pc

    stays = pc.invert(due)
    if plain.true_count == len(plain):
        return stays
    others = pc.invert(plain)
    rest = [None if column is None else column.filter(others) for column in columns]
    answers = _one_by_one(rest, others.true_count, tally, None if held is None else held.filter(others))
    return pc.replace_with_mask(stays, others, answers)


def _one_by_one(
    columns: Sequence[pa.Array | None], rows: int, tally: Tally, held: pa.BooleanArray | None
) -> pa.BooleanArray:
    values = _values(columns, rows)
    if held is None:
        return boolean_array([tally.keeps(each) for each in values])
    told = zip(values, held.to_pylist(), strict=True)
    return boolean_array([tally.keeps(each, partial(bool, there)) for each, there in told])


def _values(columns: Sequence[pa.Array | None], rows: int) -> Iterator[Values]:
    lists = [[None] * rows if column is None else _python(column) for column in columns]
    record, subject, tier, clock = lists
    return zip(record, subject, tier, clock, strict=True)


def _python(column: Any) -> list[Any]:
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    # Python's datetime ends at microseconds; cutting off the rest rounds the clock down.
    since = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return [None if value is None else _instant(value) for value in since.to_pylist()]


def _instant(since: int) -> datetime | None:
    """None beyond the years that Python has: as unclassified as any other clock that cannot be read."""
    try:
        return _EPOCH + timedelta(microseconds=since)
    except OverflowError:
        return None
