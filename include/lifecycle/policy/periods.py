"""Calendar periods in UTC (RULES.md, "Two kinds of period"; hard case 11)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dateutil.relativedelta import relativedelta

_ISO = re.compile(
    r"P(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,5})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,6})M)?(?:(?P<seconds>\d{1,9})S)?)?",
    re.ASCII,
)
_DAY = timedelta(days=1)
MAX_YEARS = 200
# Ends lie between them. An agreement, which others write, may be for ever.
FIRST_END, LAST_END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, order=False)
class Period:
    """A calendar period: whole months (calendar), whole days, and seconds; never negative."""

    months: int = 0
    days: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read an ISO 8601 duration such as ``P28D``, ``P2Y`` or ``PT4H``.

        Raises:
            ValueError: the text is not such a duration, or is longer than 200 years.
        """
        match = _ISO.fullmatch(text)
        if match is None or not any(match.groups()):
            raise ValueError(f"{text!r} is not an ISO 8601 duration; write for example P28D, P2Y or PT4H")
        part = {name: int(value or 0) for name, value in match.groupdict().items()}
        period = cls(
            months=part["years"] * 12 + part["months"],
            days=part["weeks"] * 7 + part["days"],
            seconds=part["hours"] * 3600 + part["minutes"] * 60 + part["seconds"],
        )
        if period.shortest() > timedelta(days=MAX_YEARS * 365):
            raise ValueError(f"{text!r} is longer than {MAX_YEARS} years")
        return period

    def longest(self) -> timedelta:
        """An upper bound of the period's length, whatever the calendar."""
        return timedelta(days=self.months * 31 + self.days, seconds=self.seconds)

    def shortest(self) -> timedelta:
        """A lower bound of the period's length, whatever the calendar."""
        years, months = divmod(self.months, 12)
        return timedelta(days=years * 365 + months * 28 + self.days, seconds=self.seconds)

    def end(self, start: datetime, *, round_up: bool) -> datetime:
        """The instant at which the period that starts at ``start`` ends.

        A month that lacks the day (2 years from 29 February) ends on the month's last day when rounded down,
        as a maximum does, and on the first of the next when rounded up, as a minimum does.
        """
        try:
            landed = start + relativedelta(months=self.months) if self.months else start
            if round_up and landed.day < start.day:
                landed = landed + _DAY
            end = landed + timedelta(days=self.days, seconds=self.seconds)
        except (OverflowError, ValueError):
            return FIRST_END if (self.months, self.days, self.seconds) < (0, 0, 0) else LAST_END
        return max(FIRST_END, min(LAST_END, end))

    def cutoff_bound(self, at: datetime) -> datetime:
        """A clock value at or after every one whose period has ended by ``at``: where an index scan may stop."""
        slack = _DAY * 4 if self.months else timedelta(0)
        return at - timedelta(days=self.days, seconds=self.seconds) - relativedelta(months=self.months) + slack

    def __add__(self, other: Period) -> Period:
        carried, seconds = divmod(self.seconds + other.seconds, 86_400)
        return Period(self.months + other.months, self.days + other.days + carried, seconds)

    def __str__(self) -> str:
        years, months = divmod(self.months, 12)
        date = "".join(f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (self.days, "D")) if n)
        hours, rest = divmod(self.seconds, 3600)
        minutes, seconds = divmod(rest, 60)
        time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
        return f"P{date}{'T' + time if time else ''}" if date or time else "P0D"
