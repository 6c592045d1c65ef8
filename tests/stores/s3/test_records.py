"""Records of many-record objects: what names them, when they count as unclassified, and their instants."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest

from lifecycle.stores.s3.records import LogFields, Tally, instant_of, text_of, values_of_line

FIELDS = LogFields("message_id", "account_id", "tier", "received_at")
JUNE = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-06-01T12:00:00Z", JUNE),
        ("2026-06-01t12:00:00z", JUNE),
        (" 2026-06-01T14:00:00+02:00 ", JUNE),
        ("2026-06-01 12:00:00", JUNE),
        ("2026-06-01 14:00:00+02", JUNE),
        ("20260601T120000Z", JUNE),
        ("2026-06-01T12:00:00.123456789Z", JUNE + timedelta(microseconds=123456)),
        ("2026-06-01", datetime(2026, 6, 1, tzinfo=UTC)),
        (date(2026, 6, 1), datetime(2026, 6, 1, tzinfo=UTC)),
        (datetime(2026, 6, 1, 12), JUNE),  # noqa: DTZ001 - naive means UTC
        (datetime(2026, 6, 1, 14, tzinfo=timezone(timedelta(hours=2))), JUNE),
    ],
)
def test_case_10_instants(value: object, instant: datetime) -> None:
    """Case 10: aware, UTC; naive means UTC."""
    found = instant_of(value)
    assert found == instant
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "value", [None, "", "yesterday", "2026-13-01", 1780000000, 1.5, True, [], "0001-01-01T00:00:00+05:00"]
)
def test_case_23_what_is_no_instant(value: object) -> None:
    """Case 23: no guess is made, least of all about the unit of a number."""
    assert instant_of(value) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (7, "7"), (UUID(int=1), str(UUID(int=1))), (UUID(int=1).bytes, str(UUID(int=1)))],
)
def test_identifiers(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("value", [None, "", True, 1.5, {}, [], b"x"])
def test_what_is_no_identifier(value: object) -> None:
    assert text_of(value) is None


def test_lines() -> None:
    line = b'{"message_id":"m","account_id":"a","tier":"beta","received_at":"2026-06-01T12:00:00Z","more":1}'
    assert values_of_line(line, FIELDS) == ("m", "a", "beta", "2026-06-01T12:00:00Z")
    assert values_of_line(b'{"message_id":"m"}', FIELDS) == ("m", None, None, None)
    for broken in (b"{", b"[1]", b"7", b"\xff\xfe{}", b"[" * 100_000):
        assert values_of_line(broken, FIELDS) is None


def test_case_23_records_that_lack_something() -> None:
    """Case 23: counted, and put to the decision with what is known; without id or account the tier is withheld."""
    asked: list[tuple[str, str, str, datetime | None]] = []

    def decide(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
        asked.append((record, subject, tier, clock))
        return "erasure_request" if subject == "erased" else None

    tally = Tally(decide)
    when = "2026-06-01T12:00:00Z"
    stays = [
        tally.keeps(values)
        for values in (
            None,
            (None, "a", "beta", when),
            ("m1", None, "beta", when),
            ("m2", "a", None, when),
            ("m3", "a", "beta", "?"),
            ("m4", "erased", None, None),
            ("m5", "a", "beta", when),
        )
    ]
    assert stays == [True, True, True, True, True, False, True]
    assert asked == [
        ("", "", "", None),
        ("", "a", "", JUNE),
        ("m1", "", "", JUNE),
        ("m2", "a", "", JUNE),
        ("m3", "a", "beta", None),
        ("m4", "erased", "", None),
        ("m5", "a", "beta", JUNE),
    ]
    assert (tally.before, tally.kept, tally.unclassified, dict(tally.removed)) == (7, 6, 6, {"erasure_request": 1})
