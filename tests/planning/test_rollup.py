"""Names of spans, and how few partitions ten years leave. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.planning.rollup import Bounds, Merge, months_to_merge, years_to_merge
from lifecycle.planning.spans import free_spans, next_month, span_label, span_of, start_of

DAY = timedelta(days=1)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def days(start: datetime, count: int) -> list[Bounds]:
    return [(start + n * DAY, start + (n + 1) * DAY) for n in range(count)]


def carried_out(spans: list[Bounds], merges: list[Merge]) -> list[Bounds]:
    gone = {place for merge in merges for place in merge.parts}
    return [span for place, span in enumerate(spans) if place not in gone] + [(m.lower, m.upper) for m in merges]


def test_ten_years_of_daily_partitions_with_survivors_in_each_stay_few() -> None:
    """One day is added and one falls due each day; nothing is ever emptied, as when survivors stay for ten years."""
    spans: list[Bounds] = []
    most = 0
    for day in range(3653):
        spans.append((NEW_YEAR + day * DAY, NEW_YEAR + (day + 1) * DAY))
        before = NEW_YEAR + (day - 87) * DAY
        spans = carried_out(spans, months_to_merge(spans, before))
        spans = carried_out(spans, years_to_merge(spans, before))
        most = max(most, len(spans))
    assert most < 150
    assert free_spans(NEW_YEAR, NEW_YEAR + 3653 * DAY, spans) == []


def test_a_month_is_merged_only_once_it_is_over() -> None:
    spans, end = days(NEW_YEAR, 40), datetime(2026, 2, 1, tzinfo=UTC)
    assert months_to_merge(spans, end - timedelta(microseconds=1)) == []
    assert months_to_merge(spans, end) == [Merge(NEW_YEAR, end, tuple(range(31)))]


def test_gaps_do_not_matter_but_what_crosses_the_end_of_a_month_does() -> None:
    end = datetime(2026, 2, 1, tzinfo=UTC)
    spans = [days(NEW_YEAR, 31)[n] for n in (3, 17)]
    assert [merge.parts for merge in months_to_merge(spans, end)] == [(0, 1)]
    assert months_to_merge([*spans, (end - DAY, end + DAY)], end) == []
    assert months_to_merge([*spans, (None, NEW_YEAR + DAY)], end) == []
    assert months_to_merge([*spans, (end - DAY, None)], end) == []


def test_a_single_partition_is_left_alone() -> None:
    assert months_to_merge(days(NEW_YEAR, 1), NEW_YEAR + 400 * DAY) == []
    assert years_to_merge([(NEW_YEAR, datetime(2027, 1, 1, tzinfo=UTC))], NEW_YEAR + 400 * DAY) == []


def test_a_year_that_still_has_its_days_is_merged_by_months_first() -> None:
    spans, later = days(NEW_YEAR, 365), datetime(2027, 6, 1, tzinfo=UTC)
    assert years_to_merge(spans, later) == []
    months = carried_out(spans, months_to_merge(spans, later))
    assert len(months) == 12
    assert [merge.lower for merge in years_to_merge(months, later)] == [NEW_YEAR]


@given(st.sets(st.integers(0, 1500)), st.integers(0, 1500))
def test_merging_covers_what_was_covered_overlaps_nothing_and_comes_to_rest(numbers: set[int], until: int) -> None:
    spans: list[Bounds] = [(NEW_YEAR + n * DAY, NEW_YEAR + (n + 1) * DAY) for n in sorted(numbers)]
    before = NEW_YEAR + until * DAY
    merged = carried_out(spans, months_to_merge(spans, before))
    merged = carried_out(merged, years_to_merge(merged, before))
    assert years_to_merge(merged, before) == [] or months_to_merge(merged, before) != []
    ordered = sorted((lower, upper) for lower, upper in merged if lower is not None and upper is not None)
    assert all(one[1] <= two[0] for one, two in pairwise(ordered))
    for lower, upper in spans:
        assert lower is not None and upper is not None
        assert free_spans(lower, upper, merged) == []
    assert all(upper <= before or (lower, upper) in spans for lower, upper in ordered)


@pytest.mark.parametrize(
    ("lower", "upper", "label"),
    [
        ("2026-08-01", "2026-08-02", "2026-08-01"),
        ("2026-02-01", "2026-03-01", "2026-02"),
        ("2024-01-01", "2025-01-01", "2024"),
        ("2026-12-01", "2027-01-01", "2026-12"),
        ("2026-08-03", "2026-08-10", "2026-08-03..2026-08-10"),
        ("2026-08-01T05:00", "2026-08-02T05:00", "2026-08-01T05:00:00Z..2026-08-02T05:00:00Z"),
    ],
)
def test_a_span_is_called_by_what_it_is(lower: str, upper: str, label: str) -> None:
    low, high = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (lower, upper))
    assert span_label(low, high) == label
    assert span_of(label) == (low, high)
    assert span_label(low, high, default=True) == f"{label}-default"
    assert span_of(f"{label}-default") is None


def test_spans_without_ends_and_default_partitions_have_names() -> None:
    assert [span_label(None, None), span_label(None, None, default=True)] == ["all", "default"]
    assert [span_label(None, NEW_YEAR), span_label(NEW_YEAR, None)] == ["..2026-01-01", "2026-01-01.."]
    assert [span_of(label) for label in ("all", "default", "2026-13", "..2026-01-01", "2026-01-01..")] == [None] * 5


def test_the_next_month_and_what_is_free() -> None:
    assert next_month(datetime(2026, 12, 31, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    day = start_of(NEW_YEAR.date())
    hours = [day + timedelta(hours=h) for h in (0, 5, 9, 24)]
    assert free_spans(day, day + DAY, []) == [(hours[0], hours[3])]
    assert free_spans(day, day + DAY, [(hours[1], hours[2])]) == [(hours[0], hours[1]), (hours[2], hours[3])]
    assert free_spans(day, day + DAY, [(None, hours[1]), (hours[2], None)]) == [(hours[1], hours[2])]
    assert free_spans(day, day + DAY, [(day - DAY, day), (None, None)]) == []
