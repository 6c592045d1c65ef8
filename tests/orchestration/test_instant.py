"""Which instant a DAG run works as of (case 9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from lifecycle.errors import PreconditionError
from lifecycle.orchestration.instant import run_as_of

LOGICAL = datetime(2026, 8, 1, tzinfo=UTC)
AFTER = datetime(2026, 8, 2, 9, 30, tzinfo=UTC)


def test_case_9_the_parameter_wins_then_the_logical_date_then_run_after() -> None:
    assert run_as_of("2026-07-01T00:00:00Z", LOGICAL, AFTER) == datetime(2026, 7, 1, tzinfo=UTC)
    assert run_as_of(None, LOGICAL, AFTER) == LOGICAL
    assert run_as_of(None, None, AFTER) == AFTER


def test_the_instant_is_in_utc() -> None:
    moment = run_as_of("2026-07-01T02:00:00+02:00", None, AFTER)
    assert (moment, moment.tzinfo) == (datetime(2026, 7, 1, tzinfo=UTC), UTC)
    assert run_as_of(None, LOGICAL.astimezone(timezone(timedelta(hours=5))), AFTER).tzinfo is UTC


@pytest.mark.parametrize("text", ["yesterday", "2026-07-01T00:00:00", "2026-07-01", ""])
def test_what_is_no_instant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PreconditionError, match="2026-08-01T00:00:00Z"):
        run_as_of(text, LOGICAL, AFTER)
