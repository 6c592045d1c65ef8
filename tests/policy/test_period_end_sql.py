"""``lifecycle.period_end`` in SQL is the twin of `Period.end`: equal for every start, period and rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import TupleRow

from lifecycle.demo.servers import Postgres
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.fates import interval
from support.servers import fresh_database

Connection = psycopg.Connection[TupleRow]
ZONES = ["UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
_SHORT_MONTH = st.sampled_from(
    [(2024, 2, 29), (2023, 2, 28), (2024, 1, 31), (2025, 8, 31), (2024, 3, 1), (2100, 2, 28)]
)
# The nights in which clocks change, in New York and London.
_CLOCK_CHANGE = st.sampled_from([(2026, 3, 8), (2026, 11, 1), (2026, 3, 29), (2026, 10, 25)])
_days = st.one_of(
    _SHORT_MONTH.map(lambda day: datetime(*day, tzinfo=UTC)),
    _CLOCK_CHANGE.map(lambda day: datetime(*day, tzinfo=UTC)),
    st.integers(0, 60 * 365).map(lambda days: datetime(1995, 1, 1, tzinfo=UTC) + timedelta(days=days)),
)
_times = st.timedeltas(timedelta(0), timedelta(days=1) - timedelta(microseconds=1))
instants = st.builds(lambda day, time: day + time, _days, _times)
periods = st.builds(
    Period, months=st.integers(0, 150), days=st.integers(0, 4000), seconds=st.integers(0, 86_400 * 30)
) | st.sampled_from(
    [Period.parse(text) for text in ("P28D", "P90D", "P2Y", "P3Y", "P7Y", "P10Y", "P0D", "P1M", "P1Y1M")]
)


@pytest.fixture(scope="module")
def sessions(postgres_server: Postgres) -> Iterator[dict[str, Connection]]:
    """A session per time zone; the function itself must not care."""
    with fresh_database(postgres_server) as database, ExitStack() as stack:
        opened: dict[str, Connection] = {}
        for zone in ZONES:
            opened[zone] = stack.enter_context(psycopg.connect(postgres_server.conninfo(database), autocommit=True))
            opened[zone].execute("SELECT set_config('TimeZone', %s, false)", (zone,))
        yield opened


def in_utc(row: TupleRow | None) -> tuple[datetime, ...]:
    """The same instants in UTC: in an hour that a zone repeats, ``==`` between two zones is never true (PEP 495)."""
    assert row is not None
    return tuple(value.astimezone(UTC) for value in row)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=instants, period=periods, zone=st.sampled_from(ZONES))
@example(
    start=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC), period=Period.parse("P2Y"), zone="America/New_York"
)
@example(start=datetime(2026, 3, 8, 6, 59, 59, tzinfo=UTC), period=Period.parse("PT1S"), zone="America/New_York")
@example(start=datetime(2026, 3, 7, 7, 30, tzinfo=UTC), period=Period.parse("P1D"), zone="America/New_York")
@example(start=datetime(2024, 2, 29, 2, tzinfo=UTC), period=Period.parse("P1Y1DT26H"), zone="Pacific/Apia")
@example(start=datetime(2026, 3, 29, tzinfo=UTC), period=Period(months=87, days=2314), zone="Europe/London")
def test_sql_and_python_agree_in_every_session_time_zone(
    start: datetime, period: Period, zone: str, sessions: dict[str, Connection]
) -> None:
    query = sql.SQL(
        "SELECT lifecycle.period_end(%s, {period}, false), lifecycle.period_end(%s, {period}, true)"
    ).format(period=interval(period))
    row = sessions[zone].execute(query, (start, start)).fetchone()
    assert in_utc(row) == (period.end(start, round_up=False), period.end(start, round_up=True))


@settings(max_examples=100, deadline=None)
@given(start=instants, days=st.integers(0, 400), zone=st.sampled_from(ZONES))
def test_agreements_are_intervals_of_the_database(
    start: datetime, days: int, zone: str, sessions: dict[str, Connection]
) -> None:
    """An agreement's ``retain`` is written by others; whole days must mean the same there."""
    row = (
        sessions[zone]
        .execute("SELECT lifecycle.period_end(%s, %s::interval, false)", (start, f"{days} days"))
        .fetchone()
    )
    assert in_utc(row) == (Period(days=days).end(start, round_up=False),)


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("7 days", "P7D"),
        ("1 year", "P1Y"),
        ("1 mon", "P1M"),
        ("00:00:00", "P0D"),
        ("1 year 2 mons 3 days 04:05:06", "P1Y2M3DT4H5M6S"),
    ],
)
def test_intervals_in_words(text: str, period: str, sessions: dict[str, Connection]) -> None:
    start = datetime(2024, 2, 29, 12, tzinfo=UTC)
    for round_up in (False, True):
        row = (
            sessions["UTC"]
            .execute("SELECT lifecycle.period_end(%s, %s::interval, %s)", (start, text, round_up))
            .fetchone()
        )
        assert row == (Period.parse(period).end(start, round_up=round_up),)


@pytest.mark.parametrize(
    "text", ["10000 years", "-10000 years", "100000 years", "178000000 years", "-3000 years", "infinity"]
)
def test_an_agreement_without_end_has_one_that_everybody_can_read(text: str, sessions: dict[str, Connection]) -> None:
    """Else one account's terms would end every run and every alarm of the store."""
    session = sessions["UTC"]
    if text == "infinity" and session.info.server_version < 170_000:
        text = "178000000 years"  # where no interval is without end
    start = datetime(2026, 2, 28, 12, tzinfo=UTC)
    row = session.execute("SELECT lifecycle.period_end(%s, %s::interval, false)", (start, text)).fetchone()
    assert row is not None
    years = 1_000_000 if text == "infinity" else int(text.split()[0])
    assert row[0] == Period(months=years * 12).end(start, round_up=False)
    assert row[0] == (datetime(1, 1, 2, tzinfo=UTC) if years < 0 else datetime(9999, 12, 31, tzinfo=UTC))
