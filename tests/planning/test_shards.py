"""Where a partition is cut, and which units one task carries out. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.planning.shards import PARTS_BESIDE, boundary, part_name, shard_of

KEYS = st.text(st.sampled_from("ab/é\U0001f600"), min_size=1, max_size=6)


@given(st.tuples(KEYS, KEYS).filter(lambda pair: pair[0] != pair[1]))
def test_a_boundary_lies_between_two_neighbours(pair: tuple[str, str]) -> None:
    last, following = sorted(pair)
    assert last <= boundary(last, following) < following


@given(st.tuples(KEYS, KEYS).filter(lambda pair: pair[0] != pair[1]))
def test_text_is_ordered_as_s3_orders_its_bytes(pair: tuple[str, str]) -> None:
    last, following = pair
    assert (last < following) == (last.encode() < following.encode())


def test_a_boundary_tells_no_more_of_a_key_than_it_must() -> None:
    """Promise 6: keys may name people; what is stored is what two neighbours have in common, and one letter more."""
    assert boundary("day/ada@example.com.gz", "day/bob@example.com.gz") == "day/b"


@pytest.mark.parametrize(
    ("unit", "shard"),
    [
        ("messages/consumer/2026-08-01", "messages/consumer/2026-08"),
        ("messages/consumer/2026-08", "messages/consumer/2026-08"),
        ("request_logs/2026-08-31", "request_logs/2026-08"),
        ("request_logs/2026-08-31/0003", "request_logs/2026-08/part-03"),
        ("feedback", "feedback"),
        ("orphans/consumer", "orphans/consumer"),
    ],
)
def test_units_of_a_month_are_one_shard_and_key_ranges_are_several(unit: str, shard: str) -> None:
    assert shard_of(unit) == shard


def test_a_backlog_of_a_year_stays_below_what_airflow_maps_over() -> None:
    days = [f"request_logs/2026-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]
    shards = {shard_of(part_name(day, number)) for day in days for number in range(1, 101)}
    assert len(shards) == 12 * PARTS_BESIDE < 1024
