"""Periods and the lead in words: the same in the command line, the console and the documentation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from lifecycle.policy.models import Kind, Lead, Rule
from lifecycle.policy.periods import Period

# The terms of the lead in the order of the policy page, and what each is for.
TERMS: Mapping[str, str] = {
    "schedule_interval": "between two runs",
    "longest_run": "the longest run",
    "failed_runs": "margin for failed runs",
    "store_lag": "until the store has really forgotten",
    "backup_retention": "retention of backups",
    "s3_expiry": "for S3 to expire objects by itself",
}
# Terms that most policies do without, and that are told of only where they are.
_OPTIONAL = frozenset({"s3_expiry"})


def in_words(period: Period) -> str:
    """``P2Y`` as "2 years", ``P1DT12H`` as "1 day 12 hours"."""
    years, months = divmod(period.months, 12)
    hours, rest = divmod(period.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    named = (
        (years, "year"), (months, "month"), (period.days, "day"), (hours, "hour"), (minutes, "minute"),
        (seconds, "second"),
    )  # fmt: skip
    return " ".join(f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in named if n) or "0 days"


def promise(rule: Rule) -> str:
    """What a rule's period promises: "maximum of 2 years", "for 7 years, and promptly after"."""
    if rule.period is None:
        return "as long as it lasts" if rule.kind is Kind.MINIMUM else "as agreed"
    words = in_words(rule.period)
    match rule.kind:
        case Kind.MAXIMUM:
            return f"maximum of {words}"
        case Kind.MINIMUM:
            return f"minimum of {words}"
        case _:
            return f"for {words}, and promptly after"


def lead_terms(lead: Lead) -> dict[str, str]:
    """The terms as the policy file writes them, and their sum."""
    return {name: str(getattr(lead, name)) for name in _told(lead)} | {"total": str(lead.total)}


def _told(lead: Lead) -> list[str]:
    return [name for name in TERMS if name not in _OPTIONAL or getattr(lead, name) != Period()]


def lead_sentence(lead: Lead) -> str:
    """The lead, term by term."""
    terms = " + ".join(f"{in_words(getattr(lead, name))} ({TERMS[name]})" for name in _told(lead))
    return f"Lead: {terms} = {in_words(lead.total)}."


def day_or_instant(moment: datetime) -> str:
    """The date alone at midnight UTC, else date and time; UTC."""
    shown = moment.astimezone(UTC)
    midnight = (shown.hour, shown.minute, shown.second, shown.microsecond) == (0, 0, 0, 0)
    return f"{shown:%Y-%m-%d}" if midnight else f"{shown:%Y-%m-%d %H:%M} UTC"


def left(span: timedelta | None) -> str:
    """Time left in words; "2 d 6 h", "5 h ago"."""
    if span is None:
        return "–"
    minutes = int(abs(span.total_seconds()) // 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    text = f"{days} d {hours} h" if days else f"{hours} h {rest} min" if hours else f"{rest} min"
    return text if span >= timedelta(0) else f"{text} ago"
