"""What commands print, and how they read instants."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
import typer

from lifecycle.cli.options import parse_instant
from lifecycle.cli.output import emit, progress, to_json
from lifecycle.errors import Problem
from lifecycle.policy.models import Tier
from lifecycle.policy.periods import Period


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-08-01", datetime(2026, 8, 1, tzinfo=UTC)),
        (" 2026-08-01 ", datetime(2026, 8, 1, tzinfo=UTC)),
        ("2026-08-01T06:00Z", datetime(2026, 8, 1, 6, tzinfo=UTC)),
        ("2026-08-01T06:00:00z", datetime(2026, 8, 1, 6, tzinfo=UTC)),
        ("2026-08-01 06:00:00+00:00", datetime(2026, 8, 1, 6, tzinfo=UTC)),
        ("2026-08-01T06:00:00.000001+02:00", datetime(2026, 8, 1, 4, 0, 0, 1, tzinfo=UTC)),
        ("2026-08-01T06:00:00-0430", datetime(2026, 8, 1, 10, 30, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_as_utc(text: str, instant: datetime) -> None:
    read = parse_instant(text)
    assert read == instant
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-08-01T06:00:00", "add Z for UTC: 2026-08-01T06:00:00Z"),
        ("2026-08-01 06:00", "has no time zone"),
        ("2026-02-30", "no date or time of the calendar"),
        ("2026-08-01T25:00Z", "no date or time of the calendar"),
        ("0001-01-01T00:00+14:00", "no date or time of the calendar"),
        ("20260801", "is not an instant"),
        ("2026-W31-6", "is not an instant"),
        ("yesterday", "2026-08-01T06:00:00Z"),
        ("1785564000", "is not an instant"),
        ("", "is not an instant"),
    ],
)
def test_what_is_no_instant_is_refused_with_a_remedy(text: str, says: str) -> None:
    with pytest.raises(typer.BadParameter, match=says.replace("+", r"\+")):
        parse_instant(text)


def test_json_is_sorted_and_times_are_utc_with_z() -> None:
    east = timezone(timedelta(hours=2))
    data = {
        "when": datetime(2026, 8, 1, 8, 0, tzinfo=east),
        "fine": datetime(2026, 8, 1, 6, 0, 0, 5, tzinfo=UTC),
        "day": date(2026, 8, 1),
        "id": UUID(int=1),
        "tier": Tier.BETA,
        "by": {Tier.BETA: 1, Tier.CONSUMER: None},
        "period": Period.parse("P2Y"),
        "path": Path("a/b"),
        "set": {"b", "a"},
        "problem": Problem("f", 1, "x", "m", "r"),
        "text": "ü",
    }
    printed = to_json(data)
    assert list(json.loads(printed)) == sorted(data)
    assert json.loads(printed) == {
        "when": "2026-08-01T06:00:00Z",
        "fine": "2026-08-01T06:00:00.000005Z",
        "day": "2026-08-01",
        "id": "00000000-0000-0000-0000-000000000001",
        "tier": "beta",
        "by": {"beta": 1, "consumer": None},
        "period": "P2Y",
        "path": "a/b",
        "set": ["a", "b"],
        "problem": {"file": "f", "line": 1, "field": "x", "message": "m", "remedy": "r"},
        "text": "ü",
    }
    assert "ü" in printed


@pytest.mark.parametrize("value", [object(), b"bytes", float("nan"), datetime(2026, 8, 1)])  # noqa: DTZ001 - naive is the point
def test_json_refuses_what_has_no_agreed_form(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_json({"x": value})


def test_results_go_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Sorting", total=2) as advance:
        advance(note="one")
        advance()
    emit({"a": 1}, True, lambda _: "never")
    emit({"a": 1}, False, lambda data: f"a is {data['a']}")
    printed = capsys.readouterr()
    assert printed.out == '{\n  "a": 1\n}\na is 1\n'
    assert printed.err.splitlines()[0] == "Sorting ..."
    assert printed.err.splitlines()[-1].startswith("Sorting: 2 done in ")
