"""The auditor's own period arithmetic, against the policy's (hard case 11)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from psycopg import sql

from lifecycle.policy.periods import Period
from lifecycle.validation.fragments import ends_down, ends_up, interval
from support.store import Store

STARTS = [
    datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 2, 28, tzinfo=UTC),
    datetime(2023, 12, 31, 12, 30, tzinfo=UTC),
    datetime(2026, 1, 31, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    *(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(0, 800, 37)),
]
PERIODS = ["P28D", "P90D", "P2Y", "P3Y", "P7Y", "P10Y", "P1M", "P13M", "P1M3D", "P0D", "PT4H", "P1Y1M1DT1H"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati"])
def test_periods_end_where_the_policy_says(store: Store, zone: str) -> None:
    """Whatever the session's time zone: a minimum ends up, a maximum down, and 29 February has a successor."""
    with store.connect() as conn:
        conn.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
        for text in PERIODS:
            period, start = Period.parse(text), sql.SQL("s")
            query = sql.SQL("SELECT s, {}, {} FROM unnest(%s::timestamptz[]) s").format(
                ends_down(start, interval(period)), ends_up(start, period)
            )
            for began, down, up in conn.execute(query, (STARTS,)):
                utc = began.astimezone(UTC)
                assert down.astimezone(UTC) == period.end(utc, round_up=False), (text, utc)
                assert up.astimezone(UTC) == period.end(utc, round_up=True), (text, utc)
